//! Command templates: text with placeholders, compiled to pieces that are written as RESP without
//! looking at the text again.

use anyhow::{bail, ensure};
use tercel_resp::encode;

/// Digits of a key or a number: fixed, so that a request's frame is known beforehand.
pub const DIGITS: usize = 12;

/// A part of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `__key__`: the prefix and the key's number.
    Key,
    /// `__value__`
    Value,
    /// `__int__`: a number below the key count, always uniform, independent of the key.
    Int,
    /// `__seq__`: counts up with each use.
    Seq,
    /// `__ttl__`: from the range of the TTLs, in seconds.
    Ttl,
}

/// What a request is put together from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes as they are.
    Literal(Vec<u8>),
    /// [`DIGITS`] digits of a key or number.
    Digits(Placeholder),
    /// An argument whose length varies: header, parts, end.
    Variable(Vec<Part>),
}

/// A part of an argument whose length varies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(Vec<u8>),
    /// Something to fill in.
    Fill(Placeholder),
}

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The command's name in lower case.
    pub name: String,
    /// The command and its arguments, as they were written.
    pub args: Vec<Vec<Part>>,
    /// The request.
    pub pieces: Vec<Piece>,
    /// Whether `__key__` is in it.
    pub has_key: bool,
    /// Whether `__value__` is in it.
    pub has_value: bool,
    /// Whether `__ttl__` is in it.
    pub has_ttl: bool,
}

impl Template {
    /// Compiles words separated by spaces; quotes as in redis-cli. `prefix` goes before a key's
    /// digits.
    ///
    /// # Errors
    /// An empty template, an open quote, a placeholder nobody knows.
    pub fn parse(text: &str, prefix: &str) -> anyhow::Result<Self> {
        let words = split(text.as_bytes())?;
        ensure!(!words.is_empty(), "the command template is empty");
        let args: Vec<Vec<Part>> = words.iter().map(|word| parts(word, prefix)).collect::<anyhow::Result<_>>()?;
        let [Part::Text(name)] = args[0].as_slice() else {
            bail!("a template begins with a command, not with a placeholder: {text:?}")
        };
        let has = |wanted| args.iter().flatten().any(|part| *part == Part::Fill(wanted));
        let mut template = Template {
            name: String::from_utf8_lossy(name).to_lowercase(),
            args: args.clone(),
            pieces: Vec::new(),
            has_key: has(Placeholder::Key),
            has_value: has(Placeholder::Value),
            has_ttl: has(Placeholder::Ttl),
        };
        let mut header = Vec::new();
        encode::array(&mut header, args.len());
        template.literal(&header);
        for arg in args {
            template.argument(arg);
        }
        Ok(template)
    }

    fn argument(&mut self, arg: Vec<Part>) {
        let fixed = arg.iter().try_fold(0, |len, part| match part {
            Part::Text(text) => Some(len + text.len()),
            Part::Fill(Placeholder::Value | Placeholder::Ttl) => None,
            Part::Fill(_) => Some(len + DIGITS),
        });
        let Some(len) = fixed else {
            self.pieces.push(Piece::Variable(arg));
            return;
        };
        let mut header = Vec::new();
        encode::header(&mut header, b'$', len as i64);
        self.literal(&header);
        for part in arg {
            match part {
                Part::Text(text) => self.literal(&text),
                Part::Fill(what) => self.pieces.push(Piece::Digits(what)),
            }
        }
        self.literal(b"\r\n");
    }

    fn literal(&mut self, bytes: &[u8]) {
        match self.pieces.last_mut() {
            Some(Piece::Literal(last)) => last.extend_from_slice(bytes),
            _ => self.pieces.push(Piece::Literal(bytes.to_vec())),
        }
    }
}

fn parts(word: &[u8], prefix: &str) -> anyhow::Result<Vec<Part>> {
    let mut out: Vec<Part> = Vec::new();
    let text = |out: &mut Vec<Part>, bytes: &[u8]| match out.last_mut() {
        Some(Part::Text(last)) => last.extend_from_slice(bytes),
        _ if bytes.is_empty() => {}
        _ => out.push(Part::Text(bytes.to_vec())),
    };
    let mut rest = word;
    while let Some(begin) = find(rest, b"__") {
        let Some(len) = find(&rest[begin + 2..], b"__") else { break };
        let name = &rest[begin + 2..begin + 2 + len];
        if !name.iter().all(u8::is_ascii_lowercase) || name.is_empty() {
            text(&mut out, &rest[..begin + 2]);
            rest = &rest[begin + 2..];
            continue;
        }
        text(&mut out, &rest[..begin]);
        let what = match name {
            b"key" => Placeholder::Key,
            b"value" => Placeholder::Value,
            b"int" => Placeholder::Int,
            b"seq" => Placeholder::Seq,
            b"ttl" => Placeholder::Ttl,
            other => bail!(
                "unknown placeholder __{}__; there are __key__, __value__, __int__, __seq__, __ttl__",
                String::from_utf8_lossy(other)
            ),
        };
        if what == Placeholder::Key {
            text(&mut out, prefix.as_bytes());
        }
        out.push(Part::Fill(what));
        rest = &rest[begin + 4 + len..];
    }
    text(&mut out, rest);
    if out.is_empty() {
        out.push(Part::Text(Vec::new()));
    }
    Ok(out)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Splits a line into words: spaces separate, `"…"` knows `\n \r \t \\ \" \xHH`, `'…'` knows `\'`.
///
/// # Errors
/// A quote that is not closed, or closed in the middle of a word.
pub fn split(line: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        let Some(&first) = rest.first() else { return Ok(words) };
        let mut word = Vec::new();
        if first != b'"' && first != b'\'' {
            let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            ensure!(!rest[..end].contains(&b'"'), "a quote inside a word in {:?}", String::from_utf8_lossy(line));
            word.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        } else {
            let mut at = 1;
            loop {
                let Some(&byte) = rest.get(at) else {
                    bail!("a quote is not closed in {:?}", String::from_utf8_lossy(line))
                };
                at += 1;
                if byte == first {
                    break;
                }
                if byte != b'\\' {
                    word.push(byte);
                    continue;
                }
                let Some(&escaped) = rest.get(at) else {
                    bail!("a quote is not closed in {:?}", String::from_utf8_lossy(line))
                };
                at += 1;
                match escaped {
                    b'n' if first == b'"' => word.push(b'\n'),
                    b'r' if first == b'"' => word.push(b'\r'),
                    b't' if first == b'"' => word.push(b'\t'),
                    b'x' if first == b'"' => {
                        let hex = rest.get(at..at + 2).and_then(|hex| std::str::from_utf8(hex).ok());
                        let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
                            bail!("\\x wants two hexadecimal digits in {:?}", String::from_utf8_lossy(line))
                        };
                        word.push(byte);
                        at += 2;
                    }
                    other => word.push(other),
                }
            }
            rest = &rest[at..];
            ensure!(
                rest.first().is_none_or(u8::is_ascii_whitespace),
                "text right behind a quote in {:?}",
                String::from_utf8_lossy(line)
            );
        }
        words.push(word);
    }
}

/// Appends `number` as [`DIGITS`] digits with leading zeros.
#[inline]
pub fn write_digits(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; DIGITS];
    for pair in digits.chunks_exact_mut(2).rev() {
        let two = (number % 100) as u8;
        number /= 100;
        pair[0] = b'0' + two / 10;
        pair[1] = b'0' + two % 10;
    }
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fixed_arguments_become_literals() {
        let template = Template::parse("GET __key__", "key:").unwrap();
        assert_eq!(
            template.pieces,
            [
                Piece::Literal(b"*2\r\n$3\r\nGET\r\n$16\r\nkey:".to_vec()),
                Piece::Digits(Placeholder::Key),
                Piece::Literal(b"\r\n".to_vec())
            ]
        );
        let template = Template::parse("SET a__key__b '__value__ x' EX __ttl__ __init__x_ __", "k").err().unwrap();
        assert!(template.to_string().contains("__init__"));
        let template = Template::parse("set a__Key__b __value__", "k").unwrap();
        assert!(!template.has_key && template.has_value);
        assert_eq!(template.pieces.last(), Some(&Piece::Variable(vec![Part::Fill(Placeholder::Value)])));
    }

    #[test]
    fn quotes_split_as_in_redis_cli() {
        assert_eq!(split(br#" set "a\x00\n\"" 'it\'s' "" x"#).unwrap(), [&b"set"[..], b"a\0\n\"", b"it's", b"", b"x"]);
        for bad in [&br#"get "a"#[..], br#"get "a\"#, br#"get "a"b"#, br#"get a"b"#, br#"get "\xg0""#, b"get 'a"] {
            assert!(split(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        for bad in ["", "  ", "__key__ a", "GET __nokey__", "GET \"x"] {
            assert!(Template::parse(bad, "").is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text: String) {
            let _ = Template::parse(&text, "key:");
        }

        #[test]
        fn digits_read_back(number in 0u64..1_000_000_000_000) {
            let mut out = Vec::new();
            write_digits(&mut out, number);
            prop_assert_eq!(out.len(), DIGITS);
            prop_assert_eq!(String::from_utf8(out).unwrap().parse::<u64>().unwrap(), number);
        }
    }
}
