//! Keys that clients wait for: who changes one of them has it looked at again. Knows the keys, not who waits.

use std::collections::HashMap;

use tercel_engine::Hash;

use super::Dataset;

/// Keys that are waited for, and those of them that have changed.
#[derive(Default)]
pub(super) struct Waited {
    /// How many wait, by database and hash: a key that shares its hash is looked at for nothing.
    counts: HashMap<(usize, u64), u32>,
    changed: Vec<(usize, Box<[u8]>)>,
    /// Any of them may have.
    all_changed: bool,
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
            self.waited.changed.push((db, key.into()));
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

    /// The keys that are waited for and have changed, in order.
    pub fn take_changed_awaited(&mut self) -> Vec<(usize, Box<[u8]>)> {
        std::mem::take(&mut self.waited.changed)
    }
}
