//! Hashes: values by fields, each of which may have a deadline. They are called field maps here, since a hash
//! is something else to a table.
//!
//! A large one's rows are in the order of their fields' keyed hashes, each leaf having those of a range of them.
//! So a scan's cursor is a hash, which means the same however the leaves split and join; the n-th row is found
//! by counts, so that a random one is each with the same chance; and the soonest deadline below a node is one of
//! its sums, so that what is due is found without an index of its own.

mod edit;
#[cfg(test)]
mod tests;

pub use edit::FieldMap;

use super::{FormRef, FrozenForm, HeldForm, Surroundings};
use crate::blob::Blob;
use crate::hash::KeyHasher;
use crate::rows::{NEVER, Rows, RowsRef};
use crate::tree::{Growth, Shape, Tree};

/// Rows in the order of their first strings' hashes.
#[derive(Clone)]
pub(crate) struct ByHash {
    pub(crate) hasher: KeyHasher,
}

/// What is known of some fields together.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    rows: u64,
    /// The lowest hash that belongs here.
    lower: u64,
    /// The soonest deadline; [`NEVER`] if there is none.
    soonest: i64,
}

impl Default for Range {
    fn default() -> Self {
        Range { rows: 0, lower: 0, soonest: NEVER }
    }
}

impl ByHash {
    fn hash(&self, field: &[u8]) -> u64 {
        self.hasher.hash(field).0
    }
}

/// The child that a hash belongs to.
#[inline]
fn by_hash(sums: &[Range], hash: u64) -> usize {
    sums.partition_point(|sum| sum.lower <= hash).saturating_sub(1)
}

impl Shape for ByHash {
    type Sum = Range;

    fn rows(sum: &Range) -> u64 {
        sum.rows
    }

    fn of_leaf(rows: &Rows, old: &Range) -> Range {
        let view = rows.view();
        Range { rows: view.rows() as u64, lower: old.lower, soonest: view.soonest() }
    }

    fn of_all(sums: &[Range]) -> Range {
        let first = sums.first().copied().unwrap_or_default();
        sums.iter().skip(1).fold(first, |all, one| Range {
            rows: all.rows + one.rows,
            lower: all.lower,
            soonest: all.soonest.min(one.soonest),
        })
    }

    fn exchange(whole: &mut Range, old: &Range, new: &Range) -> bool {
        if old.lower != new.lower || (old.soonest == whole.soonest && new.soonest > old.soonest) {
            return false;
        }
        whole.rows = whole.rows + new.rows - old.rows;
        whole.soonest = whole.soonest.min(new.soonest);
        true
    }

    fn split(&self, rows: &mut Rows, old: &mut Range, _: Growth) -> Option<(Rows, Range)> {
        let hashes: Vec<u64> = rows.view().strings(0).step_by(2).map(|field| self.hash(field)).collect();
        let mut sorted = hashes.clone();
        sorted.sort_unstable();
        let lowest = *sorted.first()?;
        let middle = sorted[sorted.len() / 2];
        // Fields of one hash stay together.
        let middle = if middle > lowest { middle } else { *sorted.iter().find(|&&hash| hash > lowest)? };
        let right = rows.filtered(|row| hashes.get(row).is_some_and(|&hash| hash >= middle));
        *rows = rows.filtered(|row| hashes.get(row).is_some_and(|&hash| hash < middle));
        // The very first leaf may have lower ones than it was made for.
        old.lower = old.lower.min(lowest);
        *old = Self::of_leaf(rows, old);
        let sum = Self::of_leaf(&right, &Range { lower: middle, ..Range::default() });
        Some((right, sum))
    }
}

/// A field with what belongs to it.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// Its name.
    pub field: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// Its deadline in Unix milliseconds.
    pub expire_at: Option<i64>,
}

pub(super) fn deadline_of(at_ms: i64) -> Option<i64> {
    (at_ms != NEVER).then_some(at_ms)
}

fn field_at(rows: RowsRef<'_>, row: usize) -> Field<'_> {
    let mut strings = rows.strings(2 * row);
    let (field, value) = (strings.next().unwrap_or_default(), strings.next().unwrap_or_default());
    Field { field, value, expire_at: deadline_of(rows.deadline(row)) }
}

/// The fields of some rows in order.
fn fields_from(rows: RowsRef<'_>, from: usize) -> impl ExactSizeIterator<Item = Field<'_>> {
    let mut strings = rows.strings(2 * from);
    (from..rows.rows().max(from)).map(move |row| {
        let (field, value) = (strings.next().unwrap_or_default(), strings.next().unwrap_or_default());
        Field { field, value, expire_at: deadline_of(rows.deadline(row)) }
    })
}

/// A hash, to read.
#[derive(Clone, Copy)]
pub struct FieldMapRef<'a> {
    form: FormRef<'a, ByHash>,
    is_wide: bool,
}

impl<'a> FieldMapRef<'a> {
    pub(crate) fn packed(block: &'a [u8], is_wide: bool) -> Self {
        FieldMapRef { form: FormRef::of_block(block), is_wide }
    }

    pub(crate) fn tree(tree: &'a Tree<ByHash>, is_wide: bool) -> Self {
        FieldMapRef { form: FormRef::Tree(tree), is_wide }
    }

    /// The block of a small one, from which [`FieldMapRef::of_block`] reads it, on another thread too.
    #[must_use]
    pub fn block(self) -> Option<&'a [u8]> {
        self.form.block()
    }

    /// A small hash from its block.
    #[must_use]
    pub fn of_block(block: &'a [u8]) -> Self {
        FieldMapRef::packed(block, false)
    }

    /// How many fields, those past their deadline included.
    #[must_use]
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "an empty hash is not kept")]
    pub fn len(self) -> u64 {
        self.form.rows()
    }

    /// Whether it is reported as `hashtable` and not as `listpack`.
    #[must_use]
    pub fn is_wide(self) -> bool {
        self.is_wide
    }

    /// The soonest deadline of a field, in Unix milliseconds.
    #[must_use]
    pub fn soonest(self) -> Option<i64> {
        deadline_of(match self.form {
            FormRef::Packed(rows) => rows.soonest(),
            FormRef::Tree(tree) => tree.sum().soonest,
        })
    }

    #[inline]
    fn rows_with(self, field: &[u8]) -> Option<(RowsRef<'a>, usize)> {
        let rows = match self.form {
            FormRef::Packed(rows) => rows,
            FormRef::Tree(tree) => {
                let hash = tree.shape().hash(field);
                tree.find(|sums| by_hash(sums, hash))?.view()
            }
        };
        Some((rows, rows.find(field)?))
    }

    /// A field, expired or not.
    #[must_use]
    #[inline]
    pub fn get(self, field: &[u8]) -> Option<Field<'a>> {
        self.rows_with(field).map(|(rows, row)| field_at(rows, row))
    }

    /// The value of a field if it is so long that it lies apart, shared.
    #[must_use]
    pub fn shared(self, field: &[u8]) -> Option<Blob> {
        self.rows_with(field).and_then(|(rows, row)| rows.far_string(2 * row + 1))
    }

    /// The field of a rank, in an order that lasts until the next change.
    #[must_use]
    pub fn at(self, rank: u64) -> Option<Field<'a>> {
        self.form.rows_of(rank).map(|(rows, at)| field_at(rows, at))
    }

    /// Fields that lie together from a rank on, some hundred at most; none beyond the last.
    pub fn piece(self, rank: u64) -> impl ExactSizeIterator<Item = Field<'a>> + use<'a> {
        let (rows, at) = self.form.piece(rank);
        fields_from(rows, at)
    }

    /// Visits some fields, about a leaf's at most, and returns the cursor to go on with: start with 0, stop at 0.
    /// A field that is there from start to stop is visited, whatever comes and goes meanwhile. Those of a small
    /// hash are visited all at once.
    pub fn scan(self, cursor: u64, count_max: usize, visit: &mut dyn FnMut(Field<'a>)) -> u64 {
        let tree = match self.form {
            FormRef::Packed(rows) => {
                fields_from(rows, 0).for_each(visit);
                return 0;
            }
            FormRef::Tree(tree) => tree,
        };
        // Where the leaves behind the one that is found begin.
        let mut behind = None;
        let leaf = tree.find(|sums| {
            let at = by_hash(sums, cursor);
            behind = sums.get(at + 1).map(|sum| sum.lower).or(behind);
            at
        });
        let Some(leaf) = leaf else { return 0 };
        let rows = leaf.view();
        let hashes = rows.strings(0).step_by(2).map(|field| tree.shape().hash(field));
        let mut ahead: Vec<(u64, usize)> =
            hashes.enumerate().map(|(row, hash)| (hash, row)).filter(|&(hash, _)| hash >= cursor).collect();
        ahead.sort_unstable();
        let mut visited = 0;
        let mut at = 0;
        while let Some(&(hash, _)) = ahead.get(at) {
            if visited >= count_max {
                return hash;
            }
            // Fields of one hash have one cursor.
            while let Some(&(_, row)) = ahead.get(at).filter(|(other, _)| *other == hash) {
                visit(field_at(rows, row));
                visited += 1;
                at += 1;
            }
        }
        behind.unwrap_or(0)
    }

    /// All of it as it is now, to be held while it changes.
    #[must_use]
    pub fn held(self) -> HeldFieldMap {
        HeldFieldMap { form: self.form.held(), is_wide: self.is_wide }
    }

    /// All of it as it is now, to be changed apart from its key.
    pub(crate) fn copied(self, around: &Surroundings) -> FieldMap {
        FieldMap::of(self.form.copied(), self.is_wide, around)
    }

    /// All of it as it is now, for another thread.
    #[must_use]
    pub fn frozen(self) -> FrozenFieldMap {
        FrozenFieldMap { has_deadlines: self.soonest().is_some(), form: self.form.frozen() }
    }
}

/// A hash as it was at one moment.
pub struct HeldFieldMap {
    form: HeldForm<ByHash>,
    is_wide: bool,
}

impl HeldFieldMap {
    /// A hash without fields.
    #[must_use]
    pub fn none() -> Self {
        HeldFieldMap { form: HeldForm::NONE, is_wide: false }
    }

    /// To read.
    #[must_use]
    pub fn view(&self) -> FieldMapRef<'_> {
        FieldMapRef { form: self.form.view(), is_wide: self.is_wide }
    }
}

/// A hash as it was at one moment, which another thread may read.
pub struct FrozenFieldMap {
    form: FrozenForm<ByHash>,
    has_deadlines: bool,
}

impl FrozenFieldMap {
    /// How many fields, those past their deadline included.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "an empty hash is not kept")]
    pub fn len(&self) -> u64 {
        self.form.rows()
    }

    /// Whether any field has a deadline.
    #[must_use]
    pub fn has_deadlines(&self) -> bool {
        self.has_deadlines
    }

    /// Fields that lie together from a rank on; none beyond the last.
    pub fn piece(&self, rank: u64) -> impl ExactSizeIterator<Item = Field<'_>> {
        let (rows, at) = self.form.piece(rank);
        fields_from(rows, at)
    }
}
