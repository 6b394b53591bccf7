//! Writing: replies of both protocol versions, and requests. Everything appends to a `Vec<u8>`.

use crate::Version;
use crate::number::write_f64;

const SMALL_HEADER_MAX: usize = 10;

/// `X<number>\r\n`.
#[inline]
pub fn header(out: &mut Vec<u8>, kind: u8, number: i64) {
    if (0..SMALL_HEADER_MAX as i64).contains(&number) {
        out.extend_from_slice(&[kind, b'0' + number as u8, b'\r', b'\n']);
        return;
    }
    let mut buffer = itoa::Buffer::new();
    out.push(kind);
    out.extend_from_slice(buffer.format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A simple string (`+OK`). Line ends in it are replaced, so that it stays one line.
pub fn simple(out: &mut Vec<u8>, text: &[u8]) {
    line(out, b'+', text);
}

/// An error: `text` begins with its code (`ERR …`).
pub fn error(out: &mut Vec<u8>, text: &[u8]) {
    line(out, b'-', text);
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    if text.iter().any(|b| matches!(b, b'\r' | b'\n')) {
        out.extend(text.iter().map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }));
    } else {
        out.extend_from_slice(text);
    }
    out.extend_from_slice(b"\r\n");
}

/// An integer.
#[inline]
pub fn integer(out: &mut Vec<u8>, value: i64) {
    header(out, b':', value);
}

/// A bulk string.
#[inline]
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    // One reservation for header, body and end keeps the copies free of checks.
    out.reserve(bytes.len() + 24);
    header(out, b'$', bytes.len() as i64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// An integer as a bulk string.
pub fn bulk_integer(out: &mut Vec<u8>, value: i64) {
    let mut buffer = itoa::Buffer::new();
    bulk(out, buffer.format(value).as_bytes());
}

/// Nothing: `$-1` or `_`.
#[inline]
pub fn null(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(match version {
        Version::Resp2 => b"$-1\r\n",
        Version::Resp3 => b"_\r\n",
    });
}

/// Nothing where an array is expected: `*-1` or `_`.
pub fn null_array(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(match version {
        Version::Resp2 => b"*-1\r\n",
        Version::Resp3 => b"_\r\n",
    });
}

/// Begins an array of `len` elements.
pub fn array(out: &mut Vec<u8>, len: usize) {
    header(out, b'*', len as i64);
}

/// Begins a map of `pairs` pairs (an array of twice as many elements in RESP2).
pub fn map(out: &mut Vec<u8>, version: Version, pairs: usize) {
    match version {
        Version::Resp2 => header(out, b'*', pairs as i64 * 2),
        Version::Resp3 => header(out, b'%', pairs as i64),
    }
}

/// Begins a set (an array in RESP2).
pub fn set(out: &mut Vec<u8>, version: Version, len: usize) {
    match version {
        Version::Resp2 => header(out, b'*', len as i64),
        Version::Resp3 => header(out, b'~', len as i64),
    }
}

/// Begins an out-of-band message (an array in RESP2).
pub fn push(out: &mut Vec<u8>, version: Version, len: usize) {
    match version {
        Version::Resp2 => header(out, b'*', len as i64),
        Version::Resp3 => header(out, b'>', len as i64),
    }
}

/// A double (a bulk string in RESP2).
pub fn double(out: &mut Vec<u8>, version: Version, value: f64) {
    let mut text = Vec::with_capacity(32);
    write_f64(&mut text, value);
    match version {
        Version::Resp2 => bulk(out, &text),
        Version::Resp3 => line(out, b',', &text),
    }
}

/// A truth value (1 or 0 in RESP2).
pub fn boolean(out: &mut Vec<u8>, version: Version, value: bool) {
    out.extend_from_slice(match (version, value) {
        (Version::Resp2, true) => b":1\r\n",
        (Version::Resp2, false) => b":0\r\n",
        (Version::Resp3, true) => b"#t\r\n",
        (Version::Resp3, false) => b"#f\r\n",
    });
}

/// A big number in decimal digits (a bulk string in RESP2).
pub fn big_number(out: &mut Vec<u8>, version: Version, digits: &[u8]) {
    match version {
        Version::Resp2 => bulk(out, digits),
        Version::Resp3 => line(out, b'(', digits),
    }
}

/// Text with a three-letter format, `txt` or `mkd` (a bulk string in RESP2).
pub fn verbatim(out: &mut Vec<u8>, version: Version, format: [u8; 3], text: &[u8]) {
    match version {
        Version::Resp2 => bulk(out, text),
        Version::Resp3 => {
            header(out, b'=', text.len() as i64 + 4);
            out.extend_from_slice(&format);
            out.push(b':');
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// A request: an array of bulk strings.
pub fn request<A: AsRef<[u8]>>(out: &mut Vec<u8>, args: &[A]) {
    array(out, args.len());
    for arg in args {
        bulk(out, arg.as_ref());
    }
}
