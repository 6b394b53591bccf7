//! One database: a table of entries and the deadlines of those that expire, kept in agreement.

mod collection;
mod edit;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use crate::access::Access;
use crate::entry::{EntryBox, EntryRef, Stored, Taken};
use crate::expiry::Timers;
use crate::hash::{Hash, KeyHasher};
use crate::long::LongString;
use crate::number;
use crate::rng::Rng;
use crate::snapshot::former::Progress;
use crate::table::{Slot, Table, TableStats};
use crate::types::Surroundings;
use crate::value::{EMBED_LEN_MAX, Expire, NewValue};

pub use collection::{Edited, ExpiredFields};

/// One database of a [`Keyspace`](crate::Keyspace). Keys come with their hash, computed once by
/// [`Keyspace::hash`](crate::Keyspace::hash); another hash finds nothing, but harms nothing either.
/// Expired keys are there until they are removed: what to do with them is up to the caller.
pub struct Db {
    pub(crate) table: Table,
    pub(crate) timers: Timers,
    /// Of each hash that has fields with a deadline, the soonest.
    pub(crate) field_timers: Timers,
    /// The snapshots that walk this database: mostly none.
    pub(crate) snapshots: Vec<Progress>,
    around: Rc<Surroundings>,
    rng: Rng,
}

/// A value in the form an entry keeps, and whether it is to be reported as raw.
fn stored_of(value: NewValue<'_>) -> (Stored<'_>, bool) {
    fn bytes_of(bytes: &[u8]) -> Stored<'_> {
        if bytes.len() <= EMBED_LEN_MAX {
            Stored::Embedded { bytes, len: bytes.len() }
        } else {
            Stored::Long(LongString::from_vec(bytes.to_vec()))
        }
    }
    match value {
        NewValue::Int(value) => (Stored::Int(value), false),
        NewValue::Raw(bytes) => (bytes_of(bytes), true),
        NewValue::Blob(blob) => (Stored::Long(blob.into_long()), false),
        NewValue::Long(long) if long.len() <= EMBED_LEN_MAX => {
            (Stored::Long(LongString::from_vec(long.copied(0..long.len()))), true)
        }
        NewValue::Long(long) => (Stored::Long(long), true),
        NewValue::Bytes(bytes) => match number::parse_canonical(bytes) {
            Some(value) => (Stored::Int(value), false),
            None => (bytes_of(bytes), false),
        },
    }
}

impl Db {
    pub(crate) fn new(around: Rc<Surroundings>, seed: u64) -> Self {
        Db {
            table: Table::default(),
            timers: Timers::default(),
            field_timers: Timers::default(),
            snapshots: Vec::new(),
            around,
            rng: Rng::new(seed),
        }
    }

    /// How many keys there are, expired ones included.
    #[inline]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys have a deadline.
    pub fn expires_len(&self) -> usize {
        self.timers.len()
    }

    /// How many hashes have a field with a deadline.
    pub fn with_field_deadlines_len(&self) -> usize {
        self.field_timers.len()
    }

    /// The average time left to keys with a deadline, in milliseconds; 0 if there are none.
    pub fn avg_ttl_ms(&self, now_ms: i64) -> i64 {
        self.timers.avg_ttl_ms(now_ms)
    }

    /// First stage of a lookup in a batch: starts bringing the key's bucket into the cache.
    #[inline]
    pub fn prefetch_bucket(&self, hash: Hash) {
        self.table.prefetch_bucket(hash);
    }

    /// Second stage: reads the bucket and starts bringing the key's entry into the cache.
    #[inline]
    pub fn prefetch_entry(&self, hash: Hash) {
        self.table.prefetch_entry(hash);
    }

    /// Third stage, for values worth it: reads the entry and starts bringing what its value points to.
    #[inline]
    pub fn prefetch_value(&self, hash: Hash) {
        if let Some((_, entry)) = self.table.find(hash, |_| true) {
            entry.prefetch_value();
        }
    }

    /// The entry of a key, expired or not.
    #[inline]
    pub fn find(&self, key: &[u8], hash: Hash) -> Option<EntryRef<'_>> {
        Some(self.table.find_key(key, hash)?.1)
    }

    /// [`Db::find`], with the access recorded.
    #[inline]
    pub fn touch(&mut self, key: &[u8], hash: Hash, access: &Access) -> Option<EntryRef<'_>> {
        let mut entry = self.table.find_key_mut(key, hash)?;
        entry.touch(access, &mut self.rng);
        Some(entry.into_ref())
    }

    /// Gives a key a value, whether there is one or not; true if there was. In place if the entry
    /// stays in its size class.
    pub fn set(&mut self, key: &[u8], hash: Hash, value: NewValue<'_>, expire: Expire, access: &Access) -> bool {
        let (stored, raw) = match value {
            // A short one is better off in the entry, and may be a number.
            NewValue::Blob(blob) if blob.len() <= EMBED_LEN_MAX => {
                return self.set(key, hash, NewValue::Bytes(blob.as_slice()), expire, access);
            }
            value => stored_of(value),
        };
        self.put(key, hash, stored, raw, expire, access)
    }

    fn put(&mut self, key: &[u8], hash: Hash, value: Stored<'_>, raw: bool, expire: Expire, access: &Access) -> bool {
        let Some((slot, entry)) = self.table.find_key(key, hash) else {
            let at = match expire {
                Expire::At(at) => Some(at),
                Expire::Clear | Expire::Keep => None,
            };
            self.insert(hash, EntryBox::new(key, value, raw, at, access.field_new()));
            return false;
        };
        let old_at = entry.expire_at();
        // Mostly no hash has a deadline inside.
        let old_soonest = if self.field_timers.len() > 0 { entry.soonest() } else { None };
        let at = match expire {
            Expire::Clear => None,
            Expire::Keep => old_at,
            Expire::At(at) => Some(at),
        };
        let field = access.field_used(entry.access_field(), &mut self.rng);
        self.before_change(key, hash);
        let Some(mut entry) = self.table.entry_mut(hash, slot) else { return false };
        if let Err(value) = entry.overwrite(value, raw, at, field) {
            drop(self.table.replace(hash, slot, EntryBox::new(key, value, raw, at, field)));
        }
        self.reschedule(hash, old_at, at);
        if old_soonest.is_some() {
            self.reschedule_fields(hash, old_soonest, None);
        }
        true
    }

    /// Adds an entry whose key is not there.
    pub(crate) fn insert(&mut self, hash: Hash, entry: EntryBox) {
        self.before_change(entry.as_ref().key(), hash);
        if let Some(at) = entry.as_ref().expire_at() {
            self.timers.add(at, hash.0);
        }
        if let Some(at) = entry.as_ref().soonest() {
            self.field_timers.add(at, hash.0);
        }
        self.table.insert(hash, entry, &self.around.hasher);
    }

    /// Adds an entry in place of that of the same key, if there is one.
    pub(crate) fn upsert(&mut self, hash: Hash, entry: EntryBox) {
        let Some((slot, old)) = self.table.find_key(entry.as_ref().key(), hash) else {
            return self.insert(hash, entry);
        };
        let (old_at, at) = (old.expire_at(), entry.as_ref().expire_at());
        let (old_soonest, soonest) = (old.soonest(), entry.as_ref().soonest());
        self.before_change(entry.as_ref().key(), hash);
        drop(self.table.replace(hash, slot, entry));
        self.reschedule(hash, old_at, at);
        self.reschedule_fields(hash, old_soonest, soonest);
    }

    /// Takes an entry out of the table and its deadline with it.
    pub(crate) fn extract(&mut self, hash: Hash, slot: Slot) -> Option<EntryBox> {
        if !self.snapshots.is_empty() {
            let key = self.table.entry(hash, slot)?.key().to_vec();
            self.before_change(&key, hash);
        }
        let entry = self.table.remove(hash, slot)?;
        self.reschedule(hash, entry.as_ref().expire_at(), None);
        self.reschedule_fields(hash, entry.as_ref().soonest(), None);
        Some(entry)
    }

    /// To be called before a key's value or deadline changes, and before the key comes or goes.
    #[inline]
    fn before_change(&mut self, key: &[u8], hash: Hash) {
        for progress in &mut self.snapshots {
            progress.before_change(&self.table, key, hash);
        }
    }

    /// Notes that an entry's deadline has changed, after it has.
    fn reschedule(&mut self, hash: Hash, old: Option<i64>, new: Option<i64>) {
        if old == new {
            return;
        }
        if let Some(at) = old {
            let (table, hasher) = (&self.table, &self.around.hasher);
            self.timers.remove(at, hash.0, || table.find(hash, |entry| is_due(entry, hasher, at, hash)).is_some());
        }
        if let Some(at) = new {
            self.timers.add(at, hash.0);
        }
    }

    /// The slot of an entry with this deadline and hash.
    pub(crate) fn find_due(&self, at_ms: i64, hash: Hash) -> Option<Slot> {
        Some(self.table.find(hash, |entry| is_due(entry, &self.around.hasher, at_ms, hash))?.0)
    }

    /// An entry by its hash alone, that `accept` agrees to.
    pub(crate) fn find_hash<'a>(
        &'a self,
        hash: Hash,
        mut accept: impl FnMut(EntryRef<'a>) -> bool,
    ) -> Option<(Slot, EntryRef<'a>)> {
        self.table.find(hash, |entry| self.around.hasher.hash(entry.key()) == hash && accept(entry))
    }

    pub(crate) fn hash_of(&self, entry: EntryRef<'_>) -> Hash {
        self.around.hasher.hash(entry.key())
    }

    /// Removes a key; false if it is missing.
    pub fn remove(&mut self, key: &[u8], hash: Hash) -> bool {
        self.take(key, hash).is_some()
    }

    /// Removes a key and hands its value and deadline out.
    pub fn take(&mut self, key: &[u8], hash: Hash) -> Option<(Taken, Option<i64>)> {
        let (slot, entry) = self.table.find_key(key, hash)?;
        let at = entry.expire_at();
        Some((Taken(self.extract(hash, slot)?), at))
    }

    /// Gives a key another deadline or none; false if it is missing.
    pub fn set_expire(&mut self, key: &[u8], hash: Hash, at_ms: Option<i64>) -> bool {
        let Some((slot, entry)) = self.table.find_key(key, hash) else { return false };
        let old = entry.expire_at();
        self.before_change(key, hash);
        let Some(mut entry) = self.table.entry_mut(hash, slot) else { return false };
        if !entry.set_expire(at_ms) {
            let entry = entry.as_ref();
            let moved = EntryBox::duplicate(entry, key, at_ms, entry.access_field());
            drop(self.table.replace(hash, slot, moved));
        }
        self.reschedule(hash, old, at_ms);
        true
    }

    /// Gives a key's value, deadline and access to another key, in place of its own; false if the key is missing.
    pub fn rename(&mut self, from: &[u8], from_hash: Hash, to: &[u8], to_hash: Hash) -> bool {
        let Some((slot, _)) = self.table.find_key(from, from_hash) else { return false };
        if from == to {
            return true;
        }
        let Some(old) = self.extract(from_hash, slot) else { return false };
        let entry = old.as_ref();
        let renamed = EntryBox::duplicate(entry, to, entry.expire_at(), entry.access_field());
        // Before the new one is there: a blob they share must not look shared later.
        drop(old);
        self.upsert(to_hash, renamed);
        true
    }

    /// A random key, about equally likely each.
    pub fn random(&mut self) -> Option<EntryRef<'_>> {
        self.table.random(&mut self.rng)
    }

    /// Visits some keys (those of one bucket, or none) and returns the cursor to go on with: start
    /// with 0, stop at 0. Whoever is there from start to stop is visited at least once.
    pub fn scan(&self, cursor: u64, visit: &mut dyn FnMut(EntryRef<'_>)) -> u64 {
        self.table.scan(cursor, visit)
    }

    /// Visits every key.
    pub fn for_each(&self, visit: &mut dyn FnMut(EntryRef<'_>)) {
        self.table.for_each(visit);
    }

    /// The deadlines, soonest first. Keys whose hash and deadline are the same count once.
    pub fn deadlines(&self) -> impl Iterator<Item = (i64, Hash)> + '_ {
        self.timers.iter().map(|(at, hash)| (at, Hash(hash)))
    }

    /// What the table consists of. Walks all of it.
    pub fn table_stats(&self) -> TableStats {
        self.table.stats()
    }

    /// Records a last access `seconds` ago; false if the key is missing.
    pub fn set_access_idle(&mut self, key: &[u8], hash: Hash, seconds: u64, access: &Access) -> bool {
        let Some(mut entry) = self.table.find_key_mut(key, hash) else { return false };
        entry.set_access(access.field_with_idle(seconds));
        true
    }

    /// Records a count of accesses; false if the key is missing.
    pub fn set_access_freq(&mut self, key: &[u8], hash: Hash, freq: u8, access: &Access) -> bool {
        let Some(mut entry) = self.table.find_key_mut(key, hash) else { return false };
        entry.set_access(access.field_with_count(freq));
        true
    }

    pub(crate) fn overhead_bytes(&self) -> usize {
        self.table.bytes() + self.timers.bytes() + self.field_timers.bytes()
    }
}

fn is_due(entry: EntryRef<'_>, hasher: &KeyHasher, at_ms: i64, hash: Hash) -> bool {
    entry.expire_at() == Some(at_ms) && hasher.hash(entry.key()) == hash
}
