//! The layout of an entry, the only code that reads and writes its memory.
//!
//! ```text
//! header 8 │ deadline 8? │ key length 8? │ integer, string or tree 8? │ key │ embedded value
//! ```
//! The header is one little-endian word: flags (8 bits), access field (24), key length (16), length
//! of the embedded value (16). Keys of 64 KiB and more have their length in a word of its own.
//! The allocation is the whole size class of the entry's size.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use crate::kind::Kind;
use crate::long::LongString;
use crate::size_class::{ENTRY_ALIGN, class_of};
use crate::types::Large;

/// The type of the value, in the low three flags.
const TYPE_MASK: u64 = 0x07;
/// The word of its own holds a long string or a large collection, not an integer.
const APART: u64 = 1 << 3;
/// The string was edited, and is reported as raw however short it is; the collection is reported as large
/// however few elements it has.
const EDITED: u64 = 1 << 4;
/// There is a deadline.
const EXPIRY: u64 = 1 << 5;
/// The key's length has a word of its own.
const LONG_KEY: u64 = 1 << 6;
/// The value is in a word of its own, not embedded.
const WORD: u64 = 1 << 7;

const ACCESS_SHIFT: u32 = 8;
const ACCESS_MASK: u64 = 0x00ff_ffff << ACCESS_SHIFT;
const KEY_LEN_SHIFT: u32 = 32;
const VALUE_LEN_SHIFT: u32 = 48;
const HEADER_LEN: usize = 8;
const WORD_LEN: usize = 8;

/// A value in the form in which an entry keeps it.
pub(crate) enum Stored<'a> {
    /// An integer.
    Int(i64),
    /// The first `len` of these bytes, or all and then zeros. `len` is at most 65535.
    Embedded { bytes: &'a [u8], len: usize },
    /// A long string.
    Long(LongString),
    /// A collection in one block of at most 65535 bytes.
    Packed(Kind, &'a [u8]),
    /// A large collection.
    Large(Box<Large>),
}

/// What an entry holds by a pointer.
pub(super) enum Owned {
    Long(#[allow(dead_code, reason = "only to be freed")] LongString),
    Large(#[allow(dead_code, reason = "only to be freed")] Box<Large>),
}

/// The header word.
#[derive(Clone, Copy)]
pub(super) struct Header(u64);

impl Header {
    pub(super) fn new(key: &[u8], value: &Stored<'_>, edited: bool, expiry: bool, access: u32) -> Self {
        let key_part = match u16::try_from(key.len()) {
            Ok(len) => u64::from(len) << KEY_LEN_SHIFT,
            Err(_) => LONG_KEY,
        };
        Header(key_part).with_value(value, edited, expiry, access)
    }

    /// The same key, all else new.
    pub(super) fn with_value(self, value: &Stored<'_>, edited: bool, expiry: bool, access: u32) -> Self {
        let key_part = self.0 & (LONG_KEY | (0xffff << KEY_LEN_SHIFT));
        let value_part = match value {
            Stored::Int(_) => WORD,
            Stored::Long(_) => WORD | APART,
            Stored::Large(large) => WORD | APART | large.kind() as u64,
            Stored::Packed(kind, bytes) => {
                debug_assert!(bytes.len() <= usize::from(u16::MAX));
                ((bytes.len() as u64) << VALUE_LEN_SHIFT) | *kind as u64
            }
            Stored::Embedded { len, .. } => {
                debug_assert!(*len <= usize::from(u16::MAX));
                (*len as u64) << VALUE_LEN_SHIFT
            }
        };
        let edited = if edited { EDITED } else { 0 };
        Header(key_part | value_part | edited).with_expiry(expiry).with_access(access)
    }

    pub(super) fn with_expiry(self, expiry: bool) -> Self {
        Header(if expiry { self.0 | EXPIRY } else { self.0 & !EXPIRY })
    }

    pub(super) fn with_access(self, access: u32) -> Self {
        Header((self.0 & !ACCESS_MASK) | ((u64::from(access) << ACCESS_SHIFT) & ACCESS_MASK))
    }

    pub(super) fn with_edited(self) -> Self {
        Header(self.0 | EDITED)
    }

    pub(super) fn with_wide(self, is_wide: bool) -> Self {
        Header(if is_wide { self.0 | EDITED } else { self.0 & !EDITED })
    }

    /// None if the value is not embedded or the length is no embedded one.
    pub(super) fn with_embedded_len(self, len: usize) -> Option<Self> {
        let len = u16::try_from(len).ok()?;
        if self.0 & WORD != 0 {
            return None;
        }
        Some(Header((self.0 & !(0xffff << VALUE_LEN_SHIFT)) | (u64::from(len) << VALUE_LEN_SHIFT)))
    }

    #[inline(always)]
    pub(super) fn has_expiry(self) -> bool {
        self.0 & EXPIRY != 0
    }

    #[inline(always)]
    fn has_long_key(self) -> bool {
        self.0 & LONG_KEY != 0
    }

    #[inline(always)]
    pub(super) fn is_embedded(self) -> bool {
        self.0 & WORD == 0
    }

    #[inline(always)]
    pub(super) fn is_long(self) -> bool {
        self.0 & (WORD | APART | TYPE_MASK) == WORD | APART
    }

    #[inline(always)]
    pub(super) fn is_large(self) -> bool {
        self.0 & (WORD | APART) == WORD | APART && !self.is_string()
    }

    pub(super) fn is_edited(self) -> bool {
        self.0 & EDITED != 0
    }

    #[inline(always)]
    pub(super) fn is_string(self) -> bool {
        self.0 & TYPE_MASK == Kind::String as u64
    }

    #[inline(always)]
    pub(super) fn kind(self) -> Kind {
        match self.0 & TYPE_MASK {
            kind if kind == Kind::List as u64 => Kind::List,
            kind if kind == Kind::Hash as u64 => Kind::Hash,
            _ => Kind::String,
        }
    }

    #[inline(always)]
    pub(super) fn access(self) -> u32 {
        ((self.0 & ACCESS_MASK) >> ACCESS_SHIFT) as u32
    }

    #[inline(always)]
    pub(super) fn value_len(self) -> usize {
        (self.0 >> VALUE_LEN_SHIFT) as usize
    }

    #[inline(always)]
    fn key_offset(self) -> usize {
        /// How many of the flags expiry, long key and word are set, by these three as a number.
        const WORDS: u32 = 0x3221_2110;
        let words = WORDS >> ((self.0 & 0xe0) >> 3) & 15;
        HEADER_LEN + WORD_LEN * words as usize
    }

    fn long_key_offset(self) -> usize {
        HEADER_LEN + if self.has_expiry() { WORD_LEN } else { 0 }
    }

    /// Where the integer or pointer is, which comes right before the key.
    #[inline(always)]
    fn word_offset(self) -> usize {
        self.key_offset() - WORD_LEN
    }

    /// Bytes of an entry with this header and a key of this length.
    pub(super) fn size(self, key_len: usize) -> usize {
        self.key_offset() + key_len + self.value_len()
    }
}

/// A pointer to an entry. Copies are free; whoever calls its unsafe functions vouches that the entry
/// is live and may be read or written.
#[derive(Clone, Copy)]
pub(super) struct Raw(NonNull<u8>);

impl Raw {
    /// Memory for an entry. Nothing in it is written.
    pub(super) fn allocate(header: Header, key_len: usize) -> Self {
        let layout = layout(header.size(key_len));
        // SAFETY: the layout's size is at least that of a header.
        match NonNull::new(unsafe { alloc(layout) }) {
            Some(start) => Raw(start),
            None => handle_alloc_error(layout),
        }
    }

    #[inline(always)]
    pub(super) fn address(self) -> u64 {
        self.0.as_ptr().expose_provenance() as u64
    }

    /// # Safety
    /// `address` is from [`Raw::address`].
    #[inline(always)]
    pub(super) unsafe fn from_address(address: u64) -> Self {
        // SAFETY: by the contract the address is that of an allocation, so not null.
        Raw(unsafe { NonNull::new_unchecked(std::ptr::with_exposed_provenance_mut(address as usize)) })
    }

    pub(super) fn start(self) -> *const u8 {
        self.0.as_ptr()
    }

    /// # Safety
    /// The entry may be read.
    #[inline(always)]
    pub(super) unsafe fn header(self) -> Header {
        // SAFETY: an entry begins with its header, aligned to 16.
        Header(u64::from_le(unsafe { self.0.cast::<u64>().read() }))
    }

    /// # Safety
    /// The entry may be written, and the header describes what is, or is about to be, in it.
    #[inline(always)]
    pub(super) unsafe fn set_header(self, header: Header) {
        // SAFETY: an entry begins with its header, aligned to 16.
        unsafe { self.0.cast::<u64>().write(header.0.to_le()) }
    }

    /// # Safety
    /// The entry may be read.
    #[inline(always)]
    pub(super) unsafe fn key_len(self) -> usize {
        // SAFETY: the caller's; with the flag set, the word is there.
        unsafe {
            let header = self.header();
            if header.has_long_key() {
                self.word(header.long_key_offset()).read() as usize
            } else {
                (header.0 >> KEY_LEN_SHIFT) as usize & 0xffff
            }
        }
    }

    /// # Safety
    /// The entry may be read while `'a` lasts.
    #[inline(always)]
    pub(super) unsafe fn key<'a>(self) -> &'a [u8] {
        // SAFETY: the caller's; offset and length are those the key was written with.
        unsafe { std::slice::from_raw_parts(self.at(self.header().key_offset()), self.key_len()) }
    }

    /// # Safety
    /// The entry may be read.
    #[inline(always)]
    pub(super) unsafe fn expire_at(self) -> Option<i64> {
        // SAFETY: the caller's; with the flag set, the word is there.
        unsafe { self.header().has_expiry().then(|| self.word(HEADER_LEN).cast::<i64>().read()) }
    }

    /// # Safety
    /// The entry may be read, and its value is an integer.
    #[inline(always)]
    pub(super) unsafe fn int(self) -> i64 {
        // SAFETY: the caller's.
        unsafe { self.word(self.header().word_offset()).cast::<i64>().read() }
    }

    /// # Safety
    /// The entry may be read while `'a` lasts, and its value is a long string.
    #[inline(always)]
    pub(super) unsafe fn long<'a>(self) -> &'a LongString {
        // SAFETY: the caller's; a long string is one word.
        unsafe { &*self.word(self.header().word_offset()).cast::<LongString>() }
    }

    /// # Safety
    /// The entry may be written while `'a` lasts.
    pub(super) unsafe fn long_mut<'a>(self) -> Option<&'a mut LongString> {
        // SAFETY: the caller's; a long string is one word.
        unsafe {
            let header = self.header();
            header.is_long().then(|| &mut *self.word(header.word_offset()).cast::<LongString>())
        }
    }

    /// # Safety
    /// The entry may be read while `'a` lasts, and its value is a large collection.
    #[inline(always)]
    pub(super) unsafe fn large<'a>(self) -> &'a Large {
        // SAFETY: the caller's; a box is one word.
        unsafe { &*self.word(self.header().word_offset()).cast::<Box<Large>>() }
    }

    /// # Safety
    /// The entry may be written while `'a` lasts.
    pub(super) unsafe fn large_mut<'a>(self) -> Option<&'a mut Box<Large>> {
        // SAFETY: the caller's; a box is one word.
        unsafe {
            let header = self.header();
            header.is_large().then(|| &mut *self.word(header.word_offset()).cast::<Box<Large>>())
        }
    }

    /// # Safety
    /// The entry may be read while `'a` lasts.
    #[inline(always)]
    pub(super) unsafe fn embedded<'a>(self) -> &'a [u8] {
        // SAFETY: the caller's; offset and length are those the value was written with.
        unsafe {
            let header = self.header();
            std::slice::from_raw_parts(self.at(header.key_offset() + self.key_len()), header.value_len())
        }
    }

    /// # Safety
    /// The entry may be written while `'a` lasts.
    pub(super) unsafe fn embedded_mut<'a>(self) -> &'a mut [u8] {
        // SAFETY: the caller's; offset and length are those the value was written with.
        unsafe {
            let header = self.header();
            std::slice::from_raw_parts_mut(self.at(header.key_offset() + self.key_len()), header.value_len())
        }
    }

    /// Fills a fresh allocation.
    ///
    /// # Safety
    /// The entry was allocated for `header` and `key`, and nothing is in it yet. `header` says whether
    /// there is a deadline and what form `value` has.
    pub(super) unsafe fn write(self, header: Header, key: &[u8], expire_at: Option<i64>, value: Stored<'_>) {
        // SAFETY: the caller's.
        unsafe {
            self.set_header(header);
            self.write_words(header, key.len(), expire_at);
            self.at(header.key_offset()).copy_from_nonoverlapping(key.as_ptr(), key.len());
            self.write_value(header, key.len(), value);
        }
    }

    /// Writes the words before the value's.
    ///
    /// # Safety
    /// The entry may be written and has room for `header`'s layout; nothing needed is at these words.
    pub(super) unsafe fn write_words(self, header: Header, key_len: usize, expire_at: Option<i64>) {
        // SAFETY: the caller's.
        unsafe {
            self.write_expiry(expire_at);
            if header.has_long_key() {
                self.word(header.long_key_offset()).write(key_len as u64);
            }
        }
    }

    /// # Safety
    /// The entry may be written, and its header has a deadline exactly if there is one.
    pub(super) unsafe fn write_expiry(self, expire_at: Option<i64>) {
        if let Some(at) = expire_at {
            // SAFETY: the caller's.
            unsafe { self.word(HEADER_LEN).cast::<i64>().write(at) }
        }
    }

    /// # Safety
    /// The entry may be written and has room for `header`'s layout; `header` has the form of `value`;
    /// nothing is overwritten that is still to be freed.
    pub(super) unsafe fn write_value(self, header: Header, key_len: usize, value: Stored<'_>) {
        // SAFETY: the caller's.
        unsafe {
            match value {
                Stored::Int(value) => self.word(header.word_offset()).cast::<i64>().write(value),
                Stored::Long(long) => self.word(header.word_offset()).cast::<LongString>().write(long),
                Stored::Large(large) => self.word(header.word_offset()).cast::<Box<Large>>().write(large),
                Stored::Embedded { bytes, .. } | Stored::Packed(_, bytes) => {
                    // The header's length, for which there is room, whatever length the value came with.
                    let len = header.value_len();
                    let copied = bytes.len().min(len);
                    let start = self.at(header.key_offset() + key_len);
                    start.copy_from_nonoverlapping(bytes.as_ptr(), copied);
                    start.add(copied).write_bytes(0, len - copied);
                }
            }
        }
    }

    /// Zeroes an embedded value from byte `from` on.
    ///
    /// # Safety
    /// The entry may be written and has room for `header`'s layout.
    pub(super) unsafe fn zero_value(self, header: Header, key_len: usize, from: usize) {
        if let Some(len) = header.value_len().checked_sub(from) {
            // SAFETY: the caller's.
            unsafe { self.at(header.key_offset() + key_len + from).write_bytes(0, len) }
        }
    }

    /// Moves the key from where `old` has it to where `new` has it.
    ///
    /// # Safety
    /// The entry may be written and has room for both layouts.
    pub(super) unsafe fn move_key(self, old: Header, new: Header, key_len: usize) {
        if old.key_offset() != new.key_offset() {
            // SAFETY: the caller's; the two may overlap, which `copy` allows for.
            unsafe { self.at(old.key_offset()).copy_to(self.at(new.key_offset()), key_len) }
        }
    }

    /// Moves everything behind the deadline from where `old` has it to where `new` has it; they differ
    /// in the deadline at most.
    ///
    /// # Safety
    /// The entry may be written and has room for both layouts.
    pub(super) unsafe fn move_behind_expiry(self, old: Header, new: Header, key_len: usize) {
        let (from, to) = (old.long_key_offset(), new.long_key_offset());
        if from != to {
            // SAFETY: the caller's; the two may overlap, which `copy` allows for.
            unsafe { self.at(from).copy_to(self.at(to), old.size(key_len) - from) }
        }
    }

    /// Takes what the entry holds by a pointer out, if it does.
    ///
    /// # Safety
    /// The entry may be written, and its value is not used again before another is written.
    pub(super) unsafe fn take_owned(self) -> Option<Owned> {
        // SAFETY: the caller's; a long string is one word, and so is a box.
        unsafe {
            let header = self.header();
            if header.is_long() {
                Some(Owned::Long(self.word(header.word_offset()).cast::<LongString>().read()))
            } else if header.is_large() {
                Some(Owned::Large(self.word(header.word_offset()).cast::<Box<Large>>().read()))
            } else {
                None
            }
        }
    }

    /// Frees the entry and what it holds.
    ///
    /// # Safety
    /// The entry is live and nobody uses it again.
    pub(super) unsafe fn free(self) {
        // SAFETY: the caller's; an entry's size class never changes, so this is the layout it was allocated with.
        unsafe {
            let size = self.header().size(self.key_len());
            drop(self.take_owned());
            dealloc(self.0.as_ptr(), layout(size));
        }
    }

    /// # Safety
    /// `offset` lies in the entry or at its end.
    #[inline(always)]
    unsafe fn at(self, offset: usize) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { self.0.as_ptr().add(offset) }
    }

    /// # Safety
    /// `offset` is that of a word in the entry, so a multiple of 8.
    #[inline(always)]
    unsafe fn word(self, offset: usize) -> *mut u64 {
        // SAFETY: the caller's; entries are aligned to 16.
        unsafe { self.at(offset).cast() }
    }
}

fn layout(size: usize) -> Layout {
    match Layout::from_size_align(class_of(size), ENTRY_ALIGN) {
        Ok(layout) => layout,
        // A key slice is at most isize::MAX bytes; one within a few bytes of that cannot exist beside its copy.
        Err(_) => handle_alloc_error(Layout::new::<u128>()),
    }
}
