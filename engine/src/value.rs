//! What a value is to the engine's callers: the forms it is given in, read as, and reported as.

use crate::blob::Blob;
use crate::long::LongString;
use crate::number::{self, IntText};
use crate::types::hash::FieldMapRef;
use crate::types::list::ListRef;

/// Strings up to this many bytes lie inside their entry, longer ones apart from it.
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
    /// A long string as another value has it, longer than what lies in an entry. Reported as [`Encoding::Raw`].
    Long(LongString),
}

/// A stored string, borrowed.
#[derive(Clone, Copy)]
pub enum StringRef<'a> {
    /// An integer.
    Int(i64),
    /// Bytes inside the entry.
    Bytes(&'a [u8]),
    /// A long string, perhaps in several pieces.
    Long(&'a LongString),
}

impl<'a> StringRef<'a> {
    /// Hands the bytes to `read`, if they lie together: a string of more than some hundred kibibytes may not. An
    /// integer's decimal text is made on the stack.
    #[inline]
    pub fn with_bytes<R>(self, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        match self {
            StringRef::Int(value) => Some(read(IntText::new(value).as_bytes())),
            StringRef::Bytes(bytes) => Some(read(bytes)),
            StringRef::Long(long) => long.whole().map(read),
        }
    }

    /// Copies bytes from `at` on, as many as there are and `into` takes. Returns how many.
    #[inline]
    pub fn read(self, at: usize, into: &mut [u8]) -> usize {
        let mut copy = |bytes: &[u8]| {
            let bytes = bytes.get(at..).unwrap_or_default();
            let len = bytes.len().min(into.len());
            into[..len].copy_from_slice(&bytes[..len]);
            len
        };
        match self {
            StringRef::Int(value) => copy(IntText::new(value).as_bytes()),
            StringRef::Bytes(bytes) => copy(bytes),
            StringRef::Long(long) => long.read(at, into),
        }
    }

    /// The byte at a place, if it is that long.
    #[inline]
    pub fn byte(self, at: usize) -> Option<u8> {
        let mut byte = [0];
        (self.read(at, &mut byte) == 1).then_some(byte[0])
    }

    /// Whether these are its bytes.
    pub fn equals(self, bytes: &[u8]) -> bool {
        self.len() == bytes.len()
            && match self {
                StringRef::Long(long) => {
                    let mut at = 0;
                    long.pieces(0..bytes.len()).all(|piece| {
                        at += piece.len();
                        *piece == bytes[at - piece.len()..at]
                    })
                }
                short => short.with_bytes(|own| own == bytes).unwrap_or(false),
            }
    }

    /// A copy of the bytes.
    pub fn to_vec(self) -> Vec<u8> {
        match self {
            StringRef::Int(value) => IntText::new(value).as_bytes().to_vec(),
            StringRef::Bytes(bytes) => bytes.to_vec(),
            StringRef::Long(long) => long.copied(0..long.len()),
        }
    }

    /// Length of the string in bytes; of an integer, of its decimal text.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            StringRef::Int(value) => number::text_len(value),
            StringRef::Bytes(bytes) => bytes.len(),
            StringRef::Long(long) => long.len(),
        }
    }

    /// Whether the string is empty.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The integer this string is, if it is the canonical decimal text of one. No long one is.
    pub fn as_int(self) -> Option<i64> {
        match self {
            StringRef::Int(value) => Some(value),
            StringRef::Bytes(bytes) => number::parse_canonical(bytes),
            StringRef::Long(_) => None,
        }
    }

    /// The same string, to be changed apart from its key, and filled up with zeros if it is shorter than `len`.
    pub fn apart(self, len: usize) -> LongString {
        match self {
            StringRef::Long(long) => long.clone(),
            short => LongString::from_vec(short.to_vec()),
        }
        .into_grown(len)
    }

    /// A long one.
    pub fn as_long(self) -> Option<&'a LongString> {
        match self {
            StringRef::Long(long) => Some(long),
            _ => None,
        }
    }
}

/// A stored string, lent to be written.
pub enum StringMut<'a> {
    /// Bytes inside the entry.
    Bytes(&'a mut [u8]),
    /// A long string.
    Long(&'a mut LongString),
}

impl StringMut<'_> {
    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            StringMut::Bytes(bytes) => bytes.len(),
            StringMut::Long(long) => long.len(),
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes from `at` on, as many as there are and `into` takes. Returns how many.
    #[inline]
    pub fn read(&self, at: usize, into: &mut [u8]) -> usize {
        match self {
            StringMut::Bytes(bytes) => StringRef::Bytes(bytes).read(at, into),
            StringMut::Long(long) => long.read(at, into),
        }
    }

    /// Writes bytes over those from `at` on; what is beyond its end is left out.
    #[inline]
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        match self {
            StringMut::Bytes(own) => {
                let own = own.get_mut(at..).unwrap_or_default();
                let len = bytes.len().min(own.len());
                own[..len].copy_from_slice(&bytes[..len]);
            }
            StringMut::Long(long) => long.write(at, bytes),
        }
    }
}
