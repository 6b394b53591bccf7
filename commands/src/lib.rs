//! The families of commands: each declares its commands with their handlers. None knows another.

#![forbid(unsafe_code)]

mod arguments;
mod bitmap;
mod connection;
mod generic;
mod hash;
mod list;
mod pubsub;
mod server;
mod string;
mod transactions;

use std::sync::OnceLock;

use tercel_core::dispatch::{Command, Commands};

static FAMILIES: &[&[Command]] = &[
    string::COMMANDS,
    string::lcs::COMMANDS,
    bitmap::COMMANDS,
    bitmap::bitfield::COMMANDS,
    list::COMMANDS,
    hash::COMMANDS,
    generic::COMMANDS,
    generic::dump::COMMANDS,
    generic::restore::COMMANDS,
    generic::expire::COMMANDS,
    transactions::COMMANDS,
    pubsub::COMMANDS,
    connection::COMMANDS,
    connection::client::COMMANDS,
    server::COMMANDS,
    server::memory::COMMANDS,
    server::persistence::COMMANDS,
    server::config::COMMANDS,
    server::command::COMMANDS,
    server::latency::COMMANDS,
    server::commandlog::COMMANDS,
];

/// All commands.
#[must_use]
pub fn commands() -> &'static Commands {
    static COMMANDS: OnceLock<Commands> = OnceLock::new();
    COMMANDS.get_or_init(|| Commands::new(FAMILIES))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::commands;
    use tercel_core::command::CommandTable;
    use tercel_core::command::key_positions::Begin;
    use tercel_core::command::spec::acl;

    fn table() -> &'static CommandTable {
        &commands().table
    }

    #[test]
    fn every_name_is_found_and_unique() {
        let mut names: Vec<&str> = table().all().map(|(_, command)| command.name).collect();
        for (id, command) in table().all() {
            assert_eq!(table().find_full(command.name.to_uppercase().as_bytes()), Some(id), "{}", command.name);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn declarations_are_whole() {
        for (_, command) in table().all() {
            assert!(!command.summary.is_empty(), "{}", command.name);
            assert!(command.arity != 0, "{}", command.name);
            let tree = tercel_core::command::grammar::parse(command.args)
                .unwrap_or_else(|error| panic!("{}: {error}", command.name));
            let has_key_argument = tercel_core::command::grammar::any(&tree, &|arg| arg.kind == "key");
            let real_keys = command.keys.iter().any(|spec| spec.flags & tercel_core::command::spec::key::NOT_KEY == 0);
            assert_eq!(has_key_argument, real_keys, "{}: keys and grammar disagree", command.name);
            for spec in command.keys {
                if let Begin::Index(first) = spec.begin {
                    assert!(first >= 1, "{}", command.name);
                }
            }
        }
    }

    /// Categories come from flags; here they are held against what else is declared, and what the field
    /// knows of some commands.
    #[test]
    fn categories_go_with_keys_and_group() {
        use tercel_core::command::spec::{Group, key};
        for (_, command) in table().all() {
            let (name, categories) = (command.name, command.categories());
            // A container does nothing itself, and help is of no family.
            if command.is_container || command.own_name() == "help" {
                continue;
            }
            let keys = || command.keys.iter().filter(|spec| spec.flags & key::NOT_KEY == 0);
            let changes = keys().any(|spec| spec.flags & (key::RW | key::OW | key::RM) != 0);
            if changes {
                assert_eq!(categories & (acl::READ | acl::WRITE), acl::WRITE, "{name} changes its keys");
            } else if keys().any(|spec| spec.flags & key::ACCESS != 0) {
                assert_eq!(categories & (acl::READ | acl::WRITE), acl::READ, "{name} reads its keys");
            }
            let of_group = match command.group {
                Group::String => acl::STRING,
                Group::Bitmap => acl::BITMAP,
                Group::List => acl::LIST,
                Group::Hash => acl::HASH,
                Group::Pubsub => acl::PUBSUB,
                Group::Connection => acl::CONNECTION,
                Group::Transactions => acl::TRANSACTION,
                _ => 0,
            };
            assert_eq!(categories & of_group, of_group, "{name}: of its group");
        }
        for (name, expected) in [
            ("get", &["fast", "read", "string"][..]),
            ("set", &["slow", "string", "write"]),
            ("del", &["keyspace", "slow", "write"]),
            ("keys", &["dangerous", "keyspace", "read", "slow"]),
            ("flushall", &["dangerous", "keyspace", "slow", "write"]),
            ("getbit", &["bitmap", "fast", "read"]),
            ("publish", &["fast", "pubsub"]),
            ("multi", &["fast", "transaction"]),
            ("ping", &["connection", "fast"]),
            ("config|set", &["admin", "dangerous", "slow"]),
        ] {
            let categories = table().find_full(name.as_bytes()).map(|id| table().spec(id)).unwrap().categories();
            let mut names: Vec<&str> =
                acl::NAMES.iter().filter(|(bit, _)| categories & bit != 0).map(|(_, name)| *name).collect();
            names.sort_unstable();
            assert_eq!(names, expected, "{name}");
        }
    }

    #[test]
    fn unknown_names_are_not_found() {
        assert!(table().find(b"").is_none());
        assert!(table().find(b"nosuchcommand").is_none());
        assert!(table().find(&[b'x'; 1000]).is_none());
    }
}
