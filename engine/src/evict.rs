//! Choosing the key to give up when memory is full. Only reads databases; the keyspace removes.

use crate::access::Access;
use crate::db::Db;
use crate::entry::EntryRef;
use crate::hash::Hash;
use crate::overview::Overview;
use crate::rng::Rng;
use crate::table::Slot;

/// Which key is given up first (`maxmemory-policy`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// None.
    NoEviction,
    /// The least recently used.
    AllKeysLru,
    /// The least recently used of those with a deadline.
    VolatileLru,
    /// The least often used.
    AllKeysLfu,
    /// The least often used of those with a deadline.
    VolatileLfu,
    /// Any.
    AllKeysRandom,
    /// Any with a deadline.
    VolatileRandom,
    /// The one with the soonest deadline.
    VolatileTtl,
}

impl Policy {
    fn is_volatile(self) -> bool {
        matches!(self, Policy::VolatileLru | Policy::VolatileLfu | Policy::VolatileRandom | Policy::VolatileTtl)
    }

    /// The higher, the sooner it goes.
    fn score(self, entry: EntryRef<'_>, access: &Access) -> u64 {
        match self {
            Policy::AllKeysLru | Policy::VolatileLru => entry.idle_seconds(access.now_ms),
            Policy::AllKeysLfu | Policy::VolatileLfu => u64::from(u8::MAX - entry.lfu_count(access)),
            Policy::NoEviction | Policy::AllKeysRandom | Policy::VolatileRandom | Policy::VolatileTtl => 0,
        }
    }
}

#[derive(Clone, Copy)]
struct Candidate {
    score: u64,
    db: usize,
    hash: Hash,
}

/// The best candidates of earlier calls, worst first: what a few samples miss, many calls find.
#[derive(Default)]
pub(crate) struct Pool {
    candidates: Vec<Candidate>,
    policy: Option<Policy>,
}

impl Pool {
    const LEN_MAX: usize = 16;

    pub(crate) fn clear(&mut self) {
        self.candidates.clear();
    }

    fn use_for(&mut self, policy: Policy) {
        if self.policy != Some(policy) {
            self.clear();
            self.policy = Some(policy);
        }
    }

    fn admits(&self, score: u64) -> bool {
        self.candidates.len() < Pool::LEN_MAX || self.candidates.first().is_some_and(|worst| score > worst.score)
    }

    fn offer(&mut self, candidate: Candidate) {
        let same = |other: &Candidate| other.db == candidate.db && other.hash == candidate.hash;
        self.candidates.retain(|other| !same(other));
        if self.candidates.len() >= Pool::LEN_MAX {
            self.candidates.remove(0);
        }
        let at = self.candidates.partition_point(|other| other.score < candidate.score);
        self.candidates.insert(at, candidate);
    }
}

/// The key to give up: database, hash and slot. None if the policy gives up none of those there are.
pub(crate) fn choose(
    dbs: &[Db],
    overview: &Overview,
    rng: &mut Rng,
    pool: &mut Pool,
    policy: Policy,
    samples: usize,
    access: &Access,
) -> Option<(usize, Hash, Slot)> {
    /// Rounds of sampling after which any key will do. Only keys all in use since they were sampled need a second.
    const ROUNDS_MAX: usize = 4;
    match policy {
        Policy::NoEviction => None,
        Policy::VolatileTtl => {
            let (_, db) = overview.soonest()?;
            let (at, hash) = dbs[db].timers.first()?;
            Some((db, Hash(hash), dbs[db].find_due(at, Hash(hash))?))
        }
        Policy::AllKeysRandom | Policy::VolatileRandom => any(dbs, overview, rng, policy),
        Policy::AllKeysLru | Policy::VolatileLru | Policy::AllKeysLfu | Policy::VolatileLfu => {
            pool.use_for(policy);
            for _ in 0..ROUNDS_MAX {
                let db = random_db(dbs, overview, rng, policy)?;
                sample(&dbs[db], rng, policy, samples.max(1), &mut |hash, entry| {
                    let score = policy.score(entry, access);
                    if pool.admits(score) {
                        let hash = hash.unwrap_or_else(|| dbs[db].hash_of(entry));
                        pool.offer(Candidate { score, db, hash });
                    }
                });
                while let Some(best) = pool.candidates.pop() {
                    let still = |entry: EntryRef<'_>| {
                        (!policy.is_volatile() || entry.expire_at().is_some())
                            && policy.score(entry, access) >= best.score
                    };
                    if let Some((slot, _)) = dbs[best.db].find_hash(best.hash, still) {
                        return Some((best.db, best.hash, slot));
                    }
                }
            }
            any(dbs, overview, rng, policy)
        }
    }
}

fn eligible(db: &Db, policy: Policy) -> usize {
    if policy.is_volatile() { db.expires_len() } else { db.len() }
}

/// A database, the likelier the more eligible keys it has; none if none has any.
fn random_db(dbs: &[Db], overview: &Overview, rng: &mut Rng, policy: Policy) -> Option<usize> {
    let total: usize = overview.filled().map(|db| eligible(&dbs[db], policy)).sum();
    let mut left = rng.below(total as u64) as usize;
    overview.filled().find(|&db| {
        let here = eligible(&dbs[db], policy);
        let found = left < here;
        left = left.saturating_sub(here);
        found
    })
}

/// Any eligible key.
fn any(dbs: &[Db], overview: &Overview, rng: &mut Rng, policy: Policy) -> Option<(usize, Hash, Slot)> {
    let db = random_db(dbs, overview, rng, policy)?;
    let mut found = None;
    sample(&dbs[db], rng, policy, 1, &mut |hash, entry| {
        let hash = hash.unwrap_or_else(|| dbs[db].hash_of(entry));
        let address = entry.address();
        let slot = dbs[db].find_hash(hash, |other| other.address() == address);
        found = slot.map(|(slot, _)| (db, hash, slot));
    });
    found
}

/// Visits about `want` random eligible keys, at least one if there is one; with the hash, if it is known.
fn sample(db: &Db, rng: &mut Rng, policy: Policy, want: usize, visit: &mut dyn FnMut(Option<Hash>, EntryRef<'_>)) {
    if !policy.is_volatile() {
        return db.table.sample(rng, want, &mut |entry| visit(None, entry));
    }
    // Where at least a quarter of the keys have a deadline, looking at a few more keys finds enough.
    let mut seen = 0;
    if db.expires_len() >= db.len() / 4 {
        let looks = want * db.len() / db.expires_len().max(1) + 1;
        db.table.sample(rng, looks, &mut |entry| {
            if entry.expire_at().is_some() && seen < want {
                seen += 1;
                visit(None, entry);
            }
        });
    }
    if seen == 0 {
        for (at, hash) in random_timers(db, rng, want) {
            if let Some((_, entry)) = db.find_hash(Hash(hash), |entry| entry.expire_at() == Some(at)) {
                visit(Some(Hash(hash)), entry);
            }
        }
    }
}

/// `want` deadlines that follow one another, from a random place on, around the end if need be. The
/// place is random in its order of magnitude too, so that one far deadline does not hide the many near.
fn random_timers(db: &Db, rng: &mut Rng, want: usize) -> Vec<(i64, u64)> {
    let (Some((first, _)), Some((last, _))) = (db.timers.first(), db.timers.last()) else { return Vec::new() };
    let span = last.abs_diff(first);
    let scale = rng.below(u64::from(span.checked_ilog2().unwrap_or(0)) + 1);
    let from = first.saturating_add_unsigned(rng.below((span >> scale).saturating_add(1)));
    let start = (from, rng.next_u64());
    db.timers.from(start).chain(db.timers.iter().take_while(|&timer| timer < start)).take(want).collect()
}
