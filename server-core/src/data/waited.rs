//! Keys that clients wait for: who changes one of them has it looked at again. Knows the keys, not who waits.

use std::collections::{HashMap, VecDeque};

use tercel_engine::Hash;

use super::{Dataset, Hold};

/// Keys that are waited for, and those of them that have changed.
#[derive(Default)]
pub(super) struct Waited {
    /// How many wait, by database and hash: a key that shares its hash is looked at for nothing.
    counts: HashMap<(usize, u64), u32>,
    changed: VecDeque<Changed>,
    /// Any of them may have.
    all_changed: bool,
}

/// A key that is waited for and has changed.
struct Changed {
    db: usize,
    key: Box<[u8]>,
    /// The place of the last who was served.
    turn: u64,
    /// It is held until those who wait for it are served: there are too many for one turn.
    hold: Option<Hold>,
}

impl Dataset {
    /// One more waits for a key.
    pub fn await_key(&mut self, db: usize, key: &[u8]) {
        let Hash(hash) = self.hash(key);
        *self.waited.counts.entry((db, hash)).or_default() += 1;
    }

    /// One less does.
    pub fn forget_awaited(&mut self, db: usize, key: &[u8]) {
        let Hash(hash) = self.hash(key);
        if let std::collections::hash_map::Entry::Occupied(mut count) = self.waited.counts.entry((db, hash)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// A key changed, or is gone.
    #[inline]
    pub(super) fn look_at_awaited(&mut self, db: usize, key: &[u8]) {
        if !self.waited.counts.is_empty() {
            self.look_at_awaited_now(db, key);
        }
    }

    #[cold]
    fn look_at_awaited_now(&mut self, db: usize, key: &[u8]) {
        let Hash(hash) = self.hash(key);
        if self.waited.counts.contains_key(&(db, hash)) {
            self.add_changed_awaited(db, key.into());
        }
    }

    /// Any key may have changed, or who waits for one could not be served.
    pub fn look_at_all_awaited(&mut self) {
        self.waited.all_changed |= !self.waited.counts.is_empty();
    }

    /// Whether any key that is waited for may have changed, since it was last asked.
    pub fn take_all_awaited_changed(&mut self) -> bool {
        std::mem::take(&mut self.waited.all_changed)
    }

    /// Whether keys that are waited for have changed.
    #[must_use]
    #[inline]
    pub fn has_changed_awaited(&self) -> bool {
        !self.waited.changed.is_empty() || self.waited.all_changed
    }

    /// One more has changed, perhaps.
    pub fn add_changed_awaited(&mut self, db: usize, key: Box<[u8]>) {
        self.waited.changed.push_back(Changed { db, key, turn: 0, hold: None });
    }

    /// The first key that has changed: its database, and the place of the last who was served.
    #[must_use]
    pub fn first_changed_awaited(&self) -> Option<(usize, &[u8], u64)> {
        self.waited.changed.front().map(|changed| (changed.db, &*changed.key, changed.turn))
    }

    /// The next who waits for it has been served.
    pub fn set_first_changed_turn(&mut self, turn: u64) {
        if let Some(first) = self.waited.changed.front_mut() {
            first.turn = turn;
        }
    }

    /// There is nothing more in the first one.
    pub fn drop_first_changed_awaited(&mut self) {
        if let Some(hold) = self.waited.changed.pop_front().and_then(|changed| changed.hold) {
            self.let_go(hold);
        }
    }

    /// Whether somebody else holds the first one.
    #[must_use]
    pub fn is_first_changed_held(&self) -> bool {
        self.waited.changed.front().is_some_and(|first| self.is_held_but_for(&first.key, first.hold.as_ref()))
    }

    /// Those who wait are served later: until then nobody else uses what has changed.
    pub fn hold_changed_awaited(&mut self) {
        let mut changed = std::mem::take(&mut self.waited.changed);
        for one in changed.iter_mut().filter(|one| one.hold.is_none()) {
            one.hold = Some(self.hold(one.db, &one.key));
        }
        self.waited.changed = changed;
    }

    /// Whether those who wait are served later.
    #[must_use]
    pub fn holds_changed_awaited(&self) -> bool {
        self.waited.changed.front().is_some_and(|first| first.hold.is_some())
    }
}
