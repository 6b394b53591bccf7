//! Why something cannot be read.

use std::io;

use thiserror::Error;

use crate::value::Magic;

/// Why a file or a payload cannot be read. Positions are bytes from its beginning.
#[derive(Debug, Error)]
pub enum RdbError {
    #[error("the input failed: {0}")]
    Io(#[from] io::Error),
    #[error("this is no RDB file: it begins with neither REDIS nor VALKEY and a version")]
    NotRdb,
    #[error("version {version} of the RDB format ({magic:?}) is not one that can be read")]
    Version { magic: Magic, version: u32 },
    #[error("the input ends at byte {at}, before the end of what it holds")]
    Truncated { at: u64 },
    #[error("{why} (checksum stored {stored:#018x}, computed {computed:#018x})")]
    Checksum { why: &'static str, stored: u64, computed: u64 },
    /// Something that Tercel has no place for. `key` is the key that it is the value of.
    #[error("the data holds a {what}, which is not supported{}", of_key(.key))]
    Unsupported { what: &'static str, key: Option<Vec<u8>> },
    #[error("the data is damaged at byte {at}: {why}")]
    Corrupt { at: u64, why: &'static str },
    #[error("a string of {len} bytes at byte {at} is longer than the {len_max} allowed")]
    TooLong { at: u64, len: u64, len_max: u64 },
}

impl RdbError {
    /// Whether the input has nothing yet, and reading can go on where it stopped.
    #[must_use]
    pub fn is_would_block(&self) -> bool {
        matches!(self, RdbError::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// How much of a key a message shows.
const KEY_SHOWN_LEN_MAX: usize = 64;

fn of_key(key: &Option<Vec<u8>>) -> String {
    match key {
        None => String::new(),
        Some(key) if key.len() <= KEY_SHOWN_LEN_MAX => format!(" (key '{}')", key.escape_ascii()),
        Some(key) => {
            format!(" (a key of {} bytes, '{}...')", key.len(), key[..KEY_SHOWN_LEN_MAX].escape_ascii())
        }
    }
}
