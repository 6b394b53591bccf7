//! Editing strings in place.

use tercel_engine::{Blob, StringMut, WrongType};

use super::{Dataset, Key};
use crate::command::event_class as class;

impl Dataset {
    /// Makes a string at least `len` bytes long (creating it, filling with zeros) and lets `write` change it.
    ///
    /// # Errors
    /// The key has another type.
    pub fn write_string<R>(
        &mut self,
        db: usize,
        key: Key<'_>,
        len: usize,
        write: impl FnOnce(StringMut<'_>) -> R,
    ) -> Result<R, WrongType> {
        self.write_string_if(db, key, len, |string| (write(string), true))
    }

    /// The same for a writer that may find nothing to change, as its second result says: unless the string
    /// grew, watchers then hear nothing.
    ///
    /// # Errors
    /// The key has another type.
    pub fn write_string_if<R>(
        &mut self,
        db: usize,
        key: Key<'_>,
        len: usize,
        write: impl FnOnce(StringMut<'_>) -> (R, bool),
    ) -> Result<R, WrongType> {
        let access = self.access;
        let data = self.keyspace.db_mut(db);
        let stored_len = match data.find(key.bytes, key.hash) {
            Some(entry) => Some(entry.string()?.len()),
            None => None,
        };
        let is_new = stored_len.is_none();
        let (result, wrote) = if is_new {
            write(data.create_string(key.bytes, key.hash, &access, len))
        } else {
            match data.edit_string(key.bytes, key.hash, &access, len)? {
                Some(string) => write(string),
                None => write(data.create_string(key.bytes, key.hash, &access, len)),
            }
        };
        if is_new {
            self.notify(class::NEW, "new", db, key.bytes);
        }
        // A string that grew has changed, even if nothing was written to it.
        if wrote || stored_len.is_none_or(|stored| stored < len) {
            self.changed(db, key);
        }
        Ok(result)
    }

    /// Appends to a string that is there, of which nothing is copied if both are long: its new length. None if it is
    /// missing.
    ///
    /// # Errors
    /// The key has another type.
    pub fn append_string(&mut self, db: usize, key: Key<'_>, tail: &Blob) -> Result<Option<usize>, WrongType> {
        let access = self.access;
        let len = self.keyspace.db_mut(db).append(key.bytes, key.hash, &access, tail)?;
        if len.is_some() {
            self.changed(db, key);
        }
        Ok(len)
    }
}
