//! Counting, finding and combining bits of long strings, piece by piece. The strings are held by reference: they
//! stay what they were when the command began.

use tercel_core::clients::Slice;
use tercel_core::command::event_class as class;
use tercel_core::command::{Args, OwnedCommand, Reply};
use tercel_core::data::{Dataset, Hold};
use tercel_engine::{Blob, Expire, LongString, NewValue};

use super::{count_ones, find_bit};
use crate::arguments::held::HeldString;

/// Bytes looked at in one piece.
const PIECE_BYTES: usize = 64 << 10;
/// Results longer than this are taken over rather than copied.
const BLOB_LEN_MIN: usize = 16 * 1024;

/// Counts the bits that are set in some bytes of a string.
pub(super) struct Count {
    pub(super) value: LongString,
    /// Bytes still to count.
    pub(super) bytes: std::ops::Range<usize>,
    /// Bits counted.
    pub(super) count: u64,
}

impl Slice for Count {
    fn step(&mut self, _: &Args<'_>, _: &mut Dataset, answer: &mut Reply) -> bool {
        let end = self.bytes.end.min(self.bytes.start + PIECE_BYTES);
        self.count += self.value.pieces(self.bytes.start..end).map(count_ones).sum::<u64>();
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
    pub(super) value: LongString,
    pub(super) wanted: bool,
    /// First and last bit still to look at.
    pub(super) bits: (u64, u64),
    /// What is answered if there is none.
    pub(super) beyond: i64,
}

impl Slice for Find {
    fn step(&mut self, _: &Args<'_>, _: &mut Dataset, answer: &mut Reply) -> bool {
        let (first, last) = self.bits;
        // Pieces end with a byte, so that each is looked at once.
        let end = last.min((first / 8 + PIECE_BYTES as u64) * 8 - 1);
        let mut begin = first / 8;
        let found = self.value.pieces(begin as usize..(end / 8) as usize + 1).find_map(|piece| {
            let base = begin * 8;
            begin += piece.len() as u64;
            // What is asked for of this piece, by its own bits.
            let (from, to) = (first.max(base) - base, end.min(begin * 8 - 1) - base);
            find_bit(piece, self.wanted, from, to).map(|bit| base + bit)
        });
        if found.is_none() && end < last {
            self.bits.0 = end + 1;
            return true;
        }
        answer.integer(found.map_or(self.beyond, |position| position as i64));
        false
    }
}

/// How BITOP combines its sources.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    And,
    Or,
    Xor,
    Not,
}

impl Operator {
    /// Takes some bytes of one more source in. What it lacks at its end counts as zeros.
    fn combine(self, into: &mut [u8], from: &[u8]) {
        // A whole row at a time, which the compiler turns into wide instructions.
        let (both, beyond) = into.split_at_mut(from.len());
        let pairs = both.iter_mut().zip(from);
        match self {
            Operator::And => {
                pairs.for_each(|(a, b)| *a &= b);
                beyond.fill(0);
            }
            Operator::Or => pairs.for_each(|(a, b)| *a |= b),
            Operator::Xor => pairs.for_each(|(a, b)| *a ^= b),
            Operator::Not => {}
        }
    }
}

/// Combines strings into the value of a key, which is held until it has it.
pub(super) struct Combine {
    pub(super) db: usize,
    pub(super) target: Box<[u8]>,
    pub(super) operator: Operator,
    /// As they were when the command began.
    pub(super) sources: Vec<HeldString>,
    /// Length of the longest.
    pub(super) len: usize,
    pub(super) result: Vec<u8>,
    pub(super) hold: Option<Hold>,
}

impl Slice for Combine {
    fn step(&mut self, _: &Args<'_>, data: &mut Dataset, answer: &mut Reply) -> bool {
        let from = self.result.len();
        let end = self.len.min(from + PIECE_BYTES);
        for (index, source) in self.sources.iter().enumerate() {
            if index == 0 {
                source.pieces(from..end).for_each(|piece| self.result.extend_from_slice(piece));
                self.result.resize(end, 0);
                if self.operator == Operator::Not {
                    self.result[from..].iter_mut().for_each(|byte| *byte = !*byte);
                }
                continue;
            }
            let mut into = &mut self.result[from..];
            for piece in source.pieces(from..end) {
                let (here, behind) = into.split_at_mut(piece.len());
                self.operator.combine(here, piece);
                into = behind;
            }
            self.operator.combine(into, &[]);
        }
        if end < self.len {
            return true;
        }
        self.abandon(data);
        let key = data.key(&self.target);
        data.expire_if_due(self.db, key);
        if self.len == 0 {
            data.delete(self.db, key);
        } else {
            // Its encoding is raw whatever the result looks like.
            let result = std::mem::take(&mut self.result);
            if self.len > BLOB_LEN_MIN {
                let value = Blob::from_vec(result);
                data.store(self.db, key, NewValue::Blob(value.clone()), Expire::Clear);
                if from > 0 && data.records_effects() {
                    // Others have changed its sources meanwhile, perhaps.
                    let mut effect = OwnedCommand::default();
                    effect.push(b"SET");
                    effect.push(&self.target);
                    effect.push_blob(value);
                    data.effect(self.db, effect);
                }
            } else {
                data.store(self.db, key, NewValue::Raw(&result), Expire::Clear);
            }
            data.notify(class::STRING, "set", self.db, key.bytes);
        }
        answer.count(self.len);
        false
    }

    fn abandon(&mut self, data: &mut Dataset) {
        if let Some(hold) = self.hold.take() {
            data.let_go(hold);
        }
    }
}
