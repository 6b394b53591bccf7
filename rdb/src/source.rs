//! The input of a decoder: a buffer, the position, the checksum of what was consumed, and the strings
//! and lengths all else is made of.
//!
//! The input may have nothing yet. A decoder goes in steps, each of which reads some numbers and at most
//! one string, that at its end; it commits before each. If the input has nothing, the step is gone back
//! to ([`Source::rewind`]) and done again later: what it had read is still in the buffer. A string that is
//! too long for that is not read again. As much of it as is there stays with whom it is read for.

use std::io::{self, Read};

use crc_fast::Digest;

use crate::error::RdbError;
use crate::format::{self, BLOCK_BYTES};
use crate::lzf;
use crate::value::LoadedString;

#[derive(Debug)]
pub(crate) struct Source<R> {
    input: R,
    buf: Vec<u8>,
    /// How large `buf` is, unless a step begins in it and does not end there.
    block: usize,
    /// `buf[pos..end]` is read and not consumed, `buf[hashed..pos]` consumed and not in the checksum;
    /// what is before `hashed` is, even if it was gone back to since.
    pos: usize,
    end: usize,
    hashed: usize,
    /// Where the step began.
    mark: usize,
    /// A long string that is not whole: where it begins in the input, and how much of it there is.
    partial: Option<(u64, u64)>,
    /// Its bytes, if it is read for nobody in particular.
    unfinished: Vec<u8>,
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
            buf: vec![0; buf_bytes.clamp(16, BLOCK_BYTES)],
            block: buf_bytes.clamp(16, BLOCK_BYTES),
            pos: 0,
            end: 0,
            hashed: 0,
            mark: 0,
            partial: None,
            unfinished: Vec::new(),
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

    /// What was read so far is not gone back to.
    #[inline]
    pub(crate) fn commit(&mut self) {
        self.mark = self.pos;
    }

    /// Goes back to where the step began.
    pub(crate) fn rewind(&mut self) {
        self.pos = self.mark;
    }

    pub(crate) fn input_mut(&mut self) -> &mut R {
        &mut self.input
    }

    pub(crate) fn into_inner(self) -> (R, Vec<u8>) {
        let ahead = self.buf[self.pos..self.end].to_vec();
        (self.input, ahead)
    }

    /// What was consumed goes into the checksum, once.
    fn hash(&mut self) {
        if self.pos > self.hashed {
            if let Some(crc) = &mut self.crc {
                crc.update(&self.buf[self.hashed..self.pos]);
            }
            self.hashed = self.pos;
        }
    }

    /// The checksum of all that was consumed, which ends the hashing. `None` if there is none.
    pub(crate) fn take_crc(&mut self) -> Option<u64> {
        self.hash();
        self.crc.take().map(|crc| crc.finalize())
    }

    /// Reads on once all is consumed; what the step began with stays. False at the end of the input.
    fn fill(&mut self) -> Result<bool, RdbError> {
        self.hash();
        if self.mark > 0 {
            self.buf.copy_within(self.mark..self.end, 0);
            self.base += self.mark as u64;
            for place in [&mut self.pos, &mut self.end, &mut self.hashed] {
                *place -= self.mark;
            }
            self.mark = 0;
        }
        if self.end == 0 && self.buf.len() > self.block {
            self.buf.truncate(self.block);
            self.buf.shrink_to_fit();
        } else if self.buf.len() - self.end < self.block / 2 {
            // A step is no longer than some numbers and a string of less than a block.
            self.buf.resize(self.end + self.block, 0);
        }
        loop {
            match self.input.read(&mut self.buf[self.end..]) {
                Ok(len) => {
                    // An input that claims more than it was given room for is not believed.
                    self.end += len.min(self.buf.len() - self.end);
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

    /// Appends `len` bytes to `into`, which grows as they arrive and not before; the last thing in a step. If
    /// they are not all there, they are to be asked for again with `into` as it is then.
    #[inline]
    fn append(&mut self, into: &mut Vec<u8>, len: u64) -> Result<(), RdbError> {
        // Nearly all of them are in the buffer.
        if self.partial.is_none() && len <= (self.end - self.pos) as u64 {
            let end = self.pos + len as usize;
            reserve(into, len as usize)?;
            into.extend_from_slice(&self.buf[self.pos..end]);
            self.pos = end;
            return Ok(());
        }
        self.append_more(into, len)
    }

    #[inline(never)]
    fn append_more(&mut self, into: &mut Vec<u8>, len: u64) -> Result<(), RdbError> {
        let at = self.offset();
        let have = self.partial.take().filter(|(begin, _)| *begin == at).map(|(_, have)| have);
        let ready = (self.end - self.pos) as u64;
        // Past the buffer only what would fill it, so that small strings never mean small reads.
        if have.is_some() || len >= ready + self.block as u64 {
            return self.append_past(into, len, have);
        }
        let start = into.len();
        let mut left = len as usize;
        loop {
            let take = left.min(self.end - self.pos);
            reserve(into, take)?;
            into.extend_from_slice(&self.buf[self.pos..self.pos + take]);
            self.pos += take;
            left -= take;
            if left == 0 {
                return Ok(());
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return Err(RdbError::Truncated { at: self.offset() }),
                Err(error) => {
                    // It is still in the buffer.
                    into.truncate(start);
                    return Err(error);
                }
            }
        }
    }

    /// Reads straight into `into`, which has the first `have` bytes already: at most as much again each time.
    fn append_past(&mut self, into: &mut Vec<u8>, len: u64, have: Option<u64>) -> Result<(), RdbError> {
        self.hash();
        let at = self.offset();
        let mut have = match have {
            Some(have) => have,
            None => {
                let ready = &self.buf[self.pos..self.end];
                reserve(into, ready.len())?;
                into.extend_from_slice(ready);
                if let Some(crc) = &mut self.crc {
                    crc.update(ready);
                }
                let ready_len = ready.len() as u64;
                // The buffer ends where the string begins.
                self.end = self.pos;
                ready_len
            }
        };
        while have < len {
            let chunk = (len - have).min(have.max(BLOCK_BYTES as u64));
            reserve(into, chunk as usize)?;
            let start = into.len();
            let read = self.input.by_ref().take(chunk).read_to_end(into);
            if let Some(crc) = &mut self.crc {
                crc.update(&into[start..]);
            }
            let got = (into.len() - start) as u64;
            have += got;
            if let Err(error) = read {
                self.partial = Some((at, have));
                return Err(error.into());
            }
            if got < chunk {
                return Err(RdbError::Truncated { at: at + have });
            }
        }
        self.base += len;
        self.commit();
        Ok(())
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
                bytes = std::mem::take(&mut self.unfinished);
                if let Err(error) = self.append(&mut bytes, len) {
                    self.unfinished = bytes;
                    return Err(error);
                }
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
        if self.partial.is_none() {
            compressed.clear();
        }
        if let Err(error) = self.append(&mut compressed, compressed_len) {
            self.compressed = compressed;
            return Err(error);
        }
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
