//! SETRANGE of very much: done in slices, on a string that is stored when all of it is written.

use tercel_core::clients::Slice;
use tercel_core::command::Reply;
use tercel_core::command::args::Args;
use tercel_core::command::error::Outcome;
use tercel_core::command::event_class as class;
use tercel_core::data::Dataset;
use tercel_core::dispatch::Context;
use tercel_engine::{CHUNK_BYTES, Expire, LongString, NewValue, StringRef};

use crate::arguments::target::Target;

/// As many bytes are written at once.
pub(super) const AT_ONCE_BYTES: usize = 256 << 10;
/// And so many in one step: a chunk, of which nothing is to be copied first then.
const STEP_BYTES: usize = CHUNK_BYTES;

struct SetRange {
    target: Target,
    /// What the key is to hold, apart from it: only what is written of it is a copy.
    string: LongString,
    was_missing: bool,
    at: usize,
    written: usize,
}

impl Slice for SetRange {
    fn step(&mut self, args: &Args<'_>, data: &mut Dataset, answer: &mut Reply) -> bool {
        let piece = args.get(3);
        // Its chunks mostly begin at multiples of their length.
        let place = self.at + self.written;
        let end = piece.len().min(self.written + STEP_BYTES - place % STEP_BYTES);
        self.string.write(place, &piece[self.written..end]);
        self.written = end;
        if end < piece.len() {
            return true;
        }
        self.target.let_go(data);
        let key = data.key(&self.target.key);
        let db = self.target.db;
        data.expire_if_due(db, key);
        answer.count(self.string.len());
        if !self.was_missing && data.peek(db, key).is_none() {
            // It is gone meanwhile, for its time or for want of memory: that came after this.
            return false;
        }
        data.store(db, key, NewValue::Long(self.string.clone()), Expire::Keep);
        self.target.effect(args, data);
        data.notify(class::STRING, "setrange", db, &self.target.key);
        false
    }

    fn abandon(&mut self, data: &mut Dataset) {
        self.target.let_go(data);
    }
}

/// Writes argument 3 over the bytes from `at` on of a string that is to be `len` bytes long then.
pub(super) fn set_range(cx: &mut Context<'_>, args: &Args<'_>, at: usize, len: usize) -> Outcome {
    let key = cx.key(args, 1);
    let stored = cx.server.data_mut().string_to_write(cx.caller.db, key)?;
    let was_missing = stored.is_none();
    let string = stored.unwrap_or(StringRef::Bytes(&[])).apart(len);
    let target = Target::new(cx, args, 1);
    cx.in_slices(args, Box::new(SetRange { target, string, was_missing, at, written: 0 }))
}
