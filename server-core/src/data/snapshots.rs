//! Handing out every key as it was at one moment, while keys go on changing. Several walks may be under way,
//! each of its own moment.

use tercel_engine::{EntryRef, SnapshotId};

use super::Dataset;

impl Dataset {
    /// A walk over everything as it is now begins. Whoever begins it ends it.
    #[must_use]
    pub fn snapshot_begin(&mut self) -> SnapshotId {
        self.walks += 1;
        self.keyspace.snapshot_begin()
    }

    /// A walk over one database as it is now begins.
    #[must_use]
    pub fn snapshot_begin_db(&mut self, db: usize) -> SnapshotId {
        self.walks += 1;
        self.keyspace.snapshot_begin_db(db)
    }

    /// Hands out about a segment; false when that was the last.
    pub fn snapshot_step(&mut self, id: SnapshotId, visit: &mut dyn FnMut(usize, EntryRef<'_>)) -> bool {
        self.keyspace.snapshot_step(id, visit)
    }

    /// Ends a walk, whether it is done or not.
    pub fn snapshot_end(&mut self, id: SnapshotId) {
        self.keyspace.snapshot_cancel(id);
        self.walks -= 1;
        if self.walks == 0 {
            self.withheld_bytes = 0;
        }
    }

    /// Memory in bytes that was evicted and that walks still hold.
    #[must_use]
    pub fn withheld_bytes(&self) -> usize {
        self.withheld_bytes
    }
}
