//! The clients together.

use std::fmt::Write as _;

use super::Totals;
use tercel_core::server::Server;

pub(super) fn section(out: &mut String, server: &Server, totals: &Totals) {
    let counters = server.clients().counters();
    let (waiting, with_deadline) = server.clients().waiting();
    fields!(out,
        "connected_clients": server.clients().len(),
        "cluster_connections": 0,
        "maxclients": server.settings().maxclients,
        "client_recent_max_input_buffer": counters.recent_input_max,
        "client_recent_max_output_buffer": counters.recent_output_max,
        "blocked_clients": waiting,
        "tracking_clients": 0,
        "pubsub_clients": totals.pubsub,
        "watching_clients": totals.watching,
        "clients_in_timeout_table": with_deadline,
        "total_watched_keys": server.clients().watched_keys(),
        "total_blocking_keys": server.clients().waited_keys().count(),
        "total_blocking_keys_on_nokey": 0,
    );
    let pause = server.clients().pause().filter(|pause| pause.until_ms > server.now().unix_ms);
    fields!(out,
        "paused_reason": if pause.is_some() { "client_pause" } else { "none" },
        "paused_actions": pause.map_or("none", |pause| if pause.writes_only { "write" } else { "all" }),
        "paused_timeout_milliseconds": pause.map_or(0, |pause| pause.until_ms - server.now().unix_ms),
    );
}
