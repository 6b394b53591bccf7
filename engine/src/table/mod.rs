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
use crate::hash::{Hash, KeyHasher, PATH_BITS, ROOTS};
use crate::prefetch::prefetch;
use crate::rng::Rng;
use bucket::SLOTS;

pub(crate) use dead::Drain;
pub(crate) use segment::Slot;
use segment::{Segment, SegmentBox, SegmentMut, Word};
pub(crate) use walk::Position;

/// A directory is at most this deep, so that a position in it fits a scan cursor.
const DEPTH_MAX: u32 = 28;
const _: () = assert!(DEPTH_MAX < PATH_BITS && DEPTH_MAX < 32);

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

/// The directory of a root that has none of its own: one word that says "no segment". It saves lookups the
/// question whether there is a directory; `Root::words_mut`, the only way to write one, does not lend it.
static NO_DIRECTORY: [u64; 1] = [0];

/// One root: a directory of 2^depth words, indexed by the path's top bits. A segment's word is in the whole span
/// of places that share the segment's bits, and nowhere else; so no segment is deeper than the directory.
pub(crate) struct Root {
    directory: *mut u64,
    /// 63 - depth: the directory's index is `path >> 1 >> shift`.
    shift: u32,
    /// How many segments are as deep as the directory; at 0 it may be halved.
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

    /// The word for a path.
    #[inline(always)]
    fn word_of(&self, path: u64) -> Option<Word> {
        // SAFETY: the directory has 2^depth words, and a path's index no more than depth bits.
        Word::new(unsafe { *self.directory.add(self.index(path)) })
    }

    /// The segment of a path.
    #[inline(always)]
    pub(crate) fn segment_of(&self, path: u64) -> Option<Segment<'_>> {
        // SAFETY: a directory's words are live segments', which change through the root only, and that is borrowed.
        self.word_of(path).map(|word| unsafe { Segment::from_word(word) })
    }

    /// The segment of a path, to change what is in it.
    #[inline(always)]
    fn segment_of_mut(&mut self, path: u64) -> Option<SegmentMut<'_>> {
        // SAFETY: a directory's words are live segments', reached through the root only, and that is borrowed.
        self.word_of(path).map(|word| unsafe { SegmentMut::from_word(word) })
    }

    /// The segment at a place of the directory, which must have that place.
    pub(crate) fn segment(&self, index: usize) -> Option<Segment<'_>> {
        // SAFETY: as for that of a path.
        Word::new(self.words()[index]).map(|word| unsafe { Segment::from_word(word) })
    }

    /// As [`Root::segment`], to change what is in it.
    pub(crate) fn segment_mut(&mut self, index: usize) -> Option<SegmentMut<'_>> {
        // SAFETY: as for that of a path.
        Word::new(self.words()[index]).map(|word| unsafe { SegmentMut::from_word(word) })
    }

    fn is_own(&self) -> bool {
        !std::ptr::eq(self.directory, NO_DIRECTORY.as_ptr())
    }

    fn words(&self) -> &[u64] {
        // SAFETY: the directory has 2^depth words, which change through the root only.
        unsafe { std::slice::from_raw_parts(self.directory, self.len()) }
    }

    fn words_mut(&mut self) -> &mut [u64] {
        assert!(self.is_own(), "the directory that roots share is not written");
        // SAFETY: a directory of the root's own has 2^depth words that nobody else knows of.
        unsafe { std::slice::from_raw_parts_mut(self.directory, self.len()) }
    }

    /// The places that share the first `depth` bits with `index`.
    fn span(&self, index: usize, depth: u32) -> std::ops::Range<usize> {
        let span = 1usize << (self.depth() - depth);
        let start = index & !(span - 1);
        start..start + span
    }

    /// Points every word that shares the segment's bits with `index` to it, in a directory at least as deep. None
    /// points to another there, unless that one is to leak.
    fn put(&mut self, index: usize, segment: SegmentBox) {
        let depth = segment.depth();
        assert!(depth <= self.depth(), "a segment deeper than the directory");
        let span = self.span(index, depth);
        self.words_mut()[span].fill(segment.into_word().get());
        self.deepest += u32::from(depth == self.depth());
    }

    /// Takes the segment at `index` out of all words that point to it.
    fn take(&mut self, index: usize) -> Option<SegmentBox> {
        let word = Word::new(self.words()[index])?;
        let span = self.span(index, word.depth());
        self.words_mut()[span].fill(0);
        self.deepest -= u32::from(word.depth() == self.depth());
        // SAFETY: the words of its span owned the segment, and no other word has it; the root is borrowed for
        // writing, so no view of it is in use.
        Some(unsafe { SegmentBox::from_word(word) })
    }

    fn layout(depth: u32) -> Layout {
        // SAFETY: depth is at most 28, so the size is at most 2 GiB; the alignment is a word's.
        unsafe { Layout::from_size_align_unchecked(8usize << depth, 8) }
    }

    /// Replaces the directory by one of another depth, at most `DEPTH_MAX`, whose words `word_at` gives from those
    /// there are. It keeps every word in the whole span of its segment.
    fn rebuild(&mut self, depth: u32, word_at: impl Fn(&[u64], usize) -> u64) {
        assert!(depth <= DEPTH_MAX);
        let layout = Self::layout(depth);
        // SAFETY: the layout is not empty.
        let directory: *mut u64 = unsafe { alloc::alloc_zeroed(layout) }.cast();
        if directory.is_null() {
            alloc::handle_alloc_error(layout);
        }
        // SAFETY: just allocated with room for so many words, all zero.
        let words = unsafe { std::slice::from_raw_parts_mut(directory, 1 << depth) };
        for (at, word) in words.iter_mut().enumerate() {
            *word = word_at(self.words(), at);
            assert!(Word::new(*word).is_none_or(|word| word.depth() <= depth), "a segment deeper than the directory");
        }
        self.free_directory();
        (self.directory, self.shift) = (directory, 63 - depth);
        self.deepest = self.segments().filter(|segment| segment.depth() == depth).count() as u32;
    }

    /// Gives the root a directory of its own: one word without a segment. Only if it has none.
    fn begin_directory(&mut self) {
        assert!(!self.is_own());
        self.rebuild(0, |_, _| 0);
    }

    /// Makes the directory one bit deeper.
    fn double(&mut self) {
        self.rebuild(self.depth() + 1, |words, at| words[at >> 1]);
    }

    /// Makes the directory one bit shallower, if no segment needs that bit.
    fn halve(&mut self) {
        assert!(self.deepest == 0 && self.depth() > 0);
        self.rebuild(self.depth() - 1, |words, at| words[at << 1]);
    }

    /// Goes back to the shared directory. Segments that are still in this one leak.
    fn free_directory(&mut self) {
        if self.is_own() {
            // SAFETY: allocated with this layout by `rebuild`, and replaced by the shared one at once.
            unsafe { alloc::dealloc(self.directory.cast(), Self::layout(self.depth())) };
        }
        *self = Root::EMPTY;
    }

    /// Every segment once.
    fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let mut index = 0;
        std::iter::from_fn(move || {
            while index < self.len() {
                let segment = self.segment(index);
                index += segment.map_or(1, |segment| self.span(index, segment.depth()).len());
                if segment.is_some() {
                    return segment;
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
    fn segment(&self, hash: Hash) -> Option<Segment<'_>> {
        self.roots.as_ref()?[hash.root()].segment_of(hash.path())
    }

    #[inline(always)]
    fn segment_mut(&mut self, hash: Hash) -> Option<SegmentMut<'_>> {
        self.roots.as_mut()?[hash.root()].segment_of_mut(hash.path())
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
        self.segment(hash)?.find(hash.tag(), wanted)
    }

    /// The entry of a key, to change it where it lies.
    #[inline]
    pub(crate) fn find_key_mut(&mut self, key: &[u8], hash: Hash) -> Option<EntryMut<'_>> {
        let (_, entry) = self.find_key(key, hash)?;
        // SAFETY: the address was just read from a slot, and the table is borrowed for writing.
        Some(unsafe { EntryMut::from_address(entry.address()) })
    }

    /// The entry in a slot found before, to change it where it lies.
    #[inline]
    pub(crate) fn entry_mut(&mut self, hash: Hash, slot: Slot) -> Option<EntryMut<'_>> {
        let address = self.entry(hash, slot)?.address();
        // SAFETY: the slot is in use, so this is a live entry, and the table is borrowed for writing.
        Some(unsafe { EntryMut::from_address(address) })
    }

    /// The entry in a slot found with this hash before, if the slot is still in use.
    #[inline]
    pub(crate) fn entry(&self, hash: Hash, slot: Slot) -> Option<EntryRef<'_>> {
        self.segment(hash)?.entry(slot)
    }

    /// Puts an entry into the slot of another with the same key, which is handed out.
    pub(crate) fn replace(&mut self, hash: Hash, slot: Slot, entry: EntryBox) -> Option<EntryBox> {
        let mut segment = self.segment_mut(hash).filter(|segment| segment.as_ref().entry(slot).is_some())?;
        Some(segment.bucket_mut(slot.bucket as usize).replace(slot.slot as usize, entry))
    }

    /// Starts loading the hash's home bucket.
    #[inline(always)]
    pub(crate) fn prefetch_bucket(&self, hash: Hash) {
        if let Some(segment) = self.segment(hash) {
            prefetch(segment.bucket_address(segment.home(hash.tag())));
        }
    }

    /// Starts loading the entries that may be the hash's. Reads its bucket.
    #[inline(always)]
    pub(crate) fn prefetch_entry(&self, hash: Hash) {
        let Some(segment) = self.segment(hash) else { return };
        let home = segment.home_bucket(hash.tag());
        if !home.prefetch_entries_of(hash.tag()) && home.overflow() > 0 {
            self.find(hash, |entry| {
                entry.prefetch();
                true
            });
        }
    }

    /// Adds an entry whose key is not in the table.
    pub(crate) fn insert(&mut self, hash: Hash, entry: EntryBox, hasher: &KeyHasher) {
        let mut entry = entry;
        loop {
            let Some(mut segment) = self.segment_mut(hash) else {
                self.first_segment(hash);
                continue;
            };
            match segment.place(hash.tag(), entry) {
                Ok(()) => break,
                Err(back) => entry = back,
            }
            self.grow(hash, hasher);
        }
        self.len += 1;
    }

    /// Takes an entry out of a slot just found. Slots found before are no longer good.
    pub(crate) fn remove(&mut self, hash: Hash, slot: Slot) -> Option<EntryBox> {
        let mut segment = self.segment_mut(hash).filter(|segment| segment.as_ref().entry(slot).is_some())?;
        let (entry, bucket_is_empty) = segment.take(slot);
        self.len -= 1;
        // Reading the whole segment's counts is worth it only when it may be nearly empty, of which
        // an empty bucket is the sign: at a healthy load one removal in a thousand leaves one.
        if bucket_is_empty {
            self.shrink(hash);
        }
        Some(entry)
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
                let Some(segment) = self.segment(Hash(rng.next_u64())) else { continue };
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
                for bucket in segment.each_bucket() {
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
            let Some(segment) = self.segment(Hash(rng.next_u64())) else { continue };
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
            for bucket in segment.each_bucket() {
                bucket.prefetch_entries();
                bucket.entries().for_each(&mut *visit);
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
