//! All commands by name. Built once a process from the families' tables; never changes.

use std::sync::OnceLock;

use super::args::Args;
use super::spec::Command;
use super::{
    bitfield, bitmap, client, command, commandlog, config, connection, dump, expire, keys, latency, lcs, memory,
    persistence, pubsub, server, string, transaction,
};

/// A command's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommandId(u16);

impl CommandId {
    /// The place as a number.
    #[must_use]
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The declaration.
    #[must_use]
    #[inline]
    pub fn command(self) -> &'static Command {
        table().commands[self.index()]
    }
}

/// The families, each in a file of its own.
static FAMILIES: &[&[Command]] = &[
    string::COMMANDS,
    lcs::COMMANDS,
    bitmap::COMMANDS,
    bitfield::COMMANDS,
    keys::COMMANDS,
    dump::COMMANDS,
    expire::COMMANDS,
    transaction::COMMANDS,
    pubsub::COMMANDS,
    connection::COMMANDS,
    client::COMMANDS,
    server::COMMANDS,
    memory::COMMANDS,
    persistence::COMMANDS,
    config::COMMANDS,
    command::COMMANDS,
    latency::COMMANDS,
    commandlog::COMMANDS,
];

/// Slots of the name index; a power of two, several times the number of commands.
const SLOTS: usize = 2048;
const EMPTY: u16 = u16::MAX;

/// All commands.
pub struct CommandTable {
    commands: Vec<&'static Command>,
    /// Number of commands that are no subcommands; they come first.
    top_level: usize,
    /// For each container, its subcommands' places: first and count.
    subcommands: Vec<(u16, u16)>,
    slots: Box<[u16; SLOTS]>,
}

/// The table.
#[inline]
pub fn table() -> &'static CommandTable {
    static TABLE: OnceLock<CommandTable> = OnceLock::new();
    TABLE.get_or_init(CommandTable::build)
}

impl CommandTable {
    fn build() -> Self {
        let mut commands: Vec<&'static Command> = FAMILIES.iter().flat_map(|family| family.iter()).collect();
        let top_level = commands.len();
        let mut subcommands = Vec::with_capacity(top_level);
        for at in 0..top_level {
            let first = commands.len() as u16;
            commands.extend(commands[at].subcommands);
            subcommands.push((first, commands.len() as u16 - first));
        }
        let mut slots = Box::new([EMPTY; SLOTS]);
        for (at, command) in commands.iter().enumerate().take(top_level) {
            let mut slot = slot_of(command.name.as_bytes());
            while slots[slot] != EMPTY {
                slot = (slot + 1) % SLOTS;
            }
            slots[slot] = at as u16;
        }
        CommandTable { commands, top_level, subcommands, slots }
    }

    /// Commands and subcommands together.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Finds a command by name, whatever the case.
    #[must_use]
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<CommandId> {
        let mut slot = slot_of(name);
        loop {
            let at = self.slots[slot];
            if at == EMPTY {
                return None;
            }
            if self.commands[at as usize].name.as_bytes().eq_ignore_ascii_case(name) {
                return Some(CommandId(at));
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// Finds a container's subcommand.
    #[must_use]
    pub fn find_sub(&self, container: CommandId, name: &[u8]) -> Option<CommandId> {
        let (first, count) = self.subcommands.get(container.index()).copied()?;
        (first..first + count)
            .find(|at| self.commands[*at as usize].own_name().as_bytes().eq_ignore_ascii_case(name))
            .map(CommandId)
    }

    /// Finds what a command's words name: the subcommand where there is one.
    #[must_use]
    #[inline]
    pub fn resolve(&self, args: &Args<'_>) -> Option<CommandId> {
        let id = self.find(args.get(0))?;
        if self.commands[id.index()].subcommands.is_empty() || args.len() < 2 {
            return Some(id);
        }
        self.find_sub(id, args.get(1)).or(Some(id))
    }

    /// Finds `name`, or `container|sub`.
    #[must_use]
    pub fn find_full(&self, name: &[u8]) -> Option<CommandId> {
        match name.iter().position(|&byte| byte == b'|') {
            None => self.find(name),
            Some(at) => self.find_sub(self.find(&name[..at])?, &name[at + 1..]),
        }
    }

    /// Commands that are no subcommands.
    pub fn top_level(&self) -> impl Iterator<Item = (CommandId, &'static Command)> {
        self.commands[..self.top_level].iter().enumerate().map(|(at, command)| (CommandId(at as u16), *command))
    }

    /// All commands and subcommands.
    pub fn all(&self) -> impl Iterator<Item = (CommandId, &'static Command)> {
        self.commands.iter().enumerate().map(|(at, command)| (CommandId(at as u16), *command))
    }
}

/// The slot a name belongs to: letters count alike in either case.
#[inline]
fn slot_of(name: &[u8]) -> usize {
    let mut hash: u64 = name.len() as u64;
    for &byte in &name[..name.len().min(24)] {
        hash = (hash ^ u64::from(byte | 0x20)).wrapping_mul(0x0100_0000_01b3);
    }
    (hash ^ (hash >> 29)) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::commands::spec::{KeyPositions, acl};

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
            let tree = crate::commands::grammar::parse(command.args)
                .unwrap_or_else(|error| panic!("{}: {error}", command.name));
            let has_key_argument = crate::commands::grammar::any(&tree, &|arg| arg.kind == "key");
            let real_keys = command.keys.iter().any(|spec| spec.flags & crate::commands::spec::key::NOT_KEY == 0);
            assert_eq!(has_key_argument, real_keys, "{}: keys and grammar disagree", command.name);
            for spec in command.keys {
                if let KeyPositions::Range { first, .. } = spec.positions {
                    assert!(first >= 1, "{}", command.name);
                }
            }
        }
    }

    /// Categories come from flags; here they are held against what else is declared, and what the field
    /// knows of some commands.
    #[test]
    fn categories_go_with_keys_and_group() {
        use crate::commands::spec::{Group, key};
        for (_, command) in table().all() {
            let (name, categories) = (command.name, command.categories());
            // A container does nothing itself, and help is of no family.
            if !command.subcommands.is_empty() || command.own_name() == "help" {
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
            let categories = table().find_full(name.as_bytes()).unwrap().command().categories();
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
