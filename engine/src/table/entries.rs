//! The table as a database sees it: entries instead of addresses. Borrowing an entry borrows the
//! table, so that it cannot be freed or moved out meanwhile.

use super::segment::Place;
use super::Table;
use crate::entry::{EntryBox, EntryMut, EntryRef};
use crate::hash::Hash;
use crate::prefetch::prefetch;
use crate::rng::Rng;

/// Where an entry was found. Good until the table changes.
pub(crate) type Slot = Place;

impl Table {
    /// The first entry with this hash's tag that `accept` agrees to.
    #[inline(always)]
    pub(crate) fn find<'a>(&'a self, hash: Hash, mut accept: impl FnMut(EntryRef<'a>) -> bool) -> Option<(Slot, EntryRef<'a>)> {
        // SAFETY: entries in the table live, and are not changed while it is borrowed.
        let place = self.find_by(hash, |entry| accept(unsafe { entry.entry() }))?;
        // SAFETY: as above.
        Some((place, unsafe { place.entry().entry() }))
    }

    /// The entry of a key.
    #[inline(always)]
    pub(crate) fn find_key(&self, key: &[u8], hash: Hash) -> Option<(Slot, EntryRef<'_>)> {
        self.find(hash, |entry| entry.has_key(key))
    }

    /// The entry of a key, to change it.
    #[inline(always)]
    pub(crate) fn find_key_mut(&mut self, key: &[u8], hash: Hash) -> Option<EntryMut<'_>> {
        let (slot, _) = self.find_key(key, hash)?;
        Some(self.entry_mut(slot))
    }

    /// The entry in a slot just found, to change it.
    #[inline(always)]
    pub(crate) fn entry_mut(&mut self, slot: Slot) -> EntryMut<'_> {
        // SAFETY: the slot was found in this table and nothing changed since; the table is borrowed
        // for writing, so nobody else reaches the entry.
        unsafe { slot.entry().entry_mut() }
    }

    /// Puts an entry of the same key in place of another, which is handed out.
    pub(crate) fn replace(&mut self, slot: Slot, entry: EntryBox) -> EntryBox {
        let old = slot.entry();
        slot.set_entry(entry.into_ptr());
        // SAFETY: the slot holds the new entry now.
        unsafe { old.into_box() }
    }

    /// Adds an entry whose key is not there.
    pub(crate) fn insert(&mut self, hash: Hash, entry: EntryBox) {
        self.insert_ptr(hash, entry.into_ptr());
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, hash: Hash, slot: Slot) -> EntryBox {
        let entry = self.take(hash, slot);
        // SAFETY: it has just left the table.
        unsafe { entry.into_box() }
    }

    /// Starts loading the entries that may be the hash's, given that its bucket is warm.
    #[inline]
    pub(crate) fn prefetch_entry(&self, hash: Hash) {
        self.candidates(hash, prefetch);
    }

    /// A random entry.
    pub(crate) fn random(&self, rng: &mut Rng) -> Option<EntryRef<'_>> {
        // SAFETY: entries in the table live, and are not changed while it is borrowed.
        self.random_ptr(rng).map(|entry| unsafe { entry.entry() })
    }

    /// Visits about `want` random entries: some from each of a few random buckets.
    pub(crate) fn sample<'a>(&'a self, rng: &mut Rng, want: usize, visit: &mut dyn FnMut(EntryRef<'a>)) {
        const PER_BUCKET_MAX: usize = 3;
        let mut seen = 0;
        for _ in 0..want * 4 + 8 {
            if seen >= want {
                return;
            }
            // SAFETY: entries in the table live, and are not changed while it is borrowed.
            seen += self.random_bucket(rng, PER_BUCKET_MAX.min(want - seen), &mut |entry| visit(unsafe { entry.entry() }));
        }
        if seen == 0
            && let Some(entry) = self.random(rng)
        {
            visit(entry);
        }
    }

    /// Visits the entries of the next home bucket; see [`Table::scan_ptr`].
    pub(crate) fn scan<'a>(&'a self, cursor: u64, visit: &mut dyn FnMut(EntryRef<'a>)) -> u64 {
        // SAFETY: entries in the table live, and are not changed while it is borrowed.
        self.scan_ptr(cursor, &mut |entry| visit(unsafe { entry.entry() }))
    }

    /// Visits every entry.
    pub(crate) fn for_each<'a>(&'a self, visit: &mut dyn FnMut(EntryRef<'a>)) {
        // SAFETY: entries in the table live, and are not changed while it is borrowed.
        self.for_each_ptr(&mut |entry| visit(unsafe { entry.entry() }));
    }
}
