//! BITFIELD: integers of any width up to 64 bits inside a string.

use super::offset::bit_offset;
use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, Outcome, SYNTAX, fail};
use tercel_core::command::event_class as class;
use tercel_core::command::key_positions::keys_at;
use tercel_core::command::parse::integer;
use tercel_core::command::spec::{Group, acl};
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::dispatch::Context;
use tercel_core::dispatch::{Command, cmd};

pub(crate) static COMMANDS: &[Command] = &[
    cmd("bitfield", Group::Bitmap, "3.2.0", -2, WRITE | DENYOOM, bitfield)
        .about("Reads, sets and increments integers of any width inside a string.", "O(1)")
        .keys(&[keys_at(RW | UPDATE | ACCESS | VARIABLE_FLAGS, 1, 0, 1)])
        .key_flags(bitfield_key_flags)
        .args("key:key [operation(GET get-block{encoding:string offset:integer}|write{[OVERFLOW overflow-block(WRAP|SAT|FAIL)] write-operation(SET set-block{encoding:string offset:integer value:integer}|INCRBY incrby-block{encoding:string offset:integer increment:integer})})...]")
        .acl(acl::BITMAP),
    cmd("bitfield_ro", Group::Bitmap, "6.0.0", -2, READONLY | FAST, bitfield_ro)
        .about("Reads integers of any width inside a string.", "O(1)")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key [GET get-block{encoding:string offset:integer}+...]")
        .acl(acl::BITMAP),
];

/// A width and whether a sign is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FieldType {
    signed: bool,
    bits: u64,
}

/// What happens to a value that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    CommandError,
}

enum Operation {
    Get,
    Set(i64),
    Increment(i64),
}

struct Step {
    field: FieldType,
    offset: u64,
    operation: Operation,
    overflow: Overflow,
}

fn field_type(text: &[u8]) -> Result<FieldType, CommandError> {
    let wrong =
        fail("ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.");
    let (signed, digits) = match text {
        [b'i', digits @ ..] => (true, digits),
        [b'u', digits @ ..] => (false, digits),
        _ => return Err(wrong),
    };
    match integer(digits) {
        Ok(bits) if bits >= 1 && bits <= if signed { 64 } else { 63 } => Ok(FieldType { signed, bits: bits as u64 }),
        _ => Err(wrong),
    }
}

/// The bytes that up to 64 bits lie in.
type Bytes = [u8; 9];

/// `copy` hands the bytes of the string from a place on, as many as there are.
fn read_bits(copy: impl FnOnce(usize, &mut Bytes) -> usize, offset: u64, bits: u64) -> (u64, Bytes) {
    let mut bytes = [0; 9];
    copy((offset / 8) as usize, &mut bytes);
    let value = (offset % 8..offset % 8 + bits).fold(0, |value, at| {
        let byte = bytes.get((at / 8) as usize).copied().unwrap_or(0);
        value << 1 | u64::from(byte >> (7 - at % 8) & 1)
    });
    (value, bytes)
}

/// Puts a value into the bytes that its first bit lies in the first of.
fn put_bits(bytes: &mut Bytes, offset: u64, bits: u64, value: u64) {
    for at in 0..bits {
        let place = offset % 8 + at;
        let mask = 1u8 << (7 - place % 8);
        let byte = &mut bytes[(place / 8) as usize];
        if value >> (bits - 1 - at) & 1 == 1 {
            *byte |= mask;
        } else {
            *byte &= !mask;
        }
    }
}

impl FieldType {
    /// The number that these bits are.
    fn number(self, raw: u64) -> i64 {
        if self.signed && self.bits < 64 && raw >> (self.bits - 1) & 1 == 1 {
            (raw | u64::MAX << self.bits) as i64
        } else {
            raw as i64
        }
    }

    fn range(self) -> (i128, i128) {
        if self.signed {
            (-(1i128 << (self.bits - 1)), (1i128 << (self.bits - 1)) - 1)
        } else {
            (0, (1i128 << self.bits) - 1)
        }
    }

    /// A value as it is stored, or `None` if it does not fit and that is an error.
    fn fit(self, value: i128, overflow: Overflow) -> Option<i64> {
        let (low, high) = self.range();
        if (low..=high).contains(&value) {
            return Some(value as i64);
        }
        match overflow {
            Overflow::CommandError => None,
            Overflow::Saturate => Some(if value < low { low as i64 } else { high as i64 }),
            Overflow::Wrap => {
                let mask = if self.bits == 64 { u64::MAX } else { (1 << self.bits) - 1 };
                Some(self.number(value as u64 & mask))
            }
        }
    }
}

fn parse(cx: &Context<'_>, args: &Args<'_>, read_only: bool) -> Result<Vec<Step>, CommandError> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut at = 2;
    let mut writes = false;
    while at < args.len() {
        let left = args.len() - at - 1;
        let operands = match () {
            () if args.is(at, "get") && left >= 2 => 2,
            () if (args.is(at, "set") || args.is(at, "incrby")) && left >= 3 => 3,
            () if args.is(at, "overflow") && left >= 1 => {
                overflow = match () {
                    () if args.is(at + 1, "wrap") => Overflow::Wrap,
                    () if args.is(at + 1, "sat") => Overflow::Saturate,
                    () if args.is(at + 1, "fail") => Overflow::CommandError,
                    () => return Err(fail("ERR Invalid OVERFLOW type specified")),
                };
                at += 2;
                continue;
            }
            () => return Err(SYNTAX),
        };
        let field = field_type(args.get(at + 1))?;
        let offset = bit_offset(cx, args.get(at + 2), Some(field.bits))?;
        if (offset + field.bits - 1) / 8 >= cx.string_len_max() {
            return Err(fail("ERR bit offset is not an integer or out of range"));
        }
        let operation = if operands == 2 {
            Operation::Get
        } else if args.is(at, "set") {
            Operation::Set(integer(args.get(at + 3))?)
        } else {
            Operation::Increment(integer(args.get(at + 3))?)
        };
        writes |= operands == 3;
        steps.push(Step { field, offset, operation, overflow });
        at += operands + 1;
    }
    if read_only && writes {
        return Err(fail("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    Ok(steps)
}

fn run(cx: &mut Context<'_>, args: &Args<'_>, read_only: bool) -> Outcome {
    let steps = parse(cx, args, read_only)?;
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let highest = steps
        .iter()
        .filter(|step| !matches!(step.operation, Operation::Get))
        .map(|step| ((step.offset + step.field.bits - 1) / 8) as usize + 1)
        .max();
    let Some(highest) = highest else {
        let value = cx.server.data_mut().read_string(db, key)?;
        cx.out.array(steps.len());
        for step in &steps {
            let copy = |at: usize, into: &mut Bytes| value.map_or(0, |value| value.read(at, into));
            let (raw, _) = read_bits(copy, step.offset, step.field.bits);
            cx.out.integer(step.field.number(raw));
        }
        return Ok(());
    };
    let stored_len = cx.server.data_mut().string_to_write(db, key)?.map_or(0, |value| value.len());
    let grown = stored_len < highest;
    let (answers, changed) =
        cx.server.data_mut().write_string_if(cx.caller.db, key, stored_len.max(highest), |mut string| {
            let mut changed = false;
            let answers = steps
                .iter()
                .map(|step| {
                    let copy = |at: usize, into: &mut Bytes| string.read(at, into);
                    let (raw, mut bytes) = read_bits(copy, step.offset, step.field.bits);
                    let before = step.field.number(raw);
                    let (value, answer_after) = match step.operation {
                        Operation::Get => return Some(before),
                        Operation::Set(value) => {
                            let value = if step.field.signed { i128::from(value) } else { i128::from(value as u64) };
                            (value, false)
                        }
                        Operation::Increment(increment) => (i128::from(before) + i128::from(increment), true),
                    };
                    let after = step.field.fit(value, step.overflow)?;
                    changed |= grown || before != after;
                    put_bits(&mut bytes, step.offset, step.field.bits, after as u64);
                    let touched = (step.offset % 8 + step.field.bits).div_ceil(8) as usize;
                    string.write((step.offset / 8) as usize, &bytes[..touched]);
                    Some(if answer_after { after } else { before })
                })
                .collect::<Vec<Option<i64>>>();
            ((answers, changed), changed)
        })?;
    cx.out.array(steps.len());
    for answer in answers {
        match answer {
            Some(number) => cx.out.integer(number),
            None => cx.out.null(),
        }
    }
    if changed {
        cx.server.data_mut().notify(class::STRING, "setbit", db, key.bytes);
    }
    Ok(())
}

fn bitfield(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    run(cx, args, false)
}

fn bitfield_ro(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    run(cx, args, true)
}

/// What BITFIELD does to its key.
fn bitfield_key_flags(args: &Args<'_>) -> u32 {
    let writes = (2..args.len()).any(|index| args.is(index, "set") || args.is(index, "incrby"));
    if writes { RW | ACCESS | UPDATE } else { RO | ACCESS }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn written_bits_read_back(offset in 0u64..200, bits in 1u64..=64, value: u64, fill: u8) {
            let stored = [fill; 9];
            let read = |bytes: Bytes| read_bits(|_, into| { *into = bytes; 9 }, offset, bits).0;
            let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
            let mut bytes = stored;
            put_bits(&mut bytes, offset, bits, value & mask);
            prop_assert_eq!(read(bytes), value & mask);
            put_bits(&mut bytes, offset, bits, read(stored));
            prop_assert_eq!(bytes, stored);
        }

        #[test]
        fn wrapping_matches_machine_arithmetic(a: i16, b: i16) {
            let field = FieldType { signed: true, bits: 16 };
            prop_assert_eq!(field.fit(i128::from(a) + i128::from(b), Overflow::Wrap), Some(i64::from(a.wrapping_add(b))));
            prop_assert_eq!(field.fit(i128::from(a) + i128::from(b), Overflow::Saturate), Some(i64::from(a.saturating_add(b))));
            prop_assert_eq!(field.fit(i128::from(a) + i128::from(b), Overflow::CommandError), a.checked_add(b).map(i64::from));
        }
    }
}
