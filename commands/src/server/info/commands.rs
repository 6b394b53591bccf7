//! What was measured of each command, and errors by code.

use std::fmt::Write as _;

use super::Totals;
use tercel_core::server::Server;

pub(super) fn commandstats(out: &mut String, server: &Server, _: &Totals) {
    for (id, command) in server.table().all() {
        let stats = server.stats().command(id);
        if stats.calls + stats.rejected + stats.failed == 0 {
            continue;
        }
        let usec = stats.total_ns / 1000;
        let per_call = stats.total_ns as f64 / 1000.0 / stats.calls.max(1) as f64;
        let _ = write!(
            out,
            "cmdstat_{}:calls={},usec={usec},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}\r\n",
            command.name, stats.calls, stats.rejected, stats.failed
        );
    }
}

pub(super) fn errorstats(out: &mut String, server: &Server, _: &Totals) {
    for (code, count) in server.stats().errors() {
        let _ = write!(out, "errorstat_{code}:count={count}\r\n");
    }
}

pub(super) fn latencystats(out: &mut String, server: &Server, _: &Totals) {
    let percentiles = &server.settings().latency_tracking_info_percentiles.0;
    let line = |out: &mut String, name: &str, histogram: &hdrhistogram::Histogram<u64>| {
        let shown: Vec<String> = percentiles
            .iter()
            .map(|percentile| {
                format!("p{percentile}={:.3}", histogram.value_at_quantile(percentile / 100.0) as f64 / 1000.0)
            })
            .collect();
        let _ = write!(out, "latency_percentiles_usec_{name}:{}\r\n", shown.join(","));
    };
    for (id, command) in server.table().all() {
        if let Some(histogram) = &server.stats().command(id).histogram {
            line(out, command.name, histogram);
        }
    }
}
