//! Looking keys up as commands do, with hits and misses.

use tercel_engine::EntryRef;

use super::events::{Event, What};
use super::{Dataset, Key};
use crate::command::event_class as class;

impl Dataset {
    /// Hashes a key.
    #[must_use]
    pub fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, hash: self.keyspace.hash(bytes) }
    }

    /// Finds a key for reading: counts a hit or miss and records the access. A key past its time
    /// is not there; it is removed when the command is done.
    #[inline]
    pub fn read(&mut self, db: usize, key: Key<'_>) -> Option<EntryRef<'_>> {
        let expired = self.expired();
        let data = self.keyspace.db_mut(db);
        let entry =
            if self.no_touch { data.find(key.bytes, key.hash) } else { data.touch(key.bytes, key.hash, &self.access) };
        let Some(entry) = entry else {
            self.counters.misses += 1;
            if self.interest & class::KEY_MISS != 0 {
                let what = What::Told { class: class::KEY_MISS, name: "keymiss" };
                self.events.push(Event { db, key: key.bytes.into(), what });
            }
            return None;
        };
        if expired.is(entry) {
            self.found_expired.push((db, key.bytes.into()));
            self.counters.misses += 1;
            return None;
        }
        self.counters.hits += 1;
        Some(entry)
    }

    /// Finds a key without counting or recording the access.
    #[must_use]
    #[inline]
    pub fn peek(&self, db: usize, key: Key<'_>) -> Option<EntryRef<'_>> {
        let expired = self.expired();
        self.keyspace.db(db).find(key.bytes, key.hash).filter(|entry| !expired.is(*entry))
    }

    /// Finds a key that will be changed: one past its time is removed first.
    #[inline]
    pub fn peek_to_write(&mut self, db: usize, key: Key<'_>) -> Option<EntryRef<'_>> {
        if self.expire_if_due(db, key) {
            return None;
        }
        self.keyspace.db(db).find(key.bytes, key.hash)
    }

    /// Whether a key is there and not past its time.
    #[must_use]
    pub fn exists(&self, db: usize, key: Key<'_>) -> bool {
        self.peek(db, key).is_some()
    }

    /// Whether a key is there and past its time.
    #[must_use]
    pub fn is_expired(&self, db: usize, key: Key<'_>) -> bool {
        let expired = self.expired();
        self.keyspace.db(db).find(key.bytes, key.hash).is_some_and(|entry| expired.is(entry))
    }
}
