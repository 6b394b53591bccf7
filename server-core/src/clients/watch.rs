//! WATCH: which clients watch which keys, and telling them when one changes.

use std::collections::HashMap;

use super::client::Session;
use super::subscriptions::forget;
use super::table::Clients;
use super::watched::Change;
use crate::data::Dataset;

impl Clients {
    /// Number of keys watched.
    #[must_use]
    pub fn watched_keys(&self) -> usize {
        self.watches.by_db.values().map(HashMap::len).sum()
    }

    /// Whether any key is watched.
    #[must_use]
    #[inline]
    pub fn any_watched(&self) -> bool {
        !self.watches.by_db.is_empty()
    }

    /// Begins to watch a key for a client; false if it is watched already.
    pub fn watch(&mut self, session: &mut Session, db: usize, key: &[u8], expired: bool) -> bool {
        let is_new = session.transaction.watched_mut().insert(db, key, expired);
        if is_new {
            self.watches.by_db.entry(db).or_default().entry(key.into()).or_default().insert(session.key());
        }
        is_new
    }

    /// Forgets all keys a client watches, and that one changed. False if there was none.
    pub fn unwatch_all(&mut self, session: &mut Session) -> bool {
        session.transaction.mend();
        if session.transaction.watched().is_empty() {
            return false;
        }
        let watched = std::mem::take(session.transaction.watched_mut());
        for (db, key, _) in watched.iter() {
            let Some(keys) = self.watches.by_db.get_mut(&db) else { continue };
            if keys.get_mut(key).is_some_and(|listeners| forget(listeners, session.key())) {
                keys.remove(key);
                if keys.is_empty() {
                    self.watches.by_db.remove(&db);
                }
            }
        }
        true
    }

    /// A key changed: the transactions that watch it will not run.
    pub fn tell_watchers(&mut self, db: usize, key: &[u8], change: Change) {
        let Some(listeners) = self.watches.by_db.get(&db).and_then(|keys| keys.get(key)) else { return };
        for client in listeners.clone() {
            if let Some(current) = self.current_if(client) {
                current.touched.push((db, key.into(), change));
            } else if let Some(client) = self.get_mut(client) {
                client.session.transaction.touch_watched(db, key, change);
            }
        }
    }

    /// A whole database is about to be emptied, or exchanged for another (`other`): every watched key of it
    /// that exists on either side changes.
    pub fn touch_watched_db(&mut self, data: &Dataset, db: usize, other: Option<usize>) {
        let Some(keys) = self.watches.by_db.get(&db) else { return };
        let names: Vec<Box<[u8]>> = keys.keys().cloned().collect();
        let expired = data.expired();
        for key in names {
            let hash = data.hash(&key);
            // There and in time, there and past its time, or not there.
            let state = |db: usize| data.db(db).find(&key, hash).map(|entry| expired.is(entry));
            match (state(db), other.and_then(state)) {
                (None, None) => {}
                (Some(_), None) => self.tell_watchers(db, &key, Change::Gone),
                (before, Some(true)) => self.tell_watchers(db, &key, Change::Stale { from_missing: before.is_none() }),
                (_, Some(false)) => self.tell_watchers(db, &key, Change::Changed),
            }
        }
    }
}
