//! Pushes of very many elements: in slices, onto a list apart from the key, which gets it in the end.

use tercel_core::clients::Slice;
use tercel_core::command::error::Outcome;
use tercel_core::command::{Args, Reply};
use tercel_core::data::Dataset;
use tercel_core::dispatch::Context;
use tercel_engine::{End, List};

use super::search::Changed;
use super::{pushed, text};

/// As many arguments are pushed at once.
pub(super) const AT_ONCE: usize = 512;
/// Elements pushed in one step.
const STEP_MAX: usize = 128;

struct Push {
    changed: Changed,
    end: End,
    /// What the key is to hold.
    list: Option<List>,
    was_missing: bool,
    /// The next argument.
    at: usize,
}

impl Slice for Push {
    fn step(&mut self, args: &Args<'_>, data: &mut Dataset, answer: &mut Reply) -> bool {
        let Some(list) = &mut self.list else { return false };
        let until = args.len().min(self.at + STEP_MAX);
        (self.at..until).for_each(|index| list.push(self.end, text(args, index)));
        self.at = until;
        if until < args.len() {
            return true;
        }
        let (what, count) = (pushed(self.end), args.len() as u64 - 2);
        if let Some(list) = self.list.take() {
            let len = list.len();
            self.changed.change_or_make(args, data, what, count, self.was_missing, |stored| *stored = list);
            answer.integer(len as i64);
        }
        false
    }

    fn abandon(&mut self, data: &mut Dataset) {
        self.list = None;
        self.changed.target.let_go(data);
    }
}

pub(super) fn push_many(cx: &mut Context<'_>, args: &Args<'_>, end: End, make: bool) -> Outcome {
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let was_missing = cx.server.data_mut().list_to_write(db, key)?.is_none();
    if was_missing && !make {
        cx.out.integer(0);
        return Ok(());
    }
    let data = cx.server.data();
    let list = data.copy_list(db, key).or_else(|| Some(data.new_list(db)));
    let changed = Changed::new(cx, args);
    cx.in_slices(args, Box::new(Push { changed, end, list, was_missing, at: 2 }))
}
