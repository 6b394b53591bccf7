//! What looks at the elements of a list one by one. It may take long, so it is done in slices, on the list as it
//! was when it began; who would change the list meanwhile waits.

use tercel_core::clients::Slice;
use tercel_core::command::Reply;
use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, Outcome, SYNTAX, fail};
use tercel_core::command::event_class as class;
use tercel_core::command::parse::integer;
use tercel_core::data::{Change, Dataset};
use tercel_core::dispatch::Context;
use tercel_engine::{HeldList, List};

use super::text;

use crate::arguments::target::Target;
use tercel_core::data::encoding::ListLimits;

/// LPOS: places of elements that equal one.
struct Positions {
    list: HeldList,
    element: Box<[u8]>,
    /// The next place to look at; going back, the one behind it.
    at: u64,
    backwards: bool,
    /// Matches still to be passed over.
    skip: u64,
    /// Matches still wanted.
    wanted: u64,
    /// Elements still to be looked at.
    looks: u64,
    found: Vec<u64>,
    /// The first match alone is answered.
    only_one: bool,
}

impl Positions {
    fn look(&mut self, place: u64, element: &[u8]) -> bool {
        self.looks -= 1;
        if *element == *self.element {
            if self.skip > 0 {
                self.skip -= 1;
            } else {
                self.found.push(place);
                self.wanted -= 1;
            }
        }
        self.looks > 0 && self.wanted > 0
    }

    /// Looks at the elements that lie together next. False if that was all.
    fn look_at_piece(&mut self) -> bool {
        let list = std::mem::replace(&mut self.list, HeldList::none());
        let view = list.view();
        let mut goes_on = true;
        if self.backwards {
            let piece: Vec<&[u8]> = view.piece_before(self.at).collect();
            for element in piece.into_iter().rev() {
                self.at -= 1;
                goes_on = self.look(self.at, element);
                if !goes_on {
                    break;
                }
            }
            goes_on &= self.at > 0;
        } else {
            for element in view.piece(self.at) {
                goes_on = self.look(self.at, element);
                self.at += 1;
                if !goes_on {
                    break;
                }
            }
            goes_on &= self.at < view.len();
        }
        self.list = list;
        goes_on
    }
}

impl Slice for Positions {
    fn step(&mut self, _: &Args<'_>, _: &mut Dataset, answer: &mut Reply) -> bool {
        if self.look_at_piece() {
            return true;
        }
        if self.only_one {
            match self.found.first() {
                Some(place) => answer.integer(*place as i64),
                None => answer.null(),
            }
        } else {
            answer.array(self.found.len());
            self.found.iter().for_each(|place| answer.integer(*place as i64));
        }
        false
    }

    fn gathered(&self) -> usize {
        self.found.capacity() * size_of::<u64>()
    }
}

pub(super) fn lpos(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let (mut rank, mut count, mut looks_max) = (1i64, None, 0i64);
    let mut at = 3;
    while at < args.len() {
        if at + 1 >= args.len() {
            return Err(SYNTAX);
        }
        let not_negative = |error: CommandError| match integer(args.get(at + 1)) {
            Ok(number @ 0..) => Ok(number),
            Ok(_) => Err(error),
            Err(_) => Err(error),
        };
        if args.is(at, "rank") {
            rank = integer(args.get(at + 1))?;
            if rank == i64::MIN {
                return Err(fail(
                    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
                ));
            }
            if rank == 0 {
                return Err(fail(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
                ));
            }
        } else if args.is(at, "count") {
            count = Some(not_negative(fail("ERR COUNT can't be negative"))?);
        } else if args.is(at, "maxlen") {
            looks_max = not_negative(fail("ERR MAXLEN can't be negative"))?;
        } else {
            return Err(SYNTAX);
        }
        at += 2;
    }
    let key = cx.key(args, 1);
    let Some(list) = cx.server.data_mut().read_list(cx.caller.db, key)? else {
        if count.is_some() {
            cx.out.array(0);
        } else {
            cx.out.null();
        }
        return Ok(());
    };
    let unbounded = |number: i64| if number == 0 { u64::MAX } else { number as u64 };
    let job = Positions {
        element: args.get(2).into(),
        at: if rank < 0 { list.len() } else { 0 },
        backwards: rank < 0,
        skip: rank.unsigned_abs() - 1,
        wanted: count.map_or(1, unbounded),
        looks: unbounded(looks_max),
        found: Vec::new(),
        only_one: count.is_none(),
        list: list.held(),
    };
    cx.in_slices(args, Box::new(job))
}

/// What both commands that search and then change have in common.
pub(super) struct Changed {
    pub(super) target: Target,
    limits: ListLimits,
}

impl Changed {
    pub(super) fn new(cx: &mut Context<'_>, args: &Args<'_>) -> Self {
        Changed { target: Target::new(cx, args, 1), limits: ListLimits::of(cx.server.settings()) }
    }

    /// Changes the list at last, and tells of it; the key may be gone, for its time.
    fn change(
        &mut self,
        args: &Args<'_>,
        data: &mut Dataset,
        what: &'static str,
        changes: u64,
        change: impl FnOnce(&mut List),
    ) -> u64 {
        self.change_or_make(args, data, what, changes, false, change)
    }

    /// The same, of a list that is made if there is none.
    pub(super) fn change_or_make(
        &mut self,
        args: &Args<'_>,
        data: &mut Dataset,
        what: &'static str,
        changes: u64,
        makes: bool,
        change: impl FnOnce(&mut List),
    ) -> u64 {
        self.target.let_go(data);
        let (db, key) = (self.target.db, data.key(&self.target.key));
        let limits = self.limits;
        let edited = data.edit_list(db, key, makes, |list| {
            change(list);
            limits.grown(list);
            limits.shrunk(list);
            Change { result: list.len(), changed: Some(changes) }
        });
        let Ok(Some(edited)) = edited else { return 0 };
        self.target.effect(args, data);
        data.notify(class::LIST, what, db, &self.target.key);
        if edited.is_gone {
            data.notify(class::GENERIC, "del", db, &self.target.key);
        }
        edited.result
    }
}

/// LINSERT: an element before or behind another.
struct Insert {
    changed: Changed,
    list: HeldList,
    at: u64,
    after: bool,
}

impl Slice for Insert {
    fn step(&mut self, args: &Args<'_>, data: &mut Dataset, answer: &mut Reply) -> bool {
        let view = self.list.view();
        let piece = view.piece(self.at);
        let here = piece.len() as u64;
        let found = { piece }.position(|element| *element == *args.get(3));
        match found {
            Some(offset) => {
                let place = self.at + offset as u64 + u64::from(self.after);
                self.list = HeldList::none();
                let text = text(args, 4);
                let len = self.changed.change(args, data, "linsert", 1, |list| list.insert(place, text));
                answer.integer(len as i64);
                false
            }
            None if self.at + here < view.len() => {
                self.at += here;
                true
            }
            None => {
                self.abandon(data);
                answer.integer(-1);
                false
            }
        }
    }

    fn abandon(&mut self, data: &mut Dataset) {
        self.changed.target.let_go(data);
    }
}

pub(super) fn linsert(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let after = match () {
        () if args.is(2, "before") => false,
        () if args.is(2, "after") => true,
        () => return Err(SYNTAX),
    };
    let key = cx.key(args, 1);
    let Some(list) = cx.server.data_mut().list_to_write(cx.caller.db, key)?.map(|list| list.held()) else {
        cx.out.integer(0);
        return Ok(());
    };
    let changed = Changed::new(cx, args);
    let job = Insert { changed, list, at: 0, after };
    cx.in_slices(args, Box::new(job))
}

/// LREM: a copy of the list without elements that equal one, which then takes its place.
struct Remove {
    changed: Changed,
    /// What is left so far.
    list: Option<List>,
    at: u64,
    backwards: bool,
    /// How many are to go at most.
    left: u64,
    removed: u64,
}

impl Slice for Remove {
    fn step(&mut self, args: &Args<'_>, data: &mut Dataset, answer: &mut Reply) -> bool {
        let Some(list) = &mut self.list else { return false };
        let (looked_at, removed) = if self.backwards {
            list.remove_equal_before(self.at, args.get(3), self.left)
        } else {
            list.remove_equal(self.at, args.get(3), self.left)
        };
        self.removed += removed;
        self.left -= removed;
        if self.backwards {
            self.at -= looked_at;
        } else {
            self.at += looked_at - removed;
        }
        let is_over =
            looked_at == 0 || self.left == 0 || if self.backwards { self.at == 0 } else { self.at >= list.len() };
        if !is_over {
            return true;
        }
        match self.list.take() {
            Some(rest) if self.removed > 0 => {
                self.changed.change(args, data, "lrem", self.removed, |list| *list = rest);
            }
            _ => self.abandon(data),
        }
        answer.integer(self.removed as i64);
        false
    }

    fn abandon(&mut self, data: &mut Dataset) {
        self.list = None;
        self.changed.target.let_go(data);
    }
}

pub(super) fn lrem(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let count = integer(args.get(2))?;
    if count == i64::MIN {
        return Err(fail("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"));
    }
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let Some(len) = cx.server.data_mut().list_to_write(db, key)?.map(|list| list.len()) else {
        cx.out.integer(0);
        return Ok(());
    };
    let list = cx.server.data().copy_list(db, key);
    let changed = Changed::new(cx, args);
    let job = Remove {
        changed,
        list,
        at: if count < 0 { len } else { 0 },
        backwards: count < 0,
        left: if count == 0 { u64::MAX } else { count.unsigned_abs() },
        removed: 0,
    };
    cx.in_slices(args, Box::new(job))
}
