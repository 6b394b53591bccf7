//! What a flush left behind: a whole table, freed in bounded pieces.

use super::{Root, Roots};
use crate::prefetch::prefetch;

/// A table nobody looks into any more.
pub(crate) struct DeadTable {
    roots: Option<Box<Roots>>,
    /// Entries not freed yet.
    len: usize,
    root: usize,
    /// The word of the root's directory whose segment is being freed, and the bucket in that.
    index: usize,
    bucket: usize,
}

/// What one piece of freeing came to.
pub(crate) struct Reclaimed {
    /// Entries freed.
    pub(crate) entries: usize,
    /// Steps used up: about one an entry and one a bucket.
    pub(crate) steps: usize,
    /// Something is left.
    pub(crate) more: bool,
}

impl DeadTable {
    pub(super) fn new(roots: Option<Box<Roots>>, len: usize) -> Self {
        DeadTable { roots, len, root: 0, index: 0, bucket: 0 }
    }

    /// Entries not freed yet.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Frees until `steps` are used up, by at most a bucket more.
    pub(crate) fn reclaim(&mut self, steps: usize) -> Reclaimed {
        let mut done = Reclaimed { entries: 0, steps: 0, more: true };
        let Some(roots) = &mut self.roots else {
            done.more = false;
            return done;
        };
        while done.steps < steps {
            let Some(root) = roots.get_mut(self.root) else {
                self.roots = None;
                done.more = false;
                return done;
            };
            done.steps += 1;
            if self.index == root.len() || root.segment(self.index).is_none() {
                root.free_directory();
                self.root += 1;
                self.index = 0;
                continue;
            }
            let segment = root.segment(self.index);
            if self.bucket == segment.buckets() {
                self.index += 1 << (root.depth() - segment.depth());
                self.bucket = 0;
                segment.free();
                continue;
            }
            let bucket = segment.bucket_mut(self.bucket);
            for slot in 0..bucket.len() {
                prefetch(bucket.address(slot));
            }
            while let Some(slot) = bucket.len().checked_sub(1) {
                let entry = bucket.take(slot);
                // SAFETY: the dead table owns its entries, and this one has just left its bucket.
                drop(unsafe { entry.into_box() });
                done.entries += 1;
                done.steps += 1;
            }
            self.bucket += 1;
        }
        self.len -= done.entries;
        done
    }
}

impl Drop for DeadTable {
    fn drop(&mut self) {
        while self.reclaim(usize::MAX).more {}
    }
}

const _: () = assert!(size_of::<Root>() == 16);
