//! The keyed hash and what its bits are used for.
//!
//! ```text
//!  63        53 52                                16 15          0
//! ┌────────────┬────────────────────────────────────┬─────────────┐
//! │ cell       │ path: directory bits, from the top │ tag         │
//! └────────────┴────────────────────────────────────┴─────────────┘
//! ```
//! The cell picks one of 256 roots, the path walks that root's directory, the tag places the entry in
//! its segment and is stored beside the pointer. The three share no bit, so splitting a segment does
//! not thin out the tags in it.

use siphasher::sip::SipHasher13;

/// A key's 64-bit keyed hash. Computed once by [`Keyspace::hash`](crate::Keyspace::hash) and handed along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hash(pub u64);

const CELL_BITS: u32 = 11;
const CELLS: usize = 1 << CELL_BITS;

/// How many roots a table has.
pub(crate) const ROOTS: usize = 256;

/// The directory bits between cell and tag; a directory cannot be deeper.
pub(crate) const PATH_BITS: u32 = 64 - CELL_BITS - 16;

impl Hash {
    #[inline(always)]
    pub(crate) fn root(self) -> usize {
        ROOT_OF_CELL[(self.0 >> (64 - CELL_BITS)) as usize] as usize
    }

    /// The directory bits, moved to the top of the word.
    #[inline(always)]
    pub(crate) fn path(self) -> u64 {
        self.0 << CELL_BITS
    }

    #[inline(always)]
    pub(crate) fn tag(self) -> u16 {
        self.0 as u16
    }
}

/// Which root each cell belongs to. The roots' widths grow geometrically over one doubling, so at any
/// number of keys the segments are at every stage between two splits: table memory a key stays level,
/// and splits come one after another instead of all at once each time the number of keys doubles.
static ROOT_OF_CELL: [u8; CELLS] = root_of_cell();

const fn root_of_cell() -> [u8; CELLS] {
    /// 2 to the power of 1/256.
    const STEP: f64 = 1.002_711_275_050_202_5;
    let mut cells = [0u8; CELLS];
    let mut edge = 1.0f64;
    let mut start = 0usize;
    let mut root = 0usize;
    while root < ROOTS {
        edge *= STEP;
        let end = if root == ROOTS - 1 { CELLS } else { ((edge - 1.0) * CELLS as f64 + 0.5) as usize };
        while start < end {
            cells[start] = root as u8;
            start += 1;
        }
        root += 1;
    }
    cells
}

/// Computes hashes: SipHash-1-3 under a secret key, against flooding.
#[derive(Clone, Copy)]
pub(crate) struct KeyHasher {
    key0: u64,
    key1: u64,
    /// All ones; tests clear bits to force collisions.
    keep: u64,
}

impl KeyHasher {
    pub(crate) fn new(key: &[u8; 16], keep: u64) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *key;
        KeyHasher {
            key0: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            key1: u64::from_le_bytes([i, j, k, l, m, n, o, p]),
            keep,
        }
    }

    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> Hash {
        Hash(SipHasher13::new_with_keys(self.key0, self.key1).hash(key) & self.keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_cover_the_cells_in_order_with_widths_over_one_doubling() {
        let mut widths = [0usize; ROOTS];
        for pair in ROOT_OF_CELL.windows(2) {
            assert!(pair[1] == pair[0] || pair[1] == pair[0] + 1);
        }
        for &root in &ROOT_OF_CELL {
            widths[root as usize] += 1;
        }
        assert!(widths.iter().all(|&width| (5..=12).contains(&width)), "{widths:?}");
        assert!(widths[0] < widths[255]);
    }

    #[test]
    fn the_hash_depends_on_its_key() {
        let one = KeyHasher::new(&[1; 16], u64::MAX);
        let two = KeyHasher::new(&[2; 16], u64::MAX);
        assert_ne!(one.hash(b"key"), two.hash(b"key"));
        assert_eq!(one.hash(b"key"), one.hash(b"key"));
        assert_eq!(KeyHasher::new(&[1; 16], 0).hash(b"key"), Hash(0));
    }
}
