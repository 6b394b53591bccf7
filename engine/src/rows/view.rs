//! Reading rows.

use crate::blob::Blob;

use super::{FAR, FarString, HEADER_LEN, NEVER, PAIRS, TAGGED, TIMED, WIDE, tag_of};

/// Rows borrowed for reading. Bytes that are no block read as some rows or none, and never out of bounds.
#[derive(Clone, Copy)]
pub(crate) struct RowsRef<'a> {
    pub(super) block: &'a [u8],
    pub(super) far: &'a [FarString],
}

/// Where the parts of a block are.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub(super) rows: usize,
    /// Strings a row.
    pub(super) strings: usize,
    /// Bytes of a length.
    pub(super) width: usize,
    /// Bytes of a tag and of a deadline: 0 if there are none.
    pub(super) tag: usize,
    pub(super) deadline: usize,
    /// Where these begin.
    pub(super) lens_at: usize,
    pub(super) tags_at: usize,
    pub(super) deadlines_at: usize,
}

impl Parts {
    #[inline]
    pub(super) fn of(block: &[u8]) -> Parts {
        let [low, high, flags, _] = block.first_chunk::<HEADER_LEN>().copied().unwrap_or_default();
        let rows = usize::from(u16::from_le_bytes([low, high]));
        let strings = if flags & PAIRS != 0 { 2 } else { 1 };
        let width = if flags & WIDE != 0 { 2 } else { 1 };
        let tag = usize::from(flags & TAGGED != 0);
        let deadline = if flags & TIMED != 0 { 8 } else { 0 };
        let deadlines_at = block.len().saturating_sub(rows * deadline);
        let tags_at = deadlines_at.saturating_sub(rows * tag);
        let lens_at = tags_at.saturating_sub(rows * strings * width);
        Parts { rows, strings, width, tag, deadline, lens_at, tags_at, deadlines_at }
    }
}

/// The bytes and strings elsewhere that some lengths stand for together.
#[inline]
fn added_up(lens: &[u8], width: usize) -> (usize, usize) {
    if width == 1 {
        // In pieces whose sums fit 16 bits: these are added up many at a time.
        let sum = lens.chunks(256).map(|piece| usize::from(piece.iter().fold(0u16, |sum, &len| sum + u16::from(len))));
        return (sum.sum(), 0);
    }
    lens.chunks_exact(2).fold((0, 0), |(bytes, far), len| match u16::from_le_bytes([len[0], len[1]]) {
        FAR => (bytes, far + 1),
        len => (bytes + usize::from(len), far),
    })
}

impl<'a> RowsRef<'a> {
    #[inline]
    pub(super) fn new(block: &'a [u8], far: &'a [FarString]) -> Self {
        RowsRef { block, far }
    }

    /// Rows in an entry.
    #[inline]
    pub(crate) fn of_block(block: &'a [u8]) -> Self {
        RowsRef { block, far: &[] }
    }

    pub(crate) fn block(self) -> &'a [u8] {
        self.block
    }

    #[inline]
    pub(super) fn parts(self) -> Parts {
        Parts::of(self.block)
    }

    /// How many rows.
    #[inline]
    pub(crate) fn rows(self) -> usize {
        self.parts().rows
    }

    /// Bytes of all strings together.
    pub(crate) fn strings_len(self) -> usize {
        let far: usize = self.far.iter().map(|string| string.len()).sum();
        self.parts().lens_at.saturating_sub(HEADER_LEN) + far
    }

    /// Where string `at` begins, and how many before it lie elsewhere.
    #[inline]
    pub(super) fn place_of(self, parts: &Parts, at: usize) -> (usize, usize) {
        let lens = self.block.get(parts.lens_at..parts.tags_at).unwrap_or_default();
        let strings = lens.len() / parts.width;
        // From whichever end is nearer.
        if at * 2 <= strings || parts.width == 2 {
            let (bytes, far) = added_up(&lens[..(at * parts.width).min(lens.len())], parts.width);
            (HEADER_LEN + bytes, far)
        } else {
            let (bytes, _) = added_up(&lens[at.min(strings)..], 1);
            (parts.lens_at.saturating_sub(bytes), 0)
        }
    }

    /// The length of string `at` as it is stored.
    #[inline]
    pub(super) fn len_of(self, parts: &Parts, at: usize) -> u16 {
        let place = parts.lens_at + at * parts.width;
        match self.block.get(place..place + parts.width) {
            Some([len]) => u16::from(*len),
            Some([low, high]) => u16::from_le_bytes([*low, *high]),
            _ => 0,
        }
    }

    #[inline]
    fn string_at(self, place: usize, len: u16, far: usize) -> &'a [u8] {
        if len == FAR {
            return self.far.get(far).map_or(&[], Blob::as_slice);
        }
        self.block.get(place..place + usize::from(len)).unwrap_or_default()
    }

    /// String `at`, counted through all rows; empty beyond the end.
    #[inline]
    pub(crate) fn string(self, at: usize) -> &'a [u8] {
        let parts = self.parts();
        if at >= parts.rows * parts.strings {
            return &[];
        }
        let (place, far) = self.place_of(&parts, at);
        self.string_at(place, self.len_of(&parts, at), far)
    }

    /// String `at` if it lies elsewhere, shared.
    pub(crate) fn far_string(self, at: usize) -> Option<FarString> {
        let parts = self.parts();
        if self.len_of(&parts, at) != FAR {
            return None;
        }
        self.far.get(self.place_of(&parts, at).1).cloned()
    }

    /// All strings from `at` on, in order.
    #[inline]
    pub(crate) fn strings(self, at: usize) -> Strings<'a> {
        let parts = self.parts();
        let end = parts.rows * parts.strings;
        let (place, far) = self.place_of(&parts, at.min(end));
        Strings { rows: self, parts, at, end, place, far }
    }

    /// The deadline of a row; [`NEVER`] if it has none.
    #[inline]
    pub(crate) fn deadline(self, row: usize) -> i64 {
        let parts = self.parts();
        if parts.deadline == 0 || row >= parts.rows {
            return NEVER;
        }
        let place = parts.deadlines_at + row * parts.deadline;
        self.block.get(place..).and_then(|rest| rest.first_chunk::<8>()).map_or(NEVER, |at| i64::from_le_bytes(*at))
    }

    /// The soonest deadline of all rows; [`NEVER`] if there is none.
    pub(crate) fn soonest(self) -> i64 {
        let parts = self.parts();
        if parts.deadline == 0 {
            return NEVER;
        }
        let deadlines = self.block.get(parts.deadlines_at..).unwrap_or_default();
        let each = deadlines.chunks_exact(8).filter_map(|at| at.first_chunk::<8>());
        each.map(|at| i64::from_le_bytes(*at)).min().unwrap_or(NEVER)
    }

    /// The row whose first string this is. For rows that are tagged.
    #[inline]
    pub(crate) fn find(self, string: &[u8]) -> Option<usize> {
        let parts = self.parts();
        let tags = self.block.get(parts.tags_at..parts.deadlines_at)?;
        let tag = tag_of(string);
        // By eights, most of which hold no such tag.
        let mut row = 0;
        for group in tags.chunks(8) {
            if group.contains(&tag) {
                for (offset, _) in group.iter().enumerate().filter(|(_, other)| **other == tag) {
                    let at = (row + offset) * parts.strings;
                    let len = self.len_of(&parts, at);
                    if len != FAR && usize::from(len) != string.len() {
                        continue;
                    }
                    let (place, far) = self.place_of(&parts, at);
                    if self.string_at(place, len, far) == string {
                        return Some(row + offset);
                    }
                }
            }
            row += group.len();
        }
        None
    }
}

/// Strings in order.
pub(crate) struct Strings<'a> {
    rows: RowsRef<'a>,
    parts: Parts,
    at: usize,
    end: usize,
    place: usize,
    far: usize,
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.at >= self.end {
            return None;
        }
        let len = self.rows.len_of(&self.parts, self.at);
        let string = self.rows.string_at(self.place, len, self.far);
        self.at += 1;
        if len == FAR {
            self.far += 1;
        } else {
            self.place += usize::from(len);
        }
        Some(string)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end.saturating_sub(self.at);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Strings<'_> {}
