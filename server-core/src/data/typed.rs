//! Values by their type, to read and to change. A command has no other way to what a key holds, so that none can
//! forget to ask of what type it is.

use tercel_engine::{Edited, EntryRef, FieldMap, FieldMapRef, List, ListRef, StringRef, WrongType};

use super::{Dataset, Key};
use crate::command::event_class as class;

/// A value that may be missing, or of another type.
pub type Typed<T> = Result<Option<T>, WrongType>;

/// What a change of a collection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<R> {
    /// What there is to tell of it.
    pub result: R,
    /// How many changes it counts as; None if nothing changed.
    pub changed: Option<u64>,
}

impl Dataset {
    /// The string of a key, read as a client reads it ([`Dataset::read`]).
    ///
    /// # Errors
    /// The key has another type; here as below.
    #[inline]
    pub fn read_string(&mut self, db: usize, key: Key<'_>) -> Typed<StringRef<'_>> {
        self.read(db, key).map(EntryRef::string).transpose()
    }

    /// The list of a key, read as a client reads it.
    ///
    /// # Errors
    /// As above.
    #[inline]
    pub fn read_list(&mut self, db: usize, key: Key<'_>) -> Typed<ListRef<'_>> {
        self.read(db, key).map(EntryRef::list).transpose()
    }

    /// The hash of a key, read as a client reads it.
    ///
    /// # Errors
    /// As above.
    #[inline]
    pub fn read_fields(&mut self, db: usize, key: Key<'_>) -> Typed<FieldMapRef<'_>> {
        self.read(db, key).map(EntryRef::fields).transpose()
    }

    /// The string of a key that will be changed ([`Dataset::peek_to_write`]).
    ///
    /// # Errors
    /// As above.
    #[inline]
    pub fn string_to_write(&mut self, db: usize, key: Key<'_>) -> Typed<StringRef<'_>> {
        self.peek_to_write(db, key).map(EntryRef::string).transpose()
    }

    /// The list of a key that will be changed.
    ///
    /// # Errors
    /// As above.
    #[inline]
    pub fn list_to_write(&mut self, db: usize, key: Key<'_>) -> Typed<ListRef<'_>> {
        self.peek_to_write(db, key).map(EntryRef::list).transpose()
    }

    /// The hash of a key that will be changed.
    ///
    /// # Errors
    /// As above.
    #[inline]
    pub fn fields_to_write(&mut self, db: usize, key: Key<'_>) -> Typed<FieldMapRef<'_>> {
        self.peek_to_write(db, key).map(EntryRef::fields).transpose()
    }

    /// Lets `change` change the list of a key; where there is none it is empty, if `create` says so. The key of a
    /// list that has no elements left is gone: to tell of that is up to the command, after what it has to tell.
    ///
    /// # Errors
    /// The key has another type.
    pub fn edit_list<R>(
        &mut self,
        db: usize,
        key: Key<'_>,
        create: bool,
        change: impl FnOnce(&mut List) -> Change<R>,
    ) -> Typed<Edited<R>> {
        self.expire_if_due(db, key);
        let access = self.access;
        let edited = self.keyspace.db_mut(db).edit_list(key.bytes, key.hash, &access, create, change)?;
        Ok(self.edited(db, key, edited))
    }

    /// The same for the hash of a key.
    ///
    /// # Errors
    /// The key has another type.
    pub fn edit_fields<R>(
        &mut self,
        db: usize,
        key: Key<'_>,
        create: bool,
        change: impl FnOnce(&mut FieldMap) -> Change<R>,
    ) -> Typed<Edited<R>> {
        self.expire_if_due(db, key);
        let access = self.access;
        let edited = self.keyspace.db_mut(db).edit_fields(key.bytes, key.hash, &access, create, change)?;
        Ok(self.edited(db, key, edited))
    }

    fn edited<R>(&mut self, db: usize, key: Key<'_>, edited: Option<Edited<Change<R>>>) -> Option<Edited<R>> {
        let Edited { result: Change { result, changed }, is_new, is_gone } = edited?;
        if is_new && !is_gone {
            self.notify(class::NEW, "new", db, key.bytes);
        }
        if let Some(changes) = changed {
            self.changed_much(db, key, changes);
        }
        Some(Edited { result, is_new, is_gone })
    }

    /// Gives a key a list in place of what it has, without a deadline. One without elements removes the key.
    pub fn store_list(&mut self, db: usize, key: Key<'_>, list: List) {
        let access = self.access;
        let data = self.keyspace.db_mut(db);
        let is_new = data.find(key.bytes, key.hash).is_none() && !list.is_empty();
        data.set_list(key.bytes, key.hash, list, &access);
        self.stored(db, key, is_new);
    }

    /// The same with a hash.
    pub fn store_fields(&mut self, db: usize, key: Key<'_>, fields: FieldMap) {
        let access = self.access;
        let data = self.keyspace.db_mut(db);
        let is_new = data.find(key.bytes, key.hash).is_none() && !fields.is_empty();
        data.set_fields(key.bytes, key.hash, fields, &access);
        self.stored(db, key, is_new);
    }

    /// Takes a list of a snapshot in, as [`Dataset::load`] a string.
    pub fn load_list(&mut self, db: usize, key: Key<'_>, list: List) {
        let access = self.access;
        self.keyspace.db_mut(db).set_list(key.bytes, key.hash, list, &access);
    }

    /// The same with a hash.
    pub fn load_fields(&mut self, db: usize, key: Key<'_>, fields: FieldMap) {
        let access = self.access;
        self.keyspace.db_mut(db).set_fields(key.bytes, key.hash, fields, &access);
    }

    /// Gives a key that was taken in its deadline.
    pub fn load_expire(&mut self, db: usize, key: Key<'_>, at_ms: i64) {
        self.keyspace.db_mut(db).set_expire(key.bytes, key.hash, Some(at_ms));
    }

    /// The hash of a key as it is now, to be changed apart from it. Costs the same whatever its size.
    #[must_use]
    pub fn copy_fields(&self, db: usize, key: Key<'_>) -> Option<FieldMap> {
        let fields = self.peek(db, key)?.fields().ok()?;
        Some(self.keyspace.db(db).copy_fields(fields))
    }

    /// An empty hash that is no key's yet.
    #[must_use]
    pub fn new_fields(&self, db: usize) -> FieldMap {
        self.keyspace.db(db).new_fields()
    }

    /// An empty list that is no key's yet.
    #[must_use]
    pub fn new_list(&self, db: usize) -> List {
        self.keyspace.db(db).new_list()
    }

    fn stored(&mut self, db: usize, key: Key<'_>, is_new: bool) {
        if is_new {
            self.notify(class::NEW, "new", db, key.bytes);
        }
        self.changed(db, key);
    }

    /// The list of a key as it is now, to be changed apart from it. Costs the same whatever its size.
    #[must_use]
    pub fn copy_list(&self, db: usize, key: Key<'_>) -> Option<List> {
        let list = self.peek(db, key)?.list().ok()?;
        Some(self.keyspace.db(db).copy_list(list))
    }
}
