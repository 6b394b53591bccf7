//! What this server says it is.

/// The Valkey version whose behaviour clients may count on.
pub const VALKEY_VERSION: &str = "9.1.0";
/// The Redis version old clients compare with.
pub const REDIS_VERSION: &str = "7.2.4";
/// Our own version.
pub const TERCEL_VERSION: &str = env!("CARGO_PKG_VERSION");
