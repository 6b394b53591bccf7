//! HRANDFIELD. Every field has the same chance: fields are drawn by their rank.

use std::collections::HashSet;

use tercel_core::clients::Slice;
use tercel_core::command::Reply;
use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, OUT_OF_RANGE, Outcome, SYNTAX, fail};
use tercel_core::command::parse::integer;
use tercel_core::data::{Dataset, Expired};
use tercel_core::dispatch::Context;
use tercel_engine::HeldFieldMap;

use super::answer::{AllFields, What};
use super::is_due;

/// So often a field past its deadline may be drawn in a row before all that are there are sought out.
const DRAWS_MAX: u32 = 100;
/// Fields drawn in one step, and looked at in one.
const DRAWN_AT_ONCE: u64 = 64;
const LOOKED_AT_ONCE: usize = 256;

pub(super) fn hrandfield(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    const NO_COUNT: CommandError =
        fail("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807");
    let mut count = None;
    if args.len() >= 3 {
        let number = integer(args.get(2))?;
        if number == i64::MIN {
            return Err(NO_COUNT);
        }
        if args.len() > 4 || (args.len() == 4 && !args.is(3, "withvalues")) {
            return Err(SYNTAX);
        }
        if args.len() == 4 && number.unsigned_abs() > i64::MAX as u64 / 2 {
            return Err(OUT_OF_RANGE);
        }
        count = Some(number);
    }
    let what = if args.len() == 4 { What::Pairs } else { What::Names };
    let key = cx.key(args, 1);
    let Context { server, caller, out, .. } = &mut *cx;
    let expired = server.data().expired();
    let Some(fields) = server.data_mut().read_fields(caller.db, key)? else {
        if count.is_some() {
            out.array(0);
        } else {
            out.null();
        }
        return Ok(());
    };
    let held = fields.held();
    let len = fields.len();
    match count {
        Some(0) => {
            cx.out.array(0);
            Ok(())
        }
        Some(wanted @ 1..) if (wanted as u64).saturating_mul(3) > len => {
            cx.in_slices(args, Box::new(AllFields::some(held, expired, what, wanted as u64)))
        }
        Some(wanted @ 1..) => {
            let draws = Draws::new(held, expired);
            let wanted = wanted as u64;
            cx.in_slices(
                args,
                Box::new(Few {
                    draws,
                    what,
                    wanted,
                    seen: HashSet::new(),
                    draws_left: wanted.saturating_mul(10).saturating_add(1000),
                    order: Vec::new(),
                    answered: None,
                }),
            )
        }
        _ => {
            let draws = Draws::new(held, expired);
            let left = count.map_or(1, i64::unsigned_abs);
            cx.in_slices(args, Box::new(Many { draws, what, left, is_one: count.is_none(), has_begun: false }))
        }
    }
}

/// What there is to draw from.
struct Draws {
    fields: HeldFieldMap,
    expired: Expired,
    /// The ranks of those that are there, and where their search is: from when too many that are not were drawn.
    there: Option<(Vec<u64>, u64)>,
}

/// What a draw came to.
enum Drawn {
    Rank(u64),
    /// There is none.
    None,
    /// That has to be found out first.
    Later,
}

impl Draws {
    fn new(fields: HeldFieldMap, expired: Expired) -> Self {
        Draws { fields, expired, there: None }
    }

    /// From now on only those are drawn that are there.
    fn seek(&mut self) {
        self.there.get_or_insert_default();
    }

    fn draw(&mut self, data: &mut Dataset) -> Drawn {
        let view = self.fields.view();
        let Some((ranks, looked_at)) = &mut self.there else {
            for _ in 0..DRAWS_MAX {
                let rank = data.random_below(view.len());
                if view.at(rank).is_some_and(|field| !is_due(&field, self.expired)) {
                    return Drawn::Rank(rank);
                }
            }
            self.seek();
            return Drawn::Later;
        };
        if *looked_at < view.len() {
            let piece = view.piece(*looked_at).take(LOOKED_AT_ONCE);
            let from = *looked_at;
            *looked_at += piece.len().max(1) as u64;
            ranks.extend((from..).zip(piece).filter(|(_, field)| !is_due(field, self.expired)).map(|(rank, _)| rank));
            return Drawn::Later;
        }
        match ranks.get(data.random_below(ranks.len() as u64) as usize) {
            Some(rank) => Drawn::Rank(*rank),
            None => Drawn::None,
        }
    }

    fn put(&self, answer: &mut Reply, what: What, rank: u64) {
        let view = self.fields.view();
        if let Some(field) = view.at(rank) {
            what.put(answer, view, field);
        }
    }

    fn gathered(&self) -> usize {
        self.there.as_ref().map_or(0, |(ranks, _)| ranks.capacity() * size_of::<u64>())
    }
}

/// So many fields, the same ones again and again if it comes so.
struct Many {
    draws: Draws,
    what: What,
    left: u64,
    /// It is one that is not in an array.
    is_one: bool,
    has_begun: bool,
}

impl Slice for Many {
    fn streams(&self) -> bool {
        true
    }

    fn step(&mut self, _: &Args<'_>, data: &mut Dataset, answer: &mut Reply) -> bool {
        for _ in 0..DRAWN_AT_ONCE.min(self.left) {
            let rank = match self.draws.draw(data) {
                Drawn::Later => return true,
                Drawn::None if self.is_one => {
                    answer.null();
                    return false;
                }
                Drawn::None => {
                    answer.array(0);
                    return false;
                }
                Drawn::Rank(rank) => rank,
            };
            if !self.has_begun && !self.is_one {
                self.what.begin(answer, self.left);
            }
            self.has_begun = true;
            self.draws.put(answer, self.what, rank);
            self.left -= 1;
        }
        self.left > 0
    }

    fn gathered(&self) -> usize {
        self.draws.gathered()
    }
}

/// Few of many fields, each once.
struct Few {
    draws: Draws,
    what: What,
    wanted: u64,
    /// Draws until all that are there are sought out: so many may be past their deadline that too few are.
    draws_left: u64,
    seen: HashSet<u64>,
    /// The same in the order in which they were drawn.
    order: Vec<u64>,
    /// How many of them are answered; None while they are drawn.
    answered: Option<usize>,
}

impl Few {
    /// Draws some; true while more are wanted and left.
    fn draw(&mut self, data: &mut Dataset) -> bool {
        for _ in 0..DRAWN_AT_ONCE {
            self.draws_left = self.draws_left.saturating_sub(1);
            if self.draws_left == 0 {
                self.draws.seek();
            }
            match self.draws.draw(data) {
                Drawn::Later => return true,
                Drawn::None => return false,
                Drawn::Rank(rank) => {
                    if self.seen.insert(rank) {
                        self.order.push(rank);
                    }
                }
            }
            // Of those that are there, all may have been drawn.
            let all = self.draws.there.as_ref().map_or(u64::MAX, |(ranks, _)| ranks.len() as u64);
            if self.order.len() as u64 >= self.wanted.min(all) {
                return false;
            }
        }
        true
    }
}

impl Slice for Few {
    fn step(&mut self, _: &Args<'_>, data: &mut Dataset, answer: &mut Reply) -> bool {
        let Some(answered) = self.answered else {
            if !self.draw(data) {
                self.what.begin(answer, self.order.len() as u64);
                self.answered = Some(0);
            }
            return self.answered.is_none() || !self.order.is_empty();
        };
        let until = (answered + DRAWN_AT_ONCE as usize).min(self.order.len());
        self.order[answered..until].iter().for_each(|&rank| self.draws.put(answer, self.what, rank));
        self.answered = Some(until);
        until < self.order.len()
    }

    fn gathered(&self) -> usize {
        self.draws.gathered() + (self.seen.capacity() + self.order.capacity()) * size_of::<u64>()
    }
}
