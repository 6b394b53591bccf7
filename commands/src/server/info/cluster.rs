//! The cluster.

use std::fmt::Write as _;

use super::Totals;
use tercel_core::server::Server;

pub(super) fn section(out: &mut String, _: &Server, _: &Totals) {
    fields!(out, "cluster_enabled": 0);
}
