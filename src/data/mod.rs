//! The data under its rules: expiry, eviction, watchers and events.

pub mod eviction;
pub mod keys;
pub mod strings;
