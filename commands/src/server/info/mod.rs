//! INFO: sections and fields as Valkey names them, a file a section. A field whose feature this version does
//! not have says so with the value Valkey shows when it is off.

use std::fmt::Write as _;

use tercel_core::clients::{ClientClass, Session};
use tercel_core::command::args::Args;
use tercel_core::command::error::Outcome;
use tercel_core::command::parse::lossy;
use tercel_core::dispatch::Context;
use tercel_core::server::Server;

/// Writes `name:value` lines.
macro_rules! fields {
    ($out:expr, $($name:literal: $value:expr),+ $(,)?) => {{ $( let _ = write!($out, concat!($name, ":{}\r\n"), $value); )+ }};
}

mod clients;
mod cluster;
mod commands;
mod cpu;
mod keyspace;
mod memory;
mod persistence;
mod rdma;
mod replication;
mod server;
mod stats;
mod tercel;

/// Writes one section.
type Section = fn(&mut String, &Server, &Totals);

/// Sections in order, and whether plain INFO shows them.
const SECTIONS: &[(&str, bool, Section)] = &[
    ("server", true, server::section),
    ("clients", true, clients::section),
    ("memory", true, memory::section),
    ("persistence", true, persistence::section),
    ("stats", true, stats::section),
    ("replication", true, replication::section),
    ("cpu", true, cpu::section),
    // There are none.
    ("modules", true, |_, _, _| {}),
    ("commandstats", false, commands::commandstats),
    ("errorstats", true, commands::errorstats),
    ("latencystats", false, commands::latencystats),
    ("cluster", true, cluster::section),
    ("keyspace", true, keyspace::section),
    ("rdma", true, rdma::section),
    ("tercel", true, tercel::section),
];

/// What is looked up before the text is written: sums over all clients, and the memory in use before
/// this command took any for itself.
#[derive(Default)]
struct Totals {
    used_memory: usize,
    pubsub: usize,
    watching: usize,
    memory: usize,
}

pub(super) fn info(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let mut totals = Totals { used_memory: cx.server.data().memory_used(), ..Totals::default() };
    let wanted: Vec<String> = args.rest(1).map(|name| lossy(name).to_ascii_lowercase()).collect();
    let all = wanted.iter().any(|name| matches!(name.as_str(), "all" | "everything"));
    let defaults = wanted.is_empty() || wanted.iter().any(|name| name == "default");
    let mut add = |session: &Session, memory: usize| {
        totals.pubsub += usize::from(session.class() == ClientClass::Pubsub);
        totals.watching += usize::from(!session.transaction.watched().is_empty());
        totals.memory += memory;
    };
    if let Some(own) = cx.client.as_deref() {
        add(own, own.own_memory() + own.output.held.memory);
    }
    for key in cx.server.clients().keys() {
        if let Some(client) = cx.server.clients().get(key) {
            add(&client.session, client.memory());
        }
    }
    let text = sections(cx.server, &totals, |name, default| {
        all || (defaults && default) || wanted.iter().any(|wanted| wanted == name)
    });
    cx.out.verbatim(&text);
    Ok(())
}

fn sections(server: &Server, totals: &Totals, wanted: impl Fn(&str, bool) -> bool) -> String {
    let mut text = String::with_capacity(8192);
    for (name, default, write) in SECTIONS {
        if wanted(name, *default) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let mut heading = (*name).to_owned();
            heading[..1].make_ascii_uppercase();
            if *name == "cpu" {
                heading = "CPU".to_owned();
            }
            let _ = write!(text, "# {heading}\r\n");
            write(&mut text, server, totals);
        }
    }
    text
}
