//! What expired means: when a key may not be seen any more, when it may be removed, and the slices that
//! remove those whose time has come. Whoever asks about a deadline asks here.

use tercel_engine::{EntryRef, ExpiredFields};

use super::effects::Removed;
use super::{Dataset, Key, Slice, since};
use crate::base::clock::Clock;
use crate::command::event_class as class;

/// Keys expired between two looks at the clock.
const EXPIRE_STEP: usize = 16;

/// Tells entries past their time from others, as of one moment; for walks that hold the data.
#[derive(Clone, Copy)]
pub struct Expired {
    now_ms: i64,
}

impl Expired {
    /// Whether an entry is past its time: it counts as not there.
    #[must_use]
    #[inline]
    pub fn is(&self, entry: EntryRef<'_>) -> bool {
        entry.expire_at().is_some_and(|at_ms| at_ms <= self.now_ms)
    }

    /// Whether a deadline has passed.
    #[must_use]
    #[inline]
    pub fn is_past(&self, at_ms: i64) -> bool {
        at_ms <= self.now_ms
    }
}

impl Dataset {
    /// The rule as of this turn.
    #[must_use]
    #[inline]
    pub fn expired(&self) -> Expired {
        Expired { now_ms: if self.is_following { i64::MIN } else { self.now.unix_ms } }
    }

    /// Whether keys may be removed for their deadline, and evicted: not while a pause is in force, so that
    /// a replica that takes over meanwhile has the same.
    #[must_use]
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.paused_until_ms > self.now.unix_ms
    }

    /// A pause is in force until then, in Unix milliseconds; `None` ends it.
    pub fn set_pause(&mut self, until_ms: Option<i64>) {
        self.paused_until_ms = until_ms.unwrap_or(i64::MIN);
    }

    /// Whether deadlines fire by themselves (DEBUG SET-ACTIVE-EXPIRE).
    pub fn set_active_expire(&mut self, on: bool) {
        self.active_expire = on;
    }

    /// Removes a key that is past its time, unless a pause is in force. True if there is none any more that
    /// counts.
    #[inline]
    pub fn expire_if_due(&mut self, db: usize, key: Key<'_>) -> bool {
        let data = self.keyspace.db(db);
        if data.expires_len() == 0 {
            return false;
        }
        let expired = self.expired();
        let due = data.find(key.bytes, key.hash).is_some_and(|entry| expired.is(entry));
        if due && !self.is_paused() {
            self.keyspace.db_mut(db).remove(key.bytes, key.hash);
            self.tell_expired(db, key.bytes);
        }
        due
    }

    /// Removes some fields whose time has come, and tells of them; returns how many.
    fn expire_fields(&mut self, now_ms: i64) -> usize {
        let mut expired = Vec::new();
        let removed =
            self.keyspace.expire_fields_due(now_ms, EXPIRE_STEP, &mut |ExpiredFields { db, key, fields, is_gone }| {
                expired.push((db, Box::<[u8]>::from(key), fields.to_vec(), is_gone));
            });
        for (db, key, fields, is_gone) in expired {
            self.counters.expired_fields += fields.len() as u64;
            self.dirty += fields.len() as u64;
            self.removed_fields(db, &key, &fields);
            self.touched(db, &key);
            self.notify(class::HASH, "hexpired", db, &key);
            if is_gone {
                self.notify(class::GENERIC, "del", db, &key);
            }
        }
        removed
    }

    /// Fields past their deadline were written over, or fields were given one that had passed: it counts as if
    /// they had expired by themselves. That they are gone is up to the command to put into words.
    pub fn expired_fields(&mut self, db: usize, key: Key<'_>, count: u64) {
        self.counters.expired_fields += count;
        self.notify(class::HASH, "hexpired", db, key.bytes);
    }

    /// Bookkeeping for a key that expired and is gone.
    pub(super) fn tell_expired(&mut self, db: usize, key: &[u8]) {
        self.counters.expired_keys += 1;
        self.note_gone(db, key);
        self.removed(Removed::Expired, db, key);
        self.touched(db, key);
        self.notify(class::EXPIRED, "expired", db, key);
    }

    /// The soonest deadline that will fire by itself, in Unix milliseconds.
    #[must_use]
    #[inline]
    pub fn next_deadline_ms(&mut self) -> Option<i64> {
        if self.active_expire && !self.is_paused() { self.keyspace.next_deadline() } else { None }
    }

    /// Whether deadlines are due.
    #[must_use]
    #[inline]
    pub fn expires(&mut self) -> bool {
        self.next_deadline_ms().is_some_and(|at_ms| self.expired().is_past(at_ms))
    }

    /// Removes keys and fields whose time has come until the clock says `until_ns`.
    pub fn expire_slice(&mut self, clock: &Clock, until_ns: u64) -> Slice {
        let begin_ns = clock.mono_ns();
        let now_ms = self.now.unix_ms;
        let mut expired: Vec<(usize, Box<[u8]>)> = Vec::new();
        let told = self.interest != 0 || self.records_effects() || self.holds_any();
        let more = loop {
            let removed = self.keyspace.expire_due(now_ms, EXPIRE_STEP, &mut |db, key| {
                if told {
                    expired.push((db, key.into()));
                }
            });
            self.dirty += removed as u64;
            if told {
                for (db, key) in expired.drain(..) {
                    self.tell_expired(db, &key);
                }
            } else {
                self.counters.expired_keys += removed as u64;
            }
            if removed < EXPIRE_STEP && self.expire_fields(now_ms) < EXPIRE_STEP {
                break false;
            }
            if clock.mono_ns() >= until_ns {
                self.counters.expired_time_cap_reached += 1;
                break true;
            }
        };
        let took_ns = since(clock, begin_ns);
        self.counters.expire_ns += took_ns;
        Slice { took_ns, more }
    }
}
