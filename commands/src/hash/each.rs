//! Commands that do the same to each of some fields that are named. Few at once; many in slices, on a hash apart from
//! the key, which gets it in the end.

use std::iter::StepBy;
use std::ops::Range;

use tercel_core::clients::Slice;
use tercel_core::command::error::Outcome;
use tercel_core::command::{Args, OwnedCommand, Reply};
use tercel_core::data::{Change, Dataset};
use tercel_core::dispatch::Context;
use tercel_engine::FieldMap;

use crate::arguments::target::Target;

/// As many fields are done at once, and in one step.
const AT_ONCE: usize = 256;
const STEP_MAX: usize = 64;

/// What is done to each field, and what follows.
pub(super) trait ForEach {
    /// Whether a hash is made where there is none. Without, nothing is done then but [`ForEach::missing`].
    const MAKES: bool;

    /// Begins the answer, of so many fields.
    fn begin(&mut self, _count: usize, _answer: &mut Reply) {}

    /// Does it to the field of argument `index`.
    fn each(&mut self, fields: &mut FieldMap, args: &Args<'_>, index: usize, answer: &mut Reply);

    /// Answers for a field of a hash that is not there.
    fn missing(&self, _answer: &mut Reply) {}

    /// How many changes it was in all; None if nothing changed.
    fn changes(&self) -> Option<u64>;

    /// Tells of it.
    fn tell(&mut self, done: &mut Done<'_>, args: &Args<'_>);

    /// Ends the answer.
    fn end(&self, _answer: &mut Reply) {}
}

/// What was done, to tell of it.
pub(super) struct Done<'a> {
    pub(super) data: &'a mut Dataset,
    pub(super) db: usize,
    pub(super) key: &'a [u8],
    /// There was no hash.
    pub(super) was_missing: bool,
    /// There is none any more.
    pub(super) is_gone: bool,
    has_effect: bool,
}

impl Done<'_> {
    /// Says in other words than its own what the command did.
    pub(super) fn effect(&mut self, write: impl FnOnce(&mut OwnedCommand)) {
        self.has_effect = true;
        if self.data.records_effects() {
            let mut command = OwnedCommand::default();
            write(&mut command);
            self.data.effect(self.db, command);
        }
    }
}

/// Does it to the fields of some arguments.
pub(super) fn for_each(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    indexes: StepBy<Range<usize>>,
    mut job: impl ForEach + 'static,
) -> Outcome {
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    if indexes.len() > AT_ONCE {
        return begin(cx, args, indexes, job);
    }
    let Context { server, out, .. } = cx;
    let edited = server.data_mut().edit_fields(db, key, makes(&job), |fields| {
        job.begin(indexes.len(), out);
        indexes.clone().for_each(|index| job.each(fields, args, index, out));
        Change { result: (), changed: job.changes() }
    })?;
    let (was_missing, is_gone) = match edited {
        Some(edited) => (edited.is_new, edited.is_gone),
        None => {
            job.begin(indexes.len(), out);
            indexes.for_each(|_| job.missing(out));
            (true, true)
        }
    };
    let mut done = Done { data: server.data_mut(), db, key: key.bytes, was_missing, is_gone, has_effect: false };
    job.tell(&mut done, args);
    job.end(out);
    Ok(())
}

fn makes<J: ForEach>(_: &J) -> bool {
    J::MAKES
}

/// Kept apart: what few do need not be larger for it.
#[cold]
fn begin<J: ForEach + 'static>(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    indexes: StepBy<Range<usize>>,
    job: J,
) -> Outcome {
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let was_missing = cx.server.data_mut().fields_to_write(db, key)?.is_none();
    let fields = match cx.server.data().copy_fields(db, key) {
        None if J::MAKES => Some(cx.server.data().new_fields(db)),
        fields => fields,
    };
    let target = Target::new(cx, args, 1);
    let job = Many { target, fields, was_missing, count: indexes.len(), indexes, job, has_begun: false };
    cx.in_slices(args, Box::new(job))
}

struct Many<J> {
    target: Target,
    /// What the key is to hold; None if there is none and none is made.
    fields: Option<FieldMap>,
    was_missing: bool,
    count: usize,
    indexes: StepBy<Range<usize>>,
    job: J,
    has_begun: bool,
}

impl<J: ForEach> Many<J> {
    /// Gives the key what was made, and tells of it: but if the key is gone meanwhile, for its time or for want of
    /// memory, that came after this, and there is nothing left of it to tell.
    fn store(&mut self, args: &Args<'_>, data: &mut Dataset) {
        let db = self.target.db;
        let key = data.key(&self.target.key);
        data.expire_if_due(db, key);
        if self.target.let_go(data) {
            return;
        }
        let key = data.key(&self.target.key);
        let changed = self.job.changes();
        let mut is_gone = true;
        if let Some(changed_fields) = self.fields.take() {
            // If there is none, all its fields have reached their time meanwhile.
            let edited = data.edit_fields(db, key, true, |fields| {
                *fields = changed_fields;
                Change { result: (), changed }
            });
            // It is of no other type, since it was held.
            is_gone = edited.ok().flatten().is_none_or(|edited| edited.is_gone);
        }
        let (was_missing, key) = (self.was_missing, &self.target.key);
        let mut done = Done { data, db, key, was_missing, is_gone, has_effect: false };
        self.job.tell(&mut done, args);
        if changed.is_some() && !done.has_effect {
            self.target.effect(args, data);
        }
    }
}

impl<J: ForEach> Slice for Many<J> {
    fn step(&mut self, args: &Args<'_>, data: &mut Dataset, answer: &mut Reply) -> bool {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.job.begin(self.count, answer);
        }
        for index in self.indexes.by_ref().take(STEP_MAX) {
            match &mut self.fields {
                Some(fields) => self.job.each(fields, args, index, answer),
                None => self.job.missing(answer),
            }
        }
        if self.indexes.len() > 0 {
            return true;
        }
        self.store(args, data);
        self.job.end(answer);
        false
    }

    fn abandon(&mut self, data: &mut Dataset) {
        self.fields = None;
        self.target.let_go(data);
    }
}
