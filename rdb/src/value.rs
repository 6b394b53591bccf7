//! What files and payloads hold: strings, and what is known of a key besides.

/// Whose format a file says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magic {
    /// `REDIS`: Redis of all versions, and Valkey before 9.
    Redis,
    /// `VALKEY`: Valkey from 9 on.
    Valkey,
}

/// What a snapshot says about a key besides its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryMeta {
    /// When the key expires, in milliseconds since 1970. Valkey takes -1 for no expiry at all; so it
    /// is read as none, and written as 0, which is as long past.
    pub expire_at_ms: Option<i64>,
    /// For how many seconds the key had not been used (with an LRU policy).
    pub idle_s: Option<u64>,
    /// The logarithmic counter of uses (with an LFU policy).
    pub freq: Option<u8>,
}

/// A string to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringValue<'a> {
    /// The canonical decimal text of this number.
    Int(i64),
    Bytes(&'a [u8]),
}

/// A string that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadedString {
    /// The string is the canonical decimal text of this number.
    Int(i64),
    /// Any other string.
    Bytes(Vec<u8>),
}
