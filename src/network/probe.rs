//! Whether addresses can be listened on, before settings ask for them.

use std::net::{SocketAddr, TcpListener};

use tercel_rdma::hca::{HcaDevice, HcaOptions};
use tercel_rdma::verbs::{Device, VerbsError};

use super::addresses::{ListenError, binds, rdma_binds};
use tercel_core::settings::Settings;

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

/// Whether an address can be listened on for RDMA: tried, and let go.
///
/// # Errors
/// There is nothing to listen with, or the address cannot be had.
fn check_rdma(addr: SocketAddr) -> Result<(), VerbsError> {
    let mut device = HcaDevice::open(HcaOptions { cq_depth: 1, ..HcaOptions::default() })?;
    device.listen(addr, 1).map(|listener| device.unlisten(listener))
}
