//! A workload as a user writes it, on the command line or in a scenario file. Nothing is checked here
//! but what excludes what; [`super::Workload::compile`] does that.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is sent unless something else is asked for.
pub const MIX: &str = "get:80,set:20";

/// A workload in the words of the command line and of scenario files.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Workload")]
pub struct WorkloadSpec {
    /// Built-in commands with weights: get, set, setnx, incr, del, exists, ping, mget, mset, append,
    /// getset, expire, ttl
    #[arg(long, default_value = MIX, value_name = "NAME:WEIGHT,…", conflicts_with_all = ["commands", "replay"])]
    pub mix: String,
    /// A command of your own instead of --mix, with placeholders __key__ __value__ __int__ __seq__
    /// __ttl__; may be given several times
    #[arg(long = "command", value_name = "[WEIGHT:]TEMPLATE", conflicts_with = "replay")]
    pub commands: Vec<String>,
    /// Number of keys (10k, 1m, …)
    #[arg(long, default_value = "100k", value_name = "COUNT")]
    pub keys: String,
    /// What stands before a key's twelve digits
    #[arg(long, default_value = "key:", value_name = "TEXT")]
    pub key_prefix: String,
    /// uniform, zipfian[:THETA], hotset:KEYS,REQUESTS (shares), sequential
    #[arg(long, default_value = "uniform", value_name = "KIND")]
    pub key_distribution: String,
    /// SIZE, LOW..HIGH, SIZE:WEIGHT,… or lognormal:MEDIAN,SIGMA, in bytes
    #[arg(long, default_value = "64", value_name = "SIZES")]
    pub value_size: String,
    /// Time to live of what is set, in seconds: N or LOW..HIGH
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<String>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Send the commands of this file (one a line, or MONITOR's output) in turn, instead of a mix
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["keys", "key_prefix", "key_distribution", "value_size", "ttl", "verify"]
    )]
    pub replay: Option<PathBuf>,
    /// Check every reply of GET against what was written (by SET with __value__ or a literal, DEL,
    /// UNLINK); each key then belongs to one connection
    #[arg(long)]
    pub verify: bool,
    /// Do not write all keys before measuring
    #[arg(long)]
    pub no_preload: bool,
}

impl Default for WorkloadSpec {
    fn default() -> Self {
        WorkloadSpec {
            mix: MIX.to_owned(),
            commands: Vec::new(),
            keys: "100k".to_owned(),
            key_prefix: "key:".to_owned(),
            key_distribution: "uniform".to_owned(),
            value_size: "64".to_owned(),
            ttl: None,
            seed: 1,
            replay: None,
            verify: false,
            no_preload: false,
        }
    }
}

impl WorkloadSpec {
    /// One line for reports.
    #[must_use]
    pub fn describe(&self) -> String {
        if let Some(path) = &self.replay {
            return format!("replay of {}", path.display());
        }
        let commands = if self.commands.is_empty() { self.mix.clone() } else { self.commands.join(" | ") };
        let ttl = self.ttl.as_ref().map_or(String::new(), |ttl| format!(", TTL {ttl} s"));
        let verify = if self.verify { ", replies verified" } else { "" };
        format!(
            "{commands}; {} keys {}, values of {} bytes{ttl}, seed {}{verify}",
            self.keys, self.key_distribution, self.value_size, self.seed
        )
    }
}
