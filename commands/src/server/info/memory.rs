//! Where memory goes.

use std::fmt::Write as _;

use super::Totals;
use tercel_core::server::Server;

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

pub(super) fn section(out: &mut String, server: &Server, totals: &Totals) {
    let used = totals.used_memory;
    let resources = server.host().resources();
    let rss = resources.resident_bytes;
    let peak = server.data().counters().memory_peak.max(used);
    let startup = server.data().memory_startup();
    let overhead = startup + server.data().keyspace().overhead_bytes() + totals.memory;
    let dataset = used.saturating_sub(overhead);
    let allocator = server.host().allocator();
    let total = resources.total_memory_bytes;
    let maxmemory = server.settings().maxmemory.0 as usize;
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
        "maxmemory_policy": tercel_core::settings::Value::show(&server.settings().maxmemory_policy),
        "allocator_frag_ratio": ratio(allocator.active, allocator.allocated),
        "allocator_frag_bytes": difference(allocator.active, allocator.allocated),
        "allocator_rss_ratio": ratio(allocator.resident, allocator.active),
        "allocator_rss_bytes": difference(allocator.resident, allocator.active),
        "rss_overhead_ratio": ratio(rss, allocator.resident),
        "rss_overhead_bytes": difference(rss, allocator.resident),
        "mem_fragmentation_ratio": ratio(rss, used),
        "mem_fragmentation_bytes": difference(rss, used),
        "mem_not_counted_for_evict": server.data().withheld_bytes(),
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
        "lazyfree_pending_objects": server.data().keyspace().reclaim_pending(),
        "lazyfreed_objects": server.data().keyspace().reclaimed_total(),
    );
}
