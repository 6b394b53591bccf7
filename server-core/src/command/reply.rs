//! The reply side of a session: writes values in the protocol version the client speaks into the
//! buffers that will be handed to the transport. Knows RESP and buffers, not what is replied.
//!
//! What is written is held until the client takes it, so it has a bound: [`Reply::set_room`] says how
//! much that may be, and it is looked at while a reply is being written. Past the bound everything
//! is dropped, and so is all that is written afterwards: the client will be closed.

use std::borrow::Cow;
use std::sync::Arc;

use tercel_engine::{Blob, LongString, StringRef};
use tercel_resp::{Version, encode};
use tercel_transport::{SharedBytes, TxBuf};

/// From this length in bytes on a stored value is spliced into the reply instead of copied.
const SPLICE_LEN_MIN: usize = 16 * 1024;
/// Bytes written between two looks at what is held.
const LOOK_EVERY_BYTES: usize = 16 * 1024;
/// From here on a buffer is full and another is begun: what is written at once beyond it still fits into
/// [`BUFFER_BYTES`], so that no buffer grows on and on and is copied each time.
const BUFFER_FULL_BYTES: usize = 48 * 1024;
/// As many shared pieces fill a buffer: a transport walks over those that have left.
const BUFFER_PIECES: usize = 256;
/// Room of a further buffer in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Replies on their way to one client.
pub struct Reply {
    /// What is being written.
    buf: TxBuf,
    /// Full buffers before it.
    full: Vec<TxBuf>,
    full_len: usize,
    full_memory: usize,
    /// What all of it may count for, in bytes: its length, or half of what it holds, if that is more.
    room: usize,
    /// Length of `buf` from which on it is looked at again; 0 once everything is dropped.
    look_at: usize,
    over: bool,
    /// The protocol the client speaks.
    pub version: Version,
}

/// Where writing stood, for [`Reply::truncate`].
#[derive(Clone, Copy)]
pub struct Mark {
    full: usize,
    buf: (usize, usize),
}

/// A string that is short enough to be copied.
fn whole_or_copied(long: &LongString) -> Cow<'_, [u8]> {
    long.whole().map_or_else(|| Cow::Owned(long.copied(0..long.len())), Cow::Borrowed)
}

impl Default for Reply {
    fn default() -> Self {
        Reply {
            buf: TxBuf::new(),
            full: Vec::new(),
            full_len: 0,
            full_memory: 0,
            room: usize::MAX,
            look_at: LOOK_EVERY_BYTES,
            over: false,
            version: Version::default(),
        }
    }
}

impl Reply {
    /// Nothing written yet, for a client that speaks `version`.
    #[must_use]
    pub fn new(version: Version) -> Self {
        Reply { version, ..Reply::default() }
    }

    /// Whether the client speaks RESP3.
    #[must_use]
    #[inline]
    pub fn is_resp3(&self) -> bool {
        self.version == Version::Resp3
    }

    /// What all of it may count for, in bytes.
    #[must_use]
    pub fn room(&self) -> usize {
        self.room
    }

    /// Bytes written and not handed over yet.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.full_len + self.buf.len()
    }

    /// Whether nothing waits to be handed over.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty() && self.full.is_empty()
    }

    /// Memory held in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.full_memory + self.buf.memory()
    }

    /// Room of the buffer being written, in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// Whether more was written than there is room for, so that nothing is left of it.
    #[must_use]
    #[inline]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Sets how many bytes everything written may count for from now on.
    #[inline]
    pub fn set_room(&mut self, room: usize) {
        self.room = room;
        if !self.over {
            self.look_at = self.next_look().min(room.saturating_sub(self.full_len).saturating_add(1));
        }
    }

    /// Gives it a buffer to write into, if it has none.
    #[inline]
    pub fn lend(&mut self, lease: impl FnOnce() -> TxBuf) {
        if self.buf.capacity() == 0 && self.buf.is_empty() {
            self.buf = lease();
        }
    }

    /// Hands over everything written, in order; the last buffer even if nothing is in it.
    #[inline]
    pub fn hand_over(&mut self, mut take: impl FnMut(TxBuf)) {
        for full in self.full.drain(..) {
            take(full);
        }
        self.full_len = 0;
        self.full_memory = 0;
        take(std::mem::take(&mut self.buf));
        if !self.over {
            self.look_at = LOOK_EVERY_BYTES;
        }
    }

    /// Where writing stands.
    #[must_use]
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark { full: self.full.len(), buf: self.buf.mark() }
    }

    /// Takes back everything written since `mark`.
    pub fn truncate(&mut self, mark: Mark) {
        if mark.full < self.full.len() {
            let mut taken = self.full.drain(mark.full..);
            if let Some(buf) = taken.next() {
                self.buf = buf;
            }
            drop(taken);
            self.full_len = self.full.iter().map(TxBuf::len).sum();
            self.full_memory = self.full.iter().map(TxBuf::memory).sum();
        }
        self.buf.truncate(mark.buf);
        self.set_room(self.room);
    }

    /// Moves what was written to `other` behind what is here.
    pub fn append(&mut self, other: &mut Reply) {
        if other.over {
            self.overflow();
            return;
        }
        if !other.full.is_empty() {
            self.begin_buffer();
            self.full_len += std::mem::take(&mut other.full_len);
            self.full_memory += std::mem::take(&mut other.full_memory);
            self.full.append(&mut other.full);
        }
        self.buf.append(&mut other.buf);
        self.appended();
    }

    /// It will be more than it may: everything is dropped already.
    pub fn give_up(&mut self) {
        self.overflow();
    }

    /// Forgets everything that was written, and that there was too much of it.
    pub fn clear(&mut self) {
        self.discard();
        self.over = false;
        self.set_room(self.room);
    }

    #[inline]
    fn out(&mut self) -> &mut Vec<u8> {
        self.buf.plain_mut()
    }

    #[inline]
    fn appended(&mut self) {
        if self.buf.len() >= self.look_at {
            self.look();
        }
    }

    /// Looks at what is held, and begins another buffer when this one is full.
    #[cold]
    fn look(&mut self) {
        // Its length counts, or half of what it holds, where that is more.
        let counted = self.len().max((self.memory() - self.buf.spare()) / 2);
        if self.over || counted > self.room {
            self.overflow();
            return;
        }
        if self.buf.plain().len() >= BUFFER_FULL_BYTES || self.buf.shared_count() >= BUFFER_PIECES {
            self.begin_buffer();
        }
        self.look_at = self.next_look();
    }

    /// The length of the buffer at which it is to be looked at: soon, and before it is fuller than full.
    #[inline]
    fn next_look(&self) -> usize {
        let plain_left = BUFFER_FULL_BYTES.saturating_sub(self.buf.plain().len());
        self.buf.len() + LOOK_EVERY_BYTES.min(plain_left.max(1))
    }

    fn begin_buffer(&mut self) {
        let full = std::mem::replace(&mut self.buf, TxBuf::with_capacity(BUFFER_BYTES));
        self.full_len += full.len();
        self.full_memory += full.memory();
        self.full.push(full);
    }

    fn overflow(&mut self) {
        self.over = true;
        self.look_at = 0;
        self.discard();
    }

    fn discard(&mut self) {
        self.full = Vec::new();
        self.full_len = 0;
        self.full_memory = 0;
        self.buf.clear();
    }

    /// Splices bytes in without copying them, if there is room.
    fn splice(&mut self, bytes: SharedBytes) {
        let len = (*bytes).as_ref().len();
        if self.over || self.len().saturating_add(len) > self.room {
            self.overflow();
            return;
        }
        self.buf.push_shared(bytes);
    }

    /// Writes with an encoder of `resp`.
    #[inline]
    pub fn encode(&mut self, write: impl FnOnce(&mut Vec<u8>, Version)) {
        let version = self.version;
        write(self.out(), version);
        self.appended();
    }

    /// `+OK`
    #[inline]
    pub fn ok(&mut self) {
        self.out().extend_from_slice(b"+OK\r\n");
        self.appended();
    }

    /// A simple string.
    pub fn simple(&mut self, text: &str) {
        encode::simple(self.out(), text.as_bytes());
        self.appended();
    }

    /// An error; `text` begins with its code.
    pub fn error(&mut self, text: &str) {
        encode::error(self.out(), text.as_bytes());
        self.appended();
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        encode::integer(self.out(), value);
        self.appended();
    }

    /// A length or count.
    #[inline]
    pub fn count(&mut self, value: usize) {
        encode::integer(self.out(), value as i64);
        self.appended();
    }

    /// 1 or 0.
    #[inline]
    pub fn flag(&mut self, value: bool) {
        encode::integer(self.out(), i64::from(value));
        self.appended();
    }

    /// A bulk string.
    #[inline]
    pub fn bulk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if bytes.len() >= SPLICE_LEN_MIN {
            self.long_bulk(bytes);
            return;
        }
        encode::bulk(self.out(), bytes);
        self.appended();
    }

    /// A long one gets memory of its own, just as much as it takes, and only if there is room for it.
    #[cold]
    fn long_bulk(&mut self, bytes: &[u8]) {
        encode::header(self.out(), b'$', bytes.len() as i64);
        if self.room.saturating_sub(self.len()) >= bytes.len() {
            self.splice(Arc::new(bytes.to_vec()));
        } else {
            self.overflow();
        }
        self.out().extend_from_slice(b"\r\n");
        self.appended();
    }

    /// Nothing.
    #[inline]
    pub fn null(&mut self) {
        let version = self.version;
        encode::null(self.out(), version);
        self.appended();
    }

    /// Nothing where an array was expected.
    pub fn null_array(&mut self) {
        let version = self.version;
        encode::null_array(self.out(), version);
        self.appended();
    }

    /// A stored string. A large one is spliced in by reference.
    #[inline]
    pub fn value(&mut self, value: StringRef<'_>) {
        match value {
            StringRef::Int(number) => encode::bulk_integer(self.out(), number),
            StringRef::Bytes(bytes) => encode::bulk(self.out(), bytes),
            StringRef::Long(long) if long.len() < SPLICE_LEN_MIN => encode::bulk(self.out(), &whole_or_copied(long)),
            StringRef::Long(long) => return self.part_of(long, 0..long.len()),
        }
        self.appended();
    }

    /// A string of a collection. A large one is spliced in by reference.
    pub fn blob(&mut self, blob: &Blob) {
        if blob.len() < SPLICE_LEN_MIN {
            return self.bulk(blob.as_slice());
        }
        self.bulk_of(std::slice::from_ref(blob));
    }

    /// Some bytes of a long string, as a string. They are spliced in by reference if they are many.
    pub fn part_of(&mut self, long: &LongString, range: std::ops::Range<usize>) {
        let len = range.end.min(long.len()).saturating_sub(range.start);
        if len < SPLICE_LEN_MIN {
            return self.bulk(long.copied(range));
        }
        encode::header(self.out(), b'$', len as i64);
        long.shared_pieces(range).for_each(|piece| self.splice(piece));
        self.out().extend_from_slice(b"\r\n");
        self.appended();
    }

    /// One string in several pieces, each spliced in by reference.
    pub fn bulk_of(&mut self, pieces: &[Blob]) {
        let len: usize = pieces.iter().map(Blob::len).sum();
        encode::header(self.out(), b'$', len as i64);
        pieces.iter().for_each(|piece| self.splice(piece.shared()));
        self.out().extend_from_slice(b"\r\n");
        self.appended();
    }

    /// The text of the error that this answer is, if it is one.
    #[must_use]
    pub fn as_error(&self) -> Option<String> {
        let text = self.buf.plain().strip_prefix(b"-").filter(|_| self.full.is_empty())?;
        Some(String::from_utf8_lossy(text).trim_end().to_owned())
    }

    /// Begins an array.
    #[inline]
    pub fn array(&mut self, len: usize) {
        encode::array(self.out(), len);
        self.appended();
    }

    /// Begins a map.
    pub fn map(&mut self, pairs: usize) {
        let version = self.version;
        encode::map(self.out(), version, pairs);
        self.appended();
    }

    /// Begins a set.
    pub fn set(&mut self, len: usize) {
        let version = self.version;
        encode::set(self.out(), version, len);
        self.appended();
    }

    /// Begins a push message.
    pub fn push(&mut self, len: usize) {
        let version = self.version;
        encode::push(self.out(), version, len);
        self.appended();
    }

    /// A double.
    pub fn double(&mut self, value: f64) {
        let version = self.version;
        encode::double(self.out(), version, value);
        self.appended();
    }

    /// A truth value.
    pub fn boolean(&mut self, value: bool) {
        let version = self.version;
        encode::boolean(self.out(), version, value);
        self.appended();
    }

    /// Text.
    pub fn verbatim(&mut self, text: &str) {
        let version = self.version;
        encode::verbatim(self.out(), version, *b"txt", text.as_bytes());
        self.appended();
    }

    /// An array of bulk strings.
    pub fn bulks<T: AsRef<[u8]>>(&mut self, items: &[T]) {
        self.array(items.len());
        for item in items {
            self.bulk(item);
        }
    }

    /// An array of simple strings, as HELP subcommands answer.
    pub fn lines(&mut self, lines: &[&str]) {
        self.array(lines.len());
        for line in lines {
            self.simple(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(reply: &mut Reply) -> Vec<u8> {
        let mut bytes = Vec::new();
        reply.hand_over(|buf| bytes.extend(buf.parts().flat_map(|part| part.as_slice().to_vec())));
        bytes
    }

    #[test]
    fn a_long_reply_holds_little_more_than_its_length() {
        let (mut reply, mut expected) = (Reply::default(), Vec::new());
        for number in 0..20_000usize {
            // Short ones, some near the bound between copying and splicing, some beyond it.
            let len = match number % 100 {
                7 => SPLICE_LEN_MIN - 1,
                8 => SPLICE_LEN_MIN + number,
                _ => number % 300,
            };
            let value = vec![b'a' + (number % 26) as u8; len];
            reply.bulk(&value);
            encode::bulk(&mut expected, &value);
            assert_eq!(reply.len(), expected.len());
        }
        assert!(reply.memory() >= reply.len() && reply.memory() < 2 * reply.len(), "{}", reply.memory());
        assert!(flat(&mut reply) == expected);
        assert!(reply.is_empty());
    }

    #[test]
    fn a_bound_is_looked_at_while_a_reply_is_written() {
        for len in [1, 100, 5_000, 16_000, 20_000, 3_000_000] {
            let mut reply = Reply::default();
            reply.set_room(1 << 20);
            let (value, mut held_max) = (vec![b'x'; len], 0);
            for _ in 0..(4 << 20) / len {
                reply.bulk(&value);
                held_max = held_max.max(reply.memory());
            }
            assert!(reply.is_over() && reply.is_empty(), "values of {len}");
            // Length is what counts; a buffer is left when it is full, with room for one write more.
            let held_bound = (1 << 20) / BUFFER_FULL_BYTES * BUFFER_BYTES + 3 * BUFFER_BYTES;
            assert!(held_max <= held_bound, "{held_max} bytes held with values of {len}");
        }
        let mut reply = Reply::default();
        reply.set_room(1 << 20);
        reply.bulk(vec![b'x'; (1 << 20) - 1000]);
        assert!(!reply.is_over(), "what fits is written");
    }

    #[test]
    fn truncating_goes_back_over_buffers() {
        let mut reply = Reply::default();
        reply.simple("kept");
        let mark = reply.mark();
        for _ in 0..100 {
            reply.bulk(vec![b'x'; 10_000]);
        }
        reply.truncate(mark);
        reply.integer(7);
        let memory = reply.memory();
        assert!(memory < 200_000, "{memory}");
        assert_eq!(flat(&mut reply), b"+kept\r\n:7\r\n");
    }

    #[test]
    fn appending_keeps_the_order() {
        let (mut reply, mut pushes) = (Reply::default(), Reply::default());
        reply.simple("first");
        let mut expected = b"+first\r\n".to_vec();
        for number in 0..3_000 {
            let value = vec![b'a' + (number % 26) as u8; 100];
            pushes.bulk(&value);
            encode::bulk(&mut expected, &value);
        }
        reply.append(&mut pushes);
        reply.ok();
        expected.extend_from_slice(b"+OK\r\n");
        assert_eq!(reply.len(), expected.len());
        assert!(flat(&mut reply) == expected);
        assert!(pushes.is_empty());
    }
}
