//! Freeing a table's entries and segments in bounded pieces, once nobody looks into it any more.

use super::{Root, Table};

/// How far the freeing of a table has come.
#[derive(Default)]
pub(crate) struct Drain {
    root: usize,
    /// The word of the root's directory whose segment is being freed, and the bucket in that.
    index: usize,
    bucket: usize,
}

/// What one piece of freeing came to.
pub(crate) struct Drained {
    /// Entries freed.
    pub(crate) entries: usize,
    /// Steps used up: about one an entry and one a bucket.
    pub(crate) steps: usize,
    /// Something is left.
    pub(crate) left: bool,
}

impl Table {
    /// Frees until `steps` are used up, by at most a bucket more. After the first piece the table must
    /// not be looked into.
    pub(crate) fn drain(&mut self, at: &mut Drain, steps: usize) -> Drained {
        let mut done = Drained { entries: 0, steps: 0, left: true };
        let Some(roots) = &mut self.roots else {
            done.left = false;
            return done;
        };
        while done.steps < steps {
            let Some(root) = roots.get_mut(at.root) else {
                self.roots = None;
                self.directory_bytes = 0;
                done.left = false;
                break;
            };
            done.steps += 1;
            if at.index == root.len() {
                root.free_directory();
                at.root += 1;
                at.index = 0;
                continue;
            }
            let Some(mut segment) = root.segment_mut(at.index) else {
                at.index += 1;
                continue;
            };
            if at.bucket == segment.buckets() {
                let depth = segment.depth();
                at.index += root.span(at.index, depth).len();
                at.bucket = 0;
                self.segments -= 1;
                self.buckets -= root.take(at.index - 1).map_or(0, |segment| segment.buckets());
                continue;
            }
            let bucket = segment.bucket_mut(at.bucket);
            bucket.prefetch_entries();
            while let Some(last) = bucket.len().checked_sub(1) {
                drop(bucket.take(last));
                done.entries += 1;
                done.steps += 1;
            }
            at.bucket += 1;
        }
        self.len -= done.entries;
        done
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // What a begun drain has freed is no longer in the directories, so this may begin anew.
        let mut at = Drain::default();
        while self.drain(&mut at, usize::MAX).left {}
    }
}

const _: () = assert!(size_of::<Root>() == 16);
