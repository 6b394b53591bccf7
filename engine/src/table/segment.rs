//! A segment: a short array of buckets that is resized as a whole, and the directory's word for it.
//!
//! [`Word`] is the number. What may be done with the buckets behind it is told by three types:
//! [`Segment`] reads while the table is borrowed, [`SegmentMut`] changes while it is borrowed for that, and
//! [`SegmentBox`] owns, on its way into a directory or out of it.
//!
//! The bucket of a tag is monotone in the tag, whatever the number of buckets: `tag * buckets >> 16`.
//! So a segment is resized, split or merged in tag order, and resizing reads tags only, no entry.

use std::alloc::{self, Layout};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::num::NonZeroU64;
use std::ops::Deref;

use super::bucket::{Bucket, SLOTS};
use crate::entry::{EntryBox, EntryRef};

/// A segment with this many buckets splits instead of growing.
pub(crate) const BUCKETS_SPLIT: usize = 64;
/// An entry lives at most this many buckets, minus one, after its home.
pub(crate) const WINDOW: usize = 7;
/// No more buckets fit the directory's word.
const BUCKETS_MAX: usize = 1 << 16;

/// A directory's word for a segment; 0, which is no `Word`, for none.
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
pub(crate) struct Word(NonZeroU64);

/// Where in its segment an entry is. Good until the table changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub(super) bucket: u32,
    pub(super) slot: u8,
}

impl Word {
    const ADDRESS_MASK: u64 = 0x0000_ffff_ffff_ffc0;
    const DEPTH_SHIFT: u32 = 48;
    const WIDE: u64 = 1 << 53;
    const HIGH_SHIFT: u32 = 54;

    /// None for 0.
    #[inline(always)]
    pub(crate) fn new(word: u64) -> Option<Self> {
        NonZeroU64::new(word).map(Word)
    }

    #[inline(always)]
    pub(crate) fn get(self) -> u64 {
        self.0.get()
    }

    #[inline(always)]
    fn base(self) -> *mut Bucket {
        std::ptr::with_exposed_provenance_mut((self.get() & Self::ADDRESS_MASK) as usize)
    }

    #[inline(always)]
    pub(crate) fn buckets(self) -> usize {
        (((self.get() & 63) | ((self.get() >> Self::HIGH_SHIFT) << 6)) + 1) as usize
    }

    pub(crate) fn slots(self) -> usize {
        self.buckets() * SLOTS
    }

    /// How many directory bits all entries here share.
    #[inline(always)]
    pub(crate) fn depth(self) -> u32 {
        ((self.get() >> Self::DEPTH_SHIFT) & 31) as u32
    }

    #[inline(always)]
    pub(crate) fn wide(self) -> bool {
        self.get() & Self::WIDE != 0
    }

    /// Over how many buckets, from its home on, an entry may live.
    #[inline(always)]
    fn window(self) -> usize {
        if self.wide() { self.buckets() } else { self.buckets().min(WINDOW) }
    }

    /// The bucket in which an entry of this tag belongs, which there always is.
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
}

/// A segment of a table that is borrowed for reading.
#[derive(Clone, Copy)]
pub(crate) struct Segment<'t> {
    word: Word,
    borrows: PhantomData<&'t Bucket>,
}

impl Deref for Segment<'_> {
    type Target = Word;

    #[inline(always)]
    fn deref(&self) -> &Word {
        &self.word
    }
}

impl<'t> Segment<'t> {
    /// # Safety
    /// `word` is from [`SegmentBox::into_word`], and while `'t` lasts the segment is neither changed nor freed.
    #[inline(always)]
    pub(super) unsafe fn from_word(word: Word) -> Self {
        Segment { word, borrows: PhantomData }
    }

    /// # Safety
    /// There is such a bucket.
    #[inline(always)]
    unsafe fn bucket_unchecked(self, bucket: usize) -> &'t Bucket {
        // SAFETY: the word stands for a live array of this many buckets that nobody changes while `'t` lasts.
        unsafe { &*self.base().add(bucket) }
    }

    /// A bucket, which there must be.
    #[inline(always)]
    pub(crate) fn bucket(self, bucket: usize) -> &'t Bucket {
        assert!(bucket < self.buckets(), "no such bucket");
        // SAFETY: just compared.
        unsafe { self.bucket_unchecked(bucket) }
    }

    /// All buckets.
    pub(crate) fn each_bucket(self) -> &'t [Bucket] {
        // SAFETY: the word stands for a live array of this many buckets that nobody changes while `'t` lasts.
        unsafe { std::slice::from_raw_parts(self.base(), self.buckets()) }
    }

    /// The home of a tag.
    #[inline(always)]
    pub(crate) fn home_bucket(self, tag: u16) -> &'t Bucket {
        // SAFETY: a home is below the number of buckets, a tag being below 2^16.
        unsafe { self.bucket_unchecked(self.home(tag)) }
    }

    /// Finds the entry of this tag that `wanted` accepts.
    #[inline(always)]
    pub(crate) fn find(self, tag: u16, mut wanted: impl FnMut(EntryRef<'t>) -> bool) -> Option<(Slot, EntryRef<'t>)> {
        let home = self.home(tag);
        let first = self.home_bucket(tag);
        for (slot, entry) in first.entries_of(tag) {
            if wanted(entry) {
                return Some((Slot { bucket: home as u32, slot: slot as u8 }, entry));
            }
        }
        if first.overflow() == 0 {
            return None;
        }
        for step in 1..self.window() {
            let index = self.after(home, step);
            // SAFETY: home and step both are below the number of buckets, and at that number it goes round.
            let bucket = unsafe { self.bucket_unchecked(index) };
            for (slot, entry) in bucket.entries_of(tag) {
                if wanted(entry) {
                    return Some((Slot { bucket: index as u32, slot: slot as u8 }, entry));
                }
            }
        }
        None
    }

    /// The entry in a place, if the place is in use.
    #[inline(always)]
    pub(crate) fn entry(self, place: Slot) -> Option<EntryRef<'t>> {
        let bucket = place.bucket as usize;
        // SAFETY: just compared.
        let bucket = (bucket < self.buckets()).then(|| unsafe { self.bucket_unchecked(bucket) })?;
        bucket.get(place.slot as usize)
    }

    /// Hands on every entry whose home is bucket `home`, wherever it lives.
    pub(crate) fn visit_home(self, home: usize, visit: &mut dyn FnMut(u16, EntryRef<'t>)) {
        let first = self.bucket(home);
        let steps = if first.overflow() == 0 { 1 } else { self.window() };
        for step in 0..steps {
            let bucket = self.bucket(self.after(home, step));
            for (slot, entry) in bucket.entries().enumerate() {
                let tag = bucket.tag(slot);
                if self.home(tag) == home {
                    visit(tag, entry);
                }
            }
        }
    }

    /// How many entries live here, by reading every bucket.
    pub(crate) fn count(self) -> usize {
        self.each_bucket().iter().map(Bucket::len).sum()
    }

    /// Puts all entries that `wanted` picks (by bucket and slot) into `target` too; false if one did not fit.
    ///
    /// # Safety
    /// Two segments then own the same entries. One of the two is given up, as buckets without entries, before
    /// an entry is taken out of the other or changed in it, and nothing is taken out of the one given up.
    pub(crate) unsafe fn copy_into(self, target: &mut SegmentBox, wanted: impl Fn(usize, usize) -> bool) -> bool {
        for (index, bucket) in self.each_bucket().iter().enumerate() {
            for slot in 0..bucket.len() {
                if !wanted(index, slot) {
                    continue;
                }
                // SAFETY: the address of a live entry; that it has a second owner is the caller's to mend.
                let entry = unsafe { EntryBox::from_address(bucket.address(slot)) };
                if let Err(entry) = target.as_mut().place(bucket.tag(slot), entry) {
                    // It has its owner here.
                    let _ = entry.into_address();
                    return false;
                }
            }
        }
        true
    }
}

/// A segment of a table that is borrowed for writing.
pub(crate) struct SegmentMut<'t> {
    word: Word,
    borrows: PhantomData<&'t mut Bucket>,
}

impl Deref for SegmentMut<'_> {
    type Target = Word;

    #[inline(always)]
    fn deref(&self) -> &Word {
        &self.word
    }
}

impl SegmentMut<'_> {
    /// # Safety
    /// `word` is from [`SegmentBox::into_word`], and while `'t` lasts nobody else reaches the segment.
    #[inline(always)]
    pub(super) unsafe fn from_word(word: Word) -> Self {
        SegmentMut { word, borrows: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn as_ref(&self) -> Segment<'_> {
        // SAFETY: borrowed for writing, of which this lends a part.
        unsafe { Segment::from_word(self.word) }
    }

    #[inline(always)]
    fn bucket(&self, bucket: usize) -> &Bucket {
        self.as_ref().bucket(bucket)
    }

    /// A bucket, which there must be.
    #[inline(always)]
    pub(crate) fn bucket_mut(&mut self, bucket: usize) -> &mut Bucket {
        assert!(bucket < self.buckets(), "no such bucket");
        // SAFETY: just compared; the word stands for a live array of this many buckets, borrowed for writing.
        unsafe { &mut *self.base().add(bucket) }
    }

    /// Puts an entry into its home or a bucket after it.
    ///
    /// # Errors
    /// There is no room and none can be made: the entry comes back.
    #[inline]
    pub(crate) fn place(&mut self, tag: u16, entry: EntryBox) -> Result<(), EntryBox> {
        let home = self.home(tag);
        let Err(mut entry) = self.bucket_mut(home).push(tag, entry) else { return Ok(()) };
        for step in 1..self.window() {
            let index = self.after(home, step);
            match self.bucket_mut(index).push(tag, entry) {
                Ok(()) => {
                    self.bucket_mut(home).overflow_add();
                    return Ok(());
                }
                Err(back) => entry = back,
            }
        }
        let Some(index) = self.make_room(home) else { return Err(entry) };
        self.bucket_mut(index).push(tag, entry)?;
        if index != home {
            self.bucket_mut(home).overflow_add();
        }
        Ok(())
    }

    /// Moves an entry out of the full window of `home` to a later bucket of its own window; returns
    /// the bucket that has room now. Fills segments by a tenth more before they must grow.
    #[cold]
    fn make_room(&mut self, home: usize) -> Option<usize> {
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
                self.relocate(index, slot, target);
                if gone == 0 {
                    self.bucket_mut(from).overflow_add();
                }
                return Some(index);
            }
        }
        None
    }

    /// Moves an entry to another bucket, which must have room.
    fn relocate(&mut self, from: usize, slot: usize, to: usize) {
        let tag = self.bucket(from).tag(slot);
        let entry = self.bucket_mut(from).take(slot);
        let moved = self.bucket_mut(to).push(tag, entry);
        debug_assert!(moved.is_ok(), "the bucket had room");
    }

    /// Takes an entry out of a slot in use, and moves one that lives elsewhere home into the gap. Tells whether
    /// the entry's bucket is empty now.
    pub(crate) fn take(&mut self, place: Slot) -> (EntryBox, bool) {
        let (index, slot) = (place.bucket as usize, place.slot as usize);
        let home = self.home(self.bucket(index).tag(slot));
        let entry = self.bucket_mut(index).take(slot);
        if index != home {
            self.bucket_mut(home).overflow_sub();
        }
        if self.bucket(index).overflow() > 0 {
            self.pull_home(index);
        }
        (entry, self.bucket(index).len() == 0)
    }

    fn pull_home(&mut self, home: usize) {
        for step in 1..self.window() {
            let index = self.after(home, step);
            let bucket = self.bucket(index);
            if let Some(slot) = (0..bucket.len()).find(|&slot| self.home(bucket.tag(slot)) == home) {
                self.relocate(index, slot, home);
                self.bucket_mut(home).overflow_sub();
                return;
            }
        }
    }
}

/// A segment and its ownership. Dropped, it frees its buckets but not the entries in them.
pub(crate) struct SegmentBox {
    word: Word,
}

impl Deref for SegmentBox {
    type Target = Word;

    fn deref(&self) -> &Word {
        &self.word
    }
}

impl SegmentBox {
    /// An empty one. `depth` is at most 31, `buckets` from 1 to 65536.
    pub(crate) fn new(buckets: usize, depth: u32, wide: bool) -> Self {
        // More buckets take half a million keys of one hash, which without the hash's key nobody finds.
        assert!((1..=BUCKETS_MAX).contains(&buckets) && depth < 32);
        let layout = Self::layout(buckets);
        // SAFETY: the layout is not empty; all zeros is an empty bucket.
        let pointer = unsafe { alloc::alloc_zeroed(layout) };
        let address = pointer.expose_provenance() as u64;
        let less_one = buckets as u64 - 1;
        let wide = if wide { Word::WIDE } else { 0 };
        let rest =
            (less_one & 63) | (u64::from(depth) << Word::DEPTH_SHIFT) | wide | ((less_one >> 6) << Word::HIGH_SHIFT);
        match Word::new(address | rest) {
            Some(word) if address != 0 => {
                // No address a program is given has more bits; one that had would be another's in the word.
                assert!(address & !Word::ADDRESS_MASK == 0, "an address of more than 48 bits");
                SegmentBox { word }
            }
            _ => alloc::handle_alloc_error(layout),
        }
    }

    fn layout(buckets: usize) -> Layout {
        // SAFETY: a segment has at most `BUCKETS_MAX` buckets, 4 MiB, and the alignment is a power of two.
        unsafe { Layout::from_size_align_unchecked(buckets * size_of::<Bucket>(), align_of::<Bucket>()) }
    }

    /// Gives up ownership for the directory's word.
    pub(crate) fn into_word(self) -> Word {
        ManuallyDrop::new(self).word
    }

    /// Takes ownership back.
    ///
    /// # Safety
    /// `word` is from [`SegmentBox::into_word`], ownership was not yet taken back from it, and no view of the
    /// segment is in use.
    pub(super) unsafe fn from_word(word: Word) -> Self {
        SegmentBox { word }
    }

    /// Lets entries live in any bucket from now on.
    pub(crate) fn set_wide(&mut self) {
        self.word = Word(self.word.0 | Word::WIDE);
    }

    pub(crate) fn as_mut(&mut self) -> SegmentMut<'_> {
        // SAFETY: ours, and borrowed for writing.
        unsafe { SegmentMut::from_word(self.word) }
    }
}

impl Drop for SegmentBox {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and owned by this box, which is gone after this.
        unsafe { alloc::dealloc(self.base().cast(), Self::layout(self.buckets())) }
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
