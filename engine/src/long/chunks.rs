//! The chunks of a long string: where each ends, and what holds its bytes.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use crate::size_class::class_of;

/// Bytes of a chunk at most: what a change of one byte copies. The table of 512 MiB is 48 KiB then, which the
/// first change after a snapshot copies too.
pub const CHUNK_BYTES: usize = if cfg!(test) { 1 << 10 } else { 256 << 10 };

/// Some bytes that are shared.
pub type SharedPiece = Arc<dyn AsRef<[u8]> + Send + Sync>;

static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];
static SHARED_ZEROS: LazyLock<SharedPiece> = LazyLock::new(|| Arc::new(&ZEROS));

/// Some bytes of what somebody holds.
struct Window {
    of: SharedPiece,
    range: Range<usize>,
}

impl AsRef<[u8]> for Window {
    fn as_ref(&self) -> &[u8] {
        bytes_of(&self.of).get(self.range.clone()).unwrap_or_default()
    }
}

fn bytes_of(piece: &SharedPiece) -> &[u8] {
    (**piece).as_ref()
}

pub(super) fn window(of: SharedPiece, range: Range<usize>) -> SharedPiece {
    Arc::new(Window { of, range })
}

/// What holds a chunk's bytes.
#[derive(Clone)]
enum Held {
    /// Its own bytes, for others to share as long as they are not written.
    Own(Arc<Vec<u8>>),
    /// Bytes of a string in one piece, from there on.
    Window(SharedPiece, usize),
    Zeros,
}

#[derive(Clone)]
struct Chunk {
    /// Where it ends in the string.
    end: usize,
    held: Held,
}

/// A string in chunks. Of two that follow each other one at least is of [`CHUNK_BYTES`], or the last.
#[derive(Clone, Default)]
pub(super) struct Chunks {
    chunks: Vec<Chunk>,
    /// Before this chunk there is no window.
    windows_from: usize,
}

impl Chunks {
    /// Some bytes of what somebody holds, all windows.
    pub(super) fn of(whole: &SharedPiece, range: Range<usize>) -> Self {
        let mut chunks = Chunks::default();
        chunks.append_windows(whole, range);
        chunks
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| last.end)
    }

    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).and_then(|before| self.chunks.get(before)).map_or(0, |before| before.end)
    }

    /// The chunk that a byte is in.
    fn index_of(&self, at: usize) -> usize {
        self.chunks.partition_point(|chunk| chunk.end <= at)
    }

    fn bytes(&self, index: usize) -> &[u8] {
        let Some(chunk) = self.chunks.get(index) else { return &[] };
        let len = chunk.end - self.start(index);
        match &chunk.held {
            Held::Own(bytes) => bytes,
            Held::Window(of, from) => bytes_of(of).get(*from..*from + len).unwrap_or_default(),
            Held::Zeros => &ZEROS[..len],
        }
    }

    /// The bytes from `at` on that lie together.
    pub(super) fn piece(&self, at: usize) -> &[u8] {
        let index = self.index_of(at);
        self.bytes(index).get(at - self.start(index)..).unwrap_or_default()
    }

    /// A holder of bytes from `at` on, to `end` at most, and how many they are.
    pub(super) fn shared(&self, at: usize, end: usize) -> Option<(SharedPiece, usize)> {
        let index = self.index_of(at);
        let (chunk, start) = (self.chunks.get(index)?, self.start(index));
        let end = end.min(chunk.end);
        let (from, to) = (at - start, end - start);
        let is_whole = (at, end) == (start, chunk.end);
        let piece: SharedPiece = match &chunk.held {
            Held::Own(bytes) if is_whole => bytes.clone(),
            Held::Own(bytes) => window(bytes.clone(), from..to),
            Held::Window(of, first) => window(of.clone(), first + from..first + to),
            Held::Zeros if to - from == CHUNK_BYTES => SHARED_ZEROS.clone(),
            Held::Zeros => Arc::new(&ZEROS[from..to]),
        };
        Some((piece, end - at))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let held = (0..self.chunks.len()).map(|index| match &self.chunks[index].held {
            Held::Own(bytes) => class_of(bytes.capacity()),
            Held::Window(..) => self.chunks[index].end - self.start(index),
            Held::Zeros => 0,
        });
        held.sum::<usize>() + class_of(self.chunks.capacity() * size_of::<Chunk>())
    }

    /// Whether nobody else has a chunk's bytes.
    fn is_own(&mut self, index: usize) -> bool {
        match self.chunks.get_mut(index).map(|chunk| &mut chunk.held) {
            Some(Held::Own(bytes)) => Arc::get_mut(bytes).is_some(),
            _ => false,
        }
    }

    /// A chunk's bytes for writing: nobody else's.
    fn own(&mut self, index: usize) -> Option<&mut Vec<u8>> {
        if !self.is_own(index) {
            self.chunks.get(index)?;
            let copy = match &self.chunks[index].held {
                // The allocator's zeros need not be written again.
                Held::Zeros => vec![0; self.bytes(index).len()],
                _ => self.bytes(index).to_vec(),
            };
            self.chunks[index].held = Held::Own(Arc::new(copy));
        }
        match &mut self.chunks[index].held {
            Held::Own(bytes) => Arc::get_mut(bytes),
            _ => None,
        }
    }

    /// Copies one window more, so that a string in one piece does not stay in memory for ever because a chunk of it
    /// was never written: it goes after as many changes as it has chunks.
    fn copy_a_window(&mut self) {
        while let Some(chunk) = self.chunks.get(self.windows_from) {
            if matches!(chunk.held, Held::Window(..)) {
                self.own(self.windows_from);
                return;
            }
            self.windows_from += 1;
        }
    }

    /// Appends zeros until it is `len` bytes long.
    pub(super) fn grow(&mut self, len: usize) {
        let from = self.len();
        if len <= from {
            return;
        }
        let room = self.fill_up(len - from);
        if room > 0 {
            let last = self.chunks.len() - 1;
            if matches!(self.chunks[last].held, Held::Zeros) {
                self.chunks[last].end += room;
            } else if let Some(bytes) = self.own(last) {
                let len = bytes.len() + room;
                if len > bytes.capacity() {
                    // Twice as much, so that many short ones are appended in constant time each, but never more
                    // than a chunk.
                    bytes.reserve_exact(len.max(2 * bytes.capacity()).min(CHUNK_BYTES) - bytes.len());
                }
                bytes.resize(len, 0);
                self.chunks[last].end += room;
            }
        }
        for end in (self.len()..len).step_by(CHUNK_BYTES) {
            self.chunks.push(Chunk { end: len.min(end + CHUNK_BYTES), held: Held::Zeros });
        }
    }

    /// How many of `count` bytes go into the last chunk.
    fn fill_up(&self, count: usize) -> usize {
        let Some(last) = self.chunks.len().checked_sub(1) else { return 0 };
        count.min(CHUNK_BYTES.saturating_sub(self.chunks[last].end - self.start(last)))
    }

    /// Appends bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let from = self.len();
        self.grow(from + bytes.len());
        self.write_over(from, bytes);
    }

    /// Appends a string in one piece, of which nothing is copied if it is long.
    pub(super) fn append(&mut self, tail: &SharedPiece) {
        if bytes_of(tail).len() < CHUNK_BYTES {
            self.push(bytes_of(tail));
        } else {
            self.append_windows(tail, 0..bytes_of(tail).len());
        }
        self.copy_a_window();
    }

    fn append_windows(&mut self, whole: &SharedPiece, range: Range<usize>) {
        let base = self.len();
        for from in range.clone().step_by(CHUNK_BYTES) {
            let end = base + range.end.min(from + CHUNK_BYTES) - range.start;
            self.chunks.push(Chunk { end, held: Held::Window(whole.clone(), from) });
        }
    }

    /// Writes bytes over those from `at` on, as many as there are.
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        self.write_over(at, bytes);
        if bytes.len() < CHUNK_BYTES / 4 {
            self.copy_a_window();
        }
    }

    fn write_over(&mut self, at: usize, mut bytes: &[u8]) {
        let mut index = self.index_of(at);
        let mut within = at - self.start(index);
        while !bytes.is_empty() {
            let chunk_len = self.bytes(index).len();
            if within == 0 && (1..=bytes.len()).contains(&chunk_len) && !self.is_own(index) {
                // Nothing of what it was is left.
                let (now, later) = bytes.split_at(chunk_len);
                self.chunks[index].held = Held::Own(Arc::new(now.to_vec()));
                bytes = later;
                index += 1;
                continue;
            }
            let Some(own) = self.own(index) else { return };
            let len = bytes.len().min(own.len().saturating_sub(within));
            let (now, later) = bytes.split_at(len);
            own[within..within + len].copy_from_slice(now);
            bytes = later;
            within = 0;
            index += 1;
        }
    }
}
