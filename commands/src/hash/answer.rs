//! Fields in answers: few at once, many in slices.

use tercel_core::clients::Slice;
use tercel_core::command::{Args, Reply};
use tercel_core::data::{Dataset, Expired};
use tercel_engine::{Field, FieldMapRef, HeldFieldMap};

use super::{has_due, is_due, live};

/// From this length on a value may lie apart, and is answered without copying it.
pub(super) const SHARED_LEN_MIN: usize = 1025;
/// A hash that lies in one piece is answered at once up to so many fields and bytes.
const AT_ONCE: u64 = 1024;
const BYTES_AT_ONCE: usize = 256 << 10;
/// Fields answered in one step at most, and those looked up by their names.
const STEP_MAX: usize = 256;
const NAMES_STEP: usize = 64;

/// Writes the value of a field.
pub(super) fn put_value(out: &mut Reply, fields: FieldMapRef<'_>, field: Field<'_>) {
    if field.value.len() >= SHARED_LEN_MIN
        && let Some(shared) = fields.shared(field.field)
    {
        return out.blob(&shared);
    }
    out.bulk(field.value);
}

/// How a deadline is shown, both in Unix milliseconds, and the time now.
pub(super) type Shown = (fn(i64, i64) -> i64, i64);

/// What is answered for the deadline of a field that is not there, or has none.
pub(super) const MISSING: i64 = -2;
pub(super) const NO_DEADLINE: i64 = -1;

/// Writes the deadline of a field that is asked for by name.
pub(super) fn put_deadline(
    out: &mut Reply,
    fields: Option<FieldMapRef<'_>>,
    name: &[u8],
    expired: Expired,
    (show, now_ms): Shown,
) {
    out.integer(match fields.and_then(|fields| live(fields, name, expired)) {
        None => MISSING,
        Some(field) => field.expire_at.map_or(NO_DEADLINE, |at_ms| show(at_ms, now_ms)),
    });
}

/// Writes the value of a field that is asked for by name, of a hash that may be missing.
pub(super) fn put_named(out: &mut Reply, fields: Option<FieldMapRef<'_>>, name: &[u8], expired: Expired) {
    match fields.and_then(|fields| Some((fields, live(fields, name, expired)?))) {
        Some((fields, field)) => put_value(out, fields, field),
        None => out.null(),
    }
}

/// Whether a hash may be written in one go.
pub(super) fn is_short(fields: FieldMapRef<'_>) -> bool {
    fields.len() <= AT_ONCE && fields.block().is_some_and(|block| block.len() <= BYTES_AT_ONCE)
}

/// What is answered of each field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Its name.
    Names,
    /// Its value.
    Values,
    /// Both, in a map.
    Map,
    /// Both, in an array: of pairs where the protocol has them.
    Pairs,
}

impl What {
    /// Begins the answer.
    pub(super) fn begin(self, out: &mut Reply, count: u64) {
        match self {
            What::Map => out.map(count as usize),
            What::Pairs if !out.is_resp3() => out.array(count as usize * 2),
            _ => out.array(count as usize),
        }
    }

    /// Writes one field.
    pub(super) fn put(self, out: &mut Reply, fields: FieldMapRef<'_>, field: Field<'_>) {
        if self == What::Pairs && out.is_resp3() {
            out.array(2);
        }
        if self != What::Values {
            out.bulk(field.field);
        }
        if self != What::Names {
            put_value(out, fields, field);
        }
    }
}

/// Fields of a hash as it was, in its order: all, or a random choice.
pub(super) struct AllFields {
    fields: HeldFieldMap,
    expired: Expired,
    what: What,
    /// How many are wanted, of those that there are.
    wanted: u64,
    /// Where it is: first counting, if any is past its deadline, then answering.
    at: u64,
    counted: u64,
    is_counted: bool,
    has_begun: bool,
    /// Fields that are there and were not passed yet.
    ahead: u64,
}

impl AllFields {
    pub(super) fn new(fields: HeldFieldMap, expired: Expired, what: What) -> Self {
        Self::some(fields, expired, what, u64::MAX)
    }

    /// So many of them; each choice of so many has the same chance.
    pub(super) fn some(fields: HeldFieldMap, expired: Expired, what: What, wanted: u64) -> Self {
        let is_counted = !has_due(fields.view(), expired);
        let counted = if is_counted { fields.view().len() } else { 0 };
        AllFields { fields, expired, what, wanted, at: 0, counted, is_counted, has_begun: false, ahead: 0 }
    }

    /// Counts those that lie together next, so that the header says how many will follow.
    fn count(&mut self) {
        let view = self.fields.view();
        let piece = view.piece(self.at).take(STEP_MAX);
        self.at += piece.len().max(1) as u64;
        self.counted += piece.filter(|field| !is_due(field, self.expired)).count() as u64;
        if self.at >= view.len() {
            self.is_counted = true;
            self.at = 0;
        }
    }
}

impl Slice for AllFields {
    fn streams(&self) -> bool {
        true
    }

    fn step(&mut self, _: &Args<'_>, data: &mut Dataset, answer: &mut Reply) -> bool {
        if !self.is_counted {
            self.count();
            return true;
        }
        if !self.has_begun {
            self.has_begun = true;
            self.ahead = self.counted;
            self.wanted = self.wanted.min(self.counted);
            self.what.begin(answer, self.wanted);
        }
        let view = self.fields.view();
        let mut passed = 0;
        for field in view.piece(self.at).take(STEP_MAX) {
            passed += 1;
            if is_due(&field, self.expired) {
                continue;
            }
            // Of those ahead as many are taken as are still wanted, whichever they are.
            if self.wanted >= self.ahead || data.random_below(self.ahead) < self.wanted {
                self.what.put(answer, view, field);
                self.wanted -= 1;
            }
            self.ahead -= 1;
        }
        self.at += passed;
        passed > 0 && self.wanted > 0 && self.at < view.len()
    }
}

/// The values, or the deadlines, of many fields of a hash as it was, by their names.
pub(super) struct NamedFields {
    fields: HeldFieldMap,
    expired: Expired,
    /// The next name: they are the command's arguments from there on.
    at: usize,
    has_begun: bool,
    /// Not the values are answered, but what this makes of the deadlines.
    shown: Option<Shown>,
}

impl NamedFields {
    pub(super) fn new(fields: HeldFieldMap, expired: Expired, names_from: usize) -> Self {
        NamedFields { fields, expired, at: names_from, has_begun: false, shown: None }
    }

    /// The same, of their deadlines.
    pub(super) fn showing(self, show: fn(i64, i64) -> i64, now_ms: i64) -> Self {
        NamedFields { shown: Some((show, now_ms)), ..self }
    }
}

impl Slice for NamedFields {
    fn streams(&self) -> bool {
        true
    }

    fn step(&mut self, args: &Args<'_>, _: &mut Dataset, answer: &mut Reply) -> bool {
        if !std::mem::replace(&mut self.has_begun, true) {
            answer.array(args.len() - self.at);
        }
        let until = (self.at + NAMES_STEP).min(args.len());
        for index in self.at..until {
            let (fields, name) = (Some(self.fields.view()), args.get(index));
            match self.shown {
                Some(shown) => put_deadline(answer, fields, name, self.expired, shown),
                None => put_named(answer, fields, name, self.expired),
            }
        }
        self.at = until;
        until < args.len()
    }
}
