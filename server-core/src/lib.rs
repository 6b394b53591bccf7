//! One Tercel server as a value: its rules and its state. It names no file, socket, thread, process or
//! environment, and no clock but its own: what it needs of the machine it is handed ([`host::Host`],
//! [`base::disk::Disk`]). See ARCHITECTURE.md for the order of its rooms.

#![forbid(unsafe_code)]

pub mod base;
pub mod clients;
pub mod command;
pub mod data;
pub mod dispatch;
pub mod host;
pub mod links;
pub mod persistence;
pub mod server;
pub mod settings;
pub mod stats;
