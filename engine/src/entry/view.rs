//! Reading entries: what the engine's callers see of a key and its value.

use std::marker::PhantomData;

use super::raw::Raw;
use crate::access::{self, Access};
use crate::prefetch::prefetch;
use crate::size_class::class_of;
use crate::value::{Blob, Encoding, Kind, ValueRef};

/// A key with its value and what is kept about it, borrowed from a database.
#[derive(Clone, Copy)]
pub struct EntryRef<'a> {
    raw: Raw,
    borrows: PhantomData<&'a Blob>,
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
    pub fn value(self) -> ValueRef<'a> {
        // SAFETY: the entry may be read while `'a` lasts, and the header says what the value is.
        unsafe {
            let header = self.raw.header();
            if header.is_embedded() {
                ValueRef::Bytes(self.raw.embedded())
            } else if header.is_blob() {
                ValueRef::Blob(self.raw.blob())
            } else {
                ValueRef::Int(self.raw.int())
            }
        }
    }

    /// The type of the value.
    pub fn kind(self) -> Kind {
        // SAFETY: the entry may be read while `'a` lasts.
        debug_assert!(unsafe { self.raw.header() }.is_string());
        Kind::String
    }

    /// How the value is reported by `OBJECT ENCODING`.
    pub fn encoding(self) -> Encoding {
        match self.value() {
            ValueRef::Int(_) => Encoding::Int,
            value => Encoding::of_string(value.len(), self.key().len(), self.expire_at().is_some(), self.edited()),
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
        /// The reference counts and the vector's words.
        const BLOB_CONTROL: usize = class_of(2 * size_of::<usize>() + size_of::<Vec<u8>>());
        // SAFETY: the entry may be read while `'a` lasts.
        let size = unsafe { self.raw.header().size(self.raw.key_len()) };
        let blob = match self.value() {
            ValueRef::Blob(blob) => BLOB_CONTROL + class_of(blob.capacity()),
            _ => 0,
        };
        class_of(size) + blob
    }

    /// Starts bringing the entry's first line into the cache, without reading it.
    #[inline(always)]
    pub(crate) fn prefetch(self) {
        prefetch(self.raw.start());
    }

    /// Starts bringing a long value's control words into the cache. Reads the entry.
    #[inline]
    pub(crate) fn prefetch_value(self) {
        match self.value() {
            ValueRef::Blob(blob) => prefetch(blob.control_address()),
            ValueRef::Bytes(bytes) => prefetch(bytes.as_ptr()),
            ValueRef::Int(_) => {}
        }
    }
}
