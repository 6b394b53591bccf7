//! The deadlines of a database in order. Holds hashes, never pointers, so nothing in it can dangle.

use std::collections::BTreeSet;

/// About what a deadline takes in the ordered set: 16 bytes, nodes three quarters full, inner nodes.
const TIMER_LEN: usize = 26;

/// One deadline for each key that has one. Two keys with the same hash and deadline share an element
/// of the set, which is why they are counted apart.
#[derive(Default)]
pub(crate) struct Timers {
    set: BTreeSet<(i64, u64)>,
    count: usize,
    /// All deadlines added up, in milliseconds.
    sum: i128,
}

impl Timers {
    /// How many keys have a deadline.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn add(&mut self, at_ms: i64, hash: u64) {
        self.set.insert((at_ms, hash));
        self.count += 1;
        self.sum += i128::from(at_ms);
    }

    /// Takes a key's deadline away. `shared` says whether another key has the same one and the same hash.
    pub(crate) fn remove(&mut self, at_ms: i64, hash: u64, shared: impl FnOnce() -> bool) {
        if !shared() {
            self.set.remove(&(at_ms, hash));
        }
        self.count = self.count.saturating_sub(1);
        self.sum -= i128::from(at_ms);
    }

    /// Forgets a deadline that no key has.
    pub(crate) fn forget(&mut self, at_ms: i64, hash: u64) {
        self.set.remove(&(at_ms, hash));
    }

    pub(crate) fn first(&self) -> Option<(i64, u64)> {
        self.set.first().copied()
    }

    pub(crate) fn last(&self) -> Option<(i64, u64)> {
        self.set.last().copied()
    }

    /// In order, from the first at or after `from` on.
    pub(crate) fn from(&self, from: (i64, u64)) -> impl Iterator<Item = (i64, u64)> + '_ {
        self.set.range(from..).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        self.set.iter().copied()
    }

    /// The average time left, in milliseconds; 0 without deadlines.
    pub(crate) fn avg_ttl_ms(&self, now_ms: i64) -> i64 {
        if self.count == 0 {
            return 0;
        }
        let left = self.sum / self.count as i128 - i128::from(now_ms);
        i64::try_from(left.max(0)).unwrap_or(i64::MAX)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.set.len() * TIMER_LEN
    }

    /// Frees up to `steps` deadlines; returns how many.
    pub(crate) fn drain(&mut self, steps: usize) -> usize {
        (0..steps).take_while(|_| self.set.pop_first().is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_averages_and_shared_elements() {
        let mut timers = Timers::default();
        assert_eq!(timers.avg_ttl_ms(5), 0);
        timers.add(100, 1);
        timers.add(100, 1);
        timers.add(400, 2);
        assert_eq!((timers.len(), timers.avg_ttl_ms(50), timers.avg_ttl_ms(1000)), (3, 150, 0));
        timers.remove(100, 1, || true);
        assert_eq!((timers.len(), timers.first()), (2, Some((100, 1))));
        timers.remove(100, 1, || false);
        assert_eq!((timers.len(), timers.first(), timers.last()), (1, Some((400, 2)), Some((400, 2))));
        assert_eq!(timers.avg_ttl_ms(i64::MIN), i64::MAX);
        assert_eq!((timers.drain(10), timers.drain(10)), (1, 0));
    }
}
