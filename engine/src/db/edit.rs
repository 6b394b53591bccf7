//! Strings changed in place: what APPEND, SETRANGE and SETBIT do.

use super::Db;
use crate::access::Access;
use crate::blob::Blob;
use crate::entry::{EntryBox, EntryMut, Stored};
use crate::hash::Hash;
use crate::kind::WrongType;
use crate::long::{CHUNK_BYTES, LongString};
use crate::number::IntText;
use crate::table::Slot;
use crate::value::{EMBED_LEN_MAX, Expire, StringMut, StringRef};

/// The form of a raw string of `len` bytes that begins with `bytes` and goes on with zeros.
fn raw_string(bytes: &[u8], len: usize) -> Stored<'_> {
    if len <= EMBED_LEN_MAX {
        return Stored::Embedded { bytes, len };
    }
    Stored::Long(LongString::with_zeros(bytes, len))
}

/// The string of an entry that is raw, and its own from here on.
fn lent(entry: EntryMut<'_>, len: usize) -> Option<StringMut<'_>> {
    Some(if entry.as_ref().string().ok()?.as_long().is_some() {
        StringMut::Long(entry.into_long()?.grown(len))
    } else {
        StringMut::Bytes(entry.into_embedded())
    })
}

impl Db {
    /// The string of a key for writing, filled up with zeros if it is shorter than `len`. It becomes raw
    /// and keeps its deadline. None if the key is missing. Growing a string again and again takes
    /// amortised constant time a byte; of one that is long and held by somebody else, what is written is copied
    /// first.
    ///
    /// # Errors
    /// The key has another type.
    pub fn edit_string(
        &mut self,
        key: &[u8],
        hash: Hash,
        access: &Access,
        len: usize,
    ) -> Result<Option<StringMut<'_>>, WrongType> {
        match self.table.find_key(key, hash) {
            None => Ok(None),
            Some((slot, entry)) => {
                let len = len.max(entry.string()?.len());
                Ok(self.edit_string_at(key, hash, slot, access, len))
            }
        }
    }

    fn edit_string_at(
        &mut self,
        key: &[u8],
        hash: Hash,
        slot: Slot,
        access: &Access,
        len: usize,
    ) -> Option<StringMut<'_>> {
        let entry = self.table.entry(hash, slot)?;
        let field = access.field_used(entry.access_field(), &mut self.rng);
        let at = entry.expire_at();
        self.before_change(key, hash);
        let mut in_place = self.table.entry_mut(hash, slot)?;
        let value = in_place.as_ref().string().ok()?;
        if value.as_long().is_some() || (len <= EMBED_LEN_MAX && in_place.resize_embedded(len)) {
            in_place.set_edited();
            in_place.set_access(field);
        } else {
            let replacement = match in_place.as_ref().string().ok()? {
                StringRef::Int(value) => {
                    EntryBox::new(key, raw_string(IntText::new(value).as_bytes(), len), true, at, field)
                }
                StringRef::Bytes(bytes) => EntryBox::new(key, raw_string(bytes, len), true, at, field),
                StringRef::Long(_) => return None,
            };
            drop(self.table.replace(hash, slot, replacement));
        }
        lent(self.table.entry_mut(hash, slot)?, len)
    }

    /// A new raw string of `len` zeros for writing, without a deadline, in place of what the key had.
    pub fn create_string(&mut self, key: &[u8], hash: Hash, access: &Access, len: usize) -> StringMut<'_> {
        self.put(key, hash, raw_string(&[], len), true, Expire::Clear, access);
        self.table.find_key_mut(key, hash).and_then(|entry| lent(entry, len)).unwrap_or(StringMut::Bytes(&mut []))
    }

    /// Appends to the string of a key, of which nothing is copied if both are long. It becomes raw and keeps its
    /// deadline. None if the key is missing; else the new length.
    ///
    /// # Errors
    /// The key has another type.
    pub fn append(&mut self, key: &[u8], hash: Hash, access: &Access, tail: &Blob) -> Result<Option<usize>, WrongType> {
        let Some(entry) = self.find(key, hash) else { return Ok(None) };
        let string = entry.string()?;
        let len = string.len() + tail.len();
        if tail.len() < CHUNK_BYTES {
            let at = string.len();
            if let Some(mut string) = self.edit_string(key, hash, access, len)? {
                string.write(at, tail.as_slice());
            }
        } else if string.as_long().is_some() {
            if let Some(StringMut::Long(long)) = self.edit_string(key, hash, access, 0)? {
                long.append(&tail.shared());
            }
        } else {
            let mut long = LongString::in_chunks(&string.to_vec());
            long.append(&tail.shared());
            self.put(key, hash, Stored::Long(long), true, Expire::Keep, access);
        }
        Ok(Some(len))
    }
}
