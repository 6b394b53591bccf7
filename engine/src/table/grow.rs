//! Growing and shrinking: how a segment is resized, split and merged, and a directory doubled and halved.

use super::bucket::SLOTS;
use super::segment::{BUCKETS_SPLIT, Segment, WINDOW, buckets_after, buckets_for};
use super::{Root, Roots, Table};
use crate::hash::{Hash, KeyHasher, PATH_BITS, ROOTS};
use crate::prefetch::prefetch;

/// A directory is at most this deep, so that a position in it fits a scan cursor.
pub(super) const DEPTH_MAX: u32 = 28;
const _: () = assert!(DEPTH_MAX < PATH_BITS && DEPTH_MAX < 32);

/// A new half of a split segment is made for this load, if its entries fit so.
const LOAD_SPLIT_PERCENT: usize = 94;
/// A segment whose window is full below this load holds colliding hashes; growing it would not help.
const LOAD_GROW_PERCENT_MIN: usize = 50;
/// Below this load a segment is made smaller, to the load after.
const LOAD_SHRINK_PERCENT: usize = 45;
const LOAD_SHRUNK_PERCENT: usize = 75;
/// Two halves are merged when together they have at most this many entries; half of what a full
/// segment splits at, so that adding and removing around one size does not merge and split in turn.
const MERGE_ENTRIES_MAX: usize = BUCKETS_SPLIT * SLOTS * 2 / 5;
/// Fewer than one in this many on one side means a split would not help: hashes collide.
const SPLIT_SIDE_SHARE: usize = 16;
/// How many levels of halves one removal may merge.
const MERGES_MAX: usize = 4;

impl Table {
    /// The roots, made at the first insertion.
    fn roots_mut(&mut self) -> &mut Roots {
        if self.roots.is_none() {
            self.directory_bytes += size_of::<Roots>();
        }
        self.roots.get_or_insert_with(|| Box::new([const { Root::EMPTY }; ROOTS]))
    }

    pub(super) fn first_segment(&mut self, hash: Hash) {
        let segment = Segment::new(1, 0, false);
        let root = &mut self.roots_mut()[hash.root()];
        root.rebuild(0, |_, _| segment.word());
        self.directory_bytes += size_of::<u64>();
        self.segments += 1;
        self.buckets += 1;
    }

    /// Makes room where the hash belongs, whose window is full.
    #[cold]
    pub(super) fn grow(&mut self, hash: Hash, hasher: &KeyHasher) {
        let segment = self.segment(hash);
        let entries = segment.count();
        if entries * 100 < segment.slots() * LOAD_GROW_PERCENT_MIN && !segment.wide() {
            let root = &mut self.roots_mut()[hash.root()];
            let index = root.index(hash.path());
            root.set_segment(index, segment.with_wide());
        } else if segment.buckets() < BUCKETS_SPLIT || !self.split(hash, segment, hasher) {
            self.resize(hash, segment, buckets_after(segment.buckets()));
        }
    }

    /// Moves a segment's entries to one of `buckets` buckets, or more if they do not fit.
    fn resize(&mut self, hash: Hash, old: Segment, buckets: usize) {
        let new = fill(buckets, old.depth(), old.wide(), |target| old.copy_into(target, |_, _| true));
        self.buckets = self.buckets + new.buckets() - old.buckets();
        self.resizes += 1;
        let root = &mut self.roots_mut()[hash.root()];
        let index = root.index(hash.path());
        root.set_segment(index, new);
        old.free();
    }

    /// Splits a segment by one more bit of the hash; false if that would not help.
    fn split(&mut self, hash: Hash, old: Segment, hasher: &KeyHasher) -> bool {
        if old.depth() == DEPTH_MAX {
            return false;
        }
        // The bit is not in the table: keys are hashed again, their entries loaded a few buckets ahead.
        const AHEAD: usize = 3;
        let bit = 1u64 << (63 - old.depth());
        let mut upper = vec![0u8; old.buckets()];
        let mut entries = 0;
        let mut upper_entries = 0;
        for index in 0..old.buckets() + AHEAD {
            if index < old.buckets() {
                let bucket = old.bucket(index);
                for slot in 0..bucket.len() {
                    bucket.prefetch_entry(slot);
                    // A key in an entry that begins in a line's last quarter goes over into the next one.
                    prefetch(std::ptr::without_provenance::<u8>(bucket.address(slot) as usize + 31));
                }
            }
            let Some(behind) = index.checked_sub(AHEAD) else { continue };
            let bucket = old.bucket(behind);
            for slot in 0..bucket.len() {
                let is_upper = hasher.hash(bucket.entry(slot).key()).path() & bit != 0;
                upper[behind] |= u8::from(is_upper) << slot;
                upper_entries += usize::from(is_upper);
            }
            entries += bucket.len();
        }
        if upper_entries.min(entries - upper_entries) * SPLIT_SIDE_SHARE < entries {
            return false;
        }
        let depth = old.depth() + 1;
        let half = |side: u8, count: usize| {
            fill(buckets_for(count, LOAD_SPLIT_PERCENT), depth, false, |target| {
                old.copy_into(target, |bucket, slot| (upper[bucket] >> slot) & 1 == side)
            })
        };
        let low = half(0, entries - upper_entries);
        let high = half(1, upper_entries);
        self.segments += 1;
        self.buckets = self.buckets + low.buckets() + high.buckets() - old.buckets();
        self.splits += 1;
        let root = &mut self.roots_mut()[hash.root()];
        let mut grown = 0;
        if old.depth() == root.depth() {
            grown = root.len() * size_of::<u64>();
            root.rebuild(depth, |root, at| root.segment(at >> 1).word());
        }
        let index = root.index(hash.path());
        let span = 1usize << (root.depth() - depth);
        let low_index = index & !(2 * span - 1);
        root.set_segment(low_index, low);
        root.set_segment(low_index + span, high);
        if depth == root.depth() {
            root.deepest += 2;
        }
        self.directory_bytes += grown;
        old.free();
        true
    }

    /// Makes the hash's segment smaller if it is nearly empty, or merges it with its other half.
    #[cold]
    pub(super) fn shrink(&mut self, hash: Hash) {
        for _ in 0..MERGES_MAX {
            let segment = self.segment(hash);
            let entries = segment.count();
            if segment.is_none() || entries * 100 >= segment.slots() * LOAD_SHRINK_PERCENT {
                return;
            }
            if !self.merge(hash, segment, entries) {
                let buckets = buckets_for(entries, LOAD_SHRUNK_PERCENT);
                if buckets < segment.buckets() {
                    self.resize(hash, segment, buckets);
                }
                return;
            }
        }
    }

    fn merge(&mut self, hash: Hash, segment: Segment, entries: usize) -> bool {
        if segment.depth() == 0 {
            return false;
        }
        let root = &mut self.roots_mut()[hash.root()];
        let index = root.index(hash.path());
        let buddy_index = index ^ (1usize << (root.depth() - segment.depth()));
        let buddy = root.segment(buddy_index);
        if buddy.depth() != segment.depth() {
            return false;
        }
        let total = entries + buddy.count();
        if total > MERGE_ENTRIES_MAX {
            return false;
        }
        let wide = segment.wide() || buddy.wide();
        let merged = fill(buckets_for(total, LOAD_SHRUNK_PERCENT), segment.depth() - 1, wide, |target| {
            segment.copy_into(target, |_, _| true) && buddy.copy_into(target, |_, _| true)
        });
        let root = &mut self.roots_mut()[hash.root()];
        root.set_segment(index, merged);
        let before = root.len();
        if segment.depth() == root.depth() {
            root.deepest -= 2;
            while root.deepest == 0 && root.depth() > 0 {
                root.rebuild(root.depth() - 1, |root, at| root.segment(at << 1).word());
            }
        }
        let freed = (before - root.len()) * size_of::<u64>();
        self.directory_bytes -= freed;
        self.segments -= 1;
        self.buckets = self.buckets + merged.buckets() - segment.buckets() - buddy.buckets();
        self.merges += 1;
        segment.free();
        buddy.free();
        true
    }
}

/// Makes a segment of at least `buckets` buckets into which `copy` can put everything. Where not even
/// a load of a half fits the windows, hashes collide: then an entry may live anywhere in the segment.
fn fill(mut buckets: usize, depth: u32, mut wide: bool, copy: impl Fn(Segment) -> bool) -> Segment {
    let start = buckets;
    loop {
        let segment = Segment::new(buckets, depth, wide);
        if copy(segment) {
            return segment;
        }
        segment.free();
        buckets = buckets_after(buckets);
        wide |= buckets > 2 * start && buckets > 2 * WINDOW;
    }
}
