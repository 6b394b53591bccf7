//! Making things happen, on connections beside those of the load.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tercel_resp::encode;
use tercel_resp::reply::Value;
use tercel_transport::client::{Client, Received};

use super::file::{Event, LargeKind, LargeValue};
use crate::admin::Admin;
use crate::clock::{Clock, TscClock, sleep, unix_ms};
use crate::target::{AnyClient, Target};
use crate::workload::excerpt;
use crate::workload::template::split;
use crate::workload::values::{SizeDistribution, ValueSource, parse_count};

/// How long one command of an event may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Keys an event writes at once.
const BATCH: u64 = 64;
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// An event that is ready to happen.
pub struct Prepared {
    event: Event,
    target: Target,
    admin: Admin,
    clock: TscClock,
    /// For expiry: the Unix time in milliseconds at which everything expires, and how many keys the
    /// server held before.
    deadline: Option<(u64, i64)>,
}

fn value(size: &str) -> anyhow::Result<ValueSource> {
    let sizes: SizeDistribution = size.parse().context("value_size")?;
    Ok(ValueSource::new(sizes, 77))
}

fn must(reply: Value, what: &str) -> anyhow::Result<Value> {
    if let Value::Error(text) = reply {
        bail!("{what} answered {}", excerpt(&text));
    }
    Ok(reply)
}

/// Asks a server for one setting.
///
/// # Errors
/// It does not know it.
pub fn config_get(admin: &mut Admin, name: &str) -> anyhow::Result<String> {
    let reply = must(admin.call(&["CONFIG", "GET", name])?, "CONFIG GET")?;
    let found = match reply {
        Value::Array(items) => items.into_iter().nth(1),
        Value::Map(pairs) => pairs.into_iter().next().map(|pair| pair.1),
        _ => None,
    };
    match found {
        Some(Value::Bulk(text)) => Ok(String::from_utf8_lossy(&text).into_owned()),
        _ => bail!("the server has no setting {name}"),
    }
}

/// Sets a setting.
///
/// # Errors
/// The server refuses.
pub fn config_set(admin: &mut Admin, name: &str, value: &str) -> anyhow::Result<()> {
    must(admin.call(&["CONFIG", "SET", name, value])?, &format!("CONFIG SET {name} {value}")).map(drop)
}

fn dbsize(admin: &mut Admin) -> anyhow::Result<i64> {
    match must(admin.call(&["DBSIZE"])?, "DBSIZE")? {
        Value::Integer(keys) => Ok(keys),
        other => bail!("DBSIZE answered {other:?}"),
    }
}

/// Keys to write.
struct Fill<'a> {
    prefix: &'a str,
    keys: u64,
    values: &'a ValueSource,
    /// Keys a second at most.
    rate: Option<f64>,
    /// Unix time in milliseconds at which they expire.
    pxat: Option<u64>,
}

impl Fill<'_> {
    /// Returns when all are written, or when `go_on` says no.
    fn run(&self, admin: &mut Admin, clock: &TscClock, go_on: &dyn Fn() -> bool) -> anyhow::Result<()> {
        let (mut batch, mut key, begin) = (Vec::new(), 0, clock.now_ns());
        let pxat = self.pxat.map(|at| at.to_string());
        while key < self.keys && go_on() {
            batch.clear();
            let from = key;
            while key < self.keys && key - from < BATCH {
                let name = format!("{}{key:012}", self.prefix);
                let value = self.values.of(key, 0);
                match &pxat {
                    Some(at) => encode::request(&mut batch, &[b"SET", name.as_bytes(), value, b"PXAT", at.as_bytes()]),
                    None => encode::request(&mut batch, &[b"SET", name.as_bytes(), value]),
                }
                key += 1;
            }
            admin.send(&batch)?;
            admin.skip_oks(key - from)?;
            if let Some(rate) = self.rate {
                let due_ns = begin + (key as f64 / rate * 1e9) as u64;
                sleep(Duration::from_nanos(due_ns.saturating_sub(clock.now_ns())));
            }
        }
        Ok(())
    }
}

/// Makes a large value, in place of what its key has.
fn make(admin: &mut Admin, large: &LargeValue) -> anyhow::Result<()> {
    /// Elements of a command.
    const AT_ONCE: u64 = 200;
    let count = parse_count(&large.count)?;
    must(admin.call(&["DEL", &large.key])?, "DEL")?;
    if large.kind == LargeKind::String {
        let last = count.saturating_sub(1).to_string();
        return must(admin.call(&["SETRANGE", &large.key, &last, "x"])?, "SETRANGE").map(drop);
    }
    let mut from = 0;
    while from < count {
        let until = count.min(from + AT_ONCE);
        let mut words = match large.kind {
            LargeKind::Hash => vec!["HSET".to_owned(), large.key.clone()],
            _ => vec!["RPUSH".to_owned(), large.key.clone()],
        };
        for number in from..until {
            if large.kind == LargeKind::Hash {
                words.extend([format!("field:{number:012}"), format!("value:{number:012}")]);
            } else {
                words.push(format!("element:{number:012}"));
            }
        }
        must(admin.call(&words)?, &words[0])?;
        from = until;
    }
    Ok(())
}

impl Prepared {
    /// Does what must be done before the load; `lead_ms` is how long after the load's begin the event
    /// is.
    ///
    /// # Errors
    /// The server is not reachable or refuses.
    pub fn new(event: &Event, target: &Target, clock: &TscClock, lead_ms: u64) -> anyhow::Result<Self> {
        let mut admin = Admin::connect(target, Duration::from_secs(5))?;
        admin.set_patience(PATIENCE);
        let mut prepared =
            Prepared { event: event.clone(), target: target.clone(), admin, clock: clock.clone(), deadline: None };
        match event {
            Event::Expire { keys, value_size } => {
                let (keys, values) = (parse_count(keys)?, value(value_size)?);
                let before = dbsize(&mut prepared.admin)?;
                // A first part shows how long all of them take; the rest is written with time to
                // spare before the deadline. The first part is written again with it.
                let sample = (keys / 20).clamp(1, 20_000);
                let begin = prepared.clock.now_ns();
                let far = unix_ms() + 3_600_000;
                let mut expiring =
                    Fill { prefix: "expire:", keys: sample, values: &values, rate: None, pxat: Some(far) };
                expiring.run(&mut prepared.admin, clock, &|| true)?;
                let each_ns = (prepared.clock.now_ns() - begin) / sample;
                let deadline = unix_ms() + each_ns * keys * 2 / 1_000_000 + 1000 + lead_ms;
                (expiring.keys, expiring.pxat) = (keys, Some(deadline));
                expiring.run(&mut prepared.admin, clock, &|| true)?;
                ensure!(
                    unix_ms() + lead_ms < deadline,
                    "writing the keys that expire took longer than expected; try again"
                );
                prepared.deadline = Some((deadline, before));
            }
            Event::SlowReader { value_size, .. } => {
                let values = value(value_size)?;
                must(prepared.admin.call(&[&b"SET"[..], b"slow-reader:value", values.of(0, 0)])?, "SET")?;
            }
            Event::Commands { prepare, .. } => prepare.iter().try_for_each(|large| make(&mut prepared.admin, large))?,
            Event::Fill { .. } | Event::Clients { .. } => {}
        }
        Ok(prepared)
    }

    /// When the load must begin, in Unix milliseconds, if the event's time is fixed.
    #[must_use]
    pub fn load_begins_unix_ms(&self, lead_ms: u64) -> Option<u64> {
        self.deadline.map(|(deadline, _)| deadline - lead_ms)
    }

    /// Lets it happen; returns when it is over, or soon after `go_on` says no.
    ///
    /// # Errors
    /// The server refuses what the event asks of it.
    pub fn happen(&mut self, go_on: &dyn Fn() -> bool) -> anyhow::Result<()> {
        match self.event.clone() {
            Event::Commands { commands, value_size, repeat, until, .. } => {
                let values = value(&value_size)?;
                for text in (0..repeat).flat_map(|_| &commands) {
                    if !go_on() {
                        break;
                    }
                    let words: Vec<Vec<u8>> = split(text.as_bytes())?
                        .into_iter()
                        .map(|word| if word == b"__value__" { values.of(0, 0).to_vec() } else { word })
                        .collect();
                    self.admin.order(&words).with_context(|| text.clone())?;
                }
                while !until.is_empty() && go_on() {
                    let info = self.admin.info()?;
                    if let Some(name) = until.keys().find(|name| !info.contains_key(*name)) {
                        bail!("INFO has no {name}, so there is no telling when the event is over");
                    }
                    if until.iter().all(|(name, text)| info.get(name) == Some(text)) {
                        break;
                    }
                    sleep(LOOK);
                }
                Ok(())
            }
            Event::Fill { keys, value_size, rate } => {
                let rate = rate.as_deref().map(crate::run::parse_rate).transpose()?;
                let fill =
                    Fill { prefix: "fill:", keys: parse_count(&keys)?, values: &value(&value_size)?, rate, pxat: None };
                fill.run(&mut self.admin, &self.clock, go_on)
            }
            Event::Expire { .. } => {
                let before = self.deadline.map_or(0, |(_, before)| before);
                // Over when nearly all are gone; a server that samples leaves the last for long.
                while go_on() && dbsize(&mut self.admin)? > before + before / 100 + 100 {
                    sleep(LOOK);
                }
                Ok(())
            }
            Event::Clients { count, stay } => {
                let mut client = self.target.client()?;
                let mut ping = Vec::new();
                encode::request(&mut ping, &["PING"]);
                for number in 0..count {
                    if !go_on() {
                        break;
                    }
                    let conn = client
                        .connect(Duration::from_secs(10))
                        .with_context(|| format!("client {} of the storm", number + 1))?;
                    client.send(conn, &ping)?;
                    client.flush();
                }
                stay_for(&self.clock, stay, go_on);
                refused(&mut client, count)
            }
            Event::SlowReader { readers, requests, stay, .. } => {
                let mut client = self.target.client()?;
                let mut asks = Vec::new();
                (0..requests).for_each(|_| encode::request(&mut asks, &["GET", "slow-reader:value"]));
                for _ in 0..readers {
                    let conn = client.connect(Duration::from_secs(10))?;
                    client.send(conn, &asks)?;
                    client.flush();
                }
                stay_for(&self.clock, stay, go_on);
                Ok(())
            }
        }
    }
}

/// A server that is full may accept a client and send it away.
fn refused(client: &mut AnyClient, count: u32) -> anyhow::Result<()> {
    let (mut without, mut first, mut reply) = (0, None, [0; 256]);
    for conn in 0..count as usize {
        match client.receive(conn, &mut reply) {
            Ok(Received::Bytes(len)) if reply[..len].starts_with(b"+") => continue,
            Ok(Received::Bytes(len)) => first = first.or(Some(excerpt(reply[..len].trim_ascii_end()))),
            Ok(Received::Nothing) => first = first.or(Some("nothing".to_owned())),
            Ok(Received::Eof) => first = first.or(Some("the end of the connection".to_owned())),
            // Those that were never opened because the load ended are not the server's doing.
            Err(error) if error.kind() == std::io::ErrorKind::NotConnected => continue,
            Err(error) => first = first.or(Some(error.to_string())),
        }
        without += 1;
    }
    match first {
        Some(first) => bail!("{without} of the storm's {count} clients got no answer to PING, the first {first}"),
        None => Ok(()),
    }
}

fn stay_for(clock: &TscClock, seconds: f64, go_on: &dyn Fn() -> bool) {
    let until = clock.now_ns() + (seconds.clamp(0.0, 3600.0) * 1e9) as u64;
    while clock.now_ns() < until && go_on() {
        sleep(LOOK);
    }
}
