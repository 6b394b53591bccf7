//! The longest common subsequence, by rows of bits (H. Hyyrö, "Bit-parallel LCS-length computation
//! revisited", 2004): 64 cells of the table in a few instructions, and a bit a cell where the path is
//! wanted. Of those only every so-manieth row is kept; the rows between two of them are made again on the
//! way back. Memory is about `b.len() * sqrt(a.len()) / 4` bytes, and `b.len() / 8` for the length alone.
//!
//! Let L(i, j) be the length for the first `i` bytes of `a` and the first `j` of `b`. A row's bit `j - 1` is
//! clear where L(i, j) = L(i, j - 1) + 1.

use crate::arguments::held::HeldString;

/// Words of a strip: columns are worked on in strips, so that their masks stay in the cache.
const STRIP_WORDS: usize = 512;

/// A run of equal bytes: first and last offset in each string, last offsets included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) a: (usize, usize),
    pub(super) b: (usize, usize),
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) len: usize,
    /// The subsequence; empty if only its length was asked for.
    pub(super) common: Vec<u8>,
    /// Its runs, from the last to the first.
    pub(super) ranges: Vec<Range>,
}

/// Rows of a strip that are made in one piece: so few in tests that pieces end everywhere.
const PIECE_ROWS: usize = if cfg!(test) { 3 } else { 64 };
/// Steps of the way back in one piece.
const PIECE_STEPS: usize = if cfg!(test) { 7 } else { 8192 };

/// A search, which goes on piece by piece. Of several subsequences that are equally long it finds the one that
/// Valkey gives.
pub(super) struct Search {
    a: HeldString,
    b: HeldString,
    /// The length alone is wanted.
    length_only: bool,
    strip: Strip,
    /// The row before the next one.
    row: Vec<u64>,
    /// Every so-manieth row is kept, that before each block of as many.
    step: usize,
    kept: Vec<u64>,
    state: State,
    found: Found,
}

enum State {
    /// All rows are made.
    Forward(Pass),
    /// The rows of a block are made again, from which the way back comes.
    Block(Pass, Back),
    /// The way back goes through a block.
    Back(Back),
}

/// Where the way back is.
struct Back {
    i: usize,
    j: usize,
    /// Bytes of the subsequence still to be found.
    left: usize,
    /// The first row of the block, and how wide its rows are in words.
    first: usize,
    words: usize,
    block: Vec<u64>,
}

/// Rows of the table being made, strip by strip.
struct Pass {
    rows: std::ops::Range<usize>,
    /// The word at which the strip begins.
    from: usize,
    /// The next row of it; none before its first.
    next: Option<usize>,
    /// The row before the first of them is that before the whole table.
    begins_table: bool,
}

impl Pass {
    fn new(rows: std::ops::Range<usize>) -> Self {
        Pass { rows, from: 0, next: None, begins_table: false }
    }
}

impl Search {
    /// A search for the length alone, or for the bytes and where they lie, too.
    pub(super) fn new(a: HeldString, b: HeldString, length_only: bool) -> Self {
        Search::with_strips(a, b, length_only, STRIP_WORDS)
    }

    fn with_strips(a: HeldString, b: HeldString, length_only: bool, strip_words: usize) -> Self {
        let (a_len, words) = (a.bytes().len(), b.bytes().len().div_ceil(64));
        let step = a_len.isqrt().max(1);
        let kept = if length_only { Vec::new() } else { vec![0; a_len.div_ceil(step) * words] };
        let strip = Strip::new(strip_words, a_len);
        let state = State::Forward(Pass { begins_table: true, ..Pass::new(0..a_len) });
        Search { a, b, length_only, strip, row: vec![0; words], step, kept, state, found: Found::default() }
    }

    /// One piece. What was found, once it is.
    pub(super) fn go_on(&mut self) -> Option<Found> {
        let (a, b) = (self.a.bytes(), self.b.bytes());
        let words = b.len().div_ceil(64);
        match &mut self.state {
            State::Forward(pass) => {
                let (step, kept, keeps) = (self.step, &mut self.kept, !self.length_only);
                let more = self.strip.go_on(a, b, &mut self.row, pass, |done, from, strip| {
                    if keeps && done.is_multiple_of(step) && done < a.len() {
                        let at = done / step * words + from;
                        kept[at..at + strip.len()].copy_from_slice(strip);
                    }
                });
                if more {
                    return None;
                }
                let len = zeros(&self.row, b.len());
                self.found.len = len;
                if self.length_only {
                    return Some(std::mem::take(&mut self.found));
                }
                self.found.common = vec![0u8; len];
                let (i, j) = (a.len(), b.len());
                self.state = State::Back(Back { i, j, left: len, first: i, words: 0, block: Vec::new() });
            }
            State::Block(pass, back) => {
                let (first, width, block) = (back.first, back.words, &mut back.block);
                let more = self.strip.go_on(a, b, &mut self.row, pass, |done, from, strip| {
                    if done > first {
                        let at = (done - first - 1) * width + from;
                        block[at..at + strip.len()].copy_from_slice(strip);
                    }
                });
                if !more {
                    let taken = Back { i: 0, j: 0, left: 0, first: 0, words: 0, block: Vec::new() };
                    self.state = State::Back(std::mem::replace(back, taken));
                }
            }
            State::Back(back) => {
                let is_over = back.go_on(a, b, &mut self.found);
                if is_over {
                    return Some(std::mem::take(&mut self.found));
                }
                if back.i > 0 && back.j > 0 && back.i <= back.first {
                    // The rows of the block before, as far as the way back can still come.
                    let first = (back.i - 1) / self.step * self.step;
                    let width = back.j.div_ceil(64);
                    self.row.clear();
                    self.row.extend_from_slice(&self.kept[first / self.step * words..][..width]);
                    let block = vec![0; (back.i - first) * width];
                    let pass = Pass::new(first..back.i);
                    let back = Back { i: back.i, j: back.j, left: back.left, first, words: width, block };
                    self.state = State::Block(pass, back);
                }
            }
        }
        None
    }
}

impl Back {
    /// Some steps within the block. True at the beginning of either string.
    fn go_on(&mut self, a: &[u8], b: &[u8], found: &mut Found) -> bool {
        for _ in 0..PIECE_STEPS {
            if self.i == 0 || self.j == 0 {
                return true;
            }
            if self.i <= self.first {
                return false;
            }
            let (i, j) = (self.i, self.j);
            if a[i - 1] == b[j - 1] {
                (self.i, self.j, self.left) = (i - 1, j - 1, self.left - 1);
                found.common[self.left] = a[i - 1];
                match found.ranges.last_mut() {
                    Some(open) if open.a.0 == i && open.b.0 == j => (open.a.0, open.b.0) = (i - 1, j - 1),
                    _ => found.ranges.push(Range { a: (i - 1, i - 1), b: (j - 1, j - 1) }),
                }
            } else if self.block[(i - self.first - 1) * self.words + (j - 1) / 64] >> ((j - 1) % 64) & 1 == 0 {
                // L(i, j - 1) is less than L(i, j), so L(i - 1, j) is not.
                self.i -= 1;
            } else {
                self.j -= 1;
            }
        }
        false
    }
}

/// Columns of a row where the length grows.
fn zeros(row: &[u64], columns: usize) -> usize {
    // Bits beyond the last column are set.
    row.iter().map(|word| word.count_zeros() as usize).sum::<usize>().min(columns)
}

/// A strip of columns.
struct Strip {
    words_max: usize,
    /// For each byte value that the strip has, which of the strip's columns have it.
    masks: Vec<u64>,
    /// Where a byte value's masks are.
    mask_of: [Option<u16>; 256],
    /// Whether each row carries into the next strip.
    carries: Vec<bool>,
}

impl Strip {
    fn new(words_max: usize, rows: usize) -> Self {
        Strip { words_max, masks: Vec::new(), mask_of: [None; 256], carries: vec![false; rows] }
    }

    /// Finds the columns of each byte value in the strip of `words` words from `from` on.
    fn find_masks(&mut self, b: &[u8], from: usize, words: usize) {
        self.masks.clear();
        self.mask_of = [None; 256];
        let columns = &b[(from * 64).min(b.len())..((from + words) * 64).min(b.len())];
        for (column, byte) in columns.iter().enumerate() {
            let masks = &mut self.masks;
            let at = *self.mask_of[usize::from(*byte)].get_or_insert_with(|| {
                masks.resize(masks.len() + words, 0);
                (masks.len() / words - 1) as u16
            });
            self.masks[usize::from(at) * words + column / 64] |= 1 << (column % 64);
        }
    }

    /// Goes through some of a pass's rows, from `row`, the one before the first of them, which becomes the last.
    /// After each row of each strip `visit` is told how many rows of the table that makes, at which word the
    /// strip begins, and the strip. `row` may be shorter than `b` is. True while there is more.
    fn go_on(
        &mut self,
        a: &[u8],
        b: &[u8],
        row: &mut [u64],
        pass: &mut Pass,
        mut visit: impl FnMut(usize, usize, &[u64]),
    ) -> bool {
        if pass.from >= row.len() {
            return false;
        }
        let words = self.words_max.min(row.len() - pass.from);
        let strip = &mut row[pass.from..pass.from + words];
        let Some(next) = pass.next else {
            if pass.from == 0 {
                self.carries[..pass.rows.len()].fill(false);
            }
            if pass.begins_table {
                // Nothing grows there.
                strip.fill(u64::MAX);
            }
            self.find_masks(b, pass.from, words);
            visit(pass.rows.start, pass.from, strip);
            pass.next = Some(pass.rows.start);
            return true;
        };
        let end = pass.rows.end.min(next + PIECE_ROWS);
        for (at, byte) in (next..end).zip(&a[next..end]) {
            let carry = &mut self.carries[at - pass.rows.start];
            if let Some(mask) = self.mask_of[usize::from(*byte)] {
                let mask = &self.masks[usize::from(mask) * words..][..words];
                for (word, mask) in strip.iter_mut().zip(mask) {
                    let (sum, over) = word.overflowing_add(*word & mask);
                    let (sum, over_again) = sum.overflowing_add(u64::from(*carry));
                    *carry = over | over_again;
                    *word = sum | (*word & !mask);
                }
            } else if *carry {
                // Nothing matches: only what is carried in goes on, to the first clear bit.
                for word in strip.iter_mut() {
                    let (sum, over) = word.overflowing_add(1);
                    *word |= sum;
                    *carry = over;
                    if !over {
                        break;
                    }
                }
            }
            visit(at + 1, pass.from, strip);
        }
        pass.next = Some(end);
        if end == pass.rows.end {
            (pass.from, pass.next) = (pass.from + words, None);
        }
        pass.from < row.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn search(a: &[u8], b: &[u8], length_only: bool, strip_words: usize) -> Found {
        let (a, b) = (HeldString::Own(a.to_vec()), HeldString::Own(b.to_vec()));
        let mut going = Search::with_strips(a, b, length_only, strip_words);
        loop {
            if let Some(found) = going.go_on() {
                return found;
            }
        }
    }

    fn path(a: &[u8], b: &[u8], strip_words: usize) -> Found {
        search(a, b, false, strip_words)
    }

    /// The whole table, and the way back through it as Valkey goes it.
    fn by_table(a: &[u8], b: &[u8]) -> Found {
        let width = b.len() + 1;
        let mut table = vec![0usize; (a.len() + 1) * width];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i * width + j] = if a[i - 1] == b[j - 1] {
                    table[(i - 1) * width + j - 1] + 1
                } else {
                    table[(i - 1) * width + j].max(table[i * width + j - 1])
                };
            }
        }
        let mut found = Found { len: table[a.len() * width + b.len()], ..Found::default() };
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                i -= 1;
                j -= 1;
                found.common.insert(0, a[i]);
                match found.ranges.last_mut() {
                    Some(open) if open.a.0 == i + 1 && open.b.0 == j + 1 => {
                        open.a.0 = i;
                        open.b.0 = j;
                    }
                    _ => found.ranges.push(Range { a: (i, i), b: (j, j) }),
                }
            } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        found
    }

    proptest! {
        #[test]
        fn the_path_is_that_of_the_table(
            a in prop::collection::vec(0u8..5, 0..300),
            b in prop::collection::vec(0u8..5, 0..300),
            strip_words in 1usize..4,
        ) {
            let expected = by_table(&a, &b);
            prop_assert_eq!(&path(&a, &b, strip_words), &expected);
            prop_assert_eq!(&path(&a, &b, STRIP_WORDS), &expected);
            prop_assert_eq!(search(&a, &b, true, strip_words).len, expected.len);
        }

        #[test]
        fn bytes_of_all_values_too(a in prop::collection::vec(any::<u8>(), 0..200), b in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(path(&a, &b, 2), by_table(&a, &b));
        }
    }

    #[test]
    fn long_strings_take_little_memory() {
        let text = |seed: u32, len: usize| -> Vec<u8> {
            let mut state = seed;
            (0..len)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    b'a' + (state >> 24) as u8 % 26
                })
                .collect()
        };
        let (a, b) = (text(1, 30_000), text(2, 34_000));
        let found = path(&a, &b, STRIP_WORDS);
        assert_eq!(search(&a, &b, true, STRIP_WORDS).len, found.len);
        assert_eq!(found.common.len(), found.len);
        // It is a subsequence of both, and the runs are where it lies.
        for text in [&a, &b] {
            let mut at = text.iter();
            assert!(found.common.iter().all(|byte| at.any(|other| other == byte)));
        }
        let runs: Vec<u8> = found.ranges.iter().rev().flat_map(|range| a[range.a.0..=range.a.1].to_vec()).collect();
        assert!(runs == found.common);
        let runs: Vec<u8> = found.ranges.iter().rev().flat_map(|range| b[range.b.0..=range.b.1].to_vec()).collect();
        assert!(runs == found.common);
    }
}
