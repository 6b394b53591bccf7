//! Verification: what a reply must be after what a command does to its key.
//!
//! A key belongs to one connection, whose requests and replies come in order. So its content is known
//! as long as every command that touches it is understood; those that are not are refused here.

use super::effect::{Effect, VERSION_DELETED, VERSION_LAST, VERSION_LITERALS, VERSION_UNKNOWN};
use super::op::Issued;
use super::{Workload, excerpt};

/// A key may be gone so long before its deadline: clocks of servers are not so fine.
const DEADLINE_MARGIN_NS: u64 = 100_000_000;

impl Workload {
    /// See [`super::Generator::check`].
    pub(crate) fn check(&self, issued: Issued, reply: &[u8], now_ns: u64) -> Result<bool, String> {
        let Some(op) = self.ops.get(usize::from(issued.op)) else { return Ok(false) };
        match &op.effect {
            Effect::Write | Effect::WriteLiteral(_) if reply == b"+OK\r\n" => Ok(true),
            Effect::Write | Effect::WriteLiteral(_) => {
                Err(format!("SET of key {} answered {}", issued.key, excerpt(reply)))
            }
            Effect::Delete if matches!(reply, b":0\r\n" | b":1\r\n") => Ok(true),
            Effect::Delete => Err(format!("DEL of key {} answered {}", issued.key, excerpt(reply))),
            Effect::Read if issued.version == VERSION_UNKNOWN => Ok(false),
            Effect::Read => {
                let absent = matches!(reply, b"$-1\r\n" | b"_\r\n");
                if issued.version == VERSION_DELETED {
                    return if absent {
                        Ok(true)
                    } else {
                        Err(format!("key {} was deleted, yet GET answered {}", issued.key, excerpt(reply)))
                    };
                }
                if absent && now_ns >= issued.deadline_ns.saturating_sub(DEADLINE_MARGIN_NS) {
                    return Ok(false);
                }
                let want = self.content(issued);
                let header = reply.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                let body = reply.get(header..reply.len().saturating_sub(2)).unwrap_or_default();
                if reply.starts_with(b"$") && body == want {
                    return Ok(true);
                }
                Err(format!(
                    "key {} at version {}: GET answered {}, written was {}",
                    issued.key,
                    issued.version,
                    excerpt(reply),
                    excerpt(want)
                ))
            }
            Effect::Other => Ok(false),
        }
    }

    /// What was written to a key at a version.
    fn content(&self, issued: Issued) -> &[u8] {
        if issued.version > VERSION_LAST
            && let Some(op) = self.ops.get((VERSION_LITERALS - issued.version) as usize)
            && let Effect::WriteLiteral(text) = &op.effect
        {
            return text;
        }
        self.values.of(issued.key, issued.version)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::super::effect::version_of_literal;
    use super::super::{Generator, WorkloadSpec};
    use super::*;
    use tercel_resp::encode;
    use tercel_resp::reply::Value;

    fn generator(commands: &[&str]) -> anyhow::Result<Generator> {
        let spec = WorkloadSpec {
            keys: "100".into(),
            value_size: "10..50".into(),
            ttl: Some("10..20".into()),
            verify: true,
            commands: commands.iter().map(ToString::to_string).collect(),
            ..WorkloadSpec::default()
        };
        Generator::new(Arc::new(Workload::compile(&spec)?), 0, 0, 4)
    }

    /// A store that does what it is told; `lose` makes it forget a SET with this value.
    fn serve(store: &mut HashMap<Vec<u8>, Vec<u8>>, request: &[u8], lose: Option<&[u8]>) -> Vec<u8> {
        let Value::Array(words) = tercel_resp::reply::parse(request).unwrap().unwrap().0 else { panic!() };
        let words: Vec<Vec<u8>> =
            words.into_iter().map(|word| if let Value::Bulk(word) = word { word } else { panic!() }).collect();
        let mut reply = Vec::new();
        match words[0].as_slice() {
            b"SET" => {
                if lose != Some(&words[2]) {
                    store.insert(words[1].clone(), words[2].clone());
                }
                reply.extend_from_slice(b"+OK\r\n");
            }
            b"DEL" => reply.extend_from_slice(if store.remove(&words[1]).is_some() { b":1\r\n" } else { b":0\r\n" }),
            b"GET" => match store.get(&words[1]) {
                Some(value) => encode::bulk(&mut reply, value),
                None => reply.extend_from_slice(b"$-1\r\n"),
            },
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
        reply
    }

    fn mismatches(commands: &[&str], lose: Option<&[u8]>) -> usize {
        let mut generator = generator(commands).unwrap();
        let (mut store, mut out, mut wrong) = (HashMap::new(), Vec::new(), 0);
        for key in 0..100 {
            out.clear();
            generator.workload().preload_request(&mut out, key);
            serve(&mut store, &out, None);
        }
        for turn in 0..5000 {
            out.clear();
            let issued = generator.next(&mut out, turn % 4);
            wrong += usize::from(generator.check(issued, &serve(&mut store, &out, lose), 0).is_err());
        }
        wrong
    }

    #[test]
    fn literals_and_values_in_one_mix_are_followed() {
        let mix =
            ["4:GET __key__", "SET __key__ __value__", "SET __key__ one", "SET __key__ \"two words\"", "DEL __key__"];
        assert_eq!(mismatches(&mix, None), 0);
        assert!(mismatches(&mix, Some(b"two words")) > 100, "a SET with a literal that is lost is not seen");
        assert_eq!(mismatches(&["GET __key__", "SET __key__ \"\" EX __ttl__"], None), 0);
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        for (template, word) in [
            ("SET __key__ pre-__value__", "put together"),
            ("SET __key__ __seq__", "put together"),
            ("SET __key__ x NX", "options"),
            ("SET __key__ __value__ EX 10 GET", "options"),
            ("SET my:__key__ x", "exactly one key"),
            ("SET other x", "exactly one key"),
            ("GET my:__key__", "exactly one key"),
            ("DEL __key__ __key__", "exactly one key"),
            ("APPEND __key__ x", "APPEND"),
            ("INCR __key__", "INCR"),
            ("MSET __key__ x", "MSET"),
            ("FLUSHALL", "FLUSHALL"),
            ("EXPIRE __key__ 5", "EXPIRE"),
            ("PERSIST __key__", "PERSIST"),
            ("SET __key__ x EXAT 5", "options"),
        ] {
            let error = format!("{:#}", generator(&[template]).err().unwrap());
            assert!(error.contains(word) && error.contains("--verify"), "{template}: {error}");
        }
        let fine = ["SET __key__ x KEEPTTL", "INCR counter:__key__", "MGET __key__ __key__", "PING"];
        for template in fine {
            assert!(generator(&[template]).is_ok(), "{template}");
        }
    }

    #[test]
    fn a_key_is_lost_before_its_deadline_and_expired_after_it() {
        const SECOND: u64 = 1_000_000_000;
        let deadline = |commands: &[&str], at_ns: u64| {
            let mut generator = generator(commands).unwrap();
            generator.set_now_ns(at_ns);
            let issued = generator.next(&mut Vec::new(), 0);
            (generator, issued.deadline_ns)
        };
        for (command, want) in [
            ("SET __key__ x EX 1", 6 * SECOND),
            ("SET __key__ x PX 1500", 6 * SECOND + SECOND / 2),
            ("SET __key__ x EX __ttl__", 15 * SECOND),
            ("SET __key__ x", u64::MAX),
        ] {
            assert_eq!(deadline(&[command], 5 * SECOND).1, want, "{command}");
        }
        // Those that are there from the beginning have their own, which KEEPTTL and GET leave.
        for command in ["GET __key__", "SET __key__ x KEEPTTL"] {
            let found = deadline(&[command], 5 * SECOND).1;
            assert!((10 * SECOND..=20 * SECOND).contains(&found), "{command}: {found}");
        }
        let (generator, _) = deadline(&["GET __key__", "SET __key__ x EX 1"], 0);
        let read = Issued { op: 0, key: 3, version: version_of_literal(1), deadline_ns: 7 * SECOND };
        assert!(generator.check(read, b"$-1\r\n", 6 * SECOND).is_err(), "a key lost before its deadline passes");
        assert_eq!(generator.check(read, b"$-1\r\n", 7 * SECOND), Ok(false));
        assert_eq!(generator.check(read, b"$1\r\nx\r\n", 6 * SECOND), Ok(true));
        assert!(generator.check(read, b"$1\r\ny\r\n", 7 * SECOND).is_err());
    }
}
