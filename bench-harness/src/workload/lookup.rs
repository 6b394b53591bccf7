//! What of its keys a command's reply tells, and how long the values in it can be.

use serde::Serialize;

use super::effect::{READERS, is_key};
use super::op::Op;
use super::template::{Part, Placeholder, Template};
use super::values::SizeDistribution;

/// How many keys were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Keys that were there.
    pub hits: u64,
    /// Keys that were not.
    pub misses: u64,
    /// Values of another length than any that was written; among the hits.
    pub wrong_len: u64,
}

impl Found {
    /// Keys that were asked for.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.hits + self.misses
    }

    /// Which share of the keys asked for was not there; `None` if none was asked for.
    #[must_use]
    pub fn missed(&self) -> Option<f64> {
        (self.reads() > 0).then(|| self.misses as f64 / self.reads() as f64)
    }

    /// Adds others.
    pub fn add(&mut self, other: Found) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.wrong_len += other.wrong_len;
    }
}

/// What a command's reply tells of its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Nothing.
    #[default]
    Nothing,
    /// It is the key's value, or nil.
    Value,
    /// It is an array of such.
    Values,
    /// It is a number; of a key that is not there, this one.
    Number(&'static [u8]),
}

impl Lookup {
    /// By the name of a command, in lower case.
    pub(super) fn of(name: &str) -> Lookup {
        match name {
            "get" | "getdel" | "getex" | "getset" | "hget" | "lindex" => Lookup::Value,
            "mget" | "hmget" => Lookup::Values,
            "expiretime" | "pexpiretime" | "pttl" | "ttl" => Lookup::Number(b":-2\r\n"),
            _ => Lookup::Nothing,
        }
    }

    /// By the template of a command: of several keys one number does not tell which are there.
    pub(super) fn of_template(template: &Template) -> Lookup {
        match (template.name.as_str(), template.args.len()) {
            ("exists", 2) => Lookup::Number(b":0\r\n"),
            (name, _) => Lookup::of(name),
        }
    }
}

/// The shortest and the longest a value can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lengths {
    low: usize,
    high: usize,
}

impl Lengths {
    /// Whether a reply with one value, header and end included, is of a length it can have.
    #[inline]
    pub(super) fn fit(self, reply_len: usize) -> bool {
        (bulk_len(self.low)..=bulk_len(self.high)).contains(&reply_len)
    }
}

/// Length of a bulk string as it is sent. It grows with the body's, so that it tells as much.
#[inline]
pub(super) fn bulk_len(body: usize) -> usize {
    body + body.checked_ilog10().unwrap_or(0) as usize + 6
}

/// Commands that leave values as they are or take them away.
const REMOVERS: [&str; 13] = [
    "del",
    "expire",
    "expireat",
    "flushall",
    "flushdb",
    "get",
    "getdel",
    "getex",
    "persist",
    "pexpire",
    "pexpireat",
    "select",
    "unlink",
];

/// How long the values of the workload's keys can be, if every command that could write them is
/// understood. Only what the harness writes itself before it measures is known to it.
pub(super) fn lengths(ops: &[Op], sizes: &SizeDistribution, prefix: &str, preload: bool) -> Option<Lengths> {
    let mut all = Lengths { low: sizes.min(), high: sizes.max() };
    for template in ops.iter().map(|op| &op.template) {
        let name = template.name.as_str();
        if READERS.contains(&name) || REMOVERS.contains(&name) || !template.args[1..].iter().any(|a| touches(a, prefix))
        {
            continue;
        }
        let values = match name {
            "set" | "setnx" | "getset" => template.args.get(2..3)?,
            "setex" | "psetex" => template.args.get(3..4)?,
            "mset" | "msetnx" => template.args.get(2..)?,
            _ => return None,
        };
        for value in values.iter().step_by(2) {
            match value.as_slice() {
                [Part::Fill(Placeholder::Value)] => {}
                [Part::Text(text)] => all = Lengths { low: all.low.min(text.len()), high: all.high.max(text.len()) },
                _ => return None,
            }
        }
    }
    preload.then_some(all)
}

/// Whether an argument may be one of the keys that are written before measuring.
fn touches(argument: &[Part], prefix: &str) -> bool {
    prefix.is_empty() || matches!(argument.first(), Some(Part::Text(text)) if text.starts_with(prefix.as_bytes()))
}

/// Whether the values a command reads are those of the workload's keys.
pub(super) fn reads_values(template: &Template, prefix: &str) -> bool {
    match template.name.as_str() {
        "get" | "getdel" | "getex" | "getset" => template.args.get(1).is_some_and(|argument| is_key(argument, prefix)),
        "mget" => template.args[1..].iter().all(|argument| is_key(argument, prefix)),
        _ => false,
    }
}

/// Whether a command takes keys away, so that others find them gone.
pub(super) fn removes(template: &Template) -> bool {
    matches!(
        template.name.as_str(),
        "del"
            | "expire"
            | "expireat"
            | "flushall"
            | "flushdb"
            | "getdel"
            | "pexpire"
            | "pexpireat"
            | "rename"
            | "unlink"
    )
}
