//! What a value is to the engine's callers: the forms it is given in, read as, and reported as.

use crate::blob::Blob;
use crate::number::{self, IntText};
use crate::types::hash::FieldMapRef;
use crate::types::list::ListRef;

/// Strings up to this many bytes lie inside their entry, longer ones in a [`Blob`].
pub(crate) const EMBED_LEN_MAX: usize = 1024;
/// A string set whole is reported as [`Encoding::EmbStr`] if Valkey would embed it with its key and
/// expiry: if these and what it keeps beside them fit into this many bytes.
const EMBSTR_OBJECT_BYTES_MAX: usize = 128;
/// What Valkey keeps beside key and value: its object's header, the lengths of both and their ends.
const EMBSTR_OVERHEAD_BYTES: usize = 14;

/// A stored value, borrowed.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// A string.
    String(StringRef<'a>),
    /// A list.
    List(ListRef<'a>),
    /// A hash.
    Hash(FieldMapRef<'a>),
}

/// How a value is reported by `OBJECT ENCODING`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// A 64-bit integer.
    Int,
    /// Short, set whole.
    EmbStr,
    /// Longer, or edited in place.
    Raw,
    /// A small collection.
    ListPack,
    /// A large list.
    QuickList,
    /// A large hash.
    HashTable,
}

impl Encoding {
    /// Its name, as `OBJECT ENCODING` says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Encoding::Int => "int",
            Encoding::EmbStr => "embstr",
            Encoding::Raw => "raw",
            Encoding::ListPack => "listpack",
            Encoding::QuickList => "quicklist",
            Encoding::HashTable => "hashtable",
        }
    }

    pub(crate) fn of_string(len: usize, key_len: usize, expires: bool, edited: bool) -> Self {
        let key_header = match key_len {
            0..32 => 1,
            32..256 => 3,
            _ => 5,
        };
        let object = EMBSTR_OVERHEAD_BYTES + key_header + key_len + if expires { 8 } else { 0 } + len;
        if edited || object > EMBSTR_OBJECT_BYTES_MAX { Encoding::Raw } else { Encoding::EmbStr }
    }
}

/// What happens to a key's expiry when its value is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expire {
    /// The key shall not expire.
    Clear,
    /// The deadline stays as it is, if there is one.
    Keep,
    /// A deadline in Unix milliseconds.
    At(i64),
}

/// A string to store.
pub enum NewValue<'a> {
    /// An integer.
    Int(i64),
    /// Bytes; those that are the canonical decimal text of an i64 are stored as the integer.
    Bytes(&'a [u8]),
    /// Bytes stored as they are and reported as [`Encoding::Raw`].
    Raw(&'a [u8]),
    /// A long string to take over. One short enough to lie in the entry is copied, like `Bytes`.
    Blob(Blob),
}

/// A stored string, borrowed.
#[derive(Clone, Copy)]
pub enum StringRef<'a> {
    /// An integer.
    Int(i64),
    /// Bytes inside the entry.
    Bytes(&'a [u8]),
    /// Bytes of their own.
    Blob(&'a Blob),
}

impl StringRef<'_> {
    /// Hands the bytes to `read`; an integer's decimal text is made on the stack.
    #[inline]
    pub fn with_bytes<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            StringRef::Int(value) => read(IntText::new(*value).as_bytes()),
            StringRef::Bytes(bytes) => read(bytes),
            StringRef::Blob(blob) => read(blob.as_slice()),
        }
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.with_bytes(<[u8]>::to_vec)
    }

    /// Length of the string in bytes; of an integer, of its decimal text.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            StringRef::Int(value) => number::text_len(*value),
            StringRef::Bytes(bytes) => bytes.len(),
            StringRef::Blob(blob) => blob.len(),
        }
    }

    /// Whether the string is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The integer this string is, if it is the canonical decimal text of one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            StringRef::Int(value) => Some(*value),
            StringRef::Bytes(bytes) => number::parse_canonical(bytes),
            StringRef::Blob(blob) => number::parse_canonical(blob.as_slice()),
        }
    }
}
