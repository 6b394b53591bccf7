//! Sending: as much as the socket takes at once, the rest when it takes more. One order per
//! connection, whichever way a piece travels.

use std::io::{self, IoSlice};

use tercel_transport::{ConnId, Event};

use super::EventLoop;
use crate::conns::{Mode, State};
use crate::outbox::{Next, PIECES_MAX};
use crate::socket;

/// Bytes sent for one connection in one go; a fast reader of a huge reply waits its turn.
const SEND_MAX_BYTES: usize = 1024 * 1024;

impl EventLoop {
    /// Sends what is queued for a connection: through the ring if it receives through the ring,
    /// else by direct calls, as far as its socket takes it.
    pub(super) fn start_send(&mut self, index: u32) {
        let mut budget = SEND_MAX_BYTES;
        loop {
            let large = self.zero_copy_from(index);
            let Some(conn) = self.conns.slot(index) else { return };
            if conn.send_armed || conn.broken || !matches!(conn.state, State::Live | State::Draining) {
                return;
            }
            if conn.dial.is_some() {
                conn.blocked = !conn.outbox.is_empty();
                return;
            }
            let Some(fd) = &conn.fd else { return };
            if conn.outbox.is_empty() {
                break;
            }
            if self.ring.is_some() && conn.mode == Mode::Ring {
                return self.send_by_ring(index);
            }
            let result = if let Some(bytes) = conn.outbox.single() {
                self.stats.kernel_entries += 1;
                socket::send(fd, bytes)
            } else {
                let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
                match conn.outbox.next(&mut pieces, large) {
                    Next::Pieces(count) => {
                        self.stats.kernel_entries += 1;
                        socket::send_vectored(fd, &pieces[..count])
                    }
                    Next::Large { .. } => return self.send_by_ring(index),
                    Next::Nothing => break,
                }
            };
            match result {
                Ok(len) => {
                    self.stats.sends += 1;
                    self.stats.sent_bytes += len as u64;
                    conn.outbox.advance(len, &mut self.pool);
                    budget = budget.saturating_sub(len.max(1));
                    if budget == 0 && !conn.outbox.is_empty() {
                        return self.block(index);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.block(index),
                Err(error) => return self.broke(index, error.raw_os_error().unwrap_or(0)),
            }
        }
        self.all_sent(index);
    }

    /// The size in bytes from which a shared piece travels without a copy; 0 for never.
    fn zero_copy_from(&mut self, index: u32) -> usize {
        let offered = self.ring.as_ref().is_some_and(|ring| ring.has_send_zc);
        let useful = self.conns.slot(index).is_some_and(|conn| !conn.copies_anyway);
        if offered && useful { self.options.zero_copy_threshold_bytes } else { 0 }
    }

    /// Hands the next piece to the ring. One operation at a time keeps the order.
    fn send_by_ring(&mut self, index: u32) {
        let large = self.zero_copy_from(index);
        let id = self.id(index);
        let (Some(conn), Some(ring)) = (self.conns.slot(index), &mut self.ring) else { return };
        let fd = conn.raw_fd();
        if let Some(bytes) = conn.outbox.single() {
            let bytes = &bytes[..bytes.len().min(SEND_MAX_BYTES)];
            // SAFETY: the outbox is pinned below: its buffers are neither changed nor let go of until the
            // completion unpins it, nor is the slot; of a ring that does not end, both are leaked.
            unsafe { ring.send(fd, index, bytes) };
        } else {
            let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
            match conn.outbox.next(&mut pieces, large) {
                Next::Pieces(count) => {
                    let (op, place) = ring.ops.take(id);
                    let header = place.set_pieces(&pieces[..count]);
                    // SAFETY: as above for the pieces; the operation is released by its last completion.
                    unsafe { ring.send_message(fd, op, header) };
                }
                Next::Large { piece, from } => {
                    let (op, place) = ring.ops.take(id);
                    let bytes = (*piece).as_ref().get(from..).unwrap_or_default();
                    let (address, len) = (bytes.as_ptr(), bytes.len().min(SEND_MAX_BYTES) as u32);
                    place.hold = Some(piece);
                    // SAFETY: the operation holds the piece, and is released by its last completion.
                    unsafe { ring.send_zero_copy(fd, op, address, len) };
                }
                Next::Nothing => return self.all_sent(index),
            }
        }
        conn.outbox.pin();
        conn.send_armed = true;
        conn.inflight += 1;
    }

    /// Waits until the socket takes more: the ring does so for a send of its own, else epoll
    /// tells.
    fn block(&mut self, index: u32) {
        if let Some(conn) = self.conns.slot(index) {
            conn.blocked = true;
            if self.ring.is_some() {
                self.send_by_ring(index);
            } else {
                self.update_interest(index);
            }
        }
    }

    /// After a flush: who still has something queued is owed a `Drained`.
    pub(super) fn mark_blocked(&mut self, index: u32) {
        if let Some(conn) = self.conns.slot(index)
            && !conn.outbox.is_empty()
        {
            conn.blocked = true;
        }
    }

    /// The queue of a connection is empty.
    pub(super) fn all_sent(&mut self, index: u32) {
        let Some(conn) = self.conns.slot(index) else { return };
        let blocked = std::mem::take(&mut conn.blocked);
        match conn.state {
            State::Live => {
                if blocked {
                    let id = ConnId { index, generation: conn.generation };
                    self.pending.push(Event::Drained(id));
                    self.update_interest(index);
                }
            }
            State::Draining => self.half_close(index),
            State::Free | State::Dying => {}
        }
    }

    pub(crate) fn unsent(&self, id: ConnId) -> usize {
        self.conns.find(id).map_or(0, |conn| conn.outbox.len())
    }
}
