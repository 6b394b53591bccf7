//! How long a command that waits may do so.

use tercel_core::command::error::{CommandError, fail};
use tercel_core::dispatch::Context;

use super::long_double::LongDouble;

/// Unix milliseconds until which a command waits whose argument gives seconds, fractions allowed; None, for 0,
/// waits for ever.
///
/// # Errors
/// It is no time.
pub(crate) fn deadline_ms(cx: &Context<'_>, text: &[u8]) -> Result<Option<i64>, CommandError> {
    let seconds =
        LongDouble::parse(text).map(LongDouble::to_f64).ok_or(fail("ERR timeout is not a float or out of range"))?;
    let out_of_range = fail("ERR timeout is out of range");
    let timeout_ms = seconds * 1000.0;
    if timeout_ms > i64::MAX as f64 {
        return Err(out_of_range);
    }
    if timeout_ms < 0.0 {
        return Err(fail("ERR timeout is negative"));
    }
    if timeout_ms == 0.0 {
        return Ok(None);
    }
    // A wait is never shorter than asked for.
    let timeout_ms = timeout_ms.ceil() as i64;
    cx.server.now().unix_ms.checked_add(timeout_ms).map(Some).ok_or(out_of_range)
}
