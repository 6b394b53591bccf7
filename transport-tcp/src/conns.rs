//! The connection table: slots with generations, and what is known of each connection. A slot is
//! used again only when the kernel has finished everything it was asked to do for it.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

use socket2::SockAddr;
use tercel_transport::{Address, ConnId, ListenerId, Peer};

use crate::inbox::Inbox;
use crate::outbox::Outbox;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The slot is on the free list.
    Free,
    /// The executor knows it.
    Live,
    /// Closed by the executor; what was queued is still leaving.
    Draining,
    /// Over; waiting for the kernel to let go of its operations.
    Dying,
}

/// How bytes are received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Watched by epoll and read by a direct call.
    Direct,
    /// A multishot receive of the ring.
    Ring,
}

/// A dial that is not decided.
pub(crate) struct Dialling {
    pub(crate) addr: SockAddr,
    pub(crate) to: Address,
    /// When it is given up.
    pub(crate) deadline: Instant,
    /// When it is tried again, if the kernel would not take it on.
    pub(crate) again_at: Option<Instant>,
}

/// One connection.
pub(crate) struct Conn {
    pub(crate) generation: u32,
    pub(crate) state: State,
    pub(crate) mode: Mode,
    /// What epoll watches it for; 0 when it is not in the set.
    pub(crate) interest: u32,
    /// Operations the kernel has not finished.
    pub(crate) inflight: u32,
    /// Receive window statistics: the last window in which it received.
    pub(crate) window: u32,
    /// The poll that last reported `Readable` for it.
    pub(crate) reported: u64,
    /// Back-pressure: too much is unconsumed, nothing is read.
    pub(crate) paused: bool,
    /// The stream ended or broke: nothing will be read any more.
    pub(crate) receive_over: bool,
    /// Nothing can be sent any more; what is queued or handed over is dropped.
    pub(crate) broken: bool,
    /// `Hangup` has been reported.
    pub(crate) hung: bool,
    /// A receive operation is with the kernel.
    pub(crate) receive_armed: bool,
    /// That operation has been asked to end.
    pub(crate) receive_cancelled: bool,
    /// A send operation is with the kernel.
    pub(crate) send_armed: bool,
    /// A flush could not send everything; `Drained` is owed.
    pub(crate) blocked: bool,
    /// On the list of connections to start sending for.
    pub(crate) dirty: bool,
    /// Our half was shut; waiting for the peer's end of stream.
    pub(crate) half_closed: bool,
    /// The kernel copied a send that asked for no copy: do not ask again.
    pub(crate) copies_anyway: bool,
    /// It floods: read directly until it calms down, with this many calm receives to go.
    pub(crate) flood: u8,
    /// Place on the event loop's list of directly read connections; `u32::MAX` when it is not there.
    pub(crate) direct_at: u32,
    /// It does not stand yet: nothing is read, and what is sent stays queued.
    pub(crate) dial: Option<Box<Dialling>>,
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) peer: Peer,
    /// The listener it came in by; `None` if we dialled.
    pub(crate) listener: Option<ListenerId>,
    pub(crate) inbox: Inbox,
    /// Unconsumed bytes at which reading pauses; while draining, bytes still to be thrown away.
    pub(crate) receive_limit: usize,
    pub(crate) outbox: Outbox,
}

impl Conn {
    fn vacant() -> Self {
        Conn {
            generation: 0,
            state: State::Free,
            mode: Mode::Direct,
            interest: 0,
            inflight: 0,
            window: 0,
            reported: 0,
            paused: false,
            receive_over: false,
            broken: false,
            hung: false,
            receive_armed: false,
            receive_cancelled: false,
            send_armed: false,
            blocked: false,
            dirty: false,
            half_closed: false,
            copies_anyway: false,
            flood: 0,
            direct_at: u32::MAX,
            dial: None,
            fd: None,
            peer: Peer::Memory(0),
            listener: None,
            inbox: Inbox::default(),
            receive_limit: 0,
            outbox: Outbox::default(),
        }
    }

    /// The descriptor's number; -1, which the kernel refuses, once it is closed.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.fd.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

/// All slots.
#[derive(Default)]
pub(crate) struct Conns {
    slots: Vec<Conn>,
    free: Vec<u32>,
    /// Connections in state `Live`.
    pub(crate) live: usize,
    /// Connections in state `Draining` or `Dying`.
    pub(crate) closing: usize,
}

impl Conns {
    pub(crate) fn with_capacity(hint: usize) -> Self {
        Conns { slots: Vec::with_capacity(hint.min(1 << 16)), ..Conns::default() }
    }

    /// Puts a new connection into a free slot.
    pub(crate) fn insert(
        &mut self,
        fd: OwnedFd,
        peer: Peer,
        listener: Option<ListenerId>,
        receive_limit: usize,
    ) -> ConnId {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Conn::vacant());
                (self.slots.len() - 1) as u32
            }
        };
        let conn = &mut self.slots[index as usize];
        let generation = conn.generation;
        *conn = Conn { generation, state: State::Live, fd: Some(fd), peer, listener, receive_limit, ..Conn::vacant() };
        self.live += 1;
        ConnId { index, generation }
    }

    /// The slot of a live connection, if `id` still means it.
    pub(crate) fn find(&self, id: ConnId) -> Option<&Conn> {
        self.slots.get(id.index as usize).filter(|conn| conn.generation == id.generation && conn.state == State::Live)
    }

    /// As [`Conns::find`].
    pub(crate) fn find_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.slots
            .get_mut(id.index as usize)
            .filter(|conn| conn.generation == id.generation && conn.state == State::Live)
    }

    /// The slot at `index`, whatever its state.
    pub(crate) fn slot(&mut self, index: u32) -> Option<&mut Conn> {
        self.slots.get_mut(index as usize)
    }

    /// The identity of the connection now in a slot.
    pub(crate) fn id(&self, index: u32) -> ConnId {
        let generation = self.slots.get(index as usize).map_or(0, |conn| conn.generation);
        ConnId { index, generation }
    }

    /// Ends the identity of a live connection; the slot stays taken.
    pub(crate) fn retire(&mut self, index: u32, state: State) {
        if let Some(conn) = self.slots.get_mut(index as usize)
            && conn.state == State::Live
        {
            conn.generation = conn.generation.wrapping_add(1);
            conn.state = state;
            self.live -= 1;
            self.closing += 1;
        }
    }

    /// Puts a retired slot on the free list. Only when nothing is in flight for it.
    pub(crate) fn vacate(&mut self, index: u32) {
        if let Some(conn) = self.slots.get_mut(index as usize)
            && matches!(conn.state, State::Draining | State::Dying)
        {
            assert_eq!(conn.inflight, 0, "the kernel still works for this slot");
            *conn = Conn { generation: conn.generation, ..Conn::vacant() };
            self.free.push(index);
            self.closing -= 1;
        }
    }
}
