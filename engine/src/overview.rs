//! What is known of all databases together, so that nobody has to walk over them: which hold keys, and
//! the soonest deadline of a key and of a field in each. A database that may have changed is noted, and looked at when somebody
//! asks: that costs as much as was touched, whatever the number of databases. Reads databases only.

use std::collections::BTreeSet;

use crate::db::Db;

const NOWHERE: u32 = u32::MAX;

pub(crate) struct Overview {
    /// Databases that may have changed since they were looked at.
    touched: Vec<u32>,
    each: Vec<Known>,
    /// Databases that hold keys, in no order.
    filled: Vec<u32>,
    /// By the soonest deadlines of keys, and of fields.
    by_deadline: [BTreeSet<(i64, u32)>; 2],
}

#[derive(Clone)]
struct Known {
    touched: bool,
    deadlines: [Option<i64>; 2],
    /// Place in `filled`.
    filled_at: u32,
}

impl Overview {
    /// Of `databases` that are all empty.
    pub(crate) fn new(databases: usize) -> Self {
        Overview {
            touched: Vec::new(),
            each: vec![Known { touched: false, deadlines: [None; 2], filled_at: NOWHERE }; databases],
            filled: Vec::new(),
            by_deadline: Default::default(),
        }
    }

    /// A database may change.
    #[inline]
    pub(crate) fn touch(&mut self, db: usize) {
        let known = &mut self.each[db];
        if !known.touched {
            known.touched = true;
            self.touched.push(db as u32);
        }
    }

    /// Looks at what was touched.
    #[inline]
    pub(crate) fn settle(&mut self, dbs: &[Db]) {
        while let Some(db) = self.touched.pop() {
            let known = &mut self.each[db as usize];
            known.touched = false;
            let of = &dbs[db as usize];
            let deadlines = [&of.timers, &of.field_timers].map(|timers| timers.first().map(|(at, _)| at));
            let is_filled = !of.is_empty();
            if deadlines != known.deadlines || is_filled != (known.filled_at != NOWHERE) {
                self.change(db, deadlines, is_filled);
            }
        }
    }

    fn change(&mut self, db: u32, deadlines: [Option<i64>; 2], is_filled: bool) {
        let known = &mut self.each[db as usize];
        let before = std::mem::replace(&mut known.deadlines, deadlines);
        for (set, (old, new)) in self.by_deadline.iter_mut().zip(before.into_iter().zip(deadlines)) {
            if let Some(old) = old.filter(|_| old != new) {
                set.remove(&(old, db));
            }
            if let Some(new) = new {
                set.insert((new, db));
            }
        }
        match (known.filled_at, is_filled) {
            (NOWHERE, true) => {
                known.filled_at = self.filled.len() as u32;
                self.filled.push(db);
            }
            (at, false) if at != NOWHERE => {
                known.filled_at = NOWHERE;
                self.filled.swap_remove(at as usize);
                if let Some(moved) = self.filled.get(at as usize) {
                    self.each[*moved as usize].filled_at = at;
                }
            }
            _ => {}
        }
    }

    /// The soonest deadline of a key and its database, as of the last [`Overview::settle`].
    pub(crate) fn soonest(&self) -> Option<(i64, usize)> {
        self.by_deadline[0].first().map(|&(at, db)| (at, db as usize))
    }

    /// The soonest deadline of a field and its database, as of the last [`Overview::settle`].
    pub(crate) fn soonest_field(&self) -> Option<(i64, usize)> {
        self.by_deadline[1].first().map(|&(at, db)| (at, db as usize))
    }

    /// Databases that hold keys, in no order, as of the last [`Overview::settle`].
    pub(crate) fn filled(&self) -> impl Iterator<Item = usize> + Clone {
        self.filled.iter().map(|&db| db as usize)
    }
}
