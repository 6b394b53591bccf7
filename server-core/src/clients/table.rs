//! The client table. While a client's command runs its [`Connection`] is taken out of the table,
//! so that a handler can hold it beside everything else; messages to it wait in [`Current`].

use std::collections::BTreeMap;

use slab::Slab;
use tercel_resp::Version;

use super::limits;
use super::limits::ClientMemory;
use super::subscriptions::Listeners;
use crate::clients::client::{ClientKey, Closing, Connection, Session};
use crate::command::reply::Reply;
use crate::server::Core;

/// All clients of an executor.
#[derive(Default)]
pub struct Clients {
    table: Slab<Option<Box<Connection>>>,
    by_id: BTreeMap<u64, ClientKey>,
    next_id: u64,
    /// Clients with something written since the last flush.
    pub to_flush: Vec<ClientKey>,
    /// Clients to close, with how.
    pub to_close: Vec<(ClientKey, Closing)>,
    /// What all of them take.
    pub memory: ClientMemory,
    /// Clients running MONITOR.
    pub monitors: Listeners,
}

/// The client whose command is running.
pub struct Current {
    /// Its slot.
    pub key: ClientKey,
    /// Messages to itself that its own command caused: they follow the command's reply.
    pub pushes: Reply,
    /// Watched keys that changed: database, key, and whether it is missing now.
    pub touched: Vec<(usize, Box<[u8]>, crate::clients::watch::Change)>,
    /// Somebody (itself included) wants it closed.
    pub closing: Option<Closing>,
}

impl Clients {
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
        self.by_id.insert(session.id, key);
        entry.insert(Some(Box::new(Connection { session, out: Reply::default() })));
        key
    }

    /// Removes a client.
    pub fn remove(&mut self, key: ClientKey) -> Option<Box<Connection>> {
        let connection = self.table.try_remove(key).flatten()?;
        self.by_id.remove(&connection.session.id);
        Some(connection)
    }

    /// A client that is in the table (not the one whose command runs).
    #[must_use]
    #[inline]
    pub fn get(&self, key: ClientKey) -> Option<&Connection> {
        self.table.get(key)?.as_deref()
    }

    /// A client that is in the table, to change it.
    #[inline]
    pub fn get_mut(&mut self, key: ClientKey) -> Option<&mut Connection> {
        self.table.get_mut(key)?.as_deref_mut()
    }

    /// Takes a client out for its turn.
    #[inline]
    pub fn take(&mut self, key: ClientKey) -> Option<Box<Connection>> {
        self.table.get_mut(key)?.take()
    }

    /// Puts it back.
    #[inline]
    pub fn put(&mut self, key: ClientKey, connection: Box<Connection>) {
        if let Some(slot) = self.table.get_mut(key) {
            *slot = Some(connection);
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
        if let Some(connection) = self.table.get_mut(key).and_then(Option::as_deref_mut)
            && !connection.session.flush_queued
        {
            connection.session.flush_queued = true;
            self.to_flush.push(key);
        }
    }
}

impl Core {
    /// Writes to a client from outside its own command: a message, a monitor line. `write` gets
    /// the client's reply side, or, for the client whose command is running, a side that follows
    /// its reply.
    pub fn write_to(&mut self, key: ClientKey, write: impl FnOnce(&mut Reply)) {
        if let Some(current) = self.current.as_mut().filter(|current| current.key == key) {
            write(&mut current.pushes);
            return;
        }
        let Some(connection) = self.clients.get_mut(key) else { return };
        if connection.out.is_over() {
            return;
        }
        if !connection.session.flush_queued {
            // What waits from before is not known here; it is counted when this turn's part has been handed
            // over.
            let room = limits::room(&connection.session, &self.settings, 0);
            connection.out.set_room(room);
        }
        write(&mut connection.out);
        let over = connection.out.is_over();
        self.clients.queue_flush(key);
        if over {
            self.output_over(key);
        }
    }

    /// Ends a client's connection.
    pub fn close_client(&mut self, key: ClientKey, how: Closing) {
        if let Some(current) = self.current.as_mut().filter(|current| current.key == key) {
            current.closing = Some(how);
            return;
        }
        if let Some(connection) = self.clients.get_mut(key)
            && connection.session.closing != Some(Closing::Now)
        {
            connection.session.closing = Some(how);
            self.clients.to_close.push((key, how));
        }
    }

    /// No client's command runs any more; the buffer for messages to it is kept.
    pub fn leave(&mut self) {
        if let Some(current) = self.current.as_mut() {
            current.key = ClientKey::MAX;
        }
    }

    /// Makes a client the one whose command runs. `room` is the memory in bytes that replies to it may hold.
    pub fn enter(&mut self, key: ClientKey, version: Version, room: usize) {
        let mut pushes = self.current.take().map(|current| current.pushes).unwrap_or_default();
        pushes.version = version;
        pushes.clear();
        pushes.set_room(room);
        self.current = Some(Current { key, pushes, touched: Vec::new(), closing: None });
    }
}
