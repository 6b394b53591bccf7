//! One server: owns the parts and lends them, keeps what has to hold between them, and carries what
//! happens in one to the others. Nothing here touches a socket; what needs one is left as a [`Request`] for
//! the executor.

mod consumers;
mod follow;
mod links;
mod settle;
mod steps;

use std::path::PathBuf;
use std::rc::Rc;

use crate::base::clock::{Clock, Now};
use crate::clients::Clients;
use crate::command::CommandTable;
use crate::data::Dataset;
use crate::host::Host;
use crate::links::LinkKey;
use crate::persistence::{Persistence, Work};
use crate::settings::Settings;
use crate::stats::Stats;

pub use consumers::EffectReader;
pub use links::{LinkHandler, ServerLinks};

/// Something a command asked for that only the executor can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Settings changed from these: listeners and the like are to follow.
    FollowSettings(Box<Settings>),
    /// Dial a link.
    Connect(LinkKey),
    /// End the server in order.
    Shutdown,
    /// End it at once, with this exit status, as a crash would.
    Exit(i32),
}

/// A server.
pub struct Server {
    table: &'static CommandTable,
    data: Dataset,
    clients: Clients,
    persistence: Persistence,
    links: ServerLinks,
    stats: Stats,
    settings: Settings,
    clock: Clock,
    now: Now,
    effect_readers: Vec<Box<dyn EffectReader>>,
    requests: Vec<Request>,
    run_id: String,
    host: Rc<dyn Host>,
    dir: PathBuf,
}

/// The parts that work on one another, lent together.
pub struct Parts<'a> {
    /// The data.
    pub data: &'a mut Dataset,
    /// The clients.
    pub clients: &'a mut Clients,
    /// What is measured.
    pub stats: &'a mut Stats,
    /// The settings in force.
    pub settings: &'a Settings,
    /// The clock.
    pub clock: &'a Clock,
    /// The time of this turn.
    pub now: Now,
}

impl Server {
    /// A server without data, in the directory `dir`, that relative paths are seen from.
    #[must_use]
    pub fn new(table: &'static CommandTable, settings: Settings, host: Rc<dyn Host>, dir: PathBuf) -> Self {
        let mut random = [0u8; 44];
        if !host.random(&mut random) {
            // Without a random source the hash key falls back to the clock and an address: weaker
            // against flooding, but the server starts.
            let mut clock = host.clock();
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
        let mut clock = host.clock();
        let now = clock.now();
        let mut server = Server {
            table,
            data: Dataset::new(&settings, hash_key, u64::from_le_bytes(seed), host.meter()),
            clients: Clients::new(&settings),
            persistence: Persistence::new(now.unix_ms / 1000),
            links: ServerLinks::default(),
            stats: Stats::new(now, table.len()),
            settings,
            clock,
            now,
            effect_readers: Vec::new(),
            requests: Vec::new(),
            run_id,
            host,
            dir,
        };
        server.update_interest();
        server.tick();
        server
    }

    /// Reads the clock: a new turn begins.
    #[inline]
    pub fn tick(&mut self) {
        self.now = self.clock.now();
        self.data.tick(self.now);
    }

    /// Looks at the clock within a turn, where the time it began at is too old.
    pub(crate) fn see_time(&mut self) {
        self.now = self.clock.now();
        self.data.see_time(self.now);
    }

    /// All commands: their names and declarations.
    #[must_use]
    pub fn table(&self) -> &'static CommandTable {
        self.table
    }

    /// The data.
    #[must_use]
    #[inline]
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// The data, to change it.
    #[inline]
    pub fn data_mut(&mut self) -> &mut Dataset {
        &mut self.data
    }

    /// The clients.
    #[must_use]
    #[inline]
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The clients, to change them.
    #[inline]
    pub fn clients_mut(&mut self) -> &mut Clients {
        &mut self.clients
    }

    /// What is measured.
    #[must_use]
    #[inline]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What is measured, to count.
    #[inline]
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// The settings in force.
    #[must_use]
    #[inline]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The clock.
    #[must_use]
    #[inline]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The time of this turn.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Now {
        self.now
    }

    /// The time as it is at this very moment.
    pub fn read_clock(&mut self) -> Now {
        self.clock.now()
    }

    /// Snapshots: the one being written or loaded, and those before.
    #[must_use]
    #[inline]
    pub fn persistence(&self) -> &Persistence {
        &self.persistence
    }

    /// Snapshots with what they work on.
    pub fn persistence_mut(&mut self) -> Work<'_> {
        Work {
            state: &mut self.persistence,
            data: &mut self.data,
            settings: &self.settings,
            host: &*self.host,
            dir: &self.dir,
            clock: &self.clock,
            now: self.now,
        }
    }

    /// Several parts at once.
    #[inline]
    pub fn parts(&mut self) -> Parts<'_> {
        Parts {
            data: &mut self.data,
            clients: &mut self.clients,
            stats: &mut self.stats,
            settings: &self.settings,
            clock: &self.clock,
            now: self.now,
        }
    }

    /// The machine.
    #[must_use]
    pub fn host(&self) -> &dyn Host {
        &*self.host
    }

    /// Identity of this run, 40 hexadecimal digits.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Leaves something for the executor to do.
    pub fn request(&mut self, request: Request) {
        self.requests.push(request);
    }

    /// Whether anything is left for it.
    #[must_use]
    #[inline]
    pub fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// What is left for it, in order.
    pub fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }
}
