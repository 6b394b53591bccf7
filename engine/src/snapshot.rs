//! Snapshots without a fork: every key as it was at one moment, handed out piece by piece while the
//! keys go on changing.
//!
//! The walk goes through the segments in the order of the hash, so one position tells what has been
//! handed out. A key that lies ahead of it is looked at before its first change: a copy of what it was
//! is handed out instead, or nothing if it was not there. A segment that was merged across the position
//! is filtered by the keys' hashes. Nothing is kept in the entries, and a table that no snapshot walks
//! pays one test of a pointer a write.
//!
//! While a disk stalls, as many keys may change as there are. So nothing here grows, is handed out or is
//! freed all at once.

use std::collections::BTreeMap;

use crate::entry::{EntryBox, EntryRef};
use crate::expiry::Timers;
use crate::hash::{Hash, KeyHasher};
use crate::keyspace::Keyspace;
use crate::table::{Position, Table};

/// Former entries handed out in one step at most: as many as a segment holds.
const FORMER_STEP: usize = 448;
/// Former entries in one allocation.
const FORMER_BLOCK: usize = 1024;

/// Keys of the same place in the order of the walk: nearly always one.
enum Keys {
    One(Box<[u8]>),
    More(Vec<Box<[u8]>>),
}

impl Keys {
    fn contains(&self, key: &[u8]) -> bool {
        match self {
            Keys::One(one) => **one == *key,
            Keys::More(keys) => keys.iter().any(|one| **one == *key),
        }
    }

    fn push(&mut self, key: Box<[u8]>) {
        match self {
            Keys::More(keys) => keys.push(key),
            Keys::One(one) => *self = Keys::More(vec![std::mem::take(one), key]),
        }
    }
}

/// What a snapshot has noted of the keys ahead of it. A tree and blocks, for a table of hashes or one long
/// vector would move everything it holds now and then, within one client's write.
#[derive(Default)]
pub(crate) struct Noted {
    /// Keys ahead that have changed, appeared or gone since.
    changed: BTreeMap<Position, Keys>,
    /// What those of them that were there were then, and are still to be handed out.
    former: Vec<Vec<EntryBox>>,
}

impl Noted {
    fn contains(&self, key: &[u8], hash: Hash) -> bool {
        self.changed.get(&Position::of(hash)).is_some_and(|keys| keys.contains(key))
    }

    fn add(&mut self, key: &[u8], hash: Hash) {
        use std::collections::btree_map::Entry;
        match self.changed.entry(Position::of(hash)) {
            Entry::Vacant(place) => {
                place.insert(Keys::One(key.into()));
            }
            Entry::Occupied(mut place) => place.get_mut().push(key.into()),
        }
    }

    fn keep(&mut self, entry: EntryBox) {
        match self.former.last_mut() {
            Some(block) if block.len() < FORMER_BLOCK => block.push(entry),
            _ => {
                let mut block = Vec::with_capacity(FORMER_BLOCK);
                block.push(entry);
                self.former.push(block);
            }
        }
    }

    fn next_former(&mut self) -> Option<EntryBox> {
        loop {
            if let Some(entry) = self.former.last_mut()?.pop() {
                return Some(entry);
            }
            self.former.pop();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.former.iter().all(Vec::is_empty)
    }

    /// Forgets some of the keys before a place.
    fn forget_before(&mut self, at: Position) {
        for _ in 0..FORMER_STEP {
            match self.changed.first_entry() {
                Some(first) if *first.key() < at => drop(first.remove()),
                _ => break,
            }
        }
    }

    /// Frees up to `steps` things, and returns how many it did.
    pub(crate) fn drain(&mut self, steps: usize) -> usize {
        (0..steps).take_while(|_| self.next_former().is_some() || self.changed.pop_first().is_some()).count()
    }
}

/// How far the snapshot of one database has come.
pub(crate) struct Progress {
    /// The database's number when the snapshot began.
    db: usize,
    /// Everything before it has been handed out. None once the walk is over.
    at: Option<Position>,
    noted: Noted,
}

impl Progress {
    /// Notes that a key is about to change, and keeps what it is if that is still to be handed out.
    #[cold]
    pub(crate) fn before_change(&mut self, table: &Table, key: &[u8], hash: Hash) {
        if !self.at.is_some_and(|at| at.is_ahead(hash)) || self.noted.contains(key, hash) {
            return;
        }
        self.noted.add(key, hash);
        if let Some((_, entry)) = table.find_key(key, hash) {
            self.noted.keep(EntryBox::duplicate(entry, key, entry.expire_at(), entry.access_field()));
        }
    }

    pub(crate) fn into_noted(self) -> Noted {
        self.noted
    }

    /// Hands out some of what changed, then one segment. True while there is more.
    fn step(&mut self, table: &Table, hasher: &KeyHasher, visit: &mut dyn FnMut(usize, EntryRef<'_>)) -> bool {
        for _ in 0..FORMER_STEP {
            let Some(entry) = self.noted.next_former() else { break };
            visit(self.db, entry.as_ref());
        }
        if let Some(at) = self.at {
            let (db, noted) = (self.db, &self.noted);
            self.at = table.walk(at, hasher, &mut |entry| {
                if noted.changed.is_empty() || !noted.contains(entry.key(), hasher.hash(entry.key())) {
                    visit(db, entry);
                }
            });
        }
        if let Some(at) = self.at {
            self.noted.forget_before(at);
        }
        self.at.is_some() || !self.noted.former.is_empty()
    }
}

/// A flushed database that a snapshot still walks.
pub(crate) struct Orphan {
    pub(crate) table: Table,
    pub(crate) timers: Timers,
    pub(crate) progress: Box<Progress>,
}

impl Keyspace {
    /// Begins a snapshot of everything as it is now, in place of one that is under way. What it holds
    /// is handed out by [`Keyspace::snapshot_step`].
    pub fn snapshot_begin(&mut self) {
        self.snapshot_cancel();
        self.walked_dbs = 0;
        for (index, db) in self.dbs.iter_mut().enumerate().filter(|(_, db)| !db.is_empty()) {
            db.snapshot = Some(Box::new(Progress { db: index, at: Some(Position::START), noted: Noted::default() }));
        }
    }

    /// Hands out a piece of the snapshot, some hundred keys at most and those that changed since the last
    /// piece: each key there was when it began, once, with the number its database had then. False when
    /// all have been.
    pub fn snapshot_step(&mut self, visit: &mut dyn FnMut(usize, EntryRef<'_>)) -> bool {
        if let Some(orphan) = self.orphans.last_mut() {
            if !orphan.progress.step(&orphan.table, &self.hasher, visit)
                && let Some(done) = self.orphans.pop()
            {
                self.discard(done.table, done.timers);
                self.discard_noted(done.progress.into_noted());
            }
            return true;
        }
        while let Some(db) = self.dbs.get_mut(self.walked_dbs) {
            if let Some(progress) = &mut db.snapshot {
                if !progress.step(&db.table, &self.hasher, visit)
                    && let Some(done) = db.snapshot.take()
                {
                    self.discard_noted(done.into_noted());
                }
                return true;
            }
            self.walked_dbs += 1;
        }
        false
    }

    /// Ends a snapshot; what was not handed out is not.
    pub fn snapshot_cancel(&mut self) {
        for index in 0..self.dbs.len() {
            if let Some(progress) = self.dbs[index].snapshot.take() {
                self.discard_noted(progress.into_noted());
            }
        }
        while let Some(orphan) = self.orphans.pop() {
            self.discard(orphan.table, orphan.timers);
            self.discard_noted(orphan.progress.into_noted());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::hash::KeyHasher;
    use crate::{Access, Expire, Keyspace, NewValue};

    const NOW: Access = Access { now_ms: 0, lfu: false, lfu_log_factor: 10, lfu_decay_minutes: 1 };

    fn set(keyspace: &mut Keyspace, key: u32, value: u32) {
        let key = format!("key:{key}");
        let hash = keyspace.hash(key.as_bytes());
        keyspace.db_mut(0).set(key.as_bytes(), hash, NewValue::Int(i64::from(value)), Expire::Clear, &NOW);
    }

    fn remove(keyspace: &mut Keyspace, key: u32) {
        let key = format!("key:{key}");
        let hash = keyspace.hash(key.as_bytes());
        keyspace.db_mut(0).remove(key.as_bytes(), hash);
    }

    /// The table shrinks to nearly nothing and grows again while it is walked, so that segments merge
    /// and split across the position.
    #[test]
    fn every_key_comes_once_as_it_was_while_the_table_shrinks_and_grows() {
        const KEYS: u32 = 60_000;
        for every in [1usize, 3, 17] {
            // Two roots, so that each has many segments.
            let mut keyspace = Keyspace::with_hasher(1, KeyHasher::new(&[3; 16], u64::MAX >> 8), 4);
            (0..KEYS).for_each(|key| set(&mut keyspace, key, key));
            keyspace.snapshot_begin();
            let mut seen: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
            let mut step = 0;
            let mut collect = |keyspace: &mut Keyspace| {
                keyspace.snapshot_step(&mut |db, entry| {
                    assert_eq!(db, 0);
                    let value = entry.value().as_int().expect("a number");
                    assert!(seen.insert(entry.key().to_vec(), value).is_none(), "a key came twice");
                })
            };
            let (mut gone, mut back) = (0, 0);
            while collect(&mut keyspace) {
                step += 1;
                if step % every != 0 {
                    continue;
                }
                for _ in 0..2_000 {
                    if gone < KEYS {
                        remove(&mut keyspace, gone);
                        gone += 1;
                    } else if back < 2 * KEYS {
                        set(&mut keyspace, back, 7);
                        back += 1;
                    }
                }
            }
            assert!(gone > KEYS / 4, "the keys changed while they were walked: {gone}");
            assert_eq!(seen.len(), KEYS as usize);
            assert!((0..KEYS).all(|key| seen.get(format!("key:{key}").as_bytes()) == Some(&i64::from(key))));
        }
    }
    #[test]
    fn a_database_that_is_swapped_behind_the_walk_is_walked() {
        let mut keyspace = Keyspace::with_hasher(4, KeyHasher::new(&[3; 16], u64::MAX), 4);
        for key in 0..3u32 {
            let name = format!("key:{key}");
            let hash = keyspace.hash(name.as_bytes());
            let value = NewValue::Int(i64::from(key));
            keyspace.db_mut(key as usize + 1).set(name.as_bytes(), hash, value, Expire::Clear, &NOW);
        }
        keyspace.snapshot_begin();
        let mut seen = Vec::new();
        let mut swapped = false;
        while keyspace.snapshot_step(&mut |db, entry| seen.push((db, entry.key().to_vec()))) {
            // The first is done as soon as the next is begun.
            if seen.len() == 2 && !swapped {
                keyspace.swap(0, 3);
                swapped = true;
            }
        }
        let wanted: Vec<(usize, Vec<u8>)> = (0..3).map(|key| (key + 1, format!("key:{key}").into_bytes())).collect();
        assert!(swapped);
        assert_eq!(seen, wanted);
    }

    /// All keys change while nobody takes what is handed out, as when a disk stalls.
    #[test]
    fn what_changed_is_handed_out_in_pieces_and_freed_in_pieces() {
        const KEYS: u32 = 20_000;
        for cancelled in [false, true] {
            let mut keyspace = Keyspace::with_hasher(1, KeyHasher::new(&[3; 16], u64::MAX), 4);
            (0..KEYS).for_each(|key| set(&mut keyspace, key, key));
            keyspace.snapshot_begin();
            (0..KEYS).for_each(|key| set(&mut keyspace, key, 7));
            (KEYS..2 * KEYS).for_each(|key| set(&mut keyspace, key, 7));
            (0..KEYS / 2).for_each(|key| remove(&mut keyspace, key));
            let mut seen: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
            if cancelled {
                keyspace.snapshot_cancel();
            }
            loop {
                let before = seen.len();
                let more = keyspace.snapshot_step(&mut |_, entry| {
                    assert!(seen.insert(entry.key().to_vec(), entry.value().as_int().expect("a number")).is_none());
                });
                assert!(seen.len() - before <= 1000, "{} in one piece", seen.len() - before);
                if !more {
                    break;
                }
            }
            if !cancelled {
                assert_eq!(seen.len(), KEYS as usize);
                assert!((0..KEYS).all(|key| seen.get(format!("key:{key}").as_bytes()) == Some(&i64::from(key))));
            }
            let mut pieces = 0;
            while keyspace.can_reclaim() {
                keyspace.reclaim(100);
                pieces += 1;
            }
            // Former entries, and twice as many keys.
            assert!(!cancelled || pieces >= 3 * KEYS / 100, "{pieces}");
        }
    }

    /// Keys whose hashes are the same are told apart.
    #[test]
    fn keys_of_one_hash_come_as_they_were() {
        const KEYS: u32 = 300;
        let mut keyspace = Keyspace::with_hasher(1, KeyHasher::new(&[3; 16], 0), 4);
        (0..KEYS).for_each(|key| set(&mut keyspace, key, key));
        keyspace.snapshot_begin();
        (0..KEYS).step_by(2).for_each(|key| set(&mut keyspace, key, 7));
        (0..KEYS).step_by(3).for_each(|key| remove(&mut keyspace, key));
        set(&mut keyspace, KEYS, 7);
        let mut seen: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        while keyspace.snapshot_step(&mut |_, entry| {
            assert!(seen.insert(entry.key().to_vec(), entry.value().as_int().expect("a number")).is_none());
        }) {}
        assert_eq!(seen.len(), KEYS as usize);
        assert!((0..KEYS).all(|key| seen.get(format!("key:{key}").as_bytes()) == Some(&i64::from(key))));
    }
}
