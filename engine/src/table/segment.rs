//! A segment: a short array of buckets that is resized as a whole, and the directory's word for it.
//!
//! The bucket of a tag is monotone in the tag, whatever the number of buckets: `tag * buckets >> 16`.
//! So a segment is resized, split or merged in tag order, and resizing reads tags only, no entry.

use std::alloc::{self, Layout};

use super::bucket::{Bucket, SLOTS, slots_of};
use crate::entry::EntryRef;

/// A segment with this many buckets splits instead of growing.
pub(crate) const BUCKETS_SPLIT: usize = 64;
/// An entry lives at most this many buckets, minus one, after its home.
pub(crate) const WINDOW: usize = 7;
/// No more buckets fit the directory's word.
const BUCKETS_MAX: usize = 1 << 16;

/// A directory's word for a segment; 0 for none.
///
/// ```text
///  63             54 53   52      48 47              6 5             0
/// ┌─────────────────┬────┬──────────┬─────────────────┬───────────────┐
/// │ buckets-1, high │wide│ depth    │ address         │ buckets-1, low│
/// └─────────────────┴────┴──────────┴─────────────────┴───────────────┘
/// ```
/// A wide segment lets an entry live in any bucket. It only comes about when so many hashes collide
/// that splitting would not help.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment(u64);

/// Where in its segment an entry is. Good until the table changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub(super) bucket: u32,
    pub(super) slot: u8,
}

impl Segment {
    pub(crate) const NONE: Segment = Segment(0);

    const ADDRESS_MASK: u64 = 0x0000_ffff_ffff_ffc0;
    const DEPTH_SHIFT: u32 = 48;
    const WIDE: u64 = 1 << 53;
    const HIGH_SHIFT: u32 = 54;

    /// Allocates an empty segment. `depth` is at most 31, `buckets` from 1 to 65536.
    pub(crate) fn new(buckets: usize, depth: u32, wide: bool) -> Self {
        // More buckets take half a million keys of one hash, which without the hash's key nobody finds.
        assert!((1..=BUCKETS_MAX).contains(&buckets) && depth < 32);
        let layout = Self::layout(buckets);
        // SAFETY: the layout is not empty; all zeros is an empty bucket.
        let pointer = unsafe { alloc::alloc_zeroed(layout) };
        if pointer.is_null() {
            alloc::handle_alloc_error(layout);
        }
        let address = pointer.expose_provenance() as u64;
        debug_assert!(address & !Self::ADDRESS_MASK == 0);
        let less_one = buckets as u64 - 1;
        let wide = if wide { Self::WIDE } else { 0 };
        Segment(
            address
                | (less_one & 63)
                | (u64::from(depth) << Self::DEPTH_SHIFT)
                | wide
                | ((less_one >> 6) << Self::HIGH_SHIFT),
        )
    }

    /// Frees the buckets, not the entries in them. No copy of the word may be used again.
    pub(crate) fn free(self) {
        // SAFETY: allocated in `new` with this layout; the directory held the only lasting copy.
        unsafe { alloc::dealloc(self.base().cast(), Self::layout(self.buckets())) }
    }

    fn layout(buckets: usize) -> Layout {
        // SAFETY: at most 4 MiB, and the alignment is a power of two.
        unsafe { Layout::from_size_align_unchecked(buckets * size_of::<Bucket>(), align_of::<Bucket>()) }
    }

    #[inline(always)]
    pub(crate) fn from_word(word: u64) -> Self {
        Segment(word)
    }

    #[inline(always)]
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    fn base(self) -> *mut Bucket {
        std::ptr::with_exposed_provenance_mut((self.0 & Self::ADDRESS_MASK) as usize)
    }

    #[inline(always)]
    pub(crate) fn buckets(self) -> usize {
        (((self.0 & 63) | ((self.0 >> Self::HIGH_SHIFT) << 6)) + 1) as usize
    }

    /// How many directory bits all entries here share.
    #[inline(always)]
    pub(crate) fn depth(self) -> u32 {
        ((self.0 >> Self::DEPTH_SHIFT) & 31) as u32
    }

    #[inline(always)]
    pub(crate) fn wide(self) -> bool {
        self.0 & Self::WIDE != 0
    }

    pub(crate) fn with_wide(self) -> Self {
        Segment(self.0 | Self::WIDE)
    }

    /// Over how many buckets, from its home on, an entry may live.
    #[inline(always)]
    fn window(self) -> usize {
        if self.wide() { self.buckets() } else { self.buckets().min(WINDOW) }
    }

    #[inline(always)]
    pub(crate) fn home(self, tag: u16) -> usize {
        (usize::from(tag) * self.buckets()) >> 16
    }

    /// The bucket `step` after `home`, going round at the end.
    #[inline(always)]
    fn after(self, home: usize, step: usize) -> usize {
        let bucket = home + step;
        if bucket >= self.buckets() { bucket - self.buckets() } else { bucket }
    }

    #[inline(always)]
    pub(crate) fn bucket_address(self, bucket: usize) -> *const u8 {
        self.base().wrapping_add(bucket).cast()
    }

    #[inline(always)]
    pub(crate) fn bucket<'a>(self, bucket: usize) -> &'a Bucket {
        debug_assert!(!self.is_none() && bucket < self.buckets());
        // SAFETY: the word stands for a live array of this many buckets; the table's borrow excludes writers.
        unsafe { &*self.base().add(bucket) }
    }

    #[inline(always)]
    pub(crate) fn bucket_mut<'a>(self, bucket: usize) -> &'a mut Bucket {
        debug_assert!(!self.is_none() && bucket < self.buckets());
        // SAFETY: as above; callers hold the table's exclusive borrow and keep one bucket at a time.
        unsafe { &mut *self.base().add(bucket) }
    }

    /// Finds the entry of this tag that `wanted` accepts.
    #[inline(always)]
    pub(crate) fn find<'a>(
        self,
        tag: u16,
        mut wanted: impl FnMut(EntryRef<'a>) -> bool,
    ) -> Option<(Slot, EntryRef<'a>)> {
        let home = self.home(tag);
        let first = self.bucket(home);
        for slot in slots_of(first.matches(tag)) {
            let entry = first.entry(slot);
            if wanted(entry) {
                return Some((Slot { bucket: home as u32, slot: slot as u8 }, entry));
            }
        }
        if first.overflow() == 0 {
            return None;
        }
        for step in 1..self.window() {
            let index = self.after(home, step);
            let bucket = self.bucket(index);
            for slot in slots_of(bucket.matches(tag)) {
                let entry = bucket.entry(slot);
                if wanted(entry) {
                    return Some((Slot { bucket: index as u32, slot: slot as u8 }, entry));
                }
            }
        }
        None
    }

    /// Puts an entry into its home or a bucket after it; false if there is no room and none can be made.
    #[inline]
    pub(crate) fn place(self, tag: u16, address: u64) -> bool {
        let home = self.home(tag);
        if self.bucket_mut(home).push(tag, address) {
            return true;
        }
        for step in 1..self.window() {
            if self.bucket_mut(self.after(home, step)).push(tag, address) {
                self.bucket_mut(home).overflow_add();
                return true;
            }
        }
        let Some(index) = self.make_room(home) else { return false };
        let placed = self.bucket_mut(index).push(tag, address);
        debug_assert!(placed, "room was just made");
        if index != home {
            self.bucket_mut(home).overflow_add();
        }
        placed
    }

    /// Moves an entry out of the full window of `home` to a later bucket of its own window; returns
    /// the bucket that has room now. Fills segments by a tenth more before they must grow.
    #[cold]
    fn make_room(self, home: usize) -> Option<usize> {
        if self.buckets() <= self.window() {
            return None;
        }
        for step in 0..self.window() {
            let index = self.after(home, step);
            for slot in 0..self.bucket(index).len() {
                let tag = self.bucket(index).tag(slot);
                let from = self.home(tag);
                let gone = if index >= from { index - from } else { index + self.buckets() - from };
                let mut targets = (gone + 1..self.window()).map(|further| self.after(from, further));
                let Some(target) = targets.find(|&to| self.bucket(to).len() < SLOTS) else { continue };
                let address = self.bucket_mut(index).take(slot);
                let moved = self.bucket_mut(target).push(tag, address);
                debug_assert!(moved, "the bucket had room");
                if gone == 0 {
                    self.bucket_mut(from).overflow_add();
                }
                return Some(index);
            }
        }
        None
    }

    /// Takes an entry out, and moves one that lives elsewhere home into the gap. Tells whether the
    /// entry's bucket is empty now.
    pub(crate) fn take(self, place: Slot) -> (u64, bool) {
        let (index, slot) = (place.bucket as usize, place.slot as usize);
        let home = self.home(self.bucket(index).tag(slot));
        let address = self.bucket_mut(index).take(slot);
        if index != home {
            self.bucket_mut(home).overflow_sub();
        }
        if self.bucket(index).overflow() > 0 {
            self.pull_home(index);
        }
        (address, self.bucket(index).len() == 0)
    }

    fn pull_home(self, home: usize) {
        for step in 1..self.window() {
            let index = self.after(home, step);
            let bucket = self.bucket(index);
            if let Some(slot) = (0..bucket.len()).find(|&slot| self.home(bucket.tag(slot)) == home) {
                let tag = bucket.tag(slot);
                let address = self.bucket_mut(index).take(slot);
                let pulled = self.bucket_mut(home).push(tag, address);
                debug_assert!(pulled, "the gap was just made");
                self.bucket_mut(home).overflow_sub();
                return;
            }
        }
    }

    /// Hands on every entry whose home is bucket `home`, wherever it lives.
    pub(crate) fn visit_home<'a>(self, home: usize, visit: &mut dyn FnMut(u16, EntryRef<'a>)) {
        let first = self.bucket(home);
        let steps = if first.overflow() == 0 { 1 } else { self.window() };
        for step in 0..steps {
            let bucket = self.bucket(self.after(home, step));
            for slot in 0..bucket.len() {
                let tag = bucket.tag(slot);
                if self.home(tag) == home {
                    visit(tag, bucket.entry(slot));
                }
            }
        }
    }

    /// How many entries live here, by reading every bucket.
    pub(crate) fn count(self) -> usize {
        (0..self.buckets()).map(|bucket| self.bucket(bucket).len()).sum()
    }

    pub(crate) fn slots(self) -> usize {
        self.buckets() * SLOTS
    }

    /// Puts all entries that `wanted` picks (by bucket and slot) into `target`; false if one did not fit.
    pub(crate) fn copy_into(self, target: Segment, wanted: impl Fn(usize, usize) -> bool) -> bool {
        for index in 0..self.buckets() {
            let bucket = self.bucket(index);
            for slot in 0..bucket.len() {
                if wanted(index, slot) && !target.place(bucket.tag(slot), bucket.address(slot)) {
                    return false;
                }
            }
        }
        true
    }
}

/// The next number of buckets that fills one of the allocator's size classes.
pub(crate) fn buckets_after(buckets: usize) -> usize {
    crate::size_class::class_of((buckets + 1) * size_of::<Bucket>()) / size_of::<Bucket>()
}

/// The smallest such number in which `entries` make a load of at most `load_percent`.
pub(crate) fn buckets_for(entries: usize, load_percent: usize) -> usize {
    let needed = (entries * 100).div_ceil(SLOTS * load_percent).max(1);
    crate::size_class::class_of(needed * size_of::<Bucket>()) / size_of::<Bucket>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_numbers_fill_size_classes() {
        let mut buckets = 1;
        let mut all = vec![1];
        while buckets < 64 {
            buckets = buckets_after(buckets);
            all.push(buckets);
        }
        assert_eq!(all, [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64]);
        assert_eq!(buckets_for(0, 85), 1);
        assert_eq!(buckets_for(220, 85), 40);
        assert_eq!(buckets_for(8, 100), 1);
        assert_eq!(buckets_for(9, 100), 2);
    }
}
