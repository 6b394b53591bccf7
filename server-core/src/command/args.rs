//! A command's arguments: spans into the connection's received bytes, or an owned copy for
//! commands that wait (queued by MULTI) or could not stay where they arrived (quoted inline
//! commands, large bulks collected on their way in).

use tercel_engine::{Blob, Hash};
use tercel_resp::request::Span;

/// Span length that marks an argument kept apart as a [`Blob`]; `start` is then its index.
const BLOB_MARK: u32 = u32::MAX;

/// Arguments of one command; index 0 is its name.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    input: &'a [u8],
    spans: &'a [Span],
    blobs: &'a [Blob],
    /// Hashes of the first key specification's keys, computed when the batch was built.
    hashes: &'a [Hash],
    key_first: usize,
    key_step: usize,
    /// How many leading words name the command: 1, or 2 for a subcommand.
    pub name_words: usize,
}

impl<'a> Args<'a> {
    /// Arguments that lie in received bytes.
    #[must_use]
    #[inline]
    pub fn new(input: &'a [u8], spans: &'a [Span], hashes: &'a [Hash], key_first: usize, key_step: usize) -> Self {
        Args { input, spans, blobs: &[], hashes, key_first, key_step, name_words: 1 }
    }

    /// Number of arguments, the name included.
    #[must_use]
    #[inline]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// One argument; empty beyond the end.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> &'a [u8] {
        match self.spans.get(index) {
            None => &[],
            Some(span) if span.len == BLOB_MARK => self.blobs.get(span.start as usize).map_or(&[], Blob::as_slice),
            Some(span) => span.of(self.input),
        }
    }

    /// The argument as a shared value, if it is one: storing it needs no copy.
    #[must_use]
    pub fn blob(&self, index: usize) -> Option<&'a Blob> {
        self.spans.get(index).filter(|span| span.len == BLOB_MARK).and_then(|span| self.blobs.get(span.start as usize))
    }

    /// The hash of a key argument, if it was computed with the batch.
    #[must_use]
    #[inline]
    pub fn hash(&self, index: usize) -> Option<Hash> {
        if self.hashes.is_empty() || index < self.key_first {
            return None;
        }
        let at = index - self.key_first;
        if at == 0 {
            return self.hashes.first().copied();
        }
        at.is_multiple_of(self.key_step).then(|| self.hashes.get(at / self.key_step).copied()).flatten()
    }

    /// Whether an argument equals `word`, whatever the case.
    #[must_use]
    #[inline]
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).eq_ignore_ascii_case(word.as_bytes())
    }

    /// These arguments without the first `count`: what is left is a command of its own.
    #[must_use]
    pub fn behind(&self, count: usize) -> Self {
        Args { spans: self.spans.get(count..).unwrap_or_default(), hashes: &[], ..*self }
    }

    /// The arguments from `from` on.
    pub fn rest(&self, from: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let args = *self;
        (from..args.len()).map(move |index| args.get(index))
    }

    /// Bytes of all arguments together.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.rest(0).map(<[u8]>::len).sum()
    }
}

/// A command with its own copy of the arguments.
#[derive(Default)]
pub struct OwnedCommand {
    data: Vec<u8>,
    spans: Vec<Span>,
    blobs: Vec<Blob>,
}

impl OwnedCommand {
    /// Copies arguments (large shared ones by reference).
    #[must_use]
    pub fn from_args(args: &Args<'_>) -> Self {
        let mut command = OwnedCommand::default();
        if let (true, [first, .., last]) = (args.blobs.is_empty(), args.spans) {
            // As they lie, one after the other, with what stands between them: there may be very many.
            let end = last.start as usize + last.len as usize;
            if let Some(data) = args.input.get(first.start as usize..end) {
                command.data = data.to_vec();
                let moved = |span: &Span| Span { start: span.start.wrapping_sub(first.start), len: span.len };
                command.spans = args.spans.iter().map(moved).collect();
                return command;
            }
        }
        for index in 0..args.len() {
            command.push_from(args, index);
        }
        command
    }

    /// Appends an argument.
    pub fn push(&mut self, arg: &[u8]) {
        self.spans.push(Span { start: self.data.len() as u32, len: arg.len() as u32 });
        self.data.extend_from_slice(arg);
    }

    /// Appends an argument of another command, a large one by reference.
    pub fn push_from(&mut self, args: &Args<'_>, index: usize) {
        match args.blob(index) {
            Some(blob) => self.push_blob(blob.clone()),
            None => self.push(args.get(index)),
        }
    }

    /// Appends a number.
    pub fn push_number(&mut self, number: i64) {
        self.push(number.to_string().as_bytes());
    }

    /// Appends a large argument without copying it.
    pub fn push_blob(&mut self, blob: Blob) {
        self.spans.push(Span { start: self.blobs.len() as u32, len: BLOB_MARK });
        self.blobs.push(blob);
    }

    /// The arguments.
    #[must_use]
    pub fn args(&self) -> Args<'_> {
        Args {
            input: &self.data,
            spans: &self.spans,
            blobs: &self.blobs,
            hashes: &[],
            key_first: 0,
            key_step: 1,
            name_words: 1,
        }
    }

    /// Memory held in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.data.capacity()
            + self.spans.capacity() * size_of::<Span>()
            + self.blobs.iter().map(Blob::len).sum::<usize>()
            + size_of::<Self>()
    }
}
