//! The key that a long command changes in the end, held until it has.

use tercel_core::command::OwnedCommand;
use tercel_core::command::args::Args;
use tercel_core::data::{Dataset, Hold};
use tercel_core::dispatch::Context;

/// A key, its database and its hold.
pub(crate) struct Target {
    pub(crate) db: usize,
    pub(crate) key: Box<[u8]>,
    hold: Option<Hold>,
}

impl Target {
    /// Holds the key that is argument `index`.
    pub(crate) fn new(cx: &mut Context<'_>, args: &Args<'_>, index: usize) -> Self {
        let data = cx.server.data_mut();
        Target { db: cx.caller.db, key: args.get(index).into(), hold: Some(data.hold(cx.caller.db, args.get(index))) }
    }

    /// Lets it go: right before the change, or when there is to be none. True if the key has expired or was evicted
    /// meanwhile.
    pub(crate) fn let_go(&mut self, data: &mut Dataset) -> bool {
        self.hold.take().is_some_and(|hold| data.let_go(hold))
    }

    /// It was changed as the command says. Others may have had effects meanwhile, though not on the key, so its own
    /// is the same.
    pub(crate) fn effect(&self, args: &Args<'_>, data: &mut Dataset) {
        if data.records_effects() {
            data.effect(self.db, OwnedCommand::from_args(args));
        }
    }
}
