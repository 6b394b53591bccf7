//! Bytes a key: what a server's memory grows by when keys are written, as the operating system and
//! as the server itself count it.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::admin::Admin;
use crate::clock::sleep;
use crate::compare::Placement;
use crate::report::Report;
use crate::report::table::markdown;
use crate::run::{Session, preload};
use crate::server::{Contender, Server};
use crate::workload::values::parse_count;
use crate::workload::{Workload, WorkloadSpec, template};

/// How long a server may settle before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);

/// One server at one size and count.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryRow {
    /// The server.
    pub label: String,
    /// Keys written.
    pub keys: u64,
    /// Length of a key in bytes.
    pub key_bytes: usize,
    /// Lengths of the values.
    pub value_bytes: String,
    /// Growth of the resident memory a key, in bytes.
    pub rss_bytes_per_key: f64,
    /// Growth of `used_memory` of INFO a key, in bytes.
    pub used_bytes_per_key: f64,
    /// Resident memory in the end.
    pub rss_bytes: u64,
    /// `used_memory` in the end.
    pub used_bytes: u64,
}

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Memory")]
pub struct MemorySpec {
    /// Numbers of keys, comma-separated
    #[arg(long, default_value = "1m", value_name = "COUNTS")]
    pub keys: String,
    /// Lengths of keys in bytes, comma-separated, at least 12
    #[arg(long, default_value = "16", value_name = "LENGTHS")]
    pub key_size: String,
    /// Sizes of values, separated by semicolons (each as in --value-size)
    #[arg(long, default_value = "8;64;512", value_name = "SIZES")]
    pub value_size: String,
    /// Time to live of the keys in seconds
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<String>,
}

/// The table.
#[must_use]
pub fn table(rows: &[MemoryRow]) -> String {
    let head = ["server", "keys", "key bytes", "value bytes", "RSS a key", "used_memory a key", "RSS / used"];
    let mut all = vec![head.map(str::to_owned).to_vec()];
    for row in rows {
        all.push(vec![
            row.label.clone(),
            row.keys.to_string(),
            row.key_bytes.to_string(),
            row.value_bytes.clone(),
            format!("{:.1}", row.rss_bytes_per_key),
            format!("{:.1}", row.used_bytes_per_key),
            format!("{:.3}", row.rss_bytes_per_key / row.used_bytes_per_key),
        ]);
    }
    markdown(&all)
}

fn read(server: &Server) -> anyhow::Result<(u64, u64)> {
    sleep(SETTLE);
    let mut admin = Admin::connect(&server.target, Duration::from_secs(5))?;
    let info = admin.info()?;
    let number = |name: &str| info.get(name).and_then(|text| text.parse::<u64>().ok());
    let used = number("used_memory").context("INFO has no used_memory")?;
    let resident =
        server.pid().and_then(resident_bytes).or(number("used_memory_rss")).context("INFO has no used_memory_rss")?;
    Ok((resident, used))
}

fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    Some(statm.split_whitespace().nth(1)?.parse::<u64>().ok()? * rustix::param::page_size() as u64)
}

/// Measures every combination on every server. A server that was started is started anew each time;
/// one that runs must be empty and is left filled.
///
/// # Errors
/// The first measurement could not be made.
pub fn run(
    session: &Session,
    contenders: &[Contender],
    spec: &MemorySpec,
    placement: Placement,
) -> anyhow::Result<Report> {
    let counts: Vec<u64> = spec.keys.split(',').map(parse_count).collect::<anyhow::Result<_>>().context("--keys")?;
    let lengths: Vec<u64> =
        spec.key_size.split(',').map(parse_count).collect::<anyhow::Result<_>>().context("--key-size")?;
    let combinations: Vec<(u64, u64, &str)> = counts
        .iter()
        .flat_map(|count| lengths.iter().map(move |length| (*count, *length)))
        .flat_map(|(count, length)| spec.value_size.split(';').map(move |size| (count, length, size.trim())))
        .collect();
    let mut report =
        Report::new("memory", session.fingerprint.clone(), "keys written once, then memory read".to_owned());
    for (keys, length, size) in combinations {
        for contender in contenders {
            if session.stopped() {
                report.failure = Some("interrupted".to_owned());
                return Ok(report);
            }
            match one(session, contender, keys, length, size, spec.ttl.clone(), placement) {
                Ok(row) => report.memory.push(row),
                Err(error) if report.memory.is_empty() => return Err(error),
                Err(error) => {
                    report.failure = Some(format!("{}: {error:#}", contender.name));
                    return Ok(report);
                }
            }
        }
    }
    Ok(report)
}

fn one(
    session: &Session,
    contender: &Contender,
    keys: u64,
    length: u64,
    size: &str,
    ttl: Option<String>,
    placement: Placement,
) -> anyhow::Result<MemoryRow> {
    ensure!((template::DIGITS as u64..=512).contains(&length), "--key-size must be from {} to 512", template::DIGITS);
    let workload = Workload::compile(&WorkloadSpec {
        keys: keys.to_string(),
        key_prefix: "k".repeat(length as usize - template::DIGITS),
        value_size: size.to_owned(),
        ttl,
        ..WorkloadSpec::default()
    })?;
    let server = contender.up(placement.over, placement.core())?;
    let mut admin = Admin::connect(&server.target, Duration::from_secs(5))?;
    let held = admin.call(&["DBSIZE"])?;
    ensure!(
        held == tercel_resp::reply::Value::Integer(0),
        "{} holds keys already; the growth of its memory would not be that of the keys written",
        contender.name
    );
    let before = read(&server)?;
    preload(session, &server.target, &workload, Duration::from_secs(5))?;
    let after = read(&server)?;
    let per_key = |after: u64, before: u64| after.saturating_sub(before) as f64 / keys as f64;
    Ok(MemoryRow {
        label: contender.name.clone(),
        keys,
        key_bytes: length as usize,
        value_bytes: size.to_owned(),
        rss_bytes_per_key: per_key(after.0, before.0),
        used_bytes_per_key: per_key(after.1, before.1),
        rss_bytes: after.0,
        used_bytes: after.1,
    })
}
