//! The logs of commands that were slow, or large in request or reply (SLOWLOG, COMMANDLOG).

use std::collections::VecDeque;

/// Arguments kept of one command.
const ARGS_MAX: usize = 32;
/// Bytes kept of one argument.
const ARG_LEN_MAX: usize = 128;

/// One logged command.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Number, never given twice in its log.
    pub id: u64,
    /// When it ran, Unix seconds.
    pub unix_seconds: i64,
    /// Its duration in microseconds, or its size in bytes.
    pub value: i64,
    /// Its arguments, shortened.
    pub args: Vec<Vec<u8>>,
    /// The client's address.
    pub address: String,
    /// The client's name.
    pub name: String,
}

/// One log, newest first.
#[derive(Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl Log {
    /// Adds an entry and drops the oldest beyond `len_max`.
    pub fn push(&mut self, mut entry: Entry, len_max: usize) {
        entry.id = self.next_id;
        self.next_id += 1;
        self.entries.push_front(entry);
        self.trim(len_max);
    }

    /// Drops the oldest entries beyond `len_max`.
    pub fn trim(&mut self, len_max: usize) {
        self.entries.truncate(len_max);
    }

    /// Entries kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets all entries; numbers go on.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Entries, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}

/// The kinds of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Commands that took long.
    Slow,
    /// Commands with large requests.
    LargeRequest,
    /// Commands with large replies.
    LargeReply,
}

/// The three logs.
#[derive(Default)]
pub struct CommandLogs {
    slow: Log,
    large_request: Log,
    large_reply: Log,
}

impl CommandLogs {
    /// One of the logs.
    #[must_use]
    pub fn log(&self, kind: Kind) -> &Log {
        match kind {
            Kind::Slow => &self.slow,
            Kind::LargeRequest => &self.large_request,
            Kind::LargeReply => &self.large_reply,
        }
    }

    /// One of the logs, to write.
    pub fn log_mut(&mut self, kind: Kind) -> &mut Log {
        match kind {
            Kind::Slow => &mut self.slow,
            Kind::LargeRequest => &mut self.large_request,
            Kind::LargeReply => &mut self.large_reply,
        }
    }
}

/// Arguments as a log keeps them: at most 32, each at most 128 bytes, what is left out counted.
pub fn shorten<'a>(args: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let total = args.len();
    let kept = if total > ARGS_MAX { ARGS_MAX - 1 } else { total };
    let mut out: Vec<Vec<u8>> = args
        .take(kept)
        .map(|arg| {
            if arg.len() > ARG_LEN_MAX {
                let mut short = arg[..ARG_LEN_MAX].to_vec();
                short.extend_from_slice(format!("... ({} more bytes)", arg.len() - ARG_LEN_MAX).as_bytes());
                short
            } else {
                arg.to_vec()
            }
        })
        .collect();
    if total > kept {
        out.push(format!("... ({} more arguments)", total - kept).into_bytes());
    }
    out
}
