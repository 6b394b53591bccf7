//! Watched keys: those of one client, all of them, and what may become of one.

use std::collections::{BTreeMap, HashMap};

use super::subscriptions::Listeners;

/// What a watched key takes beside its bytes, here and where watchers are found by key.
const WATCHED_KEY_BYTES: usize = 64;

/// The keys a client watches: by database and key, whether the key was already expired when WATCH saw it,
/// so that its removal is no change.
#[derive(Default)]
pub struct Watched {
    by_db: BTreeMap<usize, HashMap<Box<[u8]>, bool>>,
    len: usize,
    memory: usize,
}

impl Watched {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Adds a key; false if it was watched already.
    pub fn insert(&mut self, db: usize, key: &[u8], expired: bool) -> bool {
        let keys = self.by_db.entry(db).or_default();
        let is_new = !keys.contains_key(key);
        if is_new {
            keys.insert(key.into(), expired);
            self.len += 1;
            self.memory += key.len() + WATCHED_KEY_BYTES;
        }
        is_new
    }

    /// Whether a key watched was expired when WATCH saw it; `None` if it is not watched.
    pub fn expired_mut(&mut self, db: usize, key: &[u8]) -> Option<&mut bool> {
        self.by_db.get_mut(&db)?.get_mut(key)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[u8], bool)> {
        self.by_db.iter().flat_map(|(db, keys)| keys.iter().map(|(key, expired)| (*db, &**key, *expired)))
    }
}

/// Watched keys by database.
#[derive(Default)]
pub(super) struct Watches {
    pub(super) by_db: BTreeMap<usize, HashMap<Box<[u8]>, Listeners>>,
}

/// What became of a watched key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has another value, or has one now.
    Changed,
    /// It is not there any more.
    Gone,
    /// In its place is a key past its time, where there was one before or (`from_missing`) none.
    Stale {
        /// There was no key before.
        from_missing: bool,
    },
}

impl From<bool> for Change {
    /// What became of a key that changed, by whether it is gone.
    fn from(gone: bool) -> Self {
        if gone { Change::Gone } else { Change::Changed }
    }
}
