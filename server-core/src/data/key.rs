//! A key with its hash.

use tercel_engine::Hash;

/// A key and its hash.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Their hash under the keyspace's key.
    pub hash: Hash,
}
