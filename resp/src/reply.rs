//! Replies as a client reads them: one value at a time from a growing input. Depth and sizes are
//! bounded, so that a broken server cannot exhaust a client.

use crate::number::{parse_f64, parse_i64};

/// Deepest nesting read.
pub const DEPTH_MAX: usize = 64;
/// Longest line read in bytes.
pub const LINE_LEN_MAX: usize = 1024 * 1024;

/// One reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `$-1`, `*-1` or `_`.
    Null,
    /// `+`
    Simple(Vec<u8>),
    /// `-` or `!`
    Error(Vec<u8>),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(Vec<u8>),
    /// `*`
    Array(Vec<Value>),
    /// `%`
    Map(Vec<(Value, Value)>),
    /// `~`
    Set(Vec<Value>),
    /// `>`
    Push(Vec<Value>),
    /// `,`
    Double(f64),
    /// `#`
    Boolean(bool),
    /// `(`
    BigNumber(Vec<u8>),
    /// `=`: format and text.
    Verbatim([u8; 3], Vec<u8>),
    /// `|`: attributes, and the value they belong to.
    Attributed(Vec<(Value, Value)>, Box<Value>),
}

/// Why bytes cannot be a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A type byte no version of the protocol has.
    #[error("unknown reply type byte {0:#04x}")]
    UnknownType(u8),
    /// A count or length that is no number or out of range.
    #[error("invalid length in reply")]
    InvalidLength,
    /// A line that is too long or a body without CR LF behind it.
    #[error("malformed line in reply")]
    MalformedLine,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("reply nested too deeply")]
    TooDeep,
}

/// Reads one value from the start of `input`: the value and how many bytes it took, or `None`
/// when more bytes are needed.
///
/// # Errors
/// A [`ReplyError`] when the bytes cannot become a reply.
pub fn parse(input: &[u8]) -> Result<Option<(Value, usize)>, ReplyError> {
    let mut at = 0;
    Ok(value(input, &mut at, 0)?.map(|value| (value, at)))
}

/// Length in bytes of the first whole reply of `input` without building it, for load generators.
///
/// # Errors
/// As [`parse`].
pub fn skip(input: &[u8]) -> Result<Option<usize>, ReplyError> {
    let mut at = 0;
    let mut left: u64 = 1;
    while left > 0 {
        left -= 1;
        let Some((kind, line)) = line(input, &mut at)? else { return Ok(None) };
        match kind {
            b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' => {}
            b'$' | b'!' | b'=' => {
                if let Some(len) = length(kind, line)? {
                    if input.len() < at + len + 2 {
                        return Ok(None);
                    }
                    at += len + 2;
                }
            }
            b'*' | b'~' | b'>' => left += length(kind, line)?.unwrap_or(0) as u64,
            b'%' => left += 2 * length(kind, line)?.unwrap_or(0) as u64,
            b'|' => left += 1 + 2 * length(kind, line)?.unwrap_or(0) as u64,
            other => return Err(ReplyError::UnknownType(other)),
        }
    }
    Ok(Some(at))
}

/// A reply that [`Scanner`] passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The type byte: `+`, `-`, `$`, ...
    pub kind: u8,
    /// Length of the whole reply in bytes.
    pub len: usize,
}

/// Passes over one reply after another without building them. Goes on where it stopped when a reply
/// arrives in pieces, so that no byte is looked at twice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scanner {
    at: usize,
    /// Values still missing; 0 before the first byte of a reply.
    left: u64,
    /// A body whose header was read and that has not arrived: its end with CR LF.
    body_end: usize,
    kind: u8,
}

impl Scanner {
    /// The next reply of `input`, which begins at that reply's first byte and only grows until the
    /// reply is whole; `None` when more bytes are needed.
    ///
    /// # Errors
    /// As [`parse`]. The scanner is of no use afterwards.
    #[inline]
    pub fn next(&mut self, input: &[u8]) -> Result<Option<Scanned>, ReplyError> {
        if self.left == 0 {
            // What a load generator sees nearly always: one short line, or a bulk string.
            let fast = match *input {
                [kind @ (b'+' | b':'), _, _, b'\r', b'\n', ..] => Some((kind, 5)),
                [b':', _, b'\r', b'\n', ..] => Some((b':', 4)),
                [b'$', b'-', b'1', b'\r', b'\n', ..] => Some((b'$', 5)),
                [b'$', a @ b'0'..=b'9', b'\r', b'\n', ..] => Some((b'$', 4 + usize::from(a - b'0') + 2)),
                [b'$', a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', ..] => {
                    Some((b'$', 5 + usize::from(a - b'0') * 10 + usize::from(b - b'0') + 2))
                }
                _ => None,
            };
            if let Some((kind, len)) = fast
                && len <= input.len()
                && (kind == b'$' || !input[1..len - 2].contains(&b'\r'))
                && !(kind == b'$' && input[len - 2..len] != *b"\r\n")
            {
                return Ok(Some(Scanned { kind, len }));
            }
        }
        self.slow(input)
    }

    fn slow(&mut self, input: &[u8]) -> Result<Option<Scanned>, ReplyError> {
        if self.left == 0 {
            let Some(&kind) = input.first() else { return Ok(None) };
            *self = Scanner { at: 0, left: 1, body_end: 0, kind };
        }
        while self.left > 0 {
            if self.body_end > 0 {
                let Some(end) = input.get(self.body_end - 2..self.body_end) else { return Ok(None) };
                if end != b"\r\n" {
                    return Err(ReplyError::MalformedLine);
                }
                self.at = self.body_end;
                self.body_end = 0;
                self.left -= 1;
                continue;
            }
            let Some((kind, text)) = line(input, &mut self.at)? else { return Ok(None) };
            match kind {
                b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' => {}
                b'$' | b'!' | b'=' => {
                    if let Some(len) = length(kind, text)? {
                        self.body_end = self.at + len + 2;
                        continue;
                    }
                }
                b'*' | b'~' | b'>' => self.left += length(kind, text)?.unwrap_or(0) as u64,
                b'%' => self.left += 2 * length(kind, text)?.unwrap_or(0) as u64,
                b'|' => self.left += 1 + 2 * length(kind, text)?.unwrap_or(0) as u64,
                other => return Err(ReplyError::UnknownType(other)),
            }
            self.left -= 1;
        }
        let scanned = Scanned { kind: self.kind, len: self.at };
        *self = Scanner::default();
        Ok(Some(scanned))
    }
}

fn line<'a>(input: &'a [u8], at: &mut usize) -> Result<Option<(u8, &'a [u8])>, ReplyError> {
    let rest = &input[*at..];
    let Some(&kind) = rest.first() else { return Ok(None) };
    let window = &rest[..rest.len().min(LINE_LEN_MAX)];
    let Some(end) = window.iter().position(|&b| b == b'\r') else {
        return if rest.len() >= LINE_LEN_MAX { Err(ReplyError::MalformedLine) } else { Ok(None) };
    };
    match rest.get(end + 1) {
        None => Ok(None),
        Some(b'\n') if end > 0 => {
            *at += end + 2;
            Ok(Some((kind, &rest[1..end])))
        }
        Some(_) => Err(ReplyError::MalformedLine),
    }
}

/// A length; only strings and arrays have the null of RESP2.
fn length(kind: u8, line: &[u8]) -> Result<Option<usize>, ReplyError> {
    match parse_i64(line) {
        Some(-1) if matches!(kind, b'$' | b'*') => Ok(None),
        Some(len) if (0..=i64::from(u32::MAX)).contains(&len) => Ok(Some(len as usize)),
        _ => Err(ReplyError::InvalidLength),
    }
}

fn value(input: &[u8], at: &mut usize, depth: usize) -> Result<Option<Value>, ReplyError> {
    if depth > DEPTH_MAX {
        return Err(ReplyError::TooDeep);
    }
    let Some((kind, text)) = line(input, at)? else { return Ok(None) };
    Ok(Some(match kind {
        b'+' => Value::Simple(text.to_vec()),
        b'-' => Value::Error(text.to_vec()),
        b':' => Value::Integer(parse_i64(text.strip_prefix(b"+").unwrap_or(text)).ok_or(ReplyError::InvalidLength)?),
        b',' => Value::Double(match text {
            b"nan" | b"-nan" => f64::NAN,
            _ => parse_f64(text).ok_or(ReplyError::InvalidLength)?,
        }),
        b'#' => match text {
            b"t" => Value::Boolean(true),
            b"f" => Value::Boolean(false),
            _ => return Err(ReplyError::MalformedLine),
        },
        b'_' => Value::Null,
        b'(' => Value::BigNumber(text.to_vec()),
        b'$' | b'!' | b'=' => {
            let Some(len) = length(kind, text)? else { return Ok(Some(Value::Null)) };
            let Some(body) = input.get(*at..*at + len) else { return Ok(None) };
            match input.get(*at + len..*at + len + 2) {
                None => return Ok(None),
                Some(b"\r\n") => *at += len + 2,
                Some(_) => return Err(ReplyError::MalformedLine),
            }
            match (kind, body) {
                (b'$', _) => Value::Bulk(body.to_vec()),
                (b'!', _) => Value::Error(body.to_vec()),
                (_, [a, b, c, b':', text @ ..]) => Value::Verbatim([*a, *b, *c], text.to_vec()),
                _ => return Err(ReplyError::MalformedLine),
            }
        }
        b'*' | b'~' | b'>' => {
            let Some(len) = length(kind, text)? else { return Ok(Some(Value::Null)) };
            let Some(items) = values(input, at, len, depth)? else { return Ok(None) };
            match kind {
                b'*' => Value::Array(items),
                b'~' => Value::Set(items),
                _ => Value::Push(items),
            }
        }
        b'%' | b'|' => {
            let Some(len) = length(kind, text)? else { return Ok(Some(Value::Null)) };
            let Some(items) = values(input, at, len * 2, depth)? else { return Ok(None) };
            let mut pairs = Vec::with_capacity(len.min(items.len()));
            let mut items = items.into_iter();
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                pairs.push((key, value));
            }
            if kind == b'%' {
                Value::Map(pairs)
            } else {
                let Some(inner) = value(input, at, depth + 1)? else { return Ok(None) };
                Value::Attributed(pairs, Box::new(inner))
            }
        }
        other => return Err(ReplyError::UnknownType(other)),
    }))
}

fn values(input: &[u8], at: &mut usize, len: usize, depth: usize) -> Result<Option<Vec<Value>>, ReplyError> {
    // A value takes at least three bytes: what is announced but cannot be here is not reserved.
    let mut items = Vec::with_capacity(len.min((input.len() - *at) / 3 + 1));
    for _ in 0..len {
        match value(input, at, depth + 1)? {
            Some(item) => items.push(item),
            None => return Ok(None),
        }
    }
    Ok(Some(items))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_type_reads() {
        let input =
            b"*9\r\n+a\r\n-ERR x\r\n:-3\r\n$1\r\nb\r\n_\r\n#t\r\n,1.5\r\n=6\r\ntxt:hi\r\n%1\r\n+k\r\n~1\r\n(12\r\n";
        let (value, len) = parse(input).unwrap().unwrap();
        assert_eq!(len, input.len());
        assert_eq!(skip(input).unwrap(), Some(input.len()));
        let Value::Array(items) = value else { panic!() };
        assert_eq!(items[7], Value::Verbatim(*b"txt", b"hi".to_vec()));
        assert_eq!(
            items[8],
            Value::Map(vec![(Value::Simple(b"k".to_vec()), Value::Set(vec![Value::BigNumber(b"12".to_vec())]))])
        );
        for end in 0..input.len() {
            assert_eq!(parse(&input[..end]).unwrap(), None, "{end}");
            assert_eq!(skip(&input[..end]).unwrap(), None, "{end}");
        }
    }

    #[test]
    fn the_scanner_goes_on_where_it_stopped() {
        let replies: &[&[u8]] = &[
            b"+OK\r\n",
            b"+\r\n",
            b"+a\r\n",
            b"+ab\r\n",
            b"+PONG\r\n",
            b":1\r\n",
            b":12\r\n",
            b":-4\r\n",
            b"$-1\r\n",
            b"$0\r\n\r\n",
            b"$3\r\nabc\r\n",
            b"$12\r\nabcdefghijkl\r\n",
            b"-ERR no\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*2\r\n$1\r\na\r\n*1\r\n:5\r\n",
            b"%1\r\n+k\r\n~1\r\n(12\r\n",
            b"|1\r\n+k\r\n+v\r\n#t\r\n",
        ];
        let all = replies.concat();
        // Whatever the pieces are, the same replies come out.
        for piece in 1..all.len() {
            let mut scanner = Scanner::default();
            let (mut from, mut seen) = (0, Vec::new());
            for end in (piece..all.len()).step_by(piece).chain([all.len()]) {
                while let Some(scanned) = scanner.next(&all[from..end]).unwrap() {
                    assert_eq!(scanned.kind, all[from]);
                    seen.push(&all[from..from + scanned.len]);
                    from += scanned.len;
                }
            }
            assert_eq!(seen, replies, "{piece}");
        }
        for bad in [&b"?x\r\n"[..], b"$3\r\nabcde", b"$x\r\n", b"$-2\r\n", b"+a\rb\r\n"] {
            assert!(Scanner::default().next(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    proptest! {
        #[test]
        fn the_scanner_agrees_with_the_parser(bytes in proptest::collection::vec(proptest::sample::select(b"+-:$*%01a\r\n".to_vec()), 0..40)) {
            if let Ok(Some((_, len))) = parse(&bytes) {
                prop_assert_eq!(Scanner::default().next(&bytes).unwrap().unwrap().len, len);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let whole = parse(&bytes);
            if let Ok(Some((_, len))) = whole {
                prop_assert_eq!(skip(&bytes), Ok(Some(len)));
            }
        }
    }
}
