//! What has a time, in the order of the times. Whoever has to do something at a time keeps it in one of these;
//! the executor asks for the soonest before it sleeps.

use std::collections::BTreeSet;

/// Things with a time each, in whatever unit its owner counts.
#[derive(Debug)]
pub struct Timers<T>(BTreeSet<(i64, T)>);

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Timers(BTreeSet::new())
    }
}

impl<T: Ord + Copy> Timers<T> {
    /// Adds a thing.
    pub fn add(&mut self, at: i64, what: T) {
        self.0.insert((at, what));
    }

    /// Takes a thing out that was added with this time.
    pub fn remove(&mut self, at: i64, what: T) {
        self.0.remove(&(at, what));
    }

    /// How many there are.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "whoever asks wants a number")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The soonest time.
    #[must_use]
    #[inline]
    pub fn next(&self) -> Option<i64> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes out a thing whose time is `now` or earlier, the soonest first.
    pub fn take_due(&mut self, now: i64) -> Option<T> {
        let (at, what) = *self.0.first()?;
        if at > now {
            return None;
        }
        self.0.remove(&(at, what));
        Some(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_the_order_of_their_times() {
        let mut timers = Timers::default();
        assert_eq!((timers.next(), timers.take_due(i64::MAX)), (None, None::<u8>));
        timers.add(5, 1);
        timers.add(3, 2);
        timers.add(3, 1);
        timers.remove(3, 1);
        timers.remove(9, 9);
        assert_eq!((timers.next(), timers.take_due(2), timers.take_due(3)), (Some(3), None, Some(2)));
        assert_eq!((timers.take_due(4), timers.take_due(5), timers.next()), (None, Some(1), None));
    }
}
