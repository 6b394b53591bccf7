//! Changing hashes.

use super::super::{Form, Kept, Large, Lent, Surroundings};
use super::{ByHash, FieldMapRef, by_hash};
use crate::kind::Kind;
use crate::rows::{NEVER, PAIRS, Row, Rows, TAGGED, Text};
use crate::tree::{Grave, Growth, Tree};

/// A hash that may be changed.
#[derive(Clone)]
pub struct FieldMap {
    form: Form<ByHash>,
    shape: ByHash,
    grave: Grave,
    is_wide: bool,
}

impl FieldMap {
    pub(super) fn of(form: Form<ByHash>, is_wide: bool, around: &Surroundings) -> Self {
        FieldMap { form, shape: ByHash { hasher: around.hasher }, grave: around.grave.clone(), is_wide }
    }

    pub(super) fn of_block(block: Vec<u8>, is_wide: bool, around: &Surroundings) -> Self {
        FieldMap::of(Form::Packed(Rows::from_block(block)), is_wide, around)
    }

    pub(super) fn of_tree(tree: Tree<ByHash>, is_wide: bool, around: &Surroundings) -> Self {
        FieldMap::of(Form::Tree(tree), is_wide, around)
    }

    /// To read.
    #[must_use]
    pub fn view(&self) -> FieldMapRef<'_> {
        FieldMapRef { form: self.form.view(), is_wide: self.is_wide }
    }

    /// How many fields, those past their deadline included.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.view().len()
    }

    /// Whether it has no field. An empty hash is not kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets `change` change the rows that a field is or would be among.
    fn edit<R>(&mut self, field: &[u8], change: impl FnOnce(&mut Rows) -> R) -> Option<R> {
        match &mut self.form {
            Form::Packed(rows) => Some(change(rows)),
            Form::Tree(tree) => {
                let hash = self.shape.hash(field);
                tree.edit(|sums| by_hash(sums, hash), Growth::Anywhere, change)
            }
        }
    }

    /// Gives a field a value and a deadline in Unix milliseconds, or none. True if it was there.
    pub fn set(&mut self, field: Text<'_>, value: Text<'_>, expire_at: Option<i64>) -> bool {
        let row = Row::pair(field, value, expire_at.unwrap_or(NEVER));
        self.form.make_room(&self.shape, &self.grave, row);
        let was_there = self.edit(field.bytes(), |rows| match rows.view().find(field.bytes()) {
            Some(at) => {
                rows.replace(2 * at + 1, value);
                rows.set_deadline(at, row.deadline);
                true
            }
            None => {
                rows.push(row);
                false
            }
        });
        was_there.unwrap_or(false)
    }

    /// Gives a field that is there another deadline or none; false if it is not.
    pub fn set_expire(&mut self, field: &[u8], expire_at: Option<i64>) -> bool {
        let set = self.edit(field, |rows| {
            let Some(at) = rows.view().find(field) else { return false };
            rows.set_deadline(at, expire_at.unwrap_or(NEVER));
            true
        });
        set.unwrap_or(false)
    }

    /// Removes a field; false if it is not there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        let removed = self.edit(field, |rows| {
            let Some(at) = rows.view().find(field) else { return false };
            rows.remove(at..at + 1);
            true
        });
        removed.unwrap_or(false)
    }

    /// Removes up to `max` fields whose deadline is `now_ms` or earlier and returns how many; `on_remove` is given
    /// each before it goes.
    pub fn expire_due(&mut self, now_ms: i64, max: usize, on_remove: &mut dyn FnMut(&[u8])) -> usize {
        let mut removed = 0;
        while removed < max && self.view().soonest().is_some_and(|at_ms| at_ms <= now_ms) {
            let mut expire = |rows: &mut Rows| {
                let due: Vec<usize> = {
                    let view = rows.view();
                    (0..view.rows()).filter(|&row| view.deadline(row) <= now_ms).take(max - removed).collect()
                };
                due.iter().for_each(|&row| on_remove(rows.view().string(2 * row)));
                if due.len() == 1 {
                    rows.remove(due[0]..due[0] + 1);
                } else {
                    *rows = rows.filtered(|row| due.binary_search(&row).is_err());
                }
                due.len()
            };
            let here = match &mut self.form {
                Form::Packed(rows) => Some(expire(rows)),
                Form::Tree(tree) => tree.edit(
                    |sums| sums.iter().position(|sum| sum.soonest <= now_ms).unwrap_or(0),
                    Growth::Anywhere,
                    expire,
                ),
            };
            match here {
                Some(0) | None => break,
                Some(here) => removed += here,
            }
        }
        removed
    }

    /// Whether it is reported as `hashtable` and not as `listpack`.
    pub fn set_wide(&mut self, is_wide: bool) {
        self.is_wide = is_wide;
    }
}

impl Lent for FieldMap {
    const KIND: Kind = Kind::Hash;

    fn empty(around: &Surroundings) -> Self {
        FieldMap::of(Form::Packed(Rows::new(TAGGED | PAIRS)), false, around)
    }

    fn from_packed(block: Vec<u8>, is_wide: bool, around: &Surroundings) -> Self {
        FieldMap::of_block(block, is_wide, around)
    }

    fn from_large(large: Large, is_wide: bool, around: &Surroundings) -> Option<Self> {
        match large {
            Large::Hash(tree) => Some(FieldMap::of_tree(tree, is_wide, around)),
            _ => None,
        }
    }

    fn into_kept(mut self) -> Option<(Kept, bool)> {
        if self.is_empty() {
            return None;
        }
        self.form.settle();
        let kept = match self.form {
            Form::Packed(rows) => Kept::Packed(rows.into_block()),
            Form::Tree(tree) => Kept::Large(Large::Hash(tree)),
        };
        Some((kept, self.is_wide))
    }

    fn soonest(&self) -> Option<i64> {
        self.view().soonest()
    }
}
