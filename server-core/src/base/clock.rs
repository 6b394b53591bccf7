//! The one clock. The executor reads it once a turn and at command boundaries; everything else is
//! handed the time. A server of a test may be given one that somebody turns by hand.

use std::cell::Cell;
use std::rc::Rc;

use quanta::Clock as Counter;

/// How often the wall clock is compared with the counter, in nanoseconds.
const RESYNC_NS: u64 = 100_000_000;

/// Where a clock made by hand begins, in Unix nanoseconds.
const MANUAL_UNIX_NS: i64 = 1_700_000_000_000_000_000;

/// A time that stands still until it is moved, or moves on with every look at it. Clones are the same.
#[derive(Clone, Default)]
pub struct ManualTime {
    now_ns: Rc<Cell<u64>>,
    look_ns: u64,
}

impl ManualTime {
    /// One that moves on by so many nanoseconds with every look at it.
    #[must_use]
    pub fn ticking(look_ns: u64) -> Self {
        ManualTime { look_ns, ..ManualTime::default() }
    }

    /// A look at it. Out of the way of real clocks, which are looked at for every command.
    #[cold]
    fn look(&self) -> u64 {
        self.advance(self.look_ns);
        self.now_ns.get()
    }

    /// Lets so many nanoseconds pass.
    pub fn advance(&self, ns: u64) {
        self.now_ns.set(self.now_ns.get() + ns);
    }
}

enum Source {
    /// The processor's counter, from when the clock was made.
    Counter {
        counter: Counter,
        start_raw: u64,
    },
    Manual(ManualTime),
}

/// Reads the processor's counter and keeps wall-clock time beside it.
pub struct Clock {
    source: Source,
    /// Unix time at counter start plus corrections, in nanoseconds.
    unix_offset_ns: i64,
    resynced_at_ns: u64,
    latest_ns: Cell<u64>,
}

/// A moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Nanoseconds since the clock was made; never goes back.
    pub mono_ns: u64,
    /// Unix time in milliseconds.
    pub unix_ms: i64,
    /// Unix time in microseconds.
    pub unix_us: i64,
}

impl Clock {
    /// Calibrates against the operating system's clock; takes some milliseconds once a process.
    #[must_use]
    pub fn new() -> Self {
        let counter = Counter::new();
        let start_raw = counter.raw();
        Clock {
            source: Source::Counter { counter, start_raw },
            unix_offset_ns: unix_now_ns(),
            resynced_at_ns: 0,
            latest_ns: Cell::new(0),
        }
    }

    /// A clock that shows a time made by hand.
    #[must_use]
    pub fn manual(time: ManualTime) -> Self {
        Clock {
            source: Source::Manual(time),
            unix_offset_ns: MANUAL_UNIX_NS,
            resynced_at_ns: 0,
            latest_ns: Cell::new(0),
        }
    }

    /// Nanoseconds since the clock was made.
    #[inline]
    #[must_use]
    pub fn mono_ns(&self) -> u64 {
        let now_ns = match &self.source {
            Source::Counter { counter, start_raw } => counter.delta_as_nanos(*start_raw, counter.raw()),
            Source::Manual(time) => time.look(),
        };
        self.latest_ns.set(now_ns);
        now_ns
    }

    /// What the last reading was: for a moment that follows another, which was just read, so closely
    /// that reading anew would cost more than the difference.
    #[inline]
    #[must_use]
    pub fn latest_ns(&self) -> u64 {
        self.latest_ns.get()
    }

    /// The time, wall clock included.
    pub fn now(&mut self) -> Now {
        let mono_ns = self.mono_ns();
        let drifts = matches!(self.source, Source::Counter { .. });
        if drifts && mono_ns.wrapping_sub(self.resynced_at_ns) >= RESYNC_NS {
            self.resynced_at_ns = mono_ns;
            self.unix_offset_ns = unix_now_ns() - mono_ns as i64;
        }
        let unix_ns = self.unix_offset_ns + mono_ns as i64;
        Now { mono_ns, unix_ms: unix_ns / 1_000_000, unix_us: unix_ns / 1_000 }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::disallowed_methods)]
fn unix_now_ns() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}
