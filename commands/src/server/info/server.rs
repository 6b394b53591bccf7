//! What the server is and where it runs.

use std::fmt::Write as _;

use super::Totals;
use tercel_core::base::version::{REDIS_VERSION, TERCEL_VERSION, VALKEY_VERSION};
use tercel_core::server::Server;

pub(super) fn section(out: &mut String, server: &Server, _: &Totals) {
    let uptime = server.now().mono_ns.saturating_sub(server.stats().started().mono_ns) / 1_000_000_000;
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
        "os": server.host().process().os,
        "arch_bits": usize::BITS,
        "monotonic_clock": "tsc",
        "multiplexing_api": server.host().process().multiplexing_api,
        "gcc_version": "0.0.0",
        "process_id": server.host().process().pid,
        "process_supervised": tercel_core::settings::Value::show(&server.settings().supervised),
        "run_id": server.run_id(),
        "tcp_port": server.settings().port,
        "server_time_usec": server.now().unix_us,
        "uptime_in_seconds": uptime,
        "uptime_in_days": uptime / 86_400,
        "hz": server.settings().hz,
        "configured_hz": server.settings().hz,
        "clients_hz": server.settings().hz,
        "lru_clock": (server.now().unix_ms / 1000) & 0xff_ffff,
        "executable": server.host().process().executable,
        "config_file": server.host().process().config_file,
        "io_threads_active": 0,
        "availability_zone": server.settings().availability_zone,
    );
    let mut listener = 0;
    let mut add = |text: String| {
        let _ = write!(out, "listener{listener}:{text}\r\n");
        listener += 1;
    };
    if server.settings().port != 0 {
        let binds: String = server.settings().bind.0.iter().map(|bind| format!(",bind={bind}")).collect();
        add(format!("name=tcp{binds},port={}", server.settings().port));
    }
    if server.settings().rdma_port != 0 {
        let binds: String = server.settings().rdma_bind.0.iter().map(|bind| format!(",bind={bind}")).collect();
        add(format!("name=rdma{binds},port={}", server.settings().rdma_port));
    }
    if !server.settings().unixsocket.is_empty() {
        add(format!("name=unix,bind={}", server.settings().unixsocket));
    }
}
