//! Changing rows.

use super::view::Parts;
use super::{FAR, FAR_LEN_MIN, FarString, HEADER_LEN, NEVER, Rows, TIMED, WIDE, tag_of};
use crate::blob::Blob;
use crate::size_class::class_of;

/// A string to be put in.
#[derive(Clone, Copy)]
pub enum Text<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// What is held already: if it is long, it is shared.
    Shared(&'a Blob),
}

impl<'a> Text<'a> {
    /// The bytes.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Text::Bytes(bytes) => bytes,
            Text::Shared(shared) => shared.as_slice(),
        }
    }

    fn is_far(self) -> bool {
        self.bytes().len() >= FAR_LEN_MIN
    }

    /// The length that is stored, and the bytes that are.
    fn stored(self) -> (u16, &'a [u8]) {
        if self.is_far() { (FAR, &[]) } else { (self.bytes().len() as u16, self.bytes()) }
    }

    fn to_far(self) -> FarString {
        match self {
            Text::Bytes(bytes) => FarString::from_vec(bytes.to_vec()),
            Text::Shared(shared) => shared.clone(),
        }
    }
}

/// A row to be put in.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    /// Its strings: the second only in pairs.
    pub(crate) strings: [Text<'a>; 2],
    /// Its deadline, or [`NEVER`].
    pub(crate) deadline: i64,
}

impl<'a> Row<'a> {
    /// A row of one string.
    pub(crate) fn one(string: Text<'a>) -> Self {
        Row { strings: [string, Text::Bytes(&[])], deadline: NEVER }
    }

    /// A row of two.
    pub(crate) fn pair(first: Text<'a>, second: Text<'a>, deadline: i64) -> Self {
        Row { strings: [first, second], deadline }
    }

    /// Bytes it takes in a block at most.
    pub(crate) fn len_max(self) -> usize {
        HEADER_LEN + self.strings.iter().map(|string| string.stored().1.len() + 2).sum::<usize>() + 9
    }

    /// Whether one of its strings has to lie elsewhere.
    pub(crate) fn has_far(self) -> bool {
        self.strings.iter().any(|string| string.is_far())
    }
}

impl Rows {
    fn parts(&self) -> Parts {
        Parts::of(&self.block)
    }

    /// Makes the block `len` bytes long, in whole size classes: it grows often by little.
    fn resize(&mut self, len: usize) {
        if len > self.block.capacity() {
            self.block.reserve_exact(class_of(len) - self.block.len());
        }
        self.block.resize(len, 0);
    }

    /// Gives memory back if much of it is unused.
    pub(crate) fn trim(&mut self) {
        if self.block.capacity() > 64 && class_of(self.block.len()) * 3 <= self.block.capacity() * 2 {
            self.block.shrink_to(class_of(self.block.len()));
        }
    }

    /// Gives all unused memory back.
    pub(crate) fn fit(&mut self) {
        self.block.shrink_to(class_of(self.block.len()));
    }

    fn set_rows(&mut self, rows: usize) {
        self.block[..2].copy_from_slice(&(rows as u16).to_le_bytes());
    }

    fn put_len(&mut self, parts: &Parts, at: usize, len: u16) {
        let place = parts.lens_at + at * parts.width;
        self.block[place..place + parts.width].copy_from_slice(&len.to_le_bytes()[..parts.width]);
    }

    /// Gives lengths two bytes.
    #[cold]
    fn widen(&mut self) {
        let parts = self.parts();
        if parts.width == 2 {
            return;
        }
        let lens: Vec<u8> = self.block[parts.lens_at..parts.tags_at].iter().flat_map(|&len| [len, 0]).collect();
        self.block.splice(parts.lens_at..parts.tags_at, lens);
        self.block[2] |= WIDE;
    }

    /// Gives rows deadlines, which are [`NEVER`] at first.
    #[cold]
    fn add_deadlines(&mut self) {
        let parts = self.parts();
        if parts.deadline == 0 {
            let len = self.block.len();
            self.resize(len + 8 * parts.rows);
            self.block[len..].as_chunks_mut::<8>().0.iter_mut().for_each(|at| *at = NEVER.to_le_bytes());
            self.block[2] |= TIMED;
        }
    }

    /// Takes the deadlines away if no row has one.
    fn drop_deadlines(&mut self) {
        let parts = self.parts();
        if parts.deadline != 0 && self.view().soonest() == NEVER {
            self.block.truncate(parts.deadlines_at);
            self.block[2] &= !TIMED;
        }
    }

    fn insert_far(&mut self, at: usize, string: FarString) {
        self.far.get_or_insert_default().insert(at, string);
    }

    fn remove_far(&mut self, range: std::ops::Range<usize>) {
        if let Some(far) = &mut self.far {
            far.drain(range);
            if far.is_empty() {
                self.far = None;
            }
        }
    }

    /// Puts a row before row `at`, which is at most the number of rows.
    pub(crate) fn insert(&mut self, at: usize, row: Row<'_>) {
        if row.strings.iter().any(|string| string.bytes().len() > usize::from(u8::MAX)) {
            self.widen();
        }
        if row.deadline != NEVER {
            self.add_deadlines();
        }
        let old = self.parts();
        let strings = &row.strings[..old.strings];
        let first = at * old.strings;
        let (place, mut far_at) = self.view().place_of(&old, first);
        let added: usize = strings.iter().map(|string| string.stored().1.len()).sum();
        let len = self.block.len();
        self.resize(len + added + old.strings * old.width + old.tag + old.deadline);
        self.set_rows(old.rows + 1);
        let new = self.parts();
        // Backwards, since everything moves to the right.
        let mut open = |from: usize, to: usize, each: usize| {
            let (cut, end) = (from + at * each, from + old.rows * each);
            self.block.copy_within(cut..end, to + (at + 1) * each);
            self.block.copy_within(from..cut, to);
        };
        open(old.deadlines_at, new.deadlines_at, old.deadline);
        open(old.tags_at, new.tags_at, old.tag);
        open(old.lens_at, new.lens_at, old.strings * old.width);
        self.block.copy_within(place..old.lens_at, place + added);
        let mut place = place;
        for (offset, string) in strings.iter().enumerate() {
            let (len, bytes) = string.stored();
            self.block[place..place + bytes.len()].copy_from_slice(bytes);
            place += bytes.len();
            self.put_len(&new, first + offset, len);
            if len == FAR {
                self.insert_far(far_at, string.to_far());
                far_at += 1;
            }
        }
        if new.tag != 0 {
            self.block[new.tags_at + at] = tag_of(row.strings[0].bytes());
        }
        if new.deadline != 0 {
            self.block[new.deadlines_at + 8 * at..][..8].copy_from_slice(&row.deadline.to_le_bytes());
        }
    }

    /// Puts a row behind all others.
    pub(crate) fn push(&mut self, row: Row<'_>) {
        self.insert(self.parts().rows, row);
    }

    /// Takes rows out.
    pub(crate) fn remove(&mut self, range: std::ops::Range<usize>) {
        let old = self.parts();
        let range = range.start..range.end.min(old.rows);
        if range.start >= range.end {
            return;
        }
        let count = range.len();
        let view = self.view();
        let (begin, far_begin) = view.place_of(&old, range.start * old.strings);
        let (end, far_end) = view.place_of(&old, range.end * old.strings);
        self.remove_far(far_begin..far_end);
        let len = self.block.len();
        let removed = (end - begin) + count * (old.strings * old.width + old.tag + old.deadline);
        self.block.copy_within(end..old.lens_at, begin);
        let mut to = old.lens_at - (end - begin);
        // Forwards, since everything moves to the left.
        for (from, each) in
            [(old.lens_at, old.strings * old.width), (old.tags_at, old.tag), (old.deadlines_at, old.deadline)]
        {
            self.block.copy_within(from..from + range.start * each, to);
            to += range.start * each;
            self.block.copy_within(from + range.end * each..from + old.rows * each, to);
            to += (old.rows - range.end) * each;
        }
        self.block.truncate(len - removed);
        self.set_rows(old.rows - count);
        if old.deadline != 0 {
            self.drop_deadlines();
        }
    }

    /// Gives string `at`, counted through all rows, other bytes. Not a row's first string where rows are tagged.
    pub(crate) fn replace(&mut self, at: usize, string: Text<'_>) {
        if string.bytes().len() > usize::from(u8::MAX) {
            self.widen();
        }
        let parts = self.parts();
        let view = self.view();
        let old = view.len_of(&parts, at);
        let (place, far_at) = view.place_of(&parts, at);
        let old_len = if old == FAR { 0 } else { usize::from(old) };
        let (len, bytes) = string.stored();
        let total = self.block.len();
        let end = place + old_len;
        if bytes.len() > old_len {
            self.resize(total + bytes.len() - old_len);
        }
        if bytes.len() != old_len {
            self.block.copy_within(end..total, place + bytes.len());
            self.block.truncate(total + bytes.len() - old_len);
        }
        self.block[place..place + bytes.len()].copy_from_slice(bytes);
        self.put_len(&self.parts(), at, len);
        if old == FAR {
            self.remove_far(far_at..far_at + 1);
        }
        if len == FAR {
            self.insert_far(far_at, string.to_far());
        }
    }

    /// Gives a row a deadline, or [`NEVER`].
    pub(crate) fn set_deadline(&mut self, row: usize, at_ms: i64) {
        if at_ms != NEVER {
            self.add_deadlines();
        }
        let parts = self.parts();
        if parts.deadline != 0 && row < parts.rows {
            self.block[parts.deadlines_at + 8 * row..][..8].copy_from_slice(&at_ms.to_le_bytes());
            if at_ms == NEVER {
                self.drop_deadlines();
            }
        }
    }

    /// Copies the rows for which `wanted` says so, in order.
    pub(crate) fn filtered(&self, wanted: impl Fn(usize) -> bool) -> Rows {
        let mut out = Rows::new(self.block[2] & !(WIDE | TIMED));
        out.block.reserve_exact(class_of(self.block.len()) - out.block.len());
        out.extend(self, wanted);
        out.fit();
        out
    }

    /// Splits the rows from `at` on off.
    pub(crate) fn split_off(&mut self, at: usize) -> Rows {
        let right = self.filtered(|row| row >= at);
        self.remove(at..self.parts().rows);
        right
    }

    /// Puts all rows of another behind its own.
    pub(crate) fn append(&mut self, other: &Rows) {
        self.extend(other, |_| true);
    }

    fn extend(&mut self, other: &Rows, wanted: impl Fn(usize) -> bool) {
        let (parts, view) = (other.parts(), other.view());
        let mut strings = view.strings(0);
        let mut far = view.far.iter();
        for row in 0..parts.rows {
            let mut pair = [Text::Bytes(&[]); 2];
            for string in &mut pair[..parts.strings] {
                let bytes = strings.next().unwrap_or_default();
                *string = match far.as_slice().first() {
                    Some(shared) if bytes.len() >= FAR_LEN_MIN => {
                        far.next();
                        Text::Shared(shared)
                    }
                    _ => Text::Bytes(bytes),
                };
            }
            if wanted(row) {
                self.push(Row { strings: pair, deadline: view.deadline(row) });
            }
        }
    }
}
