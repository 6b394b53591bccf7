//! Taking elements out of lists, moving them, and waiting for them.

use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, Outcome, SYNTAX, fail, wrong_arity};
use tercel_core::command::parse::integer;
use tercel_core::data::{Change, Key};
use tercel_core::dispatch::Context;
use tercel_engine::{End, Kind, Text};

use super::answer::{Elements, is_short, put_element};
use super::{end, popped, pushed, tell};
use crate::arguments::timeout::deadline_ms;
use tercel_core::data::encoding::ListLimits;

/// Takes `count` elements from an end of a list that has any, and writes them: an array of them, or the one if
/// there is no count; behind the key's name, if `named`.
fn take(cx: &mut Context<'_>, args: &Args<'_>, key: Key<'_>, end: End, count: Option<u64>, named: bool) -> Outcome {
    let limits = ListLimits::of(cx.server.settings());
    let Context { server, caller, out, .. } = &mut *cx;
    let edited = server.data_mut().edit_list(caller.db, key, false, |list| {
        let len = list.len();
        let taken = count.unwrap_or(1).min(len);
        let range = if end == End::Head { 0..taken } else { len - taken..len };
        let view = list.view();
        let later = if count.is_none() || is_short(view, taken) {
            if named {
                out.array(2);
                out.bulk(key.bytes);
            }
            if count.is_some() {
                out.array(taken as usize);
            }
            if end == End::Head {
                range.for_each(|place| put_element(out, view, place));
            } else {
                range.rev().for_each(|place| put_element(out, view, place));
            }
            None
        } else {
            let elements = Elements::new(view.held(), range, end == End::Tail).taken();
            Some(if named { elements.named(key.bytes) } else { elements })
        };
        list.cut(end, taken);
        limits.shrunk(list);
        Change { result: later, changed: Some(taken) }
    })?;
    let Some(edited) = edited else { return Ok(()) };
    tell(cx, popped(end), key, edited.is_gone);
    match edited.result {
        Some(job) => cx.in_slices(args, Box::new(job)),
        None => Ok(()),
    }
}

fn pop(cx: &mut Context<'_>, args: &Args<'_>, end: End) -> Outcome {
    if args.len() > 3 {
        return Err(wrong_arity(cx.name()));
    }
    let count = match args.len() {
        3 => Some(positive(args.get(2))?),
        _ => None,
    };
    let key = cx.key(args, 1);
    match cx.server.data_mut().list_to_write(cx.caller.db, key)? {
        None if count.is_some() => cx.out.null_array(),
        None => cx.out.null(),
        Some(_) if count == Some(0) => cx.out.array(0),
        Some(_) => return take(cx, args, key, end, count, false),
    }
    Ok(())
}

fn positive(text: &[u8]) -> Result<u64, CommandError> {
    const NOT_POSITIVE: CommandError = fail("ERR value is out of range, must be positive");
    integer(text).ok().and_then(|number| u64::try_from(number).ok()).ok_or(NOT_POSITIVE)
}

pub(super) fn lpop(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    pop(cx, args, End::Head)
}

pub(super) fn rpop(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    pop(cx, args, End::Tail)
}

/// What was done was to take elements from a list.
fn effect_of_pop(cx: &mut Context<'_>, key: &[u8], end: End, count: Option<u64>) {
    cx.effect(|command| {
        command.push(if end == End::Head { b"LPOP" } else { b"RPOP" });
        command.push(key);
        if let Some(count) = count {
            command.push_number(count as i64);
        }
    });
}

fn take_or_wait(cx: &mut Context<'_>, args: &Args<'_>, end: End) -> Outcome {
    let timeout = args.len() - 1;
    let deadline_ms = deadline_ms(cx, args.get(timeout))?;
    for index in 1..timeout {
        let key = cx.key(args, index);
        if cx.server.data_mut().list_to_write(cx.caller.db, key)?.is_some() {
            take(cx, args, key, end, None, true)?;
            effect_of_pop(cx, key.bytes, end, None);
            return Ok(());
        }
    }
    cx.wait_for_keys(args, 1..timeout, Kind::List, deadline_ms)
}

pub(super) fn blpop(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    take_or_wait(cx, args, End::Head)
}

pub(super) fn brpop(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    take_or_wait(cx, args, End::Tail)
}

/// What LMPOP and BLMPOP take, from argument `at` on: the keys' arguments, the end, the count.
fn multi_arguments(args: &Args<'_>, at: usize) -> Result<(std::ops::Range<usize>, End, u64), CommandError> {
    const NO_KEYS: CommandError = fail("ERR numkeys should be greater than 0");
    const NO_COUNT: CommandError = fail("ERR count should be greater than 0");
    let positive = |text: &[u8], error: CommandError| integer(text).ok().filter(|number| *number >= 1).ok_or(error);
    let count = positive(args.get(at), NO_KEYS)? as usize;
    let (first, behind) = (at + 1, (at + 1).saturating_add(count));
    if behind >= args.len() {
        return Err(SYNTAX);
    }
    let end = end(args, behind)?;
    let mut limit = None;
    let mut option = behind + 1;
    while option < args.len() {
        if limit.is_some() || !args.is(option, "count") || option + 1 >= args.len() {
            return Err(SYNTAX);
        }
        limit = Some(positive(args.get(option + 1), NO_COUNT)? as u64);
        option += 2;
    }
    Ok((first..behind, end, limit.unwrap_or(1)))
}

/// Takes from the first list that has any; None if none has.
fn take_of_many(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    keys: std::ops::Range<usize>,
    end: End,
    count: u64,
) -> Option<Outcome> {
    for index in keys {
        let key = cx.key(args, index);
        let len = match cx.server.data_mut().list_to_write(cx.caller.db, key) {
            Err(error) => return Some(Err(error.into())),
            Ok(None) => continue,
            Ok(Some(list)) => list.len(),
        };
        // What is told of it comes before its effect, which in turn comes before what waits for the client.
        effect_of_pop(cx, key.bytes, end, Some(count.min(len)));
        return Some(take(cx, args, key, end, Some(count), true));
    }
    None
}

pub(super) fn lmpop(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let (keys, end, count) = multi_arguments(args, 1)?;
    take_of_many(cx, args, keys, end, count).unwrap_or_else(|| {
        cx.out.null_array();
        Ok(())
    })
}

pub(super) fn blmpop(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let deadline_ms = deadline_ms(cx, args.get(1))?;
    let (keys, end, count) = multi_arguments(args, 2)?;
    match take_of_many(cx, args, keys.clone(), end, count) {
        Some(outcome) => outcome,
        None => cx.wait_for_keys(args, keys, Kind::List, deadline_ms),
    }
}

/// Moves an element from an end of the list of argument 1 to an end of that of argument 2. False if there is none.
fn move_one(cx: &mut Context<'_>, args: &Args<'_>, from: End, to: End) -> Result<bool, CommandError> {
    let db = cx.caller.db;
    let (source, target) = (cx.key(args, 1), cx.server.data().key(args.get(2)));
    let limits = ListLimits::of(cx.server.settings());
    let Some(list) = cx.server.data_mut().list_to_write(db, source)? else { return Ok(false) };
    let place = if from == End::Head { 0 } else { list.len() - 1 };
    let shared = list.shared(place);
    let bytes = if shared.is_some() { Vec::new() } else { list.get(place).unwrap_or_default().to_vec() };
    cx.server.data_mut().list_to_write(db, target)?;
    let element = shared.as_ref().map_or(Text::Bytes(&bytes), Text::Shared);
    if source.bytes == target.bytes {
        cx.server.data_mut().edit_list(db, source, false, |list| {
            list.cut(from, 1);
            list.push(to, element);
            Change { result: (), changed: Some(1) }
        })?;
        tell(cx, pushed(to), target, false);
        tell(cx, popped(from), source, false);
    } else {
        cx.server.data_mut().edit_list(db, target, true, |list| {
            list.push(to, element);
            limits.grown(list);
            // Both together are one change.
            Change { result: (), changed: Some(0) }
        })?;
        tell(cx, pushed(to), target, false);
        let edited = cx.server.data_mut().edit_list(db, source, false, |list| {
            list.cut(from, 1);
            limits.shrunk(list);
            Change { result: (), changed: Some(1) }
        })?;
        tell(cx, popped(from), source, edited.is_some_and(|edited| edited.is_gone));
    }
    match &shared {
        Some(shared) => cx.out.blob(shared),
        None => cx.out.bulk(&bytes),
    }
    Ok(true)
}

pub(super) fn lmove(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let (from, to) = (end(args, 3)?, end(args, 4)?);
    if !move_one(cx, args, from, to)? {
        cx.out.null();
    }
    Ok(())
}

pub(super) fn rpoplpush(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    if !move_one(cx, args, End::Tail, End::Head)? {
        cx.out.null();
    }
    Ok(())
}

pub(super) fn blmove(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let (from, to) = (end(args, 3)?, end(args, 4)?);
    let deadline_ms = deadline_ms(cx, args.get(5))?;
    if !move_one(cx, args, from, to)? {
        return wait_to_move(cx, args, deadline_ms);
    }
    cx.effect(|command| {
        command.push(b"LMOVE");
        (1..5).for_each(|index| command.push_from(args, index));
    });
    Ok(())
}

pub(super) fn brpoplpush(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let deadline_ms = deadline_ms(cx, args.get(3))?;
    if !move_one(cx, args, End::Tail, End::Head)? {
        return wait_to_move(cx, args, deadline_ms);
    }
    cx.effect(|command| {
        command.push(b"RPOPLPUSH");
        (1..3).for_each(|index| command.push_from(args, index));
    });
    Ok(())
}

fn wait_to_move(cx: &mut Context<'_>, args: &Args<'_>, deadline_ms: Option<i64>) -> Outcome {
    if cx.caller.in_transaction {
        cx.out.null();
        return Ok(());
    }
    cx.wait_for_keys(args, 1..2, Kind::List, deadline_ms)
}
