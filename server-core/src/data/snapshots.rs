//! Handing out every key as it was at one moment, while keys go on changing.

use tercel_engine::EntryRef;

use super::Dataset;

impl Dataset {
    /// A walk over everything as it is now begins.
    pub fn snapshot_begin(&mut self) {
        self.keyspace.snapshot_begin();
        self.walked = true;
    }

    /// Hands out about a segment; false when that was the last.
    pub fn snapshot_step(&mut self, visit: &mut dyn FnMut(usize, EntryRef<'_>)) -> bool {
        self.keyspace.snapshot_step(visit)
    }

    /// Ends the walk, whether it is done or not.
    pub fn snapshot_end(&mut self) {
        self.keyspace.snapshot_cancel();
        self.walked = false;
        self.withheld_bytes = 0;
    }

    /// Memory in bytes that was evicted and that a walk still holds.
    #[must_use]
    pub fn withheld_bytes(&self) -> usize {
        self.withheld_bytes
    }
}
