//! Effects: every change of data as a command that makes the same change elsewhere, whatever the time and
//! the chance there. Relative times are absolute in it, results stand for arithmetic of floats, what expires
//! or is evicted is deleted. Whoever repeats effects in order on the same data has the same data: a replica,
//! an append-only file.
//!
//! A command that changed something stands for itself, unless its handler said in what words it is to be
//! repeated. What was removed for its deadline or for memory on the way comes before it, as it happened.

use super::{Dataset, Key};
use crate::command::{Args, OwnedCommand};

/// One effect.
pub struct Effect {
    /// The database it is to be run in.
    pub db: usize,
    /// The command.
    pub command: OwnedCommand,
}

/// Effects that somebody collects.
#[derive(Default)]
pub(super) struct Effects {
    is_on: bool,
    /// Deletions are told as DEL rather than UNLINK: of what expired, and of what was evicted.
    expired_by_del: bool,
    evicted_by_del: bool,
    recorded: Vec<Effect>,
    /// How often a handler has found words of its own, ever.
    own: u64,
}

impl Effects {
    pub(super) fn follow(&mut self, settings: &crate::settings::Settings) {
        self.expired_by_del = !settings.lazyfree_lazy_expire;
        self.evicted_by_del = !settings.lazyfree_lazy_eviction;
    }
}

/// Where a command stood when it began.
#[derive(Clone, Copy)]
pub struct Begun {
    dirty: u64,
    own: u64,
}

/// Why a key was removed without a command that says so.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    Expired,
    Evicted,
}

impl Dataset {
    /// Whether effects are collected from now on.
    pub fn record_effects(&mut self, on: bool) {
        self.effects.is_on = on;
    }

    /// Whether effects are collected.
    #[must_use]
    #[inline]
    pub fn records_effects(&self) -> bool {
        self.effects.is_on
    }

    /// A command begins.
    #[must_use]
    #[inline]
    pub fn command_begins(&self) -> Begun {
        Begun { dirty: self.dirty, own: self.effects.own }
    }

    /// A command in database `db` is over: it stands for itself if it changed something and nobody has found
    /// other words for that.
    #[inline]
    pub fn command_ended(&mut self, begun: Begun, db: usize, args: &Args<'_>) {
        if self.effects.is_on && self.dirty != begun.dirty && self.effects.own == begun.own {
            self.effect(db, OwnedCommand::from_args(args));
        }
    }

    /// What the running command did, in these words; several come in order.
    #[cold]
    pub fn effect(&mut self, db: usize, command: OwnedCommand) {
        // Keys that it took for missing have to be missing where it is repeated.
        self.remove_found_expired();
        self.effects.own += 1;
        self.effects.recorded.push(Effect { db, command });
    }

    /// What the running command did is nobody else's business.
    pub fn no_effect(&mut self) {
        self.effects.own += 1;
    }

    /// A key was removed.
    #[inline]
    pub(super) fn removed(&mut self, why: Removed, db: usize, key: &[u8]) {
        if self.effects.is_on {
            self.push_removed(why, db, key);
        }
    }

    #[cold]
    fn push_removed(&mut self, why: Removed, db: usize, key: &[u8]) {
        let effects = &mut self.effects;
        let by_del = if why == Removed::Expired { effects.expired_by_del } else { effects.evicted_by_del };
        let mut command = OwnedCommand::default();
        command.push(if by_del { b"DEL" } else { b"UNLINK" });
        command.push(key);
        effects.recorded.push(Effect { db, command });
    }

    /// Fields of a hash were removed for their deadline.
    pub(super) fn removed_fields(&mut self, db: usize, key: &[u8], fields: &[Box<[u8]>]) {
        if self.effects.is_on {
            let mut command = OwnedCommand::default();
            command.push(b"HDEL");
            command.push(key);
            fields.iter().for_each(|field| command.push(field));
            self.effects.recorded.push(Effect { db, command });
        }
    }

    /// The effects since it was last asked, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects.recorded)
    }

    /// Whether there are any.
    #[must_use]
    #[inline]
    pub fn has_effects(&self) -> bool {
        !self.effects.recorded.is_empty()
    }

    /// Effects of another server are run from now on, or no longer: there it was decided what has expired, so
    /// that here nothing has.
    pub fn set_following(&mut self, on: bool) {
        self.is_following = on;
    }

    /// Whether an effect of another server is being run: what was within the limits there is done here.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.is_following
    }

    /// A key was given a time in the past: it is deleted as expired, in the words of a deletion.
    pub(super) fn deleted_as_expired(&mut self, db: usize, key: Key<'_>) {
        // The words are those of the removal, which were recorded with it.
        self.no_effect();
        self.tell_expired(db, key.bytes);
    }
}
