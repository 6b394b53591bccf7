//! Processor time.

use std::fmt::Write as _;

use super::Totals;
use tercel_core::server::Server;

pub(super) fn section(out: &mut String, server: &Server, _: &Totals) {
    let times = server.host().resources().cpu;
    let seconds = |value: f64| format!("{value:.6}");
    fields!(out,
        "used_cpu_sys": seconds(times.system),
        "used_cpu_user": seconds(times.user),
        "used_cpu_sys_children": seconds(0.0),
        "used_cpu_user_children": seconds(0.0),
        "used_cpu_sys_main_thread": seconds(times.thread_system),
        "used_cpu_user_main_thread": seconds(times.thread_user),
        "used_active_time_main_thread": seconds(server.stats().turns().busy_ns as f64 / 1e9),
    );
}
