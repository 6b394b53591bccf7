//! What a handler works with: the server, the client, the reply, and helpers to read arguments.

use super::command::Commands;
use crate::clients::client::Session;
use crate::command::error::{CommandError, DB_OUT_OF_RANGE, fail};
use crate::command::parse::integer;
use crate::command::{Args, Outcome, Reply, Spec};
use crate::data::Key;
use crate::server::Core;

/// A command's handler.
pub type Handler = fn(&mut Context<'_>, &Args<'_>) -> Outcome;

/// A handler's surroundings.
pub struct Context<'a> {
    /// The executor's state.
    pub core: &'a mut Core,
    /// The client.
    pub session: &'a mut Session,
    /// Its reply.
    pub out: &'a mut Reply,
    /// The command that runs.
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
        let hash = args.hash(index).unwrap_or_else(|| self.core.data.hash(bytes));
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
        usize::try_from(index).ok().filter(|index| *index < self.core.data.databases()).ok_or(DB_OUT_OF_RANGE)
    }

    /// The name errors use: the command's own.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.spec.name
    }
}
