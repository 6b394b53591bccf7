//! Long strings: values too long to lie in their entry. Shared by counting references, so that a snapshot, a reply
//! or a copy takes one in constant time; changed without copying more of it than a chunk.
//!
//! One that was set whole is in one piece and is taken over as it came. From [`CHUNKED_LEN_MIN`] on, a change that
//! would have to copy it (somebody else holds it, or it grows beyond its allocation) puts it into chunks first, which
//! costs a table of them: each is a window on the piece as it was until it is written.

mod chunks;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use crate::size_class::class_of;
use chunks::Chunks;
pub use chunks::{CHUNK_BYTES, SharedPiece};

/// Up to this length a string is in one piece, and copied as one.
pub(crate) const CHUNKED_LEN_MIN: usize = 2 * CHUNK_BYTES;
/// From this length on, zeros are asked of the allocator rather than written: it has memory that the system
/// has cleared, or will when it is touched.
const ZEROED_LEN_MIN: usize = 64 << 10;
/// The reference counts and the string's own words.
const CONTROL_BYTES: usize = class_of(2 * size_of::<usize>() + size_of::<Text>());

/// A string of `len` bytes that begins with `bytes`, as many as fit, and goes on with zeros.
fn with_zeros(bytes: &[u8], len: usize) -> Vec<u8> {
    let bytes = &bytes[..bytes.len().min(len)];
    if len - bytes.len() < ZEROED_LEN_MIN {
        let mut long = Vec::with_capacity(len);
        long.extend_from_slice(bytes);
        long.resize(len, 0);
        return long;
    }
    // All of what the allocator gives: it may grow within that.
    let mut long = vec![0; class_of(len)];
    long.truncate(len);
    long[..bytes.len()].copy_from_slice(bytes);
    long
}

/// What is shared.
enum Text {
    Whole(Vec<u8>),
    Chunks(Box<Chunks>),
}

impl AsRef<[u8]> for Text {
    /// Of a string in one piece; of another, nothing: it is not shared as one.
    fn as_ref(&self) -> &[u8] {
        match self {
            Text::Whole(bytes) => bytes,
            Text::Chunks(_) => &[],
        }
    }
}

/// A long string.
#[derive(Clone)]
#[repr(transparent)]
pub struct LongString(Arc<Text>);

impl LongString {
    /// Takes the bytes over without copying them.
    #[must_use]
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        LongString(Arc::new(Text::Whole(bytes)))
    }

    /// A string of `len` bytes that begins with `bytes` and goes on with zeros.
    pub(crate) fn with_zeros(bytes: &[u8], len: usize) -> Self {
        if len <= CHUNKED_LEN_MIN {
            return LongString::from_vec(with_zeros(bytes, len));
        }
        let mut long = LongString::in_chunks(&bytes[..bytes.len().min(len)]);
        long.change(|chunks| chunks.grow(len));
        long
    }

    /// Some bytes of what somebody holds, of which nothing is copied.
    pub(crate) fn windows(whole: &SharedPiece, range: Range<usize>) -> Self {
        LongString(Arc::new(Text::Chunks(Box::new(Chunks::of(whole, range)))))
    }

    /// A string in chunks, however short it is: to be appended to.
    pub(crate) fn in_chunks(bytes: &[u8]) -> Self {
        let mut chunks = Chunks::default();
        chunks.push(bytes);
        LongString(Arc::new(Text::Chunks(Box::new(chunks))))
    }

    /// Length in bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        match &*self.0 {
            Text::Whole(bytes) => bytes.len(),
            Text::Chunks(chunks) => chunks.len(),
        }
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of one in one piece.
    #[must_use]
    #[inline]
    pub fn whole(&self) -> Option<&[u8]> {
        match &*self.0 {
            Text::Whole(bytes) => Some(bytes),
            Text::Chunks(_) => None,
        }
    }

    /// A holder of all its bytes, if it is in one piece: of none, if not.
    pub(crate) fn shared_whole(&self) -> SharedPiece {
        self.0.clone()
    }

    /// The bytes from `at` on that lie together: none beyond the end.
    #[must_use]
    #[inline]
    pub fn piece(&self, at: usize) -> &[u8] {
        match &*self.0 {
            Text::Whole(bytes) => bytes.get(at..).unwrap_or_default(),
            Text::Chunks(chunks) => chunks.piece(at),
        }
    }

    /// Goes through some of its bytes, as many at once as lie together. A range beyond its end is cut.
    pub fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        let (mut at, end) = (range.start, range.end.min(self.len()));
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let piece = self.piece(at);
            let piece = &piece[..piece.len().min(end - at)];
            at += piece.len();
            Some(piece)
        })
    }

    /// Copies bytes from `at` on, as many as there are and `into` takes. Returns how many.
    pub fn read(&self, at: usize, into: &mut [u8]) -> usize {
        let mut copied = 0;
        for piece in self.pieces(at..at.saturating_add(into.len())) {
            into[copied..copied + piece.len()].copy_from_slice(piece);
            copied += piece.len();
        }
        copied
    }

    /// A copy of some of its bytes.
    #[must_use]
    pub fn copied(&self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(range.end.min(self.len()).saturating_sub(range.start));
        self.pieces(range).for_each(|piece| bytes.extend_from_slice(piece));
        bytes
    }

    /// Holders of some of its bytes, in order, for code that need not know what they are.
    pub fn shared_pieces(&self, range: Range<usize>) -> impl Iterator<Item = SharedPiece> {
        let (mut at, end) = (range.start, range.end.min(self.len()));
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let (piece, len): (SharedPiece, usize) = match &*self.0 {
                Text::Whole(bytes) if (at, end) == (0, bytes.len()) => (self.0.clone(), end),
                Text::Whole(_) => (chunks::window(self.0.clone(), at..end), end - at),
                Text::Chunks(chunks) => chunks.shared(at, end)?,
            };
            at += len;
            Some(piece)
        })
    }

    pub(crate) fn capacity(&self) -> usize {
        match &*self.0 {
            Text::Whole(bytes) => bytes.capacity(),
            Text::Chunks(chunks) => chunks.len(),
        }
    }

    /// Memory in bytes, of what it shares with others all.
    pub(crate) fn memory_bytes(&self) -> usize {
        CONTROL_BYTES
            + match &*self.0 {
                Text::Whole(bytes) => class_of(bytes.capacity()),
                Text::Chunks(chunks) => chunks.memory_bytes(),
            }
    }

    /// Where the reference count and the string's own words lie, for prefetching.
    pub(crate) fn control_address(&self) -> *const u8 {
        Arc::as_ptr(&self.0).cast()
    }

    /// Makes it `len` bytes long, with zeros at the end, and lets it be written: no shorter than it is.
    pub(crate) fn grown(&mut self, len: usize) -> &mut Self {
        let len = len.max(self.len());
        if len <= CHUNKED_LEN_MIN {
            if let Text::Whole(bytes) = &*self.0 {
                // Copied first if somebody else holds it, or if most of what is to be there are zeros.
                let is_sparse = len / 2 > bytes.capacity().max(ZEROED_LEN_MIN);
                if is_sparse || Arc::get_mut(&mut self.0).is_none() {
                    let copy = with_zeros(self.whole().unwrap_or_default(), len);
                    self.0 = Arc::new(Text::Whole(copy));
                }
            }
            if let Some(Text::Whole(bytes)) = Arc::get_mut(&mut self.0) {
                bytes.resize(len, 0);
                return self;
            }
        }
        if let Some(Text::Whole(bytes)) = Arc::get_mut(&mut self.0)
            && len <= bytes.capacity()
            && len - bytes.len() <= CHUNK_BYTES
        {
            bytes.resize(len, 0);
            return self;
        }
        self.change(|chunks| chunks.grow(len));
        self
    }

    pub(crate) fn into_grown(mut self, len: usize) -> Self {
        self.grown(len);
        self
    }

    /// Changes its chunks, which become nobody else's. One in one piece is put into chunks.
    fn change(&mut self, change: impl FnOnce(&mut Chunks)) {
        let mut chunks = match Arc::get_mut(&mut self.0) {
            Some(Text::Chunks(own)) => std::mem::take(&mut **own),
            _ => match &*self.0 {
                Text::Whole(bytes) => Chunks::of(&self.shared_whole(), 0..bytes.len()),
                Text::Chunks(chunks) => (**chunks).clone(),
            },
        };
        change(&mut chunks);
        match Arc::get_mut(&mut self.0) {
            Some(Text::Chunks(own)) => **own = chunks,
            _ => self.0 = Arc::new(Text::Chunks(Box::new(chunks))),
        }
    }

    /// Writes bytes over those from `at` on; what is beyond its end is left out.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.len().saturating_sub(at))];
        if bytes.is_empty() {
            return;
        }
        if let Some(Text::Whole(own)) = Arc::get_mut(&mut self.0) {
            own[at..at + bytes.len()].copy_from_slice(bytes);
        } else if self.len() <= CHUNKED_LEN_MIN && self.whole().is_some() {
            let len = self.len();
            self.grown(len).write(at, bytes);
        } else {
            self.change(|chunks| chunks.write(at, bytes));
        }
    }

    /// Appends a long string, of which nothing is copied.
    pub(crate) fn append(&mut self, tail: &SharedPiece) {
        self.change(|chunks| chunks.append(tail));
    }
}
