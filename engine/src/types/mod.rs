//! The types of values that are collections: one folder each, which holds all that is known of it: its layout,
//! its edits, its walk in pieces, its memory.
//!
//! A collection is packed into its key's entry while it is small, and a tree beside it from there on. Whoever
//! changes one is lent it as a value of its type, whatever its form is, and the entry takes it back.

pub(crate) mod hash;
pub(crate) mod list;

use std::cell::RefCell;

use crate::hash::KeyHasher;
use crate::kind::Kind;
use crate::rows::{Row, Rows};
use crate::tree::{Grave, Growth, Shape, Tree};
use hash::ByHash;
use list::ByPlace;

/// Bytes of a block at most that a collection keeps in its entry.
pub(crate) const PACKED_LEN_MAX: usize = 2048;
/// A tree goes back into its entry when it is down to so many.
const PACKED_AGAIN_LEN_MAX: usize = PACKED_LEN_MAX / 2;

/// A large collection.
#[derive(Clone)]
pub(crate) enum Large {
    List(Tree<ByPlace>),
    Hash(Tree<ByHash>),
}

impl Large {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Large::List(_) => Kind::List,
            Large::Hash(_) => Kind::Hash,
        }
    }

    /// What stands in its place while it is lent: one of its type, without elements.
    pub(crate) fn hollow(&self, around: &Surroundings) -> Self {
        match self {
            Large::List(_) => Large::List(Tree::hollow(ByPlace, around.grave.clone())),
            Large::Hash(_) => Large::Hash(Tree::hollow(ByHash { hasher: around.hasher }, around.grave.clone())),
        }
    }

    /// Memory in bytes of all that belongs to it.
    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Large::List(tree) => tree.memory_bytes(),
            Large::Hash(tree) => tree.memory_bytes(),
        }
    }
}

/// Rows in one of the two forms.
#[derive(Clone)]
pub(crate) enum Form<S: Shape + 'static> {
    Packed(Rows),
    Tree(Tree<S>),
}

impl<S: Shape> Form<S> {
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

/// What the collections of a keyspace have in common.
pub(crate) struct Surroundings {
    pub(crate) grave: Grave,
    pub(crate) hasher: KeyHasher,
    /// Where small ones are changed.
    pub(crate) scratch: RefCell<Vec<u8>>,
}

impl Surroundings {
    pub(crate) fn new(grave: Grave, hasher: KeyHasher) -> Self {
        Surroundings { grave, hasher, scratch: RefCell::default() }
    }
}

/// What an entry takes back.
pub(crate) enum Kept {
    Packed(Vec<u8>),
    Large(Large),
}

/// What the engine has to know of every type that is a collection.
pub(crate) trait Lent: Sized {
    /// What `TYPE` says of it.
    const KIND: Kind;
    /// One without elements.
    fn empty(around: &Surroundings) -> Self;
    /// From the block of an entry.
    fn from_packed(block: Vec<u8>, is_wide: bool, around: &Surroundings) -> Self;
    /// From a large one of this type.
    fn from_large(large: Large, is_wide: bool, around: &Surroundings) -> Option<Self>;
    /// Into the form that an entry keeps, and whether it is reported as large. None if it has no elements.
    fn into_kept(self) -> Option<(Kept, bool)>;
    /// The soonest deadline inside, in Unix milliseconds.
    fn soonest(&self) -> Option<i64>;
}
