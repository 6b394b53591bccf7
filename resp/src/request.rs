//! Requests: arrays of bulk strings and inline commands, parsed in place.
//!
//! The parser is handed the unconsumed bytes of a connection and yields spans into them. It keeps
//! its place between calls, so a command that arrives byte by byte is still parsed once. A bulk
//! that is large and not yet there is announced ([`Step::Big`]) so that the caller can collect
//! it where it will stay, instead of gathering it here first.

use crate::number::parse_i64;

/// Longest line (inline command, or the digits of a count) in bytes before it is refused.
pub const LINE_LEN_MAX: usize = 64 * 1024;
/// What a client that has not authenticated may send: arguments a command.
pub const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
/// What a client that has not authenticated may send: bytes an argument.
pub const UNAUTHENTICATED_BULK_LEN_MAX: i64 = 16 * 1024;

/// One argument: where it starts in the input handed to the parser, and its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Span {
    /// The bytes of this span.
    #[must_use]
    #[inline]
    pub fn of<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        let start = self.start as usize;
        input.get(start..start + self.len as usize).unwrap_or_default()
    }
}

/// What this connection may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `proto-max-bulk-len` in bytes.
    pub bulk_len_max: i64,
    /// Whether the client still has to authenticate.
    pub auth_required: bool,
    /// From this length on a bulk that has not fully arrived is announced as [`Step::Big`].
    pub big_bulk_len_min: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bulk_len_max: 512 * 1024 * 1024, auth_required: false, big_bulk_len_min: 64 * 1024 }
    }
}

/// Why a request is refused. The text is Valkey's; the connection is closed after it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// An inline command without an end.
    #[error("Protocol error: too big inline request")]
    BigInline,
    /// A count without an end.
    #[error("Protocol error: too big mbulk count string")]
    BigMultibulkCount,
    /// A count that is no number or beyond 2^31 - 1.
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLen,
    /// More than ten arguments before AUTH.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLen,
    /// A bulk length without an end.
    #[error("Protocol error: too big bulk count string")]
    BigBulkCount,
    /// Something other than `$` where a bulk begins.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    /// A bulk length that is no number, negative or beyond `proto-max-bulk-len`.
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLen,
    /// A bulk of more than 16 KiB before AUTH.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLen,
    /// An inline command with a quote left open.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// A line or a bulk that does not end in CR LF.
    #[error("Protocol error: invalid CRLF in request")]
    InvalidCrlf,
}

/// What a call of [`RequestParser::parse`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A whole command of `len` bytes; its arguments are the spans just appended.
    Command {
        /// Bytes of input the command takes.
        len: usize,
    },
    /// An inline command with quotes or escapes: its arguments cannot lie in the input.
    Unquoted {
        /// Bytes of input the command takes; the arguments are in [`RequestParser::take_unquoted`].
        len: usize,
    },
    /// Nothing to run (an empty line, `*0`, `*-1`), `len` bytes to drop.
    Nothing {
        /// Bytes of input to drop.
        len: usize,
    },
    /// More bytes are needed.
    Incomplete,
    /// The next argument is `bulk_len` bytes, large and not here yet. The arguments before it are
    /// the spans just appended; its bytes begin at input offset `at`. After collecting them and
    /// the CR LF behind them, go on with [`RequestParser::parse_arg`].
    Big {
        /// Offset in the input where the bulk's bytes begin.
        at: usize,
        /// The bulk's length in bytes.
        bulk_len: usize,
    },
}

/// What a call of [`RequestParser::parse_arg`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgStep {
    /// No argument is left: the command is whole.
    Done,
    /// One argument; it and its framing take `len` bytes of input.
    Arg {
        /// The argument.
        span: Span,
        /// Bytes of input it takes.
        len: usize,
    },
    /// A large one begins at offset `at`.
    Big {
        /// Offset in the input where the bulk's bytes begin.
        at: usize,
        /// The bulk's length in bytes.
        bulk_len: usize,
    },
    /// More bytes are needed.
    Incomplete,
}

/// Parse state of one connection. Small while no command is half there.
#[derive(Debug, Default)]
pub struct RequestParser {
    /// Offset of the next byte to look at, from the start of the unconsumed input.
    at: usize,
    /// Arguments still to come; 0 between commands.
    args_left: u32,
    /// Length of the bulk being read once its header was read.
    bulk_len: Option<u32>,
    /// Whether anything of the current command was parsed (so `at` and `partial` count).
    begun: bool,
    /// Spans of the half command, moved here when a call ends in the middle.
    partial: Vec<Span>,
    /// Arguments of an inline command that needed unquoting.
    unquoted: Vec<Vec<u8>>,
}

impl RequestParser {
    /// A parser at the start of a command.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a command is half parsed.
    #[must_use]
    pub fn in_progress(&self) -> bool {
        self.begun
    }

    /// Memory held for a half command in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.partial.capacity() * size_of::<Span>()
    }

    /// The arguments of the inline command just reported as [`Step::Unquoted`].
    pub fn take_unquoted(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.unquoted)
    }

    /// Parses the next command of `input`, the connection's unconsumed bytes. Spans are appended
    /// to `spans`; on [`Step::Incomplete`] none are.
    ///
    /// # Errors
    /// A [`ProtocolError`] when the bytes cannot be a request. The connection is beyond help.
    #[inline]
    pub fn parse(&mut self, input: &[u8], limits: &Limits, spans: &mut Vec<Span>) -> Result<Step, ProtocolError> {
        let base = spans.len();
        if !self.begun {
            match input.first() {
                None => return Ok(Step::Incomplete),
                Some(b'*') => {}
                Some(_) => return self.parse_inline(input, spans),
            }
            self.at = 0;
            let Some((count, next)) = header(input, 0, ProtocolError::BigMultibulkCount)? else {
                return Ok(Step::Incomplete);
            };
            let count =
                count.filter(|count| *count <= i64::from(i32::MAX)).ok_or(ProtocolError::InvalidMultibulkLen)?;
            if count > UNAUTHENTICATED_ARGS_MAX && limits.auth_required {
                return Err(ProtocolError::UnauthenticatedMultibulkLen);
            }
            if count <= 0 {
                return Ok(Step::Nothing { len: next });
            }
            self.at = next;
            self.args_left = count as u32;
            self.bulk_len = None;
        } else if !self.partial.is_empty() {
            spans.append(&mut self.partial);
        }
        while self.args_left > 0 {
            match self.bulk(input, limits)? {
                ArgStep::Arg { span, .. } => spans.push(span),
                ArgStep::Big { at, bulk_len } => {
                    self.begun = true;
                    return Ok(Step::Big { at, bulk_len });
                }
                ArgStep::Incomplete | ArgStep::Done => {
                    self.begun = true;
                    self.partial.extend_from_slice(&spans[base..]);
                    spans.truncate(base);
                    return Ok(Step::Incomplete);
                }
            }
        }
        self.begun = false;
        Ok(Step::Command { len: std::mem::take(&mut self.at) })
    }

    /// After a [`Step::Big`]: parses one further argument of the same command from the start of
    /// `input` (everything before it was consumed by the caller).
    ///
    /// # Errors
    /// As [`RequestParser::parse`].
    pub fn parse_arg(&mut self, input: &[u8], limits: &Limits) -> Result<ArgStep, ProtocolError> {
        if self.args_left == 0 {
            self.begun = false;
            self.at = 0;
            return Ok(ArgStep::Done);
        }
        let step = self.bulk(input, limits)?;
        if let ArgStep::Arg { .. } = step {
            self.at = 0;
        }
        Ok(step)
    }

    /// Tells that the caller has consumed a big bulk and the CR LF behind it.
    pub fn big_done(&mut self) {
        self.args_left = self.args_left.saturating_sub(1);
        self.bulk_len = None;
        self.at = 0;
    }

    /// One bulk at `self.at`; moves past it.
    #[inline]
    fn bulk(&mut self, input: &[u8], limits: &Limits) -> Result<ArgStep, ProtocolError> {
        let bulk_len = match self.bulk_len {
            Some(len) => len,
            None => {
                match input.get(self.at) {
                    None => return Ok(ArgStep::Incomplete),
                    Some(b'$') => {}
                    Some(other) => {
                        // The whole line is awaited first, as Valkey does: the error names its first byte.
                        return match header(input, self.at, ProtocolError::BigBulkCount)? {
                            None => Ok(ArgStep::Incomplete),
                            Some(_) => Err(ProtocolError::ExpectedBulk(*other)),
                        };
                    }
                }
                let Some((len, next)) = header(input, self.at, ProtocolError::BigBulkCount)? else {
                    return Ok(ArgStep::Incomplete);
                };
                let len = len
                    .filter(|len| *len >= 0 && *len <= limits.bulk_len_max && *len < i64::from(u32::MAX))
                    .ok_or(ProtocolError::InvalidBulkLen)?;
                if len > UNAUTHENTICATED_BULK_LEN_MAX && limits.auth_required {
                    return Err(ProtocolError::UnauthenticatedBulkLen);
                }
                self.at = next;
                self.bulk_len = Some(len as u32);
                len as u32
            }
        };
        let start = self.at;
        let end = start + bulk_len as usize;
        let Some(tail) = input.get(end..end + 2) else {
            if bulk_len as usize >= limits.big_bulk_len_min {
                return Ok(ArgStep::Big { at: start, bulk_len: bulk_len as usize });
            }
            return Ok(ArgStep::Incomplete);
        };
        if tail != b"\r\n" {
            return Err(ProtocolError::InvalidCrlf);
        }
        let Ok(start) = u32::try_from(start) else {
            return Err(ProtocolError::InvalidMultibulkLen);
        };
        self.at = end + 2;
        self.bulk_len = None;
        self.args_left -= 1;
        Ok(ArgStep::Arg { span: Span { start, len: bulk_len }, len: self.at })
    }

    fn parse_inline(&mut self, input: &[u8], spans: &mut Vec<Span>) -> Result<Step, ProtocolError> {
        let window = &input[..input.len().min(LINE_LEN_MAX + 1)];
        let Some(end) = window.iter().position(|&b| b == b'\n') else {
            return if input.len() > LINE_LEN_MAX { Err(ProtocolError::BigInline) } else { Ok(Step::Incomplete) };
        };
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        let len = end + 1;
        if line.iter().any(|b| matches!(b, b'"' | b'\'')) {
            let words = split_words(line).ok_or(ProtocolError::UnbalancedQuotes)?;
            if words.is_empty() {
                return Ok(Step::Nothing { len });
            }
            self.unquoted = words;
            return Ok(Step::Unquoted { len });
        }
        let base = spans.len();
        let mut at = 0;
        while at < line.len() {
            if is_space(line[at]) {
                at += 1;
                continue;
            }
            // A NUL ends the line, as it ends a C string.
            if line[at] == 0 {
                break;
            }
            let start = at;
            while at < line.len() && !is_space(line[at]) && line[at] != 0 {
                at += 1;
            }
            spans.push(Span { start: start as u32, len: (at - start) as u32 });
        }
        if spans.len() == base { Ok(Step::Nothing { len }) } else { Ok(Step::Command { len }) }
    }
}

/// Reads `X<number>\r\n` at `at`: the number (`None` if it is none) and the offset behind it.
#[inline]
fn header(input: &[u8], at: usize, too_long: ProtocolError) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
    let line = &input[at.min(input.len())..];
    // The common case, one or two digits, without a search.
    if let [_, digit @ b'0'..=b'9', b'\r', b'\n', ..] = line {
        return Ok(Some((Some(i64::from(digit - b'0')), at + 4)));
    }
    if let [_, tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', b'\n', ..] = line {
        return Ok(Some((Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')), at + 5)));
    }
    let window = &line[..line.len().min(LINE_LEN_MAX + 2)];
    let Some(end) = window.iter().position(|&b| b == b'\r') else {
        return if line.len() > LINE_LEN_MAX { Err(too_long) } else { Ok(None) };
    };
    match line.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((parse_i64(&line[1.min(end)..end]), at + end + 2))),
        Some(_) if line[0] == b'$' || line[0] == b'*' => Err(ProtocolError::InvalidCrlf),
        Some(_) => Err(ProtocolError::ExpectedBulk(line[0])),
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Splits a line into words as the inline protocol and configuration files quote them: double
/// quotes with `\xHH`, `\n`, `\r`, `\t`, `\b`, `\a` and escaped characters, single quotes with
/// `\'` alone; quoted and bare pieces may be mixed in one word. `None` if a quote is left open.
#[must_use]
pub fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|&b| is_space(b)) {
            at += 1;
        }
        match line.get(at) {
            None | Some(0) => return Some(words),
            Some(_) => {}
        }
        let mut word = Vec::new();
        loop {
            match line.get(at) {
                None | Some(0) => break,
                Some(&b) if is_space(b) => break,
                Some(b'"') => at = double_quoted(line, at + 1, &mut word)?,
                Some(b'\'') => at = single_quoted(line, at + 1, &mut word)?,
                Some(&b) => {
                    word.push(b);
                    at += 1;
                }
            }
        }
        words.push(word);
    }
}

/// Reads up to the closing quote and returns the offset behind it; the word may go on there.
fn double_quoted(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *line.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match *line.get(at + 1)? {
                b'x' if hex(line, at + 2).is_some() => {
                    word.push(hex(line, at + 2)?);
                    at += 4;
                }
                escaped => {
                    word.push(match escaped {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'b' => 8,
                        b'a' => 7,
                        other => other,
                    });
                    at += 2;
                }
            },
            byte => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

fn single_quoted(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *line.get(at)? {
            b'\'' => return Some(at + 1),
            b'\\' if line.get(at + 1) == Some(&b'\'') => {
                word.push(b'\'');
                at += 2;
            }
            byte => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

fn hex(line: &[u8], at: usize) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16);
    Some((digit(*line.get(at)?)? * 16 + digit(*line.get(at + 1)?)?) as u8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn all(input: &[u8], limits: &Limits) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let mut parser = RequestParser::new();
        let mut rest = input;
        let mut commands = Vec::new();
        loop {
            let mut spans = Vec::new();
            match parser.parse(rest, limits, &mut spans)? {
                Step::Command { len } => {
                    commands.push(spans.iter().map(|s| s.of(rest).to_vec()).collect());
                    rest = &rest[len..];
                }
                Step::Unquoted { len } => {
                    commands.push(parser.take_unquoted());
                    rest = &rest[len..];
                }
                Step::Nothing { len } => rest = &rest[len..],
                Step::Incomplete | Step::Big { .. } => return Ok(commands),
            }
        }
    }

    fn encode(command: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        crate::encode::request(&mut out, command);
        out
    }

    #[test]
    fn errors_have_valkeys_words() {
        let open = Limits::default();
        let closed = Limits { auth_required: true, ..open };
        for (input, limits, text) in [
            (&b"*a\r\n"[..], &open, "Protocol error: invalid multibulk length"),
            (b"*9223372036854775808\r\n", &open, "Protocol error: invalid multibulk length"),
            (b"*2147483648\r\n", &open, "Protocol error: invalid multibulk length"),
            (b"*11\r\n", &closed, "Protocol error: unauthenticated multibulk length"),
            (b"*1\r\n$16385\r\n", &closed, "Protocol error: unauthenticated bulk length"),
            (b"*1\r\n$-1\r\n", &open, "Protocol error: invalid bulk length"),
            (b"*1\r\n$x\r\n", &open, "Protocol error: invalid bulk length"),
            (b"*1\r\n$536870913\r\n", &open, "Protocol error: invalid bulk length"),
            (b"*1\r\nPING\r\n", &open, "Protocol error: expected '$', got 'P'"),
            (b"*1\r\n$4\r\nPINGxx", &open, "Protocol error: invalid CRLF in request"),
            (b"*1\rx", &open, "Protocol error: invalid CRLF in request"),
            (b"set \"a\r\n", &open, "Protocol error: unbalanced quotes in request"),
        ] {
            assert_eq!(all(input, limits).unwrap_err().to_string(), text, "{:?}", String::from_utf8_lossy(input));
        }
        let long = vec![b'x'; LINE_LEN_MAX + 1];
        assert_eq!(all(&long, &open).unwrap_err(), ProtocolError::BigInline);
        let long = [b"*".to_vec(), vec![b'1'; LINE_LEN_MAX + 1]].concat();
        assert_eq!(all(&long, &open).unwrap_err(), ProtocolError::BigMultibulkCount);
    }

    #[test]
    fn inline_words_and_quotes() {
        let open = Limits::default();
        let got = all(b"\r\n  set  k  \"a b\\x41\\n\" 'c\\'d'\r\nPING\n*0\r\n*-1\r\n", &open).unwrap();
        assert_eq!(
            got,
            vec![vec![b"set".to_vec(), b"k".to_vec(), b"a bA\n".to_vec(), b"c'd".to_vec()], vec![b"PING".to_vec()]]
        );
    }

    #[test]
    fn a_big_bulk_is_announced_and_the_command_goes_on() {
        let limits = Limits { big_bulk_len_min: 8, ..Limits::default() };
        let mut parser = RequestParser::new();
        let mut spans = Vec::new();
        let head = b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\n01";
        let step = parser.parse(head, &limits, &mut spans).unwrap();
        assert_eq!(step, Step::Big { at: head.len() - 2, bulk_len: 10 });
        assert_eq!(spans.len(), 2);
        parser.big_done();
        let tail = b"$2\r\nNX\r\n";
        assert_eq!(parser.parse_arg(tail, &limits).unwrap(), ArgStep::Arg { span: Span { start: 4, len: 2 }, len: 8 });
        assert_eq!(parser.parse_arg(b"", &limits).unwrap(), ArgStep::Done);
        assert!(!parser.in_progress());
    }

    fn commands() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
        let arg = proptest::collection::vec(any::<u8>(), 0..40);
        let command = proptest::collection::vec(arg, 1..6);
        proptest::collection::vec(command, 0..6)
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_commands(commands in commands(), step in 1usize..50) {
            let bytes: Vec<u8> = commands.iter().flat_map(|c| encode(c)).collect();
            let limits = Limits::default();
            let mut parser = RequestParser::new();
            let mut got: Vec<Vec<Vec<u8>>> = Vec::new();
            let mut consumed = 0;
            let mut end = 0;
            while end < bytes.len() {
                end = (end + step).min(bytes.len());
                loop {
                    let rest = &bytes[consumed..end];
                    let mut spans = Vec::new();
                    match parser.parse(rest, &limits, &mut spans).unwrap() {
                        Step::Command { len } => {
                            got.push(spans.iter().map(|s| s.of(rest).to_vec()).collect());
                            consumed += len;
                        }
                        Step::Incomplete => { prop_assert!(spans.is_empty()); break }
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
            }
            prop_assert_eq!(got, commands);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), auth: bool) {
            let _ = all(&bytes, &Limits { auth_required: auth, big_bulk_len_min: 32, ..Limits::default() });
        }
    }
}
