//! What keys were before they changed, while a snapshot walks their database, and how far that has come.

use std::collections::BTreeMap;

use crate::entry::{EntryBox, EntryRef};
use crate::expiry::Timers;
use crate::hash::{Hash, KeyHasher};
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
pub(crate) struct FormerEntries {
    /// Keys ahead that have changed, appeared or gone since.
    changed: BTreeMap<Position, Keys>,
    /// What those of them that were there were then, and are still to be handed out.
    entries: Vec<Vec<EntryBox>>,
}

impl FormerEntries {
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
        match self.entries.last_mut() {
            Some(block) if block.len() < FORMER_BLOCK => block.push(entry),
            _ => {
                let mut block = Vec::with_capacity(FORMER_BLOCK);
                block.push(entry);
                self.entries.push(block);
            }
        }
    }

    fn next_former(&mut self) -> Option<EntryBox> {
        loop {
            if let Some(entry) = self.entries.last_mut()?.pop() {
                return Some(entry);
            }
            self.entries.pop();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.entries.iter().all(Vec::is_empty)
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

/// Tells snapshots that are under way apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotId(pub(super) u64);

/// A snapshot that is under way.
pub(crate) struct Snapshot {
    pub(super) id: SnapshotId,
    /// Databases before this one have nothing that it still walks.
    pub(crate) walked_dbs: usize,
}

/// How far one snapshot of one database has come.
pub(crate) struct Progress {
    pub(super) snapshot: SnapshotId,
    /// The database's number when the snapshot began.
    db: usize,
    /// Everything before it has been handed out. None once the walk is over.
    at: Option<Position>,
    former: FormerEntries,
}

impl Progress {
    /// The beginning, for the database of this number.
    pub(super) fn new(snapshot: SnapshotId, db: usize) -> Self {
        Progress { snapshot, db, at: Some(Position::START), former: FormerEntries::default() }
    }

    /// Notes that a key is about to change, and keeps what it is if that is still to be handed out.
    #[cold]
    pub(crate) fn before_change(&mut self, table: &Table, key: &[u8], hash: Hash) {
        if !self.at.is_some_and(|at| at.is_ahead(hash)) || self.former.contains(key, hash) {
            return;
        }
        self.former.add(key, hash);
        if let Some((_, entry)) = table.find_key(key, hash) {
            self.former.keep(EntryBox::duplicate(entry, key, entry.expire_at(), entry.access_field()));
        }
    }

    pub(crate) fn into_former(self) -> FormerEntries {
        self.former
    }

    /// Hands out some of what changed, then one segment. True while there is more.
    pub(super) fn step(
        &mut self,
        table: &Table,
        hasher: &KeyHasher,
        visit: &mut dyn FnMut(usize, EntryRef<'_>),
    ) -> bool {
        for _ in 0..FORMER_STEP {
            let Some(entry) = self.former.next_former() else { break };
            visit(self.db, entry.as_ref());
        }
        if let Some(at) = self.at {
            let (db, former) = (self.db, &self.former);
            self.at = table.walk(at, hasher, &mut |entry| {
                if former.changed.is_empty() || !former.contains(entry.key(), hasher.hash(entry.key())) {
                    visit(db, entry);
                }
            });
        }
        if let Some(at) = self.at {
            self.former.forget_before(at);
        }
        self.at.is_some() || !self.former.entries.is_empty()
    }
}

/// A flushed database that snapshots still walk.
pub(crate) struct DetachedDb {
    pub(crate) table: Table,
    pub(crate) timers: [Timers; 2],
    pub(crate) snapshots: Vec<Progress>,
}
