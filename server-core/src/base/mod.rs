//! What everything stands on: the clock, patterns, versions. Knows nothing of the server.

pub mod clock;
pub mod disk;
pub mod glob;
pub mod timers;
pub mod version;
