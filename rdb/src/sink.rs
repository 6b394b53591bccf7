//! The output of an encoder.

use std::io::{self, Write};

use crc_fast::Digest;

use crate::format::{self, BLOCK_BYTES};

/// The output with what has been gathered for it.
#[derive(Debug)]
pub(crate) struct Sink<W> {
    out: W,
    /// What is gathered: items are put here, and [`settle`](Self::settle) is called after each.
    pub(crate) buf: Vec<u8>,
    /// From how many bytes on they are handed on.
    block_bytes: usize,
    crc: Option<Digest>,
    /// Bytes handed to `out`.
    handed_on: u64,
    failed: bool,
}

impl Sink<io::Sink> {
    /// Gathers everything and never hands anything on.
    pub(crate) fn gathering() -> Self {
        Self::of(io::sink(), Vec::new(), usize::MAX, None)
    }
}

impl<W: Write> Sink<W> {
    pub(crate) fn new(out: W, checksum: bool) -> Self {
        let buf = Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 4);
        Self::of(out, buf, BLOCK_BYTES, checksum.then(format::crc64))
    }

    fn of(out: W, buf: Vec<u8>, block_bytes: usize, crc: Option<Digest>) -> Self {
        Self { out, buf, block_bytes, crc, handed_on: 0, failed: false }
    }

    /// An error if the output has failed before.
    pub(crate) fn usable(&self) -> io::Result<()> {
        if self.failed { Err(io::Error::other("the output of the snapshot failed before")) } else { Ok(()) }
    }

    pub(crate) fn hand_on(&mut self) -> io::Result<()> {
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
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        if self.buf.len() < self.block_bytes { Ok(()) } else { self.hand_on() }
    }

    /// Appends bytes; many at once go past the buffer.
    pub(crate) fn raw(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if bytes.len() < self.block_bytes {
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

    /// Bytes so far, including those not handed on yet.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.handed_on + self.buf.len() as u64
    }

    /// Ends the hashing: the checksum of all handed on, 0 if there is none.
    pub(crate) fn take_crc(&mut self) -> u64 {
        self.crc.take().map_or(0, |crc| crc.finalize())
    }

    /// Hands everything on and flushes.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.hand_on()?;
        self.out.flush()?;
        Ok(self.out)
    }
}
