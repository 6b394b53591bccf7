//! Lists: elements in a sequence, which is changed at both ends and anywhere.

#[cfg(test)]
mod tests;

use std::ops::Range;

use super::{Form, FormRef, FrozenForm, HeldForm, Kept, Large, Lent, Surroundings};
use crate::blob::Blob;
use crate::kind::Kind;
use crate::rows::{Row, Rows, RowsRef, Text};
use crate::tree::{Grave, Growth, Shape, Tree};

/// Rows in the order of their places.
#[derive(Clone)]
pub(crate) struct ByPlace;

/// Elements, and their bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Extent {
    rows: u64,
    bytes: u64,
}

impl Shape for ByPlace {
    type Sum = Extent;

    fn rows(sum: &Extent) -> u64 {
        sum.rows
    }

    fn of_leaf(rows: &Rows, _: &Extent) -> Extent {
        let view = rows.view();
        Extent { rows: view.rows() as u64, bytes: view.strings_len() as u64 }
    }

    fn of_all(sums: &[Extent]) -> Extent {
        sums.iter()
            .fold(Extent::default(), |all, one| Extent { rows: all.rows + one.rows, bytes: all.bytes + one.bytes })
    }

    fn exchange(whole: &mut Extent, old: &Extent, new: &Extent) -> bool {
        whole.rows = whole.rows + new.rows - old.rows;
        whole.bytes = whole.bytes + new.bytes - old.bytes;
        true
    }

    fn split(&self, rows: &mut Rows, old: &mut Extent, growth: Growth) -> Option<(Rows, Extent)> {
        let count = rows.view().rows();
        let right = match growth {
            Growth::Front => rows.split_front(1),
            Growth::Back => rows.split_off(count - 1),
            Growth::Anywhere => rows.split_off(count / 2),
        };
        *old = Self::of_leaf(rows, old);
        let sum = Self::of_leaf(&right, old);
        Some((right, sum))
    }
}

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The left one, with the first element.
    Head,
    /// The right one, with the last.
    Tail,
}

/// A list that may be changed.
#[derive(Clone)]
pub struct List {
    form: Form<ByPlace>,
    grave: Grave,
    is_wide: bool,
}

impl List {
    /// To read.
    #[must_use]
    pub fn view(&self) -> ListRef<'_> {
        ListRef { form: self.form.view(), is_wide: self.is_wide }
    }

    /// How many elements.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.view().len()
    }

    /// Whether it has no element. An empty list is not kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an element at an end.
    pub fn push(&mut self, end: End, element: Text<'_>) {
        let row = Row::one(element);
        self.form.make_room(&ByPlace, &self.grave, row);
        self.edit_end(end, true, |rows| match end {
            End::Head => rows.insert(0, row),
            End::Tail => rows.push(row),
        });
    }

    /// Lets `change` change the rows at an end.
    fn edit_end(&mut self, end: End, grows: bool, change: impl FnOnce(&mut Rows)) {
        let growth = match end {
            _ if !grows => Growth::Anywhere,
            End::Head => Growth::Front,
            End::Tail => Growth::Back,
        };
        match &mut self.form {
            Form::Packed(rows) => change(rows),
            Form::Tree(tree) => {
                let pick = |sums: &[Extent]| if end == End::Head { 0 } else { sums.len().saturating_sub(1) };
                tree.edit(pick, growth, change);
            }
        }
    }

    /// Adds an element before the one at `index`, or at the tail.
    pub fn insert(&mut self, index: u64, element: Text<'_>) {
        if index >= self.len() {
            return self.push(End::Tail, element);
        }
        let row = Row::one(element);
        self.form.make_room(&ByPlace, &self.grave, row);
        self.form.edit_row(index, Growth::Anywhere, |rows, at| rows.insert(at, row));
    }

    /// Replaces an element that is there.
    pub fn set(&mut self, index: u64, element: Text<'_>) {
        if index < self.len() {
            self.form.make_room(&ByPlace, &self.grave, Row::one(element));
            self.form.edit_row(index, Growth::Anywhere, |rows, at| rows.replace(at, element));
        }
    }

    /// Removes an element.
    pub fn remove(&mut self, index: u64) {
        if index < self.len() {
            self.form.edit_row(index, Growth::Anywhere, |rows, at| rows.remove(at..at + 1));
        }
    }

    /// Removes elements at an end, so many; costs the same for all of them as for one.
    pub fn cut(&mut self, end: End, count: u64) {
        if count == 1 && self.len() > 1 {
            return self.edit_end(end, false, |rows| {
                let at = if end == End::Head { 0 } else { rows.view().rows().saturating_sub(1) };
                rows.remove(at..at + 1);
            });
        }
        match (&mut self.form, end) {
            (Form::Packed(rows), End::Head) => rows.remove(0..usize::try_from(count).unwrap_or(usize::MAX)),
            (Form::Packed(rows), End::Tail) => {
                let len = rows.view().rows();
                rows.remove(len.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX))..len);
            }
            (Form::Tree(tree), End::Head) => tree.cut_front(count),
            (Form::Tree(tree), End::Tail) => tree.cut_back(count),
        }
    }

    /// Keeps only the elements in a range of places.
    pub fn keep(&mut self, range: Range<u64>) {
        let len = self.len();
        let end = range.end.min(len);
        self.cut(End::Tail, len - end);
        self.cut(End::Head, range.start.min(end));
    }

    /// Removes elements that equal one, up to `max` of them, among those that lie together from `index` on.
    /// Returns how many it has looked at, and how many of these it has removed.
    pub fn remove_equal(&mut self, index: u64, element: &[u8], max: u64) -> (u64, u64) {
        let piece = self.view().piece(index);
        let looked_at = piece.len() as u64;
        let equal: Vec<usize> = piece.enumerate().filter(|(_, one)| *one == element).map(|(at, _)| at).collect();
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let some = &equal[..equal.len().min(max)];
        self.remove_offsets(index, some);
        (looked_at, some.len() as u64)
    }

    /// The same among those that lie together before `index`, the last of them first.
    pub fn remove_equal_before(&mut self, index: u64, element: &[u8], max: u64) -> (u64, u64) {
        let piece = self.view().piece_before(index);
        let looked_at = piece.len() as u64;
        let equal: Vec<usize> = piece.enumerate().filter(|(_, one)| *one == element).map(|(at, _)| at).collect();
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let some = &equal[equal.len().saturating_sub(max)..];
        self.remove_offsets(index - looked_at, some);
        (looked_at, some.len() as u64)
    }

    /// Removes elements at some offsets, in order, from a place whose leaf has them all.
    fn remove_offsets(&mut self, index: u64, offsets: &[usize]) {
        if offsets.is_empty() {
            return;
        }
        self.form.edit_row(index, Growth::Anywhere, |rows, at| match offsets {
            [one] => rows.remove(at + one..at + one + 1),
            many => *rows = rows.filtered(|row| row < at || many.binary_search(&(row - at)).is_err()),
        });
    }

    /// Whether it is reported as `quicklist` and not as `listpack`.
    pub fn set_wide(&mut self, is_wide: bool) {
        self.is_wide = is_wide;
    }
}

impl Lent for List {
    const KIND: Kind = Kind::List;

    fn empty(around: &Surroundings) -> Self {
        List { form: Form::Packed(Rows::new(0)), grave: around.grave.clone(), is_wide: false }
    }

    fn from_packed(block: Vec<u8>, is_wide: bool, around: &Surroundings) -> Self {
        List { form: Form::Packed(Rows::from_block(block)), grave: around.grave.clone(), is_wide }
    }

    fn from_large(large: Large, is_wide: bool, around: &Surroundings) -> Option<Self> {
        match large {
            Large::List(tree) => Some(List { form: Form::Tree(tree), grave: around.grave.clone(), is_wide }),
            _ => None,
        }
    }

    fn into_kept(mut self) -> Option<(Kept, bool)> {
        if self.is_empty() {
            return None;
        }
        self.form.settle();
        let kept = match self.form {
            Form::Packed(rows) => Kept::Packed(rows.into_block()),
            Form::Tree(tree) => Kept::Large(Large::List(tree)),
        };
        Some((kept, self.is_wide))
    }

    fn soonest(&self) -> Option<i64> {
        None
    }
}

/// A list, to read.
#[derive(Clone, Copy)]
pub struct ListRef<'a> {
    form: FormRef<'a, ByPlace>,
    is_wide: bool,
}

impl<'a> ListRef<'a> {
    pub(crate) fn packed(block: &'a [u8], is_wide: bool) -> Self {
        ListRef { form: FormRef::of_block(block), is_wide }
    }

    pub(crate) fn tree(tree: &'a Tree<ByPlace>, is_wide: bool) -> Self {
        ListRef { form: FormRef::Tree(tree), is_wide }
    }

    /// The block of a small one, from which [`ListRef::of_block`] reads it, on another thread too.
    #[must_use]
    pub fn block(self) -> Option<&'a [u8]> {
        self.form.block()
    }

    /// A small list from its block.
    #[must_use]
    pub fn of_block(block: &'a [u8]) -> Self {
        ListRef::packed(block, false)
    }

    /// How many elements.
    #[must_use]
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "an empty list is not kept")]
    pub fn len(self) -> u64 {
        self.form.rows()
    }

    /// Bytes of all elements.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self.form {
            FormRef::Packed(rows) => rows.strings_len() as u64,
            FormRef::Tree(tree) => tree.sum().bytes,
        }
    }

    /// Whether it is reported as `quicklist` and not as `listpack`.
    #[must_use]
    pub fn is_wide(self) -> bool {
        self.is_wide
    }

    /// The element at a place.
    #[must_use]
    #[inline]
    pub fn get(self, index: u64) -> Option<&'a [u8]> {
        self.form.rows_of(index).map(|(rows, at)| rows.string(at))
    }

    /// The element at a place if it is so long that it lies apart, shared.
    #[must_use]
    pub fn shared(self, index: u64) -> Option<Blob> {
        self.form.rows_of(index).and_then(|(rows, at)| rows.far_string(at))
    }

    /// Elements that lie together from `index` on, some hundred at most, in order; none beyond the last.
    pub fn piece(self, index: u64) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let (rows, at) = self.form.piece(index);
        rows.strings(at)
    }

    /// Elements that lie together before `index`, in order: those of the piece that ends there.
    pub fn piece_before(self, index: u64) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let last = index.checked_sub(1).and_then(|last| self.form.rows_of(last));
        let (rows, count) = last.map_or((RowsRef::of_block(&[]), 0), |(rows, at)| (rows, at + 1));
        rows.strings(0).take(count)
    }

    /// All of it as it is now, to be held while it changes.
    #[must_use]
    pub fn held(self) -> HeldList {
        HeldList { form: self.form.held(), is_wide: self.is_wide }
    }

    /// All of it as it is now, to be changed apart from its key.
    pub(crate) fn copied(self, around: &Surroundings) -> List {
        List { form: self.form.copied(), grave: around.grave.clone(), is_wide: self.is_wide }
    }

    /// All of it as it is now, for another thread.
    #[must_use]
    pub fn frozen(self) -> FrozenList {
        FrozenList(self.form.frozen())
    }
}

/// A list as it was at one moment.
pub struct HeldList {
    form: HeldForm<ByPlace>,
    is_wide: bool,
}

impl HeldList {
    /// A list without elements.
    #[must_use]
    pub fn none() -> Self {
        HeldList { form: HeldForm::NONE, is_wide: false }
    }

    /// To read.
    #[must_use]
    pub fn view(&self) -> ListRef<'_> {
        ListRef { form: self.form.view(), is_wide: self.is_wide }
    }
}

/// A list as it was at one moment, which another thread may read.
pub struct FrozenList(FrozenForm<ByPlace>);

impl FrozenList {
    /// How many elements.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "an empty list is not kept")]
    pub fn len(&self) -> u64 {
        self.0.rows()
    }

    /// Elements that lie together from `index` on, in order; none beyond the last.
    pub fn piece(&self, index: u64) -> impl ExactSizeIterator<Item = &[u8]> {
        let (rows, at) = self.0.piece(index);
        rows.strings(at)
    }
}
