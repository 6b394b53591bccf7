//! An input that has nothing yet, again and again: whatever is read from it must be what is read from one that
//! has everything.
#![allow(dead_code, unreachable_pub)]

use std::io::{self, Read};

use tercel_rdb::{Decoder, Item, Magic, ReadOptions};

/// Files up to this long are fed byte by byte.
const BY_BYTE_LEN_MAX: usize = 20_000;

/// Bytes in pieces, between which there is nothing.
pub struct Paused<'a> {
    bytes: &'a [u8],
    /// The length of the next piece; 0 for nothing.
    pace: Box<dyn FnMut() -> usize + 'a>,
    pub pauses: usize,
}

impl<'a> Paused<'a> {
    pub fn new(bytes: &'a [u8], pace: impl FnMut() -> usize + 'a) -> Self {
        Paused { bytes, pace: Box::new(pace), pauses: 0 }
    }

    /// One byte, nothing, one byte, nothing.
    pub fn every_byte(bytes: &'a [u8]) -> Self {
        let mut ready = true;
        Self::new(bytes, move || {
            ready = !ready;
            usize::from(ready)
        })
    }

    /// Pieces of all lengths, with nothing before about every second.
    pub fn at_random(bytes: &'a [u8], seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut below = move |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) as usize % bound
        };
        Self::new(bytes, move || match below(8) {
            0..4 => 0,
            4..6 => 1 + below(12),
            6 => 1 + below(5000),
            _ => 1 + below(150_000),
        })
    }
}

impl Read for Paused<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = (self.pace)().min(into.len());
        if len == 0 && !into.is_empty() {
            self.pauses += 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = len.min(self.bytes.len());
        into[..len].copy_from_slice(&self.bytes[..len]);
        self.bytes = &self.bytes[len..];
        Ok(len)
    }
}

/// All that a decoder tells.
#[derive(Debug, PartialEq)]
pub struct Told {
    items: Vec<Item>,
    error: Option<String>,
    head: (Magic, u32),
    bytes_read: u64,
    behind: Vec<u8>,
}

pub fn read(input: impl Read, options: ReadOptions) -> Told {
    let mut decoder = Decoder::deferred(input, options);
    let mut items = Vec::new();
    let error = loop {
        match decoder.next() {
            Ok(Item::End) => break None,
            Ok(item) => items.push(item),
            Err(error) if error.is_would_block() => {}
            Err(error) => break Some(error.to_string()),
        }
    };
    let head = (decoder.magic(), decoder.version());
    let bytes_read = decoder.bytes_read();
    let (mut input, mut behind) = decoder.into_inner();
    if error.is_none() {
        // What follows the file, read ahead or not.
        loop {
            match input.read_to_end(&mut behind) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
                Ok(_) => break,
            }
        }
    } else {
        behind.clear();
    }
    Told { items, error, head, bytes_read, behind }
}

/// Reads a file in pauses, and finds what one who never pauses finds, be it damaged or not.
pub fn check(bytes: &[u8], options: ReadOptions) {
    let whole = read(bytes, options);
    if bytes.len() <= BY_BYTE_LEN_MAX {
        let told = read(Paused::every_byte(bytes), options);
        assert!(told == whole, "byte by byte: {told:?}, and else {whole:?}");
    }
    for seed in 1..4 {
        let told = read(Paused::at_random(bytes, seed ^ bytes.len() as u64), options);
        assert!(told == whole, "seed {seed}: {:?}, and else {:?}", told.error, whole.error);
    }
}
