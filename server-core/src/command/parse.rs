//! Reading arguments as numbers and text, and showing them.

use tercel_resp::number::{parse_f64, parse_i64};

use super::error::{CommandError, NOT_A_FLOAT, NOT_AN_INTEGER};

/// Reads an integer.
///
/// # Errors
/// [`NOT_AN_INTEGER`].
#[inline]
pub fn integer(text: &[u8]) -> Result<i64, CommandError> {
    parse_i64(text).ok_or(NOT_AN_INTEGER)
}

/// Reads a floating point number.
///
/// # Errors
/// [`NOT_A_FLOAT`].
pub fn float(text: &[u8]) -> Result<f64, CommandError> {
    parse_f64(text).ok_or(NOT_A_FLOAT)
}

/// Text for a message, whatever the bytes are.
#[must_use]
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Text of an argument for an error.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    lossy(&bytes[..bytes.len().min(128)])
}

/// Appends bytes in double quotes, with escapes for what is not printable.
pub fn quote_into(line: &mut Vec<u8>, bytes: &[u8]) {
    line.push(b'"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            7 => line.extend_from_slice(b"\\a"),
            8 => line.extend_from_slice(b"\\b"),
            b' '..=b'~' => line.push(byte),
            other => line.extend_from_slice(format!("\\x{other:02x}").as_bytes()),
        }
    }
    line.push(b'"');
}
