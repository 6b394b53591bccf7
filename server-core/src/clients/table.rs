//! The client table. While a client's command runs its [`Client`] is taken out of the table, so that a
//! handler can hold it beside everything else.

use std::collections::BTreeMap;

use slab::Slab;

use super::client::{Client, Session};
use super::key::ClientKey;
use super::limits::{ClientMemory, Rules};
use super::output::Closing;
use super::subscriptions::{Listeners, PubSub};
use super::waiting::Waiters;
use super::watched::{Change, Watches};
use crate::command::Reply;
use crate::settings::Settings;

/// Between two warnings of HTTP requests.
const HTTP_WARN_EVERY_NS: u64 = 60_000_000_000;

/// The client whose command is running.
pub(super) struct Current {
    pub(super) key: ClientKey,
    /// Messages to itself that its own command caused: they follow the command's reply.
    pub(super) pushes: Reply,
    /// Watched keys that changed: database, key, and what became of it.
    pub(super) touched: Vec<(usize, Box<[u8]>, Change)>,
    /// Somebody (itself included) wants it closed.
    pub(super) closing: Option<Closing>,
}

/// A pause set by CLIENT PAUSE.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// End in Unix milliseconds.
    pub until_ms: i64,
    /// Whether only commands that may write are held back.
    pub writes_only: bool,
}

/// What this room counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub received: u64,
    /// Connections refused.
    pub rejected: u64,
    /// Clients closed for the memory of all.
    pub evicted: u64,
    /// Clients closed for what they sent.
    pub query_over: u64,
    /// Clients closed for what they did not read.
    pub output_over: u64,
    /// Largest input a client had waiting lately, in bytes.
    pub recent_input_max: usize,
    /// Largest output a client had waiting lately, in bytes.
    pub recent_output_max: usize,
    /// Passwords that were wrong.
    pub auth_denied: u64,
}

/// All clients of a server.
pub struct Clients {
    pub(super) table: Slab<Option<Box<Client>>>,
    pub(super) by_id: BTreeMap<u64, ClientKey>,
    next_id: u64,
    to_flush: Vec<ClientKey>,
    to_close: Vec<(ClientKey, Closing)>,
    pub(super) rules: Rules,
    pub(super) memory: ClientMemory,
    pub(super) monitors: Listeners,
    pub(super) pubsub: PubSub,
    pub(super) watches: Watches,
    pub(super) current: Option<Current>,
    /// The clients whose commands are not over while that of another is run, who waited for what they did.
    pub(super) outer: Vec<Current>,
    pub(super) waiters: Waiters,
    /// Clients that waited for keys and were answered: slot and number.
    pub(super) woken: Vec<(ClientKey, u64)>,
    pause: Option<Pause>,
    /// Long commands under way, and how many have ended, ever.
    sliced: usize,
    pub(super) counters: Counters,
    http_warned_ns: Option<u64>,
}

impl Clients {
    /// Nobody yet.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Clients {
            table: Slab::new(),
            by_id: BTreeMap::new(),
            next_id: 0,
            to_flush: Vec::new(),
            to_close: Vec::new(),
            rules: Rules::of(settings),
            memory: ClientMemory::default(),
            monitors: Listeners::new(),
            pubsub: PubSub::default(),
            watches: Watches::default(),
            current: None,
            outer: Vec::new(),
            waiters: Waiters::default(),
            woken: Vec::new(),
            pause: None,
            sliced: 0,
            counters: Counters::default(),
            http_warned_ns: None,
        }
    }

    /// Follows settings that changed.
    pub fn follow(&mut self, old: &Settings, new: &Settings) {
        self.rules = Rules::of(new);
        if new.requirepass.is_empty() && !old.requirepass.is_empty() {
            // Nobody is asked for a password any more, those neither who are here already.
            for (_, client) in &mut self.table {
                if let Some(client) = client {
                    client.session.authenticate();
                }
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Slots below this one are all there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.table.capacity()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The number the next client gets.
    pub fn reserve_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Adds a client.
    pub fn insert(&mut self, mut session: Session) -> ClientKey {
        let entry = self.table.vacant_entry();
        let key = entry.key();
        session.key = key;
        self.by_id.insert(session.id(), key);
        entry.insert(Some(Box::new(Client::new(session))));
        key
    }

    /// A client that is in the table (not the one whose command runs).
    #[must_use]
    #[inline]
    pub fn get(&self, key: ClientKey) -> Option<&Client> {
        self.table.get(key)?.as_deref()
    }

    /// A client that is in the table, to change it.
    #[inline]
    pub fn get_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.table.get_mut(key)?.as_deref_mut()
    }

    /// Takes a client out for its turn.
    #[inline]
    pub fn take(&mut self, key: ClientKey) -> Option<Box<Client>> {
        self.table.get_mut(key)?.take()
    }

    /// Puts it back.
    #[inline]
    pub fn put(&mut self, key: ClientKey, client: Box<Client>) {
        if let Some(slot) = self.table.get_mut(key) {
            *slot = Some(client);
        }
    }

    /// The slot of a client number.
    #[must_use]
    pub fn key_of(&self, id: u64) -> Option<ClientKey> {
        self.by_id.get(&id).copied()
    }

    /// All slots in order of client number.
    #[must_use]
    pub fn keys(&self) -> Vec<ClientKey> {
        self.by_id.values().copied().collect()
    }

    /// Lists a client for flushing.
    #[inline]
    pub fn queue_flush(&mut self, key: ClientKey) {
        if let Some(client) = self.table.get_mut(key).and_then(Option::as_deref_mut)
            && !client.session.output.is_flush_queued
        {
            client.session.output.is_flush_queued = true;
            self.to_flush.push(key);
        }
    }

    /// Takes the list of clients with something written since the last flush.
    #[inline]
    pub fn take_flushes(&mut self) -> Vec<ClientKey> {
        std::mem::take(&mut self.to_flush)
    }

    /// Gives the list's storage back.
    #[inline]
    pub fn reuse_flushes(&mut self, mut list: Vec<ClientKey>) {
        list.clear();
        if self.to_flush.is_empty() {
            self.to_flush = list;
        }
    }

    /// Lists a client to be closed.
    pub fn queue_close(&mut self, key: ClientKey, how: Closing) {
        self.to_close.push((key, how));
    }

    /// The next client to close, and how.
    #[inline]
    pub fn next_close(&mut self) -> Option<(ClientKey, Closing)> {
        self.to_close.pop()
    }

    /// Whether there is somebody to flush or to close.
    #[must_use]
    #[inline]
    pub fn any_to_serve(&self) -> bool {
        !self.to_flush.is_empty() || !self.to_close.is_empty()
    }

    /// The pause in force, or one that is over and was not taken away.
    #[must_use]
    #[inline]
    pub fn pause(&self) -> Option<Pause> {
        self.pause
    }

    pub(crate) fn set_pause(&mut self, pause: Option<Pause>) {
        self.pause = pause;
    }

    /// Clients that waited for keys and were answered, since it was last asked: slot and number.
    pub fn take_woken(&mut self) -> Vec<(ClientKey, u64)> {
        std::mem::take(&mut self.woken)
    }

    /// Whether there are any.
    #[must_use]
    #[inline]
    pub fn any_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// How many clients wait for keys; and how many of them with a deadline.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.waiters.waiting(), self.waiters.waiting_with_deadline())
    }

    /// The keys that clients wait for, with their databases, each once.
    pub fn waited_keys(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.waiters.keys()
    }

    /// One more long command is under way, unless there are `most` already.
    pub(crate) fn begin_sliced(&mut self, most: usize) -> bool {
        let may = self.sliced < most;
        self.sliced += usize::from(may);
        may
    }

    /// A long command is over.
    pub(crate) fn end_sliced(&mut self) {
        self.sliced -= 1;
    }

    /// How many long commands are under way.
    #[must_use]
    pub fn sliced(&self) -> usize {
        self.sliced
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Counts from nothing again.
    pub fn reset_counters(&mut self) {
        self.counters = Counters::default();
    }

    /// A connection came; it was refused or not.
    pub fn count_connection(&mut self, refused: bool) {
        self.counters.received += 1;
        self.counters.rejected += u64::from(refused);
    }

    /// A password was wrong.
    pub fn count_denied(&mut self) {
        self.counters.auth_denied += 1;
    }

    /// A client sent more of one command than it may; the caller closes it.
    pub fn count_query_over(&mut self) {
        self.counters.query_over += 1;
    }

    /// A client has so much output waiting, in bytes.
    pub fn note_output(&mut self, held: usize) {
        self.counters.recent_output_max = self.counters.recent_output_max.max(held);
    }

    /// Whether the log is to warn of an HTTP request; it does so once in a while.
    pub fn warns_of_http(&mut self, now_ns: u64) -> bool {
        let warns = self.http_warned_ns.is_none_or(|at_ns| now_ns - at_ns >= HTTP_WARN_EVERY_NS);
        if warns {
            self.http_warned_ns = Some(now_ns);
        }
        warns
    }
}
