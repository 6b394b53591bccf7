//! A string that a long command works on: it stays what it was when the command began.

use tercel_engine::{Blob, EntryRef, StringRef, WrongType};

/// A string, shared with its key if it lies apart from it, else copied.
pub(crate) enum HeldString {
    Shared(Blob),
    Own(Vec<u8>),
}

impl HeldString {
    /// What a key holds; of a missing one it is empty.
    ///
    /// # Errors
    /// It holds another type.
    pub(crate) fn of(entry: Option<EntryRef<'_>>) -> Result<Self, WrongType> {
        Ok(match entry.map(EntryRef::string).transpose()? {
            None => HeldString::Own(Vec::new()),
            Some(StringRef::Blob(blob)) => HeldString::Shared(blob.clone()),
            Some(value) => HeldString::Own(value.to_vec()),
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            HeldString::Shared(blob) => blob.as_slice(),
            HeldString::Own(bytes) => bytes,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }
}
