//! Tercel: a Valkey-compatible in-memory data store for one fast fabric. See ARCHITECTURE.md.

#![deny(unsafe_code)]

pub mod executor;
pub mod metrics;
pub mod network;
pub mod process;
pub mod start;
