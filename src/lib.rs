//! Tercel: a Valkey-compatible in-memory data store for one fast fabric. See ARCHITECTURE.md.

#![deny(unsafe_code)]

pub mod base;
pub mod clients;
pub mod command;
pub mod commands;
pub mod data;
pub mod dispatch;
pub mod executor;
pub mod host;
pub mod metrics;
pub mod network;
pub mod persistence;
pub mod process;
pub mod server;
pub mod settings;
pub mod start;
pub mod stats;
