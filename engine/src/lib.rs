//! The keyspace of Tercel: hash table, entries, string values, expiry and eviction.
//!
//! Nothing here reads a clock, opens a socket, asks the allocator for statistics or keeps anything
//! process-wide: the time and the eviction settings are handed in ([`Access`]), random numbers come
//! from a small seeded generator, and so a test can drive years in a second and replay a seed.
//!
//! The way down: [`Keyspace`] holds the databases; a [`Db`] joins a table (which knows hashes,
//! tags and pointers) with an ordered set of deadlines; a table slot points to an entry, one
//! allocation with header, expiry, key and short value. unsafe code lives in `entry/`, `table/` and
//! `prefetch.rs`.

mod access;
mod blob;
mod db;
mod entry;
mod evict;
mod expiry;
mod hash;
mod keyspace;
mod kind;
mod long;
#[cfg(test)]
mod model_tests;
mod number;
mod overview;
mod prefetch;
mod rng;
mod rows;
mod size_class;
mod snapshot;
mod table;
mod tree;
mod types;
mod value;

pub use access::Access;
pub use blob::Blob;
pub use db::{Db, Edited, ExpiredFields};
pub use entry::{EntryRef, Taken};
pub use evict::Policy;
pub use hash::Hash;
pub use keyspace::{Keyspace, KeyspaceConfig};
pub use kind::{Kind, WrongType};
pub use long::{CHUNK_BYTES, LongString, SharedPiece};
pub use rows::Text;
pub use snapshot::SnapshotId;
pub use table::TableStats;
pub use types::hash::{Field, FieldMap, FieldMapRef, FrozenFieldMap, HeldFieldMap};
pub use types::list::{End, FrozenList, HeldList, List, ListRef};
pub use value::{Encoding, Expire, NewValue, StringMut, StringRef, Value};
