//! What a command does to its key, as far as its template shows it.

use anyhow::{bail, ensure};

use super::template::{Part, Placeholder, Template};

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
pub(super) const VERSION_LITERALS: u32 = u32::MAX - 2;
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
