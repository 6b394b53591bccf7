//! Setting, counting and removing fields.

use tercel_core::command::error::{CommandError, NOT_A_FLOAT, OVERFLOW, Outcome, fail, wrong_arity};
use tercel_core::command::parse::integer;
use tercel_core::command::{Args, Reply};
use tercel_core::data::encoding::HashLimits;
use tercel_core::data::{Change, Dataset, Expired, Key};
use tercel_core::dispatch::Context;
use tercel_engine::{FieldMap, FieldMapRef, Text};

use super::answer::put_value;
use super::each::{Done, ForEach, for_each};
use super::options::listed;
use super::{has_due, is_due, live, remove_live, tell, text};
use crate::arguments::long_double::LongDouble;

/// HSET: gives fields the values that follow them.
struct SetPairs {
    limits: HashLimits,
    expired: Expired,
    set: u64,
    created: u64,
    /// Of those, fields that were past their deadline.
    overwritten: u64,
    /// Whether any field may be past its deadline.
    may_be_due: Option<bool>,
    /// How many are new is answered.
    counts: bool,
}

impl ForEach for SetPairs {
    const MAKES: bool = true;

    fn each(&mut self, fields: &mut FieldMap, args: &Args<'_>, index: usize, _: &mut Reply) {
        let name = args.get(index);
        let may_be_due = *self.may_be_due.get_or_insert_with(|| has_due(fields.view(), self.expired));
        let due = may_be_due && fields.view().get(name).is_some_and(|field| is_due(&field, self.expired));
        let was_there = fields.set(text(args, index), text(args, index + 1), None);
        self.set += 1;
        self.created += u64::from(!was_there || due);
        self.overwritten += u64::from(due);
        self.limits.grown(fields, name.len(), args.get(index + 1).len());
    }

    fn changes(&self) -> Option<u64> {
        Some(self.set)
    }

    fn tell(&mut self, done: &mut Done<'_>, _: &Args<'_>) {
        tell_overwritten(done.data, done.db, done.key, self.overwritten);
        tell(done.data, done.db, "hset", done.key, false);
    }

    fn end(&self, answer: &mut Reply) {
        if self.counts { answer.integer(self.created as i64) } else { answer.ok() }
    }
}

/// Gives the fields in pairs of arguments from 2 on their values.
fn set_pairs(cx: &mut Context<'_>, args: &Args<'_>, counts: bool) -> Outcome {
    if !args.len().is_multiple_of(2) {
        return Err(wrong_arity(cx.name()));
    }
    let (limits, expired) = (HashLimits::of(cx.server.settings()), cx.server.data().expired());
    let job = SetPairs { limits, expired, set: 0, created: 0, overwritten: 0, may_be_due: None, counts };
    for_each(cx, args, (2..args.len()).step_by(2), job)
}

/// Fields that were past their deadline got values: first they expired.
pub(super) fn tell_overwritten(data: &mut Dataset, db: usize, key: &[u8], count: u64) {
    if count > 0 {
        let key = data.key(key);
        data.expired_fields(db, key, count);
    }
}

pub(super) fn hset(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    set_pairs(cx, args, true)
}

pub(super) fn hmset(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    set_pairs(cx, args, false)
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
    tell_overwritten(cx.server.data_mut(), cx.caller.db, key.bytes, u64::from(found.is_due));
    tell(cx.server.data_mut(), cx.caller.db, "hset", key.bytes, false);
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
    tell_overwritten(cx.server.data_mut(), cx.caller.db, key.bytes, u64::from(found.is_due));
    tell(cx.server.data_mut(), cx.caller.db, what, key.bytes, false);
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

/// HDEL.
struct Remove {
    expired: Expired,
    /// Arguments of the fields that were removed.
    removed: Vec<usize>,
    may_be_due: bool,
}

impl ForEach for Remove {
    const MAKES: bool = false;

    fn each(&mut self, fields: &mut FieldMap, args: &Args<'_>, index: usize, _: &mut Reply) {
        self.may_be_due |= has_due(fields.view(), self.expired);
        if remove_live(fields, args.get(index), self.expired) {
            self.removed.push(index);
        }
    }

    fn changes(&self) -> Option<u64> {
        changes(&self.removed)
    }

    fn tell(&mut self, done: &mut Done<'_>, args: &Args<'_>) {
        if !self.removed.is_empty() {
            if self.may_be_due {
                // A field past its deadline is left here, so elsewhere too: the hash is there as long as it is.
                effect_of_removal(done, args, &self.removed);
            }
            tell(done.data, done.db, "hdel", done.key, done.is_gone);
        }
    }

    fn end(&self, answer: &mut Reply) {
        answer.count(self.removed.len());
    }
}

/// One change for each argument.
pub(super) fn changes(indexes: &[usize]) -> Option<u64> {
    (!indexes.is_empty()).then_some(indexes.len() as u64)
}

pub(super) fn hdel(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let job = Remove { expired: cx.server.data().expired(), removed: Vec::new(), may_be_due: false };
    for_each(cx, args, (2..args.len()).step_by(1), job)
}

/// What was done was to remove these fields.
pub(super) fn effect_of_removal(done: &mut Done<'_>, args: &Args<'_>, indexes: &[usize]) {
    done.effect(|command| {
        command.push(b"HDEL");
        command.push_from(args, 1);
        indexes.iter().for_each(|&index| command.push_from(args, index));
    });
}

/// HGETDEL.
struct Take {
    expired: Expired,
    /// Arguments of the fields that were removed.
    removed: Vec<usize>,
}

impl ForEach for Take {
    const MAKES: bool = false;

    fn begin(&mut self, count: usize, answer: &mut Reply) {
        answer.array(count);
    }

    fn each(&mut self, fields: &mut FieldMap, args: &Args<'_>, index: usize, answer: &mut Reply) {
        let name = args.get(index);
        match live(fields.view(), name, self.expired) {
            Some(field) => put_value(answer, fields.view(), field),
            None => return answer.null(),
        }
        fields.remove(name);
        self.removed.push(index);
    }

    fn missing(&self, answer: &mut Reply) {
        answer.null();
    }

    fn changes(&self) -> Option<u64> {
        changes(&self.removed)
    }

    fn tell(&mut self, done: &mut Done<'_>, args: &Args<'_>) {
        if !self.removed.is_empty() {
            effect_of_removal(done, args, &self.removed);
            tell(done.data, done.db, "hdel", done.key, done.is_gone);
        }
    }
}

pub(super) fn hgetdel(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let names = listed(args)?;
    let job = Take { expired: cx.server.data().expired(), removed: Vec::new() };
    for_each(cx, args, names.step_by(1), job)
}
