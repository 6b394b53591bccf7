//! For whom a command runs, as far as every command has to know it.

use tercel_transport::PeerKind;

use super::waiting::{KeysWait, Sliced, Wait};

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
    /// Whether there is somebody who can wait for a reply; else every command runs whole.
    pub may_wait: bool,
    /// What its reply is to wait for.
    pub wait: Option<Wait>,
    /// The command waited for keys and is run again, to see whether they hold what it wants now.
    pub(crate) is_woken: bool,
}

impl Caller {
    /// One who comes in this way and has asked for nothing yet.
    #[must_use]
    pub fn new(kind: PeerKind) -> Self {
        Caller { db: 0, kind, no_touch: false, in_transaction: false, may_wait: false, wait: None, is_woken: false }
    }

    /// The command being done in slices, if one is.
    #[inline]
    pub fn sliced(&mut self) -> Option<&mut Sliced> {
        match &mut self.wait {
            Some(Wait::Slices(sliced)) => Some(sliced),
            _ => None,
        }
    }

    /// Whether it is sent a reply in pieces.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        matches!(&self.wait, Some(Wait::Slices(sliced)) if sliced.sent_len.is_some())
    }

    /// What it waits for keys to hold, if it does.
    #[must_use]
    #[inline]
    pub fn keys_wait(&self) -> Option<&KeysWait> {
        match &self.wait {
            Some(Wait::Keys(wait)) => Some(wait),
            _ => None,
        }
    }

    /// Whether it goes on by itself, so that what it has sent will be done even if it is gone by then.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        matches!(self.wait, Some(Wait::Slices(_) | Wait::Turn))
    }

    /// Memory in bytes of a command that is done in slices, or waits for keys.
    #[must_use]
    pub fn memory(&self) -> usize {
        match &self.wait {
            Some(Wait::Slices(sliced)) => sliced.memory(),
            Some(Wait::Keys(wait)) => wait.memory(),
            _ => 0,
        }
    }
}
