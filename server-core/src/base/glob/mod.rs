//! Glob patterns as KEYS, SCAN, PSUBSCRIBE and CONFIG GET match them: `*`, `?`, `[abc]`, `[^a-z]`,
//! `\x`. A pattern is compiled once and matched often.
//!
//! Between two stars lies a *segment*, which takes as many bytes of the text as it has tokens (a byte,
//! any byte, one of a set). The first is held against the text's beginning, the last against its end,
//! and those between are looked for from left to right, each from where the one before ended; the
//! leftmost place is always the best. What it costs for a text of `n` bytes:
//!
//! - bytes alone, however many: linear, by `memchr`'s substring search;
//! - with sets or `?`, up to [`SHORT`] tokens: each place is tried, at most `SHORT * n` steps for all such
//!   segments together;
//! - longer ones: [`SHORT`] tokens at once, a bit for each (`search.rs`), `n * tokens / 64` steps. That is
//!   the worst there is: a pattern of 40,000 tokens with `?` all over, against a text of 60,000, is some
//!   40 million steps. It is reached only if the text looks like the pattern at many places.
//!
//! Compiling is linear, and what comes of it takes at most some ten times the pattern's length
//! ([`Glob::memory`]): equal sets are kept once.

mod compile;
#[cfg(test)]
mod oracle;
mod search;
#[cfg(test)]
mod tests;

use memchr::memmem;

/// Tokens of a segment that is looked for by trying each place.
const SHORT: usize = 64;

/// Which bytes are in a set.
type Set = [u64; 4];

#[inline]
fn holds(set: &Set, byte: u8) -> bool {
    set[usize::from(byte >> 6)] >> (byte & 63) & 1 != 0
}

/// What takes one byte of the text: below 256 that byte, then any, then the sets in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
struct Token(u32);

impl Token {
    const ANY: Token = Token(256);

    fn set(index: usize) -> Token {
        Token(257 + index as u32)
    }

    #[inline]
    fn takes(self, byte: u8, sets: &[Set]) -> bool {
        match self.0 {
            byte_wanted @ 0..256 => byte_wanted == u32::from(byte),
            256 => true,
            set => holds(&sets[set as usize - 257], byte),
        }
    }
}

/// What lies between two stars.
#[derive(Debug)]
enum Segment {
    /// These of the pattern's bytes.
    Bytes { from: u32, to: u32 },
    /// Many bytes, with all that makes a search quick.
    Long(Box<memmem::Finder<'static>>),
    /// These of the pattern's tokens.
    Tokens { from: u32, to: u32 },
}

/// A compiled pattern.
#[derive(Debug)]
pub struct Glob {
    /// One more than there are stars, with several in a row taken for one.
    segments: Box<[Segment]>,
    bytes: Box<[u8]>,
    tokens: Box<[Token]>,
    sets: Box<[Set]>,
    /// Letters of the text are made small; those of the pattern are already.
    ignore_case: bool,
}

impl Glob {
    /// Compiles a pattern. There is none that is wrong: what is not closed reaches to the end.
    #[must_use]
    pub fn new(pattern: &[u8], ignore_case: bool) -> Self {
        compile::compile(pattern, ignore_case)
    }

    /// Whether a text matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        if self.ignore_case { self.matches_folded(&text.to_ascii_lowercase()) } else { self.matches_folded(text) }
    }

    fn matches_folded(&self, text: &[u8]) -> bool {
        let [first, rest @ ..] = &*self.segments else { return text.is_empty() };
        let Some((last, between)) = rest.split_last() else {
            return self.len(first) == text.len() && self.fits(first, text);
        };
        // An empty text is matched by an empty pattern alone, not even by a star.
        if text.is_empty() || self.len(first) + self.len(last) > text.len() {
            return false;
        }
        let end = text.len() - self.len(last);
        if !self.fits(first, text) || !self.fits(last, &text[end..]) {
            return false;
        }
        let mut rest = &text[self.len(first)..end];
        for segment in between {
            let Some(at) = self.find(segment, rest) else { return false };
            rest = &rest[at + self.len(segment)..];
        }
        true
    }

    /// Memory it takes in bytes, itself included.
    #[must_use]
    pub fn memory(&self) -> usize {
        let finders = self.segments.iter().map(|segment| match segment {
            Segment::Long(finder) => size_of::<memmem::Finder<'static>>() + finder.needle().len(),
            _ => 0,
        });
        size_of::<Glob>()
            + size_of_val(&*self.segments)
            + self.bytes.len()
            + size_of_val(&*self.tokens)
            + size_of_val(&*self.sets)
            + finders.sum::<usize>()
    }

    fn literal(&self, from: u32, to: u32) -> &[u8] {
        &self.bytes[from as usize..to as usize]
    }

    fn tokens(&self, from: u32, to: u32) -> &[Token] {
        &self.tokens[from as usize..to as usize]
    }

    fn len(&self, segment: &Segment) -> usize {
        match segment {
            Segment::Bytes { from, to } | Segment::Tokens { from, to } => (to - from) as usize,
            Segment::Long(finder) => finder.needle().len(),
        }
    }

    /// Whether a text begins with what a segment takes.
    fn fits(&self, segment: &Segment, text: &[u8]) -> bool {
        match segment {
            Segment::Bytes { from, to } => text.starts_with(self.literal(*from, *to)),
            Segment::Long(finder) => text.starts_with(finder.needle()),
            Segment::Tokens { from, to } => search::fits(self.tokens(*from, *to), &self.sets, text),
        }
    }

    /// The first place in a text where a segment fits.
    fn find(&self, segment: &Segment, text: &[u8]) -> Option<usize> {
        match segment {
            Segment::Bytes { from, to } => memmem::find(text, self.literal(*from, *to)),
            Segment::Long(finder) => finder.find(text),
            Segment::Tokens { from, to } => search::find(self.tokens(*from, *to), &self.sets, text),
        }
    }
}
