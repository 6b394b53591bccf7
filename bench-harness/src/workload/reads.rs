//! Whether what was read was there: of each command's reply, how many keys it found, how many it did
//! not, and whether a value is as long as the values that were written.
//!
//! A server that has none of the keys answers faster than one that has them, so this is looked at in
//! every reply. It costs a look at bytes the scanner has just passed over and allocates nothing.

use super::Workload;
use super::lookup::{Found, Lengths, Lookup};

impl Workload {
    /// What the whole reply to a command, an index into [`Workload::names`], says of its keys.
    #[inline]
    #[must_use]
    pub fn found(&self, op: u8, reply: &[u8]) -> Found {
        let Some((lookup, lengths)) = self.lookups.get(usize::from(op)) else { return Found::default() };
        match lookup {
            Lookup::Nothing => Found::default(),
            Lookup::Value => value(reply, *lengths),
            Lookup::Values => values(reply, *lengths),
            Lookup::Number(absent) => {
                let absent = reply == *absent;
                Found { hits: u64::from(reply.starts_with(b":") && !absent), misses: u64::from(absent), wrong_len: 0 }
            }
        }
    }
}

#[inline]
fn value(reply: &[u8], lengths: Option<Lengths>) -> Found {
    match reply {
        [b'$', b'-', ..] | [b'_', ..] => Found { hits: 0, misses: 1, wrong_len: 0 },
        [b'$', ..] => {
            let wrong = lengths.is_some_and(|lengths| !lengths.fit(reply.len()));
            Found { hits: 1, misses: 0, wrong_len: u64::from(wrong) }
        }
        // What MULTI has queued, for one.
        _ => Found::default(),
    }
}

/// Elements of an array that are values or nil; what else there is tells nothing.
fn values(reply: &[u8], lengths: Option<Lengths>) -> Found {
    let mut found = Found::default();
    let line = |from: usize| reply[from..].iter().position(|&byte| byte == b'\n').map(|len| from + len + 1);
    let Some(mut at) = line(0).filter(|_| reply.starts_with(b"*")) else { return found };
    while let Some(&kind) = reply.get(at) {
        let Some(mut end) = line(at) else { break };
        if kind == b'$' && reply.get(at + 1) != Some(&b'-') {
            let digits = &reply[at + 1..end];
            let body = digits.iter().take_while(|byte| byte.is_ascii_digit());
            let body = body.fold(0usize, |len, byte| len.saturating_mul(10).saturating_add(usize::from(byte - b'0')));
            end = end.saturating_add(body).saturating_add(2);
        }
        let Some(element) = reply.get(at..end) else { break };
        found.add(value(element, lengths));
        at = end;
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::WorkloadSpec;
    use super::super::lookup::bulk_len;
    use super::*;

    fn workload(commands: &[&str], change: impl FnOnce(&mut WorkloadSpec)) -> Workload {
        let commands = commands.iter().map(ToString::to_string).collect();
        let mut spec = WorkloadSpec { commands, value_size: "64".into(), ..WorkloadSpec::default() };
        change(&mut spec);
        Workload::compile(&spec).unwrap()
    }

    fn bulk(len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        tercel_resp::encode::bulk(&mut out, &vec![b'x'; len]);
        out
    }

    fn found(hits: u64, misses: u64, wrong_len: u64) -> Found {
        Found { hits, misses, wrong_len }
    }

    #[test]
    fn hits_and_misses_are_told_apart() {
        let all = workload(
            &["GET __key__", "MGET __key__ __key__", "EXISTS __key__", "TTL __key__", "SET __key__ __value__", "PING"],
            |_| {},
        );
        let mut three = b"*3\r\n".to_vec();
        three.extend([&bulk(64)[..], b"$-1\r\n", &bulk(5)[..]].concat());
        for (op, reply, want) in [
            (0, &bulk(64)[..], found(1, 0, 0)),
            (0, b"$-1\r\n", found(0, 1, 0)),
            (0, b"_\r\n", found(0, 1, 0)),
            (0, &bulk(63)[..], found(1, 0, 1)),
            (0, &bulk(0)[..], found(1, 0, 1)),
            (0, &bulk(640)[..], found(1, 0, 1)),
            (0, b"+QUEUED\r\n", found(0, 0, 0)),
            (1, &three[..], found(2, 1, 1)),
            (1, b"*2\r\n_\r\n_\r\n", found(0, 2, 0)),
            (1, b"*-1\r\n", found(0, 0, 0)),
            (2, b":0\r\n", found(0, 1, 0)),
            (2, b":1\r\n", found(1, 0, 0)),
            (3, b":-2\r\n", found(0, 1, 0)),
            (3, b":-1\r\n", found(1, 0, 0)),
            (4, b"+OK\r\n", found(0, 0, 0)),
            (5, b"+PONG\r\n", found(0, 0, 0)),
        ] {
            assert_eq!(all.found(op, reply), want, "{} {}", all.names()[usize::from(op)], reply.escape_ascii());
        }
        // An echo is not asked for what it holds.
        assert_eq!(all.any_reply().found(0, b"$-1\r\n"), found(0, 0, 0));
    }

    #[test]
    fn a_length_is_wrong_only_if_it_is_known() {
        let wrong = |commands: &[&str], change: &dyn Fn(&mut WorkloadSpec), len| {
            workload(commands, change).found(0, &bulk(len)).wrong_len > 0
        };
        let plain = |_: &mut WorkloadSpec| {};
        let get = "GET __key__";
        for writer in [
            "SET __key__ __value__ EX 5",
            "SETEX __key__ 5 __value__",
            "MSET __key__ __value__ __key__ __value__",
            "DEL __key__",
            "SET other:__key__ pre-__value__",
            "INCR counter:__key__",
            "STRLEN __key__",
        ] {
            assert!(wrong(&[get, writer], &plain, 65), "{writer}");
            assert!(!wrong(&[get, writer], &plain, 64), "{writer}");
        }
        for writer in
            ["APPEND __key__ x", "SET __key__ pre-__value__", "SET key:__int__ a-__value__", "EVAL x 1 __key__"]
        {
            assert!(!wrong(&[get, writer], &plain, 65), "{writer}");
        }
        assert!(!wrong(&[get, "SET __key__ x"], &plain, 1));
        assert!(!wrong(&[get], &|spec| spec.no_preload = true, 65), "what is there is not known");
        assert!(!wrong(&["GET other:__key__"], &plain, 65));
        let range = |spec: &mut WorkloadSpec| spec.value_size = "99..1001".into();
        assert!(wrong(&[get], &range, 98) && wrong(&[get], &range, 1002));
        for len in [99, 100, 999, 1000, 1001] {
            assert!(!wrong(&[get], &range, len), "{len}");
        }
    }

    #[test]
    fn lengths_of_bulk_strings_are_right() {
        for len in [0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 65_535, 99_999, 100_000] {
            assert_eq!(bulk_len(len), bulk(len).len(), "{len}");
        }
    }
}
