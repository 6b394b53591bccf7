//! The bounded pieces of work of a turn that are the server's own: deadlines, eviction, freeing.

use super::Server;
use crate::data::Room;

/// Entries freed between two looks at the clock.
const RECLAIM_STEP: usize = 64;

impl Server {
    /// Evicts keys until memory is below the limit or the slice is used up.
    pub fn make_room(&mut self, slice_ns: u64) -> Room {
        let (room, took_ns) = self.data.make_room(&self.clock, slice_ns);
        if let Some(took_ns) = took_ns {
            self.stats.latency_mut().record(
                "eviction-cycle",
                took_ns,
                self.now.unix_ms,
                self.settings.latency_monitor_threshold,
            );
            self.settle_slice();
        }
        room
    }

    /// Removes keys whose time has come until the clock says `until_ns`. True if there are more.
    pub fn expire_step(&mut self, until_ns: u64) -> bool {
        let slice = self.data.expire_slice(&self.clock, until_ns);
        let threshold = self.settings.latency_monitor_threshold;
        self.stats.latency_mut().record("expire-cycle", slice.took_ns, self.now.unix_ms, threshold);
        self.settle_slice();
        slice.more
    }

    /// Frees what was flushed or replaced until the clock says `until_ns`. True if there is more.
    pub fn reclaim_step(&mut self, until_ns: u64) -> bool {
        loop {
            if !self.data.reclaim(RECLAIM_STEP) {
                return false;
            }
            if self.clock.mono_ns() >= until_ns {
                return true;
            }
        }
    }
}
