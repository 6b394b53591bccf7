//! Metrics for a scraper: a thread that speaks HTTP ([`serve`]), and the text, which the executor makes
//! between two turns when it is asked. The thread never sees the executor's data.

mod http;

use std::sync::mpsc;

use tokio::sync::oneshot;

use std::fmt::Write as _;

pub use http::serve;

use tercel_transport::PeerKind;
use tercel_transport::report::Value;

use tercel_core::server::Server;
use tercel_core::stats::PHASES;

/// A question for the metrics, answered between turns.
pub struct Query {
    /// Where the answer goes.
    pub reply: oneshot::Sender<String>,
}

/// Answers questions that wait; for the executor to call when it is woken.
pub fn answer(queries: &mpsc::Receiver<Query>, server: &Server) {
    while let Ok(query) = queries.try_recv() {
        // The asker may have given up; that is its business.
        if !query.reply.is_closed() {
            let _ = query.reply.send(render(server));
        }
    }
}

/// The metrics as Prometheus text.
#[must_use]
pub fn render(server: &Server) -> String {
    let mut out = String::with_capacity(16 * 1024);
    let stats = server.stats();
    let (totals, turns, transport) = (stats.totals(), stats.turns(), stats.transport());
    let (data, clients) = (server.data().counters(), server.clients().counters());
    let mut metric = |name: &str, kind: &str, help: &str, value: f64| {
        let _ = writeln!(out, "# HELP tercel_{name} {help}\n# TYPE tercel_{name} {kind}\ntercel_{name} {value}");
    };
    metric(
        "uptime_seconds",
        "gauge",
        "Seconds since start.",
        server.now().mono_ns.saturating_sub(stats.started().mono_ns) as f64 / 1e9,
    );
    metric("connected_clients", "gauge", "Clients connected.", server.clients().len() as f64);
    metric("connections_total", "counter", "Connections accepted.", clients.received as f64);
    metric("rejected_connections_total", "counter", "Connections refused.", clients.rejected as f64);
    metric("commands_total", "counter", "Commands run.", totals.commands as f64);
    metric("error_replies_total", "counter", "Errors answered.", totals.error_replies as f64);
    metric("keyspace_hits_total", "counter", "Reads that found their key.", data.hits as f64);
    metric("keyspace_misses_total", "counter", "Reads that did not.", data.misses as f64);
    metric("expired_keys_total", "counter", "Keys expired.", data.expired_keys as f64);
    metric("evicted_keys_total", "counter", "Keys evicted.", data.evicted_keys as f64);
    metric("received_bytes_total", "counter", "Bytes received.", transport.received_bytes as f64);
    metric("sent_bytes_total", "counter", "Bytes sent.", transport.sent_bytes as f64);
    metric("memory_used_bytes", "gauge", "Memory in use.", server.data().memory_used() as f64);
    metric("memory_max_bytes", "gauge", "maxmemory.", server.settings().maxmemory.0 as f64);
    for figure in stats.transport_report().into_iter().flatten() {
        let Some(help) = figure.metric_help else { continue };
        match &figure.value {
            Value::Gauge(value) => metric(figure.name, "gauge", help, *value as f64),
            Value::Counter(value) => metric(&format!("{}_total", figure.name), "counter", help, *value as f64),
            Value::Text(_) => {}
        }
    }
    metric("turns_total", "counter", "Turns of the loop that did something.", turns.busy_turns as f64);
    metric("turn_seconds_max", "gauge", "Longest turn.", turns.turn_ns_max as f64 / 1e9);
    metric("parks_total", "counter", "Times the executor slept.", turns.parks as f64);
    let _ = writeln!(out, "# HELP tercel_keys Keys in a database.\n# TYPE tercel_keys gauge");
    for (db, keys) in server.data().filled() {
        let _ = writeln!(out, "tercel_keys{{db=\"{db}\"}} {}", keys.len());
    }
    let _ = writeln!(
        out,
        "# HELP tercel_phase_seconds Time commands spend in a phase.\n# TYPE tercel_phase_seconds summary"
    );
    for (kind, carried) in PeerKind::ALL {
        for (phase, name) in PHASES {
            let histogram = stats.phase(phase, kind);
            if kind == PeerKind::Socket || !histogram.is_empty() {
                summary(
                    &mut out,
                    "tercel_phase_seconds",
                    &format!("phase=\"{name}\",transport=\"{carried}\""),
                    histogram,
                    None,
                );
            }
        }
    }
    let _ = writeln!(out, "# HELP tercel_command_seconds Time commands run.\n# TYPE tercel_command_seconds summary");
    for (id, command) in server.table().all() {
        let stats = stats.command(id);
        if let Some(histogram) = &stats.histogram {
            summary(
                &mut out,
                "tercel_command_seconds",
                &format!("command=\"{}\"", command.name),
                histogram,
                Some(stats.total_ns),
            );
        }
    }
    out
}

fn summary(out: &mut String, name: &str, label: &str, histogram: &hdrhistogram::Histogram<u64>, sum_ns: Option<u64>) {
    for quantile in [0.5, 0.9, 0.99, 0.999, 0.9999] {
        let _ = writeln!(
            out,
            "{name}{{{label},quantile=\"{quantile}\"}} {}",
            histogram.value_at_quantile(quantile) as f64 / 1e9
        );
    }
    let sum = sum_ns.map_or_else(|| histogram.mean() * histogram.len() as f64 / 1e9, |ns| ns as f64 / 1e9);
    let _ = writeln!(out, "{name}_sum{{{label}}} {sum}\n{name}_count{{{label}}} {}", histogram.len());
}
