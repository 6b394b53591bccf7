//! All databases, and what goes across them: moving keys, expiry, eviction, freeing what was flushed.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::access::Access;
use crate::db::{Db, ExpiredFields};
use crate::entry::{EntryBox, EntryRef};
use crate::evict::{self, Policy, Pool};
use crate::expiry::Timers;
use crate::hash::{Hash, KeyHasher};
use crate::overview::Overview;
use crate::rng::Rng;
use crate::snapshot::former::{DetachedDb, FormerEntries, Snapshot};
use crate::table::{Drain, Table};
use crate::tree::Grave;
use crate::types::Surroundings;

/// What a [`Keyspace`] is made from.
pub struct KeyspaceConfig {
    /// How many databases.
    pub databases: usize,
    /// The secret key of the hash.
    pub hash_key: [u8; 16],
    /// Where random numbers start.
    pub seed: u64,
}

/// All databases.
pub struct Keyspace {
    pub(crate) dbs: Vec<Db>,
    /// Flushed databases that snapshots still walk.
    pub(crate) detached_dbs: Vec<DetachedDb>,
    /// Snapshots under way.
    pub(crate) snapshots: Vec<Snapshot>,
    /// Snapshots begun, ever.
    pub(crate) snapshots_begun: u64,
    pub(crate) hasher: KeyHasher,
    overview: Overview,
    rng: Rng,
    pool: Pool,
    pending_free: VecDeque<PendingFree>,
    pending_free_entries: usize,
    /// What snapshots that are over had noted, to be freed.
    former: Vec<FormerEntries>,
    reclaimed: u64,
    grave: Grave,
}

/// What a flush left to be freed.
struct PendingFree {
    table: Table,
    drain: Drain,
    timers: [Timers; 2],
}

impl Keyspace {
    /// A keyspace of empty databases.
    pub fn new(config: KeyspaceConfig) -> Self {
        Keyspace::with_hasher(config.databases, KeyHasher::new(&config.hash_key, u64::MAX), config.seed)
    }

    pub(crate) fn with_hasher(databases: usize, hasher: KeyHasher, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let grave = Grave::default();
        let around = Rc::new(Surroundings::new(grave.clone(), hasher));
        Keyspace {
            dbs: (0..databases).map(|_| Db::new(Rc::clone(&around), rng.next_u64())).collect(),
            detached_dbs: Vec::new(),
            snapshots: Vec::new(),
            snapshots_begun: 0,
            hasher,
            overview: Overview::new(databases),
            rng,
            pool: Pool::default(),
            pending_free: VecDeque::new(),
            pending_free_entries: 0,
            former: Vec::new(),
            reclaimed: 0,
            grave,
        }
    }

    /// How many databases.
    pub fn databases(&self) -> usize {
        self.dbs.len()
    }

    /// The hash of a key, the same in all databases.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> Hash {
        self.hasher.hash(key)
    }

    /// A random number below `bound`; 0 when that is 0.
    pub fn random_below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    /// A database.
    ///
    /// # Panics
    /// If `index` is not below [`Keyspace::databases`]; so do all functions here that take one.
    #[inline]
    pub fn db(&self, index: usize) -> &Db {
        &self.dbs[index]
    }

    /// A database, to change it.
    #[inline]
    pub fn db_mut(&mut self, index: usize) -> &mut Db {
        self.overview.touch(index);
        &mut self.dbs[index]
    }

    /// Exchanges two databases.
    pub fn swap(&mut self, a: usize, b: usize) {
        self.dbs.swap(a, b);
        self.overview.touch(a);
        self.overview.touch(b);
        for snapshot in &mut self.snapshots {
            snapshot.walked_dbs = snapshot.walked_dbs.min(a).min(b);
        }
        self.pool.clear();
    }

    /// Empties a database; returns how many keys it had. They are freed by [`Keyspace::reclaim`], later.
    pub fn flush(&mut self, db: usize) -> usize {
        self.overview.touch(db);
        let table = std::mem::take(&mut self.dbs[db].table);
        let timers = self.dbs[db].take_timers();
        let entries = table.len();
        let snapshots = std::mem::take(&mut self.dbs[db].snapshots);
        if snapshots.is_empty() {
            self.discard(table, timers);
        } else {
            self.detached_dbs.push(DetachedDb { table, timers, snapshots });
        }
        entries
    }

    /// Leaves a table to be freed.
    pub(crate) fn discard(&mut self, table: Table, timers: [Timers; 2]) {
        self.pending_free_entries += table.len();
        self.pending_free.push_back(PendingFree { table, drain: Drain::default(), timers });
    }

    /// Leaves what a snapshot noted to be freed.
    pub(crate) fn discard_former(&mut self, former: FormerEntries) {
        if !former.is_empty() {
            self.former.push(former);
        }
    }

    /// Frees a piece of what was flushed or noted for a snapshot, or of large values that nobody wants; a step is
    /// about one entry, bucket, deadline or leaf. True while more is left.
    pub fn reclaim(&mut self, steps: usize) -> bool {
        let mut left = steps;
        left -= self.grave.free(left);
        while let Some(former) = self.former.last_mut() {
            if left == 0 {
                return true;
            }
            left -= former.drain(left);
            if former.is_empty() {
                self.former.pop();
            }
        }
        while let Some(pending_free) = self.pending_free.front_mut() {
            if left == 0 {
                return true;
            }
            let [keys, fields] = &mut pending_free.timers;
            let timers = keys.drain(left) + fields.drain(left);
            if timers > 0 {
                left = left.saturating_sub(timers);
                continue;
            }
            let drained = pending_free.table.drain(&mut pending_free.drain, left);
            self.pending_free_entries -= drained.entries;
            self.reclaimed += drained.entries as u64;
            left = left.saturating_sub(drained.steps);
            if !drained.left {
                self.pending_free.pop_front();
            }
        }
        // Entries of a flushed database may have left something large.
        !self.grave.is_empty()
    }

    /// Whether any hash has a field with a deadline.
    pub fn has_field_deadlines(&self) -> bool {
        self.dbs.iter().any(|db| db.field_timers.len() > 0)
    }

    /// How many flushed entries and large values are still to be freed.
    pub fn reclaim_pending(&self) -> usize {
        self.pending_free_entries + self.grave.pending()
    }

    /// Whether [`Keyspace::reclaim`] has anything to do.
    pub fn can_reclaim(&self) -> bool {
        !self.pending_free.is_empty() || !self.former.is_empty() || !self.grave.is_empty()
    }

    /// How many flushed entries and large values have been freed, ever.
    pub fn reclaimed_total(&self) -> u64 {
        self.reclaimed + self.grave.freed_total()
    }

    /// The soonest deadline of all, in Unix milliseconds.
    #[inline]
    pub fn next_deadline(&mut self) -> Option<i64> {
        let key = self.soonest().map(|(at, _)| at);
        let field = self.overview.soonest_field().map(|(at, _)| at);
        key.into_iter().chain(field).min()
    }

    /// Removes up to `max` fields of hashes whose deadline is `now_ms` or earlier, soonest first; `on_expired` gets
    /// those of a key that went together. Returns how many.
    pub fn expire_fields_due(
        &mut self,
        now_ms: i64,
        max: usize,
        on_expired: &mut dyn FnMut(ExpiredFields<'_>),
    ) -> usize {
        let mut removed = 0;
        while removed < max {
            self.overview.settle(&self.dbs);
            let Some((_, index)) = self.overview.soonest_field().filter(|&(at, _)| at <= now_ms) else { break };
            let told = &mut |expired: ExpiredFields<'_>| on_expired(ExpiredFields { db: index, ..expired });
            removed += self.db_mut(index).expire_fields(now_ms, max - removed, told);
        }
        removed
    }

    /// The soonest deadline and its database.
    #[inline]
    fn soonest(&mut self) -> Option<(i64, usize)> {
        self.overview.settle(&self.dbs);
        self.overview.soonest()
    }

    /// Removes up to `max` keys whose deadline is `now_ms` or earlier, soonest first; `on_remove` gets
    /// database and key of each just before it is freed. Returns how many.
    pub fn expire_due(&mut self, now_ms: i64, max: usize, on_remove: &mut dyn FnMut(usize, &[u8])) -> usize {
        /// Keys brought into the cache together, if that many of one database are due.
        const BATCH: usize = 16;
        let mut removed = 0;
        while removed < max {
            let Some((_, index)) = self.soonest().filter(|&(at, _)| at <= now_ms) else { break };
            let db = self.db_mut(index);
            let mut due = [(0i64, Hash(0)); BATCH];
            let mut count = 0;
            for (place, (at, hash)) in due.iter_mut().zip(db.timers.iter().take_while(|&(at, _)| at <= now_ms)) {
                *place = (at, Hash(hash));
                count += 1;
            }
            let due = &due[..count.min(max - removed)];
            due.iter().for_each(|&(_, hash)| db.prefetch_bucket(hash));
            due.iter().for_each(|&(_, hash)| db.prefetch_entry(hash));
            for &(at, hash) in due {
                match db.find_due(at, hash).and_then(|slot| db.extract(hash, slot)) {
                    Some(entry) => {
                        on_remove(index, entry.as_ref().key());
                        removed += 1;
                    }
                    None => {
                        debug_assert!(false, "every deadline has its key");
                        db.timers.forget(at, hash.0);
                    }
                }
            }
        }
        removed
    }

    /// Removes the key the policy gives up first, judging by about `samples` random ones; `on_remove`
    /// gets its database and the entry just before it is freed. False if there is none to remove.
    pub fn evict_one(
        &mut self,
        policy: Policy,
        samples: usize,
        access: &Access,
        on_remove: &mut dyn FnMut(usize, EntryRef<'_>),
    ) -> bool {
        self.overview.settle(&self.dbs);
        let victim = evict::choose(&self.dbs, &self.overview, &mut self.rng, &mut self.pool, policy, samples, access);
        let Some((index, hash, slot)) = victim else { return false };
        let Some(entry) = self.db_mut(index).extract(hash, slot) else { return false };
        on_remove(index, entry.as_ref());
        true
    }

    /// Moves a key with value, deadline and access to another database. False if it is missing in
    /// `from` or there already is one in `to`.
    pub fn move_key(&mut self, from: usize, to: usize, key: &[u8], hash: Hash) -> bool {
        if self.dbs[to].find(key, hash).is_some() {
            return false;
        }
        match self.db_mut(from).take(key, hash) {
            Some((taken, _)) => {
                self.db_mut(to).insert(hash, taken.0);
                true
            }
            None => false,
        }
    }

    /// Copies a key's value and deadline to another key, in place of what that has. False if it is missing.
    #[allow(clippy::too_many_arguments)] // Both keys come with their hashes, which saves computing them again.
    pub fn copy_key(
        &mut self,
        from: usize,
        key: &[u8],
        hash: Hash,
        to: usize,
        new_key: &[u8],
        new_hash: Hash,
        access: &Access,
    ) -> bool {
        let Some(entry) = self.dbs[from].find(key, hash) else { return false };
        if from == to && key == new_key {
            return true;
        }
        let copy = EntryBox::duplicate(entry, new_key, entry.expire_at(), access.field_new());
        self.db_mut(to).upsert(new_hash, copy);
        true
    }

    /// Bytes of memory for everything but keys and values: tables, directories, deadlines.
    pub fn overhead_bytes(&self) -> usize {
        let live: usize = self.dbs.iter().map(Db::overhead_bytes).sum();
        let dead: usize = self
            .pending_free
            .iter()
            .map(|pending_free| pending_free.table.bytes() + timers_bytes(&pending_free.timers))
            .sum();
        let walked: usize =
            self.detached_dbs.iter().map(|detached| detached.table.bytes() + timers_bytes(&detached.timers)).sum();
        live + dead + walked
    }
}

fn timers_bytes(timers: &[Timers; 2]) -> usize {
    timers.iter().map(Timers::bytes).sum()
}
