//! What was written in a turn, handed to the transport at its end; and what a client did not take at once.

use tercel_transport::{ConnId, Transport, TxBuf};

use super::Executor;
use tercel_core::clients::{ClientKey, limits};
use tercel_core::server::Parts;
use tercel_core::stats::Phase;

impl<T: Transport> Executor<T> {
    /// An unused buffer goes back to the transport's pool.
    pub(super) fn give_back(transport: &mut T, buf: TxBuf) {
        // Sending nothing to nobody is how a buffer is returned.
        transport.send(ConnId { index: u32::MAX, generation: u32::MAX }, buf);
    }

    /// Hands everything written in this turn to the transport and rings its bell once.
    pub(super) fn flush(&mut self, executed: [u64; 2]) {
        let flushing = self.server.clients_mut().take_flushes();
        if !flushing.is_empty() {
            let Parts { clients, stats, settings, clock, .. } = self.server.parts();
            // The last command's end, mostly.
            let begin_ns = clock.latest_ns();
            for &key in &flushing {
                if let Some(client) = clients.get_mut(key) {
                    client.session.output.flushed();
                    let conn = client.session.conn();
                    client.out.hand_over(|buf| self.transport.send(conn, buf));
                }
            }
            self.transport.flush();
            if settings.latency_tracking {
                stats.record_phases(Phase::Flush, clock.mono_ns() - begin_ns, executed);
            }
            for &key in &flushing {
                self.after_flush(key);
            }
        }
        if self.clients_memory_max > 0 {
            self.evict_clients();
        }
        self.server.clients_mut().reuse_flushes(flushing);
        self.close_clients();
    }

    /// What a client did not take at once counts against its limits.
    fn after_flush(&mut self, key: ClientKey) {
        let now_ns = self.server.now().mono_ns;
        let clients = self.server.clients_mut();
        let Some(client) = clients.get_mut(key) else { return };
        let session = &mut client.session;
        let conn = session.conn();
        session.output.held.unsent_len = self.transport.unsent(conn);
        session.input.answered(now_ns);
        if let Some(how) = session.output.closing() {
            clients.queue_close(key, how);
            return;
        }
        if session.output.held.unsent_len == 0 {
            session.output.drained();
            self.account(key);
            return;
        }
        self.check_output(key);
    }

    /// Holds what a client has not taken against its limits.
    fn check_output(&mut self, key: ClientKey) {
        let now_ns = self.server.now().mono_ns;
        let Parts { clients, .. } = self.server.parts();
        // Out of the table, so that the limits can be asked about it.
        let Some(mut client) = clients.take(key) else { return };
        let session = &mut client.session;
        let held = self.transport.unsent_memory(session.conn());
        session.output.held.unsent_memory = held;
        clients.note_output(held);
        let counted = limits::counted(session.output.held.unsent_len, held);
        let is_over = clients.room(session, counted) == 0;
        let (soft, _) = clients.soft_limit(session.class());
        if is_over {
            // It is closed.
        } else if soft == 0 || counted < soft {
            session.output.below_soft_limit();
        } else if session.output.above_soft_limit(now_ns) {
            self.over_soft_limit.insert(key);
        }
        clients.put(key, client);
        if is_over {
            clients.output_over(key);
        } else {
            self.account(key);
        }
    }
}
