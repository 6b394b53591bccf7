//! Bytes a key: what a server's memory grows by when keys are written, as the operating system and
//! as the server itself count it.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tercel_resp::reply::Value;

use crate::admin::Admin;
use crate::clock::sleep;
use crate::report::Report;
use crate::report::views::{BYTES_PER_KEY, BytesPerKeyRow};
use crate::run::{Session, preload};
use crate::server::{Contender, Placement, Server, all_answer};
use crate::workload::values::parse_count;
use crate::workload::{Workload, WorkloadSpec, template};

/// How long a server may settle before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Memory")]
pub struct BytesPerKeySpec {
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

/// One combination of what is measured.
pub struct Combination {
    keys: u64,
    key_bytes: usize,
    value_bytes: String,
    workload: Workload,
}

impl BytesPerKeySpec {
    /// Every combination, checked.
    ///
    /// # Errors
    /// One of them makes no sense.
    pub fn compile(&self) -> anyhow::Result<Vec<Combination>> {
        let counts = |text: &str| text.split(',').map(parse_count).collect::<anyhow::Result<Vec<u64>>>();
        let (keys, lengths) = (counts(&self.keys).context("--keys")?, counts(&self.key_size).context("--key-size")?);
        let mut all = Vec::new();
        for &keys in &keys {
            for &length in &lengths {
                for size in self.value_size.split(';').map(str::trim) {
                    let least = template::DIGITS as u64;
                    ensure!((least..=512).contains(&length), "--key-size must be from {least} to 512, not {length}");
                    let workload = Workload::compile(&WorkloadSpec {
                        keys: keys.to_string(),
                        key_prefix: "k".repeat(length as usize - template::DIGITS),
                        value_size: size.to_owned(),
                        ttl: self.ttl.clone(),
                        ..WorkloadSpec::default()
                    })?;
                    all.push(Combination { keys, key_bytes: length as usize, value_bytes: size.to_owned(), workload });
                }
            }
        }
        Ok(all)
    }
}

/// Measures every combination on every server. A server that was started is started anew each time;
/// one that runs must be empty and is left filled.
///
/// # Errors
/// The first measurement could not be made.
pub fn run(
    session: &Session,
    contenders: &[Contender],
    combinations: &[Combination],
    placement: Placement,
) -> anyhow::Result<Report> {
    all_answer(contenders, &placement, session)?;
    let mut report =
        Report::new(BYTES_PER_KEY, session.fingerprint.clone(), "keys written once, then memory read".to_owned());
    for combination in combinations {
        for contender in contenders {
            match one(session, contender, combination, placement) {
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
    combination: &Combination,
    placement: Placement,
) -> anyhow::Result<BytesPerKeyRow> {
    ensure!(!session.stopped(), "interrupted");
    let (keys, workload) = (combination.keys, &combination.workload);
    let server = contender.up(&placement, session)?;
    let mut admin = Admin::connect(&server.target, Duration::from_secs(5))?;
    ensure!(
        admin.call(&["DBSIZE"])? == Value::Integer(0),
        "{} holds keys already; the growth of its memory would not be that of the keys written",
        contender.name
    );
    let before = read(&server)?;
    preload(session, &server.target, workload, Duration::from_secs(5))?;
    let after = read(&server)?;
    let keys_held = match admin.call(&["DBSIZE"])? {
        Value::Integer(held) => u64::try_from(held).unwrap_or(0),
        other => bail!("{} answered {other:?} to DBSIZE", contender.name),
    };
    let per_key = |after: u64, before: u64| after.saturating_sub(before) as f64 / keys as f64;
    Ok(BytesPerKeyRow {
        label: contender.name.clone(),
        keys,
        keys_held,
        key_bytes: combination.key_bytes,
        value_bytes: combination.value_bytes.clone(),
        rss_bytes_per_key: per_key(after.0, before.0),
        used_bytes_per_key: per_key(after.1, before.1),
        rss_bytes: after.0,
        used_bytes: after.1,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spec() -> BytesPerKeySpec {
        BytesPerKeySpec { keys: "1k,2k".into(), key_size: "12,16".into(), value_size: "8; 64;1..9".into(), ttl: None }
    }

    #[test]
    fn every_combination_is_made_or_refused() {
        assert_eq!(spec().compile().unwrap().len(), 12);
        let refused = |change: &dyn Fn(&mut BytesPerKeySpec)| {
            let mut spec = spec();
            change(&mut spec);
            format!("{:#}", spec.compile().err().unwrap())
        };
        assert!(refused(&|spec| spec.keys = "0".into()).contains("--keys"));
        assert!(refused(&|spec| spec.keys = "1k,".into()).contains("--keys"));
        assert!(refused(&|spec| spec.key_size = "5".into()).contains("--key-size"));
        assert!(refused(&|spec| spec.value_size = ";".into()).contains("--value-size"));
        assert!(refused(&|spec| spec.ttl = Some("0".into())).contains("--ttl"));
    }
}
