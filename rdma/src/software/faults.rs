//! What can be made to go wrong, and the seeded generator that decides when.

/// Faults of a fabric. Everything is drawn from one seed in the order of calls, so a run of one thread
/// repeats exactly. Time is counted in steps: every poll of any device is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A packet or event takes up to this many steps; order on a connection is kept.
    pub delay_steps_max: u32,
    /// Completions are held back for up to this many steps and then come in a burst.
    pub burst_steps_max: u32,
    /// Of a million posts, how many are only looked at with the next poll: the bytes of what was
    /// posted are read that late.
    pub late_per_million: u32,
    /// Of a million arrivals that want a receive, how many find it not ready the first time.
    pub not_ready_per_million: u32,
    /// Of a million requests, how many fail as if nothing had been acknowledged.
    pub fail_per_million: u32,
    /// Of a million requests, how many find their connection disconnected.
    pub disconnect_per_million: u32,
    /// Disconnects whichever connection does the operation of this number; counted from the moment the
    /// faults are set.
    pub disconnect_at: Option<u64>,
}

/// Splitmix64.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `max`. Draws nothing for 0, so that a fault that is off costs nothing.
    pub(super) fn up_to(&mut self, max: u32) -> u64 {
        if max == 0 { 0 } else { self.next() % (u64::from(max) + 1) }
    }

    pub(super) fn chance(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.next() % 1_000_000 < u64::from(per_million)
    }
}
