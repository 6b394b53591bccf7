//! What this process asks of the operating system.

pub mod host_check;
pub mod logging;
pub mod sys;
