//! A client's transaction: what is queued since MULTI, and the keys it watches.

use super::watched::{Change, Watched};
use crate::command::{Args, CommandId, OwnedCommand};

/// A command queued by MULTI.
pub struct Queued {
    /// Which.
    pub command: CommandId,
    /// Its arguments.
    pub owned: OwnedCommand,
}

/// What MULTI began.
#[derive(Default)]
pub struct Queue {
    commands: Vec<Queued>,
    failed: bool,
    flags: u32,
    memory: usize,
}

impl Queue {
    /// The commands in order.
    #[must_use]
    pub fn commands(&self) -> &[Queued] {
        &self.commands
    }

    /// Whether a command could not be queued: EXEC will refuse.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed
    }
}

/// A client's transaction, begun or not.
#[derive(Default)]
pub struct Transaction {
    queue: Option<Box<Queue>>,
    watched: Watched,
    is_broken: bool,
}

impl Transaction {
    /// Begins to queue.
    pub fn begin(&mut self) {
        self.queue = Some(Box::default());
    }

    /// Whether commands are queued.
    #[must_use]
    #[inline]
    pub fn is_open(&self) -> bool {
        self.queue.is_some()
    }

    /// Ends queueing; what was queued.
    pub fn take_queue(&mut self) -> Option<Box<Queue>> {
        self.queue.take()
    }

    /// Queues a command with these flags.
    pub fn queue(&mut self, id: CommandId, flags: u32, args: &Args<'_>) {
        let Some(queue) = self.queue.as_mut() else { return };
        // What will not run anyway is not kept.
        if !queue.failed && !self.is_broken {
            let owned = OwnedCommand::from_args(args);
            queue.memory += owned.memory();
            queue.commands.push(Queued { command: id, owned });
        }
        queue.flags |= flags;
    }

    /// A command could not be queued. The others will not run either: nothing of them needs to be kept.
    pub fn fail(&mut self) {
        if let Some(queue) = self.queue.as_mut() {
            queue.failed = true;
            queue.commands = Vec::new();
            queue.memory = 0;
        }
    }

    /// The flags of all queued commands together.
    #[must_use]
    #[inline]
    pub fn flags(&self) -> u32 {
        self.queue.as_ref().map_or(0, |queue| queue.flags)
    }

    /// How many commands are queued and kept; `None` outside of a transaction.
    #[must_use]
    pub fn queued(&self) -> Option<usize> {
        self.queue.as_ref().map(|queue| queue.commands.len())
    }

    /// The commands that are queued and kept.
    #[must_use]
    pub fn queued_commands(&self) -> &[Queued] {
        self.queue.as_ref().map_or(&[], |queue| &queue.commands)
    }

    /// Memory of the queue in bytes.
    #[must_use]
    pub fn queue_memory(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.memory)
    }

    /// All memory in bytes. Costs the same whatever is queued and watched.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.watched.memory() + self.queue_memory()
    }

    /// The keys watched.
    #[must_use]
    pub fn watched(&self) -> &Watched {
        &self.watched
    }

    pub(super) fn watched_mut(&mut self) -> &mut Watched {
        &mut self.watched
    }

    /// Whether a watched key changed: EXEC will answer nothing.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// What was watched and changed is forgotten.
    pub(super) fn mend(&mut self) {
        self.is_broken = false;
    }

    /// A watched key changed. A key past its time is as good as none: going from one to the other
    /// breaks no watch.
    pub fn touch_watched(&mut self, db: usize, key: &[u8], change: Change) {
        let Some(expired) = self.watched.expired_mut(db, key) else { return };
        match (*expired, change) {
            (true, Change::Gone) => *expired = false,
            (true, Change::Stale { .. }) => {}
            (false, Change::Stale { from_missing: true }) => *expired = true,
            _ => self.is_broken = true,
        }
    }
}
