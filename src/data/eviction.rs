//! Keeping memory below `maxmemory`: evicting keys in slices.

use tercel_engine::Policy;

use crate::command::event_class as class;
use crate::server::Core;

/// What an attempt to make room came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Memory is below the limit.
    Enough,
    /// Not yet, but eviction goes on.
    Evicting,
    /// Nothing more can be evicted.
    None,
}

impl Core {
    /// Memory in use, in bytes.
    #[must_use]
    pub fn memory_used(&self) -> usize {
        self.meter.allocated().saturating_sub(self.clients.promised_bytes)
    }

    /// Memory in use that counts against `maxmemory`, in bytes: what was evicted and a snapshot still holds
    /// does not, or a disk that stalls would let everything be evicted to no end.
    fn memory_counted(&self) -> usize {
        self.memory_used().saturating_sub(self.persistence.withheld_bytes)
    }

    /// Evicts keys until memory is below the limit or the slice is used up.
    pub fn make_room(&mut self, slice_ns: u64) -> Room {
        let limit = self.settings.maxmemory.0 as usize;
        if limit == 0 || self.memory_counted() <= limit || self.is_paused() {
            self.stats.eviction_over_since_ns = None;
            return Room::Enough;
        }
        let policy = self.settings.maxmemory_policy.0;
        let start_ns = self.clock.mono_ns();
        // What was flushed already is freed before anything that is still wanted goes.
        while self.keyspace.can_reclaim() {
            self.keyspace.reclaim(64);
            if self.memory_counted() <= limit {
                self.stats.eviction_over_since_ns = None;
                return Room::Enough;
            }
            if self.clock.mono_ns() - start_ns >= slice_ns {
                return Room::Evicting;
            }
        }
        if policy == Policy::NoEviction {
            return Room::None;
        }
        self.stats.eviction_over_since_ns.get_or_insert(start_ns);
        let samples = self.settings.maxmemory_samples as usize;
        let mut evicted: Vec<(usize, Box<[u8]>)> = Vec::new();
        let room = loop {
            let access = self.access;
            let used_before = self.memory_used();
            let mut bytes = 0;
            let removed = self.keyspace.evict_one(policy, samples, &access, &mut |db, entry| {
                bytes = entry.memory_bytes();
                evicted.push((db, entry.key().into()));
            });
            if !removed {
                break Room::None;
            }
            for (db, key) in evicted.drain(..) {
                self.stats.evicted_keys += 1;
                self.dirty += 1;
                self.touch_watched(db, &key);
                self.notify(class::EVICTED, "evicted", db, &key);
            }
            if self.persistence.is_saving() {
                self.persistence.withheld_bytes += (self.memory_used() + bytes).saturating_sub(used_before);
            }
            if self.memory_counted() <= limit {
                self.stats.eviction_over_since_ns = None;
                break Room::Enough;
            }
            if self.clock.mono_ns() - start_ns >= slice_ns {
                break Room::Evicting;
            }
        };
        let took_ns = self.clock.mono_ns() - start_ns;
        self.turn_evict_ns += took_ns;
        self.stats.eviction_exceeded_ns += took_ns;
        self.stats.latency.record("eviction-cycle", took_ns, self.now.unix_ms, self.settings.latency_monitor_threshold);
        room
    }
}
