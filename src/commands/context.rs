//! What a handler works with: the executor's state, the client, the reply, and helpers to read
//! arguments.

use tercel_resp::number::{parse_f64, parse_i64};

use super::args::Args;
use super::fail::{DB_OUT_OF_RANGE, Fail, NOT_A_FLOAT, NOT_AN_INTEGER, fail};
use super::spec::Command;
use crate::reply::Reply;
use crate::session::Session;
use crate::state::Core;
use crate::state::keys::Key;

/// A handler's surroundings.
pub struct Context<'a> {
    /// The executor's state.
    pub core: &'a mut Core,
    /// The client.
    pub session: &'a mut Session,
    /// Its reply.
    pub out: &'a mut Reply,
    /// The command that runs.
    pub command: &'static Command,
}

impl Context<'_> {
    /// A key argument with its hash, which was usually computed when the batch was built.
    #[inline]
    #[must_use]
    pub fn key<'k>(&self, args: &Args<'k>, index: usize) -> Key<'k> {
        let bytes = args.get(index);
        let hash = args.hash(index).unwrap_or_else(|| self.core.keyspace.hash(bytes));
        Key { bytes, hash }
    }

    /// Reads a database number.
    ///
    /// # Errors
    /// Not a number, or no such database.
    pub fn db_index(&self, text: &[u8]) -> Result<usize, Fail> {
        let index = integer(text)?;
        if i32::try_from(index).is_err() {
            return Err(fail("ERR value is out of range, value must between -2147483648 and 2147483647"));
        }
        usize::try_from(index).ok().filter(|index| *index < self.core.keyspace.databases()).ok_or(DB_OUT_OF_RANGE)
    }

    /// The name errors use: the command's own.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.command.name
    }
}

/// Reads an integer.
///
/// # Errors
/// [`NOT_AN_INTEGER`].
#[inline]
pub(crate) fn integer(text: &[u8]) -> Result<i64, Fail> {
    parse_i64(text).ok_or(NOT_AN_INTEGER)
}

/// Reads a floating point number.
///
/// # Errors
/// [`NOT_A_FLOAT`].
pub(crate) fn float(text: &[u8]) -> Result<f64, Fail> {
    parse_f64(text).ok_or(NOT_A_FLOAT)
}

/// Text for a message, whatever the bytes are.
#[must_use]
pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
