//! A bucket: eight tags and eight pointers in one cache line.
//!
//! ```text
//! │ 8 × 16-bit tag │ 8 × 48-bit pointer, low 4 bits spare │
//! spare bits: pointer 0 the number of entries here; pointers 1 and 2 the overflow count;
//!             the others unused
//! ```
//! A slot in use owns its entry. Slots are filled from 0 without holes. The overflow count says how many entries have their home
//! here and live in a later bucket, so that a miss normally reads one line. At its maximum it stays,
//! until the segment is rebuilt: then it only means that later buckets must be looked at.

use crate::entry::{EntryBox, EntryRef};
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
    fn matches(&self, tag: u16) -> u32 {
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

    /// The address in slot `slot`; 0 when unused.
    ///
    /// # Safety
    /// `slot` is below [`SLOTS`].
    #[inline(always)]
    unsafe fn address_unchecked(&self, slot: usize) -> u64 {
        let word = (&raw const *self).cast::<u8>().wrapping_add(Self::word_offset(slot));
        // SAFETY: the word starts in the tags or pointers and ends with pointer `slot`, within the bucket.
        let word = u64::from_le(unsafe { word.cast::<u64>().read_unaligned() });
        (word >> 16) & !SPARE_MASK
    }

    /// The address in slot `slot`, which must be in use.
    #[inline(always)]
    pub(crate) fn address(&self, slot: usize) -> u64 {
        assert!(slot < self.len(), "the slot is in use");
        // SAFETY: no more slots are in use than there are.
        unsafe { self.address_unchecked(slot) }
    }

    /// Starts bringing the entry in slot `slot` into the cache; none if the slot is not in use.
    #[inline(always)]
    pub(crate) fn prefetch_entry(&self, slot: usize) {
        if slot < SLOTS {
            // SAFETY: just compared.
            prefetch(std::ptr::without_provenance::<u8>(unsafe { self.address_unchecked(slot) } as usize));
        }
    }

    /// Starts bringing all entries here into the cache.
    #[inline(always)]
    pub(crate) fn prefetch_entries(&self) {
        for slot in 0..self.len() {
            self.prefetch_entry(slot);
        }
    }

    /// Starts bringing the entries of this tag into the cache; false if there is none.
    #[inline(always)]
    pub(crate) fn prefetch_entries_of(&self, tag: u16) -> bool {
        let mask = self.matches(tag);
        for slot in slots_of(mask) {
            // SAFETY: a mask of `matches` has bits of slots only.
            prefetch(std::ptr::without_provenance::<u8>(unsafe { self.address_unchecked(slot) } as usize));
        }
        mask != 0
    }

    /// The entry in slot `slot`.
    ///
    /// # Safety
    /// The slot is in use.
    #[inline(always)]
    unsafe fn entry_unchecked(&self, slot: usize) -> EntryRef<'_> {
        // SAFETY: a slot in use has the address of a live entry that it owns; the borrow of the bucket
        // is one of the table, so nobody changes or frees the entry while it lasts.
        unsafe { EntryRef::from_address(self.address_unchecked(slot)) }
    }

    /// The entry in slot `slot`, which must be in use.
    #[inline(always)]
    pub(crate) fn entry(&self, slot: usize) -> EntryRef<'_> {
        assert!(slot < self.len(), "the slot is in use");
        // SAFETY: just compared.
        unsafe { self.entry_unchecked(slot) }
    }

    /// The entry in slot `slot`, if that is in use.
    #[inline(always)]
    pub(crate) fn get(&self, slot: usize) -> Option<EntryRef<'_>> {
        // SAFETY: just compared.
        (slot < self.len()).then(|| unsafe { self.entry_unchecked(slot) })
    }

    /// The entries here, by slot.
    #[inline(always)]
    pub(crate) fn entries(&self) -> impl Iterator<Item = EntryRef<'_>> {
        // SAFETY: the slots below the length are in use.
        (0..self.len()).map(|slot| unsafe { self.entry_unchecked(slot) })
    }

    /// The entries of this tag here, with their slots.
    #[inline(always)]
    pub(crate) fn entries_of(&self, tag: u16) -> impl Iterator<Item = (usize, EntryRef<'_>)> {
        // SAFETY: a mask of `matches` has bits of slots in use only.
        slots_of(self.matches(tag)).map(|slot| (slot, unsafe { self.entry_unchecked(slot) }))
    }

    /// Writes a pointer; what the slot owned before is forgotten.
    ///
    /// # Safety
    /// `slot` is below [`SLOTS`], and the slot owns the entry of this address from now on, or the address is 0
    /// and the slot is not in use.
    #[inline(always)]
    unsafe fn set_pointer(&mut self, slot: usize, address: u64) {
        debug_assert!(address & SPARE_MASK == 0 && address >> 48 == 0);
        let word = (&raw mut *self).cast::<u8>().wrapping_add(Self::word_offset(slot));
        // SAFETY: as for reading; the low 20 bits, a tag or pointer before and the spare bits, are written back.
        unsafe {
            let old = u64::from_le(word.cast::<u64>().read_unaligned());
            word.cast::<u64>().write_unaligned(((old & 0xf_ffff) | (address << 16)).to_le());
        }
    }

    /// Puts another entry into a slot in use; hands out the one that was there.
    pub(crate) fn replace(&mut self, slot: usize, entry: EntryBox) -> EntryBox {
        let old = self.address(slot);
        // SAFETY: `address` has checked that the slot is in use. It owned the entry of the old address and
        // gives it up for the new one.
        unsafe {
            self.set_pointer(slot, entry.into_address());
            EntryBox::from_address(old)
        }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// The bucket is full: the entry comes back.
    #[inline]
    pub(crate) fn push(&mut self, tag: u16, entry: EntryBox) -> Result<(), EntryBox> {
        let len = self.len();
        if len >= SLOTS {
            return Err(entry);
        }
        self.tags[len] = tag;
        // SAFETY: just compared, and the slot is given the entry.
        unsafe { self.set_pointer(len, entry.into_address()) };
        self.set_len(len + 1);
        Ok(())
    }

    /// Takes the entry out of a slot in use; the last one moves there.
    pub(crate) fn take(&mut self, slot: usize) -> EntryBox {
        let taken = self.address(slot);
        let last = self.len() - 1;
        let moved = self.address(last);
        // SAFETY: both slots are in use, which `address` has checked. The last one gives its entry up for the
        // other, which has given up its own, and is not in use afterwards.
        unsafe {
            if slot != last {
                self.tags[slot] = self.tags[last];
                self.set_pointer(slot, moved);
            }
            self.tags[last] = 0;
            self.set_pointer(last, 0);
            self.set_len(last);
            EntryBox::from_address(taken)
        }
    }
}

/// The slots of a mask of [`Bucket::matches`], lowest first.
#[inline(always)]
fn slots_of(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let slot = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        Some(slot)
    })
}
