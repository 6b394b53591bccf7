//! How collections are reported, as Valkey decides it. A list that outgrows the limit is a `quicklist` from then on,
//! until it has shrunk to half of it; a hash that does is a `hashtable` for good.

use tercel_engine::{FieldMap, List};

use crate::settings::Settings;

/// With a limit by count, a listpack has so many bytes at most all the same.
const BYTES_MAX_SAFE: u64 = 8192;
/// What a listpack has beside its elements, and beside each of them.
const LISTPACK_BYTES: u64 = 7;
const ELEMENT_BYTES: u64 = 2;

/// `list-max-listpack-size`.
#[derive(Clone, Copy)]
pub struct ListLimits {
    bytes_max: u64,
    count_max: u64,
}

impl ListLimits {
    /// As the settings say.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        match settings.list_max_listpack_size {
            count @ 0.. => ListLimits { bytes_max: BYTES_MAX_SAFE, count_max: count.max(1) as u64 },
            size => ListLimits { bytes_max: 2048 << size.unsigned_abs().min(5), count_max: u64::MAX },
        }
    }

    fn exceeded(self, list: &List, factor: u64) -> bool {
        let (view, len) = (list.view(), list.len());
        let bytes = LISTPACK_BYTES + view.bytes() + ELEMENT_BYTES * len;
        bytes * factor > self.bytes_max || len * factor > self.count_max
    }

    /// An element of so many bytes is about to take another's place: counts as one more, as Valkey counts.
    pub fn replaced(self, list: &mut List, len: usize) {
        let (view, count) = (list.view(), list.len() + 1);
        let bytes = LISTPACK_BYTES + view.bytes() + len as u64 + ELEMENT_BYTES * count;
        if !view.is_wide() && (bytes > self.bytes_max || count > self.count_max) {
            list.set_wide(true);
        }
    }

    /// The list has become longer.
    pub fn grown(self, list: &mut List) {
        if !list.view().is_wide() && self.exceeded(list, 1) {
            list.set_wide(true);
        }
    }

    /// The list has become shorter.
    pub fn shrunk(self, list: &mut List) {
        if list.view().is_wide() && !self.exceeded(list, 2) {
            list.set_wide(false);
        }
    }
}

/// `hash-max-listpack-entries` and `hash-max-listpack-value`.
#[derive(Clone, Copy)]
pub struct HashLimits {
    fields_max: u64,
    string_len_max: usize,
}

impl HashLimits {
    /// As the settings say.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        HashLimits {
            fields_max: settings.hash_max_listpack_entries as u64,
            string_len_max: settings.hash_max_listpack_value as usize,
        }
    }

    /// A field of this length got a value of this length.
    #[inline]
    pub fn grown(self, fields: &mut FieldMap, field_len: usize, value_len: usize) {
        if !fields.view().is_wide()
            && (field_len.max(value_len) > self.string_len_max || fields.len() > self.fields_max)
        {
            fields.set_wide(true);
        }
    }
}
