//! An [`Endpoint`] as the executor's transport.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tercel_transport::{
    Address, Close, ConnId, ConnectError, ConnectOptions, Event, ListenerId, Peer, Stats, Transport, TxBuf, Wake,
};

use crate::endpoint::{Endpoint, Options};
use crate::verbs::{Device, Listener, VerbsError};

/// Linux's numbers for what a device refuses.
const EIO: i32 = 5;
const ENOMEM: i32 = 12;
const ENOBUFS: i32 = 105;

/// Serves Valkey over RDMA on one device. Belongs to the thread that made it.
pub struct RdmaTransport<D: Device> {
    endpoint: Endpoint<D>,
}

impl<D: Device> RdmaTransport<D> {
    /// A transport without listeners.
    ///
    /// # Errors
    /// As [`Endpoint::new`].
    pub fn new(device: D, options: Options) -> Result<Self, VerbsError> {
        Ok(RdmaTransport { endpoint: Endpoint::new(device, options)? })
    }

    /// Opens a listener; port 0 picks one.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn listen(&mut self, addr: SocketAddr, backlog: u32) -> Result<Listener, VerbsError> {
        self.endpoint.listen(addr, backlog)
    }

    /// What is behind it: counters, endings, memory.
    pub fn endpoint(&mut self) -> &mut Endpoint<D> {
        &mut self.endpoint
    }
}

impl<D: Device> Transport for RdmaTransport<D> {
    fn name(&self) -> &'static str {
        "rdma"
    }

    #[inline]
    fn poll(&mut self, events: &mut Vec<Event>) {
        self.endpoint.poll(events);
    }

    fn park(&mut self, timeout: Option<Duration>) {
        self.endpoint.park(timeout);
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.endpoint.waker()
    }

    fn connect(&mut self, to: &Address, options: &ConnectOptions) -> Result<ConnId, ConnectError> {
        // The connection manager chooses the address to come from.
        let Address::Rdma(to) = to else { return Err(ConnectError::Unsupported) };
        if !self.endpoint.has_room() {
            return Err(ConnectError::Os(ENOBUFS));
        }
        self.endpoint.dial_within(*to, options.timeout).map_err(|error| {
            ConnectError::Os(match error {
                VerbsError::Memory(_) => ENOMEM,
                VerbsError::QueueFull => ENOBUFS,
                _ => EIO,
            })
        })
    }

    fn listener(&self, conn: ConnId) -> Option<ListenerId> {
        self.endpoint.listener(conn).map(|listener| ListenerId(listener.0))
    }

    fn peer(&self, conn: ConnId) -> Option<&Peer> {
        self.endpoint.peer(conn)
    }

    #[inline]
    fn received(&self, conn: ConnId) -> &[u8] {
        self.endpoint.received(conn)
    }

    #[inline]
    fn consume(&mut self, conn: ConnId, len: usize) {
        self.endpoint.consume(conn, len);
    }

    fn set_receive_limit(&mut self, conn: ConnId, bytes: usize) {
        self.endpoint.set_receive_limit(conn, bytes);
    }

    #[inline]
    fn lease(&mut self) -> TxBuf {
        self.endpoint.lease()
    }

    #[inline]
    fn send(&mut self, conn: ConnId, buf: TxBuf) {
        self.endpoint.send(conn, buf);
    }

    #[inline]
    fn flush(&mut self) {
        self.endpoint.flush();
    }

    #[inline]
    fn unsent(&self, conn: ConnId) -> usize {
        self.endpoint.unsent(conn)
    }

    fn unsent_memory(&self, conn: ConnId) -> usize {
        self.endpoint.unsent_memory(conn)
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        self.endpoint.close(conn, how);
    }

    fn memory(&self, conn: ConnId) -> usize {
        self.endpoint.memory(conn)
    }

    fn stats(&self) -> Stats {
        self.endpoint.stats()
    }
}
