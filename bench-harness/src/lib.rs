//! `tercel-bench`: honest tail latency of any RESP server.
//!
//! From the bottom: [`clock`] and the client seam of `tercel-transport` below [`load`], the one loop
//! that measures; [`workload`] says what is sent; [`recorder`] takes full histograms from the loop;
//! [`run`] puts one measurement together, with [`hiccup`] beside it. On top of that stand the
//! subcommands ([`compare`], [`scenario`], [`sweep`], [`bytes_per_key`], [`floor`]) and [`report`], which
//! alone knows how results look. Nothing here knows the inside of a server.

#![forbid(unsafe_code)]

pub mod admin;
pub mod bytes_per_key;
pub mod cli;
pub mod clock;
pub mod compare;
pub mod cores;
pub mod fingerprint;
pub mod floor;
pub mod hiccup;
pub mod histogram;
pub mod load;
pub mod null_server;
pub mod recorder;
pub mod report;
pub mod run;
pub mod scenario;
pub mod server;
pub mod sweep;
pub mod target;
pub mod workload;
