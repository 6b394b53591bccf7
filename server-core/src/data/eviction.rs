//! Keeping memory below `maxmemory`: evicting keys in slices.

use tercel_engine::Policy;

use super::effects::Removed;
use super::{Dataset, since};
use crate::base::clock::Clock;
use crate::command::event_class as class;

/// Entries freed between two looks at the clock.
const RECLAIM_STEP: usize = 64;

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

impl Dataset {
    /// Whether keys are evicted at all.
    #[must_use]
    #[inline]
    pub fn evicts(&self) -> bool {
        self.rules.maxmemory > 0 && self.rules.policy != Policy::NoEviction && !self.is_paused()
    }

    /// Whether there is anything that could be freed in slices.
    #[must_use]
    #[inline]
    pub fn can_reclaim(&self) -> bool {
        self.keyspace.can_reclaim()
    }

    /// Evicts keys until memory is below the limit or the slice is used up; and how long it evicted, if it
    /// did, in nanoseconds.
    pub fn make_room(&mut self, clock: &Clock, slice_ns: u64) -> (Room, Option<u64>) {
        let limit = self.rules.maxmemory;
        if limit == 0 || self.memory_counted() <= limit || self.is_paused() {
            self.eviction_over_since_ns = None;
            return (Room::Enough, None);
        }
        let begin_ns = clock.mono_ns();
        // What was flushed already is freed before anything that is still wanted goes.
        while self.keyspace.can_reclaim() {
            self.keyspace.reclaim(RECLAIM_STEP);
            if self.memory_counted() <= limit {
                self.eviction_over_since_ns = None;
                return (Room::Enough, None);
            }
            if since(clock, begin_ns) >= slice_ns {
                return (Room::Evicting, None);
            }
        }
        if self.rules.policy == Policy::NoEviction {
            return (Room::None, None);
        }
        self.eviction_over_since_ns.get_or_insert(begin_ns);
        let room = loop {
            if !self.evict_one() {
                break Room::None;
            }
            if self.memory_counted() <= limit {
                self.eviction_over_since_ns = None;
                break Room::Enough;
            }
            if since(clock, begin_ns) >= slice_ns {
                break Room::Evicting;
            }
        };
        let took_ns = since(clock, begin_ns);
        self.turn_evict_ns += took_ns;
        self.counters.eviction_exceeded_ns += took_ns;
        (room, Some(took_ns))
    }

    /// Evicts the key the policy gives up first; false if there is none.
    fn evict_one(&mut self) -> bool {
        let used_before = self.memory_used();
        let mut evicted: Option<(usize, Box<[u8]>, usize)> = None;
        let (policy, samples, access) = (self.rules.policy, self.rules.samples, self.access);
        self.keyspace.evict_one(policy, samples, &access, &mut |db, entry| {
            evicted = Some((db, entry.key().into(), entry.memory_bytes()));
        });
        let Some((db, key, bytes)) = evicted else { return false };
        self.counters.evicted_keys += 1;
        self.dirty += 1;
        self.note_gone(db, &key);
        self.removed(Removed::Evicted, db, &key);
        self.touched(db, &key);
        self.notify(class::EVICTED, "evicted", db, &key);
        if self.walks > 0 {
            self.withheld_bytes += (self.memory_used() + bytes).saturating_sub(used_before);
        }
        true
    }
}
