//! A string that a long command works on: it stays what it was when the command began.

use tercel_engine::{Blob, EntryRef, ValueRef};

/// A string, shared with its key if it lies apart from it, else copied.
pub(crate) enum HeldString {
    Shared(Blob),
    Own(Vec<u8>),
}

impl HeldString {
    /// What a key holds; of a missing one it is empty.
    pub(crate) fn of(entry: Option<EntryRef<'_>>) -> Self {
        match entry.map(|entry| entry.value()) {
            None => HeldString::Own(Vec::new()),
            Some(ValueRef::Blob(blob)) => HeldString::Shared(blob.clone()),
            Some(value) => HeldString::Own(value.to_vec()),
        }
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
