//! Offsets of bits as arguments give them.

use tercel_core::command::error::{CommandError, fail};
use tercel_core::command::parse::integer;
use tercel_core::dispatch::Context;

const BAD_OFFSET: CommandError = fail("ERR bit offset is not an integer or out of range");

/// Reads a bit offset; with `#` it counts in units of `width` bits.
pub(super) fn bit_offset(cx: &Context<'_>, text: &[u8], width: Option<u64>) -> Result<u64, CommandError> {
    let (digits, factor) = match (text, width) {
        ([b'#', digits @ ..], Some(width)) => (digits, width as i64),
        _ => (text, 1),
    };
    let offset = integer(digits).map_err(|_| BAD_OFFSET)?.checked_mul(factor).ok_or(BAD_OFFSET)?;
    let offset = u64::try_from(offset).map_err(|_| BAD_OFFSET)?;
    if offset >> 3 >= cx.string_len_max() {
        return Err(BAD_OFFSET);
    }
    Ok(offset)
}
