//! Handing out a snapshot, piece by piece, and ending one.

use super::former::{Progress, Snapshot, SnapshotId};
use crate::entry::EntryRef;
use crate::keyspace::Keyspace;

/// Goes on with one of the snapshots of a table, if it is among them. One that is over is taken out and
/// returned as an error.
fn step_one(
    progresses: &mut Vec<Progress>,
    id: SnapshotId,
    step: impl FnOnce(&mut Progress) -> bool,
) -> Option<Result<(), Progress>> {
    let at = progresses.iter().position(|progress| progress.snapshot == id)?;
    Some(if step(&mut progresses[at]) { Ok(()) } else { Err(progresses.swap_remove(at)) })
}

impl Keyspace {
    /// Begins a snapshot of everything as it is now. What it holds is handed out by
    /// [`Keyspace::snapshot_step`].
    pub fn snapshot_begin(&mut self) -> SnapshotId {
        self.begin(0..self.dbs.len())
    }

    /// Begins a snapshot of one database.
    pub fn snapshot_begin_db(&mut self, db: usize) -> SnapshotId {
        self.begin(db..db + 1)
    }

    fn begin(&mut self, dbs: std::ops::Range<usize>) -> SnapshotId {
        self.snapshots_begun += 1;
        let id = SnapshotId(self.snapshots_begun);
        self.snapshots.push(Snapshot { id, walked_dbs: 0 });
        for index in dbs {
            let db = &mut self.dbs[index];
            if !db.is_empty() {
                db.snapshots.push(Progress::new(id, index));
            }
        }
        id
    }

    /// Hands out a piece of a snapshot, some hundred keys at most and those that changed since the last
    /// piece: each key there was when it began, once, with the number its database had then. False when
    /// all have been, which is the end of it.
    pub fn snapshot_step(&mut self, id: SnapshotId, visit: &mut dyn FnMut(usize, EntryRef<'_>)) -> bool {
        let hasher = &self.hasher;
        for at in (0..self.detached_dbs.len()).rev() {
            let detached = &mut self.detached_dbs[at];
            let table = &detached.table;
            if let Some(stepped) = step_one(&mut detached.snapshots, id, |progress| progress.step(table, hasher, visit))
            {
                if let Err(done) = stepped {
                    self.discard_former(done.into_former());
                    self.discard_if_walked(at);
                }
                return true;
            }
        }
        let Some(snapshot) = self.snapshots.iter_mut().find(|snapshot| snapshot.id == id) else { return false };
        while let Some(db) = self.dbs.get_mut(snapshot.walked_dbs) {
            let table = &db.table;
            if let Some(stepped) = step_one(&mut db.snapshots, id, |progress| progress.step(table, hasher, visit)) {
                if let Err(done) = stepped {
                    self.discard_former(done.into_former());
                }
                return true;
            }
            snapshot.walked_dbs += 1;
        }
        self.snapshots.retain(|snapshot| snapshot.id != id);
        false
    }

    /// Ends a snapshot; what was not handed out is not.
    pub fn snapshot_cancel(&mut self, id: SnapshotId) {
        self.snapshots.retain(|snapshot| snapshot.id != id);
        for index in 0..self.dbs.len() {
            if let Some(Err(progress)) = step_one(&mut self.dbs[index].snapshots, id, |_| false) {
                self.discard_former(progress.into_former());
            }
        }
        for at in (0..self.detached_dbs.len()).rev() {
            if let Some(Err(progress)) = step_one(&mut self.detached_dbs[at].snapshots, id, |_| false) {
                self.discard_former(progress.into_former());
                self.discard_if_walked(at);
            }
        }
    }

    /// A flushed database that no snapshot walks any more is freed.
    fn discard_if_walked(&mut self, at: usize) {
        if self.detached_dbs[at].snapshots.is_empty() {
            let detached = self.detached_dbs.swap_remove(at);
            self.discard(detached.table, detached.timers);
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
            let id = keyspace.snapshot_begin();
            let mut seen: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
            let mut step = 0;
            let mut collect = |keyspace: &mut Keyspace| {
                keyspace.snapshot_step(id, &mut |db, entry| {
                    assert_eq!(db, 0);
                    let value = entry.string().expect("a string").as_int().expect("a number");
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
        let id = keyspace.snapshot_begin();
        let mut seen = Vec::new();
        let mut swapped = false;
        while keyspace.snapshot_step(id, &mut |db, entry| seen.push((db, entry.key().to_vec()))) {
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
            let id = keyspace.snapshot_begin();
            (0..KEYS).for_each(|key| set(&mut keyspace, key, 7));
            (KEYS..2 * KEYS).for_each(|key| set(&mut keyspace, key, 7));
            (0..KEYS / 2).for_each(|key| remove(&mut keyspace, key));
            let mut seen: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
            if cancelled {
                keyspace.snapshot_cancel(id);
            }
            loop {
                let before = seen.len();
                let more = keyspace.snapshot_step(id, &mut |_, entry| {
                    assert!(
                        seen.insert(
                            entry.key().to_vec(),
                            entry.string().expect("a string").as_int().expect("a number")
                        )
                        .is_none()
                    );
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
        let id = keyspace.snapshot_begin();
        (0..KEYS).step_by(2).for_each(|key| set(&mut keyspace, key, 7));
        (0..KEYS).step_by(3).for_each(|key| remove(&mut keyspace, key));
        set(&mut keyspace, KEYS, 7);
        let mut seen: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        while keyspace.snapshot_step(id, &mut |_, entry| {
            assert!(
                seen.insert(entry.key().to_vec(), entry.string().expect("a string").as_int().expect("a number"))
                    .is_none()
            );
        }) {}
        assert_eq!(seen.len(), KEYS as usize);
        assert!((0..KEYS).all(|key| seen.get(format!("key:{key}").as_bytes()) == Some(&i64::from(key))));
    }
}
