//! The data under its rules. Nothing outside this room can change the keyspace: what is written goes
//! through `gate.rs`, what counts as expired is said in `expiry.rs`, and what happened to keys is an
//! [`Event`](events::Event) that the server drains in order. Knows no client and no command.

pub mod effects;
pub mod encoding;
pub mod events;
mod eviction;
mod expiry;
mod gate;
mod holds;
mod key;
mod keys;
mod snapshots;
mod strings;
mod typed;
mod waited;

use tercel_engine::{Access, Db, EntryRef, Hash, Keyspace, KeyspaceConfig, Policy};

use crate::base::clock::{Clock, Now};
use crate::host::Meter;
use crate::settings::Settings;
use effects::Effects;
use events::Event;
use holds::Holds;
use waited::Waited;

pub use eviction::Room;
pub use expiry::Expired;
pub use holds::Hold;
pub use key::Key;
pub use typed::{Change, Typed};

/// What this room counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Keys removed at their deadline or found past it.
    pub expired_keys: u64,
    /// Fields of hashes removed at their deadline.
    pub expired_fields: u64,
    /// Keys evicted.
    pub evicted_keys: u64,
    /// Slices of expiry that ran into their bound.
    pub expired_time_cap_reached: u64,
    /// Time spent expiring in nanoseconds.
    pub expire_ns: u64,
    /// Time spent above `maxmemory` in nanoseconds.
    pub eviction_exceeded_ns: u64,
    /// Most memory in use, in bytes.
    pub memory_peak: usize,
}

/// What of the settings the data goes by.
#[derive(Clone, Copy)]
struct Rules {
    maxmemory: usize,
    policy: Policy,
    samples: usize,
    lfu_log_factor: u32,
    lfu_decay_minutes: u32,
}

impl Rules {
    fn of(settings: &Settings) -> Self {
        Rules {
            maxmemory: settings.maxmemory.0 as usize,
            policy: settings.maxmemory_policy.0,
            samples: settings.maxmemory_samples as usize,
            lfu_log_factor: settings.lfu_log_factor as u32,
            lfu_decay_minutes: settings.lfu_decay_time as u32,
        }
    }
}

/// The data of one server.
pub struct Dataset {
    keyspace: Keyspace,
    rules: Rules,
    meter: Box<dyn Meter>,
    /// The time of this turn.
    now: Now,
    access: Access,
    /// Whether reads leave the access field alone (CLIENT NO-TOUCH of the running client).
    no_touch: bool,
    /// Changes since start.
    dirty: u64,
    /// Which events anybody wants to hear of.
    interest: u32,
    events: Vec<Event>,
    /// Keys that reads found past their time: removed when the command is over.
    found_expired: Vec<(usize, Box<[u8]>)>,
    effects: Effects,
    holds: Holds,
    waited: Waited,
    /// Effects of another server are being run.
    is_following: bool,
    /// Whether deadlines fire by themselves.
    active_expire: bool,
    /// Until when nothing expires and nothing is evicted, in Unix milliseconds.
    paused_until_ms: i64,
    /// Time this turn has spent evicting, in nanoseconds.
    turn_evict_ns: u64,
    eviction_over_since_ns: Option<u64>,
    /// Memory in bytes that was set aside and that nothing touches yet: it is not in use.
    untouched_bytes: usize,
    /// Databases emptied or exchanged, ever.
    upheavals: u64,
    /// Snapshots that are walked.
    walks: usize,
    /// Bytes that were evicted meanwhile and that the walks still hold.
    withheld_bytes: usize,
    counters: Counters,
    memory_startup: usize,
}

impl Dataset {
    /// Empty databases; `hash_key` and `seed` are random.
    #[must_use]
    pub fn new(settings: &Settings, hash_key: [u8; 16], seed: u64, meter: Box<dyn Meter>) -> Self {
        let databases = settings.databases as usize;
        let mut data = Dataset {
            keyspace: Keyspace::new(KeyspaceConfig { databases, hash_key, seed }),
            rules: Rules::of(settings),
            meter,
            now: Now::default(),
            access: Access { now_ms: 0, lfu: false, lfu_log_factor: 10, lfu_decay_minutes: 1 },
            no_touch: false,
            dirty: 0,
            interest: 0,
            events: Vec::new(),
            found_expired: Vec::new(),
            effects: Effects::default(),
            holds: Holds::default(),
            waited: Waited::default(),
            is_following: false,
            active_expire: true,
            paused_until_ms: i64::MIN,
            turn_evict_ns: 0,
            eviction_over_since_ns: None,
            untouched_bytes: 0,
            upheavals: 0,
            walks: 0,
            withheld_bytes: 0,
            counters: Counters::default(),
            memory_startup: 0,
        };
        data.follow(settings);
        data
    }

    /// Follows settings that changed.
    pub fn follow(&mut self, settings: &Settings) {
        self.rules = Rules::of(settings);
        self.effects.follow(settings);
        self.tick(self.now);
    }

    /// A turn begins.
    pub fn tick(&mut self, now: Now) {
        self.turn_evict_ns = 0;
        self.see_time(now);
    }

    /// It is later than when the turn began.
    pub fn see_time(&mut self, now: Now) {
        self.now = now;
        self.access = Access {
            now_ms: now.unix_ms,
            lfu: matches!(self.rules.policy, Policy::AllKeysLfu | Policy::VolatileLfu),
            lfu_log_factor: self.rules.lfu_log_factor,
            lfu_decay_minutes: self.rules.lfu_decay_minutes,
        };
    }

    /// The keyspace, to look at: prefetching, statistics, walks.
    #[must_use]
    #[inline]
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// A database, to look at.
    #[must_use]
    #[inline]
    pub fn db(&self, index: usize) -> &Db {
        self.keyspace.db(index)
    }

    /// How many databases there are.
    #[must_use]
    pub fn databases(&self) -> usize {
        self.keyspace.databases()
    }

    /// The databases that hold keys, in order.
    pub fn filled(&self) -> impl Iterator<Item = (usize, &Db)> {
        (0..self.databases()).map(|index| (index, self.db(index))).filter(|(_, db)| !db.is_empty())
    }

    /// Keys of all databases.
    #[must_use]
    pub fn keys_total(&self) -> usize {
        self.filled().map(|(_, db)| db.len()).sum()
    }

    /// The hash of a key, the same in all databases.
    #[must_use]
    #[inline]
    pub fn hash(&self, key: &[u8]) -> Hash {
        self.keyspace.hash(key)
    }

    /// A random number below `bound`; 0 when that is 0.
    pub fn random_below(&mut self, bound: u64) -> u64 {
        self.keyspace.random_below(bound)
    }

    /// Changes since start.
    #[must_use]
    pub fn dirty(&self) -> u64 {
        self.dirty
    }

    /// How often databases were emptied or exchanged, ever: a cursor of before is another table's then.
    #[must_use]
    pub fn upheavals(&self) -> u64 {
        self.upheavals
    }

    /// How accesses are recorded in this turn.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Says whether the reads that follow leave the access field alone.
    #[inline]
    pub fn set_no_touch(&mut self, no_touch: bool) {
        self.no_touch = no_touch;
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Counts from nothing again.
    pub fn reset_counters(&mut self) {
        self.counters = Counters::default();
    }

    /// Memory in use, in bytes.
    #[must_use]
    pub fn memory_used(&self) -> usize {
        self.meter.allocated().saturating_sub(self.untouched_bytes)
    }

    /// Memory in use that counts against `maxmemory`, in bytes: what was evicted and a snapshot still holds
    /// does not, or a disk that stalls would let everything be evicted to no end.
    fn memory_counted(&self) -> usize {
        self.memory_used().saturating_sub(self.withheld_bytes)
    }

    /// Memory in use when the server was ready, in bytes.
    #[must_use]
    pub fn memory_startup(&self) -> usize {
        self.memory_startup
    }

    /// The server is ready: what is in use now is its own.
    pub fn mark_startup(&mut self) {
        self.memory_startup = self.memory_used();
    }

    /// Takes note of how much is in use.
    pub fn sample_memory(&mut self) {
        self.counters.memory_peak = self.counters.memory_peak.max(self.memory_used());
    }

    /// Learns what helpers took and gave. Costs up to some hundreds of microseconds.
    pub fn refresh_meter(&mut self) {
        self.meter.refresh();
    }

    /// Memory that was set aside and is not touched went from `before` to `after` bytes.
    #[inline]
    pub fn set_untouched(&mut self, before: usize, after: usize) {
        self.untouched_bytes = self.untouched_bytes + after - before;
    }

    /// Frees a piece of what was flushed or replaced; true while more is left.
    pub fn reclaim(&mut self, steps: usize) -> bool {
        self.keyspace.reclaim(steps)
    }

    /// Goes through a piece of all keys of a database, as SCAN does: the next cursor, 0 at the end.
    pub fn scan(&self, db: usize, cursor: u64, visit: &mut dyn FnMut(EntryRef<'_>)) -> u64 {
        self.keyspace.db(db).scan(cursor, visit)
    }

    /// The time since memory has been above `maxmemory`, in nanoseconds.
    #[must_use]
    pub fn eviction_over_ns(&self) -> u64 {
        self.eviction_over_since_ns.map_or(0, |since_ns| self.now.mono_ns.saturating_sub(since_ns))
    }

    /// Time this turn has spent evicting, in nanoseconds.
    #[must_use]
    #[inline]
    pub fn turn_evict_ns(&self) -> u64 {
        self.turn_evict_ns
    }
}

/// What a slice of work took, for those who keep records of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Nanoseconds.
    pub took_ns: u64,
    /// There is more to do at once.
    pub more: bool,
}

fn since(clock: &Clock, begin_ns: u64) -> u64 {
    clock.mono_ns() - begin_ns
}
