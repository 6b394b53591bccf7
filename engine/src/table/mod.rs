//! The hash table: extendible hashing over segments of one-line buckets. It knows hashes, tags and
//! entry pointers; what an entry holds it learns only when it must hash a key again.
//!
//! ```text
//!  256 roots        directories          segments of 1..64 buckets
//! ┌──────────┐     ┌───┬───┬───┬───┐    ┌────────┐
//! │ dir ─────┼───▶ │ ● │ ● │ ● │ ● │──▶ │ bucket │ 64 bytes each
//! │ dir      │     └─│─┴─│─┴─┬─┴─┬─┘    │ bucket │
//! └──────────┘       │   │   └───┴ same  └────────┘
//! ```
//! A segment grows by the allocator's size classes; with 64 buckets full it splits by one more hash
//! bit, its directory doubling when it must. Nothing that is ever copied is the size of the data: the
//! largest pieces are a segment (4 KiB) and one root's directory. Deletions run the same backwards.

mod bucket;
mod dead;
mod entries;
mod grow;
mod scan;
mod segment;

use std::alloc::{self, Layout};

use crate::entry::EntryPtr;
use crate::prefetch::prefetch;
use crate::hash::{Hash, KeyHasher, ROOTS};
use crate::rng::Rng;
use bucket::{SLOTS, slots_of};

pub(crate) use dead::DeadTable;
pub(crate) use entries::Slot;
use segment::{Place, Segment};

/// What a table is made of, for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Segments allocated.
    pub segments: usize,
    /// Buckets in them, 64 bytes each.
    pub buckets: usize,
    /// Slots in those.
    pub slots: usize,
    /// Slots in use.
    pub entries: usize,
    /// Entries that live in a bucket after their home.
    pub displaced: usize,
    /// Bytes of roots and directories.
    pub directory_bytes: usize,
    /// Segments split since the table was made.
    pub splits: u64,
    /// Pairs of segments merged since.
    pub merges: u64,
    /// Segments resized since.
    pub resizes: u64,
}

/// The directory of a root that has none of its own: one word that says "no segment".
static NO_DIRECTORY: [u64; 1] = [0];

/// One root: a directory of 2^depth words, indexed by the path's top bits.
pub(crate) struct Root {
    directory: *mut u64,
    /// 63 - depth: the directory's index is `path >> 1 >> shift`.
    shift: u32,
    /// How many segments are as deep as the directory; at 0 it is halved.
    deepest: u32,
}

impl Root {
    fn empty() -> Self {
        Root { directory: NO_DIRECTORY.as_ptr().cast_mut(), shift: 63, deepest: 0 }
    }

    #[inline(always)]
    pub(crate) fn depth(&self) -> u32 {
        63 - self.shift
    }

    #[inline(always)]
    fn index(&self, path: u64) -> usize {
        ((path >> 1) >> self.shift) as usize
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        1 << self.depth()
    }

    #[inline(always)]
    pub(crate) fn segment(&self, index: usize) -> Segment {
        debug_assert!(index < self.len());
        // SAFETY: the directory has 2^depth words, and an index has no more than depth bits.
        Segment::from_word(unsafe { *self.directory.add(index) })
    }

    fn is_own(&self) -> bool {
        !std::ptr::eq(self.directory, NO_DIRECTORY.as_ptr())
    }

    /// Points every word that shares the segment's bits with `index` to it.
    fn set_segment(&mut self, index: usize, segment: Segment) {
        debug_assert!(self.is_own());
        let span = 1usize << (self.depth() - segment.depth());
        let start = index & !(span - 1);
        for at in start..start + span {
            // SAFETY: the span of a segment lies within the 2^depth words of the root's own directory.
            unsafe { *self.directory.add(at) = segment.word() };
        }
    }

    fn layout(depth: u32) -> Layout {
        // SAFETY: depth is at most 28, so the size is at most 2 GiB; the alignment is a word's.
        unsafe { Layout::from_size_align_unchecked(8usize << depth, 8) }
    }

    fn allocate(depth: u32) -> *mut u64 {
        let layout = Self::layout(depth);
        // SAFETY: the layout is not empty.
        let directory = unsafe { alloc::alloc_zeroed(layout) };
        if directory.is_null() {
            alloc::handle_alloc_error(layout);
        }
        directory.cast()
    }

    /// Replaces the directory by one of another depth whose words `word_at` gives.
    fn rebuild(&mut self, depth: u32, word_at: impl Fn(&Self, usize) -> u64) {
        let directory = Self::allocate(depth);
        for at in 0..1usize << depth {
            // SAFETY: within the 2^depth words just allocated.
            unsafe { *directory.add(at) = word_at(self, at) };
        }
        self.free_directory();
        self.directory = directory;
        self.shift = 63 - depth;
        self.deepest = self.segments().filter(|segment| segment.depth() == depth).count() as u32;
    }

    fn free_directory(&mut self) {
        if self.is_own() {
            // SAFETY: allocated with this layout by `allocate`, and replaced by the shared one at once.
            unsafe { alloc::dealloc(self.directory.cast(), Self::layout(self.depth())) };
        }
        *self = Root::empty();
    }

    /// Every segment once.
    fn segments(&self) -> impl Iterator<Item = Segment> {
        let mut index = 0;
        std::iter::from_fn(move || {
            while index < self.len() {
                let segment = self.segment(index);
                index += if segment.is_none() { 1 } else { 1 << (self.depth() - segment.depth()) };
                if !segment.is_none() {
                    return Some(segment);
                }
            }
            None
        })
    }
}

pub(crate) type Roots = [Root; ROOTS];

/// The table. It owns the entries in it.
pub(crate) struct Table {
    roots: Option<Box<Roots>>,
    len: usize,
    hasher: KeyHasher,
    segments: usize,
    buckets: usize,
    directory_bytes: usize,
    splits: u64,
    merges: u64,
    resizes: u64,
}

impl Table {
    pub(crate) fn new(hasher: KeyHasher) -> Self {
        Table {
            roots: None,
            len: 0,
            hasher,
            segments: 0,
            buckets: 0,
            directory_bytes: 0,
            splits: 0,
            merges: 0,
            resizes: 0,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of buckets, directories and roots.
    pub(crate) fn bytes(&self) -> usize {
        self.buckets * size_of::<bucket::Bucket>() + self.directory_bytes
    }

    #[inline(always)]
    fn segment(&self, hash: Hash) -> Segment {
        match &self.roots {
            Some(roots) => {
                let root = &roots[hash.root()];
                root.segment(root.index(hash.path()))
            }
            None => Segment::NONE,
        }
    }

    /// The first entry at this hash's home with its tag that `wanted` accepts.
    #[inline(always)]
    fn find_by(&self, hash: Hash, wanted: impl FnMut(EntryPtr) -> bool) -> Option<Place> {
        let segment = self.segment(hash);
        if segment.is_none() {
            return None;
        }
        segment.find(hash.tag(), wanted)
    }

    /// Starts loading the hash's home bucket.
    #[inline(always)]
    pub(crate) fn prefetch_bucket(&self, hash: Hash) {
        let segment = self.segment(hash);
        if !segment.is_none() {
            prefetch(segment.bucket_address(segment.home(hash.tag())));
        }
    }

    /// The addresses of the entries that may be the hash's, given that its bucket is warm.
    #[inline(always)]
    fn candidates(&self, hash: Hash, mut found: impl FnMut(*const u8)) {
        let segment = self.segment(hash);
        if segment.is_none() {
            return;
        }
        let home = segment.bucket(segment.home(hash.tag()));
        let mask = home.matches(hash.tag());
        for slot in slots_of(mask) {
            found(home.address(slot));
        }
        if mask == 0 && home.overflow() > 0 {
            // Displaced: the search ends at the entry, and its address goes through the same door.
            segment.find(hash.tag(), |entry| {
                found(entry.as_ptr());
                true
            });
        }
    }

    /// Adds an entry whose key is not in the table.
    fn insert_ptr(&mut self, hash: Hash, entry: EntryPtr) {
        loop {
            let segment = self.segment(hash);
            if segment.is_none() {
                self.first_segment(hash);
            } else if segment.place(hash.tag(), entry) {
                self.len += 1;
                return;
            } else {
                self.grow(hash);
            }
        }
    }

    /// Takes an entry out; the caller owns it then. Places found before are no longer valid.
    fn take(&mut self, hash: Hash, place: Place) -> EntryPtr {
        let (entry, bucket_is_empty) = place.segment.take(place);
        self.len -= 1;
        // Reading the whole segment's counts is worth it only when it may be nearly empty, of which
        // an empty bucket is the sign: at a healthy load one removal in a thousand leaves one.
        if bucket_is_empty {
            self.shrink(hash);
        }
        entry
    }

    /// A random entry; every one is equally likely, but for segments' loads differing a little.
    fn random_ptr(&self, rng: &mut Rng) -> Option<EntryPtr> {
        /// Up to here walking all roots is quicker than guessing.
        const WALK_LEN_MAX: usize = 2 * ROOTS;
        const GUESSES_MAX: usize = 128;
        if self.len == 0 {
            return None;
        }
        if self.len > WALK_LEN_MAX {
            for _ in 0..GUESSES_MAX {
                let segment = self.segment(Hash(rng.next_u64()));
                if segment.is_none() {
                    continue;
                }
                let bucket = segment.bucket(rng.below(segment.buckets() as u64) as usize);
                let slot = rng.below(SLOTS as u64) as usize;
                if slot < bucket.len() {
                    return Some(bucket.entry(slot));
                }
            }
        }
        // Few entries, or nearly all in one place: count from the first one of a random root.
        let start = rng.below(ROOTS as u64) as usize;
        let mut left = rng.below(self.len.min(WALK_LEN_MAX) as u64);
        for at in 0..ROOTS {
            let root = &self.roots.as_ref()?[(start + at) % ROOTS];
            for segment in root.segments() {
                for index in 0..segment.buckets() {
                    let bucket = segment.bucket(index);
                    if left < bucket.len() as u64 {
                        return Some(bucket.entry(left as usize));
                    }
                    left -= bucket.len() as u64;
                }
            }
        }
        None
    }

    /// The addresses of up to `max` entries of one random bucket. Sampling reads one line of the table so.
    fn random_bucket(&self, rng: &mut Rng, max: usize, found: &mut dyn FnMut(EntryPtr)) -> usize {
        let segment = self.segment(Hash(rng.next_u64()));
        if segment.is_none() {
            return 0;
        }
        let bucket = segment.bucket(rng.below(segment.buckets() as u64) as usize);
        let len = bucket.len();
        if len == 0 {
            return 0;
        }
        let count = len.min(max);
        let start = rng.below(len as u64) as usize;
        for at in 0..count {
            prefetch(bucket.address((start + at) % len));
        }
        for at in 0..count {
            found(bucket.entry((start + at) % len));
        }
        count
    }

    /// Every entry, in no particular order.
    fn for_each_ptr(&self, visit: &mut dyn FnMut(EntryPtr)) {
        for segment in self.roots.iter().flat_map(|roots| roots.iter()).flat_map(Root::segments) {
            for index in 0..segment.buckets() {
                let bucket = segment.bucket(index);
                for slot in 0..bucket.len() {
                    prefetch(bucket.address(slot));
                }
                for slot in 0..bucket.len() {
                    visit(bucket.entry(slot));
                }
            }
        }
    }

    /// Counts everything; reads every bucket.
    pub(crate) fn stats(&self) -> TableStats {
        let mut stats = TableStats {
            directory_bytes: self.directory_bytes,
            splits: self.splits,
            merges: self.merges,
            resizes: self.resizes,
            ..TableStats::default()
        };
        for segment in self.roots.iter().flat_map(|roots| roots.iter()).flat_map(Root::segments) {
            stats.segments += 1;
            stats.buckets += segment.buckets();
            stats.slots += segment.slots();
            for index in 0..segment.buckets() {
                let bucket = segment.bucket(index);
                stats.entries += bucket.len();
                stats.displaced +=
                    (0..bucket.len()).filter(|&slot| segment.home(bucket.tag(slot)) != index).count();
            }
        }
        debug_assert_eq!(
            (stats.segments, stats.buckets, stats.entries),
            (self.segments, self.buckets, self.len),
            "running counts"
        );
        stats
    }

    /// Leaves the table empty and hands its contents over to be freed in pieces.
    pub(crate) fn detach(&mut self) -> DeadTable {
        let dead = DeadTable::new(self.roots.take(), self.len);
        self.len = 0;
        self.segments = 0;
        self.buckets = 0;
        self.directory_bytes = 0;
        dead
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let mut dead = self.detach();
        while dead.reclaim(usize::MAX).more {}
    }
}

#[cfg(test)]
mod tests;
