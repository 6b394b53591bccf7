//! Commands that are not answered at once: what they wait for, and long ones, which are done in slices
//! between the commands of others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tercel_engine::Kind;

use super::key::ClientKey;
use crate::base::timers::Timers;
use crate::command::{Args, CommandId, OwnedCommand, Reply};
use crate::data::Dataset;

/// What a client may wait for.
pub enum Wait {
    /// Its reply: until the snapshot being written is on the disk.
    Saved,
    /// Its next command: until a long one has changed the keys it uses, or fewer long ones are under way.
    Turn,
    /// The command itself: it is done in slices.
    Slices(Box<Sliced>),
    /// What keys are to hold, or a deadline: then it is run again, or answered that there was nothing.
    Keys(Box<KeysWait>),
}

/// A command that waits for keys to hold something.
pub struct KeysWait {
    /// The database it was run in.
    pub db: usize,
    /// The keys, in the order in which it looks at them.
    pub keys: Vec<Box<[u8]>>,
    /// What they are to hold.
    pub kind: Kind,
    /// Until when, in Unix milliseconds; None waits for ever.
    pub deadline_ms: Option<i64>,
    /// The command.
    pub id: CommandId,
    /// Its arguments.
    pub args: OwnedCommand,
    /// Bytes it came in.
    pub request_len: usize,
    /// Its client wants no reply to it.
    pub is_muted: bool,
    /// Its place among all who wait: first come, first served. 0 until it has one.
    turn: u64,
}

impl KeysWait {
    /// A wait that nobody knows of yet.
    #[must_use]
    pub fn new(db: usize, keys: Vec<Box<[u8]>>, kind: Kind, deadline_ms: Option<i64>, id: CommandId) -> Self {
        KeysWait {
            db,
            keys,
            kind,
            deadline_ms,
            id,
            args: OwnedCommand::default(),
            request_len: 0,
            is_muted: false,
            turn: 0,
        }
    }

    /// Memory in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        /// Of a key in the lists, about.
        const LISTED: usize = 120;
        size_of::<Self>() + self.args.memory() + self.keys.iter().map(|key| 2 * key.len() + LISTED).sum::<usize>()
    }
}

/// Who waits for one key, by the place among all who wait.
type Queue = BTreeMap<u64, ClientKey>;

/// Who waits for keys.
#[derive(Default)]
pub(super) struct Waiters {
    /// By database and key, in the order in which they came.
    by_key: HashMap<(usize, Box<[u8]>), Queue>,
    /// When each gives up: Unix milliseconds, and the place among all.
    deadlines: Timers<(u64, ClientKey)>,
    turns: u64,
    waiting: usize,
}

impl Waiters {
    pub(super) fn begin(&mut self, client: ClientKey, wait: &mut KeysWait, data: &mut Dataset) {
        self.turns += 1;
        self.waiting += 1;
        wait.turn = self.turns;
        for key in wait.keys.iter().collect::<BTreeSet<_>>() {
            data.await_key(wait.db, key);
            self.by_key.entry((wait.db, key.clone())).or_default().insert(wait.turn, client);
        }
        if let Some(at_ms) = wait.deadline_ms {
            self.deadlines.add(at_ms, (wait.turn, client));
        }
    }

    pub(super) fn end(&mut self, client: ClientKey, wait: &KeysWait, data: &mut Dataset) {
        if wait.turn == 0 {
            return;
        }
        self.waiting -= 1;
        for key in wait.keys.iter().collect::<BTreeSet<_>>() {
            data.forget_awaited(wait.db, key);
            if let std::collections::hash_map::Entry::Occupied(mut waiters) = self.by_key.entry((wait.db, key.clone()))
            {
                waiters.get_mut().remove(&wait.turn);
                if waiters.get().is_empty() {
                    waiters.remove();
                }
            }
        }
        if let Some(at_ms) = wait.deadline_ms {
            self.deadlines.remove(at_ms, (wait.turn, client));
        }
    }

    /// The first who waits for a key and came after `turn`.
    pub(super) fn next_after(&self, db: usize, key: &[u8], turn: u64) -> Option<(u64, ClientKey)> {
        let waiters = self.by_key.get(&(db, key.into()))?;
        waiters.range(turn + 1..).next().map(|(&turn, &client)| (turn, client))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.by_key.keys().map(|(db, key)| (*db, &**key))
    }

    pub(super) fn next_deadline_ms(&self) -> Option<i64> {
        self.deadlines.next()
    }

    pub(super) fn take_due(&mut self, now_ms: i64) -> Option<ClientKey> {
        self.deadlines.take_due(now_ms).map(|(_, client)| client)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn waiting_with_deadline(&self) -> usize {
        self.deadlines.len()
    }
}

/// A command that takes longer goes on in slices of this length at most, in nanoseconds.
pub const SLICE_NS: u64 = 100_000;

/// The work of a long command. It looks at what was there when it began, so that its answer is of that moment
/// whatever changes meanwhile: it holds values, not keys.
pub trait Slice {
    /// One piece of it, which takes some ten microseconds at most, given the arguments of its command; what there is
    /// to answer is written as it is found. True while there is more.
    fn step(&mut self, args: &Args<'_>, data: &mut Dataset, answer: &mut Reply) -> bool;

    /// Whether what the command does is done already, so that it cannot begin anew: only its answer is left.
    fn is_done(&self) -> bool {
        false
    }

    /// Whether what it has written is sent while the rest is still to come: then its client never is owed more than
    /// it takes. It must not turn into an error on the way.
    fn streams(&self) -> bool {
        false
    }

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
    /// Bytes of its answer that were sent already; None if it is answered as a whole.
    pub sent_len: Option<usize>,
}

impl Sliced {
    /// Hands on what it has answered so far, if it is one that does so.
    pub(crate) fn send_so_far(&mut self, out: &mut Reply) {
        if let Some(sent_len) = &mut self.sent_len {
            *sent_len += self.answer.len();
            out.append(&mut self.answer);
        }
    }

    /// Memory in bytes of its answer so far, written or not.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.job.gathered() + self.answer.memory()
    }
}
