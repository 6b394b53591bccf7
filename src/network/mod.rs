//! The server's transports as one: sockets always, RDMA where it was asked for. Connections are told
//! apart by the lowest bit of their slot; nothing above this room knows how a client comes.

mod addresses;
pub mod listeners;
mod probe;
mod rdma;

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use tercel_rdma::RdmaTransport;
use tercel_rdma::endpoint::Reason;
use tercel_rdma::verbs::{Device, Listener, VerbsError};
use tercel_transport::report::Report;
use tercel_transport::{
    Address, Close, ConnId, ConnectError, ConnectOptions, Event, ListenerId, Peer, Stats, Transport, TxBuf, Wake,
};
use tercel_transport_tcp::TcpTransport;

pub use addresses::ListenError;
use addresses::rdma_binds;
use listeners::Listeners;
pub use probe::check;
pub use rdma::{Opener, open_adapters, rdma_options};

use tercel_core::settings::Settings;

/// Polls without news from the sockets after which they are looked at less often, while RDMA clients
/// are there whose every poll the look at the sockets would delay by a system call.
const QUIET_POLLS: u32 = 256;
/// How often they are looked at then: every so many polls. A sleep ends for them at once.
const LOOK_EVERY: u32 = 16;

/// Sockets and RDMA.
pub struct Network<D: Device> {
    // Watches a descriptor of `rdma` and so goes first.
    sockets: TcpTransport,
    rdma: Option<RdmaTransport<D>>,
    /// The port it listens on.
    rdma_port: u16,
    /// What it would be made with.
    rdma_settings: Option<Box<Settings>>,
    open: Opener<D>,
    quiet_polls: u32,
}

fn outer(conn: ConnId, rdma: bool) -> ConnId {
    ConnId { index: conn.index << 1 | u32::from(rdma), ..conn }
}

fn retag(events: &mut [Event], rdma: bool) {
    for event in events {
        if let Event::Accepted(conn)
        | Event::Connected(conn)
        | Event::Readable(conn)
        | Event::Drained(conn)
        | Event::Hangup(conn, _) = event
        {
            *conn = outer(*conn, rdma);
        }
    }
}

/// Runs a call on the transport that a connection belongs to.
macro_rules! on {
    ($network:expr, $conn:expr, $transport:ident, $inner:ident => $call:expr) => {{
        let $inner = ConnId { index: $conn.index >> 1, ..$conn };
        match &mut $network.rdma {
            Some($transport) if $conn.index & 1 == 1 => $call,
            _ => {
                let $transport = &mut $network.sockets;
                $call
            }
        }
    }};
    (ref $network:expr, $conn:expr, $transport:ident, $inner:ident => $call:expr) => {{
        let $inner = ConnId { index: $conn.index >> 1, ..$conn };
        match &$network.rdma {
            Some($transport) if $conn.index & 1 == 1 => $call,
            _ => {
                let $transport = &$network.sockets;
                $call
            }
        }
    }};
}

impl<D: Device> Network<D> {
    /// Sockets alone, for now.
    pub fn new(sockets: TcpTransport, open: Opener<D>) -> Self {
        Network { sockets, rdma: None, rdma_port: 0, rdma_settings: None, open, quiet_polls: 0 }
    }

    /// The sockets.
    pub fn sockets(&mut self) -> &mut TcpTransport {
        &mut self.sockets
    }

    /// The RDMA side, if it was needed so far.
    pub fn rdma(&mut self) -> Option<&mut RdmaTransport<D>> {
        self.rdma.as_mut()
    }

    /// What serves the connections: one line for the log.
    #[must_use]
    pub fn describe(&self) -> String {
        self.sockets.describe()
    }

    /// Listens for RDMA connections as the settings say.
    ///
    /// # Errors
    /// There is nothing to listen with, or an address cannot be had.
    pub fn listen_rdma(&mut self, listeners: &mut Listeners, settings: &Settings) -> Result<(), ListenError> {
        self.rdma_settings = Some(Box::new(settings.clone()));
        let binds = rdma_binds(settings)?;
        if binds.is_empty() {
            return Ok(());
        }
        let rdma = self.open_rdma(settings).map_err(|error| ListenError::NoRdma(error.to_string()))?;
        let mut ids: Vec<Listener> = Vec::new();
        for bind in binds {
            match rdma.listen(bind.addr, settings.tcp_backlog as u32) {
                Ok(id) => ids.push(id),
                Err(error) if bind.optional => tracing::debug!("not listening for RDMA on {}: {error}", bind.addr),
                Err(error) => {
                    ids.into_iter().for_each(|id| rdma.endpoint().unlisten(id));
                    return Err(ListenError::Rdma { addr: bind.addr.to_string(), reason: error.to_string() });
                }
            }
        }
        listeners.rdma = ids;
        self.rdma_port = settings.rdma_port as u16;
        Ok(())
    }

    /// The RDMA side, made now if it was not needed so far.
    fn open_rdma(&mut self, settings: &Settings) -> Result<&mut RdmaTransport<D>, VerbsError> {
        match &mut self.rdma {
            Some(rdma) => Ok(rdma),
            place => {
                let mut opened = (self.open)(settings)?;
                self.sockets.watch(opened.endpoint().wait_fd().as_raw_fd());
                Ok(place.insert(opened))
            }
        }
    }

    /// Dials over RDMA, also where nobody is listened to by it.
    fn connect_rdma(&mut self, to: &Address, options: &ConnectOptions) -> Result<ConnId, ConnectError> {
        let Some(settings) = self.rdma_settings.take() else { return Err(ConnectError::Unsupported) };
        let opened = self.open_rdma(&settings).map_err(|error| {
            tracing::warn!("RDMA is not available: {error}");
            ConnectError::Unsupported
        });
        let dialled = opened.and_then(|rdma| rdma.connect(to, options));
        self.rdma_settings = Some(settings);
        dialled
    }

    /// Follows settings that changed.
    pub fn follow(&mut self, listeners: &mut Listeners, old: &Settings, new: &Settings) {
        listeners.follow(&mut self.sockets, old, new);
        self.rdma_settings = Some(Box::new(new.clone()));
        if old.rdma_port != new.rdma_port || old.rdma_bind != new.rdma_bind {
            if let Some(rdma) = &mut self.rdma {
                listeners.rdma.drain(..).for_each(|id| rdma.endpoint().unlisten(id));
            }
            // It could be bound a moment ago; going on without is better than ending.
            if let Err(error) = self.listen_rdma(listeners, new) {
                tracing::warn!("{error}");
            }
        }
    }

    fn log_endings(rdma: &mut RdmaTransport<D>) {
        for ended in rdma.endpoint().take_ended() {
            match ended.reason {
                Reason::Disconnected | Reason::Closed => {
                    tracing::debug!("RDMA connection from {} ended: {}", ended.remote, ended.reason)
                }
                _ => tracing::warn!("RDMA connection from {} ended: {}", ended.remote, ended.reason),
            }
        }
    }
}

impl<D: Device> Transport for Network<D> {
    fn name(&self) -> &'static str {
        self.sockets.name()
    }

    #[inline]
    fn poll(&mut self, events: &mut Vec<Event>) {
        let mut from = events.len();
        if let Some(rdma) = &mut self.rdma {
            rdma.poll(events);
            retag(&mut events[from..], true);
            self.quiet_polls = self.quiet_polls.saturating_add(1);
            let seldom = self.quiet_polls > QUIET_POLLS && rdma.endpoint().connections() > 0;
            if seldom && !self.quiet_polls.is_multiple_of(LOOK_EVERY) {
                return;
            }
        }
        from = events.len();
        self.sockets.poll(events);
        if events.len() > from {
            self.quiet_polls = 0;
            retag(&mut events[from..], false);
        }
    }

    fn park(&mut self, timeout: Option<Duration>) {
        let Some(rdma) = &mut self.rdma else { return self.sockets.park(timeout) };
        // What wakes the sockets' sleep is to be seen by the next poll.
        self.quiet_polls = 0;
        if let Some(limit) = rdma.endpoint().prepare_park(timeout) {
            self.sockets.park(limit);
            rdma.endpoint().finish_park();
        }
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.sockets.waker()
    }

    fn set_spinning(&mut self, spinning: bool) {
        self.sockets.set_spinning(spinning);
    }

    fn connect(&mut self, to: &Address, options: &ConnectOptions) -> Result<ConnId, ConnectError> {
        let is_rdma = matches!(to, Address::Rdma(_));
        let conn = if is_rdma { self.connect_rdma(to, options) } else { self.sockets.connect(to, options) }?;
        // The answer may be a socket's, at which the next poll has to look.
        self.quiet_polls = 0;
        Ok(outer(conn, is_rdma))
    }

    fn listener(&self, conn: ConnId) -> Option<ListenerId> {
        let inner = on!(ref self, conn, transport, inner => transport.listener(inner))?;
        Some(ListenerId(inner.0 << 1 | conn.index & 1))
    }

    fn peer(&self, conn: ConnId) -> Option<&Peer> {
        on!(ref self, conn, transport, inner => transport.peer(inner))
    }

    #[inline]
    fn received(&self, conn: ConnId) -> &[u8] {
        on!(ref self, conn, transport, inner => transport.received(inner))
    }

    #[inline]
    fn consume(&mut self, conn: ConnId, len: usize) {
        on!(self, conn, transport, inner => transport.consume(inner, len));
    }

    fn set_receive_limit(&mut self, conn: ConnId, bytes: usize) {
        on!(self, conn, transport, inner => transport.set_receive_limit(inner, bytes));
    }

    #[inline]
    fn lease(&mut self) -> TxBuf {
        // Buffers that went out over RDMA came back there.
        self.rdma.as_mut().and_then(|rdma| rdma.endpoint().spare()).unwrap_or_else(|| self.sockets.lease())
    }

    #[inline]
    fn send(&mut self, conn: ConnId, buf: TxBuf) {
        on!(self, conn, transport, inner => transport.send(inner, buf));
    }

    #[inline]
    fn flush(&mut self) {
        if let Some(rdma) = &mut self.rdma {
            rdma.flush();
        }
        self.sockets.flush();
    }

    #[inline]
    fn unsent(&self, conn: ConnId) -> usize {
        on!(ref self, conn, transport, inner => transport.unsent(inner))
    }

    fn descriptor(&self, conn: ConnId) -> i32 {
        on!(ref self, conn, transport, inner => transport.descriptor(inner))
    }

    fn report(&mut self) -> Option<Report> {
        let rdma = self.rdma.as_mut()?;
        Self::log_endings(rdma);
        Some(rdma::report(rdma, self.rdma_port))
    }

    fn unsent_memory(&self, conn: ConnId) -> usize {
        on!(ref self, conn, transport, inner => transport.unsent_memory(inner))
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        on!(self, conn, transport, inner => transport.close(inner, how));
    }

    fn memory(&self, conn: ConnId) -> usize {
        on!(ref self, conn, transport, inner => transport.memory(inner))
    }

    fn stats(&self) -> Stats {
        let mut stats = self.sockets.stats();
        if let Some(rdma) = &self.rdma {
            stats += rdma.stats();
        }
        stats
    }
}
