//! Setting, counting and removing fields.

use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, NOT_A_FLOAT, OVERFLOW, Outcome, fail, wrong_arity};
use tercel_core::command::parse::integer;
use tercel_core::data::encoding::HashLimits;
use tercel_core::data::{Change, Key};
use tercel_core::dispatch::Context;
use tercel_engine::{FieldMapRef, Text};

use super::answer::put_value;
use super::options::listed;
use super::{has_due, is_due, live, remove_live, tell, text};
use crate::arguments::long_double::LongDouble;

/// What came of setting fields.
#[derive(Default)]
struct Set {
    created: u64,
    /// Of those, fields that were past their deadline.
    overwritten: u64,
}

/// Gives the fields in pairs of arguments from 2 on their values.
fn set_pairs(cx: &mut Context<'_>, args: &Args<'_>) -> Result<u64, CommandError> {
    if !args.len().is_multiple_of(2) {
        return Err(wrong_arity(cx.name()));
    }
    let key = cx.key(args, 1);
    let (limits, expired) = (HashLimits::of(cx.server.settings()), cx.server.data().expired());
    let edited = cx.server.data_mut().edit_fields(cx.caller.db, key, true, |fields| {
        let mut set = Set::default();
        let may_be_due = has_due(fields.view(), expired);
        for index in (2..args.len()).step_by(2) {
            let name = args.get(index);
            let due = may_be_due && fields.view().get(name).is_some_and(|field| is_due(&field, expired));
            let was_there = fields.set(text(args, index), text(args, index + 1), None);
            set.created += u64::from(!was_there || due);
            set.overwritten += u64::from(due);
            limits.grown(fields, name.len(), args.get(index + 1).len());
        }
        Change { result: set, changed: Some((args.len() as u64 - 2) / 2) }
    })?;
    let set = edited.map(|edited| edited.result).unwrap_or_default();
    tell_overwritten(cx, key, set.overwritten);
    tell(cx, "hset", key, false);
    Ok(set.created)
}

/// Fields that were past their deadline got values: first they expired.
pub(super) fn tell_overwritten(cx: &mut Context<'_>, key: Key<'_>, count: u64) {
    if count > 0 {
        cx.server.data_mut().expired_fields(cx.caller.db, key, count);
    }
}

pub(super) fn hset(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let created = set_pairs(cx, args)?;
    cx.out.integer(created as i64);
    Ok(())
}

pub(super) fn hmset(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    set_pairs(cx, args)?;
    cx.out.ok();
    Ok(())
}

pub(super) fn hsetnx(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let found = look(cx, key, args.get(2))?;
    if found.is_live {
        cx.out.flag(false);
        return Ok(());
    }
    let limits = HashLimits::of(cx.server.settings());
    cx.server.data_mut().edit_fields(db, key, true, |fields| {
        fields.set(text(args, 2), text(args, 3), None);
        limits.grown(fields, args.get(2).len(), args.get(3).len());
        Change { result: (), changed: Some(1) }
    })?;
    if found.hash_has_deadlines {
        // Elsewhere it may still be there, past its deadline.
        effect_of_set(cx, args, args.get(3), None);
    }
    tell_overwritten(cx, key, u64::from(found.is_due));
    tell(cx, "hset", key, false);
    cx.out.flag(true);
    Ok(())
}

/// What there is of a field before it is written.
#[derive(Default)]
struct Found {
    is_live: bool,
    is_due: bool,
    /// Its deadline, if it counts as there.
    expire_at: Option<i64>,
    hash_has_deadlines: bool,
}

fn look(cx: &mut Context<'_>, key: Key<'_>, name: &[u8]) -> Result<Found, CommandError> {
    look_with(cx, key, name, |_| Ok(())).map(|(found, _)| found)
}

/// The same, with what `read` makes of its value.
fn look_with<T>(
    cx: &mut Context<'_>,
    key: Key<'_>,
    name: &[u8],
    read: impl FnOnce(&[u8]) -> Result<T, CommandError>,
) -> Result<(Found, Option<T>), CommandError> {
    let expired = cx.server.data().expired();
    let fields: Option<FieldMapRef<'_>> = cx.server.data_mut().fields_to_write(cx.caller.db, key)?;
    let Some(fields) = fields else { return Ok((Found::default(), None)) };
    let field = fields.get(name);
    let is_due = field.is_some_and(|field| is_due(&field, expired));
    let live = field.filter(|_| !is_due);
    let found = Found {
        is_live: live.is_some(),
        is_due,
        expire_at: live.and_then(|field| field.expire_at),
        hash_has_deadlines: fields.soonest().is_some(),
    };
    Ok((found, live.map(|field| read(field.value)).transpose()?))
}

/// What was done was to give the field of argument 2 this value, and this deadline.
fn effect_of_set(cx: &mut Context<'_>, args: &Args<'_>, value: &[u8], expire_at: Option<i64>) {
    cx.effect(|command| {
        command.push(if expire_at.is_some() { &b"HSETEX"[..] } else { b"HSET" });
        command.push_from(args, 1);
        if let Some(at_ms) = expire_at {
            command.push(b"PXAT");
            command.push_number(at_ms);
            command.push(b"FIELDS");
            command.push_number(1);
        }
        command.push_from(args, 2);
        command.push(value);
    });
}

/// Gives the field of argument 2 a number for its value; it keeps its deadline.
fn set_number(cx: &mut Context<'_>, args: &Args<'_>, found: &Found, value: &[u8], what: &'static str) -> Outcome {
    let key = cx.key(args, 1);
    let limits = HashLimits::of(cx.server.settings());
    cx.server.data_mut().edit_fields(cx.caller.db, key, true, |fields| {
        fields.set(text(args, 2), Text::Bytes(value), found.expire_at);
        limits.grown(fields, args.get(2).len(), value.len());
        Change { result: (), changed: Some(1) }
    })?;
    tell_overwritten(cx, key, u64::from(found.is_due));
    tell(cx, what, key, false);
    Ok(())
}

pub(super) fn hincrby(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    const NO_INTEGER: CommandError = fail("ERR hash value is not an integer");
    let increment = integer(args.get(3))?;
    let key = cx.key(args, 1);
    let (found, stored) = look_with(cx, key, args.get(2), |value| integer(value).map_err(|_| NO_INTEGER))?;
    let sum = stored.unwrap_or(0).checked_add(increment).ok_or(OVERFLOW)?;
    let value = sum.to_string();
    if found.hash_has_deadlines {
        // Elsewhere it cannot be known what was there when this ran.
        effect_of_set(cx, args, value.as_bytes(), found.expire_at);
    }
    set_number(cx, args, &found, value.as_bytes(), "hincrby")?;
    cx.out.integer(sum);
    Ok(())
}

pub(super) fn hincrbyfloat(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    const NO_FLOAT: CommandError = fail("ERR hash value is not a float");
    let increment = LongDouble::parse(args.get(3)).ok_or(NOT_A_FLOAT)?;
    if !increment.is_finite() {
        return Err(fail("ERR value is NaN or Infinity"));
    }
    let key = cx.key(args, 1);
    let (found, stored) = look_with(cx, key, args.get(2), |value| LongDouble::parse(value).ok_or(NO_FLOAT))?;
    let stored = stored.unwrap_or(LongDouble::ZERO);
    let sum = stored.checked_add(increment).ok_or(fail("ERR increment would produce NaN or Infinity"))?;
    let value = sum.show();
    effect_of_set(cx, args, &value, found.expire_at);
    set_number(cx, args, &found, &value, "hincrbyfloat")?;
    cx.out.bulk(&value);
    Ok(())
}

pub(super) fn hdel(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let expired = cx.server.data().expired();
    let edited = cx.server.data_mut().edit_fields(cx.caller.db, key, false, |fields| {
        let may_be_due = has_due(fields.view(), expired);
        let removed: Vec<usize> =
            (2..args.len()).filter(|&index| remove_live(fields, args.get(index), expired)).collect();
        let changed = (!removed.is_empty()).then_some(removed.len() as u64);
        Change { result: (removed, may_be_due), changed }
    })?;
    let Some(edited) = edited else {
        cx.out.integer(0);
        return Ok(());
    };
    let (removed, may_be_due) = edited.result;
    if !removed.is_empty() {
        if may_be_due {
            // A field past its deadline is left here, so elsewhere too: the hash is there as long as it is.
            effect_of_removal(cx, args, &removed);
        }
        tell(cx, "hdel", key, edited.is_gone);
    }
    cx.out.count(removed.len());
    Ok(())
}

/// What was done was to remove these fields.
pub(super) fn effect_of_removal(cx: &mut Context<'_>, args: &Args<'_>, indexes: &[usize]) {
    cx.effect(|command| {
        command.push(b"HDEL");
        command.push_from(args, 1);
        indexes.iter().for_each(|&index| command.push_from(args, index));
    });
}

pub(super) fn hgetdel(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let names = listed(args)?;
    let key = cx.key(args, 1);
    let Context { server, caller, out, .. } = &mut *cx;
    let expired = server.data().expired();
    let edited = server.data_mut().edit_fields(caller.db, key, false, |fields| {
        out.array(names.len());
        let mut removed = Vec::new();
        for index in names.clone() {
            let name = args.get(index);
            match live(fields.view(), name, expired) {
                Some(field) => put_value(out, fields.view(), field),
                None => {
                    out.null();
                    continue;
                }
            }
            fields.remove(name);
            removed.push(index);
        }
        let changed = (!removed.is_empty()).then_some(removed.len() as u64);
        Change { result: removed, changed }
    })?;
    match edited {
        None => {
            cx.out.array(names.len());
            names.for_each(|_| cx.out.null());
        }
        Some(edited) if !edited.result.is_empty() => {
            effect_of_removal(cx, args, &edited.result);
            tell(cx, "hdel", key, edited.is_gone);
        }
        Some(_) => {}
    }
    Ok(())
}
