//! Everything an executor owns apart from its transports: the keyspace, the clients, settings,
//! subscriptions, statistics. Commands work on this through a [`crate::commands::Context`].
//! Nothing here touches a socket; what needs one is left as an [`Action`] for the executor.

mod settle;
mod steps;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::base::clock::{Clock, Now};
use crate::clients::Clients;
use crate::clients::client::ClientKey;
use crate::clients::subscriptions::PubSub;
use crate::clients::table::Current;
use crate::clients::watch::Watches;
use crate::command::CommandTable;
use crate::data::Dataset;
use crate::host::Host;
use crate::persistence::Persistence;
use crate::settings::Settings;
use crate::stats::Stats;

/// Something a command asked for that only the executor can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Settings changed from these: listeners and the like are to follow.
    ApplySettings(Box<Settings>),
    /// End the server; `false` without waiting for clients' replies.
    Shutdown,
    /// End it at once, with this exit status, as a crash would.
    Exit(i32),
}

/// A pause set by CLIENT PAUSE.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// End in Unix milliseconds.
    pub until_ms: i64,
    /// Whether only commands that may write are held back.
    pub writes_only: bool,
}

/// What an executor owns.
pub struct Core {
    /// All commands: their names and declarations.
    pub table: &'static CommandTable,
    /// The data.
    pub data: Dataset,
    /// The settings in force.
    pub settings: Settings,
    /// The clients.
    pub clients: Clients,
    /// Subscriptions.
    pub pubsub: PubSub,
    /// Watched keys.
    pub watches: Watches,
    /// Counters, histograms and logs.
    pub stats: Stats,
    /// The clock, and the time of this turn.
    pub clock: Clock,
    /// The time of this turn.
    pub now: Now,
    /// Snapshots: the one being written or loaded, and those before.
    pub persistence: Persistence,
    /// What the executor is to do.
    pub actions: Vec<Action>,
    /// CLIENT PAUSE.
    pub pause: Option<Pause>,
    /// The client whose command runs, and pushes to itself that wait for its reply.
    pub current: Option<Current>,
    /// Identity of this run, 40 hexadecimal digits.
    pub run_id: String,
    /// The machine.
    pub host: Rc<dyn Host>,
    /// The directory that relative paths are seen from.
    pub dir: PathBuf,
}

impl Core {
    /// A fresh executor state.
    #[must_use]
    pub fn new(table: &'static CommandTable, settings: Settings, host: Rc<dyn Host>) -> Self {
        let mut random = [0u8; 44];
        if !host.random(&mut random) {
            // Without a random source the hash key falls back to the clock and an address: weaker
            // against flooding, but the server starts.
            let mut clock = Clock::new();
            let seed = clock.now().unix_us as u64 ^ (&raw const random as u64).rotate_left(32);
            for (at, byte) in random.iter_mut().enumerate() {
                *byte = (seed.rotate_left(at as u32 * 7).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
            }
        }
        let mut hash_key = [0u8; 16];
        hash_key.copy_from_slice(&random[..16]);
        if !settings.hash_seed.is_empty() {
            use sha1::Digest;
            hash_key.copy_from_slice(&sha1::Sha1::digest(settings.hash_seed.as_bytes())[..16]);
        }
        let mut seed = [0u8; 8];
        seed.copy_from_slice(&random[16..24]);
        let run_id = {
            use sha1::Digest;
            sha1::Sha1::digest(&random[24..]).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let data = Dataset::new(&settings, hash_key, u64::from_le_bytes(seed), host.meter());
        let mut clock = Clock::new();
        let now = clock.now();
        let stats = Stats::new(now, table.len());
        let settings_dir = settings.dir.clone();
        let mut core = Core {
            table,
            data,
            settings,
            clients: Clients::default(),
            pubsub: PubSub::default(),
            watches: Watches::default(),
            stats,
            clock,
            now,
            persistence: Persistence::new(now.unix_ms / 1000),
            actions: Vec::new(),
            pause: None,
            current: None,
            run_id,
            dir: PathBuf::from(&settings_dir),
            host,
        };
        core.update_interest();
        core.tick();
        core
    }

    /// A path as the server sees it: relative to its directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(Path::new(name))
    }

    /// Reads the clock: a new turn begins.
    pub fn tick(&mut self) {
        self.now = self.clock.now();
        self.data.tick(self.now);
    }

    /// Sets or ends a pause.
    pub fn set_pause(&mut self, pause: Option<Pause>) {
        self.pause = pause;
        self.data.set_pause(pause.map(|pause| pause.until_ms));
    }

    /// The client whose command is running, if it is `key`.
    #[must_use]
    pub fn is_current(&self, key: ClientKey) -> bool {
        self.current.as_ref().is_some_and(|current| current.key == key)
    }
}

impl Core {
    /// Follows settings that changed, as far as the state itself is concerned.
    pub fn settings_changed(&mut self, old: &Settings) {
        use crate::stats::commandlog::Kind;
        let new = &self.settings;
        let logs = &mut self.stats.logs;
        logs.log(Kind::Slow).trim(new.commandlog_slow_execution_max_len as usize);
        logs.log(Kind::LargeRequest).trim(new.commandlog_large_request_max_len as usize);
        logs.log(Kind::LargeReply).trim(new.commandlog_large_reply_max_len as usize);
        self.host.settings_changed(old, new);
        if new.requirepass.is_empty() && !old.requirepass.is_empty() {
            // Nobody is asked for a password any more, those neither who are here already.
            for key in self.clients.keys() {
                if let Some(connection) = self.clients.get_mut(key) {
                    connection.session.authenticated = true;
                    connection.session.is_known = true;
                }
            }
        }
        self.data.follow(new);
        if new.latency_tracking != old.latency_tracking && !new.latency_tracking {
            for command in &mut self.stats.commands {
                command.histogram = None;
            }
        }
        self.update_interest();
        self.tick();
    }
}
