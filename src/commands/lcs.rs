//! LCS: the longest common subsequence of two strings.

use super::args::Args;
use super::context::{Context, integer};
use super::fail::{Outcome, SYNTAX, fail};
use super::spec::{Command, Group, acl, cmd, keys_at};
use super::spec::{flags::*, key::*};

/// Cells of the table beyond which the command is refused: 4 bytes each.
const CELLS_MAX: u64 = 1 << 30;

pub(super) static COMMANDS: &[Command] = &[cmd("lcs", Group::String, "7.0.0", -3, READONLY, lcs)
    .about("Finds the longest common subsequence of two strings.", "O(N*M)")
    .keys(&[keys_at(RO | ACCESS, 1, 1, 1)])
    .args("key1:key key2:key [LEN] [IDX] [MINMATCHLEN min-match-len:integer] [WITHMATCHLEN]")
    .acl(acl::STRING)];

/// A match: first and last offset in each string, last offsets included.
struct Range {
    a: (usize, usize),
    b: (usize, usize),
}

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
    let mut load = |index: usize| {
        let key = cx.key(args, index);
        cx.core.read(cx.session.db, key).map_or_else(Vec::new, |entry| entry.value().to_vec())
    };
    let (a, b) = (load(1), load(2));
    let width = b.len() + 1;
    if (a.len() as u64 + 1) * width as u64 > CELLS_MAX {
        return Err(fail("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"));
    }
    let mut table = vec![0u32; (a.len() + 1) * width];
    for (i, left) in a.iter().enumerate() {
        for (j, right) in b.iter().enumerate() {
            table[(i + 1) * width + j + 1] = if left == right {
                table[i * width + j] + 1
            } else {
                table[i * width + j + 1].max(table[(i + 1) * width + j])
            };
        }
    }
    let total = table[a.len() * width + b.len()] as usize;
    if want_len {
        cx.out.count(total);
        return Ok(());
    }
    // Walk back from the end, gathering the bytes and the runs that lie side by side in both.
    let mut common = vec![0u8; total];
    let mut left = total;
    let mut ranges: Vec<Range> = Vec::new();
    let mut run: Option<Range> = None;
    let (mut i, mut j) = (a.len(), b.len());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            left -= 1;
            common[left] = a[i - 1];
            i -= 1;
            j -= 1;
            match run.as_mut() {
                Some(open) if open.a.0 == i + 1 && open.b.0 == j + 1 => {
                    open.a.0 = i;
                    open.b.0 = j;
                }
                _ => ranges.extend(run.replace(Range { a: (i, i), b: (j, j) })),
            }
        } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    ranges.extend(run);
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
