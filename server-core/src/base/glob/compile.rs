//! From a pattern's text to its segments.

use std::collections::HashMap;

use memchr::memmem;

use super::{Glob, SHORT, Segment, Set, Token};

const EVERY: Set = [u64::MAX; 4];

#[derive(Default)]
struct Compiler {
    segments: Vec<Segment>,
    bytes: Vec<u8>,
    tokens: Vec<Token>,
    sets: Vec<Set>,
    /// Where each set is, so that equal ones are kept once.
    known: HashMap<Set, Token>,
    /// Of the current segment.
    current: Vec<Token>,
}

pub(super) fn compile(pattern: &[u8], ignore_case: bool) -> Glob {
    let fold = |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte };
    let mut compiler = Compiler::default();
    let mut at = 0;
    while let Some(&kind) = pattern.get(at) {
        at += 1;
        let token = match kind {
            b'*' => {
                while pattern.get(at) == Some(&b'*') {
                    at += 1;
                }
                compiler.end_segment();
                continue;
            }
            b'?' => Token::ANY,
            b'[' => {
                let (set, behind) = bracket(pattern, at, &fold);
                at = behind;
                compiler.set(set)
            }
            b'\\' if at < pattern.len() => {
                at += 1;
                Token(u32::from(fold(pattern[at - 1])))
            }
            literal => Token(u32::from(fold(literal))),
        };
        compiler.current.push(token);
    }
    compiler.end_segment();
    Glob {
        segments: compiler.segments.into(),
        bytes: compiler.bytes.into(),
        tokens: compiler.tokens.into(),
        sets: compiler.sets.into(),
        ignore_case,
    }
}

impl Compiler {
    /// A set, or what does the same: one byte, or any.
    fn set(&mut self, set: Set) -> Token {
        if set == EVERY {
            return Token::ANY;
        }
        if set.iter().map(|word| word.count_ones()).sum::<u32>() == 1 {
            let byte = set.iter().zip((0..).step_by(64)).map(|(word, base)| base + word.trailing_zeros());
            return Token(byte.zip(set).find(|(_, word)| *word != 0).map_or(0, |(byte, _)| byte));
        }
        *self.known.entry(set).or_insert_with(|| {
            self.sets.push(set);
            Token::set(self.sets.len() - 1)
        })
    }

    fn end_segment(&mut self) {
        let literal = self.current.iter().all(|token| *token < Token::ANY);
        let segment = if !literal {
            let from = self.tokens.len() as u32;
            self.tokens.append(&mut self.current);
            Segment::Tokens { from, to: self.tokens.len() as u32 }
        } else if self.current.len() > SHORT {
            let needle: Vec<u8> = self.current.iter().map(|token| token.0 as u8).collect();
            Segment::Long(Box::new(memmem::Finder::new(&needle).into_owned()))
        } else {
            let from = self.bytes.len() as u32;
            self.bytes.extend(self.current.iter().map(|token| token.0 as u8));
            Segment::Bytes { from, to: self.bytes.len() as u32 }
        };
        self.current.clear();
        self.segments.push(segment);
    }
}

/// A bracket expression from just behind its `[`: its bytes, and where it ends. With `fold` those
/// that a folded byte of the text may be.
fn bracket(pattern: &[u8], mut at: usize, fold: &impl Fn(u8) -> u8) -> (Set, usize) {
    let negated = pattern.get(at) == Some(&b'^');
    if negated {
        at += 1;
    }
    let mut set = [0; 4];
    let mut add = |byte: u8| set[usize::from(byte >> 6)] |= 1 << (byte & 63);
    loop {
        match pattern.get(at) {
            None => break,
            Some(b']') => {
                at += 1;
                break;
            }
            Some(b'\\') if at + 1 < pattern.len() => {
                add(fold(pattern[at + 1]));
                at += 2;
            }
            Some(&low) if pattern.get(at + 1) == Some(&b'-') && at + 2 < pattern.len() => {
                let (low, high) = (fold(low), fold(pattern[at + 2]));
                (low.min(high)..=low.max(high)).for_each(&mut add);
                at += 3;
            }
            Some(&literal) => {
                add(fold(literal));
                at += 1;
            }
        }
    }
    (if negated { set.map(|word| !word) } else { set }, at)
}
