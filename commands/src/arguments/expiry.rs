//! Times of expiry as arguments give them.

use tercel_core::command::error::{CommandError, invalid_expire};
use tercel_core::command::parse::integer;
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
    cx.effect(|command| {
        command.push(b"DEL");
        command.push(key);
    });
}
