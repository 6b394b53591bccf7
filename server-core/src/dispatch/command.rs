//! A command: its declaration and its handler, as a family writes them down, and how all of them are put together.

use super::context::{Commands, Context, Handler};
use crate::clients::Session;
use crate::command::key_positions::KeySpec;
use crate::command::spec::Group;
use crate::command::{Args, CommandTable, Outcome, Spec};

/// One command with its handler.
pub struct Command {
    /// The declaration.
    pub spec: Spec,
    /// What runs.
    pub handler: Handler,
    /// Subcommands of a container.
    pub subcommands: &'static [Command],
}

/// Begins the declaration of a command that works for any caller.
#[must_use]
pub const fn cmd(
    name: &'static str,
    group: Group,
    since: &'static str,
    arity: i32,
    flags: u32,
    handler: fn(&mut Context<'_>, &Args<'_>) -> Outcome,
) -> Command {
    Command { spec: Spec::new(name, group, since, arity, flags), handler: Handler::Any(handler), subcommands: &[] }
}

/// Begins the declaration of a command that is about the client that sends it.
#[must_use]
pub const fn client_cmd(
    name: &'static str,
    group: Group,
    since: &'static str,
    arity: i32,
    flags: u32,
    handler: fn(&mut Context<'_>, &mut Session, &Args<'_>) -> Outcome,
) -> Command {
    Command { spec: Spec::new(name, group, since, arity, flags), handler: Handler::OfClient(handler), subcommands: &[] }
}

impl Command {
    /// Adds summary and complexity.
    #[must_use]
    pub const fn about(mut self, summary: &'static str, complexity: &'static str) -> Self {
        self.spec.summary = summary;
        self.spec.complexity = complexity;
        self
    }

    /// Adds key positions.
    #[must_use]
    pub const fn keys(mut self, keys: &'static [KeySpec]) -> Self {
        self.spec.keys = keys;
        self
    }

    /// Adds the grammar of the arguments.
    #[must_use]
    pub const fn args(mut self, grammar: &'static str) -> Self {
        self.spec.args = grammar;
        self
    }

    /// Adds hints.
    #[must_use]
    pub const fn tips(mut self, tips: &'static [&'static str]) -> Self {
        self.spec.tips = tips;
        self
    }

    /// Adds ACL categories that neither flags nor family imply.
    #[must_use]
    pub const fn acl(mut self, categories: u32) -> Self {
        self.spec.categories_extra = categories;
        self
    }

    /// Marks the command as kept for old clients.
    #[must_use]
    pub const fn deprecated(mut self, since: &'static str, replaced_by: &'static str) -> Self {
        self.spec.deprecated = Some((since, replaced_by));
        self
    }

    /// Says which arguments are secrets.
    #[must_use]
    pub const fn secret(mut self, secret: fn(&Args<'_>, usize) -> bool) -> Self {
        self.spec.secret = Some(secret);
        self
    }

    /// Says what is done to the keys, where options decide that.
    #[must_use]
    pub const fn key_flags(mut self, key_flags: fn(&Args<'_>) -> u32) -> Self {
        self.spec.key_flags = Some(key_flags);
        self
    }

    /// Makes it a container.
    #[must_use]
    pub const fn sub(mut self, subcommands: &'static [Command]) -> Self {
        self.spec.is_container = true;
        self.subcommands = subcommands;
        self
    }
}

impl Commands {
    /// Puts families together.
    #[must_use]
    pub fn new(families: &[&'static [Command]]) -> Self {
        let all: Vec<&'static Command> = families.iter().flat_map(|family| family.iter()).collect();
        let subcommands = all.iter().flat_map(|command| command.subcommands);
        let handlers = all.iter().copied().chain(subcommands).map(|command| command.handler).collect();
        let specs: Vec<&'static Spec> = all.iter().map(|command| &command.spec).collect();
        let subcommands: Vec<Vec<&'static Spec>> =
            all.iter().map(|command| command.subcommands.iter().map(|sub| &sub.spec).collect()).collect();
        Commands { table: CommandTable::new(&specs, &subcommands), handlers }
    }
}
