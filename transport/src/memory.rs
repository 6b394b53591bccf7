//! A transport without a network, for deterministic tests of what is above the seam: the other end
//! of each connection is a [`MemoryPeer`] in the same thread. Nothing moves except in `poll` and
//! `flush`, and nothing depends on time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::{Close, ConnId, Event, Hangup, Peer, RECEIVE_LIMIT_DEFAULT, Stats, Transport, TxBuf, Wake};

/// Bytes one poll delivers to one connection at most.
const RECEIVE_MAX_BYTES: usize = 16 * 1024;
/// Bytes on their way from a peer at most; beyond it the peer's write takes less than it is given.
const INBOUND_MAX_BYTES: usize = 256 * 1024;
/// Bytes on their way to a peer at most, unless it sets its own window.
const WINDOW_DEFAULT_BYTES: usize = 256 * 1024;
/// Polls a draining connection lives at most.
const DRAIN_POLLS_MAX: u32 = 100_000;

/// What lies between the two ends of one connection.
struct Wire {
    number: u64,
    to_server: VecDeque<u8>,
    to_peer: VecDeque<u8>,
    window: usize,
    peer_ended: bool,
    server_ended: bool,
    error: Option<i32>,
}

impl Wire {
    fn new(number: u64) -> Self {
        Wire {
            number,
            to_server: VecDeque::new(),
            to_peer: VecDeque::new(),
            window: WINDOW_DEFAULT_BYTES,
            peer_ended: false,
            server_ended: false,
            error: None,
        }
    }
}

type SharedWire = Rc<RefCell<Wire>>;

/// Connections dialled and not yet seen by a poll.
#[derive(Default)]
struct Dialled {
    waiting: VecDeque<SharedWire>,
    dialled_ever: u64,
}

/// Dials a [`MemoryTransport`]. Clones dial the same one.
#[derive(Clone, Default)]
pub struct MemoryNet {
    dialled: Rc<RefCell<Dialled>>,
}

/// Moves bytes from the front of a queue, slice by slice: byte by byte it would be most of what a command
/// costs where instructions are counted.
fn take_front(queue: &mut VecDeque<u8>, len: usize, into: &mut Vec<u8>) {
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
        let mut dialled = self.dialled.borrow_mut();
        dialled.dialled_ever += 1;
        let wire = Rc::new(RefCell::new(Wire::new(dialled.dialled_ever)));
        dialled.waiting.push_back(wire.clone());
        MemoryPeer { wire }
    }
}

/// The far end of one connection. Dropping it leaves the connection open and silent.
pub struct MemoryPeer {
    wire: SharedWire,
}

impl MemoryPeer {
    /// Sends bytes; returns how many were taken, which is fewer when too many are under way.
    pub fn write(&self, bytes: &[u8]) -> usize {
        let mut wire = self.wire.borrow_mut();
        if wire.peer_ended || wire.server_ended || wire.error.is_some() {
            return 0;
        }
        let len = bytes.len().min(INBOUND_MAX_BYTES.saturating_sub(wire.to_server.len()));
        wire.to_server.extend(&bytes[..len]);
        len
    }

    /// Takes everything that has arrived.
    #[must_use]
    pub fn read_available(&self) -> Vec<u8> {
        let mut wire = self.wire.borrow_mut();
        let mut taken = Vec::with_capacity(wire.to_peer.len());
        let len = wire.to_peer.len();
        take_front(&mut wire.to_peer, len, &mut taken);
        taken
    }

    /// Ends this side's half: the server reads the end of the stream after what was written.
    pub fn close(&self) {
        self.wire.borrow_mut().peer_ended = true;
    }

    /// Lets at most this many bytes wait unread here, for back-pressure; 0 takes nothing at all.
    pub fn set_window(&self, bytes: usize) {
        self.wire.borrow_mut().window = bytes;
    }

    /// Breaks the connection with an error number; what is under way is lost.
    pub fn fail(&self, errno: i32) {
        let mut wire = self.wire.borrow_mut();
        wire.error = Some(errno);
        wire.to_server.clear();
        wire.to_peer.clear();
    }

    /// Whether the server has ended the connection. Bytes may still be there to read.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        let wire = self.wire.borrow();
        wire.server_ended || wire.error.is_some()
    }
}

/// The waker's shared half.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Bell {
    fn wake(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

struct Conn {
    wire: SharedWire,
    peer: Peer,
    received: Vec<u8>,
    consumed: usize,
    receive_limit: usize,
    outbox: VecDeque<TxBuf>,
    /// Bytes of the first buffer that have left.
    offset: usize,
    unsent: usize,
    hung: bool,
    blocked: bool,
    /// Closed by the executor; polls left to drain.
    draining: Option<u32>,
}

impl Conn {
    fn unconsumed(&self) -> usize {
        self.received.len() - self.consumed
    }

    /// Moves queued bytes onto the wire, as many as the window takes; returns how many.
    fn pump(&mut self, pool: &mut Vec<TxBuf>) -> usize {
        let mut wire = self.wire.borrow_mut();
        let mut moved = 0;
        while let Some(front) = self.outbox.front() {
            let mut skip = self.offset;
            for part in front.parts() {
                let bytes = part.as_slice();
                if skip >= bytes.len() {
                    skip -= bytes.len();
                    continue;
                }
                let room = wire.window.saturating_sub(wire.to_peer.len());
                let take = room.min(bytes.len() - skip);
                wire.to_peer.extend(&bytes[skip..skip + take]);
                self.offset += take;
                moved += take;
                skip = 0;
                if take == room {
                    break;
                }
            }
            if self.offset < front.len() {
                break;
            }
            self.offset = 0;
            if let Some(mut done) = self.outbox.pop_front() {
                done.clear();
                pool.push(done);
            }
        }
        self.unsent -= moved;
        moved
    }
}

struct Slot {
    generation: u32,
    conn: Option<Conn>,
}

/// The transport itself.
#[derive(Default)]
pub struct MemoryTransport {
    net: MemoryNet,
    slots: Vec<Slot>,
    free: Vec<u32>,
    pool: Vec<TxBuf>,
    bell: Arc<Bell>,
    stats: Stats,
}

impl MemoryTransport {
    /// A transport nobody has dialled yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What dials it.
    #[must_use]
    pub fn net(&self) -> MemoryNet {
        self.net.clone()
    }

    fn find(&self, id: ConnId) -> Option<&Conn> {
        self.slots
            .get(id.index as usize)
            .filter(|slot| slot.generation == id.generation)
            .and_then(|slot| slot.conn.as_ref())
            .filter(|conn| conn.draining.is_none())
    }

    fn find_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.slots
            .get_mut(id.index as usize)
            .filter(|slot| slot.generation == id.generation)
            .and_then(|slot| slot.conn.as_mut())
            .filter(|conn| conn.draining.is_none())
    }

    fn accept(&mut self, wire: SharedWire) -> ConnId {
        let peer = Peer::Memory(wire.borrow().number);
        let conn = Conn {
            wire,
            peer,
            received: Vec::new(),
            consumed: 0,
            receive_limit: RECEIVE_LIMIT_DEFAULT,
            outbox: VecDeque::new(),
            offset: 0,
            unsent: 0,
            hung: false,
            blocked: false,
            draining: None,
        };
        self.stats.accepted += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, conn: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.conn = Some(conn);
        ConnId { index, generation: slot.generation }
    }

    /// Whether a poll would report something.
    fn is_ready(&self) -> bool {
        if !self.net.dialled.borrow().waiting.is_empty() {
            return true;
        }
        self.slots.iter().filter_map(|slot| slot.conn.as_ref()).any(|conn| {
            let wire = conn.wire.borrow();
            let readable = !wire.to_server.is_empty() && conn.unconsumed() < conn.receive_limit;
            let ended = !conn.hung && wire.to_server.is_empty() && (wire.peer_ended || wire.error.is_some());
            let sendable = conn.unsent > 0 && wire.to_peer.len() < wire.window;
            readable || ended || sendable || conn.draining.is_some()
        })
    }

    /// Moves a draining connection along; true when it is over.
    fn drain(conn: &mut Conn, pool: &mut Vec<TxBuf>) -> bool {
        conn.pump(pool);
        let left = conn.draining.unwrap_or(0);
        conn.draining = Some(left.saturating_sub(1));
        let mut wire = conn.wire.borrow_mut();
        wire.to_server.clear();
        let over = conn.unsent == 0 || left == 0 || wire.error.is_some();
        wire.server_ended |= over;
        over
    }
}

impl Transport for MemoryTransport {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn poll(&mut self, events: &mut Vec<Event>) {
        if std::mem::take(&mut *self.bell.rung.lock().unwrap_or_else(PoisonError::into_inner)) {
            events.push(Event::Wake);
        }
        loop {
            let Some(wire) = self.net.dialled.borrow_mut().waiting.pop_front() else { break };
            events.push(Event::Accepted(self.accept(wire)));
        }
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let id = ConnId { index: index as u32, generation: slot.generation };
            let Some(conn) = &mut slot.conn else { continue };
            if conn.draining.is_some() {
                if Self::drain(conn, &mut self.pool) {
                    slot.conn = None;
                    self.free.push(id.index);
                }
                continue;
            }
            if conn.hung {
                continue;
            }
            if conn.consumed > 0 {
                conn.received.drain(..conn.consumed);
                conn.consumed = 0;
            }
            let room = conn.receive_limit.saturating_sub(conn.received.len()).min(RECEIVE_MAX_BYTES);
            let mut wire = conn.wire.borrow_mut();
            let len = wire.to_server.len().min(room);
            if len > 0 {
                take_front(&mut wire.to_server, len, &mut conn.received);
                self.stats.receives += 1;
                self.stats.received_bytes += len as u64;
                events.push(Event::Readable(id));
            }
            if wire.to_server.is_empty() && (wire.peer_ended || wire.error.is_some()) {
                conn.hung = true;
                let why = wire.error.map_or(Hangup::Eof, Hangup::Error);
                events.push(Event::Hangup(id, why));
                if wire.error.is_some() {
                    conn.outbox.clear();
                    conn.offset = 0;
                    conn.unsent = 0;
                }
            }
            drop(wire);
            self.stats.sent_bytes += conn.pump(&mut self.pool) as u64;
            if conn.blocked && conn.unsent == 0 {
                conn.blocked = false;
                events.push(Event::Drained(id));
            }
        }
    }

    fn park(&mut self, timeout: Option<Duration>) {
        if self.is_ready() {
            return;
        }
        let rung = self.bell.rung.lock().unwrap_or_else(PoisonError::into_inner);
        if *rung {
            return;
        }
        // The peers live in this thread, so only the bell or the time can end the sleep.
        match timeout {
            Some(limit) => drop(self.bell.changed.wait_timeout(rung, limit)),
            None => drop(self.bell.changed.wait(rung)),
        }
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.bell.clone()
    }

    fn peer(&self, conn: ConnId) -> Option<&Peer> {
        self.find(conn).map(|conn| &conn.peer)
    }

    fn received(&self, conn: ConnId) -> &[u8] {
        self.find(conn).map_or(&[], |conn| &conn.received[conn.consumed..])
    }

    fn consume(&mut self, conn: ConnId, len: usize) {
        if let Some(conn) = self.find_mut(conn) {
            conn.consumed += len.min(conn.unconsumed());
            if conn.unconsumed() == 0 {
                // An ordinary buffer is kept, as pooled ones are; one that a flood grew is not.
                if conn.received.capacity() > RECEIVE_MAX_BYTES {
                    conn.received = Vec::new();
                }
                conn.received.clear();
                conn.consumed = 0;
            }
        }
    }

    fn set_receive_limit(&mut self, conn: ConnId, bytes: usize) {
        if let Some(conn) = self.find_mut(conn) {
            conn.receive_limit = bytes.max(1);
        }
    }

    fn lease(&mut self) -> TxBuf {
        self.pool.pop().unwrap_or_else(|| TxBuf::with_capacity(1024))
    }

    fn send(&mut self, conn: ConnId, mut buf: TxBuf) {
        match self.find_mut(conn) {
            Some(conn) if !buf.is_empty() && conn.wire.borrow().error.is_none() => {
                conn.unsent += buf.len();
                if conn.outbox.back_mut().is_some_and(|last| last.absorb(&mut buf)) {
                    self.pool.push(buf);
                } else {
                    conn.outbox.push_back(buf);
                }
            }
            _ => {
                buf.clear();
                self.pool.push(buf);
            }
        }
    }

    fn flush(&mut self) {
        self.stats.kernel_entries += 1;
        for slot in &mut self.slots {
            let Some(conn) = &mut slot.conn else { continue };
            if conn.unsent == 0 {
                // An empty shared piece is nothing to send, but is to be let go of.
                conn.outbox.clear();
                continue;
            }
            let moved = conn.pump(&mut self.pool);
            self.stats.sent_bytes += moved as u64;
            self.stats.sends += u64::from(moved > 0);
            conn.blocked |= conn.unsent > 0;
        }
    }

    fn unsent(&self, conn: ConnId) -> usize {
        self.find(conn).map_or(0, |conn| conn.unsent)
    }

    fn unsent_memory(&self, conn: ConnId) -> usize {
        self.find(conn).map_or(0, |conn| conn.outbox.iter().map(TxBuf::memory).sum())
    }

    fn close(&mut self, id: ConnId, how: Close) {
        let Some(conn) = self.find_mut(id) else { return };
        let over = how == Close::Abort || conn.unsent == 0;
        conn.draining = Some(DRAIN_POLLS_MAX);
        conn.received = Vec::new();
        conn.consumed = 0;
        let slot = &mut self.slots[id.index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        if over && let Some(conn) = slot.conn.take() {
            conn.wire.borrow_mut().server_ended = true;
            self.free.push(id.index);
        }
    }

    fn memory(&self, conn: ConnId) -> usize {
        self.find(conn).map_or(0, |conn| {
            let queued: usize = conn.outbox.iter().map(TxBuf::memory).sum();
            size_of::<Conn>() + conn.received.capacity() + queued
        })
    }

    fn stats(&self) -> Stats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Dial, Rig, Seen};

    struct MemoryRig {
        transport: MemoryTransport,
    }

    impl MemoryRig {
        fn new() -> Self {
            MemoryRig { transport: MemoryTransport::new() }
        }
    }

    impl Rig for MemoryRig {
        type Transport = MemoryTransport;
        type Client = MemoryPeer;

        fn transport(&mut self) -> &mut MemoryTransport {
            &mut self.transport
        }

        fn dial(&mut self) -> MemoryPeer {
            self.transport.net().connect()
        }

        fn overshoot_bytes(&self) -> usize {
            0
        }
    }

    impl Dial for MemoryPeer {
        fn write(&mut self, bytes: &[u8]) -> usize {
            MemoryPeer::write(self, bytes)
        }

        fn read(&mut self, into: &mut Vec<u8>) -> Seen {
            into.extend(self.read_available());
            if self.is_ended() { Seen::End } else { Seen::Open }
        }

        fn end_writing(&mut self) {
            self.close();
        }

        fn reset(self) -> bool {
            self.fail(104);
            true
        }

        fn hang_up(self) {
            self.close();
        }
    }

    crate::conformance_suite!(memory, MemoryRig::new());

    #[test]
    fn a_closed_window_takes_nothing_until_it_opens() {
        let mut transport = MemoryTransport::new();
        let peer = transport.net().connect();
        peer.set_window(3);
        let mut events = Vec::new();
        transport.poll(&mut events);
        let Some(Event::Accepted(conn)) = events.first().cloned() else { panic!("{events:?}") };
        let mut buf = transport.lease();
        buf.extend_from_slice(b"hello");
        transport.send(conn, buf);
        transport.flush();
        assert_eq!(transport.unsent(conn), 2);
        assert_eq!(peer.read_available(), b"hel");
        events.clear();
        transport.poll(&mut events);
        assert_eq!(peer.read_available(), b"lo");
        assert_eq!(events, [Event::Drained(conn)]);
    }
}
