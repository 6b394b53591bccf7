//! What the executor counts of its own turns.

/// Turns and what they did.
#[derive(Clone, Copy, Debug, Default)]
pub struct TurnCounters {
    /// Turns of the loop.
    pub turns: u64,
    /// Turns that did something.
    pub busy_turns: u64,
    /// Time spent in turns that did something, in nanoseconds.
    pub busy_ns: u64,
    /// Longest turn, in nanoseconds.
    pub turn_ns_max: u64,
    /// Times the executor slept.
    pub parks: u64,
    /// Batches whose keys were prefetched.
    pub prefetch_batches: u64,
    /// Keys prefetched.
    pub prefetch_keys: u64,
}

impl TurnCounters {
    /// A turn is over; it did something for so many nanoseconds, or nothing.
    #[inline]
    pub fn count_turn(&mut self, busy_ns: Option<u64>) {
        self.turns += 1;
        if let Some(took_ns) = busy_ns {
            self.busy_turns += 1;
            self.busy_ns += took_ns;
            self.turn_ns_max = self.turn_ns_max.max(took_ns);
        }
    }
}
