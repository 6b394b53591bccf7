//! Listening on what the settings say, and following them.

use std::time::Duration;

use tercel_rdma::verbs::Listener;
use tercel_transport_tcp::{Error, ListenAddr, ListenerId, TcpTransport};

use super::addresses::{ListenError, binds};
use tercel_core::settings::Settings;

/// Listeners in force.
#[derive(Default)]
pub struct Listeners {
    tcp: Vec<ListenerId>,
    unix: Option<ListenerId>,
    pub(crate) rdma: Vec<Listener>,
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
    /// Follows settings that changed.
    pub fn follow(&mut self, transport: &mut TcpTransport, old: &Settings, new: &Settings) {
        if old.tcp_keepalive != new.tcp_keepalive {
            transport.set_keepalive_seconds(new.tcp_keepalive as u32);
        }
        if old.port != new.port || old.bind != new.bind {
            for id in self.tcp.drain(..) {
                transport.unlisten(id);
            }
            match listen_tcp(transport, new, 0) {
                Ok(ids) => self.tcp = ids,
                // It could be bound a moment ago; going on without is better than ending.
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }

    /// Stops listening.
    pub fn close(&mut self, transport: &mut TcpTransport) {
        for id in self.tcp.drain(..).chain(self.unix.take()) {
            transport.unlisten(id);
        }
    }
}
