//! Where a server is, as a user writes it: `tcp://host:port`, `rdma://host:port`, `unix:///path`.
//!
//! This is the seam to the networks: a scheme is a variant of [`Target`] here, whose
//! [`Target::client`] returns a [`Client`], and one of [`Over`] for servers the
//! program starts. Nobody else tells networks apart but the echo of [`crate::floor`].

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use tercel_rdma::RdmaClient;
use tercel_rdma::endpoint::Options;
use tercel_rdma::hca::{HcaDevice, HcaOptions};
use tercel_rdma::raw::RawClient;
use tercel_transport::client::Client;
use tercel_transport_tcp::{ClientAddr, SocketClient};

/// A client of any kind.
pub type AnyClient = Box<dyn Client + Send>;

/// Over what a started server is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// Loopback TCP.
    #[default]
    Tcp,
    /// A unix socket.
    Unix,
    /// RDMA, on the adapter of --rdma-addr
    Rdma,
}

impl Over {
    /// `tcp`, `unix`, `rdma`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Over::Tcp => "tcp",
            Over::Unix => "unix",
            Over::Rdma => "rdma",
        }
    }

    /// What a command line must name, so that its server can be found over this.
    #[must_use]
    pub fn placeholder(self) -> &'static str {
        match self {
            Over::Tcp | Over::Rdma => "{port}",
            Over::Unix => "{socket}",
        }
    }

    /// Where a server is that was told this port and this path, with RDMA on the adapter of an address.
    #[must_use]
    pub fn target(self, port: SocketAddr, socket: &Path, rdma_addr: Option<IpAddr>) -> Target {
        match self {
            Over::Tcp => Target::Tcp(port),
            Over::Unix => Target::Unix(socket.to_owned()),
            Over::Rdma => Target::Rdma(SocketAddr::new(rdma_addr.unwrap_or(port.ip()), port.port())),
        }
    }
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `tcp://`
    Tcp(SocketAddr),
    /// `unix://`
    Unix(PathBuf),
    /// `rdma://`
    Rdma(SocketAddr),
    /// The echo of a floor over RDMA: bare work requests, not the protocol
    RawRdma(SocketAddr),
}

impl Target {
    /// A client for it, without connections yet.
    ///
    /// # Errors
    /// The operating system refuses a descriptor.
    pub fn client(&self) -> anyhow::Result<AnyClient> {
        let context = || format!("cannot prepare a client for {self}");
        Ok(match self {
            Target::Tcp(addr) => Box::new(SocketClient::new(ClientAddr::Tcp(*addr)).with_context(context)?),
            Target::Unix(path) => Box::new(SocketClient::new(ClientAddr::Unix(path.clone())).with_context(context)?),
            Target::Rdma(addr) => Box::new(
                RdmaClient::new(adapters().with_context(context)?, Options::default(), *addr).with_context(context)?,
            ),
            Target::RawRdma(addr) => {
                Box::new(RawClient::new(adapters().with_context(context)?, Options::default(), *addr))
            }
        })
    }

    /// Over what it is spoken to.
    #[must_use]
    pub fn over(&self) -> Over {
        match self {
            Target::Tcp(_) => Over::Tcp,
            Target::Unix(_) => Over::Unix,
            Target::Rdma(_) | Target::RawRdma(_) => Over::Rdma,
        }
    }

    /// `tcp`, `unix`, `rdma`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        self.over().name()
    }
}

/// This host's RDMA adapters, loaded when they are first asked for.
pub(crate) fn adapters() -> anyhow::Result<HcaDevice> {
    HcaDevice::open(HcaOptions::default()).context("RDMA is not available")
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(addr) => write!(f, "tcp://{addr}"),
            Target::Unix(path) => write!(f, "unix://{}", path.display()),
            Target::Rdma(addr) => write!(f, "rdma://{addr}"),
            Target::RawRdma(addr) => write!(f, "raw work requests to {addr}"),
        }
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        match scheme {
            "tcp" | "redis" | "valkey" | "rdma" => {
                let addr = rest.trim_end_matches('/');
                if addr.contains('/') || !addr.contains(':') {
                    bail!("{text:?} is no target: want tcp://HOST:PORT, rdma://HOST:PORT or unix:///PATH");
                }
                let mut found = addr.to_socket_addrs().with_context(|| format!("cannot resolve {addr:?}"))?;
                match found.next() {
                    Some(addr) if scheme == "rdma" => Ok(Target::Rdma(addr)),
                    Some(addr) => Ok(Target::Tcp(addr)),
                    None => bail!("{addr:?} has no address"),
                }
            }
            "unix" if rest.starts_with('/') => Ok(Target::Unix(rest.into())),
            "unix" => bail!("{text:?} is no target: a unix socket is written unix:///absolute/path"),
            other => {
                bail!("unknown scheme {other:?} in {text:?}: want tcp://HOST:PORT, rdma://HOST:PORT or unix:///PATH")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn targets_parse_or_say_why_not() {
        for (text, shown) in [
            ("tcp://127.0.0.1:6379", "tcp://127.0.0.1:6379"),
            ("127.0.0.1:1", "tcp://127.0.0.1:1"),
            ("redis://[::1]:6379/", "tcp://[::1]:6379"),
            ("unix:///run/x.sock", "unix:///run/x.sock"),
            ("rdma://10.0.0.1:6379", "rdma://10.0.0.1:6379"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), shown);
        }
        for (text, word) in [
            ("tcp://localhost", "no target"),
            ("unix://x", "absolute"),
            ("rdma://10.0.0.1", "no target"),
            ("http://x:1", "scheme"),
            ("", "no target"),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
