//! Reading and changing keys as commands do: expiry, hits and misses, watchers and notifications
//! included. The engine below knows none of these.

use tercel_engine::{EntryRef, Expire, Hash, NewValue};

use crate::command::event_class as class;
use crate::server::Core;

/// A key and its hash.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Their hash under the keyspace's key.
    pub hash: Hash,
}

/// What a read leaves to be done when the command is over: while it holds a value nothing else
/// may change.
pub enum Afterwards {
    /// A key was found past its time and is to be removed.
    Expired(usize, Box<[u8]>),
    /// A key was not found and somebody wants to know.
    Missed(usize, Box<[u8]>),
}

impl Core {
    /// Hashes a key.
    #[must_use]
    pub fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, hash: self.keyspace.hash(bytes) }
    }

    /// Finds a key for reading: counts a hit or miss and records the access. A key past its time
    /// is not there; it is removed when the command is done.
    #[inline]
    pub fn read(&mut self, db: usize, key: Key<'_>) -> Option<EntryRef<'_>> {
        let data = self.keyspace.db_mut(db);
        let entry =
            if self.no_touch { data.find(key.bytes, key.hash) } else { data.touch(key.bytes, key.hash, &self.access) };
        let Some(entry) = entry else {
            self.stats.keyspace_misses += 1;
            if self.settings.notify_keyspace_events.0 & class::KEY_MISS != 0 {
                self.afterwards.push(Afterwards::Missed(db, key.bytes.into()));
            }
            return None;
        };
        if entry.expire_at().is_some_and(|at| at <= self.now.unix_ms) {
            self.afterwards.push(Afterwards::Expired(db, key.bytes.into()));
            self.stats.keyspace_misses += 1;
            return None;
        }
        self.stats.keyspace_hits += 1;
        Some(entry)
    }

    /// Finds a key without counting or recording the access.
    #[must_use]
    #[inline]
    pub fn peek(&self, db: usize, key: Key<'_>) -> Option<EntryRef<'_>> {
        self.keyspace
            .db(db)
            .find(key.bytes, key.hash)
            .filter(|entry| entry.expire_at().is_none_or(|at| at > self.now.unix_ms))
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

    /// Removes a key that is past its time, unless a pause is in force. True if there is none any more that
    /// counts.
    #[inline]
    pub fn expire_if_due(&mut self, db: usize, key: Key<'_>) -> bool {
        let data = self.keyspace.db(db);
        if data.expires_len() == 0 {
            return false;
        }
        let now_ms = self.now.unix_ms;
        let due = data.find(key.bytes, key.hash).is_some_and(|entry| entry.expire_at().is_some_and(|at| at <= now_ms));
        if due && !self.is_paused() {
            self.keyspace.db_mut(db).remove(key.bytes, key.hash);
            self.expired(db, key.bytes);
        }
        due
    }

    /// Bookkeeping for a key that expired and is gone.
    pub fn expired(&mut self, db: usize, key: &[u8]) {
        self.stats.expired_keys += 1;
        self.touch_watched(db, key);
        self.notify(class::EXPIRED, "expired", db, key);
    }

    /// Does what reads left to be done when the command is over.
    pub fn settle_afterwards(&mut self) {
        while let Some(left) = self.afterwards.pop() {
            match left {
                Afterwards::Expired(db, bytes) => {
                    let key = self.key(&bytes);
                    self.expire_if_due(db, key);
                }
                Afterwards::Missed(db, bytes) => self.notify(class::KEY_MISS, "keymiss", db, &bytes),
            }
        }
    }

    /// Stores a value; watchers learn of it. True if it replaced one. Events are the caller's.
    #[inline]
    pub fn store(&mut self, db: usize, key: Key<'_>, value: NewValue<'_>, expire: Expire) -> bool {
        let replaced = self.keyspace.db_mut(db).set(key.bytes, key.hash, value, expire, &self.access);
        if !replaced {
            self.notify(class::NEW, "new", db, key.bytes);
        }
        self.changed(db, key);
        replaced
    }

    /// A key changed: counts it and tells its watchers.
    #[inline]
    pub fn changed(&mut self, db: usize, key: Key<'_>) {
        self.dirty += 1;
        self.touch_watched(db, key.bytes);
    }

    /// Deletes a key that was given a time in the past: it expired.
    pub fn delete_as_expired(&mut self, db: usize, key: Key<'_>) {
        if !self.expire_if_due(db, key) && self.keyspace.db_mut(db).remove(key.bytes, key.hash) {
            self.dirty += 1;
            self.expired(db, key.bytes);
        }
    }

    /// Deletes a live key, with its event. True if it was there.
    pub fn delete(&mut self, db: usize, key: Key<'_>) -> bool {
        if self.expire_if_due(db, key) || !self.keyspace.db_mut(db).remove(key.bytes, key.hash) {
            return false;
        }
        self.changed(db, key);
        self.notify(class::GENERIC, "del", db, key.bytes);
        true
    }
}
