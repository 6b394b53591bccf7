//! Hashes: field and value alternately, in a row or packed together; and when a field expires.
//!
//! Servers came to that separately. Valkey (type 22, since 9.0) has eight bytes behind each value: the
//! deadline in milliseconds since 1970, -1 for none. Redis (types 24 and 25, since 7.4) has eight bytes
//! before all else, the earliest deadline; then before each field a number as lengths are encoded, 0
//! for none and otherwise the deadline less the earliest plus one; or, packed, the deadline itself
//! behind each value, 0 for none. Its types 22 and 23 are those of release candidates of 7.4, without
//! the eight bytes and with the deadline itself throughout.

use std::io::Read;

use super::packed::{Listpack, Packing, Piece, is_entry_read_by_all};
use super::{Blob, Dialect, Parts};
use crate::error::RdbError;
use crate::format;
use crate::source::Source;

/// The latest deadline that Redis has.
const REDIS_DEADLINE_MAX: u64 = (1 << 48) - 1;

const BAD_DEADLINE: &str = "an expiry of a field that cannot be one";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashForm {
    /// The count, the fields.
    Fields,
    /// The count, the fields, each with a deadline in Valkey's way.
    ValkeyFields,
    /// The same in Redis's, with (`based`) or without the earliest before all.
    RedisFields {
        based: bool,
    },
    Packed(Packing),
    /// A listpack with deadlines in Redis's way, with (`based`) or without the earliest before it.
    RedisListpack {
        based: bool,
    },
}

impl HashForm {
    pub(super) fn of(kind: u8, dialect: Dialect) -> Option<Self> {
        Some(match (kind, dialect) {
            (format::TYPE_HASH, _) => Self::Fields,
            (format::TYPE_HASH_ZIPMAP, _) => Self::Packed(Packing::Zipmap),
            (format::TYPE_HASH_ZIPLIST, _) => Self::Packed(Packing::Ziplist),
            (format::TYPE_HASH_LISTPACK, _) => Self::Packed(Packing::Listpack),
            (format::TYPE_HASH_2, Dialect::Valkey) => Self::ValkeyFields,
            (22 | 24, Dialect::Redis) => Self::RedisFields { based: kind == 24 },
            (23 | 25, Dialect::Redis) => Self::RedisListpack { based: kind == 25 },
            _ => return None,
        })
    }
}

#[derive(Debug)]
pub(super) enum HashReader {
    Fields { left: u64, deadlines: Deadlines, next: Next, at: u64 },
    Packed { blob: Blob, with_deadlines: bool },
}

/// What comes next of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Field,
    Name,
    Value,
    DeadlineBehind,
}

/// Where the deadlines of fields are that are not packed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deadlines {
    None,
    Behind,
    /// Before the field, counted from `from` if there is that.
    Before {
        from: Option<u64>,
    },
}

impl HashReader {
    /// With how many fields there are by its own account.
    pub(super) fn open<R: Read>(form: HashForm, source: &mut Source<R>) -> Result<(Self, u64), RdbError> {
        let deadlines = match form {
            HashForm::Packed(packing) => {
                let blob = Blob::read(source, packing)?;
                let claimed = blob.packed.claimed() / 2;
                return Ok((Self::Packed { blob, with_deadlines: false }, claimed));
            }
            HashForm::RedisListpack { based } => {
                if based {
                    earliest(source)?;
                }
                let blob = Blob::read(source, Packing::Listpack)?;
                let claimed = blob.packed.claimed() / 3;
                return Ok((Self::Packed { blob, with_deadlines: true }, claimed));
            }
            HashForm::Fields => Deadlines::None,
            HashForm::ValkeyFields => Deadlines::Behind,
            HashForm::RedisFields { based: false } => Deadlines::Before { from: None },
            HashForm::RedisFields { based: true } => Deadlines::Before { from: Some(earliest(source)?) },
        };
        let left = source.length()?;
        Ok((Self::Fields { left, deadlines, next: Next::Field, at: 0 }, left))
    }

    /// Adds fields until there is enough or no more.
    pub(super) fn fill<R: Read>(&mut self, parts: &mut Parts, source: &mut Source<R>) -> Result<(), RdbError> {
        match self {
            Self::Fields { left, deadlines, next, at } => {
                parts.expect(left.saturating_mul(2), 0);
                // A field that was begun is not left half.
                while *left > 0 && (*next != Next::Field || !parts.is_full()) {
                    source.commit();
                    if *next == Next::Field {
                        *at = source.offset();
                    }
                    *next = deadlines.step(*next, *at, parts, source)?;
                    *left -= u64::from(*next == Next::Field);
                }
            }
            Self::Packed { blob, with_deadlines } => {
                blob.announce_to(parts);
                while !parts.is_full() && packed_field(blob, *with_deadlines, parts)? {}
            }
        }
        Ok(())
    }
}

/// The earliest deadline of all, which may be one more than any can be if there is none.
fn earliest<R: Read>(source: &mut Source<R>) -> Result<u64, RdbError> {
    let at = source.offset();
    match u64::from_le_bytes(source.array()?) {
        at_ms if at_ms <= REDIS_DEADLINE_MAX + 1 => Ok(at_ms),
        _ => Err(RdbError::Corrupt { at, why: "an earliest expiry of a hash that cannot be one" }),
    }
}

/// A deadline in Redis's way: 0 for none.
fn redis_deadline(at_ms: u64) -> Result<Option<i64>, &'static str> {
    match i64::try_from(at_ms) {
        Ok(0) => Ok(None),
        Ok(deadline) if at_ms <= REDIS_DEADLINE_MAX => Ok(Some(deadline)),
        _ => Err(BAD_DEADLINE),
    }
}

impl Deadlines {
    /// Reads a piece of the field that begins at `at`, and says what comes next.
    #[inline]
    fn step<R: Read>(self, next: Next, at: u64, parts: &mut Parts, source: &mut Source<R>) -> Result<Next, RdbError> {
        let corrupt = |why| RdbError::Corrupt { at, why };
        Ok(match next {
            Next::Field => {
                if let Self::Before { from } = self {
                    let number = source.length()?;
                    let at_ms = match (number, from) {
                        (0, _) | (_, None) => number,
                        // What overflows is later than any deadline can be.
                        (number, Some(from)) => from.saturating_add(number - 1),
                    };
                    parts.push_deadline(redis_deadline(at_ms).map_err(corrupt)?);
                }
                Next::Name
            }
            Next::Name => {
                parts.read(source)?;
                Next::Value
            }
            Next::Value => {
                parts.read(source)?;
                if let Self::Behind = self { Next::DeadlineBehind } else { Next::Field }
            }
            Next::DeadlineBehind => {
                parts.push_deadline(match i64::from_le_bytes(source.array()?) {
                    -1 => None,
                    at_ms if at_ms >= 0 => Some(at_ms),
                    _ => return Err(corrupt(BAD_DEADLINE)),
                });
                Next::Field
            }
        })
    }
}

/// Adds a field, its value and, if it has that, its deadline; false at the end.
fn packed_field(blob: &mut Blob, with_deadlines: bool, parts: &mut Parts) -> Result<bool, RdbError> {
    const ODD: &str = "a packed hash with a field that is not whole";
    if !blob.push_to(parts)? {
        return Ok(false);
    }
    if !blob.push_to(parts)? {
        return Err(blob.corrupt(ODD));
    }
    if with_deadlines {
        let deadline = match blob.next()? {
            Some(Piece::Int(number)) => u64::try_from(number).map_err(|_| BAD_DEADLINE).and_then(redis_deadline),
            Some(Piece::Bytes(_)) => Err("an expiry of a field that is no number"),
            None => Err(ODD),
        };
        parts.push_deadline(deadline.map_err(|why| blob.corrupt(why))?);
    }
    Ok(true)
}

/// A hash that is to be written whole, as a listpack if all servers read that one.
#[derive(Debug)]
pub(super) struct SmallHash {
    listpack: Listpack,
    is_read_by_all: bool,
}

impl Default for SmallHash {
    fn default() -> Self {
        Self { listpack: Listpack::default(), is_read_by_all: true }
    }
}

impl SmallHash {
    /// False if it would become larger than anything small may be.
    #[must_use]
    pub(super) fn push(&mut self, field: &[u8], value: &[u8]) -> bool {
        for string in [field, value] {
            if !self.listpack.has_room(string) {
                return false;
            }
            self.is_read_by_all &= is_entry_read_by_all(string);
            self.listpack.push(string);
        }
        true
    }

    /// How many fields it has.
    pub(super) fn count(&self) -> u64 {
        self.listpack.count() / 2
    }

    /// The listpack, and whether all servers read it.
    pub(super) fn finish(self) -> (Vec<u8>, bool) {
        (self.listpack.finish(), self.is_read_by_all)
    }
}
