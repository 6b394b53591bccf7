//! LATENCY: distributions of commands, and the history of spikes.

use std::fmt::Write as _;

use tercel_core::command::CommandId;
use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, Outcome};
use tercel_core::command::parse::lossy;
use tercel_core::command::spec::Group;
use tercel_core::command::spec::flags::*;
use tercel_core::dispatch::Context;
use tercel_core::dispatch::container;
use tercel_core::dispatch::{Command, cmd};
use tercel_core::stats::PHASES;

static LATENCY_SUBCOMMANDS: &[Command] = &[
    cmd("latency|doctor", Group::Server, "2.8.13", 2, ADMIN | NOSCRIPT | LOADING | STALE, latency_doctor)
        .about("Explains the latency events seen.", "O(1)")
        .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
    cmd("latency|graph", Group::Server, "2.8.13", 3, ADMIN | NOSCRIPT | LOADING | STALE, latency_graph)
        .about("Draws the history of an event.", "O(1)")
        .args("event:string")
        .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
    cmd("latency|help", Group::Server, "2.8.13", 2, LOADING | STALE, latency_help)
        .about("Lists the subcommands.", "O(1)"),
    cmd("latency|histogram", Group::Server, "7.0.0", -2, ADMIN | NOSCRIPT | LOADING | STALE, latency_histogram)
        .about("Returns the latency distribution of commands.", "O(N)")
        .args("[COMMAND:string...]")
        .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
    cmd("latency|history", Group::Server, "2.8.13", 3, ADMIN | NOSCRIPT | LOADING | STALE, latency_history)
        .about("Returns the samples of an event.", "O(1)")
        .args("event:string")
        .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
    cmd("latency|latest", Group::Server, "2.8.13", 2, ADMIN | NOSCRIPT | LOADING | STALE, latency_latest)
        .about("Returns the newest sample of every event.", "O(1)")
        .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
    cmd("latency|reset", Group::Server, "2.8.13", -2, ADMIN | NOSCRIPT | LOADING | STALE, latency_reset)
        .about("Forgets events.", "O(1)")
        .args("[event:string...]")
        .tips(&["request_policy:all_nodes", "response_policy:agg_sum"]),
];

pub(crate) static COMMANDS: &[Command] = &[cmd("latency", Group::Server, "2.8.13", -2, NONE, container)
    .about("Looks at latency.", "O(1)")
    .sub(LATENCY_SUBCOMMANDS)];

/// Distributions in LATENCY HISTOGRAM are cumulative counts below powers of two of microseconds.
fn buckets(histogram: &hdrhistogram::Histogram<u64>) -> Vec<(u64, u64)> {
    let total = histogram.len();
    let mut out = Vec::new();
    let mut bound_us: u64 = 1;
    let mut last = 0;
    while last < total && bound_us < 1 << 36 {
        let count = histogram.count_between(0, bound_us * 1000);
        if count > last {
            out.push((bound_us, count));
            last = count;
        }
        bound_us *= 2;
    }
    out
}

fn write_histogram(cx: &mut Context<'_>, name: &str, calls: u64, buckets: &[(u64, u64)]) {
    cx.out.bulk(name);
    cx.out.map(2);
    cx.out.bulk("calls");
    cx.out.integer(calls as i64);
    cx.out.bulk("histogram_usec");
    cx.out.map(buckets.len());
    for (bound, count) in buckets {
        cx.out.integer(*bound as i64);
        cx.out.integer(*count as i64);
    }
}

/// A name, how many there are, and buckets: bound and how many lie below it.
type Distribution = (String, u64, Vec<(u64, u64)>);

fn latency_histogram(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let table = &cx.commands.table;
    let chosen: Vec<CommandId> = if args.len() == 2 {
        table.all().map(|(id, _)| id).collect()
    } else {
        args.rest(2)
            .filter_map(|name| table.find_full(name))
            .flat_map(|id| {
                // A container stands for its subcommands.
                let subs = table.subcommands(id);
                std::iter::once(id).chain(subs).collect::<Vec<_>>()
            })
            .collect()
    };
    let mut found: Vec<Distribution> = Vec::new();
    for id in chosen {
        let stats = &cx.server.stats().command(id);
        if let Some(histogram) = stats.histogram.as_ref().filter(|histogram| !histogram.is_empty()) {
            found.push((table.spec(id).name.to_owned(), stats.calls, buckets(histogram)));
        }
    }
    // The phases of a command's life are asked for by name: `phase-arrive` and so on.
    for (phase, histogram) in PHASES.iter().flat_map(|(phase, _)| cx.server.stats().phase_histograms(*phase)) {
        let name = format!("phase-{phase}");
        if args.rest(2).any(|wanted| wanted.eq_ignore_ascii_case(name.as_bytes())) {
            found.push((name, histogram.len(), buckets(&histogram)));
        }
    }
    cx.out.map(found.len());
    for (name, calls, buckets) in found {
        write_histogram(cx, &name, calls, &buckets);
    }
    Ok(())
}

fn latency_latest(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    let latency = cx.server.stats().latency();
    cx.out.array(latency.len());
    for (name, event) in latency.iter() {
        let last = event.samples.last().copied();
        cx.out.array(6);
        cx.out.bulk(name);
        cx.out.integer(last.map_or(0, |sample| sample.unix_seconds));
        cx.out.integer(last.map_or(0, |sample| sample.latency_ms as i64));
        cx.out.integer(event.latency_ms_max as i64);
        cx.out.integer(event.latency_ms_sum as i64);
        cx.out.integer(event.count as i64);
    }
    Ok(())
}

fn latency_history(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let samples =
        cx.server.stats().latency().get(&lossy(args.get(2))).map(|event| event.samples.clone()).unwrap_or_default();
    cx.out.array(samples.len());
    for sample in samples {
        cx.out.array(2);
        cx.out.integer(sample.unix_seconds);
        cx.out.integer(sample.latency_ms as i64);
    }
    Ok(())
}

fn latency_graph(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let name = lossy(args.get(2));
    let Some(event) = cx.server.stats().latency().get(&name).filter(|event| !event.samples.is_empty()) else {
        return Err(CommandError::new(format!("ERR No samples available for event '{name}'")));
    };
    const ROWS: u64 = 4;
    let highest = event.samples.iter().map(|sample| sample.latency_ms).max().unwrap_or(0);
    let lowest = event.samples.iter().map(|sample| sample.latency_ms).min().unwrap_or(0);
    let span = (highest - lowest).max(1);
    let mut text = format!("{name} - high {highest} ms, low {lowest} ms (all time high {} ms)\n", event.latency_ms_max);
    text.push_str(&"-".repeat(80));
    text.push('\n');
    for row in (0..ROWS).rev() {
        for sample in &event.samples {
            let level = (sample.latency_ms - lowest) * (ROWS - 1) / span;
            text.push(match level.cmp(&row) {
                std::cmp::Ordering::Greater => '|',
                std::cmp::Ordering::Equal => '#',
                std::cmp::Ordering::Less => ' ',
            });
        }
        text.push('\n');
    }
    cx.out.verbatim(&text);
    Ok(())
}

fn latency_doctor(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    let threshold = cx.server.settings().latency_monitor_threshold;
    let mut text = String::new();
    if threshold == 0 {
        text.push_str(
            "Latency monitoring is disabled in this server. You may use \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order to enable it.\n",
        );
    } else if cx.server.stats().latency().is_empty() {
        let _ = writeln!(text, "No spike of {threshold} ms or more was seen.");
    } else {
        let _ = writeln!(text, "Spikes of {threshold} ms or more:");
        for (name, event) in cx.server.stats().latency().iter() {
            let mean = event.latency_ms_sum / event.count.max(1);
            let _ = writeln!(
                text,
                "- {name}: {} spikes, mean {mean} ms, longest {} ms.",
                event.count, event.latency_ms_max
            );
        }
        text.push_str("SLOWLOG GET names slow commands; the log of the server's start says what of this host costs tail latency.\n");
    }
    cx.out.verbatim(&text);
    Ok(())
}

fn latency_reset(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let latency = cx.server.stats_mut().latency_mut();
    let count = if args.len() == 2 {
        latency.clear()
    } else {
        args.rest(2).filter(|name| latency.remove(&lossy(name))).count()
    };
    cx.out.count(count);
    Ok(())
}

fn latency_help(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    tercel_core::dispatch::help(cx, "latency");
    Ok(())
}
