//! Growing and shrinking: how a segment is resized, split and merged, and a directory doubled and halved.

use super::bucket::SLOTS;
use super::segment::{BUCKETS_SPLIT, SegmentBox, WINDOW, buckets_after, buckets_for};
use super::{DEPTH_MAX, Root, Roots, Table};
use crate::hash::{Hash, KeyHasher, ROOTS};
use crate::prefetch::prefetch;

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
/// The highest bits of the path may be the lowest of a cluster's slot (ADR 0010): keys of one slot have them in common,
/// and are split beyond them all the same.
const SLOT_PATH_BITS: u32 = 3;
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

    /// The hash's root.
    fn root_mut(&mut self, hash: Hash) -> &mut Root {
        &mut self.roots_mut()[hash.root()]
    }

    pub(super) fn first_segment(&mut self, hash: Hash) {
        let root = self.root_mut(hash);
        root.begin_directory();
        root.put(0, SegmentBox::new(1, 0, false));
        self.directory_bytes += size_of::<u64>();
        self.segments += 1;
        self.buckets += 1;
    }

    /// Makes room where the hash belongs, whose window is full.
    #[cold]
    pub(super) fn grow(&mut self, hash: Hash, hasher: &KeyHasher) {
        let Some(segment) = self.segment(hash) else { return };
        let buckets = segment.buckets();
        if segment.count() * 100 < segment.slots() * LOAD_GROW_PERCENT_MIN && !segment.wide() {
            let root = self.root_mut(hash);
            let index = root.index(hash.path());
            if let Some(mut segment) = root.take(index) {
                segment.set_wide();
                root.put(index, segment);
            }
        } else if buckets < BUCKETS_SPLIT || !self.split(hash, hasher) {
            self.resize(hash, buckets_after(buckets));
        }
    }

    /// Moves a segment's entries to one of `buckets` buckets, or more if they do not fit.
    fn resize(&mut self, hash: Hash, buckets: usize) {
        let Some(old) = self.segment(hash) else { return };
        // SAFETY: the new segment takes the place of the old one below, whose buckets are then freed.
        let new = fill(buckets, old.depth(), old.wide(), |target| unsafe { old.copy_into(target, |_, _| true) });
        let added = new.buckets();
        let root = self.root_mut(hash);
        let index = root.index(hash.path());
        let removed = root.take(index).map_or(0, |old| old.buckets());
        root.put(index, new);
        self.buckets = self.buckets + added - removed;
        self.resizes += 1;
    }

    /// Splits a segment by one more bit of the hash; false if that would not help.
    fn split(&mut self, hash: Hash, hasher: &KeyHasher) -> bool {
        let Some(old) = self.segment(hash).filter(|old| old.depth() < DEPTH_MAX) else { return false };
        // The bit is not in the table: keys are hashed again, their entries loaded a few buckets ahead.
        const AHEAD: usize = 3;
        let bit = 1u64 << (63 - old.depth());
        let mut upper = vec![0u8; old.buckets()];
        let mut entries = 0;
        let mut upper_entries = 0;
        for index in 0..old.buckets() + AHEAD {
            if index < old.buckets() {
                let bucket = old.bucket(index);
                bucket.prefetch_entries();
                for slot in 0..bucket.len() {
                    // A key in an entry that begins in a line's last quarter goes over into the next one.
                    prefetch(std::ptr::without_provenance::<u8>(bucket.address(slot) as usize + 31));
                }
            }
            let Some(behind) = index.checked_sub(AHEAD) else { continue };
            let bucket = old.bucket(behind);
            for (slot, entry) in bucket.entries().enumerate() {
                let is_upper = hasher.hash(entry.key()).path() & bit != 0;
                upper[behind] |= u8::from(is_upper) << slot;
                upper_entries += usize::from(is_upper);
            }
            entries += bucket.len();
        }
        if old.depth() >= SLOT_PATH_BITS && upper_entries.min(entries - upper_entries) * SPLIT_SIDE_SHARE < entries {
            return false;
        }
        let depth = old.depth() + 1;
        let half = |side: u8, count: usize| {
            fill(buckets_for(count, LOAD_SPLIT_PERCENT), depth, false, |target| {
                // SAFETY: the two halves take the place of the old segment below, whose buckets are then freed.
                unsafe { old.copy_into(target, |bucket, slot| (upper[bucket] >> slot) & 1 == side) }
            })
        };
        let low = half(0, entries - upper_entries);
        let high = half(1, upper_entries);
        let added = low.buckets() + high.buckets();
        let root = self.root_mut(hash);
        let removed = root.take(root.index(hash.path())).map_or(0, |old| old.buckets());
        let mut grown = 0;
        if depth > root.depth() {
            grown = root.len() * size_of::<u64>();
            root.double();
        }
        let index = root.index(hash.path());
        let half_span = root.span(index, depth).len();
        let low_index = index & !half_span;
        root.put(low_index, low);
        root.put(low_index | half_span, high);
        self.directory_bytes += grown;
        self.segments += 1;
        self.buckets = self.buckets + added - removed;
        self.splits += 1;
        true
    }

    /// Makes the hash's segment smaller if it is nearly empty, or merges it with its other half.
    #[cold]
    pub(super) fn shrink(&mut self, hash: Hash) {
        for _ in 0..MERGES_MAX {
            let Some(segment) = self.segment(hash) else { return };
            let (entries, old_buckets) = (segment.count(), segment.buckets());
            if entries * 100 >= segment.slots() * LOAD_SHRINK_PERCENT {
                return;
            }
            if !self.merge(hash, entries) {
                let buckets = buckets_for(entries, LOAD_SHRUNK_PERCENT);
                if buckets < old_buckets {
                    self.resize(hash, buckets);
                }
                return;
            }
        }
    }

    /// Merges a segment of so many entries with its other half; false if that is split further, or they are too
    /// many together.
    fn merge(&mut self, hash: Hash, entries: usize) -> bool {
        let root = self.root_mut(hash);
        let index = root.index(hash.path());
        let Some(segment) = root.segment(index).filter(|segment| segment.depth() > 0) else { return false };
        let depth = segment.depth();
        let buddy_index = index ^ root.span(index, depth).len();
        let Some(buddy) = root.segment(buddy_index).filter(|buddy| buddy.depth() == depth) else { return false };
        let total = entries + buddy.count();
        if total > MERGE_ENTRIES_MAX {
            return false;
        }
        let wide = segment.wide() || buddy.wide();
        let merged = fill(buckets_for(total, LOAD_SHRUNK_PERCENT), depth - 1, wide, |target| {
            // SAFETY: the merged segment takes the place of the two below, whose buckets are then freed.
            unsafe { segment.copy_into(target, |_, _| true) && buddy.copy_into(target, |_, _| true) }
        });
        let added = merged.buckets();
        let removed: usize =
            [index, buddy_index].into_iter().filter_map(|at| root.take(at)).map(|old| old.buckets()).sum();
        root.put(index, merged);
        let before = root.len();
        while root.deepest == 0 && root.depth() > 0 {
            root.halve();
        }
        let freed = (before - root.len()) * size_of::<u64>();
        self.directory_bytes -= freed;
        self.segments -= 1;
        self.buckets = self.buckets + added - removed;
        self.merges += 1;
        true
    }
}

/// Makes a segment of at least `buckets` buckets into which `copy` can put everything. Where not even
/// a load of a half fits the windows, hashes collide: then an entry may live anywhere in the segment.
fn fill(mut buckets: usize, depth: u32, mut wide: bool, copy: impl Fn(&mut SegmentBox) -> bool) -> SegmentBox {
    let start = buckets;
    loop {
        let mut segment = SegmentBox::new(buckets, depth, wide);
        if copy(&mut segment) {
            return segment;
        }
        drop(segment);
        buckets = buckets_after(buckets);
        wide |= buckets > 2 * start && buckets > 2 * WINDOW;
    }
}
