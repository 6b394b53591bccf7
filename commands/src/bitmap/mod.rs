//! Bits of a string: single bits, counting, searching and combining.

pub(super) mod bitfield;
mod offset;
mod sliced;

use tercel_engine::StringRef;

use crate::arguments::held::HeldString;
use offset::bit_offset;
use sliced::{Combine, Operator};
use tercel_core::command::args::Args;
use tercel_core::command::parse::integer;

use tercel_core::command::error::{CommandError, Outcome, SYNTAX, fail};
use tercel_core::command::event_class as class;
use tercel_core::command::key_positions::keys_at;
use tercel_core::command::spec::{Group, acl};
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::dispatch::Context;
use tercel_core::dispatch::{Command, cmd};

pub(crate) static COMMANDS: &[Command] = &[
    cmd("setbit", Group::Bitmap, "2.2.0", 4, WRITE | DENYOOM, setbit)
        .about("Sets or clears one bit of a string and returns what it was.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | UPDATE, 1, 0, 1)])
        .args("key:key offset:integer value:integer")
        .acl(acl::BITMAP),
    cmd("getbit", Group::Bitmap, "2.2.0", 3, READONLY | FAST, getbit)
        .about("Returns one bit of a string.", "O(1)")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key offset:integer")
        .acl(acl::BITMAP),
    cmd("bitcount", Group::Bitmap, "2.6.0", -2, READONLY, bitcount)
        .about("Counts the bits that are set in a string or in a range of it.", "O(N)")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key [range{start:integer [end-unit-block{end:integer [unit(BYTE|BIT)]}]}]")
        .acl(acl::BITMAP),
    cmd("bitpos", Group::Bitmap, "2.8.7", -3, READONLY, bitpos)
        .about("Finds the first bit that is set or clear.", "O(N)")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key bit:integer [range{start:integer [end-unit-block{end:integer [unit(BYTE|BIT)]}]}]")
        .acl(acl::BITMAP),
    cmd("bitop", Group::Bitmap, "2.6.0", -4, WRITE | DENYOOM, bitop)
        .about("Combines strings bit by bit and stores the result.", "O(N)")
        .keys(&[keys_at(OW | UPDATE, 2, 0, 1), keys_at(RO | ACCESS, 3, -1, 1)])
        .args("operation(AND|OR|XOR|NOT) destkey:key key:key...")
        .acl(acl::BITMAP),
];

fn setbit(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let offset = bit_offset(cx, args.get(2), None)?;
    let on = match integer(args.get(3)) {
        Ok(bit @ 0..=1) => bit == 1,
        _ => return Err(fail("ERR bit is not an integer or out of range")),
    };
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let byte = (offset / 8) as usize;
    let stored_len = cx.server.data_mut().string_to_write(db, key)?.map_or(0, |value| value.len());
    let mask = 1u8 << (7 - offset % 8);
    let stored = cx.server.data_mut().string_to_write(db, key)?;
    let is_long = stored.is_some_and(|value| value.as_long().is_some());
    let same = stored.and_then(|value| value.byte(byte)).is_some_and(|stored| (stored & mask != 0) == on);
    if same {
        // Nothing changes: no watcher and no replica needs to hear of it. But a short one is reported as edited, as
        // in Valkey; a long one always is.
        if !is_long {
            cx.server.data_mut().write_string_if(db, key, stored_len, |_| ((), false))?;
        }
        cx.out.flag(on);
        return Ok(());
    }
    let before = cx.server.data_mut().write_string(cx.caller.db, key, stored_len.max(byte + 1), |mut string| {
        let mut stored = [0];
        string.read(byte, &mut stored);
        let before = stored[0] & mask != 0;
        string.write(byte, &[if on { stored[0] | mask } else { stored[0] & !mask }]);
        before
    })?;
    cx.server.data_mut().notify(class::STRING, "setbit", db, key.bytes);
    cx.out.flag(before);
    Ok(())
}

fn getbit(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let offset = bit_offset(cx, args.get(2), None)?;
    let key = cx.key(args, 1);
    let value = cx.server.data_mut().read_string(cx.caller.db, key)?;
    let byte = value.and_then(|value| value.byte((offset / 8) as usize)).unwrap_or(0);
    cx.out.flag(byte & (1 << (7 - offset % 8)) != 0);
    Ok(())
}

/// A range of bits: the whole string, or what start, end and unit say.
struct BitRange {
    start: i64,
    end: Option<i64>,
    in_bits: bool,
}

fn bit_range(args: &Args<'_>, start_at: usize) -> Result<Option<BitRange>, CommandError> {
    match args.len().checked_sub(start_at) {
        None | Some(0) => Ok(None),
        Some(count @ 1..=3) => {
            let start = integer(args.get(start_at))?;
            let in_bits = match count {
                3 if args.is(start_at + 2, "bit") => true,
                3 if args.is(start_at + 2, "byte") => false,
                3 => return Err(SYNTAX),
                _ => false,
            };
            let end = if count >= 2 { Some(integer(args.get(start_at + 1))?) } else { None };
            Ok(Some(BitRange { start, end, in_bits }))
        }
        Some(_) => Err(SYNTAX),
    }
}

impl BitRange {
    /// Whether it ends before it starts, both counted from the end: then it holds nothing, however long
    /// the string, where BITCOUNT is asked. BITPOS moves both ends into the string first.
    fn is_reversed(&self) -> bool {
        self.start < 0 && self.end.is_some_and(|end| end < 0 && self.start > end)
    }

    /// First and last bit within a string of `len` bytes; `None` if the range is empty.
    fn clamp(&self, len: usize) -> Option<(u64, u64)> {
        let total = if self.in_bits { len as i64 * 8 } else { len as i64 };
        let end = self.end.unwrap_or(-1);
        let from_end = |at: i64| if at < 0 { (total + at).max(0) } else { at };
        let (start, end) = (from_end(self.start), from_end(end).min(total - 1));
        if start > end || total == 0 {
            return None;
        }
        Some(if self.in_bits { (start as u64, end as u64) } else { (start as u64 * 8, end as u64 * 8 + 7) })
    }
}

/// The bits of byte `at` that lie within `first..=last`.
fn mask_at(at: u64, first: u64, last: u64) -> u8 {
    let mut mask = 0xffu8;
    if at == first / 8 {
        mask &= 0xff >> (first % 8);
    }
    if at == last / 8 {
        mask &= 0xff << (7 - last % 8);
    }
    mask
}

/// Words added up side by side, as wide as the processor takes them.
const LANES: usize = 4;
type Row = [u64; LANES];

fn zip(a: Row, b: Row, f: impl Fn(u64, u64) -> u64) -> Row {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

/// Adds three bits at each place: the sums, and what is carried to the next power of two.
fn add(a: Row, b: Row, c: Row) -> (Row, Row) {
    let half = zip(a, b, |a, b| a ^ b);
    let carry = zip(zip(a, b, |a, b| a & b), zip(half, c, |half, c| half & c), |a, b| a | b);
    (zip(half, c, |half, c| half ^ c), carry)
}

fn ones(row: Row) -> u64 {
    row.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// Counts the bits that are set. Sixteen rows are added bit by bit first (R. Harley's and D. Seal's tree of
/// adders; W. Mula, N. Kurz, D. Lemire, "Faster population counts using AVX2 instructions", 2018), so that one row
/// in sixteen is counted: a processor of which nothing is known has no instruction for that.
fn count_ones(bytes: &[u8]) -> u64 {
    let (rows, rest) = bytes.as_chunks::<{ 8 * LANES }>();
    let (blocks, odd) = rows.as_chunks::<16>();
    let row = |bytes: &[u8; 8 * LANES]| -> Row {
        let (words, _) = bytes.as_chunks::<8>();
        std::array::from_fn(|lane| u64::from_ne_bytes(words[lane]))
    };
    let (mut sums, mut sixteens) = ([[0; LANES]; 4], 0);
    for block in blocks {
        // At each level pairs are added to the sum there; what is carried goes to the next.
        let mut level: [Row; 16] = std::array::from_fn(|at| row(&block[at]));
        let mut len = 16;
        for sum in &mut sums {
            for pair in 0..len / 2 {
                let carry;
                (*sum, carry) = add(*sum, level[2 * pair], level[2 * pair + 1]);
                level[pair] = carry;
            }
            len /= 2;
        }
        sixteens += ones(level[0]);
    }
    let summed: u64 = sums.iter().enumerate().map(|(power, sum)| ones(*sum) << power).sum();
    let odd: u64 = odd.iter().map(|bytes| ones(row(bytes))).sum();
    16 * sixteens + summed + odd + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

fn bitcount(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let range = bit_range(args, 2)?;
    let key = cx.key(args, 1);
    let Some(value) = cx.server.data_mut().read_string(cx.caller.db, key)? else {
        cx.out.integer(0);
        return Ok(());
    };
    let bits = match &range {
        Some(range) if range.is_reversed() => None,
        Some(range) => range.clamp(value.len()),
        None => (value.len() as u64 * 8).checked_sub(1).map(|last| (0, last)),
    };
    let Some((first, last)) = bits else {
        cx.out.integer(0);
        return Ok(());
    };
    // The bytes of which all bits count, and the bits of those at the ends.
    let (from, to) = ((first / 8) as usize, (last / 8) as usize);
    let at_end = |at: usize| u64::from((value.byte(at).unwrap_or(0) & mask_at(at as u64, first, last)).count_ones());
    let ends = at_end(from) + if to > from { at_end(to) } else { 0 };
    let inner = from + 1..to.max(from + 1);
    if let StringRef::Long(value) = value {
        let job = sliced::Count { count: ends, value: value.clone(), bytes: inner };
        return cx.in_slices(args, Box::new(job));
    }
    let count = value.with_bytes(|bytes| count_ones(&bytes[inner])).unwrap_or(0);
    cx.out.integer((ends + count) as i64);
    Ok(())
}

/// The first bit equal to `wanted` within `first..=last`.
fn find_bit(bytes: &[u8], wanted: bool, first: u64, last: u64) -> Option<u64> {
    let (from, to) = (first / 8, last / 8);
    let dull = if wanted { 0u8 } else { 0xff };
    let mut at = from;
    while at <= to {
        // Whole words without a wanted bit are passed over.
        if at > from && at + 8 < to {
            let start = at as usize;
            if bytes[start..start + 8].iter().all(|&byte| byte == dull) {
                at += 8;
                continue;
            }
        }
        let byte = bytes[at as usize] ^ if wanted { 0 } else { 0xff };
        let hit = byte & mask_at(at, first, last);
        if hit != 0 {
            return Some(at * 8 + u64::from(hit.leading_zeros()));
        }
        at += 1;
    }
    None
}

fn bitpos(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let wanted = match integer(args.get(2))? {
        bit @ 0..=1 => bit == 1,
        _ => return Err(fail("ERR The bit argument must be 1 or 0.")),
    };
    let range = bit_range(args, 3)?;
    let key = cx.key(args, 1);
    let whole = BitRange { start: 0, end: None, in_bits: false };
    let range = range.unwrap_or(whole);
    let Some(value) = cx.server.data_mut().read_string(cx.caller.db, key)? else {
        // A missing key is an endless row of zeros.
        cx.out.integer(if wanted { -1 } else { 0 });
        return Ok(());
    };
    let Some((first, last)) = range.clamp(value.len()) else {
        cx.out.integer(-1);
        return Ok(());
    };
    // Without an end the string goes on with zeros.
    let beyond = if !wanted && range.end.is_none() { value.len() as i64 * 8 } else { -1 };
    if let StringRef::Long(value) = value {
        let job = sliced::Find { value: value.clone(), wanted, bits: (first, last), beyond };
        return cx.in_slices(args, Box::new(job));
    }
    let found = value.with_bytes(|bytes| find_bit(bytes, wanted, first, last)).flatten();
    cx.out.integer(found.map_or(beyond, |position| position as i64));
    Ok(())
}

fn bitop(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let operator = match () {
        () if args.is(1, "and") => Operator::And,
        () if args.is(1, "or") => Operator::Or,
        () if args.is(1, "xor") => Operator::Xor,
        () if args.is(1, "not") => Operator::Not,
        () => return Err(SYNTAX),
    };
    if operator == Operator::Not && args.len() != 4 {
        return Err(fail("ERR BITOP NOT must be called with a single source key."));
    }
    let db = cx.caller.db;
    let mut sources = Vec::with_capacity(args.len() - 3);
    for index in 3..args.len() {
        let key = cx.server.data().key(args.get(index));
        sources.push(HeldString::of(cx.server.data_mut().read(db, key))?);
    }
    let len = sources.iter().map(HeldString::len).max().unwrap_or(0);
    let target = args.get(2);
    let hold = Some(cx.server.data_mut().hold(db, target));
    let result = Vec::with_capacity(len);
    let job = Combine { db, target: target.into(), operator, sources, len, result, hold };
    cx.in_slices(args, Box::new(job))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_are_counted(bytes in prop::collection::vec(any::<u8>(), 0..3000), from in 0usize..40) {
            let bytes = &bytes[from.min(bytes.len())..];
            let expected: u64 = bytes.iter().map(|byte| u64::from(byte.count_ones())).sum();
            prop_assert_eq!(count_ones(bytes), expected);
        }
    }
}
