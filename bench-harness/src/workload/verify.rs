//! Verification: what a command does to its key, and what a reply must then be.
//!
//! A key belongs to one connection, whose requests and replies come in order. So its content is known
//! as long as every command that touches it is understood; those that are not are refused here.

use anyhow::{bail, ensure};

use super::generator::Issued;
use super::template::{Part, Placeholder, Template};
use super::{Workload, excerpt};

/// What a command does to its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Returns it.
    Read,
    /// Sets it to the value of its next version.
    Write,
    /// Sets it to these bytes.
    WriteLiteral(Vec<u8>),
    /// Removes it.
    Delete,
    /// Leaves it as it is, or is not understood.
    Other,
}

/// The key's content is not known: it was there before, or came from elsewhere.
pub(super) const VERSION_UNKNOWN: u32 = u32::MAX;
/// The key was deleted.
pub(super) const VERSION_DELETED: u32 = u32::MAX - 1;
/// Below it there is a version for the literal of each command of a mix, and below those the ones
/// that count up.
const VERSION_LITERALS: u32 = u32::MAX - 2;
/// The last of the versions that count up.
pub(super) const VERSION_LAST: u32 = VERSION_LITERALS - 256;

/// The version of a key that has the literal value of a command.
#[inline]
pub(super) fn version_of_literal(op: u8) -> u32 {
    VERSION_LITERALS - u32::from(op)
}

/// Commands that change nothing.
pub(super) const READERS: [&str; 19] = [
    "bitcount",
    "dbsize",
    "dump",
    "echo",
    "exists",
    "expiretime",
    "getbit",
    "getrange",
    "info",
    "mget",
    "object",
    "pexpiretime",
    "ping",
    "pttl",
    "strlen",
    "substr",
    "time",
    "touch",
    "ttl",
];
/// A key may be gone so long before its deadline: clocks of servers are not so fine.
const DEADLINE_MARGIN_NS: u64 = 100_000_000;

/// How long a key lives after a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// As long as before, as with a command that does not write.
    #[default]
    Kept,
    /// Until it is written or deleted.
    Unlimited,
    /// At least so many nanoseconds.
    LeastNs(u64),
}

impl Effect {
    /// What a template does, as far as it can be seen.
    pub(super) fn of(template: &Template) -> Effect {
        match (template.name.as_str(), template.args.as_slice()) {
            ("get", _) => Effect::Read,
            ("set", [_, _, value, ..]) => match value.as_slice() {
                [Part::Text(text)] => Effect::WriteLiteral(text.clone()),
                [Part::Fill(Placeholder::Value)] => Effect::Write,
                _ => Effect::Other,
            },
            ("del" | "unlink", _) => Effect::Delete,
            _ => Effect::Other,
        }
    }
}

pub(super) fn is_key(argument: &[Part], prefix: &str) -> bool {
    match argument {
        [Part::Fill(Placeholder::Key)] => prefix.is_empty(),
        [Part::Text(text), Part::Fill(Placeholder::Key)] => text == prefix.as_bytes(),
        _ => false,
    }
}

/// The least an argument of EX or PX can be: a number, or one of those of --ttl.
fn least(argument: Option<&Vec<Part>>, ttl_least: u64) -> u64 {
    match argument.map(Vec::as_slice) {
        Some([Part::Fill(Placeholder::Ttl)]) => ttl_least,
        Some([Part::Text(text)]) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0),
        _ => 0,
    }
}

/// Whether what a template does can be followed; returns how long it lets its key live. `ttl_least` is
/// the least number __ttl__ stands for.
///
/// # Errors
/// It cannot, and why.
pub(super) fn follow(template: &Template, effect: &Effect, prefix: &str, ttl_least: u64) -> anyhow::Result<Lifetime> {
    let name = template.name.to_uppercase();
    let keys = template.args.iter().filter(|argument| is_key(argument, prefix)).count();
    match (template.name.as_str(), effect) {
        ("get" | "del" | "unlink", _) => {
            ensure!(
                keys == 1 && template.args.len() == 2,
                "--verify follows {name} of exactly one key, written {name} __key__"
            );
            Ok(if template.name == "get" { Lifetime::Kept } else { Lifetime::Unlimited })
        }
        ("set", Effect::Other) => {
            bail!("--verify follows a SET whose value is __value__ or a literal, and nothing put together from both")
        }
        ("set", _) => {
            ensure!(
                keys == 1 && is_key(&template.args[1], prefix),
                "--verify follows SET of exactly one key, written SET __key__ …"
            );
            let mut lifetime = Lifetime::Unlimited;
            let mut options = template.args[3..].iter();
            while let Some(option) = options.next() {
                let word = match option.as_slice() {
                    [Part::Text(text)] => String::from_utf8_lossy(text).to_uppercase(),
                    _ => String::new(),
                };
                let unit_ns = match word.as_str() {
                    "KEEPTTL" => {
                        lifetime = Lifetime::Kept;
                        continue;
                    }
                    "EX" => 1_000_000_000,
                    "PX" => 1_000_000,
                    _ => bail!(
                        "--verify cannot follow the options of this SET: whether and what it writes, or when it \
                         expires, depends on more than itself; EX, PX and KEEPTTL it can"
                    ),
                };
                lifetime = Lifetime::LeastNs(least(options.next(), ttl_least).saturating_mul(unit_ns));
            }
            Ok(lifetime)
        }
        (reader, _) if READERS.contains(&reader) => Ok(Lifetime::Kept),
        // Whatever it does, it does to another key than those that are followed.
        _ if template.has_key && keys == 0 => Ok(Lifetime::Kept),
        _ => bail!("--verify knows GET, SET, DEL, UNLINK and what changes nothing; what {name} does it cannot follow"),
    }
}

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
