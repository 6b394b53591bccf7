//! The filters of CLIENT LIST and CLIENT KILL.

use std::collections::HashSet;

use super::describe::{Shown, flag_letters};
use tercel_core::clients::ClientClass;
use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, NOT_AN_INTEGER, SYNTAX, fail};
use tercel_core::command::parse::{integer, lossy};
use tercel_core::dispatch::Context;
use tercel_core::server::Server;

/// Letters CLIENT LIST may show.
const FLAG_LETTERS: &str = "OSMPxbtRBdcuAUreTIiEN";

/// One condition.
enum Test {
    Id(HashSet<i64>),
    /// `None`: a type no client of this version has.
    Type(Option<ClientClass>),
    User(String),
    Addr(String),
    LocalAddr(String),
    Name(String),
    Idle(u64),
    MaxAge(u64),
    Flags(String),
    LibName(String),
    LibVer(String),
    Db(usize),
    Capa(String),
    Ip(String),
}

/// All conditions of one call.
pub(super) struct Filter {
    tests: Vec<(bool, Test)>,
    skip_me: bool,
}

impl Filter {
    /// The old form of CLIENT KILL: an address.
    pub(super) fn address(text: &[u8]) -> Self {
        Filter { tests: vec![(true, Test::Addr(lossy(text)))], skip_me: false }
    }

    /// Reads conditions from argument `from` on. `skip_me` is the default of SKIPME.
    pub(super) fn parse(cx: &Context<'_>, args: &Args<'_>, from: usize, skip_me: bool) -> Result<Self, CommandError> {
        let mut filter = Filter { tests: Vec::new(), skip_me };
        let mut at = from;
        // A lone word is no condition, not even an empty list of numbers.
        if args.len() == from + 1 {
            return Err(SYNTAX);
        }
        while at < args.len() {
            let word = lossy(args.get(at)).to_ascii_lowercase();
            let (wanted, word) = match word.strip_prefix("not-") {
                Some(rest) => (false, rest),
                None => (true, word.as_str()),
            };
            if word == "id" {
                // All numbers that follow, down to none.
                let mut ids = HashSet::new();
                at += 1;
                while let Some(id) = (at < args.len()).then(|| integer(args.get(at)).ok()).flatten() {
                    if id < 1 {
                        return Err(fail("ERR client-id should be greater than 0"));
                    }
                    ids.insert(id);
                    at += 1;
                }
                filter.add(wanted, Test::Id(ids));
                continue;
            }
            if at + 1 >= args.len() {
                return Err(SYNTAX);
            }
            let value = args.get(at + 1);
            at += 2;
            let test = match word {
                "type" => Test::Type(client_class(value)?),
                "user" => {
                    if value != b"default" {
                        return Err(CommandError::new(format!("ERR No such user '{}'", lossy(value))));
                    }
                    Test::User(lossy(value))
                }
                "addr" => Test::Addr(lossy(value)),
                "laddr" => Test::LocalAddr(lossy(value)),
                "name" => Test::Name(lossy(value)),
                "lib-name" => Test::LibName(lossy(value)),
                "lib-ver" => Test::LibVer(lossy(value)),
                "ip" => Test::Ip(lossy(value)),
                "flags" => {
                    let text = lossy(value);
                    if !text.chars().all(|letter| FLAG_LETTERS.contains(letter)) {
                        return Err(CommandError::new(if wanted {
                            format!("ERR Unknown flags found in the provided filter: {text}")
                        } else {
                            format!("ERR Unknown flags found in the NOT-FLAGS filter: {text}")
                        }));
                    }
                    Test::Flags(text)
                }
                "capa" => {
                    let text = lossy(value);
                    if text.chars().any(|letter| letter != 'r') {
                        return Err(CommandError::new(if wanted {
                            format!("ERR Unknown capa found in the provided filter: {text}")
                        } else {
                            format!("ERR Unknown capa found in the NOT-CAPA filter: {text}")
                        }));
                    }
                    Test::Capa(text)
                }
                "db" => {
                    let databases = cx.server.data().databases();
                    let name = if wanted { "DB" } else { "NOT-DB" };
                    let db = integer(value)
                        .and_then(|db| i32::try_from(db).map_err(|_| NOT_AN_INTEGER))
                        .map_err(|_| CommandError::new(format!("ERR {name} is not an integer or out of range")))?;
                    Test::Db(usize::try_from(db).ok().filter(|db| *db < databases).ok_or_else(|| {
                        CommandError::new(format!("ERR {name} number should be between 0 and {}", databases - 1))
                    })?)
                }
                "idle" if wanted => Test::Idle(positive(value, "idle")?),
                "maxage" if wanted => Test::MaxAge(positive(value, "maxage")?),
                "skipme" if wanted => {
                    filter.skip_me = match () {
                        () if value.eq_ignore_ascii_case(b"yes") => true,
                        () if value.eq_ignore_ascii_case(b"no") => false,
                        () => return Err(SYNTAX),
                    };
                    continue;
                }
                _ => return Err(SYNTAX),
            };
            filter.add(wanted, test);
        }
        Ok(filter)
    }

    /// Of two conditions of a kind the later one holds; numbers add up.
    fn add(&mut self, wanted: bool, test: Test) {
        let same = |(other_wanted, other): &(bool, Test)| {
            *other_wanted == wanted && std::mem::discriminant(other) == std::mem::discriminant(&test)
        };
        match (self.tests.iter().position(same), test) {
            (Some(at), Test::Id(ids)) => {
                if let (_, Test::Id(earlier)) = &mut self.tests[at] {
                    earlier.extend(ids);
                }
            }
            (Some(at), test) => self.tests[at].1 = test,
            (None, test) => self.tests.push((wanted, test)),
        }
    }

    /// Whether a client fits all conditions.
    pub(super) fn fits(&self, server: &Server, own_id: u64, client: Shown<'_>) -> bool {
        let Shown { caller, session, .. } = client;
        if self.skip_me && session.id() == own_id {
            return false;
        }
        let names = &session.names;
        let seconds = |since_ns: u64| server.now().mono_ns.saturating_sub(since_ns) / 1_000_000_000;
        self.tests.iter().all(|(wanted, test)| {
            *wanted
                == match test {
                    Test::Id(ids) => ids.contains(&(session.id() as i64)),
                    Test::Type(class) => *class == Some(session.class()),
                    Test::User(user) => user == "default",
                    Test::Addr(addr) => *addr == session.address(),
                    Test::LocalAddr(addr) => *addr == session.local_address(),
                    // A client without a name has none that could match.
                    Test::Name(name) => !names.name.is_empty() && *name == names.name,
                    Test::Idle(idle) => seconds(session.input.active_ns()) >= *idle,
                    Test::MaxAge(age) => seconds(session.created_ns()) >= *age,
                    Test::Flags(letters) => {
                        let shown = flag_letters(client);
                        letters.chars().all(|letter| shown.contains(letter))
                    }
                    Test::LibName(name) => !names.lib_name.is_empty() && *name == names.lib_name,
                    Test::LibVer(version) => !names.lib_ver.is_empty() && *version == names.lib_ver,
                    Test::Db(db) => *db == caller.db,
                    Test::Capa(letters) => letters.is_empty() || session.modes.capa_redirect,
                    Test::Ip(ip) => *ip == session.ip(),
                }
        })
    }
}

fn positive(text: &[u8], name: &str) -> Result<u64, CommandError> {
    match integer(text) {
        Ok(seconds) if seconds > 0 => Ok(seconds as u64),
        Ok(_) => Err(CommandError::new(format!("ERR {name} should be greater than 0"))),
        Err(_) => Err(CommandError::new(format!("ERR {name} is not an integer or out of range"))),
    }
}

fn client_class(text: &[u8]) -> Result<Option<ClientClass>, CommandError> {
    match text.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(Some(ClientClass::Normal)),
        b"pubsub" => Ok(Some(ClientClass::Pubsub)),
        b"replica" | b"slave" => Ok(Some(ClientClass::Replica)),
        b"primary" | b"master" => Ok(None),
        _ => Err(CommandError::new(format!("ERR Unknown client type '{}'", lossy(text)))),
    }
}
