//! The RDB file format as bytes, in both directions: what a snapshot holds and what DUMP returns.
//!
//! [`write::Encoder`] writes a file into any [`std::io::Write`], [`read::Decoder`] reads one from any
//! [`std::io::Read`], [`dump`] does the payload of `DUMP` and `RESTORE`. Nothing here knows a file, a
//! socket, a command or the engine, and nothing here may panic whatever the bytes are: a length in a
//! file is only believed as far as bytes for it really arrive.
//!
//! Tercel has strings only. Every other type that Valkey 9.1 or Redis 8 may have written is told by
//! its name ([`RdbError::Unsupported`]), and reading ends there, for what is not understood cannot
//! be skipped.
//!
//! The readers give an integer exactly where the stored string is the canonical decimal text of an
//! `i64`, however it was encoded; the writers encode either form to the same bytes. So the form a
//! string comes back in depends on what it says and never on how it was written.

#![forbid(unsafe_code)]

pub mod dump;
pub mod read;
pub mod write;

mod error;
mod format;
mod lzf;
mod source;
mod value;

pub use dump::{dump_string, restore_string};
pub use error::RdbError;
pub use read::{Decoder, Item, ReadOptions};
pub use value::{EntryMeta, LoadedString, Magic, StringValue};
pub use write::{Encoder, WriteOptions};
