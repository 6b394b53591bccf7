//! The server's own view: LATENCY HISTOGRAM before and after a measurement, and INFO for its CPU.
//! Servers that do not offer them are simply not asked again.

use serde::Serialize;
use tercel_resp::reply::Value;

use crate::admin::Admin;

/// The phases of Tercel, asked for by name; other servers pass over names they do not know.
const PHASES: [&str; 4] = ["phase-arrive", "phase-parse", "phase-execute", "phase-flush"];

/// The server's time in one phase or command.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Phase {
    /// `phase-…`, or a command's name.
    pub name: String,
    /// Calls in the measurement.
    pub calls: u64,
    /// Upper bounds in microseconds and how many calls were not above, cumulative.
    pub buckets: Vec<(u64, u64)>,
}

impl Phase {
    /// The upper bound in microseconds of the bucket a quantile falls into.
    #[must_use]
    pub fn bound_us(&self, quantile: f64) -> u64 {
        let rank = (quantile * self.calls as f64).ceil() as u64;
        self.buckets.iter().find(|(_, count)| *count >= rank).or(self.buckets.last()).map_or(0, |(bound, _)| *bound)
    }
}

/// Reads the phases and the distributions of these commands.
#[must_use]
pub fn read(admin: &mut Admin, commands: &[String]) -> Vec<Phase> {
    let mut words = vec!["LATENCY".to_owned(), "HISTOGRAM".to_owned()];
    words.extend(PHASES.iter().map(ToString::to_string));
    words.extend(commands.iter().map(|name| name.split('#').next().unwrap_or_default().to_owned()));
    admin.call(&words).map(|reply| parse(&reply)).unwrap_or_default()
}

fn pairs(value: &Value) -> Vec<(&Value, &Value)> {
    match value {
        Value::Map(pairs) => pairs.iter().map(|(key, value)| (key, value)).collect(),
        Value::Array(items) => items.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
        _ => Vec::new(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Bulk(text) | Value::Simple(text) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    }
}

fn number(value: &Value) -> Option<u64> {
    if let Value::Integer(number) = value { u64::try_from(*number).ok() } else { None }
}

fn parse(reply: &Value) -> Vec<Phase> {
    let mut phases = Vec::new();
    for (name, body) in pairs(reply) {
        let mut phase = Phase { name: text(name), calls: 0, buckets: Vec::new() };
        for (field, value) in pairs(body) {
            match text(field).as_str() {
                "calls" => phase.calls = number(value).unwrap_or(0),
                "histogram_usec" => {
                    phase.buckets = pairs(value)
                        .iter()
                        .filter_map(|(bound, count)| Some((number(bound)?, number(count)?)))
                        .collect();
                }
                _ => {}
            }
        }
        phases.push(phase);
    }
    phases
}

/// What happened between two readings.
#[must_use]
pub fn between(before: &[Phase], after: Vec<Phase>) -> Vec<Phase> {
    let mut found = Vec::new();
    for mut phase in after {
        if let Some(earlier) = before.iter().find(|earlier| earlier.name == phase.name) {
            phase.calls = phase.calls.saturating_sub(earlier.calls);
            for (bound, count) in &mut phase.buckets {
                let then = earlier
                    .buckets
                    .iter()
                    .take_while(|(other, _)| *other <= *bound)
                    .last()
                    .map_or(0, |(_, count)| *count);
                *count = count.saturating_sub(then);
            }
        }
        phase.buckets.dedup_by_key(|(_, count)| *count);
        phase.buckets.retain(|(_, count)| *count > 0);
        // The histogram of a phase may have counted a few more or less than its calls.
        phase.calls = phase.buckets.last().map_or(0, |(_, count)| *count);
        if phase.calls > 0 {
            found.push(phase);
        }
    }
    found
}

/// CPU time of the server in seconds, from INFO.
#[must_use]
pub fn cpu_s(info: &std::collections::HashMap<String, String>) -> Option<f64> {
    let field = |name: &str| info.get(name)?.parse::<f64>().ok();
    Some(field("used_cpu_user")? + field("used_cpu_sys")?)
}

/// Name and version of the server, from INFO.
#[must_use]
pub fn version(info: &std::collections::HashMap<String, String>) -> String {
    let field = |name: &str| info.get(name).filter(|text| !text.is_empty());
    if let Some(version) = field("tercel_version") {
        return format!("tercel {version}");
    }
    match (field("server_name"), field("valkey_version"), field("redis_version")) {
        (_, Some(version), _) => format!("valkey {version}"),
        (Some(name), _, Some(version)) => format!("{name} (as redis {version})"),
        (None, None, Some(version)) => format!("redis {version}"),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reply_of_either_protocol_reads_and_subtracts() {
        let flat =
            b"*2\r\n$3\r\nget\r\n*4\r\n$5\r\ncalls\r\n:10\r\n$14\r\nhistogram_usec\r\n*4\r\n:1\r\n:6\r\n:4\r\n:10\r\n";
        let map = b"%1\r\n$3\r\nget\r\n%2\r\n$5\r\ncalls\r\n:110\r\n$14\r\nhistogram_usec\r\n%3\r\n:1\r\n:6\r\n:2\r\n:106\r\n:4\r\n:110\r\n";
        let read = |bytes: &[u8]| parse(&tercel_resp::reply::parse(bytes).unwrap().unwrap().0);
        let found = between(&read(flat), read(map));
        assert_eq!(found, [Phase { name: "get".into(), calls: 100, buckets: vec![(2, 100)] }]);
        assert_eq!(found[0].bound_us(0.99), 2);
        assert!(parse(&Value::Error(b"ERR".to_vec())).is_empty());
    }
}
