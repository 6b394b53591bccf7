//! Snapshots without a fork: every key as it was at one moment, handed out piece by piece while the
//! keys go on changing.
//!
//! The walk goes through the segments in the order of the hash, so one position tells what has been
//! handed out. A key that lies ahead of it is looked at before its first change: a copy of what it was
//! is handed out instead, or nothing if it was not there. A segment that was merged across the position
//! is filtered by the keys' hashes. Nothing is kept in the entries, and a table that no snapshot walks
//! pays one test of a length a write.
//!
//! Several may be under way at once, each of its own moment: a save, a replica's copy, a long command that
//! looks at all keys.
//!
//! While a disk stalls, as many keys may change as there are. So nothing here grows, is handed out or is
//! freed all at once.
//!
//! `former` notes what changes ahead of the walk, and is called by the databases; `walk` hands out, and
//! calls them.

pub(crate) mod former;
mod walk;

pub use former::SnapshotId;
