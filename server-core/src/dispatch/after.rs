//! What follows a command that ran: statistics, the logs of slow and large ones, and monitors.

use super::context::Context;
use crate::command::Args;
use crate::command::parse::quote_into;
use crate::command::spec::flags;
use crate::stats::commandlog::{self, Kind};
use crate::stats::latency;

/// Counts a command that is done, and puts it into the logs it belongs in.
#[inline]
pub(super) fn count_and_log(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    took_ns: u64,
    failed: bool,
    request_len: usize,
    reply_len: usize,
) {
    let (id, spec) = (cx.id, cx.spec);
    let parts = cx.server.parts();
    let (stats, settings) = (parts.stats, parts.settings);
    stats.record_command(id, cx.caller.kind, took_ns, failed, settings.latency_tracking);
    let event = if spec.is(flags::FAST) { latency::FAST_COMMAND } else { latency::COMMAND };
    stats.latency_mut().record(event, took_ns, parts.now.unix_ms, settings.latency_monitor_threshold);
    let over = |value: u64, limit: i64| limit >= 0 && value as i64 >= limit;
    if (over(took_ns / 1000, settings.commandlog_execution_slower_than)
        || over(request_len as u64, settings.commandlog_request_larger_than)
        || over(reply_len as u64, settings.commandlog_reply_larger_than))
        && !spec.is(flags::SKIP_COMMANDLOG)
    {
        log_command(cx, args, took_ns, request_len, reply_len);
    }
}

fn log_command(cx: &mut Context<'_>, args: &Args<'_>, took_ns: u64, request_len: usize, reply_len: usize) {
    let spec = cx.spec;
    let parts = cx.server.parts();
    let settings = parts.settings;
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
        let client = cx.client.as_deref();
        let entry = commandlog::Entry {
            id: 0,
            unix_seconds: parts.now.unix_ms / 1000,
            value,
            args: commandlog::shorten((0..args.len()).map(|index| spec.shown(args, index))),
            address: client.map_or_else(String::new, |session| session.address()),
            name: client.map_or_else(String::new, |session| session.names.name.clone()),
        };
        parts.stats.logs_mut().log_mut(kind).push(entry, len_max as usize);
    }
}

pub(super) fn feed_monitors(cx: &mut Context<'_>, args: &Args<'_>) {
    let now = cx.server.now();
    let client = cx.client.as_deref();
    let address = client.map_or_else(String::new, |session| match session.peer() {
        tercel_transport::Peer::Unix { path } => format!("unix:{path}"),
        _ => session.address(),
    });
    let mut line =
        format!("{}.{:06} [{} {address}]", now.unix_us / 1_000_000, now.unix_us % 1_000_000, cx.caller.db).into_bytes();
    for index in 0..args.len() {
        line.push(b' ');
        quote_into(&mut line, cx.spec.shown(args, index));
    }
    let current = client.map(|session| (session.key(), session.output.reply_mode));
    cx.server.clients_mut().tell_monitors(&line, current);
}
