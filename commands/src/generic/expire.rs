//! Expiry: setting, removing and asking for the time a key lives. Times are made absolute here.

use crate::arguments::expiry::{ExpiryUnit, absolute_ms, conditions, effect_of_deadline};
use tercel_core::command::args::Args;
use tercel_core::command::error::Outcome;
use tercel_core::command::event_class as class;
use tercel_core::command::key_positions::keys_at;
use tercel_core::command::spec::{Group, acl};
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::dispatch::Context;
use tercel_core::dispatch::{Command, cmd};

pub(crate) static COMMANDS: &[Command] = &[
    cmd("expire", Group::Generic, "1.0.0", -3, WRITE | FAST, expire)
        .about("Sets a key's expiry in seconds from now.", "O(1)")
        .keys(&[keys_at(RW | UPDATE, 1, 0, 1)])
        .args("key:key seconds:integer [condition(NX|XX|GT|LT)]")
        .acl(acl::KEYSPACE),
    cmd("pexpire", Group::Generic, "2.6.0", -3, WRITE | FAST, pexpire)
        .about("Sets a key's expiry in milliseconds from now.", "O(1)")
        .keys(&[keys_at(RW | UPDATE, 1, 0, 1)])
        .args("key:key milliseconds:integer [condition(NX|XX|GT|LT)]")
        .acl(acl::KEYSPACE),
    cmd("expireat", Group::Generic, "1.2.0", -3, WRITE | FAST, expireat)
        .about("Sets a key's expiry to a time in seconds.", "O(1)")
        .keys(&[keys_at(RW | UPDATE, 1, 0, 1)])
        .args("key:key unix-time-seconds:unix-time [condition(NX|XX|GT|LT)]")
        .acl(acl::KEYSPACE),
    cmd("pexpireat", Group::Generic, "2.6.0", -3, WRITE | FAST, pexpireat)
        .about("Sets a key's expiry to a time in milliseconds.", "O(1)")
        .keys(&[keys_at(RW | UPDATE, 1, 0, 1)])
        .args("key:key unix-time-milliseconds:unix-time [condition(NX|XX|GT|LT)]")
        .acl(acl::KEYSPACE),
    cmd("ttl", Group::Generic, "1.0.0", 2, READONLY | FAST, ttl)
        .about("Returns how long a key still lives in seconds.", "O(1)")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key")
        .acl(acl::KEYSPACE)
        .tips(&["nondeterministic_output"]),
    cmd("pttl", Group::Generic, "2.6.0", 2, READONLY | FAST, pttl)
        .about("Returns how long a key still lives in milliseconds.", "O(1)")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key")
        .acl(acl::KEYSPACE)
        .tips(&["nondeterministic_output"]),
    cmd("expiretime", Group::Generic, "7.0.0", 2, READONLY | FAST, expiretime)
        .about("Returns the time a key expires in seconds.", "O(1)")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key")
        .acl(acl::KEYSPACE),
    cmd("pexpiretime", Group::Generic, "7.0.0", 2, READONLY | FAST, pexpiretime)
        .about("Returns the time a key expires in milliseconds.", "O(1)")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key")
        .acl(acl::KEYSPACE),
    cmd("persist", Group::Generic, "2.2.0", 2, WRITE | FAST, persist)
        .about("Removes a key's expiry.", "O(1)")
        .keys(&[keys_at(RW | UPDATE, 1, 0, 1)])
        .args("key:key")
        .acl(acl::KEYSPACE),
];

fn set_expiry(cx: &mut Context<'_>, args: &Args<'_>, unit: ExpiryUnit) -> Outcome {
    let conditions = conditions(args, 3..args.len())?;
    let at_ms = absolute_ms(cx, args.get(2), unit)?;
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let Some(stored) = cx.server.data_mut().peek_to_write(db, key).map(|entry| entry.expire_at()) else {
        cx.out.integer(0);
        return Ok(());
    };
    let refused = conditions.refuse(stored, at_ms);
    if refused {
        cx.out.integer(0);
        return Ok(());
    }
    if cx.server.data().expired().is_past(at_ms) {
        cx.server.data_mut().delete_as_expired(db, key);
    } else {
        cx.server.data_mut().set_expire(db, key, Some(at_ms));
        effect_of_deadline(cx, key.bytes, Some(at_ms));
        cx.server.data_mut().notify(class::GENERIC, "expire", db, key.bytes);
    }
    cx.out.integer(1);
    Ok(())
}

fn expire(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    set_expiry(cx, args, ExpiryUnit::SECONDS)
}

fn pexpire(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    set_expiry(cx, args, ExpiryUnit::MILLISECONDS)
}

fn expireat(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    set_expiry(cx, args, ExpiryUnit::UNIX_SECONDS)
}

fn pexpireat(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    set_expiry(cx, args, ExpiryUnit::UNIX_MILLISECONDS)
}

/// Answers -2 for a missing key, -1 for one without expiry, else what `show` makes of the expiry.
fn ask(cx: &mut Context<'_>, args: &Args<'_>, show: impl FnOnce(i64, i64) -> i64) -> Outcome {
    let key = cx.key(args, 1);
    let now_ms = cx.server.now().unix_ms;
    let answer = match cx.server.data().peek(cx.caller.db, key) {
        None => -2,
        Some(entry) => entry.expire_at().map_or(-1, |at_ms| show(at_ms, now_ms)),
    };
    if answer == -2 {
        cx.server.data_mut().expire_if_due(cx.caller.db, key);
    }
    cx.out.integer(answer);
    Ok(())
}

fn ttl(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    ask(cx, args, |at_ms, now_ms| (at_ms - now_ms + 500) / 1000)
}

fn pttl(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    ask(cx, args, |at_ms, now_ms| at_ms - now_ms)
}

fn expiretime(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    ask(cx, args, |at_ms, _| ((i128::from(at_ms) + 500) / 1000) as i64)
}

fn pexpiretime(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    ask(cx, args, |at_ms, _| at_ms)
}

fn persist(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let had_expiry = cx.server.data_mut().peek_to_write(db, key).is_some_and(|entry| entry.expire_at().is_some());
    if had_expiry {
        cx.server.data_mut().set_expire(db, key, None);
        cx.server.data_mut().notify(class::GENERIC, "persist", db, key.bytes);
    }
    cx.out.flag(had_expiry);
    Ok(())
}
