//! The server's transports as one: sockets always, RDMA where it was asked for. Connections are told
//! apart by the lowest bit of their slot; nothing above this file knows how a client comes. What is
//! particular to RDMA and of interest above is a [`RdmaReport`].

pub mod listeners;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use tercel_rdma::RdmaTransport;
use tercel_rdma::endpoint::{Counters, Options, Reason};
use tercel_rdma::hca::{HcaDevice, HcaOptions};
use tercel_rdma::verbs::{Device, Listener, VerbsError};
use tercel_transport::{Close, ConnId, Event, Peer, Stats, Transport, TxBuf, Wake};
use tercel_transport_tcp::TcpTransport;

use crate::network::listeners::{Front, ListenError, Listeners, rdma_binds};
use crate::settings::Settings;

/// Polls without news from the sockets after which they are looked at less often, while RDMA clients
/// are there whose every poll the look at the sockets would delay by a system call.
const QUIET_POLLS: u32 = 256;
/// How often they are looked at then: every so many polls. A sleep ends for them at once.
const LOOK_EVERY: u32 = 16;

/// Connections beyond `maxclients` that are taken to be told so.
const TURNED_AWAY: usize = 32;

/// What there is to know of the RDMA side, for INFO.
#[derive(Clone, Debug, Default)]
pub struct RdmaReport {
    /// The adapters' names.
    pub adapters: String,
    /// Connections in any state.
    pub connections: usize,
    /// Memory the adapters hold for connections and for the next ones, in bytes.
    pub pinned_bytes: usize,
    /// What the endpoint counted.
    pub counters: Counters,
    /// What every transport counts.
    pub stats: Stats,
}

/// Makes the RDMA side when it is first needed.
pub type Opener<D> = Box<dyn Fn(&Settings) -> Result<RdmaTransport<D>, VerbsError>>;

/// Sockets and RDMA.
pub struct Network<D: Device> {
    // Watches a descriptor of `rdma` and so goes first.
    sockets: TcpTransport,
    rdma: Option<RdmaTransport<D>>,
    open: Opener<D>,
    quiet_polls: u32,
}

/// The RDMA side over this host's adapters.
///
/// # Errors
/// One line that says what is missing.
pub fn open_adapters(settings: &Settings) -> Result<RdmaTransport<HcaDevice>, VerbsError> {
    let options = rdma_options(settings);
    let per_connection = options.send_depth + options.recv_depth;
    let cq_depth = u32::try_from(options.connections_max).unwrap_or(u32::MAX).saturating_mul(per_connection);
    let completion_vector = u32::try_from(settings.rdma_completion_vector).ok();
    let device = HcaDevice::open(HcaOptions { cq_depth, completion_vector, huge_pages: settings.rdma_huge_pages })?;
    RdmaTransport::new(device, options)
}

/// An endpoint's options as the settings want them.
#[must_use]
pub fn rdma_options(settings: &Settings) -> Options {
    // Some more than that may connect, to be told that there are too many.
    let at_most = |wanted: i64| if wanted == 0 { settings.maxclients as usize + TURNED_AWAY } else { wanted as usize };
    Options {
        rx_window_bytes: settings.rdma_rx_size as u32,
        connections_max: at_most(settings.rdma_connections_max),
        connections_per_address_max: at_most(settings.rdma_connections_per_address_max),
        pinned_bytes_max: settings.rdma_pinned_bytes_max.0 as usize,
        handshake_timeout: Duration::from_millis(settings.rdma_handshake_timeout_ms as u64),
        ..Options::default()
    }
}

fn outer(conn: ConnId, rdma: bool) -> ConnId {
    ConnId { index: conn.index << 1 | u32::from(rdma), ..conn }
}

fn retag(events: &mut [Event], rdma: bool) {
    for event in events {
        if let Event::Accepted(conn) | Event::Readable(conn) | Event::Drained(conn) | Event::Hangup(conn, _) = event {
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
        Network { sockets, rdma: None, open, quiet_polls: 0 }
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
        let binds = rdma_binds(settings)?;
        if binds.is_empty() {
            return Ok(());
        }
        let rdma = match &mut self.rdma {
            Some(rdma) => rdma,
            place => {
                let mut opened = (self.open)(settings).map_err(|error| ListenError::NoRdma(error.to_string()))?;
                self.sockets.watch(opened.endpoint().wait_fd().as_raw_fd());
                place.insert(opened)
            }
        };
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
        Ok(())
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

/// Tests run an executor on RDMA alone.
impl<D: Device> Front for RdmaTransport<D> {}

impl<D: Device> Front for Network<D> {
    fn descriptor(&self, conn: ConnId) -> i32 {
        if conn.index & 1 == 1 { -1 } else { self.sockets.descriptor(ConnId { index: conn.index >> 1, ..conn }) }
    }

    fn follow(&mut self, listeners: &mut Listeners, old: &Settings, new: &Settings) {
        self.sockets.follow(listeners, old, new);
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

    fn report_rdma(&mut self) -> Option<RdmaReport> {
        let rdma = self.rdma.as_mut()?;
        Self::log_endings(rdma);
        let stats = rdma.stats();
        let endpoint = rdma.endpoint();
        Some(RdmaReport {
            adapters: endpoint.device().describe(),
            connections: endpoint.connections(),
            pinned_bytes: endpoint.pinned_bytes(),
            counters: endpoint.counters(),
            stats,
        })
    }
}

/// Whether an address can be listened on for RDMA: tried, and let go.
///
/// # Errors
/// There is nothing to listen with, or the address cannot be had.
pub(crate) fn check_rdma(addr: SocketAddr) -> Result<(), VerbsError> {
    let mut device = HcaDevice::open(HcaOptions { cq_depth: 1, ..HcaOptions::default() })?;
    device.listen(addr, 1).map(|listener| device.unlisten(listener))
}

/// Every IPv4 address of the host.
pub(crate) const ANYWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
