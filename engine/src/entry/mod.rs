//! Entries: a key, its value and what is kept about it, in one allocation aligned to 16 bytes.
//!
//! `raw` knows the layout, `view` reads; here entries are made, changed in place and freed. Nothing
//! outside this folder knows an entry's layout.

mod raw;
mod view;

use std::marker::PhantomData;

pub(crate) use raw::Stored;
use raw::{Header, Raw};
pub use view::EntryRef;

use crate::access::Access;
use crate::kind::WrongType;
use crate::long::LongString;
use crate::size_class::class_of;
use crate::types::Large;
use crate::value::{StringRef, Value};

/// An entry and its ownership.
pub(crate) struct EntryBox {
    raw: Raw,
    /// An entry may hold a long string, which counts its holders without locks.
    owns: PhantomData<LongString>,
}

impl EntryBox {
    pub(crate) fn new(key: &[u8], value: Stored<'_>, edited: bool, expire_at: Option<i64>, access: u32) -> Self {
        let header = Header::new(key, &value, edited, expire_at.is_some(), access);
        let raw = Raw::allocate(header, key.len());
        // SAFETY: the allocation was made for this header and key, and nobody else knows it yet.
        unsafe { raw.write(header, key, expire_at, value) };
        EntryBox { raw, owns: PhantomData }
    }

    /// An entry with the value of another, which share what is long or large of it.
    pub(crate) fn duplicate(of: EntryRef<'_>, key: &[u8], expire_at: Option<i64>, access: u32) -> Self {
        let value = match of.value() {
            Value::String(StringRef::Int(value)) => Stored::Int(value),
            Value::String(StringRef::Bytes(bytes)) => Stored::Embedded { bytes, len: bytes.len() },
            Value::String(StringRef::Long(long)) => Stored::Long(long.clone()),
            Value::List(_) | Value::Hash(_) => match of.large() {
                Some(large) => Stored::Large(Box::new(large.clone())),
                None => Stored::Packed(of.kind(), of.packed()),
            },
        };
        EntryBox::new(key, value, of.edited(), expire_at, access)
    }

    pub(crate) fn as_ref(&self) -> EntryRef<'_> {
        // SAFETY: this box owns the entry, and is borrowed.
        unsafe { EntryRef::new(self.raw) }
    }

    #[cfg(test)]
    pub(crate) fn as_mut(&mut self) -> EntryMut<'_> {
        EntryMut { raw: self.raw, borrows: PhantomData }
    }

    /// Gives up ownership for an address: 48 bits, the low four zero.
    pub(crate) fn into_address(self) -> u64 {
        let address = self.raw.address();
        std::mem::forget(self);
        address
    }

    /// Takes ownership back.
    ///
    /// # Safety
    /// `address` is from [`EntryBox::into_address`], and ownership was not yet taken back from it.
    pub(crate) unsafe fn from_address(address: u64) -> Self {
        // SAFETY: passed on to the caller.
        EntryBox { raw: unsafe { Raw::from_address(address) }, owns: PhantomData }
    }
}

impl Drop for EntryBox {
    fn drop(&mut self) {
        // SAFETY: this box owns the entry, and is gone after this.
        unsafe { self.raw.free() }
    }
}

/// A value taken out of a database, with its key.
pub struct Taken(pub(crate) EntryBox);

impl Taken {
    /// The value as a string.
    ///
    /// # Errors
    /// It is of another type.
    pub fn string(&self) -> Result<StringRef<'_>, WrongType> {
        self.0.as_ref().string()
    }

    /// Everything about it.
    pub fn entry(&self) -> EntryRef<'_> {
        self.0.as_ref()
    }
}

/// An entry borrowed for changing it where it lies.
pub(crate) struct EntryMut<'a> {
    raw: Raw,
    borrows: PhantomData<&'a mut LongString>,
}

impl<'a> EntryMut<'a> {
    /// # Safety
    /// `address` is from [`EntryBox::into_address`], and the entry is neither freed nor reached
    /// otherwise while `'a` lasts.
    #[inline]
    pub(crate) unsafe fn from_address(address: u64) -> Self {
        // SAFETY: passed on to the caller.
        EntryMut { raw: unsafe { Raw::from_address(address) }, borrows: PhantomData }
    }

    #[inline]
    pub(crate) fn as_ref(&self) -> EntryRef<'_> {
        // SAFETY: the entry is borrowed for writing, of which this lends a part.
        unsafe { EntryRef::new(self.raw) }
    }

    #[inline]
    pub(crate) fn into_ref(self) -> EntryRef<'a> {
        // SAFETY: the entry is borrowed for as long as the result, and the only way to write it is given up.
        unsafe { EntryRef::new(self.raw) }
    }

    #[inline]
    pub(crate) fn set_access(&mut self, access: u32) {
        // SAFETY: the entry is borrowed for writing, and the new header describes the same layout.
        unsafe { self.raw.set_header(self.raw.header().with_access(access)) }
    }

    pub(crate) fn set_edited(&mut self) {
        // SAFETY: as above.
        unsafe { self.raw.set_header(self.raw.header().with_edited()) }
    }

    /// Gives the entry another value and deadline if it stays in its size class; otherwise hands the value back.
    pub(crate) fn overwrite<'v>(
        &mut self,
        value: Stored<'v>,
        edited: bool,
        expire_at: Option<i64>,
        access: u32,
    ) -> Result<(), Stored<'v>> {
        // SAFETY: the entry is borrowed for writing; headers made here describe what is then written,
        // and fit the allocation because the size class stays.
        unsafe {
            let old = self.raw.header();
            let key_len = self.raw.key_len();
            let header = old.with_value(&value, edited, expire_at.is_some(), access);
            if class_of(header.size(key_len)) != class_of(old.size(key_len)) {
                return Err(value);
            }
            let owned = self.raw.take_owned();
            self.raw.move_key(old, header, key_len);
            self.raw.set_header(header);
            self.raw.write_words(header, key_len, expire_at);
            self.raw.write_value(header, key_len, value);
            drop(owned);
        }
        Ok(())
    }

    /// Changes the deadline if the entry stays in its size class.
    pub(crate) fn set_expire(&mut self, expire_at: Option<i64>) -> bool {
        // SAFETY: the entry is borrowed for writing; the new header fits the allocation because the
        // size class stays, and everything behind the deadline moves along.
        unsafe {
            let old = self.raw.header();
            let key_len = self.raw.key_len();
            let header = old.with_expiry(expire_at.is_some());
            if class_of(header.size(key_len)) != class_of(old.size(key_len)) {
                return false;
            }
            self.raw.move_behind_expiry(old, header, key_len);
            self.raw.set_header(header);
            self.raw.write_expiry(expire_at);
        }
        true
    }

    /// Changes the length of an embedded value if the entry stays in its size class; new bytes are zero.
    pub(crate) fn resize_embedded(&mut self, len: usize) -> bool {
        // SAFETY: the entry is borrowed for writing; the new header fits the allocation because the size class stays.
        unsafe {
            let old = self.raw.header();
            let key_len = self.raw.key_len();
            let Some(header) = old.with_embedded_len(len).filter(|header| header.is_string()) else { return false };
            if class_of(header.size(key_len)) != class_of(old.size(key_len)) {
                return false;
            }
            self.raw.set_header(header);
            self.raw.zero_value(header, key_len, old.value_len());
        }
        true
    }

    /// The long string, if the value is one.
    pub(crate) fn into_long(self) -> Option<&'a mut LongString> {
        // SAFETY: the entry is borrowed for writing for as long as the result.
        unsafe { self.raw.long_mut() }
    }

    /// The large collection, if the value is one.
    pub(crate) fn into_large(self) -> Option<&'a mut Box<Large>> {
        // SAFETY: the entry is borrowed for writing for as long as the result.
        unsafe { self.raw.large_mut() }
    }

    /// Says whether the value was edited, or is reported as large.
    pub(crate) fn set_wide(&mut self, is_wide: bool) {
        // SAFETY: as for the access field.
        unsafe { self.raw.set_header(self.raw.header().with_wide(is_wide)) }
    }

    /// The bytes of an embedded value; none for others.
    pub(crate) fn into_embedded(self) -> &'a mut [u8] {
        // SAFETY: the entry is borrowed for writing for as long as the result.
        unsafe { self.raw.embedded_mut() }
    }
}

/// What an [`EntryMut`] records of an access.
impl EntryMut<'_> {
    #[inline]
    pub(crate) fn touch(&mut self, access: &Access, rng: &mut crate::rng::Rng) {
        let old = self.as_ref().access_field();
        let new = access.field_used(old, rng);
        // Most keys in use were already used within the second: their line need not become dirty.
        if new != old {
            self.set_access(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{EMBED_LEN_MAX, Encoding};

    fn embedded(bytes: &[u8]) -> Stored<'_> {
        Stored::Embedded { bytes, len: bytes.len() }
    }

    #[test]
    fn sizes_are_as_planned() {
        let size = |key: usize, value: Stored<'_>, ttl: Option<i64>| {
            EntryBox::new(&vec![b'k'; key], value, false, ttl, 0).as_ref().memory_bytes()
        };
        assert_eq!(size(16, embedded(&[1; 8]), None), 32);
        assert_eq!(size(16, Stored::Int(7), None), 32);
        assert_eq!(size(16, embedded(&[1; 64]), None), 96);
        assert_eq!(size(16, embedded(&[1; 8]), Some(1)), 48);
    }

    #[test]
    fn everything_reads_back_in_every_form() {
        let long = LongString::from_vec(vec![9; 5000]);
        for key_len in [0usize, 1, 7, 16, 300, 65_535, 65_536, 100_000] {
            let key: Vec<u8> = (0..key_len).map(|i| i as u8).collect();
            for expire_at in [None, Some(-5), Some(i64::MAX)] {
                for (value, expect) in [
                    (Stored::Int(-77), b"-77".to_vec()),
                    (embedded(b""), vec![]),
                    (embedded(b"hello"), b"hello".to_vec()),
                    (embedded(&[3; EMBED_LEN_MAX]), vec![3; EMBED_LEN_MAX]),
                    (Stored::Embedded { bytes: b"ab", len: 5 }, b"ab\0\0\0".to_vec()),
                    (Stored::Long(long.clone()), vec![9; 5000]),
                ] {
                    let entry = EntryBox::new(&key, value, false, expire_at, 0x00ab_cdef);
                    let read = entry.as_ref();
                    assert_eq!(read.key(), key);
                    assert!(read.has_key(&key) && !read.has_key(b"other"));
                    assert_eq!(read.string().expect("a string").to_vec(), expect);
                    assert_eq!(read.string().expect("a string").len(), expect.len());
                    assert_eq!(read.expire_at(), expire_at);
                    assert_eq!(read.access_field(), 0x00ab_cdef);
                    let copy = EntryBox::duplicate(read, b"copy", Some(1), 5);
                    assert_eq!(copy.as_ref().string().expect("a string").to_vec(), expect);
                    assert_eq!((copy.as_ref().key(), copy.as_ref().expire_at()), (&b"copy"[..], Some(1)));
                }
            }
        }
    }

    #[test]
    fn overwriting_works_within_a_class_only() {
        let mut entry = EntryBox::new(b"0123456789abcdef", embedded(b"12345678"), false, None, 1);
        assert!(entry.as_mut().overwrite(embedded(b"1234567"), true, None, 2).is_ok());
        assert_eq!(entry.as_ref().string().expect("a string").to_vec(), b"1234567");
        assert_eq!(entry.as_ref().encoding(), Encoding::Raw);
        assert!(entry.as_mut().overwrite(Stored::Int(5), false, None, 3).is_ok());
        assert_eq!(entry.as_ref().encoding(), Encoding::Int);
        assert_eq!(entry.as_ref().key(), b"0123456789abcdef");
        assert!(entry.as_mut().overwrite(embedded(b"123456789"), false, None, 3).is_err());
        assert!(entry.as_mut().overwrite(embedded(b""), false, Some(99), 3).is_ok());
        assert_eq!((entry.as_ref().key(), entry.as_ref().expire_at()), (&b"0123456789abcdef"[..], Some(99)));
        let long = LongString::from_vec(vec![1; 2000]);
        assert!(entry.as_mut().overwrite(Stored::Long(long.clone()), false, None, 3).is_ok());
        assert!(entry.as_mut().overwrite(Stored::Long(long), false, None, 3).is_ok());
        assert_eq!(entry.as_ref().string().expect("a string").len(), 2000);
        assert!(entry.as_mut().overwrite(embedded(b"x"), false, None, 3).is_ok());
        assert_eq!(entry.as_ref().string().expect("a string").to_vec(), b"x");
    }

    #[test]
    fn deadlines_and_lengths_change_in_place_within_a_class() {
        let mut entry = EntryBox::new(b"key", Stored::Int(5), false, None, 1);
        assert!(entry.as_mut().set_expire(Some(7)));
        assert_eq!((entry.as_ref().key(), entry.as_ref().expire_at()), (&b"key"[..], Some(7)));
        assert_eq!(entry.as_ref().string().expect("a string").as_int(), Some(5));
        assert!(entry.as_mut().set_expire(Some(8)) && entry.as_mut().set_expire(None));
        assert_eq!(entry.as_ref().expire_at(), None);
        assert_eq!(entry.as_ref().string().expect("a string").as_int(), Some(5));
        assert!(!entry.as_mut().resize_embedded(3));

        let mut entry = EntryBox::new(b"key", embedded(b"abcdef"), true, None, 1);
        assert!(!entry.as_mut().set_expire(Some(7)) || entry.as_ref().memory_bytes() == 32);
        assert!(entry.as_mut().resize_embedded(2));
        assert!(entry.as_mut().resize_embedded(4));
        assert_eq!(entry.as_ref().string().expect("a string").to_vec(), b"ab\0\0");
        assert!(!entry.as_mut().resize_embedded(400));
        entry.as_mut().into_embedded()[3] = b'z';
        assert_eq!(entry.as_ref().string().expect("a string").to_vec(), b"ab\0z");
    }
}
