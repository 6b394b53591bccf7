//! Valkey over RDMA: the state machine of both sides, over the verbs seam. An [`Endpoint`] owns a
//! device and the connections on it; what a peer or device supplies ends a connection at worst, with a
//! [`Reason`] and a counter. It knows neither RESP nor commands.

mod conn;
mod options;
mod process;
mod rx;
mod tx;

use std::collections::HashMap;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use tercel_transport::{Close, ConnId, Event, Peer, RECEIVE_LIMIT_DEFAULT, Stats, TxBuf, Wake};

use crate::verbs::{Completion, Device, Listener, Qp, RecvWr, SendWr, VerbsError};
use conn::{Conn, ConnectionMemory, Phase};
pub use options::{Counters, Ended, Options, Reason};

/// Buffers kept for reuse, and the largest of them in bytes.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 64 * 1024;
const LEASE_BYTES: usize = 4096;
/// Room for received bytes that a connection may keep for itself, in bytes: a pipeline of ordinary requests.
const RECEIVED_KEPT_BYTES: usize = 16 * 1024;
/// Ended connections remembered for the log until somebody asks.
const ENDED_MAX: usize = 256;
/// How long a queue pair may take to flush before it is destroyed all the same.
const FLUSH_NS_MAX: u64 = 1_000_000_000;
/// Memory wiped in one poll at most, in bytes: some microseconds' worth.
const WIPE_BYTES: usize = 64 * 1024;
/// Polls between two looks at the clock, which only deadlines and keepalives need.
const CLOCK_EVERY: u32 = 32;

#[inline]
fn give_back(pool: &mut Vec<TxBuf>, mut buf: TxBuf) {
    buf.clear();
    if buf.capacity() > 0 && buf.capacity() <= SPARE_BYTES_MAX && pool.len() < SPARE_MAX {
        pool.push(buf);
    }
}

/// Wakes an endpoint from another thread: a flag that costs a poll one load, and a descriptor that ends
/// a park.
struct Bell {
    rung: AtomicBool,
    fd: EventFd,
}

impl Bell {
    fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    /// Takes the ring back. The flag goes first and the descriptor after it: who rings in between finds
    /// the flag clear and writes again, so that at worst a park ends once for nothing.
    fn answer(&self) -> bool {
        let rung = self.rung.swap(false, Ordering::AcqRel);
        let _ = self.fd.read();
        rung
    }
}

impl Wake for Bell {
    fn wake(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // A counter that is full is as readable as any.
            let _ = self.fd.write(1);
        }
    }
}

/// Nanoseconds since some moment; never goes back.
pub type Clock = Box<dyn FnMut() -> u64 + Send>;

/// Connections over one device.
pub struct Endpoint<D: Device> {
    device: D,
    options: Options,
    conns: Vec<Conn>,
    free: Vec<u32>,
    by_qp: HashMap<Qp, u32>,
    by_address: HashMap<IpAddr, usize>,
    /// Slots taken, whatever their phase.
    taken: usize,
    /// Registered memory that is nobody's, wiped; and some that is being wiped, with how far.
    free_memory: Vec<ConnectionMemory>,
    to_wipe: VecDeque<(ConnectionMemory, usize)>,
    pinned_bytes: usize,
    pool: Vec<TxBuf>,
    spare: Vec<Vec<u8>>,
    /// Connections to look after before the turn ends.
    dirty: Vec<u32>,
    /// Connections whose window became full since the last poll.
    full: Vec<u32>,
    /// News for the owner.
    news: Vec<Event>,
    readable: Vec<u32>,
    hangups: Vec<u32>,
    bell: Arc<Bell>,
    clock: Clock,
    now_ns: u64,
    polls: u32,
    next_due_ns: u64,
    poisoned: bool,
    counters: Counters,
    stats: Stats,
    ended: VecDeque<Ended>,
    sends: Vec<SendWr>,
    recvs: Vec<RecvWr>,
    /// Where completions are taken to; kept, for making it anew would cost more than a poll in vain.
    burst: Box<[Completion]>,
}

impl<D: Device> Endpoint<D> {
    /// An endpoint without connections.
    ///
    /// # Errors
    /// The operating system has no descriptor for the waker, or the options make no sense.
    pub fn new(device: D, options: Options) -> Result<Self, VerbsError> {
        #[allow(clippy::disallowed_methods)] // The one place where an endpoint gets the time from.
        let start = std::time::Instant::now();
        Self::with_clock(device, options, Box::new(move || start.elapsed().as_nanos() as u64))
    }

    /// As [`Endpoint::new`] with a clock of the caller's.
    ///
    /// # Errors
    /// As [`Endpoint::new`].
    pub fn with_clock(device: D, options: Options, mut clock: Clock) -> Result<Self, VerbsError> {
        let sane = options.rx_window_bytes >= 64
            && options.tx_bytes >= 256
            && options.send_depth >= 4
            && (4..=32768).contains(&options.recv_depth);
        if !sane {
            return Err(VerbsError::State);
        }
        let bell = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| VerbsError::Os(errno.to_string()))?;
        let now_ns = clock();
        Ok(Endpoint {
            device,
            options,
            conns: Vec::new(),
            free: Vec::new(),
            by_qp: HashMap::new(),
            by_address: HashMap::new(),
            taken: 0,
            free_memory: Vec::new(),
            to_wipe: VecDeque::new(),
            pinned_bytes: 0,
            pool: Vec::new(),
            spare: Vec::new(),
            dirty: Vec::new(),
            full: Vec::new(),
            news: Vec::new(),
            readable: Vec::new(),
            hangups: Vec::new(),
            bell: Arc::new(Bell { rung: AtomicBool::new(false), fd: bell }),
            clock,
            now_ns,
            polls: 0,
            next_due_ns: u64::MAX,
            poisoned: false,
            counters: Counters::default(),
            stats: Stats::default(),
            ended: VecDeque::new(),
            sends: Vec::new(),
            recvs: Vec::new(),
            burst: vec![Completion::EMPTY; process::BURST].into_boxed_slice(),
        })
    }

    /// Listens; port 0 picks one.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn listen(&mut self, addr: SocketAddr, backlog: u32) -> Result<Listener, VerbsError> {
        self.device.listen(addr, backlog)
    }

    /// Stops listening; connections stay.
    pub fn unlisten(&mut self, listener: Listener) {
        self.device.unlisten(listener);
    }

    /// The bound address of a listener.
    #[must_use]
    pub fn local_addr(&self, listener: Listener) -> Option<SocketAddr> {
        self.device.local_addr(listener)
    }

    /// Starts dialling, for as long as a handshake may take. The connection can be sent to at once; that it
    /// stands is told, and its end as any other's.
    ///
    /// # Errors
    /// The device has no more connections.
    pub fn dial(&mut self, to: SocketAddr) -> Result<ConnId, VerbsError> {
        self.dial_within(to, self.options.handshake_timeout)
    }

    /// As [`Endpoint::dial`], with a time of its own.
    ///
    /// # Errors
    /// As [`Endpoint::dial`].
    pub fn dial_within(&mut self, to: SocketAddr, timeout: Duration) -> Result<ConnId, VerbsError> {
        if self.poisoned {
            return Err(VerbsError::CqOverrun);
        }
        let qp = self.device.resolve(to)?;
        let index = self.vacancy(qp, to, to);
        let conn = &mut self.conns[index as usize];
        conn.phase = Phase::Resolving;
        conn.known = true;
        let id = conn.id(index);
        // A dial begins whenever its owner likes, the last poll may be long ago.
        self.now_ns = (self.clock)();
        self.set_deadline(index, timeout);
        Ok(id)
    }

    /// Whether one more connection is within the limits of options and device.
    pub(crate) fn has_room(&self) -> bool {
        let per_connection = self.options.send_depth + self.options.recv_depth;
        let queue_room =
            u64::from(per_connection) * (self.taken as u64 + 1) <= u64::from(self.device.limits().cq_depth);
        let pinned = if self.free_memory.is_empty() && self.to_wipe.is_empty() {
            self.pinned_bytes + self.connection_memory_bytes()
        } else {
            self.pinned_bytes
        };
        self.taken < self.options.connections_max && pinned <= self.options.pinned_bytes_max && queue_room
    }

    /// The listener a connection came in by.
    #[must_use]
    pub fn listener(&self, conn: ConnId) -> Option<Listener> {
        self.find(conn)?.listener
    }

    /// Whether a connection has got through its handshake and not ended.
    #[must_use]
    pub fn is_live(&self, conn: ConnId) -> bool {
        self.find(conn).is_some_and(|conn| conn.phase == Phase::Live)
    }

    /// Why a connection that hung up did.
    #[must_use]
    pub fn reason(&self, conn: ConnId) -> Option<&Reason> {
        self.find(conn).and_then(|conn| conn.reason.as_ref())
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Connections that ended since the last call, for the log; the oldest are left out if many.
    pub fn take_ended(&mut self) -> impl Iterator<Item = Ended> + '_ {
        self.ended.drain(..)
    }

    /// Registered bytes of all connections and of the pool.
    #[must_use]
    pub fn pinned_bytes(&self) -> usize {
        self.pinned_bytes
    }

    /// Connections in any phase, those on their way out included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.taken
    }

    /// Gives pooled memory back to the device.
    pub fn trim(&mut self) {
        while let Some(memory) = self.free_memory.pop().or_else(|| self.to_wipe.pop_front().map(|(memory, _)| memory)) {
            self.pinned_bytes -= self.connection_memory_bytes();
            memory.free(&mut self.device);
        }
    }

    /// The device, for display and tests.
    pub fn device(&mut self) -> &mut D {
        &mut self.device
    }

    /// The queue pair of a connection.
    #[must_use]
    pub fn queue_pair(&self, conn: ConnId) -> Option<Qp> {
        self.find(conn).map(|conn| conn.qp)
    }

    fn connection_memory_bytes(&self) -> usize {
        ConnectionMemory::bytes(self.options.rx_window_bytes, self.options.tx_bytes, self.options.recv_depth)
    }

    #[inline]
    fn find(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get(id.index as usize).filter(|conn| conn.generation == id.generation && conn.is_open())
    }

    fn find_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.index as usize).filter(|conn| conn.generation == id.generation && conn.is_open())
    }

    /// A slot for a new connection.
    fn vacancy(&mut self, qp: Qp, remote: SocketAddr, local: SocketAddr) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.conns.push(Conn::vacant(0, 0));
            (self.conns.len() - 1) as u32
        });
        let conn = &mut self.conns[index as usize];
        *conn = Conn { qp, remote, peer: Peer::Rdma { remote, local }, ..Conn::vacant(conn.generation, conn.epoch) };
        conn.rx.limit = RECEIVE_LIMIT_DEFAULT;
        self.by_qp.insert(qp, index);
        self.taken += 1;
        index
    }

    fn set_deadline(&mut self, index: u32, after: Duration) {
        let due = self.now_ns.saturating_add(after.as_nanos() as u64);
        self.conns[index as usize].deadline_ns = due;
        self.next_due_ns = self.next_due_ns.min(due);
    }

    #[inline]
    fn touch(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if !std::mem::replace(&mut conn.dirty, true) {
            self.dirty.push(index);
        }
    }

    /// Collects what happened, without waiting.
    #[inline]
    pub fn poll(&mut self, events: &mut Vec<Event>) {
        if self.polls.is_multiple_of(CLOCK_EVERY) {
            self.now_ns = (self.clock)();
        }
        self.polls = self.polls.wrapping_add(1);
        if self.bell.is_rung() && self.bell.answer() {
            events.push(Event::Wake);
        }
        if !self.full.is_empty() {
            self.turn_full();
        }
        self.process();
        if self.has_news() {
            self.tell(events);
        }
    }

    fn tell(&mut self, events: &mut Vec<Event>) {
        events.append(&mut self.news);
        let mut readable = std::mem::take(&mut self.readable);
        for index in readable.drain(..) {
            let conn = &mut self.conns[index as usize];
            if std::mem::take(&mut conn.readable) && conn.known && conn.stood && conn.is_open() {
                events.push(Event::Readable(conn.id(index)));
            }
        }
        self.readable = readable;
        let mut hangups = std::mem::take(&mut self.hangups);
        for index in hangups.drain(..) {
            let conn = &mut self.conns[index as usize];
            if conn.phase == Phase::Broken && !std::mem::replace(&mut conn.hung, true) {
                events.push(Event::Hangup(conn.id(index), conn.hangup()));
            }
        }
        self.hangups = hangups;
    }

    fn has_news(&self) -> bool {
        !self.news.is_empty() || !self.readable.is_empty() || !self.hangups.is_empty()
    }

    /// Sleeps as [`tercel_transport::Transport::park`] says.
    pub fn park(&mut self, timeout: Option<Duration>) {
        let Some(limit) = self.prepare_park(timeout) else { return };
        let mut fds = [
            PollFd::new(self.bell.fd.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.device.wait_fd(), PollFlags::POLLIN),
        ];
        // A failed or interrupted wait is an early one.
        let _ = ppoll(&mut fds, limit.map(TimeSpec::from), None);
        if fds[0].any().unwrap_or(false) && !self.bell.is_rung() {
            // Left over from a ring that was told of already.
            let _ = self.bell.fd.read();
        }
        self.finish_park();
    }

    /// For a caller that sleeps on [`Endpoint::wait_fd`] itself: makes it readable for what happens from
    /// now on, and says how long the sleep may be at most; `None` if there is something to do at once.
    /// After the sleep comes [`Endpoint::finish_park`].
    pub fn prepare_park(&mut self, timeout: Option<Duration>) -> Option<Option<Duration>> {
        // The next poll looks at the clock.
        self.polls = 0;
        self.device.arm().ok()?;
        // What completed before arming wakes nobody: look once more.
        self.process();
        if self.has_news() || !self.to_wipe.is_empty() || self.bell.is_rung() {
            self.device.acknowledge();
            return None;
        }
        let now = (self.clock)();
        let due = Duration::from_nanos(self.next_due_ns.saturating_sub(now));
        Some(if self.next_due_ns == u64::MAX { timeout } else { Some(timeout.map_or(due, |timeout| timeout.min(due))) })
    }

    /// Takes what ended a sleep.
    pub fn finish_park(&mut self) {
        self.polls = 0;
        self.device.acknowledge();
    }

    /// Readable when there is something to poll for, once armed by [`Endpoint::prepare_park`].
    #[must_use]
    pub fn wait_fd(&self) -> BorrowedFd<'_> {
        self.device.wait_fd()
    }

    /// What ends a park from another thread.
    #[must_use]
    pub fn waker(&self) -> Arc<dyn Wake> {
        self.bell.clone()
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self, conn: ConnId) -> Option<&Peer> {
        self.find(conn).map(|conn| &conn.peer)
    }

    /// The bytes received and not consumed.
    #[must_use]
    #[inline]
    pub fn received(&self, conn: ConnId) -> &[u8] {
        self.find(conn).map_or(&[], |conn| conn.rx.received())
    }

    /// Drops the first `len` received bytes.
    #[inline]
    pub fn consume(&mut self, id: ConnId, len: usize) {
        let (window_bytes, early) = (self.options.rx_window_bytes, self.options.announce_early);
        let Some(conn) =
            self.conns.get_mut(id.index as usize).filter(|conn| conn.generation == id.generation && conn.is_open())
        else {
            return;
        };
        conn.rx.consume(len, &mut self.spare);
        conn.rx.turn(window_bytes, early);
        if conn.rx.is_announcement_due() {
            self.touch(id.index);
        }
    }

    /// How many unconsumed bytes may pile up before no window is announced any more.
    pub fn set_receive_limit(&mut self, id: ConnId, bytes: usize) {
        let (window_bytes, early) = (self.options.rx_window_bytes, self.options.announce_early);
        let Some(conn) = self.find_mut(id) else { return };
        conn.rx.limit = bytes.max(1);
        conn.rx.turn(window_bytes, early);
        if conn.rx.is_announcement_due() {
            self.touch(id.index);
        }
    }

    /// An empty buffer that was used before, if there is one.
    #[inline]
    pub fn spare(&mut self) -> Option<TxBuf> {
        self.pool.pop()
    }

    /// An empty buffer.
    #[inline]
    pub fn lease(&mut self) -> TxBuf {
        self.pool.pop().unwrap_or_else(|| TxBuf::with_capacity(LEASE_BYTES))
    }

    /// Queues a buffer.
    #[inline]
    pub fn send(&mut self, id: ConnId, buf: TxBuf) {
        // A buffer of nothing but empty shared pieces is nothing to send either.
        let length = buf.len();
        match self.conns.get_mut(id.index as usize) {
            Some(conn)
                if conn.generation == id.generation && conn.is_open() && conn.phase != Phase::Broken && length > 0 =>
            {
                conn.tx.push(buf, &mut self.pool);
                self.touch(id.index);
            }
            _ => give_back(&mut self.pool, buf),
        }
    }

    /// Posts what was queued since the last flush.
    pub fn flush(&mut self) {
        self.look_after();
    }

    /// Bytes queued and not yet written.
    #[must_use]
    #[inline]
    pub fn unsent(&self, conn: ConnId) -> usize {
        self.find(conn).map_or(0, |conn| conn.tx.unsent)
    }

    /// Memory of what is unsent, beside the ring, in bytes.
    #[must_use]
    pub fn unsent_memory(&self, conn: ConnId) -> usize {
        self.find(conn).map_or(0, |conn| if conn.tx.unsent == 0 { 0 } else { conn.tx.memory() })
    }

    /// Ends a connection.
    pub fn close(&mut self, id: ConnId, how: Close) {
        if self.find(id).is_none() {
            return;
        }
        let index = id.index;
        // What was found since the last poll is nobody's news any more.
        self.news.retain(|event| event.conn() != Some(id));
        let conn = &mut self.conns[index as usize];
        conn.generation = conn.generation.wrapping_add(1);
        conn.known = false;
        if how == Close::Drain && conn.phase != Phase::Broken && (conn.phase == Phase::Live || conn.tx.unsent > 0) {
            // One that is not connected yet drains once it is, or ends with its handshake's time.
            conn.closing = true;
            if conn.phase == Phase::Live {
                self.drain(index);
            }
            return;
        }
        if conn.reason.is_none() {
            conn.reason = Some(Reason::Closed);
        }
        self.tear_down(index);
    }

    /// Memory held for a connection in bytes.
    #[must_use]
    pub fn memory(&self, conn: ConnId) -> usize {
        self.find(conn).map_or(0, |conn| {
            size_of::<Conn>()
                + conn.memory.map_or(0, |_| self.connection_memory_bytes())
                + conn.rx.memory()
                + conn.tx.memory()
        })
    }

    /// Counters as every transport has them.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }
}
