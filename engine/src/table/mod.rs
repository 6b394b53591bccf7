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
mod grow;
mod scan;
mod segment;
mod walk;

use std::alloc::{self, Layout};

use crate::entry::{EntryBox, EntryMut, EntryRef};
use crate::hash::{Hash, KeyHasher, ROOTS};
use crate::prefetch::prefetch;
use crate::rng::Rng;
use bucket::{SLOTS, slots_of};

pub(crate) use dead::Drain;
use segment::Segment;
pub(crate) use segment::Slot;
pub(crate) use walk::Position;

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
    const EMPTY: Root = Root { directory: NO_DIRECTORY.as_ptr().cast_mut(), shift: 63, deepest: 0 };

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

    /// Removes the segment at `index` from all words that point to it; returns how many did.
    fn clear_segment(&mut self, index: usize) -> usize {
        let span = 1usize << (self.depth() - self.segment(index).depth());
        let start = index & !(span - 1);
        for at in start..start + span {
            // SAFETY: as for pointing words to a segment.
            unsafe { *self.directory.add(at) = Segment::NONE.word() };
        }
        span
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
        *self = Root::EMPTY;
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
#[derive(Default)]
pub(crate) struct Table {
    roots: Option<Box<Roots>>,
    len: usize,
    segments: usize,
    buckets: usize,
    directory_bytes: usize,
    splits: u64,
    merges: u64,
    resizes: u64,
}

impl Table {
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

    /// The entry of a key.
    #[inline(always)]
    pub(crate) fn find_key(&self, key: &[u8], hash: Hash) -> Option<(Slot, EntryRef<'_>)> {
        self.find(hash, |entry| entry.has_key(key))
    }

    /// The first entry at this hash's home with its tag that `wanted` accepts.
    #[inline(always)]
    pub(crate) fn find<'a>(
        &'a self,
        hash: Hash,
        wanted: impl FnMut(EntryRef<'a>) -> bool,
    ) -> Option<(Slot, EntryRef<'a>)> {
        let segment = self.segment(hash);
        if segment.is_none() {
            return None;
        }
        segment.find(hash.tag(), wanted)
    }

    /// The entry of a key, to change it where it lies.
    #[inline]
    pub(crate) fn find_key_mut(&mut self, key: &[u8], hash: Hash) -> Option<EntryMut<'_>> {
        let (_, entry) = self.find_key(key, hash)?;
        // SAFETY: the address was just read from a slot, and the table is borrowed for writing.
        Some(unsafe { EntryMut::from_address(entry.address()) })
    }

    /// The segment and bucket of a slot that was found with this hash, if it is still in use.
    #[inline]
    fn resolve(&self, hash: Hash, slot: Slot) -> Option<Segment> {
        let segment = self.segment(hash);
        let bucket = slot.bucket as usize;
        let in_use =
            !segment.is_none() && bucket < segment.buckets() && (slot.slot as usize) < segment.bucket(bucket).len();
        in_use.then_some(segment)
    }

    /// The entry in a slot found before, to change it where it lies.
    #[inline]
    pub(crate) fn entry_mut(&mut self, hash: Hash, slot: Slot) -> Option<EntryMut<'_>> {
        let segment = self.resolve(hash, slot)?;
        let address = segment.bucket(slot.bucket as usize).address(slot.slot as usize);
        // SAFETY: the slot is in use, so this is a live entry, and the table is borrowed for writing.
        Some(unsafe { EntryMut::from_address(address) })
    }

    /// The entry in a slot found before.
    pub(crate) fn entry(&self, hash: Hash, slot: Slot) -> Option<EntryRef<'_>> {
        let segment = self.resolve(hash, slot)?;
        Some(segment.bucket(slot.bucket as usize).entry(slot.slot as usize))
    }

    /// Puts an entry into the slot of another with the same key, which is handed out.
    pub(crate) fn replace(&mut self, hash: Hash, slot: Slot, entry: EntryBox) -> Option<EntryBox> {
        let segment = self.resolve(hash, slot)?;
        let old = segment.bucket_mut(slot.bucket as usize).replace(slot.slot as usize, entry.into_address());
        // SAFETY: the slot owned the entry by this address and has just given it up.
        Some(unsafe { EntryBox::from_address(old) })
    }

    /// Starts loading the hash's home bucket.
    #[inline(always)]
    pub(crate) fn prefetch_bucket(&self, hash: Hash) {
        let segment = self.segment(hash);
        if !segment.is_none() {
            prefetch(segment.bucket_address(segment.home(hash.tag())));
        }
    }

    /// Starts loading the entries that may be the hash's. Reads its bucket.
    #[inline(always)]
    pub(crate) fn prefetch_entry(&self, hash: Hash) {
        let segment = self.segment(hash);
        if segment.is_none() {
            return;
        }
        let home = segment.bucket(segment.home(hash.tag()));
        let mask = home.matches(hash.tag());
        for slot in slots_of(mask) {
            home.prefetch_entry(slot);
        }
        if mask == 0 && home.overflow() > 0 {
            self.find(hash, |entry| {
                entry.prefetch();
                true
            });
        }
    }

    /// Adds an entry whose key is not in the table.
    pub(crate) fn insert(&mut self, hash: Hash, entry: EntryBox, hasher: &KeyHasher) {
        let address = entry.into_address();
        loop {
            let segment = self.segment(hash);
            if segment.is_none() {
                self.first_segment(hash);
            } else if segment.place(hash.tag(), address) {
                self.len += 1;
                return;
            } else {
                self.grow(hash, hasher);
            }
        }
    }

    /// Takes an entry out of a slot just found. Slots found before are no longer good.
    pub(crate) fn remove(&mut self, hash: Hash, slot: Slot) -> Option<EntryBox> {
        let segment = self.resolve(hash, slot)?;
        let (address, bucket_is_empty) = segment.take(slot);
        self.len -= 1;
        // Reading the whole segment's counts is worth it only when it may be nearly empty, of which
        // an empty bucket is the sign: at a healthy load one removal in a thousand leaves one.
        if bucket_is_empty {
            self.shrink(hash);
        }
        // SAFETY: the slot owned the entry by this address and has given it up.
        Some(unsafe { EntryBox::from_address(address) })
    }

    /// A random entry; every one is equally likely, but for segments' loads differing a little.
    pub(crate) fn random(&self, rng: &mut Rng) -> Option<EntryRef<'_>> {
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

    /// Visits about `want` random entries, a few of one bucket each time, so that sampling reads little
    /// of the table; at least one if there is any.
    pub(crate) fn sample(&self, rng: &mut Rng, want: usize, visit: &mut dyn FnMut(EntryRef<'_>)) {
        /// Buckets looked at for each entry wanted, before the way that cannot fail is taken.
        const LOOKS_MAX: usize = 4;
        /// Entries of one bucket: in an LRU or LFU sample one bucket is as random as several, a hash
        /// having put the entries there, but two small calls should not see the same five keys.
        const OF_ONE_MAX: usize = 4;
        let mut seen = 0;
        for _ in 0..LOOKS_MAX * want {
            if seen >= want {
                return;
            }
            let segment = self.segment(Hash(rng.next_u64()));
            if segment.is_none() {
                continue;
            }
            let bucket = segment.bucket(rng.below(segment.buckets() as u64) as usize);
            let len = bucket.len();
            let take = len.min(want - seen).min(OF_ONE_MAX);
            let start = rng.below(len as u64) as usize;
            for at in 0..take {
                bucket.prefetch_entry((start + at) % len);
            }
            for at in 0..take {
                visit(bucket.entry((start + at) % len));
            }
            seen += take;
        }
        if seen == 0
            && let Some(entry) = self.random(rng)
        {
            visit(entry);
        }
    }

    /// Every entry, in no particular order.
    pub(crate) fn for_each(&self, visit: &mut dyn FnMut(EntryRef<'_>)) {
        for segment in self.roots.iter().flat_map(|roots| roots.iter()).flat_map(Root::segments) {
            for index in 0..segment.buckets() {
                let bucket = segment.bucket(index);
                for slot in 0..bucket.len() {
                    bucket.prefetch_entry(slot);
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
                stats.displaced += (0..bucket.len()).filter(|&slot| segment.home(bucket.tag(slot)) != index).count();
            }
        }
        debug_assert_eq!(
            (stats.segments, stats.buckets, stats.entries),
            (self.segments, self.buckets, self.len),
            "running counts"
        );
        stats
    }
}

#[cfg(test)]
mod tests;
