//! Dialling. The call itself never waits; what it leaves open is told by the ring or by epoll when the socket is
//! writable, and given up when its time is over. A dialled connection is the executor's from the start: what it
//! sends meanwhile stays in the outbox.

use std::time::{Duration, Instant};

use tercel_transport::{Address, ConnId, ConnectError, ConnectOptions, Event, RECEIVE_LIMIT_DEFAULT};

use super::{EventLoop, now};
use crate::conns::{Dialling, Mode, State};
use crate::socket::{self, Answer};
use crate::uring::{self, Completion};

/// How soon a unix listener whose queue is full is tried again: nobody tells when there is room.
const QUEUE_FULL_REST: Duration = Duration::from_millis(5);
/// Longer than this nobody waits; what a caller's longer time is cut to.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

impl EventLoop {
    pub(crate) fn connect(&mut self, to: &Address, options: &ConnectOptions) -> Result<ConnId, ConnectError> {
        let (fd, addr) = socket::to_dial(to, options.source, self.options.keepalive_seconds)?;
        let peer = socket::dialled_peer(&fd, to);
        let id = self.conns.insert(fd, peer, None, RECEIVE_LIMIT_DEFAULT);
        let deadline = now() + options.timeout.min(TIMEOUT_MAX);
        if let Some(conn) = self.conns.slot(id.index) {
            conn.dial = Some(Box::new(Dialling { addr, to: to.clone(), deadline, again_at: None }));
        }
        self.dialling.push(id.index);
        self.try_dial(id.index);
        self.renew_dial_due();
        Ok(id)
    }

    /// Asks the kernel to connect. What is decided at once is told with the next poll.
    fn try_dial(&mut self, index: u32) {
        let Some(conn) = self.conns.slot(index) else { return };
        let (Some(fd), Some(dial)) = (&conn.fd, &mut conn.dial) else { return };
        self.stats.kernel_entries += 1;
        match socket::connect(fd, &dial.addr) {
            Answer::Stands => self.dial_stands(index),
            Answer::Open => {
                dial.again_at = None;
                // Only now it is known which of our addresses it comes from.
                conn.peer = socket::dialled_peer(fd, &dial.to);
                self.watch_dial(index);
            }
            Answer::QueueFull => dial.again_at = Some(now() + QUEUE_FULL_REST),
            Answer::Failed(errno) => self.dial_failed(index, errno),
        }
    }

    /// Has the kernel tell when a dial is decided.
    fn watch_dial(&mut self, index: u32) {
        let Some(ring) = &mut self.ring else { return self.update_interest(index) };
        if let Some(conn) = self.conns.slot(index) {
            ring.poll_writable(conn.raw_fd(), uring::kind::CONNECT, index);
            conn.inflight += 1;
        }
    }

    /// The ring's answer to [`EventLoop::watch_dial`].
    pub(super) fn dial_completed(&mut self, done: Completion, events: &mut Vec<Event>) {
        let index = done.index();
        let Some(conn) = self.conns.slot(index) else { return };
        conn.inflight = conn.inflight.saturating_sub(1);
        if !self.dial_answered(index, events) {
            self.watch_dial(index);
        }
        self.release_slot(index);
    }

    /// The kernel says that a dial may be decided; false if it is not.
    pub(super) fn dial_answered(&mut self, index: u32, events: &mut Vec<Event>) -> bool {
        let Some(conn) = self.conns.slot(index) else { return true };
        // One that was given up or closed meanwhile has no dial any more.
        let (Some(fd), Some(_)) = (&conn.fd, &conn.dial) else { return true };
        match socket::answer(fd) {
            Answer::Stands => self.dial_stands(index),
            Answer::Failed(errno) => self.dial_failed(index, errno),
            Answer::Open | Answer::QueueFull => return false,
        }
        events.append(&mut self.pending);
        true
    }

    /// It stands: from here on it is a connection as any other.
    fn dial_stands(&mut self, index: u32) {
        let dial = self.end_dial(index);
        let Some(conn) = self.conns.slot(index) else { return };
        let Some(fd) = &conn.fd else { return };
        // The ring waits on blocking sockets only; direct calls say each time that they do not.
        if let Err(error) = socket::set_blocking(fd) {
            return self.broke(index, error.raw_os_error().unwrap_or(0));
        }
        if let Some(dial) = dial {
            conn.peer = socket::dialled_peer(fd, &dial.to);
        }
        if conn.state == State::Live {
            self.stats.connected += 1;
            let id = ConnId { index, generation: conn.generation };
            self.pending.push(Event::Connected(id));
        }
        let has_unsent = !conn.outbox.is_empty();
        let mode = if self.ring.is_some() { Mode::Ring } else { Mode::Direct };
        self.enter_mode(index, mode);
        if has_unsent {
            self.start_send(index);
        }
    }

    fn dial_failed(&mut self, index: u32, errno: i32) {
        self.end_dial(index);
        self.broke(index, errno);
    }

    /// Takes a connection off the list of dials, if it is there.
    pub(super) fn end_dial(&mut self, index: u32) -> Option<Box<Dialling>> {
        let dial = self.conns.slot(index)?.dial.take()?;
        if let Some(at) = self.dialling.iter().position(|other| *other == index) {
            self.dialling.swap_remove(at);
        }
        if self.dialling.is_empty() {
            self.dial_due = None;
        }
        Some(dial)
    }

    fn renew_dial_due(&mut self) {
        let mut due: Option<Instant> = None;
        for &index in &self.dialling {
            if let Some(dial) = self.conns.slot(index).and_then(|conn| conn.dial.as_ref()) {
                let next = dial.again_at.map_or(dial.deadline, |again| again.min(dial.deadline));
                due = Some(due.map_or(next, |due| due.min(next)));
            }
        }
        self.dial_due = due;
    }

    /// Gives up the dials whose time is over, and tries those again that found a full queue.
    pub(super) fn meet_dials(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(&index) = self.dialling.get(at) {
            let Some(dial) = self.conns.slot(index).and_then(|conn| conn.dial.as_ref()) else { break };
            if dial.deadline <= now {
                self.dial_failed(index, libc::ETIMEDOUT);
            } else if dial.again_at.is_some_and(|again| again <= now) {
                self.try_dial(index);
            }
            // One that is decided has been replaced by the last of the list.
            if self.dialling.get(at) == Some(&index) {
                at += 1;
            }
        }
        self.renew_dial_due();
    }
}
