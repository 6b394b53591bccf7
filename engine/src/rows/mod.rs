//! Rows of strings packed into one block: what a small collection is inside its entry, and what the leaves of
//! a large one are.
//!
//! ```text
//! count 2 │ flags 1 │ 0 │ bytes of all strings │ their lengths │ tags? │ deadlines?
//! ```
//! A row is one string, or two where [`PAIRS`] says so. Lengths stand apart from the bytes, so that a row is
//! found from either end by adding up numbers that lie together, and an element costs one byte beside its own.
//! Lengths have one byte each, or two once one of them needs it ([`WIDE`]). A tag is a byte of a row's first
//! string, which spares looking at most of the others ([`TAGGED`]); a deadline has eight ([`TIMED`]).
//!
//! Strings longer than [`FAR_LEN_MIN`] lie elsewhere, shared by counting references; their place here has the
//! length [`FAR`] and no bytes, and they are kept beside the block in the order of their places. So a block is
//! never much larger than a page, and to copy it copies no long string.
//!
//! `view` reads, `edit` changes. Knows nothing of entries, trees or types.

mod edit;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use edit::Row;
pub use edit::Text;
pub(crate) use view::RowsRef;

use crate::blob::Blob;
use crate::size_class::class_of;

/// Bytes before the strings.
const HEADER_LEN: usize = 4;

/// Lengths have two bytes.
const WIDE: u8 = 1;
/// A row has a tag.
pub(crate) const TAGGED: u8 = 1 << 1;
/// A row has a deadline.
pub(crate) const TIMED: u8 = 1 << 2;
/// A row has two strings.
pub(crate) const PAIRS: u8 = 1 << 3;

/// The length that says: elsewhere.
const FAR: u16 = u16::MAX;
/// Strings of so many bytes lie elsewhere.
pub(crate) const FAR_LEN_MIN: usize = 1025;
/// The deadline of a row without one.
pub(crate) const NEVER: i64 = i64::MAX;

/// Bytes of a block at most, unless a single row takes more.
pub(crate) const BLOCK_LEN_MAX: usize = 4096;
/// Rows of a block at most.
pub(crate) const BLOCK_ROWS_MAX: usize = 512;
/// Strings of a block that lie elsewhere, at most.
const BLOCK_FAR_MAX: usize = 64;

/// A string that lies elsewhere.
pub(crate) type FarString = Blob;

/// Rows of strings. Strings that lie elsewhere only if it is part of a large collection.
#[derive(Clone, Default)]
pub(crate) struct Rows {
    block: Vec<u8>,
    /// Boxed, since most rows have none: they would be a good part larger for it.
    #[allow(clippy::box_collection)]
    far: Option<Box<Vec<FarString>>>,
}

/// A byte of a string, to tell most others from it. Good enough to save comparisons, and no more.
#[inline]
pub(crate) fn tag_of(string: &[u8]) -> u8 {
    let word = |bytes: &[u8]| bytes.iter().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
    let (first, last) = match (string.first_chunk::<8>(), string.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (word(string), 0),
    };
    let mixed = (first ^ last.rotate_left(29) ^ string.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

impl Rows {
    /// No rows, of the form that `flags` say: [`TAGGED`], [`PAIRS`].
    pub(crate) fn new(flags: u8) -> Self {
        Rows { block: vec![0, 0, flags, 0], far: None }
    }

    /// Takes over a block that a collection keeps in its entry.
    pub(crate) fn from_block(block: Vec<u8>) -> Self {
        debug_assert!(block.len() >= HEADER_LEN);
        Rows { block, far: None }
    }

    /// The block, if all strings lie in it.
    pub(crate) fn into_block(self) -> Vec<u8> {
        debug_assert!(self.far.is_none());
        self.block
    }

    /// Bytes of the block.
    pub(crate) fn len(&self) -> usize {
        self.block.len()
    }

    /// Whether all strings lie in the block.
    pub(crate) fn is_whole(&self) -> bool {
        self.far.is_none()
    }

    /// Whether it has become larger than a leaf may be, and can be split.
    pub(crate) fn is_over(&self) -> bool {
        let rows = self.view().rows();
        rows > 1 && (self.block.len() > BLOCK_LEN_MAX || rows > BLOCK_ROWS_MAX || self.far_len() > BLOCK_FAR_MAX)
    }

    /// Whether a leaf is so small that it is better part of another.
    pub(crate) fn is_under(&self) -> bool {
        self.block.len() < BLOCK_LEN_MAX / 3 && self.far_len() < BLOCK_FAR_MAX / 3
    }

    /// Whether two leaves in one leave room for more.
    pub(crate) fn fits_with(&self, other: &Rows) -> bool {
        self.block.len() + other.block.len() <= BLOCK_LEN_MAX * 3 / 4
            && self.view().rows() + other.view().rows() <= BLOCK_ROWS_MAX * 3 / 4
            && self.far_len() + other.far_len() <= BLOCK_FAR_MAX * 3 / 4
    }

    fn far_len(&self) -> usize {
        self.far.as_ref().map_or(0, |far| far.len())
    }

    /// Memory in bytes, what lies elsewhere included.
    pub(crate) fn memory_bytes(&self) -> usize {
        let far: usize =
            self.far.iter().flat_map(|far| far.iter()).map(|string| class_of(string.capacity()) + 40).sum();
        let list = self.far.as_ref().map_or(0, |far| class_of(far.capacity() * size_of::<FarString>()) + 32);
        class_of(self.block.capacity()) + far + list
    }

    /// To look at.
    #[inline]
    pub(crate) fn view(&self) -> RowsRef<'_> {
        RowsRef::new(&self.block, self.far.as_deref().map_or(&[], Vec::as_slice))
    }
}
