//! Snapshots without a fork: every key as it was at one moment, handed out piece by piece while the
//! keys go on changing.
//!
//! The walk goes through the segments in the order of the hash, so one position tells what has been
//! handed out. A key that lies ahead of it is looked at before its first change: a copy of what it was
//! is handed out instead, or nothing if it was not there. A segment that was merged across the position
//! is filtered by the keys' hashes. Nothing is kept in the entries, and a table that no snapshot walks
//! pays one test of a pointer a write.

use std::collections::HashSet;

use crate::entry::{EntryBox, EntryRef};
use crate::expiry::Timers;
use crate::hash::{Hash, KeyHasher};
use crate::keyspace::Keyspace;
use crate::table::{Position, Table};

/// How far the snapshot of one database has come.
pub(crate) struct Progress {
    /// The database's number when the snapshot began.
    db: usize,
    /// Everything before it has been handed out. None once the walk is over.
    at: Option<Position>,
    /// Keys ahead that have changed, appeared or gone since.
    changed: HashSet<Box<[u8]>>,
    /// What those of them that were there were then.
    former: Vec<EntryBox>,
}

impl Progress {
    /// Notes that a key is about to change, and keeps what it is if that is still to be handed out.
    #[cold]
    pub(crate) fn before_change(&mut self, table: &Table, key: &[u8], hash: Hash) {
        if !self.at.is_some_and(|at| at.is_ahead(hash)) || self.changed.contains(key) {
            return;
        }
        self.changed.insert(key.into());
        if let Some((_, entry)) = table.find_key(key, hash) {
            self.former.push(EntryBox::duplicate(entry, key, entry.expire_at(), entry.access_field()));
        }
    }

    /// Hands out what changed, then one segment. True while there is more.
    fn step(&mut self, table: &Table, hasher: &KeyHasher, visit: &mut dyn FnMut(usize, EntryRef<'_>)) -> bool {
        for entry in self.former.drain(..) {
            visit(self.db, entry.as_ref());
        }
        let Some(at) = self.at else { return false };
        let (db, changed) = (self.db, &mut self.changed);
        self.at = table.walk(at, hasher, &mut |entry| {
            if changed.is_empty() || !changed.remove(entry.key()) {
                visit(db, entry);
            }
        });
        self.at.is_some()
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
        for (index, db) in self.dbs.iter_mut().enumerate().filter(|(_, db)| !db.is_empty()) {
            db.snapshot = Some(Box::new(Progress {
                db: index,
                at: Some(Position::START),
                changed: HashSet::new(),
                former: Vec::new(),
            }));
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
            }
            return true;
        }
        for db in &mut self.dbs {
            if let Some(progress) = &mut db.snapshot {
                if !progress.step(&db.table, &self.hasher, visit) {
                    db.snapshot = None;
                }
                return true;
            }
        }
        false
    }

    /// Ends a snapshot; what was not handed out is not.
    pub fn snapshot_cancel(&mut self) {
        for db in &mut self.dbs {
            db.snapshot = None;
        }
        while let Some(orphan) = self.orphans.pop() {
            self.discard(orphan.table, orphan.timers);
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
}
