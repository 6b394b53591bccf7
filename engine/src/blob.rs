//! Byte strings in one piece, shared by counting references: arguments, and the long elements of collections.

use std::ops::Range;

use crate::long::{LongString, SharedPiece};

/// A long string in one piece, shared by counting references: a reply may hold it while the key is overwritten.
#[derive(Clone)]
#[repr(transparent)]
pub struct Blob(LongString);

impl Blob {
    /// Takes the bytes over without copying them.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Blob(LongString::from_vec(bytes))
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        // It is whole: nobody changes it, and it was made so.
        self.0.whole().unwrap_or_default()
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Another holder of the same bytes, for code that need not know what they are.
    pub fn shared(&self) -> SharedPiece {
        self.0.shared_whole()
    }

    /// Some of its bytes as a value, of which nothing is copied.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> LongString {
        let (start, end) = (range.start.min(self.len()), range.end.min(self.len()));
        LongString::windows(&self.shared(), start..end.max(start))
    }

    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// The same as a value.
    pub(crate) fn into_long(self) -> LongString {
        self.0
    }
}
