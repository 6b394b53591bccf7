//! Errors a command answers. A [`CommandError`] ends the command, never the connection.

use std::borrow::Cow;

use tercel_engine::WrongType;

/// An error reply; the text begins with its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError(pub Cow<'static, str>);

/// What a handler returns: its reply is written, or this error is.
pub type Outcome = Result<(), CommandError>;

impl CommandError {
    /// An error made at run time, text and code.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        CommandError(Cow::Owned(text.into()))
    }

    const fn fixed(text: &'static str) -> Self {
        CommandError(Cow::Borrowed(text))
    }
}

/// The words did not fit the command's grammar.
pub const SYNTAX: CommandError = CommandError::fixed("ERR syntax error");
/// Not an integer of 64 bits.
pub const NOT_AN_INTEGER: CommandError = CommandError::fixed("ERR value is not an integer or out of range");
/// Not a floating point number.
pub const NOT_A_FLOAT: CommandError = CommandError::fixed("ERR value is not a valid float");
/// An increment beyond 64 bits.
pub const OVERFLOW: CommandError = CommandError::fixed("ERR increment or decrement would overflow");
/// A key that has to be there is not.
pub const NO_SUCH_KEY: CommandError = CommandError::fixed("ERR no such key");
/// A number that may not be so large or small.
pub const OUT_OF_RANGE: CommandError = CommandError::fixed("ERR value is out of range");
/// A string that would become too long.
pub const TOO_LONG: CommandError = CommandError::fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
/// A database that is not there.
pub const DB_OUT_OF_RANGE: CommandError = CommandError::fixed("ERR DB index is out of range");

/// A key of another type than the command works on.
pub const WRONG_TYPE: CommandError =
    CommandError::fixed("WRONGTYPE Operation against a key holding the wrong kind of value");

impl From<WrongType> for CommandError {
    fn from(_: WrongType) -> Self {
        WRONG_TYPE
    }
}

/// Wraps a text known at compile time.
#[must_use]
pub const fn fail(text: &'static str) -> CommandError {
    CommandError::fixed(text)
}

/// Wrong number of arguments.
#[must_use]
pub fn wrong_arity(name: &str) -> CommandError {
    CommandError::new(format!("ERR wrong number of arguments for '{name}' command"))
}

/// An expiry that is no time.
#[must_use]
pub fn invalid_expire(name: &str) -> CommandError {
    CommandError::new(format!("ERR invalid expire time in '{name}' command"))
}

/// A subcommand that does not take so many arguments.
#[must_use]
pub fn subcommand_syntax(container: &str, sub: &[u8]) -> CommandError {
    let shown = String::from_utf8_lossy(&sub[..sub.len().min(128)]).into_owned();
    CommandError::new(format!(
        "ERR unknown subcommand or wrong number of arguments for '{shown}'. Try {} HELP.",
        container.to_ascii_uppercase()
    ))
}

/// An unknown subcommand of a container.
#[must_use]
pub fn unknown_subcommand(container: &str, sub: &[u8]) -> CommandError {
    let shown = String::from_utf8_lossy(&sub[..sub.len().min(128)]).into_owned();
    CommandError::new(format!("ERR unknown subcommand '{shown}'. Try {} HELP.", container.to_ascii_uppercase()))
}
