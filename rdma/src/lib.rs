//! Valkey over RDMA for Tercel: the wire ([`proto`]), the seam to a verbs provider ([`verbs`]) and a
//! provider in software ([`software`]). Neither RESP nor commands are known.
#![forbid(unsafe_code)]

pub mod proto;
pub mod software;
pub mod verbs;
