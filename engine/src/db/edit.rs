//! Strings changed in place: what APPEND, SETRANGE and SETBIT do.

use super::Db;
use crate::access::Access;
use crate::blob::{Blob, with_zeros};
use crate::entry::{EntryBox, Stored};
use crate::hash::Hash;
use crate::kind::WrongType;
use crate::number::IntText;
use crate::table::Slot;
use crate::value::{EMBED_LEN_MAX, Expire, StringRef};

/// The form of a raw string of `len` bytes that begins with `bytes` and goes on with zeros.
fn raw_string(bytes: &[u8], len: usize) -> Stored<'_> {
    if len <= EMBED_LEN_MAX {
        return Stored::Embedded { bytes, len };
    }
    Stored::Blob(Blob::from_vec(with_zeros(bytes, len)))
}

impl Db {
    /// The string of a key for writing, `len` bytes long: cut, or filled up with zeros. It becomes raw
    /// and keeps its deadline. None if the key is missing. Growing a string again and again takes
    /// amortised constant time a byte, and one that somebody else holds is copied first.
    ///
    /// # Errors
    /// The key has another type.
    pub fn edit_string(
        &mut self,
        key: &[u8],
        hash: Hash,
        access: &Access,
        len: usize,
    ) -> Result<Option<&mut [u8]>, WrongType> {
        match self.table.find_key(key, hash) {
            None => Ok(None),
            Some((_, entry)) if entry.string().is_err() => Err(WrongType),
            Some((slot, _)) => Ok(self.edit_string_at(key, hash, slot, access, len)),
        }
    }

    fn edit_string_at(&mut self, key: &[u8], hash: Hash, slot: Slot, access: &Access, len: usize) -> Option<&mut [u8]> {
        let entry = self.table.entry(hash, slot)?;
        let field = access.field_used(entry.access_field(), &mut self.rng);
        let at = entry.expire_at();
        self.before_change(key, hash);
        let mut in_place = self.table.entry_mut(hash, slot)?;
        let is_blob = matches!(in_place.as_ref().string(), Ok(StringRef::Blob(_)));
        if is_blob || (len <= EMBED_LEN_MAX && in_place.resize_embedded(len)) {
            in_place.set_edited();
            in_place.set_access(field);
        } else {
            let replacement = match entry_value(in_place.as_ref().string().ok()?) {
                Text::Int(text) => EntryBox::new(key, raw_string(text.as_bytes(), len), true, at, field),
                Text::Bytes(bytes) => EntryBox::new(key, raw_string(bytes, len), true, at, field),
            };
            drop(self.table.replace(hash, slot, replacement));
        }
        let entry = self.table.entry_mut(hash, slot)?;
        Some(if matches!(entry.as_ref().string(), Ok(StringRef::Blob(_))) {
            entry.into_blob()?.resized(len)
        } else {
            entry.into_embedded()
        })
    }

    /// A new raw string of `len` zeros for writing, without a deadline, in place of what the key had.
    pub fn create_string(&mut self, key: &[u8], hash: Hash, access: &Access, len: usize) -> &mut [u8] {
        self.put(key, hash, raw_string(&[], len), true, Expire::Clear, access);
        let Some(entry) = self.table.find_key_mut(key, hash) else { return &mut [] };
        if len > EMBED_LEN_MAX {
            return entry.into_blob().map_or(&mut [], |blob| blob.resized(len));
        }
        entry.into_embedded()
    }
}

/// A value that is not a blob, as text.
enum Text<'a> {
    Int(IntText),
    Bytes(&'a [u8]),
}

fn entry_value(value: StringRef<'_>) -> Text<'_> {
    match value {
        StringRef::Int(value) => Text::Int(IntText::new(value)),
        StringRef::Bytes(bytes) => Text::Bytes(bytes),
        StringRef::Blob(blob) => Text::Bytes(blob.as_slice()),
    }
}
