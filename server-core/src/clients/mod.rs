//! The clients: for whom commands run, who they are, what they may hold, what they listen to. Knows the data
//! to look at, and neither the server that owns it nor a transport.

pub mod caller;
pub mod client;
pub mod input;
pub mod limits;
mod messages;
mod notifications;
pub mod output;
pub mod subscriptions;
pub mod table;
pub mod transaction;
pub mod waiting;
pub mod watch;

pub use caller::Caller;
pub use client::{Client, ClientClass, ClientKey, Session};
pub use output::{Closing, ReplyMode};
pub use table::{Clients, Counters, Pause};
pub use waiting::{Slice, Sliced, Wait};
