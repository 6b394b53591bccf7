//! Snapshots: the last, the one being written, the one being loaded.

use std::fmt::Write as _;

use super::Totals;
use tercel_core::server::Server;

pub(super) fn section(out: &mut String, server: &Server, _: &Totals) {
    let persistence = server.persistence();
    let state = persistence.status();
    let (saving_s, keys_done, keys_total) = persistence.progress(server.now().unix_ms / 1000).unwrap_or((-1, 0, 0));
    let done_percent = if keys_total == 0 { 0.0 } else { keys_done as f64 * 100.0 / keys_total as f64 };
    fields!(out,
        "loading": u8::from(persistence.is_loading()),
        "async_loading": 0,
        "current_cow_peak": 0,
        "current_cow_size": 0,
        "current_cow_size_age": 0,
        "current_fork_perc": format_args!("{done_percent:.2}"),
        "current_save_keys_processed": keys_done,
        "current_save_keys_total": keys_total,
        "rdb_changes_since_last_save": server.data().dirty() - state.saved_dirty,
        "rdb_bgsave_in_progress": u8::from(persistence.is_saving()),
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
    if let Some(load) = persistence.load_progress() {
        let (total, read) = (load.bytes_total, load.bytes_read);
        let elapsed_s = (server.now().unix_ms / 1000 - load.began_s).max(0) as u64;
        fields!(out,
            "loading_start_time": load.began_s,
            "loading_total_bytes": total,
            "loading_rdb_used_mem": 0,
            "loading_loaded_bytes": read,
            "loading_loaded_perc": format_args!("{:.2}", read as f64 * 100.0 / total.max(1) as f64),
            "loading_eta_seconds": (elapsed_s * total.saturating_sub(read)).checked_div(read).unwrap_or(1),
        );
    }
}
