//! Deadlines of fields: setting, removing and asking for them. Times are made absolute here.

use std::ops::Range;

use tercel_core::command::error::{CommandError, Outcome, SYNTAX, invalid_expire};
use tercel_core::command::event_class as class;
use tercel_core::command::parse::integer;
use tercel_core::command::{Args, Reply};
use tercel_core::data::Expired;
use tercel_core::data::encoding::HashLimits;
use tercel_core::dispatch::Context;
use tercel_engine::{FieldMap, FieldMapRef};

use super::answer::{MISSING, NO_DEADLINE, NamedFields, put_deadline, put_named};
use super::each::{Done, ForEach, for_each};
use super::options::{Options, Takes, WRONG_COUNT, behind_options, listed, options};
use super::read::NAMES_AT_ONCE;
use super::write::{changes, effect_of_removal, tell_overwritten};
use super::{is_due, live, tell, text};
use crate::arguments::expiry::{Conditions, ExpiryUnit, absolute_ms, conditions};

/// What is answered of a field whose deadline was refused, set, or was past so that it is gone.
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
    fn tell(self, done: &mut Done<'_>, args: &Args<'_>, applied: &[usize]) {
        if applied.is_empty() {
            return;
        }
        if let Deadline::Past = self {
            effect_of_removal(done, args, applied);
            tell_expired(done, applied.len());
            return;
        }
        let event = if let Deadline::At(at_ms) = self {
            effect_of_fields(done, args, b"HPEXPIREAT", Some(at_ms), applied);
            "hexpire"
        } else {
            effect_of_fields(done, args, b"HPERSIST", None, applied);
            "hpersist"
        };
        tell(done.data, done.db, event, done.key, done.is_gone);
    }
}

/// What was done was to run this command, which may take a time, on the fields of some arguments.
fn effect_of_fields(done: &mut Done<'_>, args: &Args<'_>, name: &[u8], at_ms: Option<i64>, fields: &[usize]) {
    done.effect(|command| {
        command.push(name);
        command.push_from(args, 1);
        at_ms.into_iter().for_each(|at_ms| command.push_number(at_ms));
        command.push(b"FIELDS");
        command.push_number(fields.len() as i64);
        fields.iter().for_each(|&index| command.push_from(args, index));
    });
}

/// Fields are gone for their deadline, and maybe the hash with them.
fn tell_expired(done: &mut Done<'_>, count: usize) {
    let key = done.data.key(done.key);
    done.data.expired_fields(done.db, key, count as u64);
    if done.is_gone {
        done.data.notify(class::GENERIC, "del", done.db, done.key);
    }
}

/// Does something to the deadlines of fields and answers how each fared, or what its value was before.
struct ChangeDeadlines {
    deadline: Deadline,
    conditions: Option<(Conditions, i64)>,
    expired: Expired,
    answers_values: bool,
    /// Arguments of the fields to which it was done.
    applied: Vec<usize>,
}

impl ForEach for ChangeDeadlines {
    const MAKES: bool = false;

    fn begin(&mut self, count: usize, answer: &mut Reply) {
        answer.array(count);
    }

    fn each(&mut self, fields: &mut FieldMap, args: &Args<'_>, index: usize, answer: &mut Reply) {
        let name = args.get(index);
        if self.answers_values {
            // The answer to a field named twice is what it was before each.
            put_named(answer, Some(fields.view()), name, self.expired);
        }
        let fared = self.deadline.apply(fields, name, self.expired, self.conditions);
        if fared > 0 {
            self.applied.push(index);
        }
        if !self.answers_values {
            answer.integer(fared);
        }
    }

    fn missing(&self, answer: &mut Reply) {
        if self.answers_values { answer.null() } else { answer.integer(MISSING) }
    }

    fn changes(&self) -> Option<u64> {
        changes(&self.applied)
    }

    fn tell(&mut self, done: &mut Done<'_>, args: &Args<'_>) {
        self.deadline.tell(done, args, &self.applied);
    }
}

fn change_all(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    names: Range<usize>,
    deadline: Deadline,
    conditions: Option<(Conditions, i64)>,
) -> Outcome {
    let expired = cx.server.data().expired();
    let job = ChangeDeadlines { deadline, conditions, expired, answers_values: false, applied: Vec::new() };
    for_each(cx, args, names.step_by(1), job)
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
fn ask(cx: &mut Context<'_>, args: &Args<'_>, show: fn(i64, i64) -> i64) -> Outcome {
    let names = listed(args).map_err(|error| if error == WRONG_COUNT { SYNTAX } else { error })?;
    let key = cx.key(args, 1);
    let Context { server, caller, out, .. } = cx;
    let (now_ms, expired) = (server.now().unix_ms, server.data().expired());
    let fields = server.data_mut().read_fields(caller.db, key)?;
    if let Some(fields) = fields.filter(|_| names.len() > NAMES_AT_ONCE) {
        let job = NamedFields::new(fields.held(), expired, names.start).showing(show, now_ms);
        return cx.in_slices(args, Box::new(job));
    }
    out.array(names.len());
    names.for_each(|index| put_deadline(out, fields, args.get(index), expired, (show, now_ms)));
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
    if let Some(deadline) = deadline.filter(|_| exists) {
        let job = ChangeDeadlines { deadline, conditions: None, expired, answers_values: true, applied: Vec::new() };
        return for_each(cx, args, names.step_by(1), job);
    }
    // It was read already, so this is not another read.
    let Context { server, caller, out, .. } = &mut *cx;
    let fields = server.data_mut().fields_to_write(caller.db, key)?;
    if let Some(fields) = fields.filter(|_| names.len() > NAMES_AT_ONCE) {
        let job = NamedFields::new(fields.held(), expired, names.start);
        return cx.in_slices(args, Box::new(job));
    }
    out.array(names.len());
    names.for_each(|index| put_named(out, fields, args.get(index), expired));
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
    let indexes = names.clone().step_by(2);
    if at_ms.is_some_and(|at_ms| expired.is_past(at_ms)) {
        return for_each(cx, args, indexes, RemoveAll { removed: Vec::new(), named: names.len() / 2 });
    }
    let limits = HashLimits::of(cx.server.settings());
    let job = SetAll { limits, expired, keep_ttl: options.keep_ttl, at_ms, names, overwritten: Vec::new() };
    for_each(cx, args, indexes, job)
}

/// HSETEX with a deadline that is past: the fields are gone at once.
struct RemoveAll {
    /// Arguments of the fields that were removed.
    removed: Vec<usize>,
    named: usize,
}

impl ForEach for RemoveAll {
    const MAKES: bool = false;

    fn each(&mut self, fields: &mut FieldMap, args: &Args<'_>, index: usize, _: &mut Reply) {
        // Those that were past an earlier deadline go with them.
        if fields.remove(args.get(index)) {
            self.removed.push(index);
        }
    }

    fn changes(&self) -> Option<u64> {
        changes(&self.removed)
    }

    fn tell(&mut self, done: &mut Done<'_>, args: &Args<'_>) {
        if done.was_missing {
            // It was made for them and is gone with them.
            done.data.notify(class::NEW, "new", done.db, done.key);
        }
        if !self.removed.is_empty() {
            effect_of_removal(done, args, &self.removed);
        }
        tell(done.data, done.db, "hset", done.key, false);
        tell(done.data, done.db, "hexpire", done.key, false);
        // Those that were not there count too, as Valkey counts.
        tell_expired(done, self.named);
    }

    fn end(&self, answer: &mut Reply) {
        answer.flag(true);
    }
}

/// HSETEX.
struct SetAll {
    limits: HashLimits,
    expired: Expired,
    keep_ttl: bool,
    at_ms: Option<i64>,
    names: Range<usize>,
    /// Arguments of the fields that were past their deadline.
    overwritten: Vec<usize>,
}

impl ForEach for SetAll {
    const MAKES: bool = true;

    fn each(&mut self, fields: &mut FieldMap, args: &Args<'_>, index: usize, _: &mut Reply) {
        let name = args.get(index);
        let stored = fields.view().get(name);
        let due = stored.is_some_and(|field| is_due(&field, self.expired));
        let kept = stored.filter(|_| self.keep_ttl && !due).and_then(|field| field.expire_at);
        if due {
            self.overwritten.push(index);
        }
        fields.set(text(args, index), text(args, index + 1), self.at_ms.or(kept));
        self.limits.grown(fields, name.len(), args.get(index + 1).len());
        if self.at_ms.is_some() {
            fields.set_wide(true);
        }
    }

    fn changes(&self) -> Option<u64> {
        Some(self.names.len() as u64 / 2)
    }

    fn tell(&mut self, done: &mut Done<'_>, args: &Args<'_>) {
        tell_overwritten(done.data, done.db, done.key, self.overwritten.len() as u64);
        if self.keep_ttl && !self.overwritten.is_empty() {
            // Elsewhere their deadlines would be kept. To remove them there might remove the key, and its deadline.
            effect_of_fields(done, args, b"HPERSIST", None, &self.overwritten);
        }
        done.effect(|command| {
            command.push(b"HSETEX");
            command.push_from(args, 1);
            if let Some(at_ms) = self.at_ms {
                command.push(b"PXAT");
                command.push_number(at_ms);
            } else if self.keep_ttl {
                command.push(b"KEEPTTL");
            }
            command.push(b"FIELDS");
            command.push_number(self.names.len() as i64 / 2);
            self.names.clone().for_each(|index| command.push_from(args, index));
        });
        tell(done.data, done.db, "hset", done.key, false);
        if self.at_ms.is_some() {
            tell(done.data, done.db, "hexpire", done.key, false);
        }
    }

    fn end(&self, answer: &mut Reply) {
        answer.flag(true);
    }
}
