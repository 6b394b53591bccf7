//! Clients coming and going: who is let in, what they take, and how a connection ends. Knows the transport
//! and the limits, no command.

use tercel_transport::{Close, ConnId, Transport};

use super::{Executor, NO_CLIENT};
use tercel_core::clients::client::UNAUTHENTICATED_RECEIVE_LIMIT;
use tercel_core::clients::{ClientKey, Closing, Session};

const PROTECTED_MODE: &[u8] = b"-DENIED Server is running in protected mode because protected mode is enabled and no password is set for the default user. In this mode connections are only accepted from the loopback interface. To accept connections from elsewhere, set a password with 'requirepass', or switch the mode off with 'CONFIG SET protected-mode no' from the loopback interface or '--protected-mode no' at start.\r\n";

impl<T: Transport> Executor<T> {
    pub(super) fn accept(&mut self, conn: ConnId) {
        let Some(peer) = self.transport.peer(conn).cloned() else { return };
        let settings = self.server.settings();
        let refusal: Option<&[u8]> = if self.server.clients().len() >= settings.maxclients as usize {
            Some(b"-ERR max number of clients reached\r\n")
        } else if settings.protected_mode && settings.requirepass.is_empty() && !peer.is_local() {
            Some(PROTECTED_MODE)
        } else {
            None
        };
        let asks_password = !settings.requirepass.is_empty();
        let now_ns = self.server.now().mono_ns;
        let clients = self.server.clients_mut();
        clients.count_connection(refusal.is_some());
        if let Some(text) = refusal {
            let mut buf = self.transport.lease();
            buf.extend_from_slice(text);
            self.transport.send(conn, buf);
            // No client, so no flush of this turn's would take it along.
            self.transport.flush();
            self.transport.close(conn, Close::Drain);
            return;
        }
        let mut session = Session::new(clients.reserve_id(), conn, peer, now_ns);
        tracing::debug!("Accepted {}", session.address());
        session.output.held.fd = self.transport.descriptor(conn);
        if asks_password {
            session.begin_as_stranger();
            session.input.set_receive_limit(UNAUTHENTICATED_RECEIVE_LIMIT);
            self.transport.set_receive_limit(conn, UNAUTHENTICATED_RECEIVE_LIMIT);
        }
        let key = clients.insert(session);
        let slot = conn.index as usize;
        if self.by_conn.len() <= slot {
            self.by_conn.resize(slot + 1, NO_CLIENT);
        }
        self.by_conn[slot] = key;
        self.account(key);
    }

    /// Asks the transport what it holds for a client.
    pub(super) fn refresh_held(transport: &T, session: &mut Session) {
        let conn = session.conn();
        let held = &mut session.output.held;
        held.received_len = transport.received(conn).len();
        held.unsent_len = transport.unsent(conn);
        held.unsent_memory = transport.unsent_memory(conn);
        held.memory = transport.memory(conn);
    }

    /// Asks what it holds for all clients in the table, before they are shown.
    pub(super) fn refresh_all_held(&mut self) {
        let clients = self.server.clients_mut();
        for key in clients.keys() {
            if let Some(client) = clients.get_mut(key) {
                Self::refresh_held(&self.transport, &mut client.session);
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
        let clients = self.server.clients_mut();
        let Some(conn) = clients.get(key).map(|client| client.session.conn()) else { return };
        clients.account(key, self.transport.memory(conn));
    }

    /// Follows a change of the limit of all clients together.
    pub(super) fn follow_client_limits(&mut self) {
        let max = self.server.clients().memory_max();
        if max == std::mem::replace(&mut self.clients_memory_max, max) {
            return;
        }
        for key in self.server.clients().keys() {
            self.account_now(key);
        }
    }

    /// Closes the largest clients until all together take no more than they may.
    pub(super) fn evict_clients(&mut self) {
        while self.server.clients().memory() > self.clients_memory_max
            && let Some(key) = self.server.clients().largest()
        {
            // What it took in the meantime of what it is owed is not known yet.
            let before = self.server.clients().memory();
            self.account_now(key);
            if self.server.clients().memory() >= before && !self.server.clients_mut().evict(key) {
                break;
            }
        }
    }

    pub(super) fn close_clients(&mut self) {
        /// To close a connection takes the kernel some ten microseconds, and thousands may go together.
        const AT_ONCE_MAX: usize = 32;
        let mut left = AT_ONCE_MAX;
        while left > 0
            && let Some((key, how)) = self.server.clients_mut().next_close()
        {
            left -= 1;
            self.remove_client(key, if how == Closing::Now { Close::Abort } else { Close::Drain });
        }
        let mut at = 0;
        while at < self.hung_up.len() {
            if left == 0 {
                break;
            }
            let key = self.hung_up[at];
            let client = self.server.clients().get(key);
            let is_gone = client.is_some_and(|client| client.session.input.has_hung_up());
            // What a client sent before it went is still done.
            if is_gone && client.is_some_and(|client| client.session.input.is_queued() || client.caller.goes_on()) {
                at += 1;
                continue;
            }
            self.hung_up.swap_remove(at);
            if is_gone {
                left -= 1;
                self.remove_client(key, Close::Abort);
            }
        }
        self.has_more_to_close = left == 0;
    }

    pub(super) fn remove_client(&mut self, key: ClientKey, how: Close) {
        let Some(mut client) = self.server.remove_client(key) else { return };
        let session = &client.session;
        tracing::debug!("Client closed connection {}", session.address());
        let conn = session.conn();
        if !client.out.is_empty() {
            client.out.hand_over(|buf| self.transport.send(conn, buf));
        }
        self.transport.close(conn, how);
        if let Some(slot) = self.by_conn.get_mut(conn.index as usize).filter(|slot| **slot == key) {
            *slot = NO_CLIENT;
        }
    }
}
