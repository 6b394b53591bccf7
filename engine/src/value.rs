//! What a value is to the engine's callers: the forms it is given in, read as, and reported as.

use std::sync::Arc;

use crate::number::{self, IntText};
use crate::size_class::class_of;
use crate::types::hash::FieldMapRef;
use crate::types::list::ListRef;

/// Strings up to this many bytes lie inside their entry, longer ones in a [`Blob`].
pub(crate) const EMBED_LEN_MAX: usize = 1024;
/// A string set whole is reported as [`Encoding::EmbStr`] if Valkey would embed it with its key and
/// expiry: if these and what it keeps beside them fit into this many bytes.
const EMBSTR_OBJECT_BYTES_MAX: usize = 128;
/// What Valkey keeps beside key and value: its object's header, the lengths of both and their ends.
const EMBSTR_OVERHEAD_BYTES: usize = 14;

/// What type of value an entry holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A string of bytes, possibly held as an integer.
    String = 0,
    /// A list.
    List = 1,
    /// A hash.
    Hash = 2,
}

impl Kind {
    /// Its name, as `TYPE` says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Hash => "hash",
        }
    }
}

/// The value is of another type than the one it was asked for as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongType;

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

/// From this length on, zeros are asked of the allocator rather than written: it has memory that the system
/// has cleared, or will when it is touched.
const ZEROED_LEN_MIN: usize = 64 << 10;

/// Up to this length a string that grows gets room for as much again.
const ROOM_DOUBLES_MAX: usize = 1 << 20;
/// Room that a longer one gets at most, beyond what it needs.
const ROOM_BYTES_MAX: usize = 64 << 20;

/// A string of `len` bytes that begins with `bytes`, as many as fit, and goes on with zeros.
pub(crate) fn with_zeros(bytes: &[u8], len: usize) -> Vec<u8> {
    let bytes = &bytes[..bytes.len().min(len)];
    if len - bytes.len() < ZEROED_LEN_MIN {
        let mut long = Vec::with_capacity(len);
        long.extend_from_slice(bytes);
        long.resize(len, 0);
        return long;
    }
    // All of what the allocator gives: it may grow within that.
    let mut long = vec![0; class_of(len)];
    long.truncate(len);
    long[..bytes.len()].copy_from_slice(bytes);
    long
}

/// A long string, shared by counting references: a reply may hold it while the key is overwritten.
#[derive(Clone)]
#[repr(transparent)]
pub struct Blob(Arc<Vec<u8>>);

impl Blob {
    /// Takes the bytes over without copying them.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Blob(Arc::new(bytes))
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Another holder of the same bytes, for code that need not know what they are.
    pub fn shared(&self) -> Arc<dyn AsRef<[u8]> + Send + Sync> {
        self.0.clone()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// The bytes for writing, `len` of them, zeros at the end. Copied first if somebody else holds them, or
    /// if most of what is to be there are zeros.
    pub(crate) fn resized(&mut self, len: usize) -> &mut [u8] {
        if Arc::get_mut(&mut self.0).is_none() || len / 2 > self.0.capacity().max(ZEROED_LEN_MIN) {
            self.0 = Arc::new(with_zeros(&self.0, len));
        }
        // Nobody else holds it now, so this does not copy.
        let bytes = Arc::make_mut(&mut self.0);
        if len > bytes.capacity() && len > ROOM_DOUBLES_MAX {
            // Twice as much would take long to copy into, and mostly stay unused.
            let room = class_of(len + (len / 8).min(ROOM_BYTES_MAX));
            bytes.reserve_exact(room - bytes.len());
        }
        bytes.resize(len, 0);
        bytes
    }

    /// Where the reference count and the vector's own words lie, for prefetching.
    pub(crate) fn control_address(&self) -> *const u8 {
        Arc::as_ptr(&self.0).cast()
    }
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
