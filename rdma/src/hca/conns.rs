//! Connections by name. A name is a slot and a number that no later tenant of the slot has, so that
//! finding one on the data path takes no hashing.

use slab::Slab;

use super::Conn;

/// Bits of a name that tell the slot. With the listeners' bit, 39 are left for the number.
const SLOT_BITS: u32 = 24;

/// Connections by name; no name is given twice.
#[derive(Default)]
pub(super) struct Conns {
    slots: Slab<(u64, Conn)>,
    named: u64,
}

impl Conns {
    /// The name that the next connection to be inserted gets; `None` if there are too many.
    pub(super) fn next_name(&self) -> Option<u64> {
        let slot = self.slots.vacant_key() as u64;
        (slot >> SLOT_BITS == 0).then_some((self.named + 1) << SLOT_BITS | slot)
    }

    /// Inserts one under the name that was next.
    pub(super) fn insert(&mut self, conn: Conn) {
        if let Some(name) = self.next_name() {
            self.named += 1;
            self.slots.insert((name, conn));
        }
    }

    #[inline]
    fn slot(name: u64) -> usize {
        (name & ((1 << SLOT_BITS) - 1)) as usize
    }

    #[inline]
    pub(super) fn get(&self, name: u64) -> Option<&Conn> {
        self.slots.get(Self::slot(name)).filter(|(found, _)| *found == name).map(|(_, conn)| conn)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, name: u64) -> Option<&mut Conn> {
        self.slots.get_mut(Self::slot(name)).filter(|(found, _)| *found == name).map(|(_, conn)| conn)
    }

    pub(super) fn remove(&mut self, name: u64) -> Option<Conn> {
        self.get(name)?;
        Some(self.slots.remove(Self::slot(name)).1)
    }

    /// All of them with their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Conn)> {
        self.slots.iter().map(|(_, (name, conn))| (*name, conn))
    }
}
