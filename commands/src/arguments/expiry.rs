//! Times of expiry as arguments give them.

use std::ops::Range;

use tercel_core::command::OwnedCommand;
use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, fail, invalid_expire};
use tercel_core::command::parse::{integer, lossy};
use tercel_core::dispatch::Context;

/// How an expiry argument is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExpiryUnit {
    in_seconds: bool,
    relative: bool,
}

impl ExpiryUnit {
    pub(crate) const SECONDS: Self = ExpiryUnit { in_seconds: true, relative: true };
    pub(crate) const MILLISECONDS: Self = ExpiryUnit { in_seconds: false, relative: true };
    pub(crate) const UNIX_SECONDS: Self = ExpiryUnit { in_seconds: true, relative: false };
    pub(crate) const UNIX_MILLISECONDS: Self = ExpiryUnit { in_seconds: false, relative: false };
}

/// Unix milliseconds of an expiry argument, past or future; an error if it cannot be expressed.
pub(crate) fn absolute_ms(cx: &Context<'_>, text: &[u8], unit: ExpiryUnit) -> Result<i64, CommandError> {
    let time = integer(text)?;
    let time_ms = if unit.in_seconds { time.checked_mul(1000) } else { Some(time) };
    let base_ms = if unit.relative { cx.server.now().unix_ms } else { 0 };
    time_ms.and_then(|time_ms| time_ms.checked_add(base_ms)).ok_or_else(|| invalid_expire(cx.name()))
}

/// Unix milliseconds of an expiry that has to be a positive time, as SET and its kin want it.
pub(crate) fn expiry_time(cx: &Context<'_>, text: &[u8], unit: ExpiryUnit) -> Result<i64, CommandError> {
    if integer(text)? <= 0 {
        return Err(invalid_expire(cx.name()));
    }
    absolute_ms(cx, text, unit)
}

/// On what conditions a deadline is replaced by another.
#[derive(Clone, Copy, Default)]
pub(crate) struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

/// Reads the words of conditions.
pub(crate) fn conditions(args: &Args<'_>, range: Range<usize>) -> Result<Conditions, CommandError> {
    let mut set = Conditions::default();
    for index in range {
        match () {
            () if args.is(index, "nx") => set.nx = true,
            () if args.is(index, "xx") => set.xx = true,
            () if args.is(index, "gt") => set.gt = true,
            () if args.is(index, "lt") => set.lt = true,
            () => return Err(CommandError::new(format!("ERR Unsupported option {}", lossy(args.get(index))))),
        }
    }
    if set.nx && (set.xx || set.gt || set.lt) {
        return Err(fail("ERR NX and XX, GT or LT options at the same time are not compatible"));
    }
    if set.gt && set.lt {
        return Err(fail("ERR GT and LT options at the same time are not compatible"));
    }
    Ok(set)
}

impl Conditions {
    /// Whether the deadline `stored` is not to become `at_ms`. None counts as one that never comes.
    pub(crate) fn refuse(self, stored: Option<i64>, at_ms: i64) -> bool {
        (self.nx && stored.is_some())
            || (self.xx && stored.is_none())
            || (self.gt && stored.is_none_or(|stored_ms| at_ms <= stored_ms))
            || (self.lt && stored.is_some_and(|stored_ms| at_ms >= stored_ms))
    }
}

/// What was done was to give a key this deadline, or to take its deadline away.
pub(crate) fn effect_of_deadline(cx: &mut Context<'_>, key: &[u8], at_ms: Option<i64>) {
    cx.effect(|command| {
        command.push(if at_ms.is_some() { &b"PEXPIREAT"[..] } else { b"PERSIST" });
        command.push(key);
        if let Some(at_ms) = at_ms {
            command.push_number(at_ms);
        }
    });
}

/// What was done was to delete a key.
pub(crate) fn effect_of_delete(cx: &mut Context<'_>, key: &[u8]) {
    cx.effect(|command| words_of_delete(command, key));
}

/// To delete a key.
pub(crate) fn words_of_delete(command: &mut OwnedCommand, key: &[u8]) {
    command.push(b"DEL");
    command.push(key);
}
