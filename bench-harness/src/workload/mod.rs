//! What is sent: a mix of command templates over keys and values, or a recorded file; and, in
//! verification mode, what must come back.
//!
//! [`WorkloadSpec`] is what a user writes, [`Workload`] what it compiles to, [`Generator`] what one
//! load thread draws requests from without allocating; `verify` knows what their replies must be.

mod effect;
mod generator;
pub mod keys;
mod lookup;
mod op;
mod reads;
pub mod replay;
mod spec;
pub mod template;
pub mod values;
mod verify;

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail, ensure};
use tercel_resp::encode;

use effect::{Effect, Lifetime};
pub use generator::Generator;
use keys::{KeyDistribution, KeySource};
pub use lookup::Found;
use lookup::{Lengths, Lookup};
pub use op::Issued;
use op::Op;
use replay::Replay;
pub use spec::{MIX, WorkloadSpec};
use template::Template;
use values::{SizeDistribution, ValueSource, parse_count};

/// A compiled workload, shared by all threads.
#[derive(Debug)]
pub struct Workload {
    ops: Vec<Op>,
    /// Upper ends of the commands' shares of 2^64.
    shares: Vec<u64>,
    replay: Option<Replay>,
    names: Vec<String>,
    /// Of each name, what its replies tell of keys, and how long the values in them can be.
    lookups: Vec<(Lookup, Option<Lengths>)>,
    keys: u64,
    distribution: KeyDistribution,
    values: ValueSource,
    ttl: (u64, u64),
    seed: u64,
    prefix: String,
    /// Whether keys may go by themselves.
    expires: bool,
    /// When the keys began to be written last; `u64::MAX` until they are.
    preloaded_ns: AtomicU64,
    /// Whether replies are checked.
    pub verify: bool,
    /// Whether reads may find nothing without anything being wrong: commands of the mix take keys away,
    /// or were recorded elsewhere.
    pub may_miss: bool,
    /// Whether keys are written before measuring.
    pub preload: bool,
}

impl Workload {
    /// Compiles a specification.
    ///
    /// # Errors
    /// Whatever in it makes no sense, named.
    pub fn compile(spec: &WorkloadSpec) -> anyhow::Result<Self> {
        let keys = parse_count(&spec.keys).context("--keys")?;
        ensure!((1..=1_000_000_000_000).contains(&keys), "--keys must be from 1 to 10^12");
        let distribution: KeyDistribution = spec.key_distribution.parse().context("--key-distribution")?;
        KeySource::new(distribution, keys, 0).context("--key-distribution")?;
        let sizes: SizeDistribution = spec.value_size.parse().context("--value-size")?;
        let ttl = spec.ttl.as_deref().map(parse_range).transpose().context("--ttl")?;
        ensure!(!spec.key_prefix.contains(['\r', '\n']), "--key-prefix must be one line");

        // What stands beside something it excludes would be passed over without a word.
        ensure!(
            spec.replay.is_none() || spec.commands.is_empty(),
            "a replay and commands of your own exclude each other"
        );
        ensure!(
            spec.mix == MIX || (spec.replay.is_none() && spec.commands.is_empty()),
            "a mix does not go with a replay or with commands of your own"
        );
        ensure!(
            spec.replay.is_none() || !spec.verify,
            "--verify does not go with --replay: what a recorded command answers is not known"
        );
        let replay = spec.replay.as_deref().map(Replay::read).transpose()?;
        let mut weighted = Vec::new();
        if replay.is_none() {
            if spec.commands.is_empty() {
                for part in spec.mix.split(',') {
                    let (name, weight) = part.split_once(':').unwrap_or((part, "1"));
                    weighted.push((builtin(name.trim(), ttl.is_some())?, parse_weight(weight, part)?));
                }
            } else {
                for text in &spec.commands {
                    let (weight, template) = match text.split_once(':') {
                        Some((weight, rest)) if weight.parse::<f64>().is_ok() => (parse_weight(weight, text)?, rest),
                        _ => (1.0, text.as_str()),
                    };
                    weighted.push((template.to_owned(), weight));
                }
            }
        }
        ensure!(weighted.len() <= 64, "a mix has at most 64 commands");
        let total: f64 = weighted.iter().map(|(_, weight)| weight).sum();
        let (mut ops, mut shares, mut sum) = (Vec::new(), Vec::new(), 0.0);
        let mut expires = ttl.is_some();
        for (text, weight) in &weighted {
            let template = Template::parse(text, &spec.key_prefix).with_context(|| format!("the command {text:?}"))?;
            ensure!(!template.has_ttl || ttl.is_some(), "the command {text:?} uses __ttl__, which needs --ttl");
            let (effect, mut lifetime) = (Effect::of(&template), Lifetime::Kept);
            if spec.verify {
                lifetime = effect::follow(&template, &effect, &spec.key_prefix, ttl.map_or(0, |(least, _)| least))
                    .with_context(|| format!("the command {text:?}"))?;
                expires |= matches!(lifetime, Lifetime::LeastNs(_));
            }
            sum += weight;
            shares.push((sum / total * u64::MAX as f64) as u64);
            ops.push(Op { kinds: reply_kinds(&template), template, effect, lifetime });
        }
        if ops.iter().any(|op| op.template.name == "multi") {
            // Between it and EXEC every command is answered with QUEUED.
            ops.iter_mut().for_each(|op| op.kinds = b"");
        }
        if let Some(last) = shares.last_mut() {
            *last = u64::MAX;
        }
        let mut names: Vec<String> = replay
            .as_ref()
            .map_or_else(|| ops.iter().map(|op| op.template.name.clone()).collect(), |replay| replay.names.clone());
        // Two templates of one command need two names.
        for at in 1..names.len() {
            let same = names[..at].iter().filter(|name| **name == names[at]).count();
            if same > 0 && replay.is_none() {
                names[at] = format!("{}#{}", names[at], same + 1);
            }
        }
        if spec.verify {
            ensure!(keys <= 1 << 28, "--verify remembers each key and takes at most 2^28 of them");
        }
        let preload = !spec.no_preload && replay.is_none() && ops.iter().any(|op| op.template.has_key);
        let lengths = lookup::lengths(&ops, &sizes, &spec.key_prefix, preload);
        let lookups = match &replay {
            Some(replay) => replay.names.iter().map(|name| (Lookup::of(name), None)).collect(),
            None => ops
                .iter()
                .map(|op| &op.template)
                .map(|template| {
                    let known = lengths.filter(|_| lookup::reads_values(template, &spec.key_prefix));
                    (Lookup::of_template(template), known)
                })
                .collect(),
        };
        let may_miss = replay.is_some() || ops.iter().any(|op| lookup::removes(&op.template));
        Ok(Workload {
            ops,
            shares,
            replay,
            names,
            lookups,
            keys,
            distribution,
            values: ValueSource::new(sizes, spec.seed),
            ttl: ttl.unwrap_or((0, 0)),
            seed: spec.seed,
            prefix: spec.key_prefix.clone(),
            expires,
            preloaded_ns: AtomicU64::new(u64::MAX),
            verify: spec.verify,
            may_miss,
            preload,
        })
    }

    /// Names of the commands, in the order of [`Issued::op`].
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The same, sent to somebody who answers whatever it likes, as an echo does.
    #[must_use]
    pub fn any_reply(mut self) -> Self {
        self.ops.iter_mut().for_each(|op| op.kinds = b"");
        self.lookups.clear();
        self
    }

    /// Whether a reply that begins with `kind` is of a type that a command, an index into
    /// [`Workload::names`], can get.
    #[inline]
    #[must_use]
    pub fn fits(&self, op: u8, kind: u8) -> bool {
        self.ops.get(usize::from(op)).is_none_or(|op| op.kinds.is_empty() || op.kinds.contains(&kind))
    }

    /// A reply in words, for the first of its kind.
    #[must_use]
    pub fn answered(&self, op: u8, reply: &[u8]) -> String {
        let name = self.names.get(usize::from(op)).map_or("a command", String::as_str);
        format!("{name} answered {}", excerpt(reply))
    }

    /// Number of keys.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Whether a load with so many connections can send it.
    ///
    /// # Errors
    /// Verification with more connections than keys.
    pub fn check_connections(&self, connections: u64) -> anyhow::Result<()> {
        ensure!(
            !self.verify || self.keys >= connections,
            "--verify wants at least as many --keys as --connections: each key belongs to one"
        );
        Ok(())
    }

    /// Tells when the keys begin to be written, on the clock of the load.
    pub fn preloading(&self, now_ns: u64) {
        self.preloaded_ns.store(now_ns, Ordering::Relaxed);
    }

    /// From when on a preloaded key may have expired.
    fn preload_deadline_ns(&self, key: u64) -> u64 {
        if !self.preload || self.ttl.1 == 0 {
            return u64::MAX;
        }
        let written_ns = match self.preloaded_ns.load(Ordering::Relaxed) {
            u64::MAX => 0,
            written_ns => written_ns,
        };
        written_ns.saturating_add(self.preload_ttl_s(key).saturating_mul(1_000_000_000))
    }

    fn preload_ttl_s(&self, key: u64) -> u64 {
        self.ttl.0 + key % (self.ttl.1 - self.ttl.0 + 1)
    }

    /// Appends the SET that preloads a key.
    pub fn preload_request(&self, out: &mut Vec<u8>, key: u64) {
        let name = format!("{}{key:0width$}", self.prefix, width = template::DIGITS);
        let value = self.values.of(key, 0);
        if self.ttl.1 > 0 {
            let ttl = self.preload_ttl_s(key).to_string();
            encode::request(out, &[b"SET".as_slice(), name.as_bytes(), value, b"EX", ttl.as_bytes()]);
        } else {
            encode::request(out, &[b"SET".as_slice(), name.as_bytes(), value]);
        }
    }
}

/// Only of commands whose replies do not depend on their options.
fn reply_kinds(template: &Template) -> &'static [u8] {
    match (template.name.as_str(), template.args.len()) {
        ("get" | "getset" | "getdel" | "getex", _) => b"$_",
        ("mget", _) => b"*",
        ("set", 3) | ("mset" | "setex" | "psetex", _) => b"+",
        ("set", 5) => match template.args[3].as_slice() {
            [template::Part::Text(text)] if matches!(text.to_ascii_lowercase().as_slice(), b"ex" | b"px") => b"+",
            _ => b"",
        },
        (
            "append" | "decr" | "decrby" | "del" | "exists" | "expire" | "hset" | "incr" | "incrby" | "llen" | "lpush"
            | "pexpire" | "persist" | "pttl" | "rpush" | "sadd" | "scard" | "setnx" | "strlen" | "ttl" | "unlink",
            _,
        ) => b":",
        _ => b"",
    }
}

fn builtin(name: &str, ttl: bool) -> anyhow::Result<String> {
    Ok(match name {
        "get" => "GET __key__",
        "set" if ttl => "SET __key__ __value__ EX __ttl__",
        "set" => "SET __key__ __value__",
        "setnx" => "SETNX __key__ __value__",
        "getset" => "GETSET __key__ __value__",
        "incr" => "INCR counter:__key__",
        "append" => "APPEND __key__ __value__",
        "del" => "DEL __key__",
        "exists" => "EXISTS __key__",
        "expire" if ttl => "EXPIRE __key__ __ttl__",
        "expire" => bail!("the command expire needs --ttl"),
        "ttl" => "TTL __key__",
        "mget" => "MGET __key__ __key__ __key__ __key__ __key__ __key__ __key__ __key__ __key__ __key__",
        "mset" => "MSET __key__ __value__ __key__ __value__ __key__ __value__ __key__ __value__ __key__ __value__",
        "ping" => "PING",
        other => bail!("unknown command {other:?} in --mix; write others with --command"),
    }
    .to_owned())
}

fn parse_weight(text: &str, whole: &str) -> anyhow::Result<f64> {
    let weight: f64 = text.trim().parse().with_context(|| format!("{text:?} in {whole:?} is no weight"))?;
    ensure!(weight > 0.0 && weight < 1e9, "the weight in {whole:?} must be above 0");
    Ok(weight)
}

fn parse_range(text: &str) -> anyhow::Result<(u64, u64)> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let (low, high) = (parse_count(low)?, parse_count(high)?);
    ensure!(low >= 1 && low <= high && high <= 1 << 31, "{text:?} is no range of seconds from 1 on");
    Ok((low, high))
}

/// The start of some bytes, printable.
#[must_use]
pub fn excerpt(bytes: &[u8]) -> String {
    const SHOWN: usize = 60;
    let text = bytes[..bytes.len().min(SHOWN)].escape_ascii().to_string();
    if bytes.len() > SHOWN { format!("\"{text}…\" ({} bytes)", bytes.len()) } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;

    fn generator(change: impl FnOnce(&mut WorkloadSpec)) -> Generator {
        let mut spec = WorkloadSpec { keys: "1000".into(), ..WorkloadSpec::default() };
        change(&mut spec);
        Generator::new(Arc::new(Workload::compile(&spec).unwrap()), 0, 0, 4).unwrap()
    }

    #[test]
    fn requests_are_whole_and_mixed_as_asked() {
        let mut generator = generator(|spec| spec.ttl = Some("5..9".into()));
        let (mut gets, mut out) = (0, Vec::new());
        for _ in 0..10_000 {
            out.clear();
            let issued = generator.next(&mut out, 0);
            let (value, len) = tercel_resp::reply::parse(&out).unwrap().unwrap();
            assert_eq!(len, out.len());
            let tercel_resp::reply::Value::Array(words) = value else { panic!() };
            gets += u32::from(issued.op == 0);
            assert_eq!(words.len(), if issued.op == 0 { 2 } else { 5 });
        }
        assert!((7800..8200).contains(&gets), "{gets}");
    }

    #[test]
    fn the_same_seed_sends_the_same() {
        let draw = |seed| {
            let (mut generator, mut out) = (generator(|spec| spec.seed = seed), Vec::new());
            for _ in 0..100 {
                generator.next(&mut out, 0);
            }
            out
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }

    #[test]
    fn verification_finds_what_is_wrong() {
        let mut generator = generator(|spec| {
            spec.verify = true;
            spec.mix = "set".into();
        });
        let mut out = Vec::new();
        let written = generator.next(&mut out, 1);
        assert_eq!(written.key % 4, 1, "a key of another connection");
        assert_eq!(generator.check(written, b"+OK\r\n", 0), Ok(true));
        assert!(generator.check(written, b"-ERR\r\n", 0).is_err());
        let reader = super::tests::generator(|spec| {
            spec.verify = true;
            spec.mix = "get".into();
        });
        let mut good = Vec::new();
        encode::bulk(&mut good, reader.workload().values.of(9, 3));
        let read = Issued { op: 0, key: 9, version: 3, deadline_ns: u64::MAX };
        assert_eq!(reader.check(read, &good, 0), Ok(true));
        assert!(reader.check(Issued { version: 2, ..read }, &good, 0).is_err(), "an older value passes");
        assert!(reader.check(read, b"$-1\r\n", 0).is_err(), "a lost key passes");
        let deleted = Issued { version: effect::VERSION_DELETED, ..read };
        assert!(reader.check(deleted, &good, 0).is_err(), "a deleted key passes");
        assert_eq!(reader.check(Issued { version: effect::VERSION_UNKNOWN, ..read }, &good, 0), Ok(false));
    }

    #[test]
    fn replies_of_a_wrong_type_are_seen() {
        let of = |command: &str| {
            let spec = WorkloadSpec { commands: vec![command.into()], ..WorkloadSpec::default() };
            Workload::compile(&spec).unwrap()
        };
        for (command, fit, unfit) in [
            ("GET __key__", "$_", ":+*"),
            ("SET __key__ x", "+", "$_:"),
            ("set __key__ x ex 5", "+", "$_:"),
            ("DEL __key__", ":", "$+_"),
            ("SET __key__ x GET", "$+_", ""),
            ("SET __key__ x NX", "+_$", ""),
            ("EVAL x 0", "$:+*_", ""),
        ] {
            let workload = of(command);
            assert!(fit.bytes().all(|kind| workload.fits(0, kind)), "{command}");
            assert!(!unfit.bytes().any(|kind| workload.fits(0, kind)), "{command}");
            assert!(workload.any_reply().fits(0, b'*'));
        }
        let spec = WorkloadSpec { commands: vec!["MULTI".into(), "GET __key__".into()], ..WorkloadSpec::default() };
        assert!(Workload::compile(&spec).unwrap().fits(1, b'+'));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let refused = |change: &dyn Fn(&mut WorkloadSpec)| {
            let mut spec = WorkloadSpec::default();
            change(&mut spec);
            format!("{:#}", Workload::compile(&spec).unwrap_err())
        };
        assert!(refused(&|spec| spec.keys = "0".into()).contains("--keys"));
        assert!(refused(&|spec| spec.mix = "get:x".into()).contains("weight"));
        assert!(refused(&|spec| spec.mix = "frob".into()).contains("frob"));
        assert!(refused(&|spec| spec.ttl = Some("9..1".into())).contains("--ttl"));
        assert!(refused(&|spec| spec.commands = vec!["2:SET __key__ \"".into()]).contains("quote"));
        assert!(refused(&|spec| spec.commands = vec!["SET __key__ a EX __ttl__".into()]).contains("--ttl"));
        assert!(refused(&|spec| (spec.verify, spec.mix) = (true, "mset".into())).contains("--verify"));
        let both = |spec: &mut WorkloadSpec| (spec.mix, spec.commands) = ("get".into(), vec!["PING".into()]);
        assert!(refused(&both).contains("does not go with"));
    }

    #[test]
    fn commands_drawn_and_their_shares_are_those_sent() {
        for change in [(|spec| spec.mix = "get:5,set:3,del:2".into()) as fn(&mut WorkloadSpec), |spec| {
            spec.replay = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/recorded").into())
        }] {
            let (mut sent, mut drawn) = (generator(change), generator(change));
            let shares = sent.op_shares();
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
            let mut counts = vec![0.0; shares.len()];
            for _ in 0..10_000 {
                counts[usize::from(sent.next(&mut Vec::new(), 0).op)] += 1e-4;
                drawn.next_op();
            }
            for (share, count) in shares.iter().zip(&counts) {
                assert!((share - count).abs() < 0.02, "{shares:?} {counts:?}");
            }
        }
    }
}
