//! Collections put together from the parts in which a file or a payload hands them out.

use tercel_engine::{FieldMap, List, Text};
use tercel_rdb::{CollectionKind, Parts};

use crate::data::encoding::{HashLimits, ListLimits};
use crate::data::{Dataset, Expired, Key};
use crate::settings::Settings;

/// A collection that is not whole yet.
pub struct Building {
    value: Value,
    /// What tells fields past their deadline, if they are left out.
    left_out: Option<Expired>,
}

enum Value {
    List(List, ListLimits),
    Hash(FieldMap, HashLimits),
}

/// When collections are reported as large.
#[derive(Clone, Copy)]
pub struct Limits {
    list: ListLimits,
    hash: HashLimits,
}

impl Limits {
    /// As the settings say.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Limits { list: ListLimits::of(settings), hash: HashLimits::of(settings) }
    }
}

/// A field came twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicate;

impl Building {
    /// Nothing of it is there yet.
    #[must_use]
    pub fn new(kind: CollectionKind, data: &Dataset, limits: Limits) -> Self {
        let value = match kind {
            CollectionKind::List => Value::List(data.db(0).new_list(), limits.list),
            CollectionKind::Hash => Value::Hash(data.db(0).new_fields(), limits.hash),
        };
        Building { value, left_out: None }
    }

    /// Leaves out fields that are past their deadline: a file is read so, a payload is not.
    #[must_use]
    pub fn without_expired(mut self, data: &Dataset) -> Self {
        self.left_out = Some(data.expired());
        self
    }

    /// Adds some parts.
    ///
    /// # Errors
    /// [`Duplicate`]; then it is of no use any more.
    pub fn add(&mut self, parts: &Parts) -> Result<(), Duplicate> {
        match &mut self.value {
            Value::List(list, limits) => {
                parts.iter().for_each(|element| list.push(tercel_engine::End::Tail, Text::Bytes(element)));
                limits.grown(list);
            }
            Value::Hash(fields, limits) => {
                for (field, value, at_ms) in parts.fields() {
                    if let (Some(expired), Some(at_ms)) = (self.left_out, at_ms)
                        && expired.is_past(at_ms)
                    {
                        continue;
                    }
                    if fields.set(Text::Bytes(field), Text::Bytes(value), at_ms) {
                        return Err(Duplicate);
                    }
                    limits.grown(fields, field.len(), value.len());
                }
            }
        }
        Ok(())
    }

    /// Gives it to a key in place of what that has, without a deadline. False if nothing is left of it: then the
    /// key has nothing. With `told`, as a command does it.
    pub fn store(self, data: &mut Dataset, db: usize, key: Key<'_>, told: bool) -> bool {
        match self.value {
            Value::List(list, _) => {
                let has_any = !list.is_empty();
                if told {
                    data.store_list(db, key, list)
                } else {
                    data.load_list(db, key, list)
                }
                has_any
            }
            Value::Hash(fields, _) => {
                let has_any = !fields.is_empty();
                if told {
                    data.store_fields(db, key, fields)
                } else {
                    data.load_fields(db, key, fields)
                }
                has_any
            }
        }
    }
}
