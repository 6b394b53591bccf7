//! A string that a long command works on: it stays what it was when the command began.

use std::ops::Range;

use tercel_engine::{EntryRef, LongString, StringRef, WrongType};

/// Bytes joined in one step.
const PIECE_BYTES: usize = 64 << 10;

/// A string, shared with its key if it lies apart from it, else copied.
pub(crate) enum HeldString {
    Shared(LongString),
    Own(Vec<u8>),
    /// One in pieces, on its way into one.
    Joining(LongString, Vec<u8>),
}

impl HeldString {
    /// What a key holds; of a missing one it is empty.
    ///
    /// # Errors
    /// It holds another type.
    pub(crate) fn of(entry: Option<EntryRef<'_>>) -> Result<Self, WrongType> {
        Ok(match entry.map(EntryRef::string).transpose()? {
            None => HeldString::Own(Vec::new()),
            Some(StringRef::Long(long)) => HeldString::Shared(long.clone()),
            Some(value) => HeldString::Own(value.to_vec()),
        })
    }

    /// A step towards having it in one piece; true while there is more to do.
    pub(crate) fn join(&mut self) -> bool {
        match self {
            HeldString::Own(_) => return false,
            HeldString::Shared(long) if long.whole().is_some() => return false,
            HeldString::Shared(long) => *self = HeldString::Joining(long.clone(), Vec::with_capacity(long.len())),
            HeldString::Joining(long, joined) => {
                long.pieces(joined.len()..joined.len() + PIECE_BYTES).for_each(|piece| joined.extend_from_slice(piece));
                if joined.len() == long.len() {
                    *self = HeldString::Own(std::mem::take(joined));
                    return false;
                }
            }
        }
        true
    }

    /// All its bytes, once it is in one piece: see [`HeldString::join`].
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            HeldString::Shared(long) => long.whole().unwrap_or_default(),
            HeldString::Own(bytes) | HeldString::Joining(_, bytes) => bytes,
        }
    }

    /// Goes through some of its bytes, as many at once as lie together. A range beyond its end is cut.
    pub(crate) fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        let (long, own) = match self {
            HeldString::Shared(long) | HeldString::Joining(long, _) => (Some(long.pieces(range)), None),
            HeldString::Own(bytes) => {
                let own = &bytes[range.start.min(bytes.len())..range.end.min(bytes.len())];
                (None, (!own.is_empty()).then_some(own))
            }
        };
        long.into_iter().flatten().chain(own)
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            HeldString::Shared(long) | HeldString::Joining(long, _) => long.len(),
            HeldString::Own(bytes) => bytes.len(),
        }
    }
}
