//! SET and its options, which GETEX and MSETEX share.

use tercel_engine::Expire;
use tercel_resp::number::parse_i64;

use super::new_value;
use crate::arguments::expiry::{ExpiryUnit, effect_of_deadline, expiry_time};
use tercel_core::command::args::Args;
use tercel_core::command::error::{self as fail, CommandError, Outcome, SYNTAX};
use tercel_core::command::event_class as class;
use tercel_core::data::Key;
use tercel_core::dispatch::Context;

/// What SET, GETEX and MSETEX accept behind their keys and values.
#[derive(Default)]
struct SetOptions {
    if_missing: bool,
    if_present: bool,
    /// Index of the value of IFEQ.
    if_equal: Option<usize>,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    /// Index of the time, and what it means.
    expiry: Option<(usize, ExpiryUnit)>,
}

/// Which options a command takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Set,
    GetEx,
    MSetEx,
}

fn set_options(args: &Args<'_>, from: usize, takes: Takes) -> Result<SetOptions, CommandError> {
    let mut options = SetOptions::default();
    let mut at = from;
    while at < args.len() {
        let has_next = at + 1 < args.len();
        // A word may come twice, two different words that contradict each other may not.
        let expiry_is = |unit: ExpiryUnit| options.expiry.is_none_or(|(_, given)| given == unit);
        let lasting = options.keep_ttl || options.persist;
        let unit = [
            ("ex", ExpiryUnit::SECONDS),
            ("px", ExpiryUnit::MILLISECONDS),
            ("exat", ExpiryUnit::UNIX_SECONDS),
            ("pxat", ExpiryUnit::UNIX_MILLISECONDS),
        ]
        .into_iter()
        .find(|(word, _)| args.is(at, word));
        if let Some((_, unit)) = unit {
            if lasting || !expiry_is(unit) || !has_next {
                return Err(SYNTAX);
            }
            at += 1;
            options.expiry = Some((at, unit));
        } else if takes != Takes::GetEx && args.is(at, "nx") && !options.if_present && options.if_equal.is_none() {
            options.if_missing = true;
        } else if takes != Takes::GetEx && args.is(at, "xx") && !options.if_missing && options.if_equal.is_none() {
            options.if_present = true;
        } else if takes == Takes::Set
            && args.is(at, "ifeq")
            && has_next
            && !options.if_missing
            && !options.if_present
            && options.if_equal.is_none()
        {
            at += 1;
            options.if_equal = Some(at);
        } else if takes == Takes::Set && args.is(at, "get") {
            options.get = true;
        } else if takes != Takes::GetEx && args.is(at, "keepttl") && options.expiry.is_none() {
            options.keep_ttl = true;
        } else if takes == Takes::GetEx && args.is(at, "persist") && options.expiry.is_none() {
            options.persist = true;
        } else {
            return Err(SYNTAX);
        }
        at += 1;
    }
    Ok(options)
}

pub(super) fn set(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    if args.len() == 3 {
        let db = cx.caller.db;
        cx.server.data_mut().expire_if_due(db, key);
        cx.server.data_mut().store(db, key, new_value(args, 2), Expire::Clear);
        cx.server.data_mut().notify(class::STRING, "set", db, key.bytes);
        cx.out.ok();
        return Ok(());
    }
    set_with_options(cx, args, key)
}

fn set_with_options(cx: &mut Context<'_>, args: &Args<'_>, key: Key<'_>) -> Outcome {
    let options = set_options(args, 3, Takes::Set)?;
    let db = cx.caller.db;
    let at_ms = options.expiry.map(|(index, unit)| expiry_time(cx, args.get(index), unit)).transpose()?;
    cx.server.data_mut().expire_if_due(db, key);
    if options.get {
        match cx.server.data_mut().read_string(db, key)? {
            Some(value) => cx.out.value(value),
            None => cx.out.null(),
        }
    }
    let stored = cx.server.data().peek(db, key);
    let goes_on = match (&stored, options.if_equal) {
        (Some(entry), Some(index)) => entry.string()?.equals(args.get(index)),
        (None, Some(_)) => false,
        (Some(_), None) => !options.if_missing,
        (None, None) => !options.if_present,
    };
    if !goes_on {
        if !options.get {
            cx.out.null();
        }
        return Ok(());
    }
    let expire = match at_ms {
        Some(at_ms) if cx.server.data().expired().is_past(at_ms) => {
            // A time in the past: the key is gone at once.
            cx.server.data_mut().delete_as_expired(db, key);
            if !options.get {
                cx.out.ok();
            }
            return Ok(());
        }
        Some(at_ms) => Expire::At(at_ms),
        None if options.keep_ttl => Expire::Keep,
        None => Expire::Clear,
    };
    cx.server.data_mut().store(db, key, new_value(args, 2), expire);
    if at_ms.is_some() || options.get {
        effect_of_set(cx, args, 2, expire);
    }
    cx.server.data_mut().notify(class::STRING, "set", db, key.bytes);
    if at_ms.is_some() {
        cx.server.data_mut().notify(class::GENERIC, "expire", db, key.bytes);
    }
    if !options.get {
        cx.out.ok();
    }
    Ok(())
}

/// What was done was to give the key of argument 1 the value of argument `value` with a deadline that is
/// absolute.
pub(super) fn effect_of_set(cx: &mut Context<'_>, args: &Args<'_>, value: usize, expire: Expire) {
    cx.effect(|command| {
        command.push(b"SET");
        command.push_from(args, 1);
        command.push_from(args, value);
        match expire {
            Expire::At(at_ms) => {
                command.push(b"PXAT");
                command.push_number(at_ms);
            }
            Expire::Keep => command.push(b"KEEPTTL"),
            Expire::Clear => {}
        }
    });
}

pub(super) fn getex(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let options = set_options(args, 2, Takes::GetEx)?;
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let at_ms = options.expiry.map(|(index, unit)| expiry_time(cx, args.get(index), unit)).transpose()?;
    let had_expiry = match cx.server.data_mut().read(db, key) {
        None => {
            cx.out.null();
            return Ok(());
        }
        Some(entry) => {
            cx.out.value(entry.string()?);
            entry.expire_at().is_some()
        }
    };
    match at_ms {
        Some(at_ms) if cx.server.data().expired().is_past(at_ms) => cx.server.data_mut().delete_as_expired(db, key),
        Some(at_ms) => {
            cx.server.data_mut().set_expire(db, key, Some(at_ms));
            effect_of_deadline(cx, key.bytes, Some(at_ms));
            cx.server.data_mut().notify(class::GENERIC, "expire", db, key.bytes);
        }
        None if options.persist && had_expiry => {
            cx.server.data_mut().set_expire(db, key, None);
            effect_of_deadline(cx, key.bytes, None);
            cx.server.data_mut().notify(class::GENERIC, "persist", db, key.bytes);
        }
        None => {}
    }
    Ok(())
}

pub(super) fn set_many(cx: &mut Context<'_>, args: &Args<'_>, indexes: impl Iterator<Item = usize>, expire: Expire) {
    let db = cx.caller.db;
    for index in indexes {
        let key = cx.key(args, index);
        cx.server.data_mut().expire_if_due(db, key);
        cx.server.data_mut().store(db, key, new_value(args, index + 1), expire);
        cx.server.data_mut().notify(class::STRING, "set", db, key.bytes);
        if matches!(expire, Expire::At(_)) {
            cx.server.data_mut().notify(class::GENERIC, "expire", db, key.bytes);
        }
    }
}

pub(super) fn msetex(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let count = parse_i64(args.get(1))
        .filter(|count| (1..=i64::from(i32::MAX)).contains(count))
        .ok_or(fail::fail("ERR invalid numkeys value or out of range"))? as usize;
    let options_at = 2 + count * 2;
    if options_at > args.len() {
        return Err(SYNTAX);
    }
    let options = set_options(args, options_at, Takes::MSetEx)?;
    let at_ms = options.expiry.map(|(index, unit)| expiry_time(cx, args.get(index), unit)).transpose()?;
    let mut indexes = (2..options_at).step_by(2);
    let fits = indexes.all(|index| {
        let key = cx.key(args, index);
        let exists = cx.server.data().exists(cx.caller.db, key);
        !(options.if_missing && exists || options.if_present && !exists)
    });
    if fits {
        let indexes = (2..options_at).step_by(2);
        match at_ms {
            // A time in the past stores them all the same: they expire at once.
            Some(at_ms) => {
                set_many(cx, args, indexes, Expire::At(at_ms));
                cx.effect(|command| {
                    (0..options_at).for_each(|index| command.push_from(args, index));
                    command.push(b"PXAT");
                    command.push_number(at_ms);
                });
            }
            None => set_many(cx, args, indexes, if options.keep_ttl { Expire::Keep } else { Expire::Clear }),
        }
    }
    cx.out.flag(fits);
    Ok(())
}
