//! Commands that are not answered at once: what they wait for, and long ones, which are done in slices
//! between the commands of others.

use crate::command::{CommandId, OwnedCommand, Reply};
use crate::data::Dataset;

/// What a client may wait for.
pub enum Wait {
    /// Its reply: until the snapshot being written is on the disk.
    Saved,
    /// Its next command: until a long one has changed the keys it uses, or fewer long ones are under way.
    Turn,
    /// The command itself: it is done in slices.
    Slices(Box<Sliced>),
}

/// The work of a long command. It looks at what was there when it began, so that its answer is of that moment
/// whatever changes meanwhile: it holds values, not keys.
pub trait Slice {
    /// One piece of it, which takes some ten microseconds at most; what there is to answer is written as it is
    /// found. True while there is more.
    fn step(&mut self, data: &mut Dataset, answer: &mut Reply) -> bool;

    /// Nobody wants the rest: gives back what it holds of the data.
    fn abandon(&mut self, _data: &mut Dataset) {}

    /// Memory in bytes of what it has gathered to answer with, and not written yet: its client may be owed no more
    /// than so much.
    fn gathered(&self) -> usize {
        0
    }
}

/// A command that is done in slices.
pub struct Sliced {
    /// Its work.
    pub job: Box<dyn Slice>,
    /// Its answer so far, apart from what else its client is told meanwhile.
    pub answer: Reply,
    /// What it is, for statistics and logs.
    pub id: CommandId,
    /// Its arguments.
    pub args: OwnedCommand,
    /// Bytes it came in.
    pub request_len: usize,
    /// Time it has taken so far, in nanoseconds; of others' commands in between, none.
    pub spent_ns: u64,
    /// Its client wants no reply to it.
    pub is_muted: bool,
}

impl Sliced {
    /// Memory in bytes of its answer so far, written or not.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.job.gathered() + self.answer.memory()
    }
}
