//! The seam between the executor and a network.
//!
//! A transport moves bytes for connections it owns; it knows neither RESP nor commands. The
//! executor polls it, reads what arrived in place, hands it reply buffers, and rings one doorbell
//! a turn. Here live the trait, the buffers that cross it, an in-memory transport for
//! deterministic tests ([`memory`]) and the conformance suite every transport passes
//! ([`conformance`]).
//!
//! Ownership, in one paragraph: received bytes belong to the transport until they are consumed;
//! a [`TxBuf`] belongs to the executor from [`Transport::lease`] until [`Transport::send`], and to
//! the transport afterwards; a connection's identity belongs to the transport until the executor
//! closes it, which is the only way it ends. No event arrives for a connection after `close`.

mod address;
pub mod client;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod memory;
pub mod report;
mod txbuf;

pub use address::{Address, ConnectError, ConnectOptions};
pub use txbuf::{Part, SharedBytes, TxBuf};

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// A connection of one transport. The generation makes an identity that was closed differ from
/// the next connection in the same slot, so a late user of the old one is told "unknown", not
/// given a stranger's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Slot in the transport's connection table.
    pub index: u32,
    /// How many connections have lived in that slot before.
    pub generation: u32,
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn {}.{}", self.index, self.generation)
    }
}

/// A listener of one transport. Never used twice by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u32);

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP connection.
    Tcp {
        /// The other side's address.
        remote: SocketAddr,
        /// Our address: as the client dialled it, or as we dial from it.
        local: SocketAddr,
    },
    /// An RDMA connection, addressed by the IP addresses of its devices.
    Rdma {
        /// The other side's address.
        remote: SocketAddr,
        /// Our address, as the client dialled it; where we dial, the address we dial.
        local: SocketAddr,
    },
    /// A unix-domain socket.
    Unix {
        /// The path the server listens on.
        path: String,
    },
    /// The in-memory transport: a number for the log.
    Memory(u64),
}

/// How a peer comes, as far as figures are kept apart for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// TCP, a unix socket, or the in-memory network of tests.
    Socket,
    /// RDMA.
    Rdma,
}

impl PeerKind {
    /// All kinds, in order, with their names.
    pub const ALL: [(PeerKind, &'static str); 2] = [(PeerKind::Socket, "socket"), (PeerKind::Rdma, "rdma")];
}

impl Peer {
    /// How it comes.
    #[must_use]
    pub fn kind(&self) -> PeerKind {
        if matches!(self, Peer::Rdma { .. }) { PeerKind::Rdma } else { PeerKind::Socket }
    }

    /// Whether the peer can only be on this host (for protected mode).
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Peer::Tcp { remote, .. } | Peer::Rdma { remote, .. } => match remote.ip() {
                std::net::IpAddr::V4(ip) => ip.is_loopback(),
                std::net::IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
            },
            Peer::Unix { .. } | Peer::Memory(_) => true,
        }
    }
}

/// Why a peer is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The peer closed its side in good order.
    Eof,
    /// The connection broke; the operating system's error number (0 where there is none).
    Error(i32),
}

/// What happened since the last poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new connection; [`Transport::peer`] says who.
    Accepted(ConnId),
    /// A connection that [`Transport::connect`] began stands. Comes once, before anything else of it. One that
    /// does not come about reports a `Hangup` with an error instead.
    Connected(ConnId),
    /// New bytes: [`Transport::received`] grew. At most once a poll and connection.
    Readable(ConnId),
    /// Everything sent so far has left: [`Transport::unsent`] is 0 again. Only after a turn that
    /// could not send all at once.
    Drained(ConnId),
    /// The peer is gone. Comes after the last `Readable`; bytes not yet consumed stay readable.
    /// The executor must still call [`Transport::close`].
    Hangup(ConnId, Hangup),
    /// A listener failed in a way worth a log line (out of descriptors, say); accepting goes on.
    AcceptError(i32),
    /// Somebody rang a [`Transport::waker`], or a watched descriptor is readable.
    Wake,
}

impl Event {
    /// The connection it is about, if it is about one.
    #[must_use]
    pub fn conn(&self) -> Option<ConnId> {
        match self {
            Event::Accepted(conn)
            | Event::Connected(conn)
            | Event::Readable(conn)
            | Event::Drained(conn)
            | Event::Hangup(conn, _) => Some(*conn),
            Event::AcceptError(_) | Event::Wake => None,
        }
    }
}

/// How to end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Send what was handed over, then close. The transport bounds how long it tries.
    Drain,
    /// Close at once; unsent bytes are dropped.
    Abort,
}

/// Counters since start; a transport only ever adds to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Receive operations that brought bytes.
    pub receives: u64,
    /// Send operations that took bytes.
    pub sends: u64,
    /// Sends made without a copy by the kernel.
    pub zero_copy_sends: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections dialled that came about.
    pub connected: u64,
    /// Times the loop entered the kernel to submit, reap or wait.
    pub kernel_entries: u64,
    /// Times a receive found no free buffer and had to be armed again.
    pub buffer_starvations: u64,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Stats) {
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        self.receives += other.receives;
        self.sends += other.sends;
        self.zero_copy_sends += other.zero_copy_sends;
        self.accepted += other.accepted;
        self.connected += other.connected;
        self.kernel_entries += other.kernel_entries;
        self.buffer_starvations += other.buffer_starvations;
    }
}

/// Rings a parked transport from another thread.
pub trait Wake: Send + Sync {
    /// Makes the next (or current) park return and the next poll report [`Event::Wake`].
    fn wake(&self);
}

/// A network the executor can serve.
///
/// All calls come from the one executor thread. No call blocks except [`Transport::park`].
/// A call that names a connection which is not (or no longer) there does nothing and returns
/// empty: a late reply to a closed client is normal, not an error.
pub trait Transport {
    /// Short name for logs and CLIENT LIST: `io_uring`, `epoll`, `memory`, `rdma`.
    fn name(&self) -> &'static str;

    /// Collects what happened, without waiting; events are appended.
    fn poll(&mut self, events: &mut Vec<Event>);

    /// Sleeps until something may be ready, `timeout` has passed (`None`: no limit) or a waker
    /// rings. Loses no event: whatever became ready before or while it went to sleep ends the
    /// sleep. May return early for no reason. The caller polls afterwards.
    fn park(&mut self, timeout: Option<Duration>);

    /// A handle that ends a park from another thread.
    fn waker(&self) -> std::sync::Arc<dyn Wake>;

    /// Tells whether the executor means to spin (never parking, or only after a while), so that
    /// the transport can choose its cheaper way of receiving.
    fn set_spinning(&mut self, _spinning: bool) {}

    /// Begins to connect; [`Event::Connected`] follows, or a [`Event::Hangup`] with an error, within the time the
    /// options give it. What is sent before goes out when the connection stands. It is closed as any other, also
    /// one that failed, or one that does not stand yet: with [`Close::Drain`] what was sent still goes out if it
    /// comes about.
    ///
    /// # Errors
    /// The dial cannot even begin: see [`ConnectError`].
    fn connect(&mut self, to: &Address, options: &ConnectOptions) -> Result<ConnId, ConnectError>;

    /// The listener a connection came in by; `None` for one that was dialled.
    fn listener(&self, conn: ConnId) -> Option<ListenerId>;

    /// Who is at the other end; while connecting, who is to be there.
    fn peer(&self, conn: ConnId) -> Option<&Peer>;

    /// The bytes received and not yet consumed, in order and contiguous. No peer can change them any
    /// more. The slice stays where it is until the next `poll`, or the next `consume` or `close` of this
    /// connection.
    fn received(&self, conn: ConnId) -> &[u8];

    /// Drops the first `len` received bytes; their buffer may be used again.
    fn consume(&mut self, conn: ConnId, len: usize);

    /// The connection's file descriptor, -1 where there is none.
    fn descriptor(&self, _conn: ConnId) -> i32 {
        -1
    }

    /// How it stands with what is particular to it, and logs what happened there. `None` where there is nothing
    /// of the kind.
    fn report(&mut self) -> Option<report::Report> {
        None
    }

    /// How many unconsumed bytes may pile up before the transport stops reading from the peer
    /// (back-pressure). Reading goes on once less than that is left. May be overshot by one
    /// receive buffer; the first time a connection floods, by what had already arrived for it (in
    /// io_uring the receive buffers lent to the kernel, half a mebibyte at the start). The default is [`RECEIVE_LIMIT_DEFAULT`].
    fn set_receive_limit(&mut self, conn: ConnId, bytes: usize);

    /// An empty buffer with some capacity, from the transport's pool.
    fn lease(&mut self) -> TxBuf;

    /// Queues a buffer behind what was sent before. An empty buffer goes back to the pool.
    /// Nothing needs to leave before [`Transport::flush`].
    fn send(&mut self, conn: ConnId, buf: TxBuf);

    /// Rings the doorbell: everything queued in this turn starts on its way.
    fn flush(&mut self);

    /// Bytes handed over by [`Transport::send`] that the transport still holds.
    fn unsent(&self, conn: ConnId) -> usize;

    /// Memory in bytes that those unsent bytes hold: whole buffers, whether full or not, and whole shared
    /// pieces. Costs the same whatever is queued.
    fn unsent_memory(&self, conn: ConnId) -> usize;

    /// Ends a connection. Its identity is dead at once, whichever way it ends.
    fn close(&mut self, conn: ConnId, how: Close);

    /// Memory held for this connection in bytes: receive, send and bookkeeping. Costs the same whatever
    /// is queued.
    fn memory(&self, conn: ConnId) -> usize;

    /// Counters since start.
    fn stats(&self) -> Stats;
}

/// Back-pressure starts at this many unconsumed bytes unless told otherwise.
pub const RECEIVE_LIMIT_DEFAULT: usize = 256 * 1024;
