//! SCAN: a cursor that holds its promise while the table grows and shrinks, and costs no state.
//!
//! Entries are visited in the order (root, path, tag). The cursor names a position in that order, not
//! a place in memory:
//!
//! ```text
//!  52      45 44                         16 15     0
//! ┌──────────┬─────────────────────────────┬────────┐
//! │ root     │ 1, then the path's top bits │ tag    │   0: the beginning, and the end
//! └──────────┴─────────────────────────────┴────────┘
//! ```
//! Everything before the position has been visited. If the segment was split since, the walk goes on
//! in the first half from the tag, then through the second from its beginning; if it was merged, the
//! merged segment is visited from its beginning. Either way some keys come twice and none is missed.
//! A segment is read by home buckets, so entries that live elsewhere are not missed either.

use super::{DEPTH_MAX, Root, Table};
use crate::entry::EntryRef;
use crate::hash::ROOTS;

const TAG_BITS: u32 = 16;
const PREFIX_BITS: u32 = DEPTH_MAX + 1;
const _: () = assert!(8 + PREFIX_BITS + TAG_BITS == 53 && ROOTS == 256);

/// How many empty buckets or roots one call passes over.
const EMPTY_MAX: usize = 128;

/// A position in the order of the scan.
#[derive(Clone, Copy)]
struct Position {
    root: usize,
    /// The path's top `depth` bits.
    prefix: u64,
    depth: u32,
    /// The lowest tag not visited.
    tag: u32,
}

impl Position {
    /// Reads a cursor; whatever the number is, it becomes some position.
    fn from_cursor(cursor: u64) -> Self {
        let marked = (cursor >> TAG_BITS) & ((1 << PREFIX_BITS) - 1);
        // Without the mark it is the start of the root.
        let depth = marked.checked_ilog2().unwrap_or(0);
        Position {
            root: (cursor >> (TAG_BITS + PREFIX_BITS)) as usize % ROOTS,
            prefix: if marked == 0 { 0 } else { marked ^ (1 << depth) },
            depth,
            tag: (cursor & 0xffff) as u32,
        }
    }

    fn cursor(self) -> u64 {
        ((self.root as u64) << (TAG_BITS + PREFIX_BITS))
            | (((1 << self.depth) | self.prefix) << TAG_BITS)
            | u64::from(self.tag)
    }

    fn root_start(root: usize) -> Self {
        Position { root, prefix: 0, depth: 0, tag: 0 }
    }

    /// The directory's index of the segment the position lies in now, and that segment's first tag to visit.
    fn locate(self, root: &Root) -> (usize, u32) {
        let index = if self.depth <= root.depth() {
            (self.prefix << (root.depth() - self.depth)) as usize
        } else {
            (self.prefix >> (self.depth - root.depth())) as usize
        };
        let merged = root.segment(index).is_some_and(|segment| segment.depth() < self.depth);
        (index, if merged { 0 } else { self.tag })
    }
}

impl Table {
    /// Visits the entries of the next home bucket that has any, and returns the cursor to go on with;
    /// 0 begins, and is returned at the end. At most a bounded number of empty buckets is passed over.
    pub(crate) fn scan(&self, cursor: u64, visit: &mut dyn FnMut(EntryRef<'_>)) -> u64 {
        let Some(roots) = &self.roots else { return 0 };
        let mut position = Position::from_cursor(cursor);
        for _ in 0..EMPTY_MAX {
            let root = &roots[position.root];
            let (index, tag) = position.locate(root);
            let mut visited = false;
            // A root without a segment has only the one word.
            let mut next_index = root.len();
            if let Some(segment) = root.segment(index) {
                let home = segment.home(tag as u16);
                segment.visit_home(home, &mut |entry_tag, entry| {
                    if u32::from(entry_tag) >= tag {
                        visited = true;
                        visit(entry);
                    }
                });
                let span = 1usize << (root.depth() - segment.depth());
                let first_index = index & !(span - 1);
                if home + 1 < segment.buckets() {
                    let next_tag = ((home + 1) << TAG_BITS).div_ceil(segment.buckets());
                    position.prefix = first_index as u64 >> (root.depth() - segment.depth());
                    position.depth = segment.depth();
                    position.tag = next_tag as u32;
                    if visited {
                        return position.cursor();
                    }
                    continue;
                }
                next_index = first_index + span;
            }
            position = if next_index < root.len() {
                let depth = root.segment(next_index).map_or(0, |segment| segment.depth());
                let prefix = next_index as u64 >> (root.depth() - depth);
                Position { root: position.root, prefix, depth, tag: 0 }
            } else if position.root + 1 < ROOTS {
                Position::root_start(position.root + 1)
            } else {
                return 0;
            };
            if visited {
                break;
            }
        }
        position.cursor()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_fit_53_bits_and_read_back() {
        let far = Position { root: 255, prefix: (1 << DEPTH_MAX) - 1, depth: DEPTH_MAX, tag: 0xffff };
        assert_eq!(far.cursor(), (1 << 53) - 1);
        let back = Position::from_cursor(far.cursor());
        assert_eq!((back.root, back.prefix, back.depth, back.tag), (255, (1 << DEPTH_MAX) - 1, DEPTH_MAX, 0xffff));
        assert_ne!(Position::root_start(0).cursor(), 0);
    }
}
