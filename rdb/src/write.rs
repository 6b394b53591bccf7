//! Writing a file: the order of the calls is the order in the file.
//!
//! The encoder gathers 64 KiB before it hashes and hands them on, so the output needs no buffer of its
//! own; it must be a blocking one, for a partial write cannot be taken up again. Once the output has
//! failed, so does every call after it. A call out of order is `InvalidInput`, and nothing of it is
//! written.

use std::io::{self, Write};

use crate::format::{self, opcode};
use crate::sink::Sink;
use crate::types::{ValueWriter, misuse};
use crate::value::{EntryMeta, StringValue};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// Compress strings of more than 20 bytes where that makes them smaller (`rdbcompression`).
    pub compress: bool,
    /// End the file with its CRC-64 and not with zeros (`rdbchecksum`).
    pub checksum: bool,
    /// There may be hashes with fields that expire. It is said at the beginning of the file, which is
    /// then of version 80 with Valkey's magic and can be read by Valkey from 9.0 on only; without, it
    /// is of version 11 with Redis's.
    pub field_deadlines: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { compress: true, checksum: true, field_deadlines: false }
    }
}

/// Writes one file into `W`.
#[derive(Debug)]
pub struct Encoder<W: Write> {
    writer: ValueWriter<W>,
    field_deadlines: bool,
    db: Option<u64>,
}

impl<W: Write> Encoder<W> {
    /// Begins a file. Errors are those of the output, here as below.
    pub fn new(out: W, options: WriteOptions) -> io::Result<Self> {
        let mut sink = Sink::new(out, options.checksum);
        if options.field_deadlines {
            write!(sink.buf, "VALKEY{:03}", format::VERSION_WRITTEN_DEADLINES)?;
        } else {
            write!(sink.buf, "REDIS{:04}", format::VERSION_WRITTEN)?;
        }
        let writer = ValueWriter::new(sink, options.compress);
        Ok(Self { writer, field_deadlines: options.field_deadlines, db: None })
    }

    /// A field about the file itself. Readers skip those they do not know.
    pub fn aux(&mut self, key: &str, value: &str) -> io::Result<()> {
        self.writer.begin()?;
        self.writer.sink.buf.push(opcode::AUX);
        self.writer.string(key.as_bytes())?;
        self.writer.string(value.as_bytes())
    }

    /// The database of the entries that follow; nothing is written if it is that already.
    pub fn select_db(&mut self, db: u64) -> io::Result<()> {
        self.writer.begin()?;
        let sink = &mut self.writer.sink;
        if self.db != Some(db) {
            self.db = Some(db);
            sink.buf.push(opcode::SELECT_DB);
            format::put_len(&mut sink.buf, db);
        }
        sink.settle()
    }

    /// How many keys the selected database has, and how many of them expire: a hint for the reader.
    pub fn resize_db(&mut self, keys: u64, expires: u64) -> io::Result<()> {
        self.writer.begin()?;
        let sink = &mut self.writer.sink;
        sink.buf.push(opcode::RESIZE_DB);
        format::put_len(&mut sink.buf, keys);
        format::put_len(&mut sink.buf, expires);
        sink.settle()
    }

    /// A key with its value.
    pub fn entry(&mut self, key: &[u8], value: StringValue<'_>, meta: &EntryMeta) -> io::Result<()> {
        self.writer.value(value, Some((key, meta)))
    }

    /// A key whose value comes in pieces and is not compressed: `len` bytes must follow through
    /// [`piece`](Self::piece) before anything else.
    pub fn begin_long(&mut self, key: &[u8], len: u64, meta: &EntryMeta) -> io::Result<()> {
        self.writer.begin_long(len, Some((key, meta)))
    }

    /// The next bytes of a long value. More than was promised is `InvalidInput`, and nothing of them
    /// is written.
    pub fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.piece(bytes)
    }

    /// A key with a list that is small, for all of it is held packed for a moment. It needs Redis 7.0
    /// or any Valkey to be read. A list without elements is `InvalidInput`, here and below, for there
    /// are no such keys.
    pub fn small_list<'a>(
        &mut self,
        key: &[u8],
        elements: impl Iterator<Item = &'a [u8]>,
        meta: &EntryMeta,
    ) -> io::Result<()> {
        self.writer.small_list(elements, Some((key, meta)))
    }

    /// A key with a list of any size: `len` elements must follow through [`element`](Self::element)
    /// before anything else.
    pub fn begin_list(&mut self, key: &[u8], len: u64, meta: &EntryMeta) -> io::Result<()> {
        self.writer.begin_list(len, Some((key, meta)))
    }

    /// The next element of a list.
    pub fn element(&mut self, element: &[u8]) -> io::Result<()> {
        self.writer.element(element)
    }

    /// A key with a hash that is small, for all of it is held packed for a moment. It needs Redis 7.0
    /// or any Valkey to be read. A hash without fields is `InvalidInput`, here and below. That no field
    /// is there twice is the caller's care.
    pub fn small_hash<'a>(
        &mut self,
        key: &[u8],
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        meta: &EntryMeta,
    ) -> io::Result<()> {
        self.writer.small_hash(fields, Some((key, meta)))
    }

    /// A key with a hash of any size: `len` fields must follow through [`field`](Self::field) before
    /// anything else. Only `with_deadlines` may they expire, for which the file must have been begun
    /// with [`field_deadlines`](WriteOptions::field_deadlines).
    pub fn begin_hash(&mut self, key: &[u8], len: u64, with_deadlines: bool, meta: &EntryMeta) -> io::Result<()> {
        if with_deadlines && !self.field_deadlines {
            return Err(misuse("a hash with deadlines in a file without"));
        }
        self.writer.begin_hash(len, with_deadlines, Some((key, meta)))
    }

    /// The next field of a hash, its value, and when it expires, in milliseconds since 1970; what is
    /// before that time is written as 0.
    pub fn field(&mut self, field: &[u8], value: &[u8], deadline_ms: Option<i64>) -> io::Result<()> {
        self.writer.field(field, value, deadline_ms)
    }

    /// Ends the file, hands everything on and flushes the output, which is returned. `InvalidInput` if
    /// a value is incomplete.
    pub fn finish(mut self) -> io::Result<W> {
        self.writer.begin()?;
        let mut sink = self.writer.sink;
        sink.buf.push(opcode::EOF);
        sink.hand_on()?;
        // Zero is what the format has for "not checked".
        let crc = sink.take_crc();
        sink.buf.extend_from_slice(&crc.to_le_bytes());
        sink.finish()
    }

    /// Bytes of the file so far, including those not handed on yet.
    pub fn bytes_written(&self) -> u64 {
        self.writer.sink.bytes_written()
    }
}
