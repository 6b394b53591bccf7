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
            if each == 0 {
                return;
            }
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
            if each == 0 {
                continue;
            }
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
        let mut packing = Packing::default();
        packing.add(self, wanted);
        packing.pack(self.block[2])
    }

    /// Splits the rows from `at` on off.
    pub(crate) fn split_off(&mut self, at: usize) -> Rows {
        let parts = self.parts();
        let at = at.min(parts.rows);
        let right = if parts.width == 1 && parts.deadline == 0 && self.far.is_none() {
            // As it lies.
            let (place, _) = self.view().place_of(&parts, at * parts.strings);
            let lens_at = parts.lens_at + at * parts.strings;
            let tags_at = parts.tags_at + at * parts.tag;
            let kept = [place..parts.lens_at, lens_at..parts.tags_at, tags_at..parts.deadlines_at];
            let len = HEADER_LEN + kept.iter().map(ExactSizeIterator::len).sum::<usize>();
            let mut block = Vec::with_capacity(class_of(len));
            block.extend_from_slice(&self.block[..HEADER_LEN]);
            kept.into_iter().for_each(|range| block.extend_from_slice(&self.block[range]));
            let mut right = Rows { block, far: None };
            right.set_rows(parts.rows - at);
            right
        } else {
            self.filtered(|row| row >= at)
        };
        self.remove(at..parts.rows);
        right
    }

    /// Splits the rows before `at` off, which are few, and returns the others.
    pub(crate) fn split_front(&mut self, at: usize) -> Rows {
        let front = self.filtered_front(at);
        self.remove(0..at);
        self.fit();
        std::mem::replace(self, front)
    }

    fn filtered_front(&self, at: usize) -> Rows {
        let (parts, view) = (self.parts(), self.view());
        let mut front = Rows::new(self.block[2] & !(WIDE | TIMED));
        let mut strings = view.strings(0);
        let mut far = view.far.iter();
        for row in 0..at.min(parts.rows) {
            let mut texts = [Text::Bytes(&[]); 2];
            for text in &mut texts[..parts.strings] {
                *text = next_text(&mut strings, &mut far);
            }
            front.push(Row { strings: texts, deadline: view.deadline(row) });
        }
        front
    }

    /// Puts all rows of another behind its own.
    pub(crate) fn append(&mut self, other: &Rows) {
        let mut packing = Packing::default();
        packing.add(self, |_| true);
        packing.add(other, |_| true);
        *self = packing.pack(self.block[2] | other.block[2]);
    }
}

/// The next string, as it is held.
fn next_text<'a>(strings: &mut impl Iterator<Item = &'a [u8]>, far: &mut std::slice::Iter<'a, FarString>) -> Text<'a> {
    let bytes = strings.next().unwrap_or_default();
    match far.as_slice().first() {
        Some(shared) if bytes.len() >= FAR_LEN_MIN => {
            far.next();
            Text::Shared(shared)
        }
        _ => Text::Bytes(bytes),
    }
}

/// Rows that are put together into a block, all at once.
#[derive(Default)]
struct Packing {
    rows: usize,
    bytes: Vec<u8>,
    lens: Vec<u16>,
    tags: Vec<u8>,
    deadlines: Vec<i64>,
    far: Vec<FarString>,
}

impl Packing {
    /// Adds the rows for which `wanted` says so.
    fn add(&mut self, from: &Rows, wanted: impl Fn(usize) -> bool) {
        let (parts, view) = (from.parts(), from.view());
        let mut strings = view.strings(0);
        let mut far = view.far.iter();
        self.bytes.reserve(parts.lens_at);
        self.lens.reserve(parts.rows * parts.strings);
        for row in 0..parts.rows {
            let is_wanted = wanted(row);
            for _ in 0..parts.strings {
                let text = next_text(&mut strings, &mut far);
                if is_wanted {
                    let (len, bytes) = text.stored();
                    self.lens.push(len);
                    self.bytes.extend_from_slice(bytes);
                    if len == FAR {
                        self.far.push(text.to_far());
                    }
                }
            }
            if is_wanted {
                self.rows += 1;
                if parts.tag != 0 {
                    self.tags.push(from.block[parts.tags_at + row]);
                }
                self.deadlines.push(view.deadline(row));
            }
        }
    }

    /// The rows, tagged and in pairs as `flags` say.
    fn pack(self, flags: u8) -> Rows {
        let is_wide = self.lens.iter().any(|&len| len > u16::from(u8::MAX));
        let is_timed = self.deadlines.iter().any(|&at_ms| at_ms != NEVER);
        let width = if is_wide { 2 } else { 1 };
        let deadlines_len = if is_timed { 8 * self.rows } else { 0 };
        let len = HEADER_LEN + self.bytes.len() + width * self.lens.len() + self.tags.len() + deadlines_len;
        let mut block = Vec::with_capacity(class_of(len));
        let flags = flags & !(WIDE | TIMED) | if is_wide { WIDE } else { 0 } | if is_timed { TIMED } else { 0 };
        block.extend_from_slice(&[0, 0, flags, 0]);
        block.extend_from_slice(&self.bytes);
        if is_wide {
            self.lens.iter().for_each(|len| block.extend_from_slice(&len.to_le_bytes()));
        } else {
            block.extend(self.lens.iter().map(|&len| len as u8));
        }
        block.extend_from_slice(&self.tags);
        if is_timed {
            self.deadlines.iter().for_each(|at_ms| block.extend_from_slice(&at_ms.to_le_bytes()));
        }
        let far = if self.far.is_empty() { None } else { Some(Box::new(self.far)) };
        let mut rows = Rows { block, far };
        rows.set_rows(self.rows);
        rows
    }
}
