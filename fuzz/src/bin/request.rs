//! Requests: any bytes, split anywhere, parse to the same commands, and to those an independent
//! parser finds where it finds any.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;
use tercel_resp::request::{ArgStep, Limits, RequestParser, Step};

type Commands = Vec<Vec<Vec<u8>>>;

/// Parses with everything there at once (`step` 0) or arriving in pieces.
fn parse(bytes: &[u8], step: usize, limits: &Limits) -> (Commands, bool) {
    let mut parser = RequestParser::new();
    let mut commands = Commands::new();
    let mut big: Option<Vec<Vec<u8>>> = None;
    let mut consumed = 0;
    let mut end = if step == 0 { bytes.len() } else { 0 };
    loop {
        end = (end + step).min(bytes.len());
        loop {
            let rest = &bytes[consumed..end];
            if let Some(mut args) = big.take() {
                match parser.parse_arg(rest, limits) {
                    Ok(ArgStep::Done) => commands.push(args),
                    Ok(ArgStep::Arg { span, len }) => {
                        args.push(span.of(rest).to_vec());
                        consumed += len;
                        big = Some(args);
                    }
                    Ok(ArgStep::Big { at, bulk_len }) if rest.len() >= at + bulk_len + 2 => {
                        if &rest[at + bulk_len..at + bulk_len + 2] != b"\r\n" {
                            return (commands, true);
                        }
                        args.push(rest[at..at + bulk_len].to_vec());
                        consumed += at + bulk_len + 2;
                        parser.big_done();
                        big = Some(args);
                    }
                    Ok(ArgStep::Incomplete | ArgStep::Big { .. }) => {
                        big = Some(args);
                        break;
                    }
                    Err(_) => return (commands, true),
                }
                continue;
            }
            let mut spans = Vec::new();
            match parser.parse(rest, limits, &mut spans) {
                Ok(Step::Command { len }) => {
                    commands.push(spans.iter().map(|span| span.of(rest).to_vec()).collect());
                    consumed += len;
                }
                Ok(Step::Unquoted { len }) => {
                    commands.push(parser.take_unquoted());
                    consumed += len;
                }
                Ok(Step::Nothing { len }) => consumed += len,
                Ok(Step::Big { at, bulk_len }) => {
                    // Collected by the caller: here it is looked at once it is whole.
                    let args = spans.iter().map(|span| span.of(rest).to_vec()).collect();
                    if rest.len() < at + bulk_len + 2 {
                        big = Some(args);
                        break;
                    }
                    big = Some(args);
                }
                Ok(Step::Incomplete) => break,
                Err(_) => return (commands, true),
            }
        }
        if end == bytes.len() {
            return (commands, false);
        }
    }
}

/// What the other parser makes of a whole array of bulk strings.
fn oracle(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (frame, len) = decode(bytes).ok()??;
    if len != bytes.len() {
        return None;
    }
    match frame {
        OwnedFrame::Array(items) if !items.is_empty() => items
            .into_iter()
            .map(|item| if let OwnedFrame::BulkString(bytes) = item { Some(bytes) } else { None })
            .collect(),
        _ => None,
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&step, bytes)) = data.split_first() else { return };
    let limits = Limits::default();
    let (whole, broken) = parse(bytes, 0, &limits);
    let (pieces, broken_too) = parse(bytes, usize::from(step % 17) + 1, &limits);
    assert_eq!(whole, pieces);
    assert_eq!(broken, broken_too);
    // The other parser does not look at the two bytes behind a bulk; this one refuses what is no CR LF.
    if let Some(expected) = oracle(bytes).filter(|_| !broken) {
        assert_eq!(whole, [expected]);
    }
    let _ = parse(bytes, 3, &Limits { auth_required: true, big_bulk_len_min: 16, ..limits });
});
