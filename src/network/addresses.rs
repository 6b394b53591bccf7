//! From settings to addresses: which, in which order, and what it means when one cannot be had.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tercel_core::settings::Settings;

/// Every IPv4 address of the host.
const ANYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

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
pub(super) struct Bind {
    pub(super) addr: SocketAddr,
    pub(super) optional: bool,
}

pub(super) fn binds(settings: &Settings) -> Result<Vec<Bind>, ListenError> {
    binds_of(&settings.bind.0, settings.port)
}

/// Where to listen for RDMA: where `rdma-bind` says, or everywhere if it says nothing.
pub(super) fn rdma_binds(settings: &Settings) -> Result<Vec<Bind>, ListenError> {
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
