//! Walking a whole table a segment at a time, in an order that growing and shrinking do not change: by
//! root, then by the path's bits. So a position tells of every key whether it has been visited. SCAN
//! goes by smaller pieces and may visit a key twice; this walk may not.

use super::Table;
use crate::entry::EntryRef;
use crate::hash::{Hash, KeyHasher, ROOTS};

/// A place in the order of the walk, always at the beginning of what was a segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Position {
    root: usize,
    path: u64,
}

impl Position {
    pub(crate) const START: Position = Position { root: 0, path: 0 };

    /// The place of a key of this hash.
    #[inline]
    pub(crate) fn of(hash: Hash) -> Position {
        Position { root: hash.root(), path: hash.path() }
    }

    /// Whether a key of this hash comes at this place or later.
    #[inline]
    pub(crate) fn is_ahead(self, hash: Hash) -> bool {
        Position::of(hash) >= self
    }

    fn root_after(self) -> Option<Position> {
        (self.root + 1 < ROOTS).then_some(Position { root: self.root + 1, path: 0 })
    }
}

impl Table {
    /// Visits the entries at `from` and later in the first segment that reaches there; returns where
    /// to go on, or None after the last.
    pub(crate) fn walk(
        &self,
        from: Position,
        hasher: &KeyHasher,
        visit: &mut dyn FnMut(EntryRef<'_>),
    ) -> Option<Position> {
        let roots = self.roots.as_ref()?;
        let mut at = from;
        loop {
            let root = &roots[at.root];
            let Some(segment) = root.segment_of(at.path) else {
                at = at.root_after()?;
                continue;
            };
            let unused = 64 - segment.depth();
            // At depth 0 the path has no bit that says anything.
            let begin = at.path.checked_shr(unused).unwrap_or(0).checked_shl(unused).unwrap_or(0);
            // It was merged with what has been visited.
            let straddles = begin < at.path;
            for bucket in segment.each_bucket() {
                bucket.prefetch_entries();
                for entry in bucket.entries() {
                    if !straddles || at.is_ahead(hasher.hash(entry.key())) {
                        visit(entry);
                    }
                }
            }
            let span = 1u64.checked_shl(unused);
            return match span.and_then(|span| begin.checked_add(span)) {
                Some(path) => Some(Position { root: at.root, path }),
                None => at.root_after(),
            };
        }
    }
}
