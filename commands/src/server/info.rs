//! INFO: sections and fields as Valkey names them. A field whose feature this version does not have
//! says so with the value Valkey shows when it is off.

use std::fmt::Write as _;

use tercel_transport::report::Value;

use tercel_core::base::version::{REDIS_VERSION, TERCEL_VERSION, VALKEY_VERSION};
use tercel_core::clients::client::ClientClass;
use tercel_core::command::args::Args;
use tercel_core::command::error::Outcome;
use tercel_core::command::parse::lossy;
use tercel_core::dispatch::Context;
use tercel_core::server::Core;

/// Writes one section.
type Section = fn(&mut String, &Core, &Totals);

/// Sections in order, and whether plain INFO shows them.
const SECTIONS: &[(&str, bool, Section)] = &[
    ("server", true, server),
    ("clients", true, clients),
    ("memory", true, memory),
    ("persistence", true, persistence),
    ("stats", true, stats),
    ("replication", true, replication),
    ("cpu", true, cpu),
    ("modules", true, modules),
    ("commandstats", false, commandstats),
    ("errorstats", true, errorstats),
    ("latencystats", false, latencystats),
    ("cluster", true, cluster),
    ("keyspace", true, keyspace),
    ("rdma", true, rdma),
    ("tercel", true, tercel),
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
    let mut totals = Totals { used_memory: cx.core.data.memory_used(), ..Totals::default() };
    let wanted: Vec<String> = args.rest(1).map(|name| lossy(name).to_ascii_lowercase()).collect();
    let all = wanted.iter().any(|name| matches!(name.as_str(), "all" | "everything"));
    let defaults = wanted.is_empty() || wanted.iter().any(|name| name == "default");
    let mut add = |session: &tercel_core::clients::client::Session, memory: usize| {
        totals.pubsub += usize::from(session.class() == ClientClass::Pubsub);
        totals.watching += usize::from(!session.watched.is_empty());
        totals.memory += memory;
    };
    add(cx.session, cx.session.own_memory() + cx.session.net.memory);
    for key in cx.core.clients.keys() {
        if let Some(connection) = cx.core.clients.get(key) {
            add(&connection.session, connection.memory());
        }
    }
    let text = sections(cx.core, &totals, |name, default| {
        all || (defaults && default) || wanted.iter().any(|wanted| wanted == name)
    });
    cx.out.verbatim(&text);
    Ok(())
}

fn sections(core: &Core, totals: &Totals, wanted: impl Fn(&str, bool) -> bool) -> String {
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
            write(&mut text, core, totals);
        }
    }
    text
}

/// Writes `name:value` lines.
macro_rules! fields {
    ($out:expr, $($name:literal: $value:expr),+ $(,)?) => {{ $( let _ = write!($out, concat!($name, ":{}\r\n"), $value); )+ }};
}

fn human(bytes: usize) -> String {
    let bytes = bytes as f64;
    match bytes {
        b if b < 1024.0 => format!("{b:.0}B"),
        b if b < 1048576.0 => format!("{:.2}K", b / 1024.0),
        b if b < 1073741824.0 => format!("{:.2}M", b / 1048576.0),
        b if b < 1099511627776.0 => format!("{:.2}G", b / 1073741824.0),
        b => format!("{:.2}T", b / 1099511627776.0),
    }
}

fn server(out: &mut String, core: &Core, _: &Totals) {
    let uptime = core.now.mono_ns.saturating_sub(core.stats.started.mono_ns) / 1_000_000_000;
    fields!(out,
        "redis_version": REDIS_VERSION,
        "server_name": "tercel",
        "valkey_version": VALKEY_VERSION,
        "valkey_release_stage": "ga",
        "tercel_version": TERCEL_VERSION,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": "0",
        "server_mode": "standalone",
        "os": core.host.process().os,
        "arch_bits": usize::BITS,
        "monotonic_clock": "tsc",
        "multiplexing_api": core.host.process().multiplexing_api,
        "gcc_version": "0.0.0",
        "process_id": core.host.process().pid,
        "process_supervised": tercel_core::settings::Value::show(&core.settings.supervised),
        "run_id": core.run_id,
        "tcp_port": core.settings.port,
        "server_time_usec": core.now.unix_us,
        "uptime_in_seconds": uptime,
        "uptime_in_days": uptime / 86_400,
        "hz": core.settings.hz,
        "configured_hz": core.settings.hz,
        "clients_hz": core.settings.hz,
        "lru_clock": (core.now.unix_ms / 1000) & 0xff_ffff,
        "executable": core.host.process().executable,
        "config_file": core.host.process().config_file,
        "io_threads_active": 0,
        "availability_zone": core.settings.availability_zone,
    );
    let mut listener = 0;
    let mut add = |text: String| {
        let _ = write!(out, "listener{listener}:{text}\r\n");
        listener += 1;
    };
    if core.settings.port != 0 {
        let binds: String = core.settings.bind.0.iter().map(|bind| format!(",bind={bind}")).collect();
        add(format!("name=tcp{binds},port={}", core.settings.port));
    }
    if core.settings.rdma_port != 0 {
        let binds: String = core.settings.rdma_bind.0.iter().map(|bind| format!(",bind={bind}")).collect();
        add(format!("name=rdma{binds},port={}", core.settings.rdma_port));
    }
    if !core.settings.unixsocket.is_empty() {
        add(format!("name=unix,bind={}", core.settings.unixsocket));
    }
}

fn clients(out: &mut String, core: &Core, totals: &Totals) {
    fields!(out,
        "connected_clients": core.clients.len(),
        "cluster_connections": 0,
        "maxclients": core.settings.maxclients,
        "client_recent_max_input_buffer": core.stats.recent_input_max,
        "client_recent_max_output_buffer": core.stats.recent_output_max,
        "blocked_clients": 0,
        "tracking_clients": 0,
        "pubsub_clients": totals.pubsub,
        "watching_clients": totals.watching,
        "clients_in_timeout_table": 0,
        "total_watched_keys": core.watches.len(),
        "total_blocking_keys": 0,
        "total_blocking_keys_on_nokey": 0,
    );
    let pause = core.pause.filter(|pause| pause.until_ms > core.now.unix_ms);
    fields!(out,
        "paused_reason": if pause.is_some() { "client_pause" } else { "none" },
        "paused_actions": pause.map_or("none", |pause| if pause.writes_only { "write" } else { "all" }),
        "paused_timeout_milliseconds": pause.map_or(0, |pause| pause.until_ms - core.now.unix_ms),
    );
}

fn memory(out: &mut String, core: &Core, totals: &Totals) {
    let used = totals.used_memory;
    let resources = core.host.resources();
    let rss = resources.resident_bytes;
    let peak = core.data.counters().memory_peak.max(used);
    let startup = core.data.memory_startup();
    let overhead = startup + core.data.keyspace().overhead_bytes() + totals.memory;
    let dataset = used.saturating_sub(overhead);
    let allocator = core.host.allocator();
    let total = resources.total_memory_bytes;
    let maxmemory = core.settings.maxmemory.0 as usize;
    let ratio = |a: usize, b: usize| format!("{:.2}", a as f64 / b.max(1) as f64);
    let difference = |a: usize, b: usize| a as i64 - b as i64;
    fields!(out,
        "used_memory": used,
        "used_memory_human": human(used),
        "used_memory_rss": rss,
        "used_memory_rss_human": human(rss),
        "used_memory_peak": peak,
        "used_memory_peak_human": human(peak),
        "used_memory_peak_perc": format!("{:.2}%", used as f64 * 100.0 / peak.max(1) as f64),
        "used_memory_overhead": overhead,
        "used_memory_startup": startup,
        "used_memory_dataset": dataset,
        "used_memory_dataset_perc": format!("{:.2}%", dataset as f64 * 100.0 / used.saturating_sub(startup).max(1) as f64),
        "allocator_allocated": allocator.allocated,
        "allocator_active": allocator.active,
        "allocator_resident": allocator.resident,
        "allocator_muzzy": 0,
        "total_system_memory": total,
        "total_system_memory_human": human(total),
        "used_memory_lua": 0,
        "used_memory_vm_eval": 0,
        "used_memory_lua_human": human(0),
        "used_memory_scripts_eval": 0,
        "number_of_cached_scripts": 0,
        "number_of_functions": 0,
        "number_of_libraries": 0,
        "used_memory_vm_functions": 0,
        "used_memory_vm_total": 0,
        "used_memory_vm_total_human": human(0),
        "used_memory_functions": 0,
        "used_memory_scripts": 0,
        "used_memory_scripts_human": human(0),
        "maxmemory": maxmemory,
        "maxmemory_human": human(maxmemory),
        "maxmemory_policy": tercel_core::settings::Value::show(&core.settings.maxmemory_policy),
        "allocator_frag_ratio": ratio(allocator.active, allocator.allocated),
        "allocator_frag_bytes": difference(allocator.active, allocator.allocated),
        "allocator_rss_ratio": ratio(allocator.resident, allocator.active),
        "allocator_rss_bytes": difference(allocator.resident, allocator.active),
        "rss_overhead_ratio": ratio(rss, allocator.resident),
        "rss_overhead_bytes": difference(rss, allocator.resident),
        "mem_fragmentation_ratio": ratio(rss, used),
        "mem_fragmentation_bytes": difference(rss, used),
        "mem_not_counted_for_evict": core.data.withheld_bytes(),
        "mem_replication_backlog": 0,
        "mem_total_replication_buffers": 0,
        "mem_replicas_repl_buffer": 0,
        "mem_clients_slaves": 0,
        "mem_clients_normal": totals.memory,
        "mem_cluster_links": 0,
        "mem_cluster_slot_import": 0,
        "mem_cluster_slot_export": 0,
        "mem_aof_buffer": 0,
        "mem_page_stock": allocator.stock_ready_bytes,
        "mem_page_stock_taken": allocator.stock_taken,
        "mem_page_stock_missed": allocator.stock_missed,
        "mem_allocator": allocator.version,
        "mem_overhead_db_hashtable_rehashing": 0,
        "active_defrag_running": 0,
        "lazyfree_pending_objects": core.data.keyspace().reclaim_pending(),
        "lazyfreed_objects": core.data.keyspace().reclaimed_total(),
    );
}

fn persistence(out: &mut String, core: &Core, _: &Totals) {
    let state = &core.persistence;
    let (saving_s, keys_done, keys_total) = state.progress(core.now.unix_ms / 1000).unwrap_or((-1, 0, 0));
    let done_percent = if keys_total == 0 { 0.0 } else { keys_done as f64 * 100.0 / keys_total as f64 };
    fields!(out,
        "loading": u8::from(state.loading.is_some()),
        "async_loading": 0,
        "current_cow_peak": 0,
        "current_cow_size": 0,
        "current_cow_size_age": 0,
        "current_fork_perc": format_args!("{done_percent:.2}"),
        "current_save_keys_processed": keys_done,
        "current_save_keys_total": keys_total,
        "rdb_changes_since_last_save": core.data.dirty() - state.saved_dirty,
        "rdb_bgsave_in_progress": u8::from(state.is_saving()),
        "rdb_last_save_time": state.last_save_s,
        "rdb_last_bgsave_status": if state.last_ok { "ok" } else { "err" },
        "rdb_last_bgsave_time_sec": state.last_took_s.unwrap_or(-1),
        "rdb_current_bgsave_time_sec": saving_s,
        "rdb_saves": state.saves,
        "rdb_last_cow_size": 0,
        "rdb_last_load_keys_expired": state.loaded_expired,
        "rdb_last_load_keys_loaded": state.loaded_keys,
        "aof_enabled": 0,
        "aof_rewrite_in_progress": 0,
        "aof_rewrite_scheduled": 0,
        "aof_last_rewrite_time_sec": -1,
        "aof_current_rewrite_time_sec": -1,
        "aof_last_bgrewrite_status": "ok",
        "aof_rewrites": 0,
        "aof_rewrites_consecutive_failures": 0,
        "aof_last_write_status": "ok",
        "aof_last_cow_size": 0,
        "module_fork_in_progress": 0,
        "module_fork_last_cow_size": 0,
        "slot_migration_fork_in_progress": 0,
    );
    if let Some(loader) = &state.loading {
        let (total, read) = (loader.bytes_total, loader.bytes_read());
        let elapsed_s = (core.now.unix_ms / 1000 - loader.began_s).max(0) as u64;
        fields!(out,
            "loading_start_time": loader.began_s,
            "loading_total_bytes": total,
            "loading_rdb_used_mem": 0,
            "loading_loaded_bytes": read,
            "loading_loaded_perc": format_args!("{:.2}", read as f64 * 100.0 / total.max(1) as f64),
            "loading_eta_seconds": (elapsed_s * total.saturating_sub(read)).checked_div(read).unwrap_or(1),
        );
    }
}

fn stats(out: &mut String, core: &Core, _: &Totals) {
    let stats = &core.stats;
    let kbps = |rate: u64| format!("{:.2}", rate as f64 / 1024.0);
    let data = core.data.counters();
    fields!(out,
        "total_connections_received": stats.connections_received,
        "total_commands_processed": stats.commands_processed,
        "instantaneous_ops_per_sec": stats.ops_rate.per_second(),
        "total_net_input_bytes": stats.net_input_bytes,
        "total_net_output_bytes": stats.net_output_bytes,
        "total_net_repl_input_bytes": 0,
        "total_net_repl_output_bytes": 0,
        "total_net_cluster_slot_import_bytes": 0,
        "total_net_cluster_slot_export_bytes": 0,
        "instantaneous_input_kbps": kbps(stats.input_rate.per_second()),
        "instantaneous_output_kbps": kbps(stats.output_rate.per_second()),
        "instantaneous_input_repl_kbps": "0.00",
        "instantaneous_output_repl_kbps": "0.00",
        "rejected_connections": stats.rejected_connections,
        "sync_full": 0,
        "sync_partial_ok": 0,
        "sync_partial_err": 0,
        "expired_keys": data.expired_keys,
        "expired_fields": 0,
        "expired_stale_perc": "0.00",
        "expired_keys_with_volatile_items_stale_perc": "0.00",
        "expired_time_cap_reached_count": data.expired_time_cap_reached,
        "expire_cycle_cpu_milliseconds": data.expire_ns / 1_000_000,
        "evicted_keys": data.evicted_keys,
        "evicted_clients": stats.evicted_clients,
        "evicted_scripts": 0,
        "total_eviction_exceeded_time": data.eviction_exceeded_ns / 1_000_000,
        "current_eviction_exceeded_time": core.data.eviction_over_ns() / 1_000_000,
        "keyspace_hits": data.hits,
        "keyspace_misses": data.misses,
        "pubsub_channels": core.pubsub.channels.len(),
        "pubsub_patterns": core.pubsub.patterns.len(),
        "pubsubshard_channels": core.pubsub.shard_channels.len(),
        "latest_fork_usec": 0,
        "total_forks": 0,
        "migrate_cached_sockets": 0,
        "slave_expires_tracked_keys": 0,
        "active_defrag_hits": 0,
        "active_defrag_misses": 0,
        "active_defrag_key_hits": 0,
        "active_defrag_key_misses": 0,
        "total_active_defrag_time": 0,
        "current_active_defrag_time": 0,
        "tracking_total_keys": 0,
        "tracking_total_items": 0,
        "tracking_total_prefixes": 0,
        "unexpected_error_replies": 0,
        "total_error_replies": stats.error_replies,
        "dump_payload_sanitizations": 0,
        "total_reads_processed": stats.reads_processed,
        "total_writes_processed": stats.writes_processed,
        "io_threaded_reads_processed": 0,
        "io_threaded_writes_processed": 0,
        "io_threaded_freed_objects": 0,
        "io_threaded_accept_processed": 0,
        "io_threaded_poll_processed": 0,
        "io_threaded_total_prefetch_batches": stats.prefetch_batches,
        "io_threaded_total_prefetch_entries": stats.prefetch_keys,
        "client_query_buffer_limit_disconnections": stats.query_buffer_disconnects,
        "client_output_buffer_limit_disconnections": stats.output_buffer_disconnects,
        "reply_buffer_shrinks": 0,
        "reply_buffer_expands": 0,
        "eventloop_cycles": stats.busy_turns,
        "eventloop_duration_sum": stats.turns_ns / 1000,
        "eventloop_duration_cmd_sum": stats.execute_ns / 1000,
        "instantaneous_eventloop_cycles_per_sec": stats.turn_rate.per_second(),
        "instantaneous_eventloop_duration_usec": stats.turns_ns / 1000 / stats.busy_turns.max(1),
        "acl_access_denied_auth": stats.auth_denied,
        "acl_access_denied_cmd": 0,
        "acl_access_denied_key": 0,
        "acl_access_denied_channel": 0,
        "acl_access_denied_tls_cert": 0,
        "acl_access_denied_db": 0,
    );
}

fn replication(out: &mut String, core: &Core, _: &Totals) {
    fields!(out,
        "role": "master",
        "connected_slaves": 0,
        "replicas_waiting_psync": 0,
        "master_failover_state": "no-failover",
        "master_replid": core.run_id,
        "master_replid2": "0".repeat(40),
        "master_repl_offset": 0,
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
        "repl_backlog_size": 0,
        "repl_backlog_first_byte_offset": 0,
        "repl_backlog_histlen": 0,
    );
}

fn cpu(out: &mut String, core: &Core, _: &Totals) {
    let times = core.host.resources().cpu;
    let seconds = |value: f64| format!("{value:.6}");
    fields!(out,
        "used_cpu_sys": seconds(times.system),
        "used_cpu_user": seconds(times.user),
        "used_cpu_sys_children": seconds(0.0),
        "used_cpu_user_children": seconds(0.0),
        "used_cpu_sys_main_thread": seconds(times.thread_system),
        "used_cpu_user_main_thread": seconds(times.thread_user),
        "used_active_time_main_thread": seconds(core.stats.turns_ns as f64 / 1e9),
    );
}

fn modules(_: &mut String, _: &Core, _: &Totals) {}

fn commandstats(out: &mut String, core: &Core, _: &Totals) {
    for (id, command) in core.table.all() {
        let stats = &core.stats.commands[id.index()];
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

fn errorstats(out: &mut String, core: &Core, _: &Totals) {
    for (code, count) in &core.stats.errors {
        let _ = write!(out, "errorstat_{code}:count={count}\r\n");
    }
}

fn latencystats(out: &mut String, core: &Core, _: &Totals) {
    let percentiles = &core.settings.latency_tracking_info_percentiles.0;
    let line = |out: &mut String, name: &str, histogram: &hdrhistogram::Histogram<u64>| {
        let shown: Vec<String> = percentiles
            .iter()
            .map(|percentile| {
                format!("p{percentile}={:.3}", histogram.value_at_quantile(percentile / 100.0) as f64 / 1000.0)
            })
            .collect();
        let _ = write!(out, "latency_percentiles_usec_{name}:{}\r\n", shown.join(","));
    };
    for (id, command) in core.table.all() {
        if let Some(histogram) = &core.stats.commands[id.index()].histogram {
            line(out, command.name, histogram);
        }
    }
}

fn cluster(out: &mut String, _: &Core, _: &Totals) {
    fields!(out, "cluster_enabled": 0);
}

fn keyspace(out: &mut String, core: &Core, _: &Totals) {
    for (index, db) in core.data.filled() {
        let _ = write!(
            out,
            "db{index}:keys={},expires={},avg_ttl={},keys_with_volatile_items=0\r\n",
            db.len(),
            db.expires_len(),
            db.avg_ttl_ms(core.now.unix_ms)
        );
    }
}

/// What the transport tells of its RDMA side.
fn rdma(out: &mut String, core: &Core, _: &Totals) {
    fields!(out, "rdma_enabled": u8::from(core.stats.transport_report.is_some()));
    for figure in core.stats.transport_report.iter().flatten() {
        let _ = match &figure.value {
            Value::Text(text) => write!(out, "{}:{text}\r\n", figure.name),
            Value::Gauge(value) | Value::Counter(value) => write!(out, "{}:{value}\r\n", figure.name),
        };
    }
}

/// What only this server has.
fn tercel(out: &mut String, core: &Core, _: &Totals) {
    let stats = &core.stats;
    fields!(out,
        "transport": core.host.process().multiplexing_api,
        "pinned_core": core.host.process().pinned_core.map_or_else(|| "none".to_owned(), |core| core.to_string()),
        "busy_poll_us": core.settings.busy_poll_us,
        "turns": stats.turns,
        "parks": stats.parks,
        "turn_usec_max": stats.turn_ns_max / 1000,
        "prefetch_batches": stats.prefetch_batches,
        "prefetch_keys": stats.prefetch_keys,
    );
    for (name, histogram) in tercel_core::stats::PHASES.iter().flat_map(|(phase, _)| stats.phase_histograms(*phase)) {
        let us = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        let name = name.replace('-', "_");
        let _ = write!(out, "phase_{name}_usec:p50={:.3},p99={:.3},p999={:.3}\r\n", us(0.5), us(0.99), us(0.999));
    }
}
