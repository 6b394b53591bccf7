//! What happened to keys, in order: watchers are told, and notifications published, when the server
//! drains it, which it does after every command, inside EXEC as outside.

use super::{Dataset, Key};

/// Somebody watches keys; beside the classes of events.
pub const WATCHED: u32 = 1 << 31;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Database.
    pub db: usize,
    /// Key.
    pub key: Box<[u8]>,
    /// What.
    pub what: What,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It has another value now, or is gone: transactions that watch it will not run.
    Changed {
        /// It is not there any more.
        gone: bool,
    },
    /// Something that notifications tell.
    Told {
        /// Its class.
        class: u32,
        /// Its name.
        name: &'static str,
    },
}

impl Dataset {
    /// Which events anybody wants to hear of: classes of notifications, and [`WATCHED`].
    pub fn set_interest(&mut self, interest: u32) {
        self.interest = interest;
    }

    /// Tells of something that happened to a key, if anybody wants to hear of its class.
    #[inline]
    pub fn notify(&mut self, class: u32, name: &'static str, db: usize, key: &[u8]) {
        if self.interest & class != 0 {
            self.push(db, key, What::Told { class, name });
        }
    }

    /// Somebody wants to hear of it, which is seldom: out of the way of the others.
    #[cold]
    pub(super) fn push(&mut self, db: usize, key: &[u8], what: What) {
        self.events.push(Event { db, key: key.into(), what });
    }

    #[cold]
    fn push_change(&mut self, db: usize, key: &[u8]) {
        let gone = self.keyspace.db(db).find(key, self.keyspace.hash(key)).is_none();
        self.push(db, key, What::Changed { gone });
    }

    /// A key changed: counts it and tells its watchers.
    #[inline]
    pub(super) fn changed(&mut self, db: usize, key: Key<'_>) {
        self.dirty += 1;
        self.touched(db, key.bytes);
    }

    /// A key changed: counts so many changes and tells its watchers.
    #[inline]
    pub(super) fn changed_much(&mut self, db: usize, key: Key<'_>, changes: u64) {
        self.dirty += changes;
        self.touched(db, key.bytes);
    }

    /// Tells the watchers of a key, and has those looked at that wait for it.
    #[inline]
    pub(super) fn touched(&mut self, db: usize, key: &[u8]) {
        if self.interest & WATCHED != 0 {
            self.push_change(db, key);
        }
        self.look_at_awaited(db, key);
    }

    /// Whether there is anything to drain.
    #[must_use]
    #[inline]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty() || !self.found_expired.is_empty()
    }

    /// What happened since it was last asked, in order. Keys that reads found past their time are removed
    /// first.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.remove_found_expired();
        std::mem::take(&mut self.events)
    }

    /// Removes the keys that reads found past their time.
    pub(super) fn remove_found_expired(&mut self) {
        for (db, bytes) in std::mem::take(&mut self.found_expired) {
            let key = self.key(&bytes);
            self.expire_if_due(db, key);
        }
    }
}
