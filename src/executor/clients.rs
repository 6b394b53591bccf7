//! Clients coming and going: who is let in, what unread replies cost, and how a connection ends. Knows
//! the transport and the limits, no command.

use tercel_transport::{Close, ConnId, Transport};

use super::{Executor, NO_CLIENT};
use tercel_core::clients::client::{ClientKey, Closing, Session};
use tercel_core::clients::limits;

const PROTECTED_MODE: &[u8] = b"-DENIED Server is running in protected mode because protected mode is enabled and no password is set for the default user. In this mode connections are only accepted from the loopback interface. To accept connections from elsewhere, set a password with 'requirepass', or switch the mode off with 'CONFIG SET protected-mode no' from the loopback interface or '--protected-mode no' at start.\r\n";

impl<T: Transport> Executor<T> {
    pub(super) fn accept(&mut self, conn: ConnId) {
        self.core.stats.connections_received += 1;
        let Some(peer) = self.transport.peer(conn).cloned() else { return };
        let settings = &self.core.settings;
        let refusal: Option<&[u8]> = if self.core.clients.len() >= settings.maxclients as usize {
            Some(b"-ERR max number of clients reached\r\n")
        } else if settings.protected_mode && settings.requirepass.is_empty() && !peer.is_local() {
            Some(PROTECTED_MODE)
        } else {
            None
        };
        if let Some(text) = refusal {
            self.core.stats.rejected_connections += 1;
            let mut buf = self.transport.lease();
            buf.extend_from_slice(text);
            self.transport.send(conn, buf);
            // No client, so no flush of this turn's would take it along.
            self.transport.flush();
            self.transport.close(conn, Close::Drain);
            return;
        }
        let id = self.core.clients.reserve_id();
        let mut session = Session::new(id, conn, peer, self.core.now.mono_ns);
        tracing::debug!("Accepted {}", session.address());
        session.authenticated = self.core.settings.requirepass.is_empty();
        session.is_known = session.authenticated;
        session.net.fd = self.transport.descriptor(conn);
        if session.is_stranger() {
            session.receive_limit = limits::UNAUTHENTICATED_RECEIVE_LIMIT;
            self.transport.set_receive_limit(conn, session.receive_limit);
        }
        let key = self.core.clients.insert(session);
        let slot = conn.index as usize;
        if self.by_conn.len() <= slot {
            self.by_conn.resize(slot + 1, NO_CLIENT);
        }
        self.by_conn[slot] = key;
        self.account(key);
    }

    /// What a client did not take at once counts against its limits.
    pub(super) fn after_flush(&mut self, key: ClientKey) {
        let Some(connection) = self.core.clients.get_mut(key) else { return };
        let session = &mut connection.session;
        session.net.unsent_len = self.transport.unsent(session.conn);
        // As in Valkey, a client that is answered or told something is not idle.
        session.active_ns = self.core.now.mono_ns;
        if let Some(how) = session.closing {
            self.core.clients.to_close.push((key, how));
            return;
        }
        if session.net.unsent_len == 0 {
            session.net.unsent_memory = 0;
            session.soft_limit_since_ns = None;
            self.account(key);
            return;
        }
        let held = self.transport.unsent_memory(session.conn);
        session.net.unsent_memory = held;
        self.core.stats.recent_output_max = self.core.stats.recent_output_max.max(held);
        let counted = limits::counted(session.net.unsent_len, held);
        if limits::room(session, &self.core.settings, counted) == 0 {
            self.core.output_over(key);
            return;
        }
        let soft = self.core.settings.client_output_buffer_limit.0[session.class() as usize].soft as usize;
        if soft == 0 || counted < soft {
            session.soft_limit_since_ns = None;
        } else if session.soft_limit_since_ns.is_none() {
            session.soft_limit_since_ns = Some(self.core.now.mono_ns);
            self.over_soft_limit.insert(key);
        }
        self.account(key);
    }

    /// Asks the transport what it holds for a client.
    pub(super) fn refresh_net(transport: &T, session: &mut Session) {
        session.net.received_len = transport.received(session.conn).len();
        session.net.unsent_len = transport.unsent(session.conn);
        session.net.unsent_memory = transport.unsent_memory(session.conn);
        session.net.memory = transport.memory(session.conn);
    }

    /// Asks what it holds for all clients in the table, before they are shown.
    pub(super) fn refresh_all_nets(&mut self) {
        for key in self.core.clients.keys() {
            if let Some(connection) = self.core.clients.get_mut(key) {
                Self::refresh_net(&self.transport, &mut connection.session);
            }
        }
    }

    /// Puts down what a client takes, while there is a limit for all together.
    #[inline]
    pub(super) fn account(&mut self, key: ClientKey) {
        if self.clients_memory_max > 0 {
            self.account_now(key);
        }
    }

    fn account_now(&mut self, key: ClientKey) {
        let Some(mut connection) = self.core.clients.take(key) else { return };
        connection.session.net.memory = self.transport.memory(connection.session.conn);
        let bytes = connection.memory();
        self.core.clients.memory.set(&mut connection.session, bytes);
        self.core.clients.put(key, connection);
    }

    /// Follows a change of the limit of all clients together.
    pub(super) fn follow_client_limits(&mut self) {
        let before = self.clients_memory_max;
        self.clients_memory_max = limits::clients_memory_max(&self.core.settings);
        for key in self.core.clients.keys() {
            if self.clients_memory_max > 0 {
                self.account_now(key);
            } else if before > 0
                && let Some(mut connection) = self.core.clients.take(key)
            {
                self.core.clients.memory.forget(&mut connection.session);
                self.core.clients.put(key, connection);
            }
        }
    }

    /// Closes the largest clients until all together take no more than they may.
    pub(super) fn evict_clients(&mut self) {
        while self.core.clients.memory.total() > self.clients_memory_max
            && let Some(key) = self.core.clients.memory.largest()
        {
            // What it took in the meantime of what it is owed is not known yet.
            let before = self.core.clients.memory.total();
            self.account_now(key);
            if self.core.clients.memory.total() < before {
                continue;
            }
            let Some(mut connection) = self.core.clients.take(key) else { break };
            self.core.clients.memory.forget(&mut connection.session);
            let is_open = connection.session.closing != Some(Closing::Now);
            if is_open {
                self.core.stats.evicted_clients += 1;
                tracing::info!("Evicting client: {}", connection.session.address());
            }
            self.core.clients.put(key, connection);
            self.core.close_client(key, Closing::Now);
        }
    }

    pub(super) fn close_clients(&mut self) {
        while let Some((key, how)) = self.core.clients.to_close.pop() {
            self.remove_client(key, if how == Closing::Now { Close::Abort } else { Close::Drain });
        }
        let mut at = 0;
        while at < self.hung_up.len() {
            let key = self.hung_up[at];
            // What a client sent before it went is still done.
            let busy = self
                .core
                .clients
                .get(key)
                .is_some_and(|connection| connection.session.hung_up && connection.session.parse_queued);
            if busy {
                at += 1;
                continue;
            }
            self.hung_up.swap_remove(at);
            if self.core.clients.get(key).is_some_and(|connection| connection.session.hung_up) {
                self.remove_client(key, Close::Abort);
            }
        }
    }

    pub(super) fn remove_client(&mut self, key: ClientKey, how: Close) {
        let Some(mut connection) = self.core.clients.remove(key) else { return };
        let session = &mut connection.session;
        tracing::debug!("Client closed connection {}", session.address());
        self.core.unwatch_all(session);
        self.core.pubsub.unsubscribe_all(session);
        if session.monitor {
            self.core.clients.monitors.swap_remove(&key);
        }
        self.core.clients.memory.forget(session);
        self.core.data.set_untouched(session.promised(), 0);
        if !connection.out.is_empty() {
            connection.out.hand_over(|buf| self.transport.send(session.conn, buf));
        }
        self.transport.close(session.conn, how);
        if let Some(slot) = self.by_conn.get_mut(session.conn.index as usize).filter(|slot| **slot == key) {
            *slot = NO_CLIENT;
        }
    }
}
