//! The types of values that are collections: one folder each, which holds all that is known of it: its layout,
//! its edits, its walk in pieces, its memory.
//!
//! A collection is packed into its key's entry while it is small, and a tree beside it from there on. Whoever
//! changes one is lent it as a value of its type, whatever its form is, and the entry takes it back.

mod form;
pub(crate) mod hash;
pub(crate) mod list;

use std::cell::RefCell;

use crate::hash::KeyHasher;
use crate::kind::Kind;
use crate::tree::{Grave, Tree};
pub(crate) use form::{Form, FormRef, FrozenForm, HeldForm};
use hash::ByHash;
use list::ByPlace;

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
