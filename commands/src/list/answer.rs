//! Elements in answers: few at once, many in slices.

use std::ops::Range;

use tercel_core::clients::Slice;
use tercel_core::command::{Args, Reply};
use tercel_core::data::Dataset;
use tercel_engine::{HeldList, ListRef};

use super::{AT_ONCE, BYTES_AT_ONCE};

/// From this length on an element may lie apart, and is answered without copying it.
const SHARED_LEN_MIN: usize = 1025;

/// Writes the element at a place.
pub(super) fn put_element(out: &mut Reply, list: ListRef<'_>, place: u64) {
    let element = list.get(place).unwrap_or_default();
    if element.len() >= SHARED_LEN_MIN
        && let Some(shared) = list.shared(place)
    {
        return out.blob(&shared);
    }
    out.bulk(element);
}

/// Whether so many elements of a list may be written in one go.
pub(super) fn is_short(list: ListRef<'_>, count: u64) -> bool {
    count <= AT_ONCE && list.bytes() / list.len().max(1) * count <= BYTES_AT_ONCE
}

/// Writes the elements in a range of places, which is within the list.
pub(super) fn put_range(out: &mut Reply, list: ListRef<'_>, range: Range<u64>) {
    out.array((range.end - range.start) as usize);
    let mut at = range.start;
    while at < range.end {
        at += put_piece(out, list, at, range.end);
    }
}

/// Writes elements that lie together from a place on, up to `end`; returns how many.
fn put_piece(out: &mut Reply, list: ListRef<'_>, at: u64, end: u64) -> u64 {
    let mut count = 0;
    for element in list.piece(at).take((end - at) as usize) {
        if element.len() >= SHARED_LEN_MIN {
            put_element(out, list, at + count);
        } else {
            out.bulk(element);
        }
        count += 1;
    }
    count.max(1)
}

/// Many elements of a list as it was.
pub(super) struct Elements {
    list: HeldList,
    range: Range<u64>,
    /// The last comes first.
    reversed: bool,
    has_begun: bool,
    /// The key, to stand before them.
    name: Option<Box<[u8]>>,
    /// They are out of the list already.
    are_taken: bool,
}

impl Elements {
    pub(super) fn new(list: HeldList, range: Range<u64>, reversed: bool) -> Self {
        Elements { list, range, reversed, has_begun: false, name: None, are_taken: false }
    }

    /// The same, which are out of the list already.
    pub(super) fn taken(mut self) -> Self {
        self.are_taken = true;
        self
    }

    /// The same behind the name of the key, as the second of two.
    pub(super) fn named(mut self, key: &[u8]) -> Self {
        self.name = Some(key.into());
        self
    }
}

impl Slice for Elements {
    fn streams(&self) -> bool {
        true
    }

    fn is_done(&self) -> bool {
        self.are_taken
    }

    fn step(&mut self, _: &Args<'_>, _: &mut Dataset, answer: &mut Reply) -> bool {
        if !self.has_begun {
            self.has_begun = true;
            if let Some(name) = &self.name {
                answer.array(2);
                answer.bulk(name);
            }
            answer.array((self.range.end - self.range.start) as usize);
        }
        if self.range.is_empty() {
            return false;
        }
        let list = self.list.view();
        if self.reversed {
            let here = list.piece_before(self.range.end).len() as u64;
            let from = self.range.end.saturating_sub(here.clamp(1, 64)).max(self.range.start);
            (from..self.range.end).rev().for_each(|place| put_element(answer, list, place));
            self.range.end = from;
        } else {
            self.range.start += put_piece(answer, list, self.range.start, self.range.end);
        }
        !self.range.is_empty()
    }
}
