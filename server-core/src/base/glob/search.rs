//! Looking for tokens in a text.

use super::{SHORT, Set, Token};

/// Places a long segment is tried at one by one before many are taken at once.
const TRIED: usize = 64;
/// Places taken at once.
const CHUNK: usize = 64 * 1024;

pub(super) fn fits(tokens: &[Token], sets: &[Set], text: &[u8]) -> bool {
    tokens.len() <= text.len() && tokens.iter().zip(text).all(|(token, byte)| token.takes(*byte, sets))
}

/// The first place where all tokens fit.
pub(super) fn find(tokens: &[Token], sets: &[Set], text: &[u8]) -> Option<usize> {
    let places = (text.len() + 1).checked_sub(tokens.len())?;
    let tried = if tokens.len() <= SHORT { places } else { places.min(TRIED) };
    if let Some(at) = (0..tried).find(|at| fits(tokens, sets, &text[*at..])) {
        return Some(at);
    }
    let (mut from, mut candidates) = (tried, Candidates::default());
    while from < places {
        let to = places.min(from + CHUNK);
        if let Some(at) = candidates.find(tokens, sets, &text[from..to + tokens.len() - 1], to - from) {
            return Some(from + at);
        }
        from = to;
    }
    None
}

/// Places where a segment may begin, one bit each. Each block of up to 64 tokens strikes out those where
/// it does not fit, all places in one pass over the text: a word has a bit for each token of the block,
/// which is set while the bytes before fit up to that token (Shift-And).
#[derive(Default)]
struct Candidates {
    words: Vec<u64>,
}

impl Candidates {
    /// The first of the first `places` places of a text where all tokens fit.
    fn find(&mut self, tokens: &[Token], sets: &[Set], text: &[u8], places: usize) -> Option<usize> {
        self.words.clear();
        self.words.resize(places.div_ceil(64), u64::MAX);
        if let Some(last) = self.words.last_mut() {
            *last >>= (64 - places % 64) % 64;
        }
        let mut left = places;
        for (number, block) in tokens.chunks(SHORT).enumerate() {
            // So few that trying them costs no more than another block.
            if left * tokens.len() <= places {
                break;
            }
            let at = number * SHORT;
            left = self.strike(block, sets, &text[at..at + places + block.len() - 1]);
        }
        self.places().find(|at| fits(tokens, sets, &text[*at..]))
    }

    /// Strikes out where a block does not fit; returns how many places are left.
    fn strike(&mut self, block: &[Token], sets: &[Set], text: &[u8]) -> usize {
        let masks = masks(block, sets);
        let (first, len) = text.split_at(block.len() - 1);
        let last_bit = block.len() - 1;
        let step = |state: u64, byte: u8| (state << 1 | 1) & masks[usize::from(byte)];
        let mut state = first.iter().fold(0, |state, byte| step(state, *byte));
        let mut left = 0;
        for (word, bytes) in self.words.iter_mut().zip(len.chunks(64)) {
            let mut fit = 0;
            for (bit, byte) in bytes.iter().enumerate() {
                state = step(state, *byte);
                fit |= (state >> last_bit & 1) << bit;
            }
            *word &= fit;
            left += word.count_ones() as usize;
        }
        left
    }

    fn places(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(number, word)| {
            let next = |word: &u64| Some(word & (word - 1)).filter(|rest| *rest != 0);
            std::iter::successors(Some(*word).filter(|word| *word != 0), next)
                .map(move |rest| number * 64 + rest.trailing_zeros() as usize)
        })
    }
}

/// For each byte the tokens of a block that take it.
fn masks(block: &[Token], sets: &[Set]) -> [u64; 256] {
    let mut masks = [0; 256];
    for (bit, token) in block.iter().enumerate() {
        for byte in 0..=255u8 {
            masks[usize::from(byte)] |= u64::from(token.takes(byte, sets)) << bit;
        }
    }
    masks
}
