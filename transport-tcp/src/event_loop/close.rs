//! Ending connections. The identity dies with the call; the slot lives on until what was queued
//! has left (or may no longer) and the kernel has let go of every operation.

use std::time::Instant;

use tercel_transport::{Close, ConnId};

use super::{EventLoop, Leaving, now};
use crate::conns::State;
use crate::socket;

/// Bytes a peer may still send while its connection drains; they are thrown away.
const DISCARD_MAX_BYTES: usize = 4 * 1024 * 1024;

impl EventLoop {
    pub(crate) fn close(&mut self, id: ConnId, how: Close) {
        let Some(conn) = self.conns.find_mut(id) else { return };
        let index = id.index;
        // What was found since the last poll is nobody's news any more.
        self.pending.retain(|event| event.conn() != Some(id));
        if let (Some(buffer), Some(ring)) = (conn.inbox.release(&mut self.pool), &mut self.ring) {
            ring.give_buffer(buffer);
        }
        let nothing_to_do = conn.broken || (conn.outbox.is_empty() && (conn.receive_over || conn.dial.is_some()));
        if how == Close::Abort || nothing_to_do {
            self.conns.retire(index, State::Dying);
            self.kill(index);
            return;
        }
        conn.paused = false;
        conn.receive_limit = DISCARD_MAX_BYTES;
        let all_sent = conn.outbox.is_empty();
        self.conns.retire(index, State::Draining);
        let generation = self.conns.id(index).generation;
        self.leaving.push_back(Leaving { deadline: now() + self.options.drain_timeout, index, generation });
        if all_sent {
            self.half_close(index);
        } else {
            self.update_interest(index);
        }
    }

    /// Everything has been sent: ends our half and waits for the peer to end its own. Closing at
    /// once would, with bytes of the peer still unread, make the kernel reset the connection and
    /// take the last reply with it.
    pub(super) fn half_close(&mut self, index: u32) {
        let Some(conn) = self.conns.slot(index) else { return };
        if conn.receive_over {
            self.kill(index);
            return;
        }
        if !conn.half_closed
            && let Some(fd) = &conn.fd
        {
            socket::shutdown_write(fd);
            conn.half_closed = true;
        }
        self.update_interest(index);
    }

    /// Ends a retired connection for good.
    pub(super) fn kill(&mut self, index: u32) {
        let Some(conn) = self.conns.slot(index) else { return };
        if !matches!(conn.state, State::Draining | State::Dying) {
            return;
        }
        conn.state = State::Dying;
        self.end_dial(index);
        let Some(conn) = self.conns.slot(index) else { return };
        conn.inbox.release(&mut self.pool);
        if !conn.send_armed {
            conn.outbox.release(&mut self.pool);
        }
        self.update_interest(index);
        self.leave_direct(index);
        self.cancel_all(index);
        self.release_slot(index);
    }

    /// Frees the slot of a dying connection once the kernel has finished with it.
    pub(super) fn release_slot(&mut self, index: u32) {
        let Some(conn) = self.conns.slot(index) else { return };
        if conn.state == State::Dying && conn.inflight == 0 {
            conn.outbox.unpin();
            conn.outbox.release(&mut self.pool);
            conn.fd = None;
            self.conns.vacate(index);
        }
    }

    /// Ends the connections whose time to drain is over.
    pub(super) fn end_overdue(&mut self, now: Instant) {
        while let Some(leaving) = self.leaving.front() {
            let (index, generation) = (leaving.index, leaving.generation);
            let waiting = self
                .conns
                .slot(index)
                .is_some_and(|conn| conn.state == State::Draining && conn.generation == generation);
            if waiting && leaving.deadline > now {
                break;
            }
            self.leaving.pop_front();
            if waiting {
                self.kill(index);
            }
        }
    }
}
