//! What the ring's completions mean for connections, listeners and the waker, and the choice
//! between the two ways of receiving. Here bytes change hands between kernel and connection, so
//! here every buffer is accounted for: each one a completion names is either kept by exactly one
//! inbox or given back.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use tercel_transport::{ConnId, Event};

use super::EventLoop;
use crate::conns::{Mode, State};
use crate::inbox::RingLease;
use crate::uring::{Completion, ZC_COPIED, kind, number};

/// Unconsumed bytes from which a connection counts as a flood and is read directly, where
/// back-pressure is exact and large requests are not copied together.
const FLOOD_BYTES: usize = 64 * 1024;
/// Receives smaller than a buffer until a flood counts as over.
const FLOOD_CALM: u8 = 32;
/// Receives after which the number of active connections is looked at.
const WINDOW_RECEIVES: u32 = 256;

impl EventLoop {
    /// Brings about and handles what the ring has.
    pub(super) fn poll_ring(&mut self, events: &mut Vec<Event>) {
        self.return_leases();
        self.arm_again();
        let Some(ring) = &mut self.ring else { return };
        ring.reap();
        if ring.has_queued() || (ring.arrived.is_empty() && ring.wants_entry()) {
            ring.submit();
            ring.reap();
        }
        // Bounded by what has arrived by now: handling may submit, and so bring about, more.
        for _ in 0..ring.arrived.len() {
            let Some(completion) = self.ring.as_mut().and_then(|ring| ring.arrived.pop_front()) else { break };
            self.complete(completion, events);
        }
    }

    fn complete(&mut self, completion: Completion, events: &mut Vec<Event>) {
        let index = completion.index();
        match completion.kind() {
            kind::RECEIVE => self.receive_completed(completion, events),
            kind::SEND | kind::SEND_OP | kind::SEND_ZC => self.send_completed(completion),
            kind::ACCEPT => self.accept_completed(index, completion, events),
            kind::CONNECT => self.dial_completed(completion, events),
            kind::BELL => {
                self.answer_bell(events);
                self.rearm_bell = true;
            }
            kind::WATCH => {
                self.wake(events);
                self.rearm_watch.push(index);
            }
            _ => {}
        }
    }

    /// Handles the sends among what has arrived, so that after a flush `unsent` tells the truth.
    /// Receives keep their place until the next poll: bytes may not move before it.
    pub(super) fn complete_sends(&mut self) {
        let Some(ring) = &mut self.ring else { return };
        ring.reap();
        for _ in 0..ring.arrived.len() {
            let Some(ring) = &mut self.ring else { return };
            match ring.arrived.pop_front() {
                Some(done) if matches!(done.kind(), kind::SEND | kind::SEND_OP | kind::SEND_ZC) => {
                    self.send_completed(done);
                }
                Some(other) => ring.arrived.push_back(other),
                None => return,
            }
        }
    }

    /// Copies out what lies unconsumed in ring buffers and gives the buffers back.
    fn return_leases(&mut self) {
        let Some(ring) = &mut self.ring else { return };
        for index in self.leased.drain(..) {
            let Some(conn) = self.conns.slot(index) else { continue };
            let Some(lease) = conn.inbox.lease.take() else { continue };
            let start = std::mem::take(&mut conn.inbox.start);
            let content = ring.buffer(lease.id, lease.len as usize);
            conn.inbox.append(content.get(start..).unwrap_or_default(), &mut self.pool);
            ring.give_buffer(lease.id);
        }
    }

    /// Arms again what ran out of buffers, and what reports once.
    fn arm_again(&mut self) {
        if !self.starved.is_empty() {
            if let Some(ring) = &mut self.ring {
                ring.grow_buffers();
            }
            let mut starved = std::mem::take(&mut self.starved);
            for index in starved.drain(..) {
                self.update_interest(index);
            }
            // Nothing starves while arming: that takes a completion.
            self.starved = starved;
        }
        let Some(ring) = &mut self.ring else { return };
        if std::mem::take(&mut self.rearm_bell) {
            ring.poll_readable(self.bell.raw_fd(), kind::BELL, 0);
        }
        for index in self.rearm_watch.drain(..) {
            if let Some(&fd) = self.watched.get(index as usize) {
                ring.poll_readable(fd, kind::WATCH, index);
            }
        }
    }

    fn receive_completed(&mut self, done: Completion, events: &mut Vec<Event>) {
        let index = done.index();
        let Some(ring) = &mut self.ring else { return };
        let Some(conn) = self.conns.slot(index) else {
            if let Some(id) = done.buffer() {
                ring.give_buffer(id);
            }
            return;
        };
        if !done.more() {
            conn.receive_armed = false;
            conn.receive_cancelled = false;
            conn.inflight = conn.inflight.saturating_sub(1);
        }
        let len = usize::try_from(done.result).unwrap_or(0);
        let mut flooding = false;
        if let Some(id) = done.buffer() {
            let wanted = len > 0 && conn.state == State::Live && !conn.hung;
            if wanted && conn.inbox.lease.is_none() && conn.inbox.is_empty() {
                conn.inbox.release(&mut self.pool);
                conn.inbox.lease = Some(RingLease { id, len: done.result as u32 });
                self.leased.push(index);
            } else {
                if wanted {
                    if let Some(lease) = conn.inbox.lease.take() {
                        let start = std::mem::take(&mut conn.inbox.start);
                        let content = ring.buffer(lease.id, lease.len as usize);
                        conn.inbox.append(content.get(start..).unwrap_or_default(), &mut self.pool);
                        ring.give_buffer(lease.id);
                    }
                    conn.inbox.append(ring.buffer(id, len), &mut self.pool);
                    flooding = conn.inbox.len() >= FLOOD_BYTES;
                }
                ring.give_buffer(id);
            }
        }
        match -done.result {
            ..0 => {
                if !conn.hung {
                    self.received_bytes(index, len, events);
                }
            }
            0 => self.ended(index, events),
            libc::ENOBUFS => {
                self.stats.buffer_starvations += 1;
                self.starved.push(index);
                // Armed again with the next poll, when buffers have come back.
                return self.release_slot(index);
            }
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            errno => {
                self.broke(index, errno);
                events.append(&mut self.pending);
            }
        }
        if flooding {
            self.flood(index);
        }
        self.update_interest(index);
        self.release_slot(index);
    }

    fn send_completed(&mut self, done: Completion) {
        let Some(ring) = &mut self.ring else { return };
        let mut index = done.index();
        if done.kind() != kind::SEND {
            let op = done.index();
            let Some(owner) = ring.ops.find(op).map(|op| op.conn) else { return };
            if done.is_notification() {
                if ring.reports_copies && done.result as u32 & ZC_COPIED != 0 {
                    // The route makes no use of it (loopback, an old card): it only costs.
                    if let Some(conn) = self.conns.find_mut(owner) {
                        conn.copies_anyway = true;
                    }
                }
                // SAFETY: the notification is the last completion, and the one before it left the operation alone.
                unsafe { ring.ops.release(op) };
                return;
            }
            index = owner.index;
            if !done.more() {
                // SAFETY: this is the last completion of an operation that was taken for it.
                unsafe { ring.ops.release(op) };
            }
        }
        let Some(conn) = self.conns.slot(index) else { return };
        conn.send_armed = false;
        conn.inflight = conn.inflight.saturating_sub(1);
        conn.outbox.unpin();
        if conn.broken {
            conn.outbox.release(&mut self.pool);
        }
        match done.result {
            0.. => {
                let len = done.result as usize;
                self.stats.sends += 1;
                self.stats.sent_bytes += len as u64;
                if done.kind() == kind::SEND_ZC {
                    self.stats.zero_copy_sends += 1;
                }
                conn.outbox.advance(len, &mut self.pool);
            }
            error if matches!(-error, libc::EINTR | libc::EAGAIN | libc::ECANCELED) => {}
            error if done.kind() == kind::SEND_ZC && -error == libc::EINVAL && ring.reports_copies => {
                ring.reports_copies = false;
            }
            error if done.kind() == kind::SEND_ZC && matches!(-error, libc::EINVAL | libc::EOPNOTSUPP) => {
                conn.copies_anyway = true;
            }
            error if done.kind() == kind::SEND_ZC && -error == libc::ENOMEM => conn.copies_anyway = true,
            error => {
                self.broke(index, -error);
                return self.release_slot(index);
            }
        }
        if conn.state == State::Dying {
            return self.release_slot(index);
        }
        self.start_send(index);
    }

    fn accept_completed(&mut self, index: u32, done: Completion, events: &mut Vec<Event>) {
        if done.result >= 0 {
            // SAFETY: the kernel made this descriptor for us with this completion and nobody else
            // has it.
            let fd = unsafe { OwnedFd::from_raw_fd(done.result) };
            self.adopt(index, fd, events);
        }
        if done.more() {
            return;
        }
        if let Some(place) = self.listeners.get_mut(index as usize)
            && let Some(slot) = place
        {
            slot.armed = false;
            if slot.closed {
                *place = None;
                return;
            }
        }
        if done.result >= 0 || self.accept_failed(index, -done.result, events) {
            self.arm_accept(index);
        }
    }

    /// Arms a listener's accept.
    pub(super) fn arm_accept(&mut self, index: u32) {
        if let (Some(ring), Some(Some(slot))) = (&mut self.ring, self.listeners.get_mut(index as usize))
            && !slot.armed
        {
            slot.armed = true;
            ring.accept(slot.listener.fd.as_raw_fd(), index);
        }
    }

    /// Counts a receive, and now and then decides which way of receiving fits what is going on.
    pub(super) fn note_activity(&mut self, index: u32, len: usize) {
        let Some(conn) = self.conns.slot(index) else { return };
        if conn.flood > 0 {
            if len < self.options.receive_buffer_bytes {
                conn.flood -= 1;
            }
            if conn.flood > 0 {
                return;
            }
        }
        let mode = conn.mode;
        if conn.window != self.window {
            conn.window = self.window;
            self.window_conns += 1;
        }
        self.window_receives += 1;
        // Half as many again before the many count as many: no switching to and fro.
        let many = self.window_conns > self.direct_max + self.direct_max / 2;
        if many || self.window_receives >= WINDOW_RECEIVES {
            if many {
                self.few = false;
            } else if self.window_conns <= self.direct_max {
                self.few = true;
            }
            self.choose_modes();
            self.window = self.window.wrapping_add(1);
            self.window_conns = 0;
            self.window_receives = 0;
        }
        if mode == Mode::Ring && self.few && self.direct.len() < self.direct_max {
            self.enter_mode(index, Mode::Direct);
        } else if mode == Mode::Direct && !self.few {
            self.enter_mode(index, Mode::Ring);
        }
    }

    /// Sends the directly read connections back to the ring that have no reason to be so read:
    /// all of them when many are active, else those that were silent of late.
    fn choose_modes(&mut self) {
        let mut at = 0;
        while let Some(&index) = self.direct.get(at) {
            let (few, window) = (self.few, self.window);
            let stays = self
                .conns
                .slot(index)
                .is_none_or(|conn| conn.flood > 0 || conn.state != State::Live || (few && conn.window == window));
            if stays {
                at += 1;
            } else {
                // The last of the list takes this place.
                self.enter_mode(index, Mode::Ring);
            }
        }
    }

    /// Reads a connection directly until it calms down.
    pub(super) fn flood(&mut self, index: u32) {
        if self.ring.is_none() {
            return;
        }
        if let Some(conn) = self.conns.slot(index)
            && conn.state == State::Live
        {
            conn.flood = FLOOD_CALM;
            self.enter_mode(index, Mode::Direct);
        }
    }

    /// Asks the kernel to end everything it does for a connection.
    pub(super) fn cancel_all(&mut self, index: u32) {
        let Some(conn) = self.conns.slot(index) else { return };
        let Some(ring) = self.ring.as_mut().filter(|_| conn.inflight > 0) else { return };
        if conn.inflight == 1 && conn.receive_armed {
            // By its number the kernel finds it at once; by the descriptor it looks through all there are, and as many
            // as are closed together would take the square of that.
            if !std::mem::replace(&mut conn.receive_cancelled, true) {
                ring.cancel(number(kind::RECEIVE, index));
            }
        } else {
            ring.cancel_fd(conn.raw_fd());
        }
    }

    /// Starts, or asks to end, the ring's receive of a connection.
    pub(super) fn update_ring_receive(&mut self, index: u32, wanted: bool) {
        let (Some(conn), Some(ring)) = (self.conns.slot(index), &mut self.ring) else { return };
        if wanted && !conn.receive_armed {
            conn.receive_armed = true;
            conn.inflight += 1;
            ring.receive(conn.raw_fd(), index);
        } else if !wanted && conn.receive_armed && !conn.receive_cancelled && conn.state != State::Dying {
            conn.receive_cancelled = true;
            ring.cancel(number(kind::RECEIVE, index));
        }
    }

    /// The identity now in a slot.
    pub(super) fn id(&self, index: u32) -> ConnId {
        self.conns.id(index)
    }
}
