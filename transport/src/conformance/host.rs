//! What a host lacks. A test that leaves something out for it says so, and fails where the host was to
//! have it: one that has not looked must not pass for one that has.

use std::fmt::Display;

/// Names what tests must find, comma-separated; `scripts/test` sets it.
pub const REQUIRE: &str = "TERCEL_TEST_REQUIRE";

/// Whether a list of what is required has this in it.
#[must_use]
pub fn requires(list: &str, what: &str) -> bool {
    list.split(',').any(|name| name.trim() == what)
}

/// Tells that something is left out, as this host lacks `what`.
///
/// # Panics
/// [`REQUIRE`] names it.
pub fn left_out(what: &str, why: impl Display) {
    let required = std::env::var(REQUIRE).is_ok_and(|list| requires(&list, what));
    assert!(!required, "{REQUIRE} asks for {what}, and this host lacks it: {why}");
    eprintln!("LEFT OUT: this host lacks {what}: {why}");
}

#[cfg(test)]
mod tests {
    use super::requires;

    #[test]
    fn what_is_required_is_named() {
        for (list, what, expected) in [
            ("io_uring", "io_uring", true),
            ("ipv6, io_uring", "io_uring", true),
            ("", "io_uring", false),
            ("ipv6", "io_uring", false),
            ("no_io_uring", "io_uring", false),
        ] {
            assert_eq!(requires(list, what), expected, "{list} {what}");
        }
    }
}
