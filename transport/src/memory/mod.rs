//! A transport without a network, for deterministic tests of what is above the seam: the other end
//! of each connection is a [`MemoryPeer`], or another such transport, in the same thread. Nothing moves
//! except in `poll` and `flush`, and nothing depends on time.

mod wire;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::{
    Address, Close, ConnId, ConnectError, ConnectOptions, Event, Hangup, ListenerId, Peer, RECEIVE_LIMIT_DEFAULT,
    Stats, Transport, TxBuf, Wake,
};
use wire::{ACCEPTOR, DIALLER, SharedWire, Wire, take_front};
pub use wire::{MemoryNet, MemoryPeer};

/// Bytes one poll delivers to one connection at most.
const RECEIVE_MAX_BYTES: usize = 16 * 1024;
/// Polls a draining connection lives at most, and a dial that nobody takes.
const PATIENCE_POLLS_MAX: u32 = 100_000;
/// Linux's numbers for the two ways a dial fails here.
const ECONNREFUSED: i32 = 111;
const ETIMEDOUT: i32 = 110;

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
    side: usize,
    /// Polls left until the other end must have taken it.
    connecting: Option<u32>,
    listener: Option<ListenerId>,
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
        if !wire.accepted {
            return 0;
        }
        let far = &mut wire.ends[1 - self.side];
        let mut moved = 0;
        while let Some(front) = self.outbox.front() {
            let mut skip = self.offset;
            for part in front.parts() {
                let bytes = part.as_slice();
                if skip >= bytes.len() {
                    skip -= bytes.len();
                    continue;
                }
                // Whoever is gone takes everything and reads nothing.
                let room = if far.gone { usize::MAX } else { far.window.saturating_sub(far.inbound.len()) };
                let take = room.min(bytes.len() - skip);
                if !far.gone {
                    far.inbound.extend(&bytes[skip..skip + take]);
                }
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
    /// Its first listener; the others share what is dialled with it.
    net: MemoryNet,
    listeners: u32,
    routes: HashMap<u64, MemoryNet>,
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

    /// Another listener, and what dials it.
    pub fn listen(&mut self) -> (ListenerId, MemoryNet) {
        self.listeners += 1;
        let listener = ListenerId(self.listeners);
        (listener, MemoryNet { dialled: self.net.dialled.clone(), listener })
    }

    /// Says who listens at an [`Address::Memory`]. Where nobody does, a dial is refused.
    pub fn set_route(&mut self, address: u64, to: &MemoryNet) {
        self.routes.insert(address, to.clone());
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

    fn accept(&mut self, listener: ListenerId, wire: SharedWire) -> ConnId {
        wire.borrow_mut().accepted = true;
        self.stats.accepted += 1;
        let peer = Peer::Memory(wire.borrow().number);
        self.insert(wire, ACCEPTOR, Some(listener), peer)
    }

    fn insert(&mut self, wire: SharedWire, side: usize, listener: Option<ListenerId>, peer: Peer) -> ConnId {
        let conn = Conn {
            wire,
            side,
            connecting: (side == DIALLER).then_some(PATIENCE_POLLS_MAX),
            listener,
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
            let [near, far] = [&wire.ends[conn.side], &wire.ends[1 - conn.side]];
            let decided = !conn.hung && conn.connecting.is_some() && (wire.accepted || wire.error.is_some());
            let readable = !near.inbound.is_empty() && conn.unconsumed() < conn.receive_limit;
            let ended = !conn.hung && near.inbound.is_empty() && (far.ended || wire.error.is_some());
            let sendable = conn.unsent > 0 && wire.accepted && (far.gone || far.inbound.len() < far.window);
            decided || readable || ended || sendable || conn.draining.is_some()
        })
    }

    /// What has become of a dial, if anything; it is over or stands then.
    fn settle_dial(conn: &mut Conn, id: ConnId, stats: &mut Stats) -> Option<Event> {
        let left = conn.connecting?;
        let (accepted, error) = {
            let wire = conn.wire.borrow();
            (wire.accepted, wire.error)
        };
        let errno = match error {
            // Taken and broken since: it stood for a moment.
            Some(errno) if !accepted => errno,
            _ if accepted => {
                conn.connecting = None;
                stats.connected += 1;
                return Some(Event::Connected(id));
            }
            _ if left == 0 => ETIMEDOUT,
            _ => {
                conn.connecting = Some(left - 1);
                return None;
            }
        };
        conn.wire.borrow_mut().error = Some(errno);
        conn.hung = true;
        conn.outbox.clear();
        conn.offset = 0;
        conn.unsent = 0;
        Some(Event::Hangup(id, Hangup::Error(errno)))
    }

    /// Moves a draining connection along; true when it is over.
    fn drain(conn: &mut Conn, pool: &mut Vec<TxBuf>) -> bool {
        conn.pump(pool);
        let left = conn.draining.unwrap_or(0);
        conn.draining = Some(left.saturating_sub(1));
        let mut wire = conn.wire.borrow_mut();
        let error = wire.error.is_some();
        let near = &mut wire.ends[conn.side];
        near.inbound.clear();
        let over = conn.unsent == 0 || left == 0 || error;
        near.ended |= over;
        near.gone |= over;
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
            let Some((listener, wire)) = self.net.dialled.borrow_mut().waiting.pop_front() else { break };
            events.push(Event::Accepted(self.accept(listener, wire)));
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
            if conn.connecting.is_some() {
                let settled = Self::settle_dial(conn, id, &mut self.stats);
                events.extend(settled);
                if conn.connecting.is_some() {
                    continue;
                }
            }
            if conn.consumed > 0 {
                conn.received.drain(..conn.consumed);
                conn.consumed = 0;
            }
            let room = conn.receive_limit.saturating_sub(conn.received.len()).min(RECEIVE_MAX_BYTES);
            let mut wire = conn.wire.borrow_mut();
            let error = wire.error;
            let far_ended = wire.ends[1 - conn.side].ended;
            let inbound = &mut wire.ends[conn.side].inbound;
            let len = inbound.len().min(room);
            if len > 0 {
                take_front(inbound, len, &mut conn.received);
                self.stats.receives += 1;
                self.stats.received_bytes += len as u64;
                events.push(Event::Readable(id));
            }
            if inbound.is_empty() && (far_ended || error.is_some()) {
                conn.hung = true;
                let why = error.map_or(Hangup::Eof, Hangup::Error);
                events.push(Event::Hangup(id, why));
                if error.is_some() {
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

    fn connect(&mut self, to: &Address, _options: &ConnectOptions) -> Result<ConnId, ConnectError> {
        let Address::Memory(number) = to else { return Err(ConnectError::Unsupported) };
        let wire = match self.routes.get(number) {
            Some(net) => net.dial(),
            None => {
                let wire = Wire::new(0);
                wire.borrow_mut().error = Some(ECONNREFUSED);
                wire
            }
        };
        Ok(self.insert(wire, DIALLER, None, Peer::Memory(*number)))
    }

    fn listener(&self, conn: ConnId) -> Option<ListenerId> {
        self.find(conn)?.listener
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
        conn.draining = Some(PATIENCE_POLLS_MAX);
        conn.received = Vec::new();
        conn.consumed = 0;
        let slot = &mut self.slots[id.index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        if over && let Some(conn) = slot.conn.take() {
            let near = &mut conn.wire.borrow_mut().ends[conn.side];
            near.ended = true;
            near.gone = true;
            // A long queue for nobody.
            near.inbound = VecDeque::new();
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
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::conformance::{Dial, Dialler, Rig, Seen};

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

    impl Dialler for MemoryRig {
        fn listeners(&mut self) -> [(Address, ListenerId); 2] {
            let first = self.transport.net();
            let (listener, second) = self.transport.listen();
            self.transport.set_route(0, &first);
            self.transport.set_route(1, &second);
            [(Address::Memory(0), ListenerId(0)), (Address::Memory(1), listener)]
        }

        fn nobody(&mut self) -> Address {
            Address::Memory(404)
        }

        fn foreign(&self) -> Address {
            Address::Unix("/dev/null".into())
        }
    }

    crate::conformance_suite!(memory, MemoryRig::new());
    crate::conformance_dials!(memory_dials, MemoryRig::new());

    /// The same from the other end: the transport dials, the clients are those who listen.
    struct DialledRig {
        transport: MemoryTransport,
        far: MemoryNet,
    }

    impl DialledRig {
        fn new() -> Self {
            let (mut transport, far) = (MemoryTransport::new(), MemoryNet::default());
            transport.set_route(0, &far);
            DialledRig { transport, far }
        }
    }

    impl Rig for DialledRig {
        type Transport = MemoryTransport;
        type Client = MemoryPeer;

        fn transport(&mut self) -> &mut MemoryTransport {
            &mut self.transport
        }

        fn dial(&mut self) -> MemoryPeer {
            self.transport.connect(&Address::Memory(0), &ConnectOptions::default()).unwrap();
            self.far.accept().unwrap()
        }

        fn overshoot_bytes(&self) -> usize {
            0
        }
    }

    crate::conformance_suite!(memory_dialled, DialledRig::new());

    #[test]
    fn a_dial_that_nobody_takes_is_given_up() {
        let (mut transport, far) = (MemoryTransport::new(), MemoryNet::default());
        transport.set_route(7, &far);
        let conn = transport.connect(&Address::Memory(7), &ConnectOptions::default()).unwrap();
        let mut events = Vec::new();
        for _ in 0..PATIENCE_POLLS_MAX {
            transport.poll(&mut events);
        }
        assert_eq!(events, []);
        transport.poll(&mut events);
        assert_eq!(events, [Event::Hangup(conn, Hangup::Error(ETIMEDOUT))]);
        transport.poll(&mut events);
        assert_eq!(events.len(), 1);
        assert!(far.refuse() && !far.refuse());
    }

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
