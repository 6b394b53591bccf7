//! The two forms of a collection, rows in one block or a tree of them, whatever the order of its rows: to be changed, to
//! be read, to be held as it was, and for another thread.

use crate::rows::{Row, Rows, RowsRef};
use crate::tree::{Frozen, Grave, Growth, Shape, Tree};

/// Bytes of a block at most that a collection keeps in its entry.
pub(crate) const PACKED_LEN_MAX: usize = 2048;
/// A tree goes back into its entry when it is down to so many.
const PACKED_AGAIN_LEN_MAX: usize = PACKED_LEN_MAX / 2;

/// Rows in one of the two forms.
#[derive(Clone)]
pub(crate) enum Form<S: Shape + 'static> {
    Packed(Rows),
    Tree(Tree<S>),
}

impl<S: Shape> Form<S> {
    pub(crate) fn view(&self) -> FormRef<'_, S> {
        match self {
            Form::Packed(rows) => FormRef::Packed(rows.view()),
            Form::Tree(tree) => FormRef::Tree(tree),
        }
    }

    /// Makes room for a row: rows that would be too large to be packed become a tree.
    pub(crate) fn make_room(&mut self, shape: &S, grave: &Grave, row: Row<'_>) {
        if let Form::Packed(rows) = self
            && (row.has_far() || rows.len() + row.len_max() > PACKED_LEN_MAX)
        {
            let rows = std::mem::take(rows);
            *self = Form::Tree(Tree::new(shape.clone(), grave.clone(), rows));
        }
    }

    /// A tree that has become small is packed again. An empty one is no row.
    pub(crate) fn settle(&mut self) {
        if let Form::Tree(tree) = self
            && let Some(leaf) = tree.only_leaf()
            && leaf.is_whole()
            && leaf.len() <= PACKED_AGAIN_LEN_MAX
        {
            *self = Form::Packed(leaf.clone());
        }
    }

    /// The only leaf, or that with a row.
    pub(crate) fn edit_row<R>(
        &mut self,
        row: u64,
        growth: Growth,
        change: impl FnOnce(&mut Rows, usize) -> R,
    ) -> Option<R> {
        match self {
            Form::Packed(rows) => Some(change(rows, row as usize)),
            Form::Tree(tree) => tree.edit_row(row, growth, change),
        }
    }
}

/// Rows in one of the two forms, to read.
pub(crate) enum FormRef<'a, S: Shape + 'static> {
    Packed(RowsRef<'a>),
    Tree(&'a Tree<S>),
}

// By hand, since the shape need not be one that is copied.
impl<S: Shape> Clone for FormRef<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Shape> Copy for FormRef<'_, S> {}

impl<'a, S: Shape> FormRef<'a, S> {
    pub(crate) fn of_block(block: &'a [u8]) -> Self {
        FormRef::Packed(RowsRef::of_block(block))
    }

    /// The block, if it is one.
    pub(crate) fn block(self) -> Option<&'a [u8]> {
        match self {
            FormRef::Packed(rows) => Some(rows.block()),
            FormRef::Tree(_) => None,
        }
    }

    /// How many rows.
    #[inline]
    pub(crate) fn rows(self) -> u64 {
        match self {
            FormRef::Packed(rows) => rows.rows() as u64,
            FormRef::Tree(tree) => tree.rows(),
        }
    }

    /// The rows that lie together with one, and its place among them; none beyond the last.
    #[inline]
    pub(crate) fn rows_of(self, row: u64) -> Option<(RowsRef<'a>, usize)> {
        if row >= self.rows() {
            return None;
        }
        match self {
            FormRef::Packed(rows) => Some((rows, row as usize)),
            FormRef::Tree(tree) => tree.leaf_of(row).map(|(rows, at)| (rows.view(), at)),
        }
    }

    /// The same, of no rows beyond the last.
    pub(crate) fn piece(self, row: u64) -> (RowsRef<'a>, usize) {
        self.rows_of(row).unwrap_or((RowsRef::of_block(&[]), 0))
    }

    /// As it is now, to be held while it changes.
    pub(crate) fn held(self) -> HeldForm<S> {
        match self {
            FormRef::Packed(rows) => HeldForm::Packed(rows.block().to_vec()),
            FormRef::Tree(tree) => HeldForm::Tree(tree.clone()),
        }
    }

    /// As it is now, to be changed apart from its key.
    pub(crate) fn copied(self) -> Form<S> {
        match self {
            FormRef::Packed(rows) => Form::Packed(Rows::from_block(rows.block().to_vec())),
            FormRef::Tree(tree) => Form::Tree(tree.clone()),
        }
    }

    /// As it is now, for another thread.
    pub(crate) fn frozen(self) -> FrozenForm<S> {
        match self {
            FormRef::Packed(rows) => FrozenForm::Packed(rows.block().to_vec()),
            FormRef::Tree(tree) => FrozenForm::Tree(tree.frozen()),
        }
    }
}

/// Rows as they were at one moment.
pub(crate) enum HeldForm<S: Shape + 'static> {
    Packed(Vec<u8>),
    Tree(Tree<S>),
}

impl<S: Shape> HeldForm<S> {
    pub(crate) const NONE: Self = HeldForm::Packed(Vec::new());

    pub(crate) fn view(&self) -> FormRef<'_, S> {
        match self {
            HeldForm::Packed(block) => FormRef::of_block(block),
            HeldForm::Tree(tree) => FormRef::Tree(tree),
        }
    }
}

/// Rows as they were at one moment, which another thread may read.
pub(crate) enum FrozenForm<S: Shape> {
    Packed(Vec<u8>),
    Tree(Frozen<S>),
}

impl<S: Shape> FrozenForm<S> {
    /// How many rows.
    pub(crate) fn rows(&self) -> u64 {
        match self {
            FrozenForm::Packed(block) => RowsRef::of_block(block).rows() as u64,
            FrozenForm::Tree(tree) => tree.rows(),
        }
    }

    /// The rows that lie together with one, and its place among them; of no rows beyond the last.
    pub(crate) fn piece(&self, row: u64) -> (RowsRef<'_>, usize) {
        let rows = match self {
            _ if row >= self.rows() => None,
            FrozenForm::Packed(block) => Some((RowsRef::of_block(block), row as usize)),
            FrozenForm::Tree(tree) => tree.leaf_of(row).map(|(rows, at)| (rows.view(), at)),
        };
        rows.unwrap_or((RowsRef::of_block(&[]), 0))
    }
}
