//! The clients: who they are, what they may hold, what they listen to.

pub mod client;
pub mod limits;
pub mod notifications;
pub mod subscriptions;
pub mod table;
pub mod watch;

pub use table::Clients;
