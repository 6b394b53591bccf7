//! Clients coming and going: who is let in, what unread replies cost, and how a connection ends. Knows
//! the transport and the limits, no command.

use tercel_transport::{Close, ConnId};

use super::{Executor, NO_CLIENT};
use crate::listen::Front;
use crate::session::{ClientKey, Closing, Session};

const PROTECTED_MODE: &[u8] = b"-DENIED Server is running in protected mode because protected mode is enabled and no password is set for the default user. In this mode connections are only accepted from the loopback interface. To accept connections from elsewhere, set a password with 'requirepass', or switch the mode off with 'CONFIG SET protected-mode no' from the loopback interface or '--protected-mode no' at start.\r\n";

impl<T: Front> Executor<T> {
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
        session.net.fd = self.transport.descriptor(conn);
        let key = self.core.clients.insert(session);
        let slot = conn.index as usize;
        if self.by_conn.len() <= slot {
            self.by_conn.resize(slot + 1, NO_CLIENT);
        }
        self.by_conn[slot] = key;
    }

    /// What a client did not take at once counts against its limits.
    pub(super) fn after_flush(&mut self, key: ClientKey) {
        let Some(connection) = self.core.clients.get_mut(key) else { return };
        let session = &mut connection.session;
        let unsent = self.transport.unsent(session.conn);
        session.net.unsent_len = unsent;
        if let Some(how) = session.closing {
            self.core.clients.to_close.push((key, how));
            return;
        }
        if unsent == 0 {
            return;
        }
        session.net.memory = self.transport.memory(session.conn);
        self.core.stats.recent_output_max = self.core.stats.recent_output_max.max(unsent);
        let class = session.class() as usize;
        let limit = self.core.settings.client_output_buffer_limit.0[class];
        let over = |bound: u64| bound > 0 && unsent as u64 >= bound;
        if over(limit.hard) {
            self.output_limit_reached(key);
        } else if over(limit.soft) && session.soft_limit_since_ns.is_none() {
            session.soft_limit_since_ns = Some(self.core.now.mono_ns);
            self.over_soft_limit.push(key);
        }
    }

    pub(super) fn output_limit_reached(&mut self, key: ClientKey) {
        self.core.stats.output_buffer_disconnects += 1;
        if let Some(connection) = self.core.clients.get(key) {
            tracing::warn!(
                "Client {} scheduled to be closed ASAP for overcoming of output buffer limits.",
                connection.session.address()
            );
        }
        self.core.close_client(key, Closing::Now);
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
        crate::commands::forget_subscriptions(&mut self.core, session);
        if session.monitor {
            self.core.clients.monitors.retain(|monitor| *monitor != key);
        }
        if !connection.out.buf.is_empty() {
            let buf = std::mem::take(&mut connection.out.buf);
            self.transport.send(session.conn, buf);
        }
        self.transport.close(session.conn, how);
        if let Some(slot) = self.by_conn.get_mut(session.conn.index as usize).filter(|slot| **slot == key) {
            *slot = NO_CLIENT;
        }
    }
}
