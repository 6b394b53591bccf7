//! The input of a decoder: a buffer, the position, the checksum of what was consumed, and the strings
//! and lengths all else is made of.

use std::io::{self, Read};

use crc_fast::Digest;

use crate::error::RdbError;
use crate::format::{self, BLOCK_BYTES};
use crate::lzf;
use crate::value::LoadedString;

#[derive(Debug)]
pub(crate) struct Source<R> {
    input: R,
    buf: Box<[u8]>,
    /// `buf[pos..end]` is read and not consumed, `buf[hashed..pos]` consumed and not in the checksum.
    pos: usize,
    end: usize,
    hashed: usize,
    /// Where `buf` begins in the input.
    base: u64,
    crc: Option<Digest>,
    string_len_max: u64,
    /// Compressed bytes, before they are decompressed.
    compressed: Vec<u8>,
}

/// What a length may turn out to be.
enum Length {
    Len(u64),
    /// The low six bits: which encoding follows.
    Special(u8),
}

/// Buffers past this are not kept from one string to the next.
const KEPT_BYTES_MAX: usize = 1 << 20;

impl<R: Read> Source<R> {
    pub(crate) fn new(input: R, buf_bytes: usize, checksum: bool, string_len_max: u64) -> Self {
        Self {
            input,
            buf: vec![0; buf_bytes.clamp(16, BLOCK_BYTES)].into_boxed_slice(),
            pos: 0,
            end: 0,
            hashed: 0,
            base: 0,
            crc: checksum.then(format::crc64),
            string_len_max,
            compressed: Vec::new(),
        }
    }

    /// Bytes consumed.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.pos as u64
    }

    pub(crate) fn into_inner(self) -> (R, Vec<u8>) {
        let ahead = self.buf[self.pos..self.end].to_vec();
        (self.input, ahead)
    }

    /// What was consumed goes into the checksum.
    fn hash(&mut self) {
        if let Some(crc) = &mut self.crc {
            crc.update(&self.buf[self.hashed..self.pos]);
        }
        self.hashed = self.pos;
    }

    /// The checksum of all that was consumed, which ends the hashing. `None` if there is none.
    pub(crate) fn take_crc(&mut self) -> Option<u64> {
        self.hash();
        self.crc.take().map(|crc| crc.finalize())
    }

    /// Reads on once all is consumed. False at the end of the input.
    fn fill(&mut self) -> Result<bool, RdbError> {
        self.hash();
        self.base += self.end as u64;
        (self.pos, self.end, self.hashed) = (0, 0, 0);
        loop {
            match self.input.read(&mut self.buf) {
                Ok(len) => {
                    // An input that claims more than it was given room for is not believed.
                    self.end = len.min(self.buf.len());
                    return Ok(len > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether nothing more comes.
    pub(crate) fn at_end(&mut self) -> Result<bool, RdbError> {
        Ok(self.pos == self.end && !self.fill()?)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, RdbError> {
        if self.pos == self.end && !self.fill()? {
            return Err(RdbError::Truncated { at: self.offset() });
        }
        let byte = self.buf[self.pos];
        self.pos += 1;
        Ok(byte)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        if let Some(bytes) = self.buf[self.pos..self.end].first_chunk() {
            self.pos += N;
            return Ok(*bytes);
        }
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(bytes)
    }

    /// Appends `len` bytes to `into`, which grows as they arrive and not before.
    fn append(&mut self, into: &mut Vec<u8>, len: u64) -> Result<(), RdbError> {
        let mut left = len;
        while left > 0 {
            let ready = &self.buf[self.pos..self.end];
            let take = usize::try_from(left).map_or(ready.len(), |left| left.min(ready.len()));
            // Past the buffer only what would fill it, so that small strings never mean small reads.
            if take == 0 && left >= self.buf.len() as u64 {
                left -= self.append_past(into, left)?;
                continue;
            }
            reserve(into, take)?;
            into.extend_from_slice(&ready[..take]);
            self.pos += take;
            left -= take as u64;
            if left > 0 && left < self.buf.len() as u64 && !self.fill()? {
                return Err(RdbError::Truncated { at: self.offset() });
            }
        }
        Ok(())
    }

    /// Reads straight into `into`: at most as much again as it holds.
    fn append_past(&mut self, into: &mut Vec<u8>, left: u64) -> Result<u64, RdbError> {
        self.hash();
        self.base += self.end as u64;
        (self.pos, self.end, self.hashed) = (0, 0, 0);
        let chunk = left.min(into.len().max(BLOCK_BYTES) as u64);
        reserve(into, chunk as usize)?;
        let start = into.len();
        let got = self.input.by_ref().take(chunk).read_to_end(into)? as u64;
        if let Some(crc) = &mut self.crc {
            crc.update(&into[start..]);
        }
        self.base += got;
        if got < chunk { Err(RdbError::Truncated { at: self.offset() }) } else { Ok(got) }
    }

    fn any_length(&mut self) -> Result<Length, RdbError> {
        let first = self.byte()?;
        let low = first & 0x3F;
        Ok(match first & 0xC0 {
            0 => Length::Len(u64::from(low)),
            format::LEN_14 => Length::Len(u64::from(low) << 8 | u64::from(self.byte()?)),
            format::LEN_SPECIAL => Length::Special(low),
            _ => match first {
                format::LEN_32 => Length::Len(u64::from(u32::from_be_bytes(self.array()?))),
                format::LEN_64 => Length::Len(u64::from_be_bytes(self.array()?)),
                _ => return Err(self.corrupt_before(1, "an unknown encoding of a length")),
            },
        })
    }

    /// A number encoded as lengths are.
    pub(crate) fn length(&mut self) -> Result<u64, RdbError> {
        match self.any_length()? {
            Length::Len(len) => Ok(len),
            Length::Special(_) => Err(self.corrupt_before(1, "an encoded string where a number should be")),
        }
    }

    /// The length of a string that follows as it is, none if it is encoded otherwise.
    pub(crate) fn plain_len(&mut self) -> Result<Option<u64>, RdbError> {
        Ok(match self.any_length()? {
            Length::Len(len) => Some(len),
            Length::Special(_) => None,
        })
    }

    fn corrupt_before(&self, bytes: u64, why: &'static str) -> RdbError {
        RdbError::Corrupt { at: self.offset().saturating_sub(bytes), why }
    }

    /// The length of a string, within the limit.
    fn string_len(&mut self, len: u64) -> Result<u64, RdbError> {
        if len > self.string_len_max {
            return Err(RdbError::TooLong { at: self.offset(), len, len_max: self.string_len_max });
        }
        Ok(len)
    }

    /// A string as it is encoded: an integer only if it is stored as one.
    fn string(&mut self) -> Result<LoadedString, RdbError> {
        let mut bytes = Vec::new();
        match self.any_length()? {
            Length::Len(len) => {
                let len = self.string_len(len)?;
                self.append(&mut bytes, len)?;
            }
            Length::Special(format::SPECIAL_LZF) => self.append_compressed(&mut bytes)?,
            Length::Special(encoding) => return self.small_integer(encoding).map(LoadedString::Int),
        }
        Ok(LoadedString::Bytes(bytes))
    }

    /// Appends a string to `into`, which grows by more than it must, for many of them are to follow.
    pub(crate) fn append_string(&mut self, into: &mut Vec<u8>) -> Result<(), RdbError> {
        match self.any_length()? {
            Length::Len(len) => {
                let len = self.string_len(len)?;
                into.try_reserve(len.min(BLOCK_BYTES as u64) as usize).map_err(|_| no_memory())?;
                self.append(into, len)
            }
            Length::Special(format::SPECIAL_LZF) => self.append_compressed(into),
            Length::Special(encoding) => {
                let number = self.small_integer(encoding)?;
                into.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
                Ok(())
            }
        }
    }

    fn small_integer(&mut self, encoding: u8) -> Result<i64, RdbError> {
        Ok(match encoding {
            format::SPECIAL_INT8 => i8::from_le_bytes(self.array()?).into(),
            format::SPECIAL_INT16 => i16::from_le_bytes(self.array()?).into(),
            format::SPECIAL_INT32 => i32::from_le_bytes(self.array()?).into(),
            _ => return Err(self.corrupt_before(1, "an unknown encoding of a string")),
        })
    }

    fn append_compressed(&mut self, into: &mut Vec<u8>) -> Result<(), RdbError> {
        let compressed_len = self.length()?;
        let compressed_len = self.string_len(compressed_len)?;
        let len = self.length()?;
        let len = self.string_len(len)?;
        if len > compressed_len.saturating_mul(lzf::EXPANSION_MAX) {
            return Err(self.corrupt_before(0, "a compressed string claims more than it can hold"));
        }
        let mut compressed = std::mem::take(&mut self.compressed);
        compressed.clear();
        self.append(&mut compressed, compressed_len)?;
        usize::try_from(len)
            .map_err(|_| "no memory for a compressed string")
            .and_then(|len| lzf::decompress(&compressed, len, into))
            .map_err(|why| self.corrupt_before(compressed_len, why))?;
        if compressed.capacity() <= KEPT_BYTES_MAX {
            self.compressed = compressed;
        }
        Ok(())
    }

    /// A string as bytes.
    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, RdbError> {
        Ok(match self.string()? {
            LoadedString::Bytes(bytes) => bytes,
            LoadedString::Int(number) => itoa::Buffer::new().format(number).as_bytes().to_vec(),
        })
    }

    /// A string as a value: an integer wherever it reads as one.
    pub(crate) fn value(&mut self) -> Result<LoadedString, RdbError> {
        Ok(match self.string()? {
            LoadedString::Bytes(bytes) => match format::canonical_i64(&bytes) {
                Some(number) => LoadedString::Int(number),
                None => LoadedString::Bytes(bytes),
            },
            number => number,
        })
    }
}

fn reserve(into: &mut Vec<u8>, more: usize) -> Result<(), RdbError> {
    into.try_reserve_exact(more).map_err(|_| no_memory())
}

fn no_memory() -> RdbError {
    RdbError::Io(io::ErrorKind::OutOfMemory.into())
}
