//! For whom a command runs, as far as every command has to know it.

use tercel_transport::PeerKind;

/// For whom a command runs: a client, or a transaction of one.
pub struct Caller {
    /// Database in use.
    pub db: usize,
    /// How the one behind it comes, for statistics.
    pub kind: PeerKind,
    /// CLIENT NO-TOUCH: reads leave the access field alone.
    pub no_touch: bool,
    /// The command is one of a transaction that runs: it may neither wait nor be answered out of turn.
    pub in_transaction: bool,
    /// What its reply is to wait for.
    pub wait: Option<Wait>,
}

/// What a reply may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The snapshot being written is on the disk.
    Saved,
}

impl Caller {
    /// One who comes in this way and has asked for nothing yet.
    #[must_use]
    pub fn new(kind: PeerKind) -> Self {
        Caller { db: 0, kind, no_touch: false, in_transaction: false, wait: None }
    }
}
