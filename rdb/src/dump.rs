//! The payload of `DUMP` and `RESTORE`: the type and the value as in a file, then the version in two
//! bytes and the CRC-64 of all that in eight, both little endian.
//!
//! The version is that of a file with the same value: 11, or 80 for a hash with fields that expire.

use std::io::{self, Read, Take};
use std::ops::Range;

use crc_fast::Digest;

use crate::error::RdbError;
use crate::format;
use crate::lzf::Compressor;
use crate::read::{ReadOptions, type_name};
use crate::sink::Sink;
use crate::source::Source;
use crate::types::{Collection, CollectionKind, Dialect, Form, Opening, Parts, ValueWriter, misuse};
use crate::value::{LoadedString, StringValue};

const VERSION_BYTES: usize = 2;
const CRC_BYTES: usize = 8;

/// The payload for a string, compressed if `compress` and that makes it smaller.
pub fn dump_string(value: StringValue<'_>, compress: bool) -> Vec<u8> {
    let mut compressor = compress.then(Compressor::default);
    let mut out = Vec::with_capacity(160);
    out.push(format::TYPE_STRING);
    let tail = format::put_value_head(&mut out, compressor.as_mut(), value);
    out.reserve_exact(tail.len() + VERSION_BYTES + CRC_BYTES);
    out.extend_from_slice(tail);
    seal(out, format::VERSION_WRITTEN, format::crc64())
}

/// Adds the footer; `crc` has what came before.
fn seal(mut out: Vec<u8>, version: u16, mut crc: Digest) -> Vec<u8> {
    out.extend_from_slice(&version.to_le_bytes());
    crc.update(&out);
    out.extend_from_slice(&crc.finalize().to_le_bytes());
    out
}

/// Writes the payload for one value: the calls are those of [`Encoder`](crate::Encoder), without key.
/// A call out of order, or a second value, is `InvalidInput`, the only error there is.
#[derive(Debug)]
pub struct PayloadWriter {
    writer: ValueWriter<io::Sink>,
    version: u16,
    has_value: bool,
    /// Of what was taken, and how much that was.
    crc: Digest,
    taken: usize,
}

impl PayloadWriter {
    /// With `compress`, strings of more than 20 bytes are compressed where that makes them smaller.
    pub fn new(compress: bool) -> Self {
        let writer = ValueWriter::new(Sink::gathering(), compress);
        Self { writer, version: format::VERSION_WRITTEN, has_value: false, crc: format::crc64(), taken: 0 }
    }

    /// Writes what begins a value, which there can be one of.
    fn value(&mut self, write: impl FnOnce(&mut ValueWriter<io::Sink>) -> io::Result<()>) -> io::Result<()> {
        if self.has_value {
            return Err(misuse("a second value in a payload"));
        }
        write(&mut self.writer)?;
        self.has_value = true;
        Ok(())
    }

    /// See [`Encoder::entry`](crate::Encoder::entry).
    pub fn string(&mut self, value: StringValue<'_>) -> io::Result<()> {
        self.value(|writer| writer.value(value, None))
    }

    /// See [`Encoder::begin_long`](crate::Encoder::begin_long).
    pub fn begin_long(&mut self, len: u64) -> io::Result<()> {
        self.value(|writer| writer.begin_long(len, None))
    }

    /// See [`Encoder::piece`](crate::Encoder::piece).
    pub fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.piece(bytes)
    }

    /// See [`Encoder::small_list`](crate::Encoder::small_list).
    pub fn small_list<'a>(&mut self, elements: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
        self.value(|writer| writer.small_list(elements, None))
    }

    /// See [`Encoder::begin_list`](crate::Encoder::begin_list).
    pub fn begin_list(&mut self, len: u64) -> io::Result<()> {
        self.value(|writer| writer.begin_list(len, None))
    }

    /// See [`Encoder::element`](crate::Encoder::element).
    pub fn element(&mut self, element: &[u8]) -> io::Result<()> {
        self.writer.element(element)
    }

    /// See [`Encoder::small_hash`](crate::Encoder::small_hash).
    pub fn small_hash<'a>(&mut self, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> io::Result<()> {
        self.value(|writer| writer.small_hash(fields, None))
    }

    /// See [`Encoder::begin_hash`](crate::Encoder::begin_hash); `with_deadlines` may always be said, and
    /// makes a payload that is read by Valkey from 9.0 on only.
    pub fn begin_hash(&mut self, len: u64, with_deadlines: bool) -> io::Result<()> {
        self.value(|writer| writer.begin_hash(len, with_deadlines, None))?;
        if with_deadlines {
            self.version = format::VERSION_WRITTEN_DEADLINES;
        }
        Ok(())
    }

    /// See [`Encoder::field`](crate::Encoder::field).
    pub fn field(&mut self, field: &[u8], value: &[u8], deadline_ms: Option<i64>) -> io::Result<()> {
        self.writer.field(field, value, deadline_ms)
    }

    /// Bytes so far; ten more are added in the end.
    #[allow(clippy::len_without_is_empty, reason = "a payload is never empty")]
    pub fn len(&self) -> usize {
        self.taken + self.writer.sink.buf.len()
    }

    /// Bytes that were not taken yet.
    pub fn buffered(&self) -> usize {
        self.writer.sink.buf.len()
    }

    /// Takes what was written since it was last called: a large payload need not lie in one piece, nor be summed up
    /// at once. The payload is all that was taken and then what [`finish`](Self::finish) returns.
    pub fn take(&mut self) -> Vec<u8> {
        let piece = std::mem::take(&mut self.writer.sink.buf);
        self.crc.update(&piece);
        self.taken += piece.len();
        piece
    }

    /// The payload, or what was not taken of it. `InvalidInput` if there is no value or not all of it.
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        self.writer.begin()?;
        if !self.has_value {
            return Err(misuse("a payload without a value"));
        }
        let mut out = self.writer.sink.buf;
        out.reserve_exact(VERSION_BYTES + CRC_BYTES);
        Ok(seal(out, self.version, self.crc))
    }
}

/// What is next in a payload: a string, or a collection as in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadItem {
    /// All there is.
    String(LoadedString),
    /// The value is a collection: its parts follow, then [`Finished`](Self::Finished). See
    /// [`Item::Begin`](crate::Item::Begin).
    Begin { kind: CollectionKind, len_hint: u64 },
    /// Some of its parts, in order; never none.
    Parts(Parts),
    /// The value was whole, and nothing followed it.
    Finished,
}

/// Reads a payload bit by bit, from what hands out its bytes.
#[derive(Debug)]
pub struct PayloadReader<R> {
    source: Source<Take<R>>,
    version: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Start,
    Collection(Box<Collection>),
    Finished,
    Failed,
}

/// Compares the checksum of a payload, piece by piece: there may be very much to sum up.
#[derive(Debug)]
pub struct PayloadCheck {
    crc: Digest,
    summed: usize,
}

impl Default for PayloadCheck {
    fn default() -> Self {
        PayloadCheck { crc: format::crc64(), summed: 0 }
    }
}

impl PayloadCheck {
    /// Sums up to `bytes_max` bytes more of the payload, which is always the same. True while there are more.
    pub fn step(&mut self, payload: &[u8], bytes_max: usize) -> bool {
        let end = payload.len().saturating_sub(CRC_BYTES);
        let until = end.min(self.summed.saturating_add(bytes_max));
        self.crc.update(payload.get(self.summed..until).unwrap_or_default());
        self.summed = until;
        until < end
    }

    /// Begins to read the payload, all of which was summed up, from `body`, which hands out its bytes.
    /// [`RdbError::Checksum`] for one whose checksum or version is wrong (it is compared if the options say so).
    pub fn open<R: Read>(self, payload: &[u8], body: R, options: ReadOptions) -> Result<PayloadReader<R>, RdbError> {
        let too_short = RdbError::Checksum { why: "the payload has no checksum", stored: 0, computed: 0 };
        let Some((before, footer)) = payload.split_last_chunk::<{ VERSION_BYTES + CRC_BYTES }>() else {
            return Err(too_short);
        };
        let [low, high, stored @ ..] = *footer;
        let version = u32::from(u16::from_le_bytes([low, high]));
        let stored = u64::from_le_bytes(stored);
        let computed = self.crc.finalize();
        if stored != computed && options.checksum {
            return Err(RdbError::Checksum { why: "the payload is damaged: its checksum is wrong", stored, computed });
        }
        if !format::version_accepted(version, None, options.version_check_strict) {
            let why = "the payload is of a version that cannot be read";
            return Err(RdbError::Checksum { why, stored, computed });
        }
        let source = Source::new(body.take(before.len() as u64), before.len(), false, options.string_len_max);
        Ok(PayloadReader { source, version, state: State::Start })
    }
}

/// Begins to read a payload, with the errors of [`PayloadCheck::open`].
pub fn open_payload(payload: &[u8], options: ReadOptions) -> Result<PayloadReader<&[u8]>, RdbError> {
    let mut check = PayloadCheck::default();
    while check.step(payload, usize::MAX) {}
    check.open(payload, payload, options)
}

/// Where in a payload its string lies, if it is one that lies there as it is.
pub fn plain_string(payload: &[u8]) -> Option<Range<usize>> {
    let body = payload.get(..payload.len().checked_sub(VERSION_BYTES + CRC_BYTES)?)?;
    let mut source = Source::new(body, 16, false, u64::MAX);
    if source.byte().ok()? != format::TYPE_STRING {
        return None;
    }
    let len = source.plain_len().ok()??;
    let begin = source.offset() as usize;
    (begin as u64 + len == body.len() as u64).then_some(begin..body.len())
}

impl<R: Read> PayloadReader<R> {
    /// What is next; after the end [`PayloadItem::Finished`] again. [`RdbError::Unsupported`] for types
    /// that there is no place for, [`RdbError::TooLong`] for a string past the limit,
    /// [`RdbError::Corrupt`] for everything else. After an error there is nothing more to be had, and
    /// what came before it is no value.
    #[allow(clippy::should_implement_trait, reason = "a payload has an end that is an item and may fail")]
    pub fn next(&mut self) -> Result<PayloadItem, RdbError> {
        let state = std::mem::replace(&mut self.state, State::Failed);
        let (item, state) = self.item(state).map_err(|error| match error {
            RdbError::Truncated { at } => RdbError::Corrupt { at, why: "the value is cut short" },
            error => error,
        })?;
        self.state = state;
        Ok(item)
    }

    fn item(&mut self, state: State) -> Result<(PayloadItem, State), RdbError> {
        match state {
            State::Start => self.begin(),
            State::Collection(mut collection) => match collection.parts(&mut self.source)? {
                Some(parts) => Ok((PayloadItem::Parts(parts), State::Collection(collection))),
                None => {
                    self.end()?;
                    Ok((PayloadItem::Finished, State::Finished))
                }
            },
            State::Finished => Ok((PayloadItem::Finished, State::Finished)),
            State::Failed => Err(RdbError::Corrupt { at: self.source.offset(), why: "reading failed before" }),
        }
    }

    fn begin(&mut self) -> Result<(PayloadItem, State), RdbError> {
        let kind = self.source.byte()?;
        if kind == format::TYPE_STRING {
            let value = self.source.value()?;
            self.end()?;
            return Ok((PayloadItem::String(value), State::Finished));
        }
        let foreign = (format::VERSION_SHARED_MAX + 1..=format::VERSION_FOREIGN_MAX).contains(&self.version);
        let Some(form) = Form::of(kind, if foreign { Dialect::Redis } else { Dialect::Valkey }) else {
            return Err(match type_name(kind, foreign) {
                Some(what) => RdbError::Unsupported { what, key: None },
                None => RdbError::Corrupt { at: 0, why: "an unknown type" },
            });
        };
        match Opening::new(form).open(&mut self.source)? {
            Some(collection) => {
                let (kind, len_hint) = (collection.kind(), collection.len_hint());
                Ok((PayloadItem::Begin { kind, len_hint }, State::Collection(Box::new(collection))))
            }
            None => Err(RdbError::Corrupt { at: 0, why: "a collection with nothing in it" }),
        }
    }

    fn end(&mut self) -> Result<(), RdbError> {
        if self.source.at_end()? {
            return Ok(());
        }
        Err(RdbError::Corrupt { at: self.source.offset(), why: "there is data behind the value" })
    }
}

/// The string in a payload, with the errors of [`open_payload`] and [`PayloadReader::next`];
/// [`RdbError::Unsupported`] also for a collection.
pub fn restore_string(payload: &[u8], options: ReadOptions) -> Result<LoadedString, RdbError> {
    match open_payload(payload, options)?.next()? {
        PayloadItem::String(value) => Ok(value),
        PayloadItem::Begin { kind, .. } => Err(RdbError::Unsupported { what: kind.name(), key: None }),
        // Neither comes first.
        PayloadItem::Parts(_) | PayloadItem::Finished => Err(RdbError::Corrupt { at: 0, why: "no value" }),
    }
}
