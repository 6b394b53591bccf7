//! Sending: as much as the socket takes at once, the rest when it takes more. One order per
//! connection, whichever way a piece travels.

use std::io::{self, IoSlice};

use tercel_transport::{ConnId, Event};

use super::Engine;
use crate::conns::State;
use crate::outbox::{Next, PIECES_MAX};
use crate::socket;

/// Bytes sent for one connection in one go; a fast reader of a huge reply waits its turn.
const SEND_MAX_BYTES: usize = 1024 * 1024;

impl Engine {
    /// Sends what is queued for a connection, as far as its socket takes it.
    pub(super) fn start_send(&mut self, index: u32) {
        let mut budget = SEND_MAX_BYTES;
        loop {
            let Some(conn) = self.conns.slot(index) else { return };
            if conn.send_armed || conn.broken || !matches!(conn.state, State::Live | State::Draining) {
                return;
            }
            let Some(fd) = &conn.fd else { return };
            if conn.outbox.is_empty() {
                break;
            }
            self.stats.kernel_entries += 1;
            let result = if let Some(bytes) = conn.outbox.single() {
                socket::send(fd, bytes)
            } else {
                let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
                match conn.outbox.next(&mut pieces, 0) {
                    Next::Pieces(count) => socket::send_vectored(fd, &pieces[..count]),
                    Next::Nothing | Next::Large { .. } => break,
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

    /// Waits until the socket takes more.
    fn block(&mut self, index: u32) {
        if let Some(conn) = self.conns.slot(index) {
            conn.blocked = true;
            self.update_interest(index);
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
