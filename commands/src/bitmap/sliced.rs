//! Counting and finding bits in long strings, piece by piece. The string is held by reference: it stays what
//! it was when the command began.

use tercel_core::clients::Slice;
use tercel_core::command::Reply;
use tercel_core::data::Dataset;
use tercel_engine::Blob;

use super::{count_ones, find_bit};

/// Bytes looked at in one piece.
const PIECE_BYTES: usize = 64 << 10;

/// Counts the bits that are set in some bytes of a string.
pub(super) struct Count {
    pub(super) value: Blob,
    /// Bytes still to count.
    pub(super) bytes: std::ops::Range<usize>,
    /// Bits counted.
    pub(super) count: u64,
}

impl Slice for Count {
    fn step(&mut self, _: &mut Dataset, answer: &mut Reply) -> bool {
        let end = self.bytes.end.min(self.bytes.start + PIECE_BYTES);
        self.count += count_ones(&self.value.as_slice()[self.bytes.start..end]);
        self.bytes.start = end;
        if !self.bytes.is_empty() {
            return true;
        }
        answer.integer(self.count as i64);
        false
    }
}

/// Finds the first bit of a kind in a part of a string.
pub(super) struct Find {
    pub(super) value: Blob,
    pub(super) wanted: bool,
    /// First and last bit still to look at.
    pub(super) bits: (u64, u64),
    /// What is answered if there is none.
    pub(super) beyond: i64,
}

impl Slice for Find {
    fn step(&mut self, _: &mut Dataset, answer: &mut Reply) -> bool {
        let (first, last) = self.bits;
        // Pieces end with a byte, so that each is looked at once.
        let end = last.min((first / 8 + PIECE_BYTES as u64) * 8 - 1);
        let found = find_bit(self.value.as_slice(), self.wanted, first, end);
        if found.is_none() && end < last {
            self.bits.0 = end + 1;
            return true;
        }
        answer.integer(found.map_or(self.beyond, |position| position as i64));
        false
    }
}
