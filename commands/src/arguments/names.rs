//! Names that stand in lines of CLIENT LIST.

use tercel_core::command::error::{CommandError, fail};
use tercel_core::command::parse::lossy;

/// Whether a name may stand in a line of CLIENT LIST.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// Reads a connection's name.
pub(crate) fn checked_name(text: &[u8]) -> Result<String, CommandError> {
    if is_plain(text) {
        Ok(lossy(text))
    } else {
        Err(fail("ERR Client names cannot contain spaces, newlines or special characters."))
    }
}
