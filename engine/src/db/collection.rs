//! Collections of a database: lent as values of their type to be changed, and taken back.

use super::Db;
use crate::access::Access;
use crate::entry::{EntryBox, Stored};
use crate::expiry::Timers;
use crate::hash::Hash;
use crate::kind::WrongType;
use crate::types::hash::{FieldMap, FieldMapRef};
use crate::types::list::{List, ListRef};
use crate::types::{Kept, Lent};

/// What became of a collection that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edited<R> {
    /// What the change returned.
    pub result: R,
    /// There was none before.
    pub is_new: bool,
    /// It has no elements left, and its key is gone.
    pub is_gone: bool,
}

/// Fields of one hash that went together at their deadlines.
#[derive(Clone, Copy, Debug)]
pub struct ExpiredFields<'a> {
    /// The database.
    pub db: usize,
    /// The key of the hash.
    pub key: &'a [u8],
    /// The fields.
    pub fields: &'a [Box<[u8]>],
    /// The key is gone with them.
    pub is_gone: bool,
}

impl Db {
    /// Lets `change` change the list of a key. With `create` a key that is missing is an empty list, without it
    /// there is nothing to change: None. A list without elements is not kept.
    ///
    /// # Errors
    /// The key has another type; nothing is changed then.
    pub fn edit_list<R>(
        &mut self,
        key: &[u8],
        hash: Hash,
        access: &Access,
        create: bool,
        change: impl FnOnce(&mut List) -> R,
    ) -> Result<Option<Edited<R>>, WrongType> {
        self.edit(key, hash, Some(access), create, change)
    }

    /// The same for the hash of a key.
    ///
    /// # Errors
    /// The key has another type; nothing is changed then.
    pub fn edit_fields<R>(
        &mut self,
        key: &[u8],
        hash: Hash,
        access: &Access,
        create: bool,
        change: impl FnOnce(&mut FieldMap) -> R,
    ) -> Result<Option<Edited<R>>, WrongType> {
        self.edit(key, hash, Some(access), create, change)
    }

    pub(crate) fn edit<C: Lent, R>(
        &mut self,
        key: &[u8],
        hash: Hash,
        access: Option<&Access>,
        create: bool,
        change: impl FnOnce(&mut C) -> R,
    ) -> Result<Option<Edited<R>>, WrongType> {
        let Some((slot, entry)) = self.table.find_key(key, hash) else {
            if !create {
                return Ok(None);
            }
            let mut collection = C::empty(&self.around);
            let result = change(&mut collection);
            let is_gone = !self.keep_new(key, hash, collection, access.map_or(0, Access::field_new));
            return Ok(Some(Edited { result, is_new: true, is_gone }));
        };
        if entry.kind() != C::KIND {
            return Err(WrongType);
        }
        let old_soonest = entry.soonest();
        let at = entry.expire_at();
        let field = match access {
            Some(access) => access.field_used(entry.access_field(), &mut self.rng),
            None => entry.access_field(),
        };
        self.before_change(key, hash);
        let Some(entry) = self.table.entry_mut(hash, slot) else { return Ok(None) };
        let is_wide = entry.as_ref().edited();
        let mut collection = if entry.as_ref().large().is_some() {
            let hollow = entry.into_large().map(|large| {
                let hollow = large.hollow(&self.around);
                std::mem::replace(&mut **large, hollow)
            });
            match hollow.and_then(|large| C::from_large(large, is_wide, &self.around)) {
                Some(collection) => collection,
                None => return Err(WrongType),
            }
        } else {
            let mut block = self.around.scratch.take();
            block.clear();
            block.extend_from_slice(entry.as_ref().packed());
            C::from_packed(block, is_wide, &self.around)
        };
        let result = change(&mut collection);
        let new_soonest = collection.soonest();
        let is_gone = match collection.into_kept() {
            None => {
                drop(self.table.remove(hash, slot));
                self.reschedule(hash, at, None);
                true
            }
            Some((kept, is_wide)) => {
                let Some(mut entry) = self.table.entry_mut(hash, slot) else { return Ok(None) };
                match kept {
                    Kept::Large(large) if entry.as_ref().large().is_some() => {
                        entry.set_access(field);
                        entry.set_wide(is_wide);
                        if let Some(place) = entry.into_large() {
                            **place = large;
                        }
                    }
                    Kept::Large(large) => {
                        let stored = Stored::Large(Box::new(large));
                        if let Err(stored) = entry.overwrite(stored, is_wide, at, field) {
                            let entry = EntryBox::new(key, stored, is_wide, at, field);
                            drop(self.table.replace(hash, slot, entry));
                        }
                    }
                    Kept::Packed(block) => {
                        let stored = Stored::Packed(C::KIND, &block);
                        if let Err(stored) = entry.overwrite(stored, is_wide, at, field) {
                            let entry = EntryBox::new(key, stored, is_wide, at, field);
                            drop(self.table.replace(hash, slot, entry));
                        }
                        self.around.scratch.replace(block);
                    }
                }
                false
            }
        };
        let new_soonest = if is_gone { None } else { new_soonest };
        self.reschedule_fields(hash, old_soonest, new_soonest);
        Ok(Some(Edited { result, is_new: false, is_gone }))
    }

    /// Keeps a collection under a key that is not there. False if it has no elements.
    fn keep_new<C: Lent>(&mut self, key: &[u8], hash: Hash, collection: C, field: u32) -> bool {
        let Some((kept, is_wide)) = collection.into_kept() else { return false };
        let entry = match kept {
            Kept::Large(large) => EntryBox::new(key, Stored::Large(Box::new(large)), is_wide, None, field),
            Kept::Packed(block) => {
                let entry = EntryBox::new(key, Stored::Packed(C::KIND, &block), is_wide, None, field);
                self.around.scratch.replace(block);
                entry
            }
        };
        self.insert(hash, entry);
        true
    }

    /// Gives a key a collection in place of what it has, and no deadline; one without elements removes the key.
    pub(crate) fn put_collection<C: Lent>(&mut self, key: &[u8], hash: Hash, collection: C, access: &Access) {
        self.remove(key, hash);
        self.keep_new(key, hash, collection, access.field_new());
    }

    /// Gives a key a list in place of what it has, and no deadline; one without elements removes the key.
    pub fn set_list(&mut self, key: &[u8], hash: Hash, list: List, access: &Access) {
        self.put_collection(key, hash, list, access);
    }

    /// The same with a hash.
    pub fn set_fields(&mut self, key: &[u8], hash: Hash, fields: FieldMap, access: &Access) {
        self.put_collection(key, hash, fields, access);
    }

    /// A list of this keyspace as it is now, to be changed apart from its key.
    #[must_use]
    pub fn copy_list(&self, list: ListRef<'_>) -> List {
        list.copied(&self.around)
    }

    /// A hash of this keyspace as it is now, to be changed apart from its key.
    #[must_use]
    pub fn copy_fields(&self, fields: FieldMapRef<'_>) -> FieldMap {
        fields.copied(&self.around)
    }

    /// An empty list that belongs nowhere yet.
    #[must_use]
    pub fn new_list(&self) -> List {
        List::empty(&self.around)
    }

    /// An empty hash that belongs nowhere yet.
    #[must_use]
    pub fn new_fields(&self) -> FieldMap {
        FieldMap::empty(&self.around)
    }

    /// Notes that the soonest deadline inside an entry has changed, after it has.
    pub(super) fn reschedule_fields(&mut self, hash: Hash, old: Option<i64>, new: Option<i64>) {
        if old == new {
            return;
        }
        if let Some(at) = old {
            let (table, hasher) = (&self.table, &self.around.hasher);
            let is_same = |entry: crate::EntryRef<'_>| entry.soonest() == Some(at) && hasher.hash(entry.key()) == hash;
            self.field_timers.remove(at, hash.0, || table.find(hash, is_same).is_some());
        }
        if let Some(at) = new {
            self.field_timers.add(at, hash.0);
        }
    }

    /// Removes up to `max` fields of one hash that are due, of the hash whose are soonest; `on_expired` is given
    /// its key, the fields, and whether the key is gone with them. Returns how many.
    pub(crate) fn expire_fields(
        &mut self,
        now_ms: i64,
        max: usize,
        on_expired: &mut dyn FnMut(ExpiredFields<'_>),
    ) -> usize {
        let Some((at, hash)) = self.field_timers.first().filter(|&(at, _)| at <= now_ms) else { return 0 };
        let hash = Hash(hash);
        let key = self.find_hash(hash, |entry| entry.soonest() == Some(at)).map(|(_, entry)| entry.key().to_vec());
        let Some(key) = key else {
            debug_assert!(false, "every deadline has its hash");
            self.field_timers.forget(at, hash.0);
            return 1;
        };
        let mut gone: Vec<Box<[u8]>> = Vec::new();
        let edited = self.edit(&key, hash, None, false, |fields: &mut FieldMap| {
            fields.expire_due(now_ms, max, &mut |field| gone.push(field.into()))
        });
        if let Ok(Some(edited)) = edited {
            on_expired(ExpiredFields { db: 0, key: &key, fields: &gone, is_gone: edited.is_gone });
        }
        gone.len()
    }

    pub(crate) fn take_timers(&mut self) -> [Timers; 2] {
        [std::mem::take(&mut self.timers), std::mem::take(&mut self.field_timers)]
    }
}
