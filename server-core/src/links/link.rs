//! One link: how it stands, what its handler has to send, and what the executor is to do for it.

use tercel_transport::{Address, Close, ConnId, ConnectError, ConnectOptions, Hangup, RECEIVE_LIMIT_DEFAULT, TxBuf};

/// How a link ended that its handler did not close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEnd {
    /// It never stood: the dial could not begin.
    Impossible(ConnectError),
    /// It never stood: refused, or no answer in time; the operating system's error number.
    Unreachable(i32),
    /// The other side ended it in good order.
    Eof,
    /// It broke; the operating system's error number.
    Broken(i32),
    /// A piece of what it sent is longer than may be held, and its handler takes none of it.
    Overlong,
}

/// How far it has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The executor has not dialled yet.
    Wanted,
    /// It has.
    Connecting(ConnId),
    /// It stands.
    Up(ConnId),
}

/// One link. Its handler is lent it with every call, and whoever knows its key can look it up.
#[derive(Debug)]
pub struct Link {
    to: Address,
    options: ConnectOptions,
    state: State,
    /// What was sent and not yet handed to the transport.
    out: Option<TxBuf>,
    /// What the transport has not sent yet, in bytes, and what it holds for the link in all; as of its last look.
    unsent_len: usize,
    memory: usize,
    receive_limit: usize,
    receive_limit_is_new: bool,
    /// Nothing is to be received until [`Link::go_on`].
    held: bool,
    /// What is there is to be received once more.
    again: bool,
    /// The other side is gone; what it sent before that is still to be taken.
    over: Option<LinkEnd>,
    closing: Option<Close>,
    deadline_ms: Option<i64>,
}

impl Link {
    pub(super) fn new(to: Address, options: ConnectOptions) -> Self {
        Link {
            to,
            options,
            state: State::Wanted,
            out: None,
            unsent_len: 0,
            memory: 0,
            receive_limit: RECEIVE_LIMIT_DEFAULT,
            receive_limit_is_new: false,
            held: false,
            again: false,
            over: None,
            closing: None,
            deadline_ms: None,
        }
    }

    /// Where it leads.
    #[must_use]
    pub fn to(&self) -> &Address {
        &self.to
    }

    /// How it is dialled.
    #[must_use]
    pub fn options(&self) -> &ConnectOptions {
        &self.options
    }

    /// Whether it stands.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Sends bytes; before it stands they wait. They leave with the end of the turn.
    pub fn send(&mut self, bytes: &[u8]) {
        self.output().extend_from_slice(bytes);
    }

    /// The buffer that leaves with the end of the turn, to write into.
    pub fn output(&mut self) -> &mut TxBuf {
        self.out.get_or_insert_with(|| TxBuf::with_capacity(0))
    }

    /// Bytes that were sent and have not left. Who has much to send looks at it and waits for
    /// `drained` of its handler.
    #[must_use]
    pub fn owed_len(&self) -> usize {
        self.out.as_ref().map_or(0, TxBuf::len) + self.unsent_len
    }

    /// Memory held for it in bytes, received and owed, as of the executor's last look.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.out.as_ref().map_or(0, TxBuf::memory) + self.memory
    }

    /// How many received bytes may wait unconsumed before the transport stops reading: the longest piece that
    /// the handler can ask to see whole.
    pub fn set_receive_limit(&mut self, bytes: usize) {
        self.receive_limit = bytes.max(1);
        self.receive_limit_is_new = true;
    }

    /// That limit in bytes.
    #[must_use]
    pub fn receive_limit(&self) -> usize {
        self.receive_limit
    }

    /// Receives nothing more until [`Link::go_on`]: what comes meanwhile piles up to the limit, and then with
    /// the other side.
    pub fn hold(&mut self) {
        self.held = true;
        self.again = false;
    }

    /// Receives what is there once more, in the next turn: after [`Link::hold`], or because there was more than
    /// should be taken at a time.
    pub fn go_on(&mut self) {
        self.held = false;
        self.again = true;
    }

    /// Has the handler told when it is that time, in milliseconds since 1970; `None` for never.
    pub fn set_deadline_ms(&mut self, at_ms: Option<i64>) {
        self.deadline_ms = at_ms;
    }

    pub(super) fn deadline_ms(&self) -> Option<i64> {
        self.deadline_ms
    }

    /// Ends it, and its handler hears no more of it.
    pub fn close(&mut self, how: Close) {
        self.closing = Some(how);
    }

    /// Whether it is to end, and how.
    #[must_use]
    pub fn closing(&self) -> Option<Close> {
        self.closing
    }

    /// Whether the executor has something to do for it.
    pub(super) fn wants_work(&self) -> bool {
        self.closing.is_some()
            || self.again
            || self.receive_limit_is_new
            || (self.conn().is_some() && self.out.as_ref().is_some_and(|out| !out.is_empty()))
    }

    /// Its connection, once it was dialled.
    #[must_use]
    pub fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Wanted => None,
            State::Connecting(conn) | State::Up(conn) => Some(conn),
        }
    }

    /// The executor has dialled.
    pub fn dialled(&mut self, conn: ConnId) {
        self.state = State::Connecting(conn);
    }

    /// It stands.
    pub fn stands(&mut self) {
        if let State::Connecting(conn) = self.state {
            self.state = State::Up(conn);
        }
    }

    /// The connection is gone.
    pub fn hang_up(&mut self, why: Hangup) {
        self.over.get_or_insert(match why {
            Hangup::Error(errno) if !matches!(self.state, State::Up(_)) => LinkEnd::Unreachable(errno),
            Hangup::Error(errno) => LinkEnd::Broken(errno),
            Hangup::Eof => LinkEnd::Eof,
        });
    }

    /// How it is over, once all that came was taken as far as it will be.
    #[must_use]
    pub fn over(&self) -> Option<LinkEnd> {
        self.over.filter(|_| !self.held && !self.again)
    }

    /// Whether what is there is to be received now.
    #[must_use]
    pub fn receives(&self) -> bool {
        !self.held && self.closing.is_none() && self.is_up()
    }

    /// The executor takes up what [`Link::go_on`] asked for; true if it did.
    pub fn take_again(&mut self) -> bool {
        std::mem::take(&mut self.again)
    }

    /// Whether it is to be received from again, or only on [`Link::go_on`].
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.held || self.again
    }

    /// The limit, if it is not known to the transport.
    pub fn take_receive_limit(&mut self) -> Option<usize> {
        std::mem::take(&mut self.receive_limit_is_new).then_some(self.receive_limit)
    }

    /// What is to be handed to the transport.
    pub fn take_output(&mut self) -> Option<TxBuf> {
        self.out.take_if(|out| !out.is_empty())
    }

    /// What the transport holds for it: bytes not sent, and memory in all.
    pub fn note_held(&mut self, unsent_len: usize, memory: usize) {
        self.unsent_len = unsent_len;
        self.memory = memory;
    }
}
