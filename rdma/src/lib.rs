//! Valkey over RDMA for Tercel: the wire ([`proto`]), the seam to a verbs provider ([`verbs`]), a
//! provider in software ([`software`]) and the one over rdma-core's libraries ([`hca`]), and the endpoint over them, as the executor's transport
//! ([`RdmaTransport`]) and as a load generator's client ([`RdmaClient`]); [`raw`] is the floor below it. Neither RESP nor commands are
//! known.
#![deny(unsafe_code)]

mod client;
pub mod endpoint;
pub mod hca;
pub mod proto;
pub mod raw;
pub mod software;
mod transport;
pub mod verbs;

pub use client::RdmaClient;
pub use transport::RdmaTransport;
