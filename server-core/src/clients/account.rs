//! The account of what clients take, and what becomes of those who take too much.

use super::client::Session;
use super::key::{ClientClass, ClientKey};
use super::output::Closing;
use super::table::Clients;

impl Clients {
    /// What further replies to a client may count for, when those that wait count for `counted` bytes.
    #[must_use]
    #[inline]
    pub fn room(&self, session: &Session, counted: usize) -> usize {
        self.rules.room(session, counted)
    }

    /// The soft limit of a class of clients: bytes, 0 for none, and seconds.
    #[must_use]
    pub fn soft_limit(&self, class: ClientClass) -> (usize, u64) {
        self.rules.soft(class)
    }

    /// Memory of all clients together that is allowed, in bytes; 0 for any.
    #[must_use]
    #[inline]
    pub fn memory_max(&self) -> usize {
        self.rules.all_max
    }

    /// Memory of all clients together, in bytes. Kept only while there is a limit.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory.total()
    }

    /// Puts down what a client takes now, while there is a limit for all together. `held_memory` is what the
    /// transport holds for it, in bytes.
    pub fn account(&mut self, key: ClientKey, held_memory: usize) {
        let Some(client) = self.table.get_mut(key).and_then(Option::as_deref_mut) else { return };
        client.session.output.held.memory = held_memory;
        if self.rules.all_max > 0 {
            let bytes = client.memory();
            self.memory.set(&mut client.session, bytes);
        } else {
            self.memory.forget(&mut client.session);
        }
    }

    /// The client to go when all together take too much.
    #[must_use]
    pub fn largest(&self) -> Option<ClientKey> {
        self.memory.largest()
    }

    /// Closes a client because all together take too much; false if it is not there.
    pub fn evict(&mut self, key: ClientKey) -> bool {
        let Some(client) = self.table.get_mut(key).and_then(Option::as_deref_mut) else { return false };
        self.memory.forget(&mut client.session);
        if !client.session.output.closes_now() {
            self.counters.evicted += 1;
            tracing::info!("Evicting client: {}", client.session.address());
        }
        self.close(key, Closing::Now);
        true
    }

    /// Counts and tells that a client was owed more than it may be. The caller closes it.
    pub fn count_output_over(&mut self, session: &Session) {
        let (_, of_all) = self.rules.bound(session);
        if of_all {
            self.counters.evicted += 1;
            tracing::info!("Evicting client: {}", session.address());
        } else {
            self.counters.output_over += 1;
            tracing::warn!(
                "Client {} scheduled to be closed ASAP for overcoming of output buffer limits.",
                session.address()
            );
        }
    }

    /// Closes a client that is owed more than it may be.
    pub fn output_over(&mut self, key: ClientKey) {
        let Some(client) = self.take(key) else { return };
        if !client.session.output.closes_now() {
            self.count_output_over(&client.session);
        }
        self.put(key, client);
        self.close(key, Closing::Now);
    }
}
