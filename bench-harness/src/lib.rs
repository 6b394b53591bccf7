#![forbid(unsafe_code)]
pub mod clock;
pub mod histogram;
pub mod load;
pub mod recorder;
pub mod target;
pub mod workload;
