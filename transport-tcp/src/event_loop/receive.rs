//! Receiving: the direct call, back-pressure, and moving a connection between the two ways of
//! receiving without losing or reordering a byte.

use std::io;

use tercel_transport::{ConnId, Event, Hangup};

use super::{EventLoop, kind, token};
use crate::conns::{Mode, State};
use crate::{epoll, socket};

/// One direct receive takes at most this many bytes, so that a flood gets its share and no more.
const TAKE_MAX_BYTES: usize = 64 * 1024;

/// Storage for received bytes that a connection keeps while any are left, in bytes; twice its receive limit where
/// that is more.
const INBOX_KEPT_BYTES: usize = 64 * 1024;

impl EventLoop {
    /// Puts a connection under one way of receiving and starts it.
    pub(super) fn enter_mode(&mut self, index: u32, mode: Mode) {
        let Some(conn) = self.conns.slot(index) else { return };
        conn.mode = mode;
        match mode {
            Mode::Direct if conn.direct_at == u32::MAX => {
                conn.direct_at = self.direct.len() as u32;
                self.direct.push(index);
            }
            Mode::Direct => {}
            Mode::Ring => self.leave_direct(index),
        }
        self.update_interest(index);
    }

    /// Takes a connection off the list of directly read ones.
    pub(super) fn leave_direct(&mut self, index: u32) {
        let Some(conn) = self.conns.slot(index) else { return };
        let at = std::mem::replace(&mut conn.direct_at, u32::MAX);
        if at == u32::MAX {
            return;
        }
        self.direct.swap_remove(at as usize);
        if let Some(&moved) = self.direct.get(at as usize)
            && let Some(conn) = self.conns.slot(moved)
        {
            conn.direct_at = at;
        }
    }

    /// Makes epoll watch a connection for exactly what is wanted of it now, and the ring receive
    /// for it or not. A connection that is wanted for nothing leaves the epoll set, because epoll
    /// reports a hangup even to those who did not ask, again and again.
    ///
    /// Between the two ways of receiving lies the end of the ring's operation: only when its last
    /// completion has been handled may a direct call read, or bytes would overtake each other.
    pub(super) fn update_interest(&mut self, index: u32) {
        let Some(conn) = self.conns.slot(index) else { return };
        let alive = matches!(conn.state, State::Live | State::Draining);
        let receives = alive && conn.dial.is_none() && !conn.paused && !conn.receive_over;
        let mut want = 0;
        if receives && conn.mode == Mode::Direct && !conn.receive_armed {
            want |= epoll::IN;
        }
        if self.ring.is_some() {
            let wanted = receives && conn.mode == Mode::Ring;
            if wanted != conn.receive_armed {
                self.update_ring_receive(index, wanted);
            }
        }
        let Some(conn) = self.conns.slot(index) else { return };
        let waits = match &conn.dial {
            Some(dial) => dial.again_at.is_none(),
            None => conn.blocked && !conn.outbox.is_empty(),
        };
        if alive && self.ring.is_none() && waits {
            want |= epoll::OUT;
        }
        if want == conn.interest {
            return;
        }
        let had = std::mem::replace(&mut conn.interest, want);
        let fd = conn.raw_fd();
        self.stats.kernel_entries += 1;
        let done = match (had, want) {
            (_, 0) => {
                self.epoll.remove(fd);
                Ok(())
            }
            (0, _) => self.epoll.add(fd, want, token(kind::CONN, index)),
            _ => self.epoll.modify(fd, want, token(kind::CONN, index)),
        };
        if let Err(error) = done {
            // Out of kernel memory or of watches: the connection cannot be served.
            conn.interest = 0;
            self.broke(index, error.raw_os_error().unwrap_or(0));
        }
    }

    /// Reads once from a directly served connection.
    pub(super) fn receive_direct(&mut self, index: u32, events: &mut Vec<Event>) {
        let Some(conn) = self.conns.slot(index) else { return };
        if conn.dial.is_some() || conn.mode != Mode::Direct || conn.receive_armed || conn.paused || conn.receive_over {
            return;
        }
        // What the ring brought in this very poll comes first; it is moved with the next.
        if conn.inbox.lease.is_some() {
            return;
        }
        let unit = self.options.receive_buffer_bytes;
        let held = conn.inbox.len();
        let (want, limit) = match conn.state {
            State::Live => {
                let want = if held < TAKE_MAX_BYTES { unit } else { unit.max(TAKE_MAX_BYTES) };
                (want, conn.receive_limit.saturating_sub(held).clamp(unit, TAKE_MAX_BYTES.max(unit)))
            }
            State::Draining => (unit, unit),
            State::Free | State::Dying => return,
        };
        let Some(fd) = &conn.fd else { return };
        conn.inbox.reserve(want, &mut self.pool);
        self.stats.kernel_entries += 1;
        match socket::receive(fd, &mut conn.inbox.bytes, limit) {
            Ok(0) => self.ended(index, events),
            Ok(len) => self.received_bytes(index, len, events),
            Err(error) => {
                if conn.inbox.is_empty() {
                    // Direct reading: no ring buffer can be held.
                    conn.inbox.release(&mut self.pool);
                }
                if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
                    let errno = error.raw_os_error().unwrap_or(0);
                    self.broke(index, errno);
                    events.append(&mut self.pending);
                }
            }
        }
    }

    /// Accounts for `len` bytes that are now in the inbox.
    pub(super) fn received_bytes(&mut self, index: u32, len: usize, events: &mut Vec<Event>) {
        self.stats.receives += 1;
        self.stats.received_bytes += len as u64;
        let polls = self.polls;
        let Some(conn) = self.conns.slot(index) else { return };
        if conn.state == State::Draining {
            // Thrown away: what counts is the end of stream behind it, but not for ever.
            conn.inbox.release(&mut self.pool);
            conn.receive_limit = conn.receive_limit.saturating_sub(len);
            if conn.receive_limit == 0 {
                self.kill(index);
            }
            return;
        }
        if conn.state != State::Live {
            return;
        }
        let full = conn.inbox.len() >= conn.receive_limit;
        let flooded = full && conn.mode == Mode::Ring;
        if conn.reported != polls {
            conn.reported = polls;
            events.push(Event::Readable(ConnId { index, generation: conn.generation }));
        }
        if full {
            self.pause(index);
        }
        if flooded {
            self.flood(index);
        } else if self.ring.is_some() {
            self.note_activity(index, len);
        }
    }

    /// The peer closed its half.
    pub(super) fn ended(&mut self, index: u32, events: &mut Vec<Event>) {
        let Some(conn) = self.conns.slot(index) else { return };
        conn.receive_over = true;
        if conn.inbox.is_empty() {
            // An empty inbox holds no ring buffer: the last consume gave it back.
            conn.inbox.release(&mut self.pool);
        }
        match conn.state {
            State::Live => {
                if !std::mem::replace(&mut conn.hung, true) {
                    events.push(Event::Hangup(ConnId { index, generation: conn.generation }, Hangup::Eof));
                }
                self.update_interest(index);
            }
            State::Draining if conn.half_closed => self.kill(index),
            State::Draining => self.update_interest(index),
            State::Free | State::Dying => {}
        }
    }

    /// The connection broke, in whichever direction that was noticed. The event waits in
    /// `pending`.
    pub(super) fn broke(&mut self, index: u32, errno: i32) {
        let Some(conn) = self.conns.slot(index) else { return };
        conn.receive_over = true;
        conn.broken = true;
        if !conn.send_armed {
            conn.outbox.release(&mut self.pool);
        }
        match conn.state {
            State::Live => {
                if !std::mem::replace(&mut conn.hung, true) {
                    let id = ConnId { index, generation: conn.generation };
                    self.pending.push(Event::Hangup(id, Hangup::Error(errno)));
                }
                self.update_interest(index);
            }
            State::Draining => self.kill(index),
            State::Free | State::Dying => {}
        }
    }

    /// Stops reading until enough has been consumed.
    fn pause(&mut self, index: u32) {
        let Some(conn) = self.conns.slot(index) else { return };
        conn.paused = true;
        self.update_interest(index);
    }

    /// Reads on if back-pressure allows it again.
    fn resume(&mut self, index: u32) {
        let Some(conn) = self.conns.slot(index) else { return };
        if conn.paused && conn.inbox.len() < conn.receive_limit {
            conn.paused = false;
            self.update_interest(index);
        }
    }

    pub(crate) fn received(&self, id: ConnId) -> &[u8] {
        let Some(conn) = self.conns.find(id) else { return &[] };
        match (conn.inbox.lease, &self.ring) {
            (Some(lease), Some(ring)) => {
                ring.buffer(lease.id, lease.len as usize).get(conn.inbox.start..).unwrap_or_default()
            }
            _ => conn.inbox.gathered(),
        }
    }

    pub(crate) fn consume(&mut self, id: ConnId, len: usize) {
        let Some(conn) = self.conns.find_mut(id) else { return };
        let freed = conn.inbox.consume(len, &mut self.pool);
        conn.inbox.shrink((2 * conn.receive_limit).max(INBOX_KEPT_BYTES), &mut self.pool);
        if let (Some(buffer), Some(ring)) = (freed, &mut self.ring) {
            ring.give_buffer(buffer);
        }
        if conn.paused {
            self.resume(id.index);
        }
    }

    pub(crate) fn set_receive_limit(&mut self, id: ConnId, bytes: usize) {
        let Some(conn) = self.conns.find_mut(id) else { return };
        // A limit of nothing would never read a byte.
        conn.receive_limit = bytes.max(1);
        let full = conn.inbox.len() >= conn.receive_limit;
        if conn.paused {
            self.resume(id.index);
        } else if full {
            self.pause(id.index);
        }
    }
}
