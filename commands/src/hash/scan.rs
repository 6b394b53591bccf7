//! HSCAN.

use tercel_core::base::glob::Glob;
use tercel_core::clients::Slice;
use tercel_core::command::Reply;
use tercel_core::command::args::Args;
use tercel_core::command::error::{Outcome, SYNTAX, fail};
use tercel_core::command::parse::integer;
use tercel_core::data::{Dataset, Expired};
use tercel_core::dispatch::Context;
use tercel_engine::{Blob, Field, FieldMapRef, HeldFieldMap};

use super::answer::SHARED_LEN_MIN;
use super::is_due;

const COUNT_DEFAULT: i64 = 10;
/// Strings answered in one step.
const ANSWERED_AT_ONCE: usize = 128;

pub(super) fn hscan(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let cursor = tercel_resp::number::parse_u64(args.get(2)).ok_or(fail("ERR invalid cursor"))?;
    let key = cx.key(args, 1);
    let Some(held) = cx.server.data_mut().read_fields(cx.caller.db, key)?.map(FieldMapRef::held) else {
        cx.out.array(2);
        cx.out.bulk("0");
        cx.out.array(0);
        return Ok(());
    };
    let (mut pattern, mut count, mut values) = (None, COUNT_DEFAULT, true);
    let mut at = 3;
    while at < args.len() {
        let has_next = at + 1 < args.len();
        if has_next && args.is(at, "match") {
            pattern = (args.get(at + 1) != b"*").then(|| Glob::new(args.get(at + 1), false));
            at += 2;
        } else if has_next && args.is(at, "count") {
            count = integer(args.get(at + 1))?;
            if count < 1 {
                return Err(SYNTAX);
            }
            at += 2;
        } else if args.is(at, "novalues") {
            values = false;
            at += 1;
        } else if args.is(at, "noscores") {
            return Err(fail("ERR NOSCORES option can only be used in ZSCAN"));
        } else {
            return Err(SYNTAX);
        }
    }
    let is_whole = !held.view().is_wide();
    let scan = Scan {
        held,
        cursor: if is_whole { 0 } else { cursor },
        left: if is_whole { u64::MAX } else { count as u64 },
        pattern,
        values,
        expired: cx.server.data().expired(),
        found: Vec::new(),
        found_bytes: 0,
        answered: None,
    };
    cx.in_slices(args, Box::new(scan))
}

enum Found {
    Own(Box<[u8]>),
    Shared(Blob),
}

/// A walk through a part of the fields.
struct Scan {
    held: HeldFieldMap,
    cursor: u64,
    /// Fields still to look at.
    left: u64,
    pattern: Option<Glob>,
    values: bool,
    expired: Expired,
    found: Vec<Found>,
    found_bytes: usize,
    /// How many of those are answered; None while it walks.
    answered: Option<usize>,
}

impl Scan {
    /// Takes note of a field that was visited.
    fn found(&mut self, fields: FieldMapRef<'_>, field: Field<'_>) {
        if is_due(&field, self.expired) || self.pattern.as_ref().is_some_and(|pattern| !pattern.matches(field.field)) {
            return;
        }
        self.found.push(Found::Own(field.field.into()));
        self.found_bytes += field.field.len() + size_of::<Found>();
        if !self.values {
            return;
        }
        let shared = if field.value.len() >= SHARED_LEN_MIN { fields.shared(field.field) } else { None };
        self.found_bytes += size_of::<Found>() + if shared.is_some() { 0 } else { field.value.len() };
        self.found.push(shared.map_or_else(|| Found::Own(field.value.into()), Found::Shared));
    }

    /// A piece of the fields; true while there is more to look at.
    fn walk(&mut self) -> bool {
        let held = std::mem::replace(&mut self.held, HeldFieldMap::none());
        let view = held.view();
        let count_max = usize::try_from(self.left).unwrap_or(usize::MAX);
        let mut visited = 0;
        self.cursor = view.scan(self.cursor, count_max, &mut |field| {
            visited += 1;
            self.found(view, field);
        });
        self.held = held;
        self.left = self.left.saturating_sub(visited);
        self.cursor != 0 && self.left > 0
    }
}

impl Slice for Scan {
    fn step(&mut self, _: &Args<'_>, _: &mut Dataset, answer: &mut Reply) -> bool {
        let Some(answered) = self.answered else {
            if !self.walk() {
                answer.array(2);
                answer.bulk(self.cursor.to_string());
                answer.array(self.found.len());
                self.answered = Some(0);
            }
            return self.answered.is_none() || !self.found.is_empty();
        };
        let until = (answered + ANSWERED_AT_ONCE).min(self.found.len());
        for found in &mut self.found[answered..until] {
            match std::mem::replace(found, Found::Own(Box::default())) {
                Found::Own(bytes) => {
                    self.found_bytes -= bytes.len();
                    answer.bulk(bytes);
                }
                Found::Shared(blob) => answer.blob(&blob),
            }
        }
        self.answered = Some(until);
        until < self.found.len()
    }

    fn gathered(&self) -> usize {
        self.found_bytes
    }
}
