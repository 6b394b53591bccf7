//! Strings: GET and SET and what is made of them. Bit operations and LCS have files of their own.

pub(super) mod lcs;
mod long;
mod set;

use tercel_engine::{Expire, NewValue, StringRef};

use crate::arguments::expiry::{ExpiryUnit, effect_of_delete, expiry_time};
use crate::arguments::long_double::LongDouble;
use set::{effect_of_set, getex, msetex, set, set_many};
use tercel_core::command::args::Args;
use tercel_core::command::error::{
    self as fail, CommandError, NOT_A_FLOAT, NOT_AN_INTEGER, OVERFLOW, Outcome, TOO_LONG,
};
use tercel_core::command::event_class as class;
use tercel_core::command::key_positions::{keys_at, keys_counted};
use tercel_core::command::parse::integer;
use tercel_core::command::spec::{Group, acl};
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::dispatch::Context;
use tercel_core::dispatch::{Command, cmd};

pub(crate) static COMMANDS: &[Command] = &[
    cmd("get", Group::String, "1.0.0", 2, READONLY | FAST, get)
        .about("Returns the string stored at a key.", "O(1)")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key")
        .acl(acl::STRING),
    cmd("set", Group::String, "1.0.0", -3, WRITE | DENYOOM, set)
        .about("Stores a string, whatever was there before.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | UPDATE | VARIABLE_FLAGS, 1, 0, 1)])
        .key_flags(set_key_flags)
        .args("key:key value:string [condition(NX|XX|IFEQ comparison-value:string)] [GET] [expiration(EX seconds:integer|PX milliseconds:integer|EXAT unix-time-seconds:unix-time|PXAT unix-time-milliseconds:unix-time|KEEPTTL)]")
        .acl(acl::STRING),
    cmd("setnx", Group::String, "1.0.0", 3, WRITE | DENYOOM | FAST, setnx)
        .about("Stores a string if the key is missing.", "O(1)")
        .keys(&[keys_at(OW | INSERT, 1, 0, 1)])
        .args("key:key value:string")
        .acl(acl::STRING),
    cmd("setex", Group::String, "2.0.0", 4, WRITE | DENYOOM, setex)
        .about("Stores a string with an expiry in seconds.", "O(1)")
        .keys(&[keys_at(OW | UPDATE, 1, 0, 1)])
        .args("key:key seconds:integer value:string")
        .acl(acl::STRING),
    cmd("psetex", Group::String, "2.6.0", 4, WRITE | DENYOOM, psetex)
        .about("Stores a string with an expiry in milliseconds.", "O(1)")
        .keys(&[keys_at(OW | UPDATE, 1, 0, 1)])
        .args("key:key milliseconds:integer value:string")
        .acl(acl::STRING),
    cmd("getset", Group::String, "1.0.0", 3, WRITE | DENYOOM | FAST, getset)
        .about("Stores a string and returns the one before it.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | UPDATE, 1, 0, 1)])
        .args("key:key value:string")
        .acl(acl::STRING),
    cmd("getdel", Group::String, "6.2.0", 2, WRITE | FAST, getdel)
        .about("Returns a string and deletes its key.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | DELETE, 1, 0, 1)])
        .args("key:key")
        .acl(acl::STRING),
    cmd("getex", Group::String, "6.2.0", -2, WRITE | FAST, getex)
        .about("Returns a string and sets or removes its expiry.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | UPDATE, 1, 0, 1)])
        .args("key:key [expiration(EX seconds:integer|PX milliseconds:integer|EXAT unix-time-seconds:unix-time|PXAT unix-time-milliseconds:unix-time|PERSIST)]")
        .acl(acl::STRING),
    cmd("mget", Group::String, "1.0.0", -2, READONLY | FAST, mget)
        .about("Returns the strings stored at several keys.", "O(N)")
        .keys(&[keys_at(RO | ACCESS, 1, -1, 1)])
        .args("key:key...")
        .acl(acl::STRING)
        .tips(&["request_policy:multi_shard"]),
    cmd("mset", Group::String, "1.0.1", -3, WRITE | DENYOOM, mset)
        .about("Stores several strings at once.", "O(N)")
        .keys(&[keys_at(OW | UPDATE, 1, -1, 2)])
        .args("data{key:key value:string}...")
        .acl(acl::STRING)
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"]),
    cmd("msetnx", Group::String, "1.0.1", -3, WRITE | DENYOOM, msetnx)
        .about("Stores several strings, or none if one of the keys exists.", "O(N)")
        .keys(&[keys_at(OW | INSERT, 1, -1, 2)])
        .args("data{key:key value:string}...")
        .acl(acl::STRING),
    cmd("msetex", Group::String, "9.1.0", -4, WRITE | DENYOOM, msetex)
        .about("Stores several strings at once, with a condition and one expiry for all.", "O(N)")
        .keys(&[keys_counted(OW | UPDATE, 1, 0, 1, 2)])
        .args("numkeys:integer data{key:key value:string}... [condition(NX|XX)] [expiration(EX seconds:integer|PX milliseconds:integer|EXAT unix-time-seconds:unix-time|PXAT unix-time-milliseconds:unix-time|KEEPTTL)]")
        .acl(acl::STRING)
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"]),
    cmd("append", Group::String, "2.0.0", 3, WRITE | DENYOOM | FAST, append)
        .about("Appends to a string and returns its new length; a missing key counts as empty.", "O(1)")
        .keys(&[keys_at(RW | INSERT, 1, 0, 1)])
        .args("key:key value:string")
        .acl(acl::STRING),
    cmd("strlen", Group::String, "2.2.0", 2, READONLY | FAST, strlen)
        .about("Returns the length of a string.", "O(1)")
        .keys(&[keys_at(RO, 1, 0, 1)])
        .args("key:key")
        .acl(acl::STRING),
    cmd("getrange", Group::String, "2.4.0", 4, READONLY, getrange)
        .about("Returns a part of a string.", "O(N)")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key start:integer end:integer")
        .acl(acl::STRING),
    cmd("substr", Group::String, "1.0.0", 4, READONLY, substr)
        .about("Returns a part of a string.", "O(N)")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key start:integer end:integer")
        .acl(acl::STRING),
    cmd("setrange", Group::String, "2.2.0", 4, WRITE | DENYOOM, setrange)
        .about("Overwrites a part of a string from an offset on.", "O(1)")
        .keys(&[keys_at(RW | UPDATE, 1, 0, 1)])
        .args("key:key offset:integer value:string")
        .acl(acl::STRING),
    cmd("incr", Group::String, "1.0.0", 2, WRITE | DENYOOM | FAST, incr)
        .about("Adds one to an integer; a missing key counts as 0.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | UPDATE, 1, 0, 1)])
        .args("key:key")
        .acl(acl::STRING),
    cmd("decr", Group::String, "1.0.0", 2, WRITE | DENYOOM | FAST, decr)
        .about("Subtracts one from an integer; a missing key counts as 0.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | UPDATE, 1, 0, 1)])
        .args("key:key")
        .acl(acl::STRING),
    cmd("incrby", Group::String, "1.0.0", 3, WRITE | DENYOOM | FAST, incrby)
        .about("Adds a number to an integer; a missing key counts as 0.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | UPDATE, 1, 0, 1)])
        .args("key:key increment:integer")
        .acl(acl::STRING),
    cmd("decrby", Group::String, "1.0.0", 3, WRITE | DENYOOM | FAST, decrby)
        .about("Subtracts a number from an integer; a missing key counts as 0.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | UPDATE, 1, 0, 1)])
        .args("key:key decrement:integer")
        .acl(acl::STRING),
    cmd("incrbyfloat", Group::String, "2.6.0", 3, WRITE | DENYOOM | FAST, incrbyfloat)
        .about("Adds to a floating point number; a missing key counts as 0.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | UPDATE, 1, 0, 1)])
        .args("key:key increment:double")
        .acl(acl::STRING),
    cmd("delifeq", Group::String, "9.0.0", 3, FAST | WRITE, delifeq)
        .about("Deletes a key if its value equals the one given.", "O(1)")
        .keys(&[keys_at(RM | DELETE, 1, 0, 1)])
        .args("key:key value:string")
        .acl(acl::STRING),
];

fn get(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    match cx.server.data_mut().read(cx.caller.db, key) {
        Some(entry) => cx.out.value(entry.string()?),
        None => cx.out.null(),
    }
    Ok(())
}

/// The value argument as it is stored: by reference where it was collected on its way in.
fn new_value<'a>(args: &Args<'a>, index: usize) -> NewValue<'a> {
    match args.blob(index) {
        Some(blob) => NewValue::Blob(blob.clone()),
        None => NewValue::Bytes(args.get(index)),
    }
}

fn setnx(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let free = cx.server.data_mut().peek_to_write(db, key).is_none();
    if free {
        cx.server.data_mut().store(db, key, new_value(args, 2), Expire::Clear);
        cx.server.data_mut().notify(class::STRING, "set", db, key.bytes);
    }
    cx.out.flag(free);
    Ok(())
}

fn set_with_ttl(cx: &mut Context<'_>, args: &Args<'_>, unit: ExpiryUnit) -> Outcome {
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let at_ms = expiry_time(cx, args.get(2), unit)?;
    cx.server.data_mut().expire_if_due(db, key);
    cx.server.data_mut().store(db, key, new_value(args, 3), Expire::At(at_ms));
    effect_of_set(cx, args, 3, Expire::At(at_ms));
    cx.server.data_mut().notify(class::STRING, "set", db, key.bytes);
    cx.server.data_mut().notify(class::GENERIC, "expire", db, key.bytes);
    cx.out.ok();
    Ok(())
}

fn setex(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    set_with_ttl(cx, args, ExpiryUnit::SECONDS)
}

fn psetex(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    set_with_ttl(cx, args, ExpiryUnit::MILLISECONDS)
}

fn getset(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    get(cx, args)?;
    let db = cx.caller.db;
    cx.server.data_mut().expire_if_due(db, key);
    cx.server.data_mut().store(db, key, new_value(args, 2), Expire::Clear);
    effect_of_set(cx, args, 2, Expire::Clear);
    cx.server.data_mut().notify(class::STRING, "set", db, key.bytes);
    Ok(())
}

fn getdel(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    get(cx, args)?;
    if cx.server.data_mut().delete(cx.caller.db, key) {
        effect_of_delete(cx, key.bytes);
    }
    Ok(())
}

fn mget(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    cx.out.array(args.len() - 1);
    for index in 1..args.len() {
        let key = cx.key(args, index);
        match cx.server.data_mut().read(cx.caller.db, key) {
            Some(entry) if entry.string().is_err() => cx.out.null(),
            Some(entry) => cx.out.value(entry.string()?),
            None => cx.out.null(),
        }
    }
    Ok(())
}

fn mset(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    if args.len().is_multiple_of(2) {
        return Err(fail::wrong_arity("mset"));
    }
    set_many(cx, args, (1..args.len()).step_by(2), Expire::Clear);
    cx.out.ok();
    Ok(())
}

fn msetnx(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    if args.len().is_multiple_of(2) {
        return Err(fail::wrong_arity("msetnx"));
    }
    let any = (1..args.len()).step_by(2).any(|index| {
        let key = cx.key(args, index);
        cx.server.data().exists(cx.caller.db, key)
    });
    if !any {
        set_many(cx, args, (1..args.len()).step_by(2), Expire::Clear);
    }
    cx.out.flag(!any);
    Ok(())
}

/// Refuses a string longer than `proto-max-bulk-len`.
pub(super) fn check_length(cx: &Context<'_>, len: u64) -> Result<(), CommandError> {
    if len > cx.string_len_max() { Err(TOO_LONG) } else { Ok(()) }
}

fn append(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let tail = args.get(2);
    let stored_len = cx.server.data_mut().string_to_write(db, key)?.map(|value| value.len());
    let new_len = match stored_len {
        None => {
            cx.server.data_mut().store(db, key, new_value(args, 2), Expire::Clear);
            tail.len()
        }
        Some(len) => {
            check_length(cx, len as u64 + tail.len() as u64)?;
            let data = cx.server.data_mut();
            match args.blob(2) {
                Some(blob) => data.append_string(db, key, blob)?,
                None => {
                    data.write_string(db, key, len + tail.len(), |mut string| string.write(len, tail)).map(|()| None)?
                }
            };
            len + tail.len()
        }
    };
    cx.server.data_mut().notify(class::STRING, "append", db, key.bytes);
    cx.out.count(new_len);
    Ok(())
}

fn strlen(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let len = cx.server.data_mut().read_string(cx.caller.db, key)?.map_or(0, |value| value.len());
    cx.out.count(len);
    Ok(())
}

/// Turns a range with negative ends into offsets within `len`; `None` if it is empty.
pub(super) fn clamp_range(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    let len = len as i64;
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let from_end = |at: i64| if at < 0 { (len + at).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    (len > 0 && start <= end).then_some((start as usize, end as usize))
}

fn getrange(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let (start, end) = (integer(args.get(2))?, integer(args.get(3))?);
    let key = cx.key(args, 1);
    match cx.server.data_mut().read(cx.caller.db, key) {
        None => cx.out.bulk(""),
        Some(entry) => {
            let value = entry.string()?;
            match (clamp_range(start, end, value.len()), value) {
                (None, _) => cx.out.bulk(""),
                (Some((start, end)), StringRef::Long(long)) => cx.out.part_of(long, start..end + 1),
                (Some((start, end)), short) => {
                    short.with_bytes(|bytes| cx.out.bulk(&bytes[start..=end]));
                }
            }
        }
    }
    Ok(())
}

fn substr(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    getrange(cx, args)
}

fn setrange(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let offset = integer(args.get(2))?;
    let Ok(offset) = u64::try_from(offset) else {
        return Err(fail::fail("ERR offset is out of range"));
    };
    let piece = args.get(3);
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let stored_len = cx.server.data_mut().string_to_write(db, key)?.map(|value| value.len());
    if piece.is_empty() {
        cx.out.count(stored_len.unwrap_or(0));
        return Ok(());
    }
    check_length(cx, offset.saturating_add(piece.len() as u64))?;
    let offset = offset as usize;
    let len = stored_len.unwrap_or(0).max(offset + piece.len());
    if piece.len() > long::AT_ONCE_BYTES {
        return long::set_range(cx, args, offset, len);
    }
    cx.server.data_mut().write_string(cx.caller.db, key, len, |mut string| string.write(offset, piece))?;
    cx.server.data_mut().notify(class::STRING, "setrange", db, key.bytes);
    cx.out.count(len);
    Ok(())
}

fn add(cx: &mut Context<'_>, args: &Args<'_>, increment: i64) -> Outcome {
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let stored = match cx.server.data_mut().peek_to_write(db, key) {
        None => 0,
        Some(entry) => entry.string()?.as_int().ok_or(NOT_AN_INTEGER)?,
    };
    let sum = stored.checked_add(increment).ok_or(OVERFLOW)?;
    cx.server.data_mut().store(db, key, NewValue::Int(sum), Expire::Keep);
    cx.server.data_mut().notify(class::STRING, "incrby", db, key.bytes);
    cx.out.integer(sum);
    Ok(())
}

fn incr(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    add(cx, args, 1)
}

fn decr(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    add(cx, args, -1)
}

fn incrby(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let increment = integer(args.get(2))?;
    add(cx, args, increment)
}

fn decrby(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let decrement = integer(args.get(2))?;
    let increment = decrement.checked_neg().ok_or(fail::fail("ERR decrement would overflow"))?;
    add(cx, args, increment)
}

fn incrbyfloat(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let stored = match cx.server.data_mut().peek_to_write(db, key) {
        None => LongDouble::ZERO,
        Some(entry) => entry.string()?.with_bytes(LongDouble::parse).flatten().ok_or(NOT_A_FLOAT)?,
    };
    let increment = LongDouble::parse(args.get(2)).ok_or(NOT_A_FLOAT)?;
    let sum = stored.checked_add(increment).ok_or(fail::fail("ERR increment would produce NaN or Infinity"))?;
    let text = sum.show();
    cx.server.data_mut().store(db, key, NewValue::Bytes(&text), Expire::Keep);
    cx.effect(|command| {
        for word in [b"SET", key.bytes, &text, b"KEEPTTL"] {
            command.push(word);
        }
    });
    cx.server.data_mut().notify(class::STRING, "incrbyfloat", db, key.bytes);
    cx.out.bulk(&text);
    Ok(())
}

fn delifeq(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let equal = cx.server.data_mut().string_to_write(db, key)?.is_some_and(|value| value.equals(args.get(2)));
    let deleted = equal && cx.server.data_mut().delete(db, key);
    if deleted {
        effect_of_delete(cx, key.bytes);
    }
    cx.out.flag(deleted);
    Ok(())
}

/// What SET does to its key.
fn set_key_flags(args: &Args<'_>) -> u32 {
    let reads = (3..args.len()).any(|index| args.is(index, "get") || args.is(index, "ifeq"));
    if reads { RW | ACCESS | UPDATE } else { OW | UPDATE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_clamp() {
        assert_eq!(clamp_range(0, -1, 5), Some((0, 4)));
        assert_eq!(clamp_range(-3, -2, 5), Some((2, 3)));
        assert_eq!(clamp_range(-2, -3, 5), None);
        assert_eq!(clamp_range(5, 9, 5), None);
        assert_eq!(clamp_range(-100, 1, 5), Some((0, 1)));
        assert_eq!(clamp_range(0, 0, 0), None);
        assert_eq!(clamp_range(0, -100, 5), Some((0, 0)));
    }
}
