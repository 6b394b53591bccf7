//! What runs commands, and what a handler works with: the server, the caller, the reply, and helpers to read
//! arguments.

use crate::clients::{Caller, Session};
use crate::command::error::{CommandError, DB_OUT_OF_RANGE, fail};
use crate::command::parse::integer;
use crate::command::{Args, CommandId, CommandTable, Outcome, OwnedCommand, Reply, Spec};
use crate::data::Key;
use crate::server::Server;

/// The longest string that another server is believed to have, in bytes.
const EFFECT_STRING_LEN_MAX: u64 = 1 << 32;

/// What runs a command.
#[derive(Clone, Copy)]
pub enum Handler {
    /// Works for any caller.
    Any(fn(&mut Context<'_>, &Args<'_>) -> Outcome),
    /// Is about the client that sent it, and cannot run without one.
    OfClient(fn(&mut Context<'_>, &mut Session, &Args<'_>) -> Outcome),
}

/// All commands: what is known of each by its number, and what runs it.
pub struct Commands {
    /// The declarations.
    pub table: CommandTable,
    pub(super) handlers: Vec<Handler>,
}

impl Commands {
    /// What runs a command.
    ///
    /// # Panics
    /// If the number is another table's.
    #[must_use]
    #[inline]
    pub fn handler(&self, id: CommandId) -> Handler {
        self.handlers[id.index()]
    }
}

/// A handler's surroundings.
pub struct Context<'a> {
    /// The server.
    pub server: &'a mut Server,
    /// For whom it runs.
    pub caller: &'a mut Caller,
    /// The reply.
    pub out: &'a mut Reply,
    /// The client that sent it, if one did. A handler that is about a client is handed it apart.
    pub client: Option<&'a mut Session>,
    /// The command that runs.
    pub id: CommandId,
    /// Its declaration.
    pub spec: &'static Spec,
    /// All commands.
    pub commands: &'static Commands,
}

impl Context<'_> {
    /// A key argument with its hash, which was usually computed when the batch was built.
    #[inline]
    #[must_use]
    pub fn key<'k>(&self, args: &Args<'k>, index: usize) -> Key<'k> {
        let bytes = args.get(index);
        let hash = args.hash(index).unwrap_or_else(|| self.server.data().hash(bytes));
        Key { bytes, hash }
    }

    /// Reads a database number.
    ///
    /// # Errors
    /// Not a number, or no such database.
    pub fn db_index(&self, text: &[u8]) -> Result<usize, CommandError> {
        let index = integer(text)?;
        if i32::try_from(index).is_err() {
            return Err(fail("ERR value is out of range, value must between -2147483648 and 2147483647"));
        }
        usize::try_from(index).ok().filter(|index| *index < self.server.data().databases()).ok_or(DB_OUT_OF_RANGE)
    }

    /// How long a string may become, in bytes. An effect was held against the limit of the server it comes from,
    /// and meets only a limit that no settings go beyond in earnest.
    #[must_use]
    pub fn string_len_max(&self) -> u64 {
        let max = self.server.settings().proto_max_bulk_len.0 as u64;
        if self.server.data().is_following() { max.max(EFFECT_STRING_LEN_MAX) } else { max }
    }

    /// The name errors use: the command's own.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.spec.name
    }

    /// Says in what words what the command did is to be repeated elsewhere, if not in its own: `write` puts
    /// them together, if anybody wants to know.
    #[inline]
    pub fn effect(&mut self, write: impl FnOnce(&mut OwnedCommand)) {
        if self.server.data().records_effects() {
            let mut command = OwnedCommand::default();
            write(&mut command);
            self.server.data_mut().effect(self.caller.db, command);
        }
    }
}
