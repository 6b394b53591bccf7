//! MEMORY: where it goes.

use tercel_core::clients::Client;
use tercel_core::command::args::Args;
use tercel_core::command::error::{Outcome, SYNTAX};
use tercel_core::command::key_positions::keys_at;
use tercel_core::command::spec::Group;
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::dispatch::Context;
use tercel_core::dispatch::container;
use tercel_core::dispatch::{Command, cmd};

static MEMORY_SUBCOMMANDS: &[Command] = &[
    cmd("memory|doctor", Group::Server, "4.0.0", 2, NONE, memory_doctor).about("Explains memory use.", "O(1)").tips(&[
        "nondeterministic_output",
        "request_policy:all_shards",
        "response_policy:special",
    ]),
    cmd("memory|help", Group::Server, "4.0.0", 2, LOADING | STALE, memory_help).about("Lists the subcommands.", "O(1)"),
    cmd("memory|malloc-stats", Group::Server, "4.0.0", 2, LOADING, memory_malloc_stats)
        .about("Returns the allocator's own report.", "O(1)")
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"]),
    cmd("memory|purge", Group::Server, "4.0.0", 2, LOADING, memory_purge)
        .about("Asks the allocator to give memory back.", "O(1)")
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
    cmd("memory|stats", Group::Server, "4.0.0", 2, NONE, memory_stats)
        .about("Reports where memory goes.", "O(1)")
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"]),
    cmd("memory|usage", Group::Server, "4.0.0", -3, READONLY, memory_usage)
        .about("Estimates the memory of a key.", "O(N)")
        .keys(&[keys_at(RO, 2, 0, 1)])
        .args("key:key [SAMPLES count:integer]"),
];

pub(crate) static COMMANDS: &[Command] = &[cmd("memory", Group::Server, "4.0.0", -2, NONE, container)
    .about("Looks at memory.", "O(1)")
    .sub(MEMORY_SUBCOMMANDS)];

fn memory_usage(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let mut at = 3;
    while at < args.len() {
        // Every element of a value is counted, however many are to be sampled.
        if !args.is(at, "samples")
            || at + 1 >= args.len()
            || tercel_core::command::parse::integer(args.get(at + 1))? < 0
        {
            return Err(SYNTAX);
        }
        at += 2;
    }
    let key = cx.server.data().key(args.get(2));
    match cx.server.data().peek(cx.caller.db, key) {
        None => cx.out.null(),
        // The slot in the table is part of what the key costs.
        Some(entry) => cx.out.count(entry.memory_bytes() + 8),
    }
    Ok(())
}

fn memory_doctor(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    let stats = cx.server.host().allocator();
    let mut lines = Vec::new();
    if stats.allocated < 5 << 20 {
        lines.push("Little memory is in use: there is nothing to advise on yet.".to_owned());
    } else {
        if stats.active as f64 / stats.allocated.max(1) as f64 > 1.4 {
            lines.push("Live blocks are scattered over many pages; MEMORY PURGE gives empty ones back.".to_owned());
        }
        if cx.server.data().counters().memory_peak > cx.server.data().memory_used() * 3 / 2 {
            lines.push("The peak was half again as high as what is used now; the allocator gives pages back over some seconds.".to_owned());
        }
        if cx.server.data().can_reclaim() {
            lines.push("Flushed keys are still being freed in slices.".to_owned());
        }
        if lines.is_empty() {
            lines.push("No memory issue was found.".to_owned());
        }
    }
    cx.out.verbatim(&(lines.join("\n") + "\n"));
    Ok(())
}

fn memory_malloc_stats(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    cx.out.verbatim(&cx.server.host().allocator_text());
    Ok(())
}

fn memory_purge(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    cx.server.host().purge();
    cx.out.ok();
    Ok(())
}

fn memory_stats(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    let allocator = cx.server.host().allocator();
    let used = cx.server.data().memory_used();
    let overhead = cx.server.data().keyspace().overhead_bytes();
    let all = cx.server.clients();
    let clients: usize = all.keys().into_iter().filter_map(|key| all.get(key)).map(Client::memory).sum();
    let startup = cx.server.data().memory_startup();
    let keys: usize = (0..cx.server.data().databases()).map(|db| cx.server.data().db(db).len()).sum();
    let dataset = used.saturating_sub(startup + overhead + clients);
    let databases: Vec<usize> =
        (0..cx.server.data().databases()).filter(|db| !cx.server.data().db(*db).is_empty()).collect();
    let rss = cx.server.host().resources().resident_bytes;
    let difference = |a: usize, b: usize| a as i64 - b as i64;
    let counts = [
        ("peak.allocated", cx.server.data().counters().memory_peak.max(used) as i64),
        ("total.allocated", used as i64),
        ("startup.allocated", startup as i64),
        ("clients.normal", clients as i64),
        ("overhead.total", (startup + overhead + clients) as i64),
        ("keys.count", keys as i64),
        ("keys.bytes-per-key", (used.saturating_sub(startup) / keys.max(1)) as i64),
        ("dataset.bytes", dataset as i64),
        ("allocator.allocated", allocator.allocated as i64),
        ("allocator.active", allocator.active as i64),
        ("allocator.resident", allocator.resident as i64),
        ("allocator.muzzy", 0),
        ("allocator-fragmentation.bytes", difference(allocator.active, allocator.allocated)),
        ("allocator-rss.bytes", difference(allocator.resident, allocator.active)),
        ("rss-overhead.bytes", difference(rss, allocator.resident)),
        ("fragmentation.bytes", difference(rss, used)),
        ("overhead.db.hashtable.lut", overhead as i64),
        ("overhead.db.hashtable.rehashing", 0),
        ("db.dict.rehashing.count", 0),
        // Of what this version does not have.
        ("replication.backlog", 0),
        ("clients.slaves", 0),
        ("cluster.links", 0),
        ("aof.buffer", 0),
        ("lua.caches", 0),
        ("functions.caches", 0),
    ];
    let ratios = [
        ("dataset.percentage", dataset as f64 * 100.0 / used.saturating_sub(startup).max(1) as f64),
        ("peak.percentage", used as f64 * 100.0 / cx.server.data().counters().memory_peak.max(used).max(1) as f64),
        ("allocator-fragmentation.ratio", allocator.active as f64 / allocator.allocated.max(1) as f64),
        ("allocator-rss.ratio", allocator.resident as f64 / allocator.active.max(1) as f64),
        ("rss-overhead.ratio", rss as f64 / allocator.resident.max(1) as f64),
        ("fragmentation", rss as f64 / used.max(1) as f64),
    ];
    cx.out.map(counts.len() + ratios.len() + databases.len());
    for (name, value) in counts {
        cx.out.bulk(name);
        cx.out.integer(value);
    }
    for db in databases {
        cx.out.bulk(format!("db.{db}"));
        cx.out.map(2);
        cx.out.bulk("overhead.hashtable.main");
        cx.out.count(cx.server.data().db(db).table_stats().buckets * 64);
        cx.out.bulk("overhead.hashtable.expires");
        cx.out.count(cx.server.data().db(db).expires_len() * 24);
    }
    for (name, value) in ratios {
        cx.out.bulk(name);
        cx.out.double(value);
    }
    Ok(())
}

fn memory_help(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    tercel_core::dispatch::help(cx, "memory");
    Ok(())
}
