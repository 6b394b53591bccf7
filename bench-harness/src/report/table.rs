//! The tables on the terminal, in a form that can be pasted into a Markdown page.

use std::fmt::Write as _;

use super::layout::{cpu, head, markdown, rate, row, share};
use super::views::bytes_per_key;
use super::{Report, ResultView};
use crate::histogram::{PERCENTILES, Summary, human_ns};

/// One row a measurement.
#[must_use]
pub fn results(results: &[ResultView]) -> String {
    let mut rows = vec![head("", &["throughput", "errors", "missed", "client CPU/req", "server CPU/req"])];
    for result in results {
        let more = vec![
            rate(result.rate_achieved),
            result.errors.to_string(),
            share(result.found().missed()),
            cpu(Some(result.client_cpu_ns_per_request)),
            cpu(result.server_cpu_ns_per_request),
        ];
        rows.push(row(&result.label, &result.latency, more));
    }
    markdown(&rows)
}

fn beside(result: &ResultView) -> String {
    let mut rows = vec![head(&result.label, &["count"])];
    let count = |summary: &Summary| vec![summary.count.to_string()];
    let mut add = |name: &str, summary: &Summary| rows.push(row(name, summary, count(summary)));
    add("latency", &result.latency);
    if result.commands.len() > 1 {
        result.commands.iter().for_each(|(name, summary)| add(&format!("- {name}"), summary));
    }
    let mut above = None;
    if let Some(floor) = &result.floor {
        add("floor of this transport", floor);
        above = Some(above_floor(result));
    }
    add("machine: hiccups", &result.hiccups);
    add("client: gaps >= 20 us", &result.client_gaps);
    if result.send_lag.count > 0 {
        add("client: sent late by", &result.send_lag);
    }
    if result.held_back.count > 0 {
        add("server: no room to send for", &result.held_back);
    }
    rows.extend(above);
    markdown(&rows)
}

/// Percentiles subtract only roughly, and not at all where the noise of the machine decides: there a
/// dash says so.
fn above_floor(result: &ResultView) -> Vec<String> {
    let names = PERCENTILES.iter().map(|(name, _)| *name).chain(["max"]);
    let cell = |name: &str| match result.above_floor_ns(name) {
        Some(ns) if ns > 0 && matches!(name, "p50" | "p90" | "p99") => human_ns(ns as f64),
        _ => "-".to_owned(),
    };
    std::iter::once("server above the floor".to_owned()).chain(names.map(cell)).collect()
}

fn reads(result: &ResultView) -> String {
    let mut rows = vec![["keys read", "hits", "misses", "missed", "wrong length"].map(str::to_owned).to_vec()];
    for (name, found) in &result.reads {
        let counts = [found.hits, found.misses].map(|count| count.to_string());
        rows.push([&[name.clone()][..], &counts, &[share(found.missed()), found.wrong_len.to_string()]].concat());
    }
    markdown(&rows)
}

fn phases(result: &ResultView) -> String {
    let mut rows = vec![["server's own time", "calls", "p50 <=", "p99 <=", "p999 <="].map(str::to_owned).to_vec()];
    for phase in &result.phases {
        let bound = |quantile| format!("{} us", phase.bound_us(quantile));
        rows.push(vec![phase.name.clone(), phase.calls.to_string(), bound(0.5), bound(0.99), bound(0.999)]);
    }
    markdown(&rows)
}

/// Everything of a report that fits a terminal.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    if !report.results.is_empty() {
        let _ = writeln!(out, "{}", report.workload);
    }
    // Every round of a comparison and every step of a sweep would bury what they add up to.
    let alone = report.comparison.is_none() && report.sweeps.is_empty() && report.scenarios.is_empty();
    if alone && !report.results.is_empty() {
        if let Some(result) = report.results.first() {
            let _ =
                writeln!(out, "{} at {}: {}, {:.1} s\n", result.server, result.target, result.load, result.measured_s);
        }
        let _ = writeln!(out, "{}", results(&report.results));
        for result in &report.results {
            let _ = writeln!(out, "{}", beside(result));
            if !result.reads.is_empty() {
                let _ = writeln!(out, "{}", reads(result));
            }
            if !result.phases.is_empty() {
                let _ = writeln!(out, "{}", phases(result));
            }
            if result.verified > 0 {
                let _ = writeln!(
                    out,
                    "{} replies were compared with what had been written, {} differed\n",
                    result.verified, result.mismatches
                );
            }
        }
    }
    for sweep in &report.sweeps {
        let _ = writeln!(out, "{}", sweep.table());
    }
    for scenario in &report.scenarios {
        let _ = writeln!(out, "{}", scenario.table());
    }
    if !report.memory.is_empty() {
        let _ = writeln!(out, "{}", bytes_per_key(&report.memory));
    }
    for floor in &report.floors {
        let _ = writeln!(out, "{}", floor.table());
    }
    if let Some(comparison) = &report.comparison {
        let _ = writeln!(out, "{}", comparison.table());
    }
    for note in report.notes() {
        let _ = writeln!(out, "note: {note}");
    }
    for problem in report.problems() {
        let _ = writeln!(out, "! {problem}");
    }
    out
}
