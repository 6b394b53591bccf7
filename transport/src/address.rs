//! Where a transport can connect to, and how.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Where somebody listens. A transport serves some kinds of address and says so of the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix-domain socket, by its path.
    Unix(PathBuf),
    /// RDMA, by the IP address of the device.
    Rdma(SocketAddr),
    /// The in-memory transport: a number that was given a meaning by
    /// [`MemoryTransport::set_route`](crate::memory::MemoryTransport::set_route).
    Memory(u64),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(addr) => write!(f, "tcp://{addr}"),
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Rdma(addr) => write!(f, "rdma://{addr}"),
            Address::Memory(number) => write!(f, "memory://{number}"),
        }
    }
}

/// How to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// After so long without an answer the dial fails. The in-memory transport, which knows no time, counts
    /// polls instead.
    pub timeout: Duration,
    /// The address of ours to come from, where the kind of address has such a thing; any port of it.
    pub source: Option<IpAddr>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions { timeout: Duration::from_secs(5), source: None }
    }
}

/// Why a dial could not even begin. What fails later, a refusal among it, comes as a
/// [`Hangup`](crate::Event::Hangup).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// This transport serves no addresses of that kind.
    Unsupported,
    /// The operating system's error number: no descriptors left, the source address is not ours.
    Os(i32),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Unsupported => f.write_str("no such kind of address is served"),
            ConnectError::Os(errno) => std::io::Error::from_raw_os_error(*errno).fmt(f),
        }
    }
}

impl std::error::Error for ConnectError {}
