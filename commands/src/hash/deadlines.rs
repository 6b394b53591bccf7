//! Deadlines of fields: setting, removing and asking for them. Times are made absolute here.

use std::ops::Range;

use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, Outcome, SYNTAX, invalid_expire};
use tercel_core::command::event_class as class;
use tercel_core::command::parse::integer;
use tercel_core::data::encoding::HashLimits;
use tercel_core::data::{Change, Expired, Key};
use tercel_core::dispatch::Context;
use tercel_engine::{FieldMap, FieldMapRef};

use super::answer::put_named;
use super::options::{Options, Takes, WRONG_COUNT, behind_options, listed, options};
use super::write::{effect_of_removal, tell_overwritten};
use super::{is_due, live, tell, text};
use crate::arguments::expiry::{Conditions, ExpiryUnit, absolute_ms, conditions};

/// What is answered of a field that is not there, or has no deadline, or whose deadline was refused, set, or was
/// past so that it is gone.
const MISSING: i64 = -2;
const NO_DEADLINE: i64 = -1;
const REFUSED: i64 = 0;
const DONE: i64 = 1;
const EXPIRED: i64 = 2;

/// Unix milliseconds of a deadline, past or future. The very last is none to the engine, so it is the one before.
fn deadline_ms(cx: &Context<'_>, text: &[u8], unit: ExpiryUnit) -> Result<i64, CommandError> {
    if integer(text)? < 0 {
        return Err(invalid_expire(cx.name()));
    }
    absolute_ms(cx, text, unit).map(|at_ms| at_ms.min(i64::MAX - 1))
}

/// What is done to the deadlines of fields.
#[derive(Clone, Copy)]
enum Deadline {
    /// They get this one.
    At(i64),
    /// They got one that is past: they are gone.
    Past,
    /// They get none.
    Never,
}

impl Deadline {
    fn of(at_ms: i64, expired: Expired) -> Self {
        if expired.is_past(at_ms) { Deadline::Past } else { Deadline::At(at_ms) }
    }

    /// Does it to a field; what is to be answered.
    fn apply(self, fields: &mut FieldMap, name: &[u8], expired: Expired, conditions: Option<(Conditions, i64)>) -> i64 {
        let Some(field) = live(fields.view(), name, expired) else { return MISSING };
        let stored = field.expire_at;
        if conditions.is_some_and(|(conditions, at_ms)| conditions.refuse(stored, at_ms)) {
            return REFUSED;
        }
        match self {
            Deadline::Past => {
                fields.remove(name);
                EXPIRED
            }
            Deadline::At(at_ms) => {
                fields.set_expire(name, Some(at_ms));
                // A listpack knows no deadlines.
                fields.set_wide(true);
                DONE
            }
            Deadline::Never if stored.is_none() => NO_DEADLINE,
            Deadline::Never => {
                fields.set_expire(name, None);
                DONE
            }
        }
    }

    /// Tells of what was done to the fields of some arguments, if to any.
    fn tell(self, cx: &mut Context<'_>, args: &Args<'_>, applied: &[usize], is_gone: bool) {
        if applied.is_empty() {
            return;
        }
        let key = cx.key(args, 1);
        if let Deadline::Past = self {
            effect_of_removal(cx, args, applied);
            tell_expired(cx, key, applied.len(), is_gone);
            return;
        }
        let event = if let Deadline::At(at_ms) = self {
            effect_of_fields(cx, args, b"HPEXPIREAT", Some(at_ms), applied);
            "hexpire"
        } else {
            effect_of_fields(cx, args, b"HPERSIST", None, applied);
            "hpersist"
        };
        tell(cx, event, key, is_gone);
    }
}

/// What was done was to run this command, which may take a time, on the fields of some arguments.
fn effect_of_fields(cx: &mut Context<'_>, args: &Args<'_>, name: &[u8], at_ms: Option<i64>, fields: &[usize]) {
    cx.effect(|command| {
        command.push(name);
        command.push_from(args, 1);
        at_ms.into_iter().for_each(|at_ms| command.push_number(at_ms));
        command.push(b"FIELDS");
        command.push_number(fields.len() as i64);
        fields.iter().for_each(|&index| command.push_from(args, index));
    });
}

/// Fields are gone for their deadline, and maybe the hash with them.
fn tell_expired(cx: &mut Context<'_>, key: Key<'_>, count: usize, is_gone: bool) {
    let (data, db) = (cx.server.data_mut(), cx.caller.db);
    data.expired_fields(db, key, count as u64);
    if is_gone {
        data.notify(class::GENERIC, "del", db, key.bytes);
    }
}

/// Does something to the deadlines of fields and answers how each fared.
fn change_all(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    names: Range<usize>,
    deadline: Deadline,
    conditions: Option<(Conditions, i64)>,
) -> Outcome {
    let key = cx.key(args, 1);
    let Context { server, caller, out, .. } = &mut *cx;
    let expired = server.data().expired();
    let edited = server.data_mut().edit_fields(caller.db, key, false, |fields| {
        out.array(names.len());
        let mut applied = Vec::new();
        for index in names.clone() {
            let answer = deadline.apply(fields, args.get(index), expired, conditions);
            if answer > 0 {
                applied.push(index);
            }
            out.integer(answer);
        }
        let changed = (!applied.is_empty()).then_some(applied.len() as u64);
        Change { result: applied, changed }
    })?;
    match edited {
        None => {
            cx.out.array(names.len());
            names.for_each(|_| cx.out.integer(MISSING));
        }
        Some(edited) => deadline.tell(cx, args, &edited.result, edited.is_gone),
    }
    Ok(())
}

fn set_deadlines(cx: &mut Context<'_>, args: &Args<'_>, unit: ExpiryUnit) -> Outcome {
    let (conditions, names) = behind_options(args, 3, 1, |range| conditions(args, range))?;
    let at_ms = deadline_ms(cx, args.get(2), unit)?;
    let deadline = Deadline::of(at_ms, cx.server.data().expired());
    change_all(cx, args, names, deadline, Some((conditions, at_ms)))
}

pub(super) fn hexpire(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    set_deadlines(cx, args, ExpiryUnit::SECONDS)
}

pub(super) fn hpexpire(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    set_deadlines(cx, args, ExpiryUnit::MILLISECONDS)
}

pub(super) fn hexpireat(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    set_deadlines(cx, args, ExpiryUnit::UNIX_SECONDS)
}

pub(super) fn hpexpireat(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    set_deadlines(cx, args, ExpiryUnit::UNIX_MILLISECONDS)
}

pub(super) fn hpersist(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let names = listed(args)?;
    change_all(cx, args, names, Deadline::Never, None)
}

/// Answers what `show` makes of the deadlines of fields and the time.
fn ask(cx: &mut Context<'_>, args: &Args<'_>, show: impl Fn(i64, i64) -> i64) -> Outcome {
    let names = listed(args).map_err(|error| if error == WRONG_COUNT { SYNTAX } else { error })?;
    let key = cx.key(args, 1);
    let Context { server, caller, out, .. } = cx;
    let (now_ms, expired) = (server.now().unix_ms, server.data().expired());
    let fields = server.data_mut().read_fields(caller.db, key)?;
    out.array(names.len());
    for name in names.map(|index| args.get(index)) {
        out.integer(match fields.and_then(|fields| live(fields, name, expired)) {
            None => MISSING,
            Some(field) => field.expire_at.map_or(NO_DEADLINE, |at_ms| show(at_ms, now_ms)),
        });
    }
    Ok(())
}

/// The nearest second.
fn seconds(ms: i64) -> i64 {
    ((i128::from(ms) + 500) / 1000) as i64
}

pub(super) fn httl(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    ask(cx, args, |at_ms, now_ms| seconds((at_ms - now_ms).max(0)))
}

pub(super) fn hpttl(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    ask(cx, args, |at_ms, now_ms| (at_ms - now_ms).max(0))
}

pub(super) fn hexpiretime(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    ask(cx, args, |at_ms, _| seconds(at_ms))
}

pub(super) fn hpexpiretime(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    ask(cx, args, |at_ms, _| at_ms)
}

pub(super) fn hgetex(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let (options, names) = behind_options(args, 2, 1, |range| options(args, range, Takes::HGetEx))?;
    let key = cx.key(args, 1);
    let exists = cx.server.data_mut().read_fields(cx.caller.db, key)?.is_some();
    let at_ms = options.expiry.map(|(index, unit)| deadline_ms(cx, args.get(index), unit)).transpose()?;
    let expired = cx.server.data().expired();
    let deadline = match at_ms {
        Some(at_ms) => Some(Deadline::of(at_ms, expired)),
        None => options.persist.then_some(Deadline::Never),
    };
    let Context { server, caller, out, .. } = &mut *cx;
    out.array(names.len());
    let mut put = |fields: Option<FieldMapRef<'_>>, name: &[u8]| put_named(out, fields, name, expired);
    let Some(deadline) = deadline.filter(|_| exists) else {
        // It was read already, so this is not another read.
        let fields = server.data_mut().fields_to_write(caller.db, key)?;
        names.for_each(|index| put(fields, args.get(index)));
        return Ok(());
    };
    let edited = server.data_mut().edit_fields(caller.db, key, false, |fields| {
        let mut applied = Vec::new();
        for index in names {
            // The answer to a field named twice is what it was before each.
            put(Some(fields.view()), args.get(index));
            if deadline.apply(fields, args.get(index), expired, None) > 0 {
                applied.push(index);
            }
        }
        let changed = (!applied.is_empty()).then_some(applied.len() as u64);
        Change { result: applied, changed }
    })?;
    if let Some(edited) = edited {
        deadline.tell(cx, args, &edited.result, edited.is_gone);
    }
    Ok(())
}

/// Whether the conditions on the fields hold.
fn fields_fit(
    fields: Option<FieldMapRef<'_>>,
    args: &Args<'_>,
    names: Range<usize>,
    options: &Options,
    expired: Expired,
) -> bool {
    let exists = |index: usize| fields.is_some_and(|fields| live(fields, args.get(index), expired).is_some());
    !(options.fnx || options.fxx) || names.step_by(2).all(|index| exists(index) == options.fxx)
}

pub(super) fn hsetex(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let (options, names) = behind_options(args, 2, 2, |range| options(args, range, Takes::HSetEx))?;
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let exists = cx.server.data_mut().fields_to_write(db, key)?.is_some();
    if (options.nx && exists) || (options.xx && !exists) {
        cx.out.flag(false);
        return Ok(());
    }
    let at_ms = options.expiry.map(|(index, unit)| deadline_ms(cx, args.get(index), unit)).transpose()?;
    let expired = cx.server.data().expired();
    let fields = cx.server.data_mut().fields_to_write(db, key)?;
    if !fields_fit(fields, args, names.clone(), &options, expired) {
        cx.out.flag(false);
        return Ok(());
    }
    if at_ms.is_some_and(|at_ms| expired.is_past(at_ms)) {
        remove_all(cx, args, names)?;
    } else {
        set_all(cx, args, names, &options, at_ms)?;
    }
    cx.out.flag(true);
    Ok(())
}

/// HSETEX with a deadline that is past: the fields are gone at once.
fn remove_all(cx: &mut Context<'_>, args: &Args<'_>, names: Range<usize>) -> Outcome {
    let key = cx.key(args, 1);
    let named = names.len() / 2;
    let edited = cx.server.data_mut().edit_fields(cx.caller.db, key, false, |fields| {
        // Those that were past an earlier deadline go with them.
        let removed: Vec<usize> = names.step_by(2).filter(|&index| fields.remove(args.get(index))).collect();
        let changed = (!removed.is_empty()).then_some(removed.len() as u64);
        Change { result: removed, changed }
    })?;
    if edited.is_none() {
        // It was made for them and is gone with them.
        cx.server.data_mut().notify(class::NEW, "new", cx.caller.db, key.bytes);
    }
    let is_gone = edited.as_ref().is_none_or(|edited| edited.is_gone);
    let removed = edited.map(|edited| edited.result).unwrap_or_default();
    if !removed.is_empty() {
        effect_of_removal(cx, args, &removed);
    }
    tell(cx, "hset", key, false);
    tell(cx, "hexpire", key, false);
    // Those that were not there count too, as Valkey counts.
    tell_expired(cx, key, named, is_gone);
    Ok(())
}

fn set_all(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    names: Range<usize>,
    options: &Options,
    at_ms: Option<i64>,
) -> Outcome {
    let key = cx.key(args, 1);
    let (limits, expired) = (HashLimits::of(cx.server.settings()), cx.server.data().expired());
    let indexes = names.clone().step_by(2);
    let edited = cx.server.data_mut().edit_fields(cx.caller.db, key, true, |fields| {
        let mut overwritten = Vec::new();
        for index in indexes {
            let name = args.get(index);
            let stored = fields.view().get(name);
            let due = stored.is_some_and(|field| is_due(&field, expired));
            let kept = stored.filter(|_| options.keep_ttl && !due).and_then(|field| field.expire_at);
            if due {
                overwritten.push(index);
            }
            fields.set(text(args, index), text(args, index + 1), at_ms.or(kept));
            limits.grown(fields, name.len(), args.get(index + 1).len());
        }
        if at_ms.is_some() {
            fields.set_wide(true);
        }
        Change { result: overwritten, changed: Some(names.len() as u64 / 2) }
    })?;
    let overwritten = edited.map(|edited| edited.result).unwrap_or_default();
    tell_overwritten(cx, key, overwritten.len() as u64);
    if options.keep_ttl && !overwritten.is_empty() {
        // Elsewhere their deadlines would be kept. To remove them there might remove the key, and its deadline.
        effect_of_fields(cx, args, b"HPERSIST", None, &overwritten);
    }
    cx.effect(|command| {
        command.push(b"HSETEX");
        command.push_from(args, 1);
        if let Some(at_ms) = at_ms {
            command.push(b"PXAT");
            command.push_number(at_ms);
        } else if options.keep_ttl {
            command.push(b"KEEPTTL");
        }
        command.push(b"FIELDS");
        command.push_number(names.len() as i64 / 2);
        names.clone().for_each(|index| command.push_from(args, index));
    });
    tell(cx, "hset", key, false);
    if at_ms.is_some() {
        tell(cx, "hexpire", key, false);
    }
    Ok(())
}
