//! One command of a workload, and one request of it.

use super::effect::{Effect, Lifetime};
use super::template::Template;

/// A command of the mix.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) template: Template,
    pub(super) effect: Effect,
    pub(super) lifetime: Lifetime,
    /// First bytes of the replies it can get beside errors; none: any.
    pub(super) kinds: &'static [u8],
}

/// A request that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Issued {
    /// Which command, an index into [`Workload::names`](super::Workload::names).
    pub op: u8,
    /// The (last) key's number.
    pub key: u64,
    /// In verification mode the version the key has after this command.
    pub version: u32,
    /// In verification mode the time from which on the key may have expired, on the clock of
    /// [`Generator::set_now_ns`](super::Generator::set_now_ns); `u64::MAX` if it does not.
    pub deadline_ns: u64,
}
