//! Reading entries: what the engine's callers see of a key and its value.

use std::marker::PhantomData;

use super::raw::Raw;
use crate::access::{self, Access};
use crate::kind::{Kind, WrongType};
use crate::long::LongString;
use crate::prefetch::prefetch;
use crate::size_class::class_of;
use crate::types::Large;
use crate::types::hash::FieldMapRef;
use crate::types::list::ListRef;
use crate::value::{Encoding, StringRef, Value};

/// A key with its value and what is kept about it, borrowed from a database.
#[derive(Clone, Copy)]
pub struct EntryRef<'a> {
    raw: Raw,
    borrows: PhantomData<&'a LongString>,
}

impl<'a> EntryRef<'a> {
    /// # Safety
    /// The entry is live, and neither freed nor changed while `'a` lasts.
    #[inline(always)]
    pub(super) unsafe fn new(raw: Raw) -> Self {
        EntryRef { raw, borrows: PhantomData }
    }

    /// # Safety
    /// `address` is from [`EntryBox::into_address`](super::EntryBox::into_address), and the entry is neither freed nor changed while
    /// `'a` lasts.
    #[inline(always)]
    pub(crate) unsafe fn from_address(address: u64) -> Self {
        // SAFETY: passed on to the caller.
        EntryRef { raw: unsafe { Raw::from_address(address) }, borrows: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.raw.address()
    }

    /// The key.
    #[inline]
    pub fn key(self) -> &'a [u8] {
        // SAFETY: the entry may be read while `'a` lasts.
        unsafe { self.raw.key() }
    }

    #[inline(always)]
    pub(crate) fn has_key(self, key: &[u8]) -> bool {
        self.key() == key
    }

    /// The value.
    #[inline]
    pub fn value(self) -> Value<'a> {
        if let Ok(string) = self.string() {
            return Value::String(string);
        }
        let is_wide = self.edited();
        match (self.kind(), self.large()) {
            (_, Some(Large::List(tree))) => Value::List(ListRef::tree(tree, is_wide)),
            (_, Some(Large::Hash(tree))) => Value::Hash(FieldMapRef::tree(tree, is_wide)),
            (Kind::Hash, None) => Value::Hash(FieldMapRef::packed(self.packed(), is_wide)),
            (_, None) => Value::List(ListRef::packed(self.packed(), is_wide)),
        }
    }

    /// The value as a string.
    ///
    /// # Errors
    /// It is of another type.
    #[inline]
    pub fn string(self) -> Result<StringRef<'a>, WrongType> {
        // SAFETY: the entry may be read while `'a` lasts, and the header says what the value is.
        unsafe {
            let header = self.raw.header();
            if !header.is_string() {
                Err(WrongType)
            } else if header.is_embedded() {
                Ok(StringRef::Bytes(self.raw.embedded()))
            } else if header.is_long() {
                Ok(StringRef::Long(self.raw.long()))
            } else {
                Ok(StringRef::Int(self.raw.int()))
            }
        }
    }

    /// The value as a list.
    ///
    /// # Errors
    /// It is of another type.
    #[inline]
    pub fn list(self) -> Result<ListRef<'a>, WrongType> {
        match self.value() {
            Value::List(list) => Ok(list),
            _ => Err(WrongType),
        }
    }

    /// The value as a hash.
    ///
    /// # Errors
    /// It is of another type.
    #[inline]
    pub fn fields(self) -> Result<FieldMapRef<'a>, WrongType> {
        match self.value() {
            Value::Hash(fields) => Ok(fields),
            _ => Err(WrongType),
        }
    }

    /// The block of a collection, if it is packed.
    pub(crate) fn packed(self) -> &'a [u8] {
        // SAFETY: the entry may be read while `'a` lasts; what is embedded is bytes, whatever the type.
        unsafe { if self.raw.header().is_embedded() { self.raw.embedded() } else { &[] } }
    }

    /// The collection, if it is large.
    #[inline]
    pub(crate) fn large(self) -> Option<&'a Large> {
        // SAFETY: the entry may be read while `'a` lasts, and the header says what the value is.
        unsafe { self.raw.header().is_large().then(|| self.raw.large()) }
    }

    /// The soonest deadline inside the value, in Unix milliseconds.
    #[inline]
    pub(crate) fn soonest(self) -> Option<i64> {
        match self.kind() {
            Kind::Hash => self.fields().ok().and_then(FieldMapRef::soonest),
            Kind::String | Kind::List => None,
        }
    }

    /// The type of the value.
    #[inline]
    pub fn kind(self) -> Kind {
        // SAFETY: the entry may be read while `'a` lasts.
        unsafe { self.raw.header() }.kind()
    }

    /// How the value is reported by `OBJECT ENCODING`.
    pub fn encoding(self) -> Encoding {
        match self.value() {
            Value::String(StringRef::Int(_)) => Encoding::Int,
            Value::String(value) => {
                Encoding::of_string(value.len(), self.key().len(), self.expire_at().is_some(), self.edited())
            }
            Value::List(list) if list.is_wide() => Encoding::QuickList,
            Value::Hash(fields) if fields.is_wide() => Encoding::HashTable,
            Value::List(_) | Value::Hash(_) => Encoding::ListPack,
        }
    }

    pub(crate) fn edited(self) -> bool {
        // SAFETY: the entry may be read while `'a` lasts.
        unsafe { self.raw.header() }.is_edited()
    }

    /// The deadline in Unix milliseconds, if there is one.
    #[inline]
    pub fn expire_at(self) -> Option<i64> {
        // SAFETY: the entry may be read while `'a` lasts.
        unsafe { self.raw.expire_at() }
    }

    #[inline]
    pub(crate) fn access_field(self) -> u32 {
        // SAFETY: the entry may be read while `'a` lasts.
        unsafe { self.raw.header() }.access()
    }

    /// Seconds since the last recorded access. Means nothing while accesses are recorded as frequencies.
    pub fn idle_seconds(self, now_ms: i64) -> u64 {
        access::idle_seconds(self.access_field(), now_ms)
    }

    /// The logarithmic counter of accesses, decayed to now. Means nothing while accesses are recorded as times.
    pub fn lfu_count(self, access: &Access) -> u8 {
        access.count_decayed(self.access_field())
    }

    /// Bytes of memory of key and value with all that belongs to them, but for their place in the table.
    pub fn memory_bytes(self) -> usize {
        // SAFETY: the entry may be read while `'a` lasts.
        let size = unsafe { self.raw.header().size(self.raw.key_len()) };
        let apart = match (self.string(), self.large()) {
            (Ok(StringRef::Long(long)), _) => long.memory_bytes(),
            (_, Some(large)) => class_of(size_of::<Large>()) + large.memory_bytes(),
            _ => 0,
        };
        class_of(size) + apart
    }

    /// Starts bringing the entry's first line into the cache, without reading it.
    #[inline(always)]
    pub(crate) fn prefetch(self) {
        prefetch(self.raw.start());
    }

    /// Starts bringing a long value's control words into the cache. Reads the entry.
    #[inline]
    pub(crate) fn prefetch_value(self) {
        match (self.string(), self.large()) {
            (Ok(StringRef::Long(long)), _) => prefetch(long.control_address()),
            (Ok(StringRef::Bytes(bytes)), _) => prefetch(bytes.as_ptr()),
            (Err(_), Some(large)) => prefetch(std::ptr::from_ref(large).cast::<u8>()),
            _ => {}
        }
    }
}
