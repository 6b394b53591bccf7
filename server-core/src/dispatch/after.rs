//! What follows a command that ran: the logs of slow and large ones, and monitors.

use crate::clients::client::{Connection, ReplyMode};
use crate::command::parse::quote_into;
use crate::command::{Args, Spec};
use crate::server::Core;
use crate::stats::commandlog::{self, Kind};

pub(super) fn log_command(
    core: &mut Core,
    connection: &Connection,
    spec: &Spec,
    args: &Args<'_>,
    took_ns: u64,
    request_len: usize,
    reply_len: usize,
) {
    let settings = &core.settings;
    let candidates = [
        (
            Kind::Slow,
            (took_ns / 1000) as i64,
            settings.commandlog_execution_slower_than,
            settings.commandlog_slow_execution_max_len,
        ),
        (
            Kind::LargeRequest,
            request_len as i64,
            settings.commandlog_request_larger_than,
            settings.commandlog_large_request_max_len,
        ),
        (
            Kind::LargeReply,
            reply_len as i64,
            settings.commandlog_reply_larger_than,
            settings.commandlog_large_reply_max_len,
        ),
    ];
    for (kind, value, limit, len_max) in candidates {
        if limit < 0 || value < limit {
            continue;
        }
        let entry = commandlog::Entry {
            id: 0,
            unix_seconds: core.now.unix_ms / 1000,
            value,
            args: commandlog::shorten((0..args.len()).map(|index| spec.shown(args, index))),
            address: connection.session.address(),
            name: connection.session.name.clone(),
        };
        core.stats.logs.log(kind).push(entry, len_max as usize);
    }
}

pub(super) fn feed_monitors(core: &mut Core, connection: &Connection, spec: &Spec, args: &Args<'_>) {
    let now = core.now;
    let mut line = format!(
        "{}.{:06} [{} {}]",
        now.unix_us / 1_000_000,
        now.unix_us % 1_000_000,
        connection.session.db,
        match &connection.session.peer {
            tercel_transport::Peer::Unix { path } => format!("unix:{path}"),
            _ => connection.session.address(),
        }
    )
    .into_bytes();
    for index in 0..args.len() {
        line.push(b' ');
        quote_into(&mut line, spec.shown(args, index));
    }
    for &key in &core.clients.monitors.clone() {
        // Lines are replies, to one that wants none as well.
        let mode = if key == connection.session.key {
            Some(connection.session.reply_mode)
        } else {
            core.clients.get(key).map(|connection| connection.session.reply_mode)
        };
        if mode == Some(ReplyMode::Off) {
            continue;
        }
        core.write_to(key, |out| out.encode(|into, _| tercel_resp::encode::simple(into, &line)));
    }
}
