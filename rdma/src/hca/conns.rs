//! Connections by name. A name is a slot and a number that no later tenant of the slot has, so that
//! finding one on the data path takes no hashing.

use slab::Slab;

use super::Conn;

/// Bits of a name that tell the slot. With the listeners' bit, 39 are left for the number.
const SLOT_BITS: u32 = 24;

/// Connections by name; no name is given twice.
pub(super) struct Conns<T = Conn> {
    slots: Slab<(u64, T)>,
    named: u64,
}

impl<T> Default for Conns<T> {
    fn default() -> Self {
        Conns { slots: Slab::new(), named: 0 }
    }
}

impl<T> Conns<T> {
    /// The name that the next connection to be inserted gets; `None` if there are too many.
    pub(super) fn next_name(&self) -> Option<u64> {
        let slot = self.slots.vacant_key() as u64;
        (slot >> SLOT_BITS == 0).then_some((self.named + 1) << SLOT_BITS | slot)
    }

    /// Inserts one under the name that was next.
    pub(super) fn insert(&mut self, conn: T) {
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
    pub(super) fn get(&self, name: u64) -> Option<&T> {
        self.slots.get(Self::slot(name)).filter(|(found, _)| *found == name).map(|(_, conn)| conn)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, name: u64) -> Option<&mut T> {
        self.slots.get_mut(Self::slot(name)).filter(|(found, _)| *found == name).map(|(_, conn)| conn)
    }

    pub(super) fn remove(&mut self, name: u64) -> Option<T> {
        self.get(name)?;
        Some(self.slots.remove(Self::slot(name)).1)
    }

    /// All of them with their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.slots.iter().map(|(_, (name, conn))| (*name, conn))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_slots_next_tenant_has_another_name() {
        let mut conns = Conns::default();
        let add = |conns: &mut Conns<u32>, value| {
            let name = conns.next_name().unwrap();
            conns.insert(value);
            name
        };
        let (first, second) = (add(&mut conns, 1), add(&mut conns, 2));
        assert_eq!(conns.get(first), Some(&1));
        assert_eq!(conns.get_mut(second), Some(&mut 2));
        assert_eq!(conns.remove(first), Some(1));
        let third = add(&mut conns, 3);
        assert_eq!(Conns::<u32>::slot(first), Conns::<u32>::slot(third));
        assert_eq!(conns.get(first), None);
        assert_eq!(conns.get_mut(first), None);
        assert_eq!(conns.remove(first), None);
        assert_eq!(conns.get(third), Some(&3));
        assert_eq!(conns.iter().collect::<Vec<_>>(), [(third, &3), (second, &2)]);
        assert!(conns.get(u64::MAX).is_none());
    }
}
