//! Writing a file: the order of the calls is the order in the file.
//!
//! The encoder gathers 64 KiB before it hashes and hands them on, so the output needs no buffer of its
//! own; it must be a blocking one, for a partial write cannot be taken up again. Once the output has
//! failed, so does every call after it.

use std::io::{self, Write};

use crc_fast::Digest;

use crate::format::{self, BLOCK_BYTES, opcode};
use crate::lzf::Compressor;
use crate::value::{EntryMeta, StringValue};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// Compress strings of more than 20 bytes where that makes them smaller (`rdbcompression`).
    pub compress: bool,
    /// End the file with its CRC-64 and not with zeros (`rdbchecksum`).
    pub checksum: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { compress: true, checksum: true }
    }
}

/// The output with what has been gathered for it.
#[derive(Debug)]
struct Sink<W> {
    out: W,
    buf: Vec<u8>,
    crc: Option<Digest>,
    /// Bytes handed to `out`.
    handed_on: u64,
    failed: bool,
}

impl<W: Write> Sink<W> {
    fn usable(&self) -> io::Result<()> {
        if self.failed { Err(io::Error::other("the output of the snapshot failed before")) } else { Ok(()) }
    }

    fn hand_on(&mut self) -> io::Result<()> {
        if let Some(crc) = &mut self.crc {
            crc.update(&self.buf);
        }
        self.failed = true;
        self.out.write_all(&self.buf)?;
        self.failed = false;
        self.handed_on += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }

    /// Hands on once there is a block: called after every item.
    fn settle(&mut self) -> io::Result<()> {
        if self.buf.len() < BLOCK_BYTES { Ok(()) } else { self.hand_on() }
    }

    /// Appends bytes; many at once go past the buffer.
    fn raw(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if bytes.len() < BLOCK_BYTES {
            self.buf.extend_from_slice(bytes);
            return self.settle();
        }
        self.hand_on()?;
        // Hashed block by block, so that what is written is still in the cache.
        while let Some((block, rest)) = bytes.split_at_checked(4 * BLOCK_BYTES) {
            self.past(block)?;
            bytes = rest;
        }
        if bytes.len() >= BLOCK_BYTES {
            return self.past(bytes);
        }
        self.buf.extend_from_slice(bytes);
        Ok(())
    }

    fn past(&mut self, block: &[u8]) -> io::Result<()> {
        if let Some(crc) = &mut self.crc {
            crc.update(block);
        }
        self.failed = true;
        self.out.write_all(block)?;
        self.failed = false;
        self.handed_on += block.len() as u64;
        Ok(())
    }
}

/// Writes one file into `W`.
#[derive(Debug)]
pub struct Encoder<W: Write> {
    sink: Sink<W>,
    compressor: Option<Compressor>,
    db: Option<u64>,
    /// Bytes of a long value that are still to come.
    promised: Option<u64>,
}

fn misuse(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

impl<W: Write> Encoder<W> {
    /// Begins a file. Errors are those of the output, here as below.
    pub fn new(out: W, options: WriteOptions) -> io::Result<Self> {
        let mut buf = Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 4);
        write!(buf, "REDIS{:04}", format::VERSION_WRITTEN)?;
        let crc = options.checksum.then(format::crc64);
        let sink = Sink { out, buf, crc, handed_on: 0, failed: false };
        let compressor = options.compress.then(Compressor::default);
        Ok(Self { sink, compressor, db: None, promised: None })
    }

    /// Where an item may begin.
    fn begin(&mut self) -> io::Result<()> {
        self.sink.usable()?;
        match self.promised {
            Some(1..) => Err(misuse("a long value is incomplete")),
            _ => {
                self.promised = None;
                Ok(())
            }
        }
    }

    fn string(&mut self, bytes: &[u8]) -> io::Result<()> {
        let tail = format::put_string_head(&mut self.sink.buf, self.compressor.as_mut(), bytes);
        self.sink.raw(tail)
    }

    /// A field about the file itself. Readers skip those they do not know.
    pub fn aux(&mut self, key: &str, value: &str) -> io::Result<()> {
        self.begin()?;
        self.sink.buf.push(opcode::AUX);
        self.string(key.as_bytes())?;
        self.string(value.as_bytes())
    }

    /// The database of the entries that follow; nothing is written if it is that already.
    pub fn select_db(&mut self, db: u64) -> io::Result<()> {
        self.begin()?;
        if self.db != Some(db) {
            self.db = Some(db);
            self.sink.buf.push(opcode::SELECT_DB);
            format::put_len(&mut self.sink.buf, db);
        }
        self.sink.settle()
    }

    /// How many keys the selected database has, and how many of them expire: a hint for the reader.
    pub fn resize_db(&mut self, keys: u64, expires: u64) -> io::Result<()> {
        self.begin()?;
        self.sink.buf.push(opcode::RESIZE_DB);
        format::put_len(&mut self.sink.buf, keys);
        format::put_len(&mut self.sink.buf, expires);
        self.sink.settle()
    }

    fn key(&mut self, key: &[u8], meta: &EntryMeta) -> io::Result<()> {
        self.begin()?;
        format::put_meta(&mut self.sink.buf, meta);
        self.sink.buf.push(format::TYPE_STRING);
        self.string(key)
    }

    /// A key with its value.
    pub fn entry(&mut self, key: &[u8], value: StringValue<'_>, meta: &EntryMeta) -> io::Result<()> {
        self.key(key, meta)?;
        let tail = format::put_value_head(&mut self.sink.buf, self.compressor.as_mut(), value);
        self.sink.raw(tail)
    }

    /// A key whose value comes in pieces and is not compressed: `len` bytes must follow through
    /// [`piece`](Self::piece) before anything else.
    pub fn begin_long(&mut self, key: &[u8], len: u64, meta: &EntryMeta) -> io::Result<()> {
        self.key(key, meta)?;
        format::put_len(&mut self.sink.buf, len);
        self.promised = Some(len);
        self.sink.settle()
    }

    /// The next bytes of a long value. More than was promised is `InvalidInput`, and nothing of them
    /// is written.
    pub fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.usable()?;
        let promised = self.promised.ok_or_else(|| misuse("a piece without a long value"))?;
        let left = promised
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| misuse("more pieces of a long value than promised"))?;
        self.promised = Some(left);
        self.sink.raw(bytes)
    }

    /// Ends the file, hands everything on and flushes the output, which is returned. `InvalidInput` if
    /// a long value is incomplete.
    pub fn finish(mut self) -> io::Result<W> {
        self.begin()?;
        self.sink.buf.push(opcode::EOF);
        self.sink.hand_on()?;
        // Zero is what the format has for "not checked".
        let crc = self.sink.crc.take().map_or(0, |crc| crc.finalize());
        self.sink.buf.extend_from_slice(&crc.to_le_bytes());
        self.sink.hand_on()?;
        self.sink.out.flush()?;
        Ok(self.sink.out)
    }

    /// Bytes of the file so far, including those not handed on yet.
    pub fn bytes_written(&self) -> u64 {
        self.sink.handed_on + self.sink.buf.len() as u64
    }
}
