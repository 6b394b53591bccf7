//! TCP and unix sockets for Tercel: io_uring where the kernel offers it, epoll beneath.
//!
//! [`TcpTransport`] implements [`tercel_transport::Transport`]. Here live sockets, rings and their
//! buffers; neither RESP nor commands are known. System calls and the memory shared with the
//! kernel are confined to `socket`, `epoll`, `wake` and `uring`.

mod client;
mod conns;
mod epoll;
mod error;
mod event_loop;
mod inbox;
mod outbox;
mod pool;
mod socket;
mod uring;
mod wake;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tercel_transport::{
    Address, Close, ConnId, ConnectError, ConnectOptions, Event, Peer, Stats, Transport, TxBuf, Wake,
};

pub use client::{ClientAddr, SocketClient};
pub use error::Error;
pub use tercel_transport::ListenerId;

use event_loop::EventLoop;

/// Which way of talking to the kernel to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// io_uring if this host offers what it takes, else epoll.
    #[default]
    Auto,
    /// io_uring or an error.
    IoUring,
    /// epoll.
    Epoll,
}

/// How a transport is made.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// Which way of talking to the kernel.
    pub backend: Backend,
    /// Size of one receive buffer in bytes.
    pub receive_buffer_bytes: usize,
    /// Receive buffers shared by all connections at most; rounded up to a power of two. Memory is
    /// touched only as buffers are needed.
    pub receive_buffers: u16,
    /// Shared reply pieces of at least this many bytes are sent without a copy where the kernel
    /// can; 0 means never.
    pub zero_copy_threshold_bytes: usize,
    /// How long a draining connection may take to send what is queued and to see the peer go.
    pub drain_timeout: Duration,
    /// TCP keep-alive: first probe after this many seconds of silence; 0 means none.
    pub keepalive_seconds: u32,
    /// Connections to make room for at the start; more are fine.
    pub max_connections_hint: usize,
}

impl Default for TcpOptions {
    fn default() -> Self {
        TcpOptions {
            backend: Backend::Auto,
            receive_buffer_bytes: 16 * 1024,
            receive_buffers: 512,
            zero_copy_threshold_bytes: 64 * 1024,
            drain_timeout: Duration::from_secs(5),
            keepalive_seconds: 300,
            max_connections_hint: 1024,
        }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddr {
    /// A TCP address; port 0 picks a free one (see [`TcpTransport::local_addr`]).
    Tcp(SocketAddr),
    /// A unix-domain socket.
    Unix {
        /// Its path. A stale socket there is replaced; anything else is an error.
        path: PathBuf,
        /// Permission bits, set before the first connection can be made; `None` leaves them to
        /// the umask.
        mode: Option<u32>,
    },
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Tcp(addr) => addr.fmt(f),
            ListenAddr::Unix { path, .. } => path.display().fmt(f),
        }
    }
}

/// TCP and unix-domain connections. Belongs to the thread that made it.
pub struct TcpTransport {
    event_loop: EventLoop,
}

impl TcpTransport {
    /// Makes a transport without listeners. [`Backend::Auto`] falls back to epoll and remembers
    /// why, for [`TcpTransport::describe`].
    ///
    /// # Errors
    /// When io_uring was asked for by name and is not usable, or a descriptor cannot be made.
    pub fn new(options: TcpOptions) -> Result<Self, Error> {
        Ok(TcpTransport { event_loop: EventLoop::new(options)? })
    }

    /// What serves the connections and which of the kernel's features it uses, or why it does
    /// without: one line for the log.
    #[must_use]
    pub fn describe(&self) -> String {
        match (&self.event_loop.ring, &self.event_loop.ring_refused) {
            (Some(ring), _) => format!("io_uring ({})", ring.features),
            (None, Some(reason)) => format!("epoll (io_uring refused: {reason})"),
            (None, None) => "epoll".to_owned(),
        }
    }

    /// With io_uring: how many active connections count as few enough to be read directly, which
    /// answers sooner, rather than through the ring, which costs less for many. 0 leaves all but
    /// floods to the ring.
    pub fn set_direct_connections_max(&mut self, count: usize) {
        self.event_loop.direct_max = count;
    }

    /// Opens a listener; its connections arrive as [`Event::Accepted`].
    ///
    /// # Errors
    /// Naming the address and the reason: the address is in use, the path is not a socket, or
    /// another server answers there.
    pub fn listen(&mut self, addr: &ListenAddr, backlog: u32) -> Result<ListenerId, Error> {
        self.event_loop.listen(addr, backlog)
    }

    /// Closes a listener; a unix-domain one removes its path. Connections stay.
    pub fn unlisten(&mut self, id: ListenerId) {
        self.event_loop.unlisten(id);
    }

    /// The bound address of a TCP listener.
    #[must_use]
    pub fn local_addr(&self, id: ListenerId) -> Option<SocketAddr> {
        self.event_loop.local_addr(id)
    }

    /// Sets TCP keep-alive for connections accepted or dialled from now on; 0 turns it off.
    pub fn set_keepalive_seconds(&mut self, seconds: u32) {
        self.event_loop.set_keepalive_seconds(seconds);
    }

    /// Lets a descriptor of the caller's end parks: while it is readable, polls report
    /// [`Event::Wake`]. The descriptor must outlive the transport.
    pub fn watch(&mut self, fd: RawFd) {
        self.event_loop.watch(fd);
    }

    /// The descriptor number of a connection, for display only.
    #[must_use]
    pub fn raw_fd(&self, conn: ConnId) -> Option<i32> {
        self.event_loop.conns.find(conn).map(conns::Conn::raw_fd)
    }

    /// Connections the executor knows.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.event_loop.conns.live
    }

    /// Connections the executor has closed that are still sending, or waiting for the kernel.
    #[must_use]
    pub fn closing(&self) -> usize {
        self.event_loop.conns.closing
    }
}

impl Transport for TcpTransport {
    fn name(&self) -> &'static str {
        if self.event_loop.ring.is_some() { "io_uring" } else { "epoll" }
    }

    #[inline]
    fn poll(&mut self, events: &mut Vec<Event>) {
        self.event_loop.poll(events);
    }

    fn park(&mut self, timeout: Option<Duration>) {
        self.event_loop.park(timeout);
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.event_loop.bell.clone()
    }

    fn set_spinning(&mut self, spinning: bool) {
        self.event_loop.set_spinning(spinning);
    }

    fn connect(&mut self, to: &Address, options: &ConnectOptions) -> Result<ConnId, ConnectError> {
        self.event_loop.connect(to, options)
    }

    fn listener(&self, conn: ConnId) -> Option<ListenerId> {
        self.event_loop.conns.find(conn)?.listener
    }

    fn peer(&self, conn: ConnId) -> Option<&Peer> {
        self.event_loop.conns.find(conn).map(|conn| &conn.peer)
    }

    #[inline]
    fn received(&self, conn: ConnId) -> &[u8] {
        self.event_loop.received(conn)
    }

    #[inline]
    fn consume(&mut self, conn: ConnId, len: usize) {
        self.event_loop.consume(conn, len);
    }

    fn set_receive_limit(&mut self, conn: ConnId, bytes: usize) {
        self.event_loop.set_receive_limit(conn, bytes);
    }

    #[inline]
    fn lease(&mut self) -> TxBuf {
        self.event_loop.pool.lease_tx()
    }

    #[inline]
    fn send(&mut self, conn: ConnId, buf: TxBuf) {
        self.event_loop.send(conn, buf);
    }

    #[inline]
    fn flush(&mut self) {
        self.event_loop.flush();
    }

    #[inline]
    fn unsent(&self, conn: ConnId) -> usize {
        self.event_loop.unsent(conn)
    }

    fn descriptor(&self, conn: ConnId) -> i32 {
        self.raw_fd(conn).unwrap_or(-1)
    }

    fn unsent_memory(&self, conn: ConnId) -> usize {
        self.event_loop.conns.find(conn).map_or(0, |conn| if conn.outbox.is_empty() { 0 } else { conn.outbox.memory() })
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        self.event_loop.close(conn, how);
    }

    fn memory(&self, conn: ConnId) -> usize {
        self.event_loop
            .conns
            .find(conn)
            .map_or(0, |conn| size_of::<conns::Conn>() + conn.inbox.memory() + conn.outbox.memory())
    }

    fn stats(&self) -> Stats {
        self.event_loop.stats()
    }
}
