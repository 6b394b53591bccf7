//! The reply buffer that crosses the seam: bytes written in order, with large values spliced in
//! by reference so that a big reply is never copied. It owns what it holds and knows no transport.

use std::sync::Arc;

/// A large piece of a reply, shared with whoever made it (a stored value, say).
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// More than this is not copied to fill a buffer up.
const ABSORB_MAX_BYTES: usize = 16 * 1024;

/// Bytes on their way out: plain bytes, and shared pieces spliced in between.
#[derive(Default)]
pub struct TxBuf {
    bytes: Vec<u8>,
    /// Shared pieces with the offset in `bytes` before which each belongs, ascending.
    shared: Vec<(usize, SharedBytes)>,
    shared_len: usize,
}

/// One contiguous piece of a [`TxBuf`].
#[derive(Clone)]
pub enum Part<'a> {
    /// Bytes written by [`TxBuf::extend_from_slice`].
    Plain(&'a [u8]),
    /// A piece spliced in by [`TxBuf::push_shared`].
    Shared(&'a SharedBytes),
}

impl Part<'_> {
    /// The bytes of this piece.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Part::Plain(bytes) => bytes,
            Part::Shared(shared) => (***shared).as_ref(),
        }
    }
}

impl TxBuf {
    /// An empty buffer without storage.
    #[must_use]
    pub const fn new() -> Self {
        TxBuf { bytes: Vec::new(), shared: Vec::new(), shared_len: 0 }
    }

    /// An empty buffer with room for `capacity` plain bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        TxBuf { bytes: Vec::with_capacity(capacity), shared: Vec::new(), shared_len: 0 }
    }

    /// Length in bytes, shared pieces included.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.shared_len
    }

    /// Whether there is nothing to send.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.shared.is_empty()
    }

    /// Room for plain bytes in bytes; 0 means the buffer has no storage and wants a lease.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Writes one byte.
    #[inline]
    pub fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Writes bytes.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Splices in a shared piece without copying it.
    pub fn push_shared(&mut self, piece: SharedBytes) {
        self.shared_len += (*piece).as_ref().len();
        self.shared.push((self.bytes.len(), piece));
    }

    /// Memory held in bytes: storage for plain bytes, whether used or not, and all of the shared pieces,
    /// since this buffer may be the last that keeps them.
    #[must_use]
    #[inline]
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.shared_len + self.shared.capacity() * size_of::<(usize, SharedBytes)>()
    }

    /// Room for plain bytes that is not used, in bytes.
    #[must_use]
    #[inline]
    pub fn spare(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Shared pieces in it.
    #[must_use]
    #[inline]
    pub fn shared_count(&self) -> usize {
        self.shared.len()
    }

    /// Takes over the bytes of `other` if they are plain and there is room for them as it is; `other` is
    /// then empty. A reader that does not keep up should hold full buffers, and none that had to grow.
    #[must_use]
    #[inline]
    pub fn absorb(&mut self, other: &mut TxBuf) -> bool {
        let fits = !other.has_shared() && other.bytes.len() <= ABSORB_MAX_BYTES && other.bytes.len() <= self.spare();
        if fits {
            self.bytes.append(&mut other.bytes);
        }
        fits
    }

    /// Moves everything of `other` behind what is here; `other` is left empty with its storage.
    pub fn append(&mut self, other: &mut TxBuf) {
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.shared.extend(other.shared.drain(..).map(|(at, piece)| (base + at, piece)));
        self.shared_len += other.shared_len;
        other.shared_len = 0;
        other.bytes.clear();
    }

    /// Where writing stands, for [`TxBuf::truncate`].
    #[must_use]
    pub fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.shared.len())
    }

    /// Takes back everything written since `mark`.
    pub fn truncate(&mut self, mark: (usize, usize)) {
        self.bytes.truncate(mark.0);
        for (_, piece) in self.shared.drain(mark.1.min(self.shared.len())..) {
            self.shared_len -= (*piece).as_ref().len();
        }
    }

    /// Empties the buffer and keeps its storage.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.shared.clear();
        self.shared_len = 0;
    }

    /// The plain bytes alone; the whole content when nothing shared was spliced in.
    #[must_use]
    #[inline]
    pub fn plain(&self) -> &[u8] {
        &self.bytes
    }

    /// The plain bytes, for a writer that wants a `Vec`. Only appending keeps the splice points.
    #[inline]
    pub fn plain_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Whether shared pieces were spliced in.
    #[must_use]
    #[inline]
    pub fn has_shared(&self) -> bool {
        !self.shared.is_empty()
    }

    /// The pieces in order; no piece is empty. Allocates nothing.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        Parts { buf: self, plain_from: 0, next_shared: 0 }
    }
}

/// Walks a [`TxBuf`]: the plain bytes before the next splice point, then the piece spliced in.
struct Parts<'a> {
    buf: &'a TxBuf,
    plain_from: usize,
    next_shared: usize,
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        loop {
            let spliced = self.buf.shared.get(self.next_shared);
            let plain_to = spliced.map_or(self.buf.bytes.len(), |(at, _)| *at);
            let plain = self.buf.bytes.get(self.plain_from..plain_to).unwrap_or_default();
            if !plain.is_empty() {
                self.plain_from = plain_to;
                return Some(Part::Plain(plain));
            }
            let (_, piece) = spliced?;
            self.next_shared += 1;
            if !(**piece).as_ref().is_empty() {
                return Some(Part::Shared(piece));
            }
        }
    }
}

impl std::fmt::Debug for TxBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TxBuf")
            .field("plain_len", &self.bytes.len())
            .field("shared", &self.shared.len())
            .field("len", &self.len())
            .finish()
    }
}

impl std::io::Write for TxBuf {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn flat(buf: &TxBuf) -> Vec<u8> {
        buf.parts().flat_map(|part| part.as_slice().to_vec()).collect()
    }

    #[test]
    fn shared_pieces_keep_their_place() {
        let mut buf = TxBuf::new();
        buf.push_shared(Arc::new(b"<<".to_vec()));
        buf.extend_from_slice(b"abc");
        buf.push_shared(Arc::new(b"--".to_vec()));
        buf.push_shared(Arc::new(b"==".to_vec()));
        buf.push(b'd');
        assert_eq!(flat(&buf), b"<<abc--==d");
        assert_eq!(buf.len(), 10);

        let mut tail = TxBuf::new();
        tail.extend_from_slice(b"x");
        tail.push_shared(Arc::new(b"YY".to_vec()));
        buf.append(&mut tail);
        assert_eq!(flat(&buf), b"<<abc--==dxYY");
        assert!(tail.is_empty());
    }

    #[test]
    fn memory_is_what_is_held() {
        let mut buf = TxBuf::with_capacity(1000);
        buf.extend_from_slice(b"abc");
        assert!(buf.memory() >= 1000 && buf.memory() < 1100);
        buf.push_shared(Arc::new(vec![0u8; 5000]));
        assert!(buf.memory() >= 6000);
    }

    #[test]
    fn a_buffer_absorbs_what_fits_and_does_not_grow() {
        let mut buf = TxBuf::with_capacity(10);
        let capacity = buf.capacity();
        let mut other = TxBuf::new();
        let mut taken = 0;
        loop {
            other.extend_from_slice(b"xyz");
            if !buf.absorb(&mut other) {
                break;
            }
            assert!(other.is_empty());
            taken += 3;
        }
        assert!(taken > 0 && buf.len() == taken && buf.capacity() == capacity);
        assert_eq!(other.len(), 3, "what does not fit stays where it was");
        let mut shared = TxBuf::new();
        shared.push_shared(Arc::new(b"s".to_vec()));
        assert!(!TxBuf::with_capacity(10).absorb(&mut shared));
    }

    #[test]
    fn empty_pieces_are_not_parts() {
        let mut buf = TxBuf::new();
        buf.push_shared(Arc::new(Vec::new()));
        assert_eq!(buf.parts().count(), 0);
        buf.extend_from_slice(b"ab");
        buf.push_shared(Arc::new(Vec::new()));
        buf.extend_from_slice(b"cd");
        assert_eq!(flat(&buf), b"abcd");
        assert_eq!(buf.len(), 4);
    }

    #[test]
    fn truncate_takes_back_both_kinds() {
        let mut buf = TxBuf::new();
        buf.extend_from_slice(b"keep");
        let mark = buf.mark();
        buf.push_shared(Arc::new(b"gone".to_vec()));
        buf.extend_from_slice(b"gone");
        buf.truncate(mark);
        assert_eq!(flat(&buf), b"keep");
        assert_eq!(buf.len(), 4);
    }
}
