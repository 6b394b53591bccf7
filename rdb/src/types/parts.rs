//! What of a collection is handed on at once.

use std::io::Read;

use super::packed::Piece;
use crate::error::RdbError;
use crate::format::BLOCK_BYTES;
use crate::source::Source;

/// What stands for no deadline.
const NO_DEADLINE: i64 = -1;

/// Room is made for no more strings than these before they are there.
const COUNT_EXPECTED_MAX: u64 = 1024;

/// Strings one after the other in one allocation: elements of a list, or field and value alternately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    bytes: Vec<u8>,
    /// Where each string ends in `bytes`.
    ends: Vec<usize>,
    /// Of each field; empty if it is a collection whose fields cannot have any.
    deadlines: Vec<i64>,
}

impl Parts {
    /// How many strings there are: of a hash, two for each field.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All strings.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| &self.bytes[std::mem::replace(&mut start, end)..end])
    }

    /// Of a hash: field, value and when the field expires, in milliseconds since 1970 and perhaps long
    /// past.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8], Option<i64>)> {
        let mut strings = self.iter();
        let mut deadlines = self.deadlines.iter();
        std::iter::from_fn(move || {
            let (field, value) = (strings.next()?, strings.next()?);
            Some((field, value, deadlines.next().copied().filter(|&at_ms| at_ms != NO_DEADLINE)))
        })
    }

    /// Makes room for so many strings of so many bytes, as far as it costs little if they never come.
    pub(super) fn expect(&mut self, count: u64, bytes: usize) {
        if !self.bytes.is_empty() {
            return;
        }
        self.ends.reserve(count.min(COUNT_EXPECTED_MAX) as usize);
        self.bytes.reserve(bytes.min(BLOCK_BYTES));
    }

    /// Whether no more should be added, so that memory stays bounded however many there are.
    pub(super) fn is_full(&self) -> bool {
        let numbers = self.ends.len() + self.deadlines.len();
        self.whole_len() + numbers * size_of::<usize>() >= BLOCK_BYTES
    }

    pub(super) fn push(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Bytes(bytes) => self.bytes.extend_from_slice(bytes),
            Piece::Int(number) => self.bytes.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        }
        self.ends.push(self.bytes.len());
    }

    /// Bytes of the strings that are whole.
    fn whole_len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Adds the string that comes next in the source, and says how long it is. If the source does not have all
    /// of it, the beginning may stay here, and it is to be read again.
    pub(super) fn read<R: Read>(&mut self, source: &mut Source<R>) -> Result<usize, RdbError> {
        let start = self.whole_len();
        source.append_string(&mut self.bytes)?;
        self.ends.push(self.bytes.len());
        Ok(self.bytes.len() - start)
    }

    /// Of the field added last; either all fields have this or none.
    pub(super) fn push_deadline(&mut self, at_ms: Option<i64>) {
        self.deadlines.push(at_ms.unwrap_or(NO_DEADLINE));
    }
}
