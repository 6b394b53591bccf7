//! Where a server is, as a user writes it: `tcp://host:port`, `unix:///path`.

use std::fmt;
use std::net::ToSocketAddrs;
use std::str::FromStr;

use anyhow::{Context, bail};
use tercel_transport::client::Client;
use tercel_transport_tcp::{ClientAddr, SocketClient};

/// A client of any kind.
pub type AnyClient = Box<dyn Client + Send>;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(ClientAddr);

impl Target {
    /// A TCP target.
    #[must_use]
    pub fn tcp(addr: std::net::SocketAddr) -> Self {
        Target(ClientAddr::Tcp(addr))
    }

    /// A unix-socket target.
    #[must_use]
    pub fn unix(path: impl Into<std::path::PathBuf>) -> Self {
        Target(ClientAddr::Unix(path.into()))
    }

    /// A client for it, without connections yet.
    ///
    /// # Errors
    /// The operating system refuses a descriptor.
    pub fn client(&self) -> anyhow::Result<AnyClient> {
        Ok(Box::new(SocketClient::new(self.0.clone()).with_context(|| format!("cannot prepare a client for {self}"))?))
    }

    /// The socket address.
    #[must_use]
    pub fn addr(&self) -> &ClientAddr {
        &self.0
    }

    /// `tcp`, `unix`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self.0 {
            ClientAddr::Tcp(_) => "tcp",
            ClientAddr::Unix(_) => "unix",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        match scheme {
            "tcp" | "redis" | "valkey" => {
                let addr = rest.trim_end_matches('/');
                if addr.contains('/') || !addr.contains(':') {
                    bail!("{text:?} is no target: want tcp://HOST:PORT or unix:///PATH");
                }
                let mut found = addr.to_socket_addrs().with_context(|| format!("cannot resolve {addr:?}"))?;
                match found.next() {
                    Some(addr) => Ok(Target(ClientAddr::Tcp(addr))),
                    None => bail!("{addr:?} has no address"),
                }
            }
            "unix" if rest.starts_with('/') => Ok(Target(ClientAddr::Unix(rest.into()))),
            "unix" => bail!("{text:?} is no target: a unix socket is written unix:///absolute/path"),
            "rdma" => bail!("rdma:// has no client in this build; it speaks tcp:// and unix://"),
            other => bail!("unknown scheme {other:?} in {text:?}: want tcp://HOST:PORT or unix:///PATH"),
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
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), shown);
        }
        for (text, word) in [
            ("tcp://localhost", "no target"),
            ("unix://x", "absolute"),
            ("rdma://h:1", "rdma"),
            ("http://x:1", "scheme"),
            ("", "no target"),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
