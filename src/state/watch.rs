//! WATCH: which clients watch which keys, and telling them when one changes.

use std::collections::HashMap;

use super::Core;
use crate::session::{ClientKey, Session, Watched};

/// Watched keys by database.
#[derive(Default)]
pub struct Watches {
    by_key: HashMap<(usize, Box<[u8]>), Vec<ClientKey>>,
}

impl Watches {
    /// Number of keys watched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether nothing is watched.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

impl Core {
    /// Begins to watch a key for a client.
    pub fn watch(&mut self, session: &mut Session, key: &[u8], expired: bool) {
        let db = session.db;
        if session.watched.iter().any(|watched| watched.db == db && &*watched.key == key) {
            return;
        }
        session.watched.push(Watched { db, key: key.into(), expired });
        self.watches.by_key.entry((db, key.into())).or_default().push(session.key);
    }

    /// Forgets all keys a client watches.
    pub fn unwatch_all(&mut self, session: &mut Session) {
        for watched in session.watched.drain(..) {
            let name = (watched.db, watched.key);
            if let Some(list) = self.watches.by_key.get_mut(&name)
                && super::pubsub::forget(list, session.key)
            {
                self.watches.by_key.remove(&name);
            }
        }
    }

    /// A key changed: the transactions that watch it will not run.
    #[inline]
    pub fn touch_watched(&mut self, db: usize, key: &[u8]) {
        if !self.watches.is_empty() {
            self.touch_watched_slow(db, key);
        }
    }

    fn touch_watched_slow(&mut self, db: usize, key: &[u8]) {
        let Some(list) = self.watches.by_key.get(&(db, Box::from(key))) else { return };
        let hash = self.keyspace.hash(key);
        let missing_now = self.keyspace.db(db).find(key, hash).is_none();
        for client in list.clone() {
            if let Some(current) = self.current.as_mut().filter(|current| current.key == client) {
                current.touched.push((db, key.into(), missing_now));
                continue;
            }
            let Some(connection) = self.clients.get_mut(client) else { continue };
            connection.session.touch_watched(db, key, missing_now);
        }
    }

    /// A whole database was emptied, or exchanged for another (`other`): every watched key of it
    /// that exists on either side has changed.
    pub fn touch_watched_db(&mut self, db: usize, other: Option<usize>) {
        let names: Vec<Box<[u8]>> =
            self.watches.by_key.keys().filter(|(watched_db, _)| *watched_db == db).map(|(_, key)| key.clone()).collect();
        let now_ms = self.now.unix_ms;
        for key in names {
            let hash = self.keyspace.hash(&key);
            // A key past its time counts as missing, on either side.
            let lives = |db: usize| {
                self.keyspace.db(db).find(&key, hash).is_some_and(|entry| entry.expire_at().is_none_or(|at_ms| at_ms > now_ms))
            };
            if lives(db) || other.is_some_and(lives) {
                self.touch_watched(db, &key);
            }
        }
    }
}

impl Session {
    /// A watched key changed; `missing_now` says that it is gone.
    pub fn touch_watched(&mut self, db: usize, key: &[u8], missing_now: bool) {
        match self.watched.iter_mut().find(|watched| watched.db == db && &*watched.key == key) {
            // It was expired when it was watched; that it is gone now changes nothing.
            Some(watched) if watched.expired && missing_now => watched.expired = false,
            Some(_) => self.watch_broken = true,
            None => {}
        }
    }
}
