//! How clients are told apart within a server.

/// A client's slot in the table of clients.
pub type ClientKey = usize;

/// Classes of clients with output-buffer limits of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientClass {
    /// Ordinary clients.
    Normal,
    /// Replicas.
    Replica,
    /// Subscribers.
    Pubsub,
}
