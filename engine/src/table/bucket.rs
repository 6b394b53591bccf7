//! A bucket: eight tags and eight pointers in one cache line.
//!
//! ```text
//! │ 8 × 16-bit tag │ 8 × 48-bit pointer, low 4 bits spare │
//! spare bits: pointer 0 the number of entries here; pointers 1 and 2 the overflow count;
//!             the others unused
//! ```
//! Slots are filled from 0 without holes. The overflow count says how many entries have their home
//! here and live in a later bucket, so that a miss normally reads one line. At its maximum it stays,
//! until the segment is rebuilt: then it only means that later buckets must be looked at.

use crate::entry::EntryRef;
use crate::prefetch::prefetch;

pub(crate) const SLOTS: usize = 8;
const OVERFLOW_MAX: usize = 255;
const POINTER_LEN: usize = 6;
const SPARE_MASK: u64 = 15;

#[repr(C, align(64))]
pub(crate) struct Bucket {
    tags: [u16; SLOTS],
    pointers: [u8; POINTER_LEN * SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// How many entries live here.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        (self.pointers[0] & 15) as usize
    }

    fn set_len(&mut self, len: usize) {
        self.pointers[0] = (self.pointers[0] & 0xf0) | len as u8;
    }

    /// How many entries have their home here and live elsewhere.
    #[inline(always)]
    pub(crate) fn overflow(&self) -> usize {
        ((self.pointers[POINTER_LEN] & 15) | (self.pointers[2 * POINTER_LEN] << 4)) as usize
    }

    fn set_overflow(&mut self, overflow: usize) {
        let low = &mut self.pointers[POINTER_LEN];
        *low = (*low & 0xf0) | (overflow & 15) as u8;
        let high = &mut self.pointers[2 * POINTER_LEN];
        *high = (*high & 0xf0) | (overflow >> 4) as u8;
    }

    pub(crate) fn overflow_add(&mut self) {
        self.set_overflow((self.overflow() + 1).min(OVERFLOW_MAX));
    }

    pub(crate) fn overflow_sub(&mut self) {
        let overflow = self.overflow();
        if overflow < OVERFLOW_MAX {
            self.set_overflow(overflow.saturating_sub(1));
        }
    }

    /// A bit for each slot in use whose tag is `tag`.
    #[inline(always)]
    pub(crate) fn matches(&self, tag: u16) -> u32 {
        self.equal_tags(tag) & ((1 << self.len()) - 1)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn equal_tags(&self, tag: u16) -> u32 {
        use std::arch::x86_64::{
            __m128i, _mm_cmpeq_epi16, _mm_load_si128, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16,
        };
        // SAFETY: SSE2 is part of x86-64; the tags are the bucket's first 16 bytes, aligned to 64.
        unsafe {
            let tags = _mm_load_si128((&raw const self.tags).cast::<__m128i>());
            let equal = _mm_cmpeq_epi16(tags, _mm_set1_epi16(tag as i16));
            _mm_movemask_epi8(_mm_packs_epi16(equal, equal)) as u32 & 0xff
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    fn equal_tags(&self, tag: u16) -> u32 {
        let mut mask = 0;
        for (slot, &other) in self.tags.iter().enumerate() {
            mask |= u32::from(other == tag) << slot;
        }
        mask
    }

    #[inline(always)]
    pub(crate) fn tag(&self, slot: usize) -> u16 {
        self.tags[slot]
    }

    #[inline(always)]
    fn word_offset(slot: usize) -> usize {
        size_of::<[u16; SLOTS]>() - 2 + POINTER_LEN * slot
    }

    /// The address of the word whose upper six bytes are pointer `slot`.
    #[inline(always)]
    fn word(&self, slot: usize) -> *const u8 {
        debug_assert!(slot < SLOTS);
        (&raw const *self).cast::<u8>().wrapping_add(Self::word_offset(slot))
    }

    /// The address in slot `slot`; 0 when unused.
    #[inline(always)]
    pub(crate) fn address(&self, slot: usize) -> u64 {
        // SAFETY: the word starts in the tags or pointers and ends with pointer `slot`, within the bucket.
        let word = u64::from_le(unsafe { self.word(slot).cast::<u64>().read_unaligned() });
        (word >> 16) & !SPARE_MASK
    }

    /// Starts bringing the entry in slot `slot` into the cache.
    #[inline(always)]
    pub(crate) fn prefetch_entry(&self, slot: usize) {
        prefetch(std::ptr::without_provenance::<u8>(self.address(slot) as usize));
    }

    /// The entry in slot `slot`, which must be in use.
    #[inline(always)]
    pub(crate) fn entry(&self, slot: usize) -> EntryRef<'_> {
        debug_assert!(slot < self.len());
        // SAFETY: a slot in use has the address of a live entry that the table owns; the borrow of the
        // bucket is one of the table, so nobody changes or frees the entry while it lasts.
        unsafe { EntryRef::from_address(self.address(slot)) }
    }

    fn set_pointer(&mut self, slot: usize, address: u64) {
        debug_assert!(slot < SLOTS && address & SPARE_MASK == 0 && address >> 48 == 0);
        let word = (&raw mut *self).cast::<u8>().wrapping_add(Self::word_offset(slot));
        // SAFETY: as for reading; the low 20 bits, a tag or pointer before and the spare bits, are written back.
        unsafe {
            let old = u64::from_le(word.cast::<u64>().read_unaligned());
            word.cast::<u64>().write_unaligned(((old & 0xf_ffff) | (address << 16)).to_le());
        }
    }

    /// Puts another entry's address into a slot in use; returns the one that was there.
    pub(crate) fn replace(&mut self, slot: usize, address: u64) -> u64 {
        let old = self.address(slot);
        self.set_pointer(slot, address);
        old
    }

    /// Adds an entry; false if the bucket is full.
    #[inline]
    pub(crate) fn push(&mut self, tag: u16, address: u64) -> bool {
        let len = self.len();
        if len == SLOTS {
            return false;
        }
        self.tags[len] = tag;
        self.set_pointer(len, address);
        self.set_len(len + 1);
        true
    }

    /// Takes the address out of a slot in use; the last one moves there.
    pub(crate) fn take(&mut self, slot: usize) -> u64 {
        let taken = self.address(slot);
        let last = self.len() - 1;
        if slot != last {
            self.tags[slot] = self.tags[last];
            self.set_pointer(slot, self.address(last));
        }
        self.tags[last] = 0;
        self.set_pointer(last, 0);
        self.set_len(last);
        taken
    }
}

/// The slots of a mask of [`Bucket::matches`], lowest first.
#[inline(always)]
pub(crate) fn slots_of(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let slot = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        Some(slot)
    })
}
