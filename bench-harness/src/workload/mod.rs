//! What is sent: a mix of command templates over keys and values, or a recorded file; and, in
//! verification mode, what must come back.
//!
//! [`WorkloadSpec`] is what a user writes, [`Workload`] what it compiles to, [`Generator`] what one
//! load thread draws requests from without allocating.

pub mod keys;
pub mod replay;
pub mod template;
pub mod values;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use tercel_resp::encode;

use keys::{KeyDistribution, KeySource, below};
use replay::Replay;
use template::{Part, Piece, Placeholder, Template, write_digits};
use values::{SizeDistribution, ValueSource, parse_count};

/// A workload in the words of the command line and of scenario files.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Workload")]
pub struct WorkloadSpec {
    /// Built-in commands with weights: get, set, setnx, incr, del, exists, ping, mget, mset, append,
    /// getset, expire, ttl
    #[arg(long, default_value = "get:80,set:20", value_name = "NAME:WEIGHT,…")]
    pub mix: String,
    /// A command of your own instead of --mix, with placeholders __key__ __value__ __int__ __seq__
    /// __ttl__; may be given several times
    #[arg(long = "command", value_name = "[WEIGHT:]TEMPLATE")]
    pub commands: Vec<String>,
    /// Number of keys (10k, 1m, …)
    #[arg(long, default_value = "100k", value_name = "COUNT")]
    pub keys: String,
    /// What stands before a key's twelve digits
    #[arg(long, default_value = "key:", value_name = "TEXT")]
    pub key_prefix: String,
    /// uniform, zipfian[:THETA], hotset:KEYS,REQUESTS (shares), sequential
    #[arg(long, default_value = "uniform", value_name = "KIND")]
    pub key_distribution: String,
    /// SIZE, LOW..HIGH, SIZE:WEIGHT,… or lognormal:MEDIAN,SIGMA, in bytes
    #[arg(long, default_value = "64", value_name = "SIZES")]
    pub value_size: String,
    /// Time to live of what is set, in seconds: N or LOW..HIGH
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<String>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Send the commands of this file (one a line, or MONITOR's output) in turn, instead of a mix
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// Check every reply of GET against what was written; each key then belongs to one connection
    #[arg(long)]
    pub verify: bool,
    /// Do not write all keys before measuring
    #[arg(long)]
    pub no_preload: bool,
}

impl Default for WorkloadSpec {
    fn default() -> Self {
        WorkloadSpec {
            mix: "get:80,set:20".to_owned(),
            commands: Vec::new(),
            keys: "100k".to_owned(),
            key_prefix: "key:".to_owned(),
            key_distribution: "uniform".to_owned(),
            value_size: "64".to_owned(),
            ttl: None,
            seed: 1,
            replay: None,
            verify: false,
            no_preload: false,
        }
    }
}

impl WorkloadSpec {
    /// One line for reports.
    #[must_use]
    pub fn describe(&self) -> String {
        if let Some(path) = &self.replay {
            return format!("replay of {}", path.display());
        }
        let commands = if self.commands.is_empty() { self.mix.clone() } else { self.commands.join(" | ") };
        let ttl = self.ttl.as_ref().map_or(String::new(), |ttl| format!(", TTL {ttl} s"));
        let verify = if self.verify { ", replies verified" } else { "" };
        format!(
            "{commands}; {} keys {}, values of {} bytes{ttl}, seed {}{verify}",
            self.keys, self.key_distribution, self.value_size, self.seed
        )
    }
}

/// What a command does to its key, for verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Read,
    Write,
    Delete,
    Other,
}

#[derive(Debug)]
struct Op {
    template: Template,
    effect: Effect,
}

/// A compiled workload, shared by all threads.
#[derive(Debug)]
pub struct Workload {
    ops: Vec<Op>,
    /// Upper ends of the commands' shares of 2^64.
    shares: Vec<u64>,
    replay: Option<Replay>,
    names: Vec<String>,
    keys: u64,
    distribution: KeyDistribution,
    values: ValueSource,
    ttl: (u64, u64),
    seed: u64,
    prefix: String,
    /// Whether replies are checked.
    pub verify: bool,
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
        for (text, weight) in &weighted {
            let template = Template::parse(text, &spec.key_prefix).with_context(|| format!("the command {text:?}"))?;
            ensure!(!template.has_ttl || ttl.is_some(), "the command {text:?} uses __ttl__, which needs --ttl");
            let effect = match template.name.as_str() {
                "get" => Effect::Read,
                "set" if template.has_value => Effect::Write,
                "del" | "unlink" => Effect::Delete,
                _ => Effect::Other,
            };
            sum += weight;
            shares.push((sum / total * u64::MAX as f64) as u64);
            ops.push(Op { template, effect });
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
            ensure!(
                replay.is_none(),
                "--verify does not go with --replay: what a recorded command answers is not known"
            );
            for op in &ops {
                let template = &op.template;
                ensure!(
                    op.effect != Effect::Other || !template.has_value,
                    "--verify knows GET, SET, DEL and UNLINK; {} writes in a way it cannot follow",
                    template.name
                );
                let keys =
                    template.pieces.iter().filter(|piece| matches!(piece, Piece::Digits(Placeholder::Key))).count();
                ensure!(op.effect == Effect::Other || keys == 1, "--verify wants exactly one key in {}", template.name);
            }
            ensure!(keys <= 1 << 28, "--verify remembers each key and takes at most 2^28 of them");
        }
        let preload = !spec.no_preload && replay.is_none() && ops.iter().any(|op| op.template.has_key);
        Ok(Workload {
            ops,
            shares,
            replay,
            names,
            keys,
            distribution,
            values: ValueSource::new(sizes, spec.seed),
            ttl: ttl.unwrap_or((0, 0)),
            seed: spec.seed,
            prefix: spec.key_prefix.clone(),
            verify: spec.verify,
            preload,
        })
    }

    /// Names of the commands, in the order of [`Issued::op`].
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Number of keys.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Appends the SET that preloads a key.
    pub fn preload_request(&self, out: &mut Vec<u8>, key: u64) {
        let name = format!("{}{key:0width$}", self.prefix, width = template::DIGITS);
        let value = self.values.of(key, 0);
        if self.ttl.1 > 0 {
            let spread = self.ttl.1 - self.ttl.0 + 1;
            let ttl = (self.ttl.0 + key % spread).to_string();
            encode::request(out, &[b"SET".as_slice(), name.as_bytes(), value, b"EX", ttl.as_bytes()]);
        } else {
            encode::request(out, &[b"SET".as_slice(), name.as_bytes(), value]);
        }
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

/// A request that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Issued {
    /// Which command, an index into [`Workload::names`].
    pub op: u8,
    /// The (last) key's number.
    pub key: u64,
    /// In verification mode the version the key has after this command.
    pub version: u32,
}

/// The key's content is not known: it was there before, or came from elsewhere.
const VERSION_UNKNOWN: u32 = u32::MAX;
/// The key was deleted.
const VERSION_DELETED: u32 = u32::MAX - 1;

/// Draws requests; one a load thread.
pub struct Generator {
    workload: Arc<Workload>,
    draw: Draw,
}

/// What changes from request to request.
struct Draw {
    rng: Xoshiro256PlusPlus,
    source: KeySource,
    sequence: u64,
    next_replayed: usize,
    /// Connections of all threads, and which of them is this thread's first: the owners of keys.
    conns: (u64, u64),
    versions: Vec<u32>,
    argument: Vec<u8>,
}

impl Generator {
    /// The generator of thread `thread`, which owns the connections from `conn_first` on of
    /// `conns`.
    ///
    /// # Errors
    /// Verification with more connections than keys.
    pub fn new(workload: Arc<Workload>, thread: u64, conn_first: u64, conns: u64) -> anyhow::Result<Self> {
        let mut versions = Vec::new();
        if workload.verify {
            ensure!(workload.keys >= conns, "--verify wants at least as many keys as connections");
            versions = vec![if workload.preload { 0 } else { VERSION_UNKNOWN }; workload.keys as usize];
        }
        let offset = workload.keys / conns.max(1) * conn_first;
        let next_replayed =
            workload.replay.as_ref().map_or(0, |replay| (replay.len() as u64 * conn_first / conns.max(1)) as usize);
        let draw = Draw {
            rng: Xoshiro256PlusPlus::seed_from_u64(
                workload.seed.wrapping_add(thread.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            ),
            source: KeySource::new(workload.distribution, workload.keys, offset)?,
            sequence: 0,
            next_replayed,
            conns: (conns, conn_first),
            versions,
            argument: Vec::with_capacity(workload.values.len_max() + 64),
        };
        Ok(Generator { workload, draw })
    }

    /// The workload it draws from.
    #[must_use]
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Appends the next request for this thread's connection `conn`.
    #[inline]
    pub fn next(&mut self, out: &mut Vec<u8>, conn: usize) -> Issued {
        self.draw.next(&self.workload, out, conn)
    }

    /// Whether a whole reply is what this command must get: `Err` says what is wrong. `Ok(false)`:
    /// nothing is known to compare it with.
    ///
    /// # Errors
    /// The reply differs from what was written.
    pub fn check(&self, issued: Issued, reply: &[u8]) -> Result<bool, String> {
        let Some(op) = self.workload.ops.get(usize::from(issued.op)) else { return Ok(false) };
        match op.effect {
            Effect::Write if reply == b"+OK\r\n" => Ok(true),
            Effect::Write => Err(format!("SET of key {} answered {}", issued.key, excerpt(reply))),
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
                if absent && self.workload.ttl.1 > 0 {
                    return Ok(false);
                }
                let want = self.workload.values.of(issued.key, issued.version);
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
}

impl Draw {
    #[inline]
    fn next(&mut self, workload: &Workload, out: &mut Vec<u8>, conn: usize) -> Issued {
        if let Some(replay) = &workload.replay {
            let (bytes, op) = replay.command(self.next_replayed);
            out.extend_from_slice(bytes);
            self.next_replayed = if self.next_replayed + 1 == replay.len() { 0 } else { self.next_replayed + 1 };
            return Issued { op, key: 0, version: 0 };
        }
        let op = match *workload.shares {
            [_] => 0,
            _ => {
                let at = self.rng.next_u64();
                workload.shares.iter().position(|&end| at <= end).unwrap_or(0)
            }
        };
        let mut issued = Issued { op: op as u8, key: 0, version: 0 };
        let Op { template, effect } = &workload.ops[op];
        if workload.verify && template.has_key {
            issued.key = self.own_key(workload.keys, conn);
            let version = &mut self.versions[issued.key as usize];
            match effect {
                Effect::Write => {
                    *version = if *version >= VERSION_DELETED { 1 } else { (*version + 1) % VERSION_DELETED }
                }
                Effect::Delete => *version = VERSION_DELETED,
                Effect::Read | Effect::Other => {}
            }
            issued.version = *version;
        }
        for piece in &template.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Digits(what) => {
                    let number = self.number(workload, *what, &mut issued);
                    write_digits(out, number);
                }
                Piece::Variable(parts) => self.variable(workload, out, parts, &mut issued),
            }
        }
        issued
    }

    fn variable(&mut self, workload: &Workload, out: &mut Vec<u8>, parts: &[Part], issued: &mut Issued) {
        if let [Part::Fill(Placeholder::Value)] = parts {
            let value = if workload.verify {
                workload.values.of(issued.key, issued.version)
            } else {
                workload.values.any(&mut self.rng)
            };
            encode::bulk(out, value);
            return;
        }
        let mut argument = std::mem::take(&mut self.argument);
        argument.clear();
        for part in parts {
            match part {
                Part::Text(text) => argument.extend_from_slice(text),
                Part::Fill(Placeholder::Value) => argument.extend_from_slice(workload.values.any(&mut self.rng)),
                Part::Fill(Placeholder::Ttl) => {
                    let (low, high) = workload.ttl;
                    // Without leading zeros, which servers refuse.
                    push_decimal(&mut argument, low + below(&mut self.rng, high - low + 1));
                }
                Part::Fill(what) => {
                    let number = self.number(workload, *what, issued);
                    write_digits(&mut argument, number);
                }
            }
        }
        encode::bulk(out, &argument);
        self.argument = argument;
    }

    #[inline]
    fn number(&mut self, workload: &Workload, what: Placeholder, issued: &mut Issued) -> u64 {
        match what {
            Placeholder::Int => below(&mut self.rng, workload.keys),
            Placeholder::Seq => {
                self.sequence += 1;
                self.sequence - 1
            }
            _ if workload.verify => issued.key,
            _ => {
                issued.key = self.source.next(&mut self.rng);
                issued.key
            }
        }
    }

    /// A key that belongs to a connection: only that one touches it, so its order is known.
    fn own_key(&mut self, keys: u64, conn: usize) -> u64 {
        let (conns, first) = self.conns;
        let own = first + conn as u64;
        let key = self.source.next(&mut self.rng);
        let key = key - key % conns + own % conns;
        if key < keys { key } else { key - conns }
    }
}

fn push_decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0u8; 20];
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
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
        assert_eq!(generator.check(written, b"+OK\r\n"), Ok(true));
        assert!(generator.check(written, b"-ERR\r\n").is_err());
        let reader = super::tests::generator(|spec| {
            spec.verify = true;
            spec.mix = "get".into();
        });
        let mut good = Vec::new();
        encode::bulk(&mut good, reader.workload.values.of(9, 3));
        let read = Issued { op: 0, key: 9, version: 3 };
        assert_eq!(reader.check(read, &good), Ok(true));
        assert!(reader.check(Issued { version: 2, ..read }, &good).is_err(), "an older value passes");
        assert!(reader.check(read, b"$-1\r\n").is_err(), "a lost key passes");
        assert!(reader.check(Issued { version: VERSION_DELETED, ..read }, &good).is_err(), "a deleted key passes");
        assert_eq!(reader.check(Issued { version: VERSION_UNKNOWN, ..read }, &good), Ok(false));
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
    }
}
