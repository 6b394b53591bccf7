//! What only this server has.

use std::fmt::Write as _;

use super::Totals;
use tercel_core::server::Server;

pub(super) fn section(out: &mut String, server: &Server, _: &Totals) {
    let stats = server.stats();
    let turns = stats.turns();
    fields!(out,
        "transport": server.host().process().multiplexing_api,
        "pinned_core": server.host().process().pinned_core.map_or_else(|| "none".to_owned(), |core| core.to_string()),
        "busy_poll_us": server.settings().busy_poll_us,
        "turns": turns.turns,
        "parks": turns.parks,
        "turn_usec_max": turns.turn_ns_max / 1000,
        "prefetch_batches": turns.prefetch_batches,
        "prefetch_keys": turns.prefetch_keys,
    );
    for (name, histogram) in tercel_core::stats::PHASES.iter().flat_map(|(phase, _)| stats.phase_histograms(*phase)) {
        let us = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        let name = name.replace('-', "_");
        let _ = write!(out, "phase_{name}_usec:p50={:.3},p99={:.3},p999={:.3}\r\n", us(0.5), us(0.99), us(0.999));
    }
}
