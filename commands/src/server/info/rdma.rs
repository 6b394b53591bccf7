//! What the transport tells of its RDMA side.

use std::fmt::Write as _;

use tercel_transport::report::Value;

use super::Totals;
use tercel_core::server::Server;

pub(super) fn section(out: &mut String, server: &Server, _: &Totals) {
    fields!(out, "rdma_enabled": u8::from(server.stats().transport_report().is_some()));
    for figure in server.stats().transport_report().into_iter().flatten() {
        let _ = match &figure.value {
            Value::Text(text) => write!(out, "{}:{text}\r\n", figure.name),
            Value::Gauge(value) | Value::Counter(value) => write!(out, "{}:{value}\r\n", figure.name),
        };
    }
}
