//! From settings to listeners: which addresses, in which order, and what it means when one cannot
//! be had.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use tercel_rdma::verbs::Listener;
use tercel_transport::memory::MemoryTransport;
use tercel_transport::{ConnId, Transport};
use tercel_transport_tcp::{Error, ListenAddr, ListenerId, TcpTransport};

use crate::network::{ANYWHERE, RdmaReport, check_rdma};
use crate::settings::Settings;

/// What the executor needs of a transport beyond moving bytes.
pub trait Front: Transport {
    /// The connection's file descriptor, -1 where there is none.
    fn descriptor(&self, _conn: ConnId) -> i32 {
        -1
    }

    /// Follows settings that changed.
    fn follow(&mut self, _listeners: &mut Listeners, _old: &Settings, _new: &Settings) {}

    /// Logs what happened on the RDMA side, if there is one, and tells how it stands.
    fn report_rdma(&mut self) -> Option<RdmaReport> {
        None
    }
}

/// Listeners in force.
#[derive(Default)]
pub struct Listeners {
    tcp: Vec<ListenerId>,
    unix: Option<ListenerId>,
    pub(crate) rdma: Vec<Listener>,
}

/// Why listening failed.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address of `bind` that is none.
    #[error("Invalid bind address '{0}'")]
    InvalidAddress(String),
    /// An address that cannot be had.
    #[error("Could not create server TCP listening socket {addr}: {reason}")]
    Tcp {
        /// The address.
        addr: String,
        /// The operating system's words.
        reason: String,
    },
    /// An RDMA address that cannot be had.
    #[error("Could not create server RDMA listening id {addr}: {reason}")]
    Rdma {
        /// The address.
        addr: String,
        /// The device's words.
        reason: String,
    },
    /// Nothing to listen with.
    #[error("RDMA is not available: {0}")]
    NoRdma(String),
    /// The unix socket cannot be had.
    #[error("Failed opening Unix socket: {0}")]
    Unix(String),
}

/// An address to bind, and whether the server starts without it.
pub(crate) struct Bind {
    pub(crate) addr: SocketAddr,
    pub(crate) optional: bool,
}

fn binds(settings: &Settings) -> Result<Vec<Bind>, ListenError> {
    binds_of(&settings.bind.0, settings.port)
}

/// Where to listen for RDMA: where `rdma-bind` says, or everywhere if it says nothing.
pub(crate) fn rdma_binds(settings: &Settings) -> Result<Vec<Bind>, ListenError> {
    if settings.rdma_bind.0.is_empty() && settings.rdma_port != 0 {
        return Ok(vec![Bind { addr: SocketAddr::new(ANYWHERE, settings.rdma_port as u16), optional: false }]);
    }
    binds_of(&settings.rdma_bind.0, settings.rdma_port)
}

fn binds_of(addresses: &[String], port: i64) -> Result<Vec<Bind>, ListenError> {
    if port == 0 {
        return Ok(Vec::new());
    }
    addresses
        .iter()
        .map(|text| {
            let (optional, text) = text.strip_prefix('-').map_or((false, text.as_str()), |rest| (true, rest));
            let ip = match text {
                "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                "::*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
                other => other.parse().map_err(|_| ListenError::InvalidAddress(other.to_owned()))?,
            };
            Ok(Bind { addr: SocketAddr::new(ip, port as u16), optional })
        })
        .collect()
}

/// Whether the addresses of `new` that `old` does not have can be bound.
///
/// # Errors
/// [`ListenError`] for the first that cannot.
pub fn check(old: &Settings, new: &Settings) -> Result<(), ListenError> {
    let held: Vec<SocketAddr> = binds(old)?.into_iter().map(|bind| bind.addr).collect();
    for bind in binds(new)? {
        if held.contains(&bind.addr) {
            continue;
        }
        if let Err(error) = TcpListener::bind(bind.addr)
            && !bind.optional
        {
            return Err(ListenError::Tcp { addr: bind.addr.to_string(), reason: error.to_string() });
        }
    }
    let held: Vec<SocketAddr> = rdma_binds(old)?.into_iter().map(|bind| bind.addr).collect();
    for bind in rdma_binds(new)? {
        if held.contains(&bind.addr) {
            continue;
        }
        if let Err(error) = check_rdma(bind.addr)
            && !bind.optional
        {
            return Err(ListenError::Rdma { addr: bind.addr.to_string(), reason: error.to_string() });
        }
    }
    Ok(())
}

/// How often an address in use is tried again at start, and how long apart: a server that was killed holds
/// its sockets a moment longer, because the kernel takes its ring apart after the process is gone.
const IN_USE_RETRIES: u32 = 20;
const IN_USE_REST: Duration = Duration::from_millis(50);

// At start nobody is served yet whom a sleep could hold up.
#[allow(clippy::disallowed_methods)]
fn listen_patiently(
    transport: &mut TcpTransport,
    addr: &ListenAddr,
    backlog: u32,
    retries: u32,
) -> Result<ListenerId, Error> {
    for _ in 0..retries {
        match transport.listen(addr, backlog) {
            Err(error) if error.is_in_use() => std::thread::sleep(IN_USE_REST),
            other => return other,
        }
    }
    transport.listen(addr, backlog)
}

/// Listens on what the settings say.
///
/// # Errors
/// [`ListenError`] if an address that is not optional cannot be had.
pub fn listen(transport: &mut TcpTransport, settings: &Settings) -> Result<Listeners, ListenError> {
    let mut listeners = Listeners { tcp: listen_tcp(transport, settings, IN_USE_RETRIES)?, ..Listeners::default() };
    if !settings.unixsocket.is_empty() {
        let mode = Some(settings.unixsocketperm.0).filter(|mode| *mode != 0);
        let addr = ListenAddr::Unix { path: settings.unixsocket.clone().into(), mode };
        let id = listen_patiently(transport, &addr, settings.tcp_backlog as u32, IN_USE_RETRIES)
            .map_err(|error| ListenError::Unix(error.to_string()))?;
        listeners.unix = Some(id);
        if !settings.unixsocketgroup.is_empty() {
            set_group(&settings.unixsocket, &settings.unixsocketgroup).inspect_err(|_| transport.unlisten(id))?;
        }
    }
    Ok(listeners)
}

/// Gives the socket at `path` to a group, named or numbered.
fn set_group(path: &str, group: &str) -> Result<(), ListenError> {
    let gid = match group.parse() {
        Ok(gid) => gid,
        Err(_) => match nix::unistd::Group::from_name(group) {
            Ok(Some(group)) => group.gid.as_raw(),
            _ => return Err(ListenError::Unix(format!("there is no group '{group}'"))),
        },
    };
    std::os::unix::fs::chown(path, None, Some(gid))
        .map_err(|error| ListenError::Unix(format!("can't give {path} to group '{group}': {error}")))
}

fn listen_tcp(transport: &mut TcpTransport, settings: &Settings, retries: u32) -> Result<Vec<ListenerId>, ListenError> {
    let mut ids = Vec::new();
    for bind in binds(settings)? {
        match listen_patiently(
            transport,
            &ListenAddr::Tcp(bind.addr),
            settings.tcp_backlog as u32,
            if bind.optional { 0 } else { retries },
        ) {
            Ok(id) => ids.push(id),
            Err(error) if bind.optional => tracing::debug!("not listening on {}: {error}", bind.addr),
            Err(error) => {
                ids.into_iter().for_each(|id| transport.unlisten(id));
                return Err(ListenError::Tcp { addr: bind.addr.to_string(), reason: error.to_string() });
            }
        }
    }
    Ok(ids)
}

impl Listeners {
    /// Stops listening.
    pub fn close(&mut self, transport: &mut TcpTransport) {
        for id in self.tcp.drain(..).chain(self.unix.take()) {
            transport.unlisten(id);
        }
    }
}

/// Tests run an executor without a network.
impl Front for MemoryTransport {}

impl Front for TcpTransport {
    fn descriptor(&self, conn: ConnId) -> i32 {
        self.raw_fd(conn).unwrap_or(-1)
    }

    fn follow(&mut self, listeners: &mut Listeners, old: &Settings, new: &Settings) {
        if old.tcp_keepalive != new.tcp_keepalive {
            self.set_keepalive_seconds(new.tcp_keepalive as u32);
        }
        if old.port != new.port || old.bind != new.bind {
            for id in listeners.tcp.drain(..) {
                self.unlisten(id);
            }
            match listen_tcp(self, new, 0) {
                Ok(ids) => listeners.tcp = ids,
                // It could be bound a moment ago; going on without is better than ending.
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }
}
