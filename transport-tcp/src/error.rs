//! What can go wrong while a transport starts or a listener opens. Nothing here ends a connection:
//! those errors travel as events.

use std::io;
use std::path::PathBuf;

/// Why a transport or a listener could not be made. Every variant ends the call, none the process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// io_uring was asked for by name and this host does not offer what it takes.
    #[error("io_uring is not usable here: {reason}")]
    IoUring {
        /// What was missing or refused.
        reason: String,
    },
    /// A descriptor the transport itself needs could not be made.
    #[error("cannot create {what}: {source}")]
    Setup {
        /// Which descriptor.
        what: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A step of opening a listener failed.
    #[error("cannot {step} {addr}: {source}")]
    Listen {
        /// `bind`, `listen on`, ...
        step: &'static str,
        /// The address as it was asked for.
        addr: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The path of a unix listener is taken by something that is not a socket.
    #[error("cannot bind {}: the path exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Another process answers on the path of a unix listener.
    #[error("cannot bind {}: another server is listening there", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
}

impl Error {
    /// Whether somebody else holds the address.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        match self {
            Error::InUse { .. } => true,
            Error::Listen { source, .. } => source.kind() == io::ErrorKind::AddrInUse,
            _ => false,
        }
    }
}
