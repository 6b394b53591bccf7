//! The commands: a declaration with its handler, a family a file, and what runs them. A family's
//! table is listed in [`registry`]; everything else about a command stands in its own file.

pub mod args;
mod bitfield;
mod bitmap;
mod client;
mod client_filter;
mod command;
mod commandlog;
mod config;
mod connection;
mod context;
mod debug;
pub mod dispatch;
mod dump;
mod expire;
pub mod fail;
pub mod grammar;
mod info;
mod keys;
mod latency;
mod lcs;
mod long_double;
mod memory;
mod persistence;
mod pubsub;
pub mod registry;
mod server;
pub mod spec;
mod string;
mod transaction;

pub use args::{Args, OwnedCommand};
pub use context::Context;
pub use fail::{Fail, Outcome};

/// Ends all subscriptions of a client that goes away.
pub(crate) fn forget_subscriptions(core: &mut crate::state::Core, session: &mut crate::session::Session) {
    pubsub::unsubscribe_all(core, session);
}
