//! WATCH: which clients watch which keys, and telling them when one changes.

use std::collections::{BTreeMap, HashMap};

use super::subscriptions::{Listeners, forget};
use crate::clients::client::Session;
use crate::server::Core;

/// Watched keys by database.
#[derive(Default)]
pub struct Watches {
    by_db: BTreeMap<usize, HashMap<Box<[u8]>, Listeners>>,
}

impl Watches {
    /// Number of keys watched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_db.values().map(HashMap::len).sum()
    }

    /// Whether nothing is watched.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.by_db.is_empty()
    }
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

impl Core {
    /// Begins to watch a key for a client.
    pub fn watch(&mut self, session: &mut Session, key: &[u8], expired: bool) {
        let db = session.db;
        if session.watched.insert(db, key, expired) {
            self.watches.by_db.entry(db).or_default().entry(key.into()).or_default().insert(session.key);
            self.update_interest();
        }
    }

    /// Forgets all keys a client watches.
    pub fn unwatch_all(&mut self, session: &mut Session) {
        if session.watched.is_empty() {
            return;
        }
        let watched = std::mem::take(&mut session.watched);
        for (db, key, _) in watched.iter() {
            let Some(keys) = self.watches.by_db.get_mut(&db) else { continue };
            if keys.get_mut(key).is_some_and(|listeners| forget(listeners, session.key)) {
                keys.remove(key);
                if keys.is_empty() {
                    self.watches.by_db.remove(&db);
                }
            }
        }
        self.update_interest();
    }

    /// Ends a client's transaction without running it.
    pub fn end_transaction(&mut self, session: &mut Session) {
        session.transaction = None;
        session.watch_broken = false;
        self.unwatch_all(session);
    }

    /// A key changed: the transactions that watch it will not run.
    pub fn tell_watchers(&mut self, db: usize, key: &[u8], change: Change) {
        let Some(listeners) = self.watches.by_db.get(&db).and_then(|keys| keys.get(key)) else { return };
        for client in listeners.clone() {
            if let Some(current) = self.current.as_mut().filter(|current| current.key == client) {
                current.touched.push((db, key.into(), change));
                continue;
            }
            let Some(connection) = self.clients.get_mut(client) else { continue };
            connection.session.touch_watched(db, key, change);
        }
    }

    /// A whole database was emptied, or exchanged for another (`other`): every watched key of it
    /// that exists on either side has changed.
    pub fn touch_watched_db(&mut self, db: usize, other: Option<usize>) {
        let Some(keys) = self.watches.by_db.get(&db) else { return };
        let names: Vec<Box<[u8]>> = keys.keys().cloned().collect();
        let expired = self.data.expired();
        for key in names {
            let hash = self.data.hash(&key);
            // There and in time, there and past its time, or not there.
            let state = |db: usize| self.data.db(db).find(&key, hash).map(|entry| expired.is(entry));
            match (state(db), other.and_then(state)) {
                (None, None) => {}
                (Some(_), None) => self.tell_watchers(db, &key, Change::Gone),
                (before, Some(true)) => self.tell_watchers(db, &key, Change::Stale { from_missing: before.is_none() }),
                (_, Some(false)) => self.tell_watchers(db, &key, Change::Changed),
            }
        }
    }
}

impl Session {
    /// A watched key changed. A key past its time is as good as none: going from one to the other
    /// breaks no watch.
    pub fn touch_watched(&mut self, db: usize, key: &[u8], change: Change) {
        let Some(expired) = self.watched.expired_mut(db, key) else { return };
        match (*expired, change) {
            (true, Change::Gone) => *expired = false,
            (true, Change::Stale { .. }) => {}
            (false, Change::Stale { from_missing: true }) => *expired = true,
            _ => self.watch_broken = true,
        }
    }
}
