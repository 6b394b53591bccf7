//! The RDB file format as bytes, in both directions: what a snapshot holds and what DUMP returns.
//!
//! [`write::Encoder`] writes a file into any [`std::io::Write`], [`read::Decoder`] reads one from any
//! [`std::io::Read`], [`dump`] does the payload of `DUMP` and `RESTORE`. Nothing here knows a file, a
//! socket, a command or the engine, and nothing here may panic whatever the bytes are: a length in a
//! file is only believed as far as bytes for it really arrive.
//!
//! There are strings, lists and hashes, the latter with fields that expire. They are read in every form
//! that a Redis from 2.6 to 8 or a Valkey up to 9.1 wrote; the forms of Redis from version 12 on, which
//! are not Valkey's, only if [`ReadOptions`] are not strict about versions. Every other type is told by
//! its name ([`RdbError::Unsupported`]), and reading ends there, for what is not understood cannot be
//! skipped.
//!
//! A collection can be larger than memory allows to hold twice, so it is read and written bit by bit:
//! [`Item::Begin`], some [`Item::Parts`] of about 64 KiB, [`Item::Finished`]. Small ones are written
//! packed, as Valkey does, and a string or a packed blob is what is held at once.
//!
//! What is written is of version 11 and Redis's magic, which most servers read, but for hashes whose
//! fields expire: these are of Valkey's version 80, and a file that may hold any says so at its
//! beginning ([`WriteOptions::field_deadlines`]).
//!
//! The readers give a string value as an integer exactly where it is the canonical decimal text of an
//! `i64`, however it was encoded; the writers encode either form to the same bytes. So the form a
//! string comes back in depends on what it says and never on how it was written. Parts of collections
//! are always text.

#![forbid(unsafe_code)]

pub mod dump;
pub mod read;
pub mod write;

mod error;
mod format;
mod lzf;
mod sink;
mod source;
mod types;
mod value;

pub use dump::{
    PayloadCheck, PayloadItem, PayloadReader, PayloadWriter, dump_string, open_payload, plain_string, restore_string,
};
pub use error::RdbError;
pub use read::{Decoder, Item, ReadOptions};
pub use types::{CollectionKind, Parts};
pub use value::{EntryMeta, LoadedString, Magic, StringValue};
pub use write::{Encoder, WriteOptions};
