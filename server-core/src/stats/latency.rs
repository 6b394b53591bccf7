//! Latency events: spikes of named kinds above `latency-monitor-threshold` (LATENCY LATEST,
//! HISTORY, GRAPH, DOCTOR, RESET).

use std::collections::BTreeMap;

/// The event of a command that takes as long as its work.
pub const COMMAND: &str = "command";
/// The event of a command that takes the same time always, or nearly.
pub const FAST_COMMAND: &str = "fast-command";

/// Samples kept of an event.
pub const SAMPLES_MAX: usize = 160;

/// One spike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Unix seconds.
    pub unix_seconds: i64,
    /// Latency in milliseconds.
    pub latency_ms: u64,
}

/// The history of one kind of event.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// Samples, oldest first.
    pub samples: Vec<Sample>,
    /// The longest ever, in milliseconds.
    pub latency_ms_max: u64,
    /// All latencies ever, in milliseconds.
    pub latency_ms_sum: u64,
    /// Spikes ever.
    pub count: u64,
}

/// All events.
#[derive(Default)]
pub struct LatencyMonitor {
    events: BTreeMap<String, Event>,
}

impl LatencyMonitor {
    /// Records a spike if it reaches the threshold (in milliseconds; 0 is off).
    #[inline]
    pub fn record(&mut self, event: &str, took_ns: u64, unix_ms: i64, threshold_ms: i64) {
        if threshold_ms > 0 && took_ns / 1_000_000 >= threshold_ms as u64 {
            self.add(event, took_ns / 1_000_000, unix_ms / 1000);
        }
    }

    /// Records a spike. Spikes of one second are one sample, the worst.
    pub fn add(&mut self, name: &str, latency_ms: u64, unix_seconds: i64) {
        let event = self.events.entry(name.to_owned()).or_default();
        event.latency_ms_max = event.latency_ms_max.max(latency_ms);
        event.latency_ms_sum += latency_ms;
        event.count += 1;
        if let Some(last) = event.samples.last_mut().filter(|last| last.unix_seconds == unix_seconds) {
            last.latency_ms = last.latency_ms.max(latency_ms);
            return;
        }
        if event.samples.len() == SAMPLES_MAX {
            event.samples.remove(0);
        }
        event.samples.push(Sample { unix_seconds, latency_ms });
    }

    /// All events by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Event)> {
        self.events.iter().map(|(name, event)| (name.as_str(), event))
    }

    /// Number of kinds of event.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// One event.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Event> {
        self.events.get(name)
    }

    /// Forgets one event; true if it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.events.remove(name).is_some()
    }

    /// Forgets all; how many there were.
    pub fn clear(&mut self) -> usize {
        let count = self.events.len();
        self.events.clear();
        count
    }
}
