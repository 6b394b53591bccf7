//! LCS: the longest common subsequence of two strings. `subsequence.rs` finds it.

mod subsequence;

use tercel_engine::EntryRef;

use subsequence::Found;
use tercel_core::command::args::Args;
use tercel_core::command::error::{Outcome, SYNTAX, fail};
use tercel_core::command::parse::integer;
use tercel_core::dispatch::Context;

use tercel_core::command::key_positions::keys_at;
use tercel_core::command::spec::{Group, acl};
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::dispatch::{Command, cmd};

/// Product of the lengths beyond which the command is refused: it would hold everybody up for too long.
/// Valkey's bound is a sixteenth of that, for the memory of its table.
const CELLS_MAX: u64 = 1 << 31;

pub(crate) static COMMANDS: &[Command] = &[cmd("lcs", Group::String, "7.0.0", -3, READONLY, lcs)
    .about("Finds the longest common subsequence of two strings.", "O(N*M)")
    .keys(&[keys_at(RO | ACCESS, 1, 1, 1)])
    .args("key1:key key2:key [LEN] [IDX] [MINMATCHLEN min-match-len:integer] [WITHMATCHLEN]")
    .acl(acl::STRING)];

fn lcs(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
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
    for index in [1, 2] {
        // For what a read leaves behind: hits, misses, the time of the access.
        let key = cx.key(args, index);
        cx.server.data_mut().read(cx.caller.db, key);
    }
    let db = cx.caller.db;
    let (a_key, b_key) = (cx.key(args, 1), cx.key(args, 2));
    let (a, b) = (cx.server.data().peek(db, a_key), cx.server.data().peek(db, b_key));
    let bytes_of = |entry: &Option<EntryRef<'_>>| entry.as_ref().map_or(0, |entry| entry.value().len() as u64);
    if bytes_of(&a).saturating_mul(bytes_of(&b)) > CELLS_MAX {
        return Err(fail("ERR the strings are too long for LCS: their lengths multiplied exceed 2147483648"));
    }
    let found = match (a, b) {
        (Some(a), Some(b)) => a
            .value()
            .with_bytes(|a| b.value().with_bytes(|b| if want_len { Found::length(a, b) } else { Found::path(a, b) })),
        _ => Found::default(),
    };
    let Found { len: total, common, mut ranges } = found;
    if want_len {
        cx.out.count(total);
        return Ok(());
    }
    if !want_ranges {
        cx.out.bulk(&common);
        return Ok(());
    }
    ranges.retain(|range| range.a.1 - range.a.0 + 1 >= match_len_min);
    cx.out.map(2);
    cx.out.bulk("matches");
    cx.out.array(ranges.len());
    for range in &ranges {
        cx.out.array(2 + usize::from(with_match_len));
        for (first, last) in [range.a, range.b] {
            cx.out.array(2);
            cx.out.count(first);
            cx.out.count(last);
        }
        if with_match_len {
            cx.out.count(range.a.1 - range.a.0 + 1);
        }
    }
    cx.out.bulk("len");
    cx.out.count(total);
    Ok(())
}
