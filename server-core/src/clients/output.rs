//! What a client is owed, apart from the replies being written: which replies it wants, what the transport
//! still holds for it, and whether its connection is to end.

use tercel_resp::Version;

use crate::command::reply::Reply;

/// Which replies a client wants (CLIENT REPLY).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplyMode {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// None for the next command.
    SkipNext,
    /// None for the command being run.
    Skip,
}

/// How urgently a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// After what is written has been sent.
    AfterReply,
    /// At once.
    Now,
}

/// What the transport holds for a client, as of its last turn.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Received bytes not consumed yet.
    pub received_len: usize,
    /// Bytes handed over and not sent yet.
    pub unsent_len: usize,
    /// Memory those hold, in bytes.
    pub unsent_memory: usize,
    /// Memory of the connection in the transport, in bytes.
    pub memory: usize,
    /// File descriptor, -1 where there is none.
    pub fd: i32,
}

impl Default for Held {
    fn default() -> Self {
        Held { received_len: 0, unsent_len: 0, unsent_memory: 0, memory: 0, fd: -1 }
    }
}

/// The sending side of a client.
#[derive(Default)]
pub struct Output {
    /// Which replies it wants.
    pub reply_mode: ReplyMode,
    /// What the transport holds; the executor asks it and writes it down.
    pub held: Held,
    pub(super) is_flush_queued: bool,
    closing: Option<Closing>,
    soft_limit_since_ns: Option<u64>,
    replied_total: u64,
    /// What it will be told once what it waits for is there.
    withheld: Option<Reply>,
    /// Messages that came while a reply is sent in pieces: they follow it.
    behind: Option<Reply>,
}

impl Output {
    /// The connection is to end.
    #[inline]
    pub fn close(&mut self, how: Closing) {
        self.closing = Some(how);
    }

    /// Whether the connection is to end, and how.
    #[must_use]
    #[inline]
    pub fn closing(&self) -> Option<Closing> {
        self.closing
    }

    /// Whether it is to end at once.
    #[must_use]
    #[inline]
    pub fn closes_now(&self) -> bool {
        self.closing == Some(Closing::Now)
    }

    /// What was written in this turn was handed to the transport.
    #[inline]
    pub fn flushed(&mut self) {
        self.is_flush_queued = false;
    }

    /// The transport holds nothing of it any more.
    pub fn drained(&mut self) {
        self.soft_limit_since_ns = None;
        self.held.unsent_len = 0;
        self.held.unsent_memory = 0;
    }

    /// It is below the soft limit: should it rise again, its time begins anew.
    pub fn below_soft_limit(&mut self) {
        self.soft_limit_since_ns = None;
    }

    /// It is above the soft limit; true if it was not before. In the clock's nanoseconds.
    pub fn above_soft_limit(&mut self, now_ns: u64) -> bool {
        let is_new = self.soft_limit_since_ns.is_none();
        self.soft_limit_since_ns.get_or_insert(now_ns);
        is_new
    }

    /// Since when it is above the soft limit, in the clock's nanoseconds.
    #[must_use]
    pub fn soft_limit_since_ns(&self) -> Option<u64> {
        self.soft_limit_since_ns
    }

    /// Counts bytes of replies.
    #[inline]
    pub fn count_replied(&mut self, len: usize) {
        self.replied_total += len as u64;
    }

    /// Bytes of all replies.
    #[must_use]
    pub fn replied_total(&self) -> u64 {
        self.replied_total
    }

    /// Keeps replies back; what is written from now on are messages that are no replies.
    pub fn withhold(&mut self, out: &mut Reply) {
        let version = out.version;
        self.withheld = Some(std::mem::replace(out, Reply::new(version)));
    }

    /// Puts what was kept back before what was written since; false if nothing was.
    pub fn give_withheld(&mut self, out: &mut Reply) -> bool {
        let Some(mut withheld) = self.withheld.take() else { return false };
        withheld.append(out);
        *out = withheld;
        true
    }

    /// A reply is sent in pieces: messages are to wait for its end.
    pub(crate) fn begin_pieces(&mut self, version: Version) {
        self.behind = Some(Reply::new(version));
    }

    /// The reply is whole: what came meanwhile follows it.
    pub(crate) fn end_pieces(&mut self, out: &mut Reply) {
        if let Some(mut behind) = self.behind.take() {
            out.append(&mut behind);
        }
    }

    /// Where messages go while a reply is sent in pieces.
    pub(super) fn behind(&mut self) -> Option<&mut Reply> {
        self.behind.as_mut()
    }

    /// Memory in bytes of what is kept back and of what the transport holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.held.memory + self.withheld.iter().chain(&self.behind).map(Reply::memory).sum::<usize>()
    }
}
