//! Tercel: a Valkey-compatible in-memory data store for one fast fabric. See ARCHITECTURE.md.

#![deny(unsafe_code)]

pub mod admin;
pub mod clock;
pub mod commands;
pub mod executor;
pub mod glob;
pub mod host_check;
pub mod listen;
pub mod logging;
pub mod network;
pub mod persistence;
pub mod reply;
pub mod server;
pub mod session;
pub mod settings;
pub mod state;
pub mod stats;
pub mod sys;
