//! Every way to change data that a command has. Each counts the change and tells watchers and whoever
//! listens that a key is new; what else there is to tell is the command's.

use tercel_engine::{Expire, NewValue};

use super::{Dataset, Key};
use crate::command::event_class as class;

impl Dataset {
    /// Stores a value. True if it replaced one.
    #[inline]
    pub fn store(&mut self, db: usize, key: Key<'_>, value: NewValue<'_>, expire: Expire) -> bool {
        let replaced = self.keyspace.db_mut(db).set(key.bytes, key.hash, value, expire, &self.access);
        if !replaced {
            self.notify(class::NEW, "new", db, key.bytes);
        }
        self.changed(db, key);
        replaced
    }

    /// Sets or ends the deadline of a key that is there.
    pub fn set_expire(&mut self, db: usize, key: Key<'_>, at_ms: Option<i64>) {
        self.keyspace.db_mut(db).set_expire(key.bytes, key.hash, at_ms);
        self.changed(db, key);
    }

    /// Deletes a key that was given a time in the past: it expired.
    pub fn delete_as_expired(&mut self, db: usize, key: Key<'_>) {
        if !self.expire_if_due(db, key) && self.keyspace.db_mut(db).remove(key.bytes, key.hash) {
            self.dirty += 1;
            self.deleted_as_expired(db, key);
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

    /// Gives a key that is there another name, in place of what has it.
    pub fn rename(&mut self, db: usize, from: Key<'_>, to: Key<'_>) {
        self.keyspace.db_mut(db).rename(from.bytes, from.hash, to.bytes, to.hash);
        self.changed(db, from);
        self.touched(db, to.bytes);
        self.notify(class::NEW, "new", db, to.bytes);
    }

    /// Copies a key that is there to another name or database, in place of what has it.
    pub fn copy(&mut self, from_db: usize, from: Key<'_>, to_db: usize, to: Key<'_>) {
        let access = self.access;
        self.keyspace.copy_key(from_db, from.bytes, from.hash, to_db, to.bytes, to.hash, &access);
        self.changed(to_db, to);
        self.notify(class::NEW, "new", to_db, to.bytes);
    }

    /// Moves a key to another database. False if it is missing, or there is one already.
    pub fn move_to(&mut self, from_db: usize, key: Key<'_>, to_db: usize) -> bool {
        self.expire_if_due(from_db, key);
        self.expire_if_due(to_db, key);
        let moved = self.keyspace.move_key(from_db, to_db, key.bytes, key.hash);
        if moved {
            self.changed(from_db, key);
            self.touched(to_db, key.bytes);
            self.notify(class::NEW, "new", to_db, key.bytes);
        }
        moved
    }

    /// Empties a database. Who watches its keys is to be told before.
    pub fn flush(&mut self, db: usize) {
        self.upheavals += 1;
        self.dirty += self.keyspace.flush(db) as u64;
    }

    /// Exchanges two databases. Who watches their keys is to be told before.
    pub fn swap(&mut self, a: usize, b: usize) {
        self.upheavals += 1;
        self.keyspace.swap(a, b);
        self.look_at_all_awaited();
        self.dirty += 1;
    }

    /// A random key of a database, gone if it is past its time: `Err` then.
    ///
    /// # Errors
    /// There is none, or the one that was drawn is past its time.
    pub fn random_key(&mut self, db: usize) -> Result<Box<[u8]>, bool> {
        let expired = self.expired();
        let Some(entry) = self.keyspace.db_mut(db).random() else { return Err(false) };
        let (bytes, is_expired): (Box<[u8]>, bool) = (entry.key().into(), expired.is(entry));
        if !is_expired {
            return Ok(bytes);
        }
        let key = self.key(&bytes);
        self.expire_if_due(db, key);
        Err(true)
    }

    /// Sets how long ago or how often a key was used, whichever the eviction policy goes by.
    pub fn set_accesses(&mut self, db: usize, key: Key<'_>, idle_s: Option<u64>, freq: Option<u8>) {
        let db = self.keyspace.db_mut(db);
        if self.access.lfu {
            if let Some(freq) = freq {
                db.set_access_freq(key.bytes, key.hash, freq, &self.access);
            }
        } else if let Some(idle_s) = idle_s {
            db.set_access_idle(key.bytes, key.hash, idle_s, &self.access);
        }
    }

    /// Takes a key of a snapshot in. True if it replaced one. Nobody is told: whoever could be is not served
    /// yet, or asked for it.
    pub fn load(&mut self, db: usize, key: Key<'_>, value: NewValue<'_>, expire: Expire) -> bool {
        self.keyspace.db_mut(db).set(key.bytes, key.hash, value, expire, &self.access)
    }
}
