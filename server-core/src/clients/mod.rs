//! The clients: for whom commands run, who they are, what they may hold, what they listen to. Knows the data
//! to look at, and neither the server that owns it nor a transport.

mod account;
pub mod caller;
pub mod client;
pub mod input;
pub mod key;
pub mod limits;
mod messages;
mod notifications;
pub mod output;
mod publish;
pub mod subscriptions;
pub mod table;
pub mod transaction;
pub mod waiting;
mod waits;
mod watch;
pub mod watched;

pub use caller::Caller;
pub use client::{Client, Session};
pub use key::{ClientClass, ClientKey};
pub use output::{Closing, ReplyMode};
pub use table::{Clients, Counters, Pause};
pub use waiting::{KeysWait, SLICE_NS, Slice, Sliced, Wait};
