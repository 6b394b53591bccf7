//! Keys that a long command is about to change: whoever uses one of them waits until it has, so that the command
//! is as if it had been done when it began. Nobody else waits.

use super::Dataset;

/// Keys held for one command, of which each is to be let go.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is held is to be let go"]
pub struct Hold(u64);

/// All that is held: mostly nothing.
#[derive(Default)]
pub(super) struct Holds {
    /// Names, whatever the database: to wait for one's namesake in another is no harm.
    keys: Vec<(u64, Box<[u8]>)>,
    taken: u64,
    let_go: u64,
}

impl Dataset {
    /// Holds a key.
    pub fn hold(&mut self, key: &[u8]) -> Hold {
        self.holds.taken += 1;
        self.holds.keys.push((self.holds.taken, key.into()));
        Hold(self.holds.taken)
    }

    /// Lets it go.
    pub fn let_go(&mut self, hold: Hold) {
        self.holds.keys.retain(|(id, _)| *id != hold.0);
        self.holds.let_go += 1;
    }

    /// Whether any key is held.
    #[must_use]
    #[inline]
    pub fn holds_any(&self) -> bool {
        !self.holds.keys.is_empty()
    }

    /// Whether a key is held.
    #[must_use]
    pub fn is_held(&self, key: &[u8]) -> bool {
        self.holds.keys.iter().any(|(_, held)| **held == *key)
    }

    /// Whether a key is held by somebody else than `own`.
    pub(super) fn is_held_but_for(&self, key: &[u8], own: Option<&Hold>) -> bool {
        self.holds.keys.iter().any(|(id, held)| **held == *key && own.is_none_or(|own| own.0 != *id))
    }

    /// How often keys were let go, ever: those who wait look again when it grows.
    #[must_use]
    #[inline]
    pub fn holds_let_go(&self) -> u64 {
        self.holds.let_go
    }
}
