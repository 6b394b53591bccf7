//! LCS: the longest common subsequence of two strings. `subsequence.rs` finds it.

mod subsequence;

use crate::arguments::held::HeldString;
use subsequence::{Found, Search};
use tercel_core::clients::Slice;
use tercel_core::command::Reply;
use tercel_core::command::args::Args;
use tercel_core::command::error::{Outcome, SYNTAX, fail};
use tercel_core::command::parse::integer;
use tercel_core::data::Dataset;
use tercel_core::dispatch::Context;

use tercel_core::command::key_positions::keys_at;
use tercel_core::command::spec::{Group, acl};
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::dispatch::{Command, cmd};

/// Runs answered between two looks at the clock.
const RANGES_AT_ONCE: usize = 128;
/// Product of the lengths beyond which the command is refused: it would take too much of everybody's time.
/// Valkey's bound is a sixteenth of that, for the memory of its table.
const CELLS_MAX: u64 = 1 << 31;

pub(crate) static COMMANDS: &[Command] = &[cmd("lcs", Group::String, "7.0.0", -3, READONLY, lcs)
    .about("Finds the longest common subsequence of two strings.", "O(N*M)")
    .keys(&[keys_at(RO | ACCESS, 1, 1, 1)])
    .args("key1:key key2:key [LEN] [IDX] [MINMATCHLEN min-match-len:integer] [WITHMATCHLEN]")
    .acl(acl::STRING)];

fn lcs(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    for index in [1, 2] {
        // For what a read leaves behind: hits, misses, the time of the access.
        let key = cx.key(args, index);
        cx.server.data_mut().read(cx.caller.db, key);
    }
    let db = cx.caller.db;
    let (a_key, b_key) = (cx.key(args, 1), cx.key(args, 2));
    let (a, b) = (cx.server.data().peek(db, a_key), cx.server.data().peek(db, b_key));
    let not_strings = || fail("ERR The specified keys must contain string values");
    let (a, b) = (HeldString::of(a).map_err(|_| not_strings())?, HeldString::of(b).map_err(|_| not_strings())?);
    let (mut want_len, mut want_ranges, mut with_match_len, mut match_len_min) = (false, false, false, 0);
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "len") {
            want_len = true;
        } else if args.is(at, "idx") {
            want_ranges = true;
        } else if args.is(at, "withmatchlen") {
            with_match_len = true;
        } else if args.is(at, "minmatchlen") && at + 1 < args.len() {
            at += 1;
            match_len_min = integer(args.get(at))?.max(0) as usize;
        } else {
            return Err(SYNTAX);
        }
        at += 1;
    }
    if want_len && want_ranges {
        return Err(fail("ERR If you want both the length and indexes, please just use IDX."));
    }
    if (a.len() as u64).saturating_mul(b.len() as u64) > CELLS_MAX {
        return Err(fail("ERR the strings are too long for LCS: their lengths multiplied exceed 2147483648"));
    }
    let answers = if want_len {
        Answers::Length
    } else if want_ranges {
        Answers::Ranges { match_len_min, with_match_len }
    } else {
        Answers::Bytes
    };
    cx.in_slices(args, Box::new(Lcs { stage: Stage::Join(a, b), answers }))
}

/// What is answered.
enum Answers {
    Length,
    Bytes,
    Ranges { match_len_min: usize, with_match_len: bool },
}

/// How far it has come.
enum Stage {
    /// The strings are to lie in one piece each.
    Join(HeldString, HeldString),
    Search(Box<Search>),
    /// What was found, with the runs that are still to be answered.
    Answer(Found),
}

/// A search, and then its answer.
struct Lcs {
    stage: Stage,
    answers: Answers,
}

impl Lcs {
    /// The strings once both lie in one piece.
    fn joined(&mut self) -> Option<(HeldString, HeldString)> {
        let Stage::Join(a, b) = &mut self.stage else { return None };
        if a.join() || b.join() {
            return None;
        }
        let none = || HeldString::Own(Vec::new());
        Some((std::mem::replace(a, none()), std::mem::replace(b, none())))
    }
}

impl Slice for Lcs {
    fn step(&mut self, _: &Args<'_>, _: &mut Dataset, answer: &mut Reply) -> bool {
        let found = match &mut self.stage {
            Stage::Join(..) => {
                if let Some((a, b)) = self.joined() {
                    let length_only = matches!(self.answers, Answers::Length);
                    self.stage = Stage::Search(Box::new(Search::new(a, b, length_only)));
                }
                return true;
            }
            Stage::Search(search) => {
                let Some(mut found) = search.go_on() else { return true };
                match self.answers {
                    Answers::Length => answer.count(found.len),
                    Answers::Bytes => answer.bulk(&found.common),
                    Answers::Ranges { match_len_min, .. } => {
                        found.ranges.retain(|range| range.a.1 - range.a.0 + 1 >= match_len_min);
                        // They are taken from the end.
                        found.ranges.reverse();
                        answer.map(2);
                        answer.bulk("matches");
                        answer.array(found.ranges.len());
                        self.stage = Stage::Answer(found);
                        return true;
                    }
                }
                return false;
            }
            Stage::Answer(found) => found,
        };
        let Answers::Ranges { with_match_len, .. } = self.answers else { return false };
        for range in found.ranges.drain(found.ranges.len().saturating_sub(RANGES_AT_ONCE)..).rev() {
            answer.array(2 + usize::from(with_match_len));
            for (first, last) in [range.a, range.b] {
                answer.array(2);
                answer.count(first);
                answer.count(last);
            }
            if with_match_len {
                answer.count(range.a.1 - range.a.0 + 1);
            }
        }
        if !found.ranges.is_empty() {
            return true;
        }
        answer.bulk("len");
        answer.count(found.len);
        false
    }
}
