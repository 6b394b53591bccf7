//! The longest common subsequence, by rows of bits (H. Hyyrö, "Bit-parallel LCS-length computation
//! revisited", 2004): 64 cells of the table in a few instructions, and a bit a cell where the path is
//! wanted. Of those only every so-manieth row is kept; the rows between two of them are made again on the
//! way back. Memory is about `b.len() * sqrt(a.len()) / 4` bytes, and `b.len() / 8` for the length alone.
//!
//! Let L(i, j) be the length for the first `i` bytes of `a` and the first `j` of `b`. A row's bit `j - 1` is
//! clear where L(i, j) = L(i, j - 1) + 1.

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

impl Found {
    /// The length alone.
    pub(super) fn length(a: &[u8], b: &[u8]) -> Found {
        let mut table = Table::new(a, b, STRIP_WORDS);
        let mut row = table.first_row(b.len());
        table.rows(&mut row, 0..a.len(), |_, _, _| {});
        Found { len: zeros(&row, b.len()), ..Found::default() }
    }

    /// The length, the bytes and where they lie. Of several subsequences that are equally long it is the one
    /// that Valkey gives.
    pub(super) fn path(a: &[u8], b: &[u8]) -> Found {
        path(a, b, STRIP_WORDS)
    }
}

fn path(a: &[u8], b: &[u8], strip_words: usize) -> Found {
    let step = a.len().isqrt().max(1);
    let mut table = Table::new(a, b, strip_words);
    let mut row = table.first_row(b.len());
    let words = row.len();
    // The row before each block of `step` rows.
    let mut kept = vec![u64::MAX; a.len().div_ceil(step) * words];
    table.rows(&mut row, 0..a.len(), |done, from, strip| {
        if done.is_multiple_of(step) && done < a.len() {
            let at = done / step * words + from;
            kept[at..at + strip.len()].copy_from_slice(strip);
        }
    });
    let len = zeros(&row, b.len());
    let mut common = vec![0u8; len];
    let mut left = len;
    let mut ranges: Vec<Range> = Vec::new();
    let (mut i, mut j) = (a.len(), b.len());
    let mut block: Vec<u64> = Vec::new();
    let mut first = a.len();
    let mut block_words = 0;
    while i > 0 && j > 0 {
        if i <= first {
            // The rows of this block, as far as the way back can still come.
            first = (i - 1) / step * step;
            block_words = j.div_ceil(64);
            let mut row = kept[first / step * words..][..block_words].to_vec();
            block.clear();
            block.resize((i - first) * block_words, 0);
            table.rows(&mut row, first..i, |done, from, strip| {
                if done == first {
                    return;
                }
                let at = (done - first - 1) * block_words + from;
                block[at..at + strip.len()].copy_from_slice(strip);
            });
        }
        if a[i - 1] == b[j - 1] {
            i -= 1;
            j -= 1;
            left -= 1;
            common[left] = a[i];
            match ranges.last_mut() {
                Some(open) if open.a.0 == i + 1 && open.b.0 == j + 1 => {
                    open.a.0 = i;
                    open.b.0 = j;
                }
                _ => ranges.push(Range { a: (i, i), b: (j, j) }),
            }
        } else if block[(i - first - 1) * block_words + (j - 1) / 64] >> ((j - 1) % 64) & 1 == 0 {
            // L(i, j - 1) is less than L(i, j), so L(i - 1, j) is not.
            i -= 1;
        } else {
            j -= 1;
        }
    }
    Found { len, common, ranges }
}

/// Columns of a row where the length grows.
fn zeros(row: &[u64], columns: usize) -> usize {
    // Bits beyond the last column are set.
    row.iter().map(|word| word.count_zeros() as usize).sum::<usize>().min(columns)
}

struct Table<'a> {
    a: &'a [u8],
    b: &'a [u8],
    strip_words: usize,
    /// For each byte value that the strip has, which of the strip's columns have it.
    masks: Vec<u64>,
    /// Where a byte value's masks are.
    mask_of: [Option<u16>; 256],
    /// Whether each row carries into the next strip.
    carries: Vec<bool>,
}

impl<'a> Table<'a> {
    fn new(a: &'a [u8], b: &'a [u8], strip_words: usize) -> Self {
        Table { a, b, strip_words, masks: Vec::new(), mask_of: [None; 256], carries: Vec::new() }
    }

    /// The row before the first: nothing grows.
    fn first_row(&self, columns: usize) -> Vec<u64> {
        vec![u64::MAX; columns.div_ceil(64)]
    }

    /// Finds the columns of each byte value in the strip of `words` words from `from` on.
    fn find_masks(&mut self, from: usize, words: usize) {
        self.masks.clear();
        self.mask_of = [None; 256];
        let columns = &self.b[(from * 64).min(self.b.len())..((from + words) * 64).min(self.b.len())];
        for (column, byte) in columns.iter().enumerate() {
            let masks = &mut self.masks;
            let at = *self.mask_of[usize::from(*byte)].get_or_insert_with(|| {
                masks.resize(masks.len() + words, 0);
                (masks.len() / words - 1) as u16
            });
            self.masks[usize::from(at) * words + column / 64] |= 1 << (column % 64);
        }
    }

    /// Goes through rows, from `row`, the one before the first of them, which becomes the last. After each
    /// row of each strip `visit` is told how many rows of the table that makes, at which word the strip
    /// begins, and the strip. `row` may be shorter than `b` is.
    fn rows(&mut self, row: &mut [u64], rows: std::ops::Range<usize>, mut visit: impl FnMut(usize, usize, &[u64])) {
        self.carries.clear();
        self.carries.resize(rows.len(), false);
        let mut from = 0;
        while from < row.len() {
            let words = self.strip_words.min(row.len() - from);
            self.find_masks(from, words);
            let strip = &mut row[from..from + words];
            visit(rows.start, from, strip);
            for (at, carry) in rows.clone().zip(&mut self.carries) {
                if let Some(mask) = self.mask_of[usize::from(self.a[at])] {
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
                visit(at + 1, from, strip);
            }
            from += words;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            prop_assert_eq!(&Found::path(&a, &b), &expected);
            prop_assert_eq!(Found::length(&a, &b).len, expected.len);
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
        let found = Found::path(&a, &b);
        assert_eq!(Found::length(&a, &b).len, found.len);
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
