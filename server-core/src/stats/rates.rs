//! How fast counters grow.

/// Samples of a rate.
const RATE_SAMPLES: usize = 16;
/// Distance between them in nanoseconds.
const RATE_INTERVAL_NS: u64 = 100_000_000;

/// Rate of a counter over the last second and a half.
#[derive(Default)]
pub(super) struct Rate {
    last_value: u64,
    last_ns: u64,
    samples: [u64; RATE_SAMPLES],
    next: usize,
}

impl Rate {
    fn sample(&mut self, value: u64, now_ns: u64) {
        let elapsed = now_ns.saturating_sub(self.last_ns).max(1);
        let delta = value.saturating_sub(self.last_value);
        self.samples[self.next % RATE_SAMPLES] = (u128::from(delta) * 1_000_000_000 / u128::from(elapsed)) as u64;
        self.next += 1;
        self.last_value = value;
        self.last_ns = now_ns;
    }

    /// The mean of the samples, a second.
    fn per_second(&self) -> u64 {
        self.samples.iter().sum::<u64>() / RATE_SAMPLES as u64
    }
}

/// The counters whose rates are kept, or their rates a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct PerSecond {
    /// Commands.
    pub commands: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Turns that did something.
    pub turns: u64,
}

/// The rates that INFO shows.
#[derive(Default)]
pub(super) struct Rates {
    commands: Rate,
    received: Rate,
    sent: Rate,
    turns: Rate,
    sampled_ns: u64,
}

impl Rates {
    /// Samples the counters if it is time.
    pub(super) fn sample(&mut self, now_ns: u64, counted: PerSecond) {
        if now_ns.saturating_sub(self.sampled_ns) >= RATE_INTERVAL_NS {
            self.sampled_ns = now_ns;
            self.commands.sample(counted.commands, now_ns);
            self.received.sample(counted.received_bytes, now_ns);
            self.sent.sample(counted.sent_bytes, now_ns);
            self.turns.sample(counted.turns, now_ns);
        }
    }

    pub(super) fn per_second(&self) -> PerSecond {
        PerSecond {
            commands: self.commands.per_second(),
            received_bytes: self.received.per_second(),
            sent_bytes: self.sent.per_second(),
            turns: self.turns.per_second(),
        }
    }

    /// Begins anew; the next sample is due when it was.
    pub(super) fn reset(&mut self) {
        *self = Rates { sampled_ns: self.sampled_ns, ..Rates::default() };
    }
}
