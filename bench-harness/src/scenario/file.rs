//! Scenario files: a constant open-loop load, and something that happens in the middle of it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::load::Wait;
use crate::load::schedule::Arrivals;
use crate::run::LoadSpec;
use crate::workload::WorkloadSpec;

/// A scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// The load.
    #[serde(default)]
    pub load: ScenarioLoad,
    /// The workload, as on the command line.
    #[serde(default)]
    pub workload: WorkloadSpec,
    /// How the server is set for it.
    #[serde(default)]
    pub server: ServerSettings,
    /// What happens.
    pub event: Event,
    /// What shows that it did.
    #[serde(default)]
    pub expect: Expect,
}

/// What a server must show after an event, so that a quiet time line is not that of an event which
/// never took place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// Fields of INFO, and by how much each must have risen at least since before the load.
    pub rises: BTreeMap<String, u64>,
}

/// The load of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScenarioLoad {
    /// Requests a second.
    pub rate: String,
    /// Connections.
    pub connections: usize,
    /// Seconds before anything counts.
    pub warmup: f64,
    /// Seconds that count.
    pub duration: f64,
    /// Seconds after the beginning of the measured time at which the event begins.
    pub event_at: f64,
    /// Length of an interval of the time line in milliseconds.
    pub interval: u64,
}

impl Default for ScenarioLoad {
    fn default() -> Self {
        ScenarioLoad {
            rate: "10k".to_owned(),
            connections: 8,
            warmup: 1.0,
            duration: 15.0,
            event_at: 5.0,
            interval: 100,
        }
    }
}

impl ScenarioLoad {
    /// The same in the words of the command line.
    #[must_use]
    pub fn spec(&self, client_core: Option<String>, wait: Wait) -> LoadSpec {
        LoadSpec {
            connections: self.connections,
            pipeline: 1,
            rate: Some(self.rate.clone()),
            arrivals: Arrivals::Poisson,
            warmup: self.warmup,
            duration: self.duration,
            requests: None,
            threads: 1,
            wait,
            client_core,
            window: 65_536,
            drain: 10.0,
            interval: self.interval,
            connect_timeout: 5.0,
        }
    }
}

/// Settings for the time of a scenario; what they were is restored afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// CONFIG SET of these, before the keys are written.
    pub config: BTreeMap<String, String>,
    /// After the keys are written: `maxmemory` is what is used then and so much more.
    pub maxmemory_above_used: Option<String>,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// Commands, one after the other, each waiting for its reply.
    Commands {
        /// Templates; `__value__` is a value of `value_size` bytes.
        commands: Vec<String>,
        /// Bytes of a value.
        #[serde(default = "one")]
        value_size: String,
        /// How often all of them.
        #[serde(default = "once")]
        repeat: u32,
        /// Fields of INFO and what they say once the event is over, where it goes on after the replies.
        #[serde(default)]
        until: BTreeMap<String, String>,
        /// Large values that are made before the load.
        #[serde(default)]
        prepare: Vec<LargeValue>,
    },
    /// Writes new keys on a connection of its own.
    Fill {
        /// How many.
        keys: String,
        /// Bytes of a value.
        value_size: String,
        /// Keys a second at most; as fast as it goes without.
        rate: Option<String>,
    },
    /// Keys written before the load, all of which expire at the time of the event.
    Expire {
        /// How many.
        keys: String,
        /// Bytes of a value.
        value_size: String,
    },
    /// Clients that connect, send PING, stay, and go.
    Clients {
        /// How many.
        count: u32,
        /// How long they stay once all are there, in seconds.
        stay: f64,
    },
    /// Clients that ask for much and read nothing.
    SlowReader {
        /// How many.
        readers: u32,
        /// Bytes of the value they ask for.
        value_size: String,
        /// How often each asks.
        requests: u32,
        /// How long they do not read, in seconds.
        stay: f64,
    },
}

/// A value of many elements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LargeValue {
    /// Its key.
    pub key: String,
    /// What it is.
    pub kind: LargeKind,
    /// How many elements, fields or bytes.
    pub count: String,
}

/// Of what kind a large value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LargeKind {
    /// Bytes, all zero but the last.
    String,
    /// Elements `element:000000000000` and so on.
    List,
    /// Fields `field:000000000000` and so on, each with a value.
    Hash,
}

fn one() -> String {
    "1".to_owned()
}

fn once() -> u32 {
    1
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read or makes no sense; the line is named.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("the scenario {}", path.display());
        let text = std::fs::read_to_string(path).with_context(context)?;
        Self::parse(&text).with_context(context)
    }

    /// As [`Scenario::read`], from the file's content.
    ///
    /// # Errors
    /// As there.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let scenario: Scenario = toml::from_str(text)?;
        let load = &scenario.load;
        ensure!(load.event_at > 0.0 && load.event_at < load.duration, "event_at must be inside the duration");
        load.spec(None, Wait::Spin).compile().context("[load]")?;
        crate::workload::Workload::compile(&scenario.workload).context("[workload]")?;
        Ok(scenario)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_scenario_shipped_is_whole() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let scenario = Scenario::read(&path).unwrap();
            assert_eq!(path.file_stem().unwrap().to_str().unwrap(), scenario.name);
            names.push(scenario.name);
        }
        names.sort();
        let want = [
            "bgsave",
            "big-value",
            "client-storm",
            "config-set",
            "eviction",
            "expire-storm",
            "flushall",
            "growth",
            "hash-save",
            "long-commands",
            "slow-reader",
        ];
        assert_eq!(names, want);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let event = "[event]\nkind='commands'\ncommands=['PING']\n";
        let refused = |text: &str| format!("{:#}", Scenario::parse(text).unwrap_err());
        assert!(refused(&format!("name='x'\nabout='y'\n{event}[expect]\nfalls={{a=1}}\n")).contains("falls"));
        assert!(Scenario::parse(&format!("name='x'\nabout='y'\n{event}")).is_ok());
        assert!(refused("name='x'").contains("missing field"));
        assert!(refused(&format!("name='x'\nabout='y'\nfrob=1\n{event}")).contains("frob"));
        assert!(refused(&format!("name='x'\nabout='y'\n[load]\nevent_at=99\n{event}")).contains("event_at"));
        assert!(refused(&format!("name='x'\nabout='y'\n[load]\nrate='fast'\n{event}")).contains("rate"));
        assert!(refused("name='x'\nabout='y'\n[event]\nkind='nothing'\n").contains("nothing"));
    }
}
