//! What a command is, to everybody: its declaration without its handler, its arguments, its reply and its
//! errors. Knows no server, no client and no network.

pub mod args;
pub mod error;
pub mod event_class;
pub mod grammar;
mod id;
pub mod key_positions;
pub mod parse;
pub mod reply;
pub mod spec;
mod table;

pub use args::{Args, OwnedCommand};
pub use error::{CommandError, Outcome};
pub use id::CommandId;
pub use reply::Reply;
pub use spec::Spec;
pub use table::{CommandTable, LastFound};
