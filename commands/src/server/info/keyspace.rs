//! How much is in each database.

use std::fmt::Write as _;

use super::Totals;
use tercel_core::server::Server;

pub(super) fn section(out: &mut String, server: &Server, _: &Totals) {
    for (index, db) in server.data().filled() {
        let _ = write!(
            out,
            "db{index}:keys={},expires={},avg_ttl={},keys_with_volatile_items={}\r\n",
            db.len(),
            db.expires_len(),
            db.avg_ttl_ms(server.now().unix_ms),
            db.with_field_deadlines_len()
        );
    }
}
