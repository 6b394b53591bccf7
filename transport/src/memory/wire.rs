//! What lies between the two ends of a connection in memory, whoever they are, and the far end as tests play it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::ECONNREFUSED;
use crate::ListenerId;

/// Bytes on their way to an end at most, unless it sets its own window; beyond it a write takes less than it is
/// given.
const WINDOW_DEFAULT_BYTES: usize = 256 * 1024;

/// The two ends of a wire: whose listener it came to, and who dialled.
pub(super) const ACCEPTOR: usize = 0;
pub(super) const DIALLER: usize = 1;

/// What one end of a connection is to the other.
pub(super) struct End {
    /// Bytes on their way to it.
    pub(super) inbound: VecDeque<u8>,
    /// How many of them there may be.
    pub(super) window: usize,
    /// It writes no more.
    pub(super) ended: bool,
    /// It reads no more either.
    pub(super) gone: bool,
}

/// What lies between the two ends of one connection.
pub(super) struct Wire {
    pub(super) number: u64,
    pub(super) ends: [End; 2],
    /// Whoever listens has taken it.
    pub(super) accepted: bool,
    pub(super) error: Option<i32>,
}

impl Wire {
    pub(super) fn new(number: u64) -> SharedWire {
        let end = || End { inbound: VecDeque::new(), window: WINDOW_DEFAULT_BYTES, ended: false, gone: false };
        Rc::new(RefCell::new(Wire { number, ends: [end(), end()], accepted: false, error: None }))
    }
}

pub(super) type SharedWire = Rc<RefCell<Wire>>;

/// Connections dialled and not yet taken.
#[derive(Default)]
pub(super) struct Dialled {
    pub(super) waiting: VecDeque<(ListenerId, SharedWire)>,
    dialled_ever: u64,
}

/// A listener, mostly one of a [`MemoryTransport`]; clones are the same one. One that was made by itself has
/// nobody who takes its connections but [`MemoryNet::accept`].
#[derive(Clone, Default)]
pub struct MemoryNet {
    pub(super) dialled: Rc<RefCell<Dialled>>,
    pub(super) listener: ListenerId,
}

/// Moves bytes from the front of a queue, slice by slice: byte by byte it would be most of what a command
/// costs where instructions are counted.
pub(super) fn take_front(queue: &mut VecDeque<u8>, len: usize, into: &mut Vec<u8>) {
    let (first, second) = queue.as_slices();
    let from_first = len.min(first.len());
    into.extend_from_slice(&first[..from_first]);
    into.extend_from_slice(&second[..len - from_first]);
    queue.drain(..len);
}

impl MemoryNet {
    /// Connects; the transport sees it with its next poll.
    #[must_use]
    pub fn connect(&self) -> MemoryPeer {
        MemoryPeer { wire: self.dial(), side: DIALLER }
    }

    pub(super) fn dial(&self) -> SharedWire {
        let mut dialled = self.dialled.borrow_mut();
        dialled.dialled_ever += 1;
        let wire = Wire::new(dialled.dialled_ever);
        dialled.waiting.push_back((self.listener, wire.clone()));
        wire
    }

    /// Takes the oldest connection that was dialled and that no transport has taken.
    #[must_use]
    pub fn accept(&self) -> Option<MemoryPeer> {
        let (_, wire) = self.dialled.borrow_mut().waiting.pop_front()?;
        wire.borrow_mut().accepted = true;
        Some(MemoryPeer { wire, side: ACCEPTOR })
    }

    /// Refuses the oldest connection that was dialled and that no transport has taken; false if there is none.
    pub fn refuse(&self) -> bool {
        let Some((_, wire)) = self.dialled.borrow_mut().waiting.pop_front() else { return false };
        wire.borrow_mut().error = Some(ECONNREFUSED);
        true
    }
}

/// The far end of one connection. Dropping it leaves the connection open and silent.
pub struct MemoryPeer {
    wire: SharedWire,
    side: usize,
}

impl MemoryPeer {
    /// Sends bytes; returns how many were taken, which is fewer when too many are under way.
    pub fn write(&self, bytes: &[u8]) -> usize {
        let mut wire = self.wire.borrow_mut();
        if wire.ends[self.side].ended || wire.ends[1 - self.side].gone || wire.error.is_some() {
            return 0;
        }
        let far = &mut wire.ends[1 - self.side];
        let len = bytes.len().min(far.window.saturating_sub(far.inbound.len()));
        far.inbound.extend(&bytes[..len]);
        len
    }

    /// Takes everything that has arrived.
    #[must_use]
    pub fn read_available(&self) -> Vec<u8> {
        let inbound = &mut self.wire.borrow_mut().ends[self.side].inbound;
        let len = inbound.len();
        let mut taken = Vec::with_capacity(len);
        take_front(inbound, len, &mut taken);
        taken
    }

    /// Ends this side's half: the other reads the end of the stream after what was written.
    pub fn close(&self) {
        self.wire.borrow_mut().ends[self.side].ended = true;
    }

    /// Lets at most this many bytes wait unread here, for back-pressure; 0 takes nothing at all.
    pub fn set_window(&self, bytes: usize) {
        self.wire.borrow_mut().ends[self.side].window = bytes;
    }

    /// Breaks the connection with an error number; what is under way is lost.
    pub fn fail(&self, errno: i32) {
        let mut wire = self.wire.borrow_mut();
        wire.error = Some(errno);
        for end in &mut wire.ends {
            end.inbound.clear();
        }
    }

    /// Whether the other side has ended the connection. Bytes may still be there to read.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        let wire = self.wire.borrow();
        wire.ends[1 - self.side].ended || wire.error.is_some()
    }
}
