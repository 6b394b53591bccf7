//! Where and how servers are started.

use std::net::IpAddr;
use std::time::Duration;

use crate::cores::cores;
use crate::target::Over;

/// Where and how servers are started.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Servers")]
pub struct Placement {
    /// Over what a server given as exec:COMMAND is spoken to
    #[arg(long, value_enum, default_value = "tcp")]
    pub over: Over,
    /// Core a server given as exec:COMMAND is pinned to [default: the first core if there are two]
    #[arg(long, value_name = "CORE")]
    pub server_core: Option<usize>,
    /// Address of an RDMA adapter of this host, for --over rdma
    #[arg(long, value_name = "ADDRESS")]
    pub rdma_addr: Option<IpAddr>,
    /// Seconds a server given as exec:COMMAND may take to answer PING after its start
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub start_timeout: f64,
}

impl Placement {
    /// The core servers are pinned to.
    #[must_use]
    pub fn core(&self) -> Option<usize> {
        let cores = cores();
        self.server_core.or(if cores.len() > 1 { cores.first().copied() } else { None })
    }

    /// How long a server may take to come up.
    #[must_use]
    pub fn start_patience(&self) -> Duration {
        Duration::from_secs_f64(self.start_timeout.clamp(0.0, 1e6))
    }
}
