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
    keys: Vec<Held>,
    taken: u64,
    let_go: u64,
}

struct Held {
    id: u64,
    db: usize,
    key: Box<[u8]>,
    /// It expired or was evicted since.
    has_gone: bool,
}

impl Dataset {
    /// Holds a key.
    pub fn hold(&mut self, db: usize, key: &[u8]) -> Hold {
        self.holds.taken += 1;
        self.holds.keys.push(Held { id: self.holds.taken, db, key: key.into(), has_gone: false });
        Hold(self.holds.taken)
    }

    /// Lets it go. True if the key has expired or was evicted meanwhile: nobody else could remove it.
    pub fn let_go(&mut self, hold: Hold) -> bool {
        let has_gone = self.holds.keys.iter().any(|held| held.id == hold.0 && held.has_gone);
        self.holds.keys.retain(|held| held.id != hold.0);
        self.holds.let_go += 1;
        has_gone
    }

    /// A key expired, or was evicted.
    #[inline]
    pub(super) fn note_gone(&mut self, db: usize, key: &[u8]) {
        for held in &mut self.holds.keys {
            held.has_gone |= held.db == db && *held.key == *key;
        }
    }

    /// Whether any key is held.
    #[must_use]
    #[inline]
    pub fn holds_any(&self) -> bool {
        !self.holds.keys.is_empty()
    }

    /// Whether a key of this name is held, in whatever database: to wait for one's namesake is no harm.
    #[must_use]
    pub fn is_held(&self, key: &[u8]) -> bool {
        self.holds.keys.iter().any(|held| *held.key == *key)
    }

    /// Whether a key is held by somebody else than `own`.
    pub(super) fn is_held_but_for(&self, key: &[u8], own: Option<&Hold>) -> bool {
        self.holds.keys.iter().any(|held| *held.key == *key && own.is_none_or(|own| own.0 != held.id))
    }

    /// How often keys were let go, ever: those who wait look again when it grows.
    #[must_use]
    #[inline]
    pub fn holds_let_go(&self) -> u64 {
        self.holds.let_go
    }
}
