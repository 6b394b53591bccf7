//! What a client sends: where its requests stand between bytes and commands, and what of them waits. The
//! executor alone writes it; a client that is described reads it.

use tercel_engine::Blob;
use tercel_resp::request::RequestParser;

use crate::command::OwnedCommand;

/// The receiving side of a client.
pub struct Input {
    parser: RequestParser,
    assembly: Option<Box<Assembly>>,
    /// A command whose bytes are gone from the transport already.
    kept: Option<OwnedCommand>,
    is_queued: bool,
    is_held: bool,
    has_hung_up: bool,
    receive_limit: usize,
    arrived_ns: u64,
    active_ns: u64,
    received_total: u64,
}

impl Input {
    /// Nothing was received yet, at a time in the clock's nanoseconds.
    pub(super) fn new(now_ns: u64) -> Self {
        Input {
            parser: RequestParser::new(),
            assembly: None,
            kept: None,
            is_queued: false,
            is_held: false,
            has_hung_up: false,
            receive_limit: tercel_transport::RECEIVE_LIMIT_DEFAULT,
            arrived_ns: now_ns,
            active_ns: now_ns,
            received_total: 0,
        }
    }

    /// Something came: at `now_ns`, and since `arrived_ns` at the earliest, both in the clock's nanoseconds.
    #[inline]
    pub fn heard(&mut self, now_ns: u64, arrived_ns: u64) {
        self.active_ns = now_ns;
        if !self.is_queued {
            self.arrived_ns = arrived_ns;
        }
    }

    /// It was answered or told something: as in Valkey it is not idle then.
    #[inline]
    pub fn answered(&mut self, now_ns: u64) {
        self.active_ns = now_ns;
    }

    /// When it last sent or was sent something, in the clock's nanoseconds.
    #[must_use]
    pub fn active_ns(&self) -> u64 {
        self.active_ns
    }

    /// The earliest that what waits to be parsed can have arrived, in the clock's nanoseconds.
    #[must_use]
    #[inline]
    pub fn arrived_ns(&self) -> u64 {
        self.arrived_ns
    }

    /// Lists it for parsing; false if it is listed already, or held back.
    #[inline]
    pub fn queue(&mut self) -> bool {
        let is_new = !self.is_queued && !self.is_held;
        self.is_queued |= is_new;
        is_new
    }

    /// Says whether commands of it wait in the batch or bytes to be parsed.
    #[inline]
    pub fn set_queued(&mut self, is_queued: bool) {
        self.is_queued = is_queued;
    }

    /// Whether commands of it wait in the batch or bytes to be parsed.
    #[must_use]
    #[inline]
    pub fn is_queued(&self) -> bool {
        self.is_queued
    }

    /// Holds it back. What is half parsed is parsed anew when it goes on, from the bytes or from `kept`, a
    /// command whose bytes are gone. Returns what was set aside for it and never touched, in bytes.
    pub fn hold(&mut self, kept: Option<OwnedCommand>) -> usize {
        let promised = self.promised();
        self.parser = RequestParser::new();
        self.assembly = None;
        self.is_queued = false;
        self.is_held = true;
        self.kept = kept;
        promised
    }

    /// Lets it go on; returns the command that was kept.
    pub fn release(&mut self) -> Option<OwnedCommand> {
        self.is_held = false;
        self.kept.take()
    }

    /// Whether it is held back.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// The peer is gone; what it sent is still done.
    pub fn hang_up(&mut self) {
        self.has_hung_up = true;
    }

    /// Whether the peer is gone.
    #[must_use]
    pub fn has_hung_up(&self) -> bool {
        self.has_hung_up
    }

    /// How many unconsumed bytes the transport may gather now.
    #[must_use]
    #[inline]
    pub fn receive_limit(&self) -> usize {
        self.receive_limit
    }

    /// The transport was told another limit.
    pub fn set_receive_limit(&mut self, limit: usize) {
        self.receive_limit = limit;
    }

    /// Counts the bytes of a command.
    #[inline]
    pub fn count_received(&mut self, len: usize) {
        self.received_total += len as u64;
    }

    /// Bytes of all its commands.
    #[must_use]
    pub fn received_total(&self) -> u64 {
        self.received_total
    }

    /// The parser.
    #[inline]
    pub fn parser(&mut self) -> &mut RequestParser {
        &mut self.parser
    }

    /// Whether a command is half there.
    #[must_use]
    #[inline]
    pub fn is_amid_command(&self) -> bool {
        self.assembly.is_some() || self.parser.in_progress()
    }

    /// Whether a command with large arguments is on its way in.
    #[must_use]
    #[inline]
    pub fn is_assembling(&self) -> bool {
        self.assembly.is_some()
    }

    /// Takes the command out that is on its way in.
    pub fn take_assembly(&mut self) -> Option<Box<Assembly>> {
        self.assembly.take()
    }

    /// A command with large arguments is on its way in, or still is.
    pub fn put_assembly(&mut self, assembly: Box<Assembly>) {
        self.assembly = Some(assembly);
    }

    /// Memory set aside for a command on its way in beyond what has arrived of it, in bytes: announced by
    /// the client, and not touched.
    #[must_use]
    #[inline]
    pub fn promised(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| assembly.promised())
    }

    /// Memory of the arguments of a command on its way in, in bytes.
    #[must_use]
    pub fn arguments_memory(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| assembly.memory())
    }

    /// All memory of it in bytes, the transport's buffers apart.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.parser.memory() + self.kept.as_ref().map_or(0, OwnedCommand::memory) + self.arguments_memory()
    }
}

/// A command whose large arguments are collected on their way in.
pub struct Assembly {
    /// Arguments that are whole.
    pub command: OwnedCommand,
    /// The large argument being filled.
    pub filling: Option<Filling>,
    /// Bytes of input consumed for it so far.
    pub wire_len: usize,
}

impl Assembly {
    /// Memory of what has arrived, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.command.memory() + self.filling.as_ref().map_or(0, |filling| filling.bytes.len())
    }

    /// Memory set aside beyond that, in bytes: announced by the client, and not touched.
    #[must_use]
    pub fn promised(&self) -> usize {
        self.filling.as_ref().map_or(0, |filling| filling.bytes.capacity() - filling.bytes.len())
    }

    /// Turns a filled argument into a shared value.
    pub fn finish_argument(&mut self) {
        if let Some(filling) = self.filling.take() {
            self.command.push_blob(Blob::from_vec(filling.bytes));
        }
    }
}

/// Room that an argument announced as large begins with, in bytes.
const FILLING_BYTES_MIN: usize = 64 * 1024;
/// Once as much has arrived, room is made for all of it: what is copied for that stays a short piece of work,
/// and somebody who only announces gets nothing.
const FILLING_BYTES_WHOLE: usize = 1024 * 1024;

/// A large argument on its way in.
pub struct Filling {
    bytes: Vec<u8>,
    len: usize,
}

/// There is no memory for an argument of the length that was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

impl Filling {
    /// An argument of `len` bytes, of which none is here yet.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Filling { bytes: Vec::with_capacity(len.saturating_add(2).min(FILLING_BYTES_MIN)), len }
    }

    /// Bytes still to come.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.len - self.bytes.len()
    }

    /// Takes what belongs to it from the front of `input`; returns how much that was. The room grows with
    /// what arrives, not with what was announced.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn take(&mut self, input: &[u8]) -> Result<usize, NoRoom> {
        let take = self.missing().min(input.len());
        let needed = self.bytes.len() + take;
        if needed > self.bytes.capacity() {
            let room = if needed >= FILLING_BYTES_WHOLE { self.len } else { (needed * 2).min(self.len) };
            self.bytes.try_reserve_exact(room - self.bytes.len()).map_err(|_| NoRoom)?;
        }
        self.bytes.extend_from_slice(&input[..take]);
        Ok(take)
    }
}
