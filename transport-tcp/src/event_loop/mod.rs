//! The event loop behind [`crate::TcpTransport`]: one connection table served in two ways.
//!
//! *Direct*: the connection is in the epoll set and is read by a plain call, at once and into its
//! own buffer. The cheapest way for few busy connections, the only one without io_uring, and the
//! one with exact back-pressure, so that a flood is served by it too.
//! *Ring*: a multishot receive is armed and bytes arrive in the provided ring's buffers. The
//! cheapest way for many.
//!
//! This file holds the state and the turn (poll, park, flush); `accept`, `connect`, `receive`, `send`
//! and `close` hold what the turn does. Knows nothing of RESP or commands.

mod accept;
mod close;
mod completions;
mod connect;
mod receive;
mod send;

use std::collections::VecDeque;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tercel_transport::{ConnId, Event, Stats, TxBuf};

use crate::conns::Conns;
use crate::epoll::{self, Epoll};
use crate::pool::Pool;
use crate::uring::{self, Ring};
use crate::wake::Bell;
use crate::{Backend, Error, TcpOptions};

pub(crate) use accept::ListenSlot;

/// Directly read connections up to this number are simply tried one by one while spinning: a call
/// each is cheaper than asking epoll first.
const SPIN_DIRECT_MAX: usize = 8;
/// Active connections up to this number are read directly even where there is a ring.
const DIRECT_MAX: usize = 8;
/// While they are, epoll (for listeners and everything else) is asked every so many polls.
const SPIN_EPOLL_EVERY: u64 = 32;

/// What an epoll token or a completion is about: the upper half of the token.
pub(crate) mod kind {
    pub(crate) const CONN: u64 = 0;
    pub(crate) const LISTENER: u64 = 1;
    pub(crate) const BELL: u64 = 2;
    pub(crate) const WATCH: u64 = 3;
    pub(crate) const RING: u64 = 4;
}

/// Builds a token.
pub(crate) fn token(kind: u64, index: u32) -> u64 {
    kind << 32 | u64::from(index)
}

/// The time, for the few deadlines a transport has of its own (draining, accepting again).
#[allow(clippy::disallowed_methods)] // The seam hands no time down, and no data depends on this one.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A connection that is leaving and until when it may.
struct Leaving {
    deadline: Instant,
    index: u32,
    generation: u32,
}

/// All state of one transport.
pub(crate) struct EventLoop {
    pub(crate) options: TcpOptions,
    pub(crate) conns: Conns,
    pub(crate) pool: Pool,
    pub(crate) epoll: Epoll,
    /// `None` where io_uring is not wanted or not usable.
    pub(crate) ring: Option<Ring>,
    /// Why there is no ring, if one was wanted.
    pub(crate) ring_refused: Option<String>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) listeners: Vec<Option<ListenSlot>>,
    pub(crate) watched: Vec<RawFd>,
    pub(crate) stats: Stats,
    /// Events found outside a poll.
    pending: Vec<Event>,
    /// Connections to start sending for at the next flush.
    dirty: Vec<u32>,
    /// Connections in mode `Direct`.
    direct: Vec<u32>,
    /// Connections whose unconsumed bytes lie in a ring buffer.
    leased: Vec<u32>,
    /// Connections whose receive found no free buffer.
    starved: Vec<u32>,
    /// Watched descriptors, and the bell, whose poll has reported.
    rearm_watch: Vec<u32>,
    rearm_bell: bool,
    /// The ring signals what it has, and the epoll set watches for that.
    ring_in_epoll: bool,
    /// How many active connections count as few, and are read directly despite the ring.
    pub(crate) direct_max: usize,
    /// Few connections are active.
    few: bool,
    /// The current window of receives: its number, its length so far, and how many connections
    /// took part.
    window: u32,
    window_receives: u32,
    window_conns: usize,
    /// Connections that drain, soonest deadline first.
    leaving: VecDeque<Leaving>,
    /// Connections that do not stand yet, and when the first of them has to be looked at.
    dialling: Vec<u32>,
    dial_due: Option<Instant>,
    /// When listeners that ran out of descriptors are tried again.
    accept_again: Option<Instant>,
    polls: u64,
    spinning: bool,
    /// A park has asked epoll and the next poll takes what it brought.
    asked: bool,
    /// The last poll left epoll alone, trusting that a park follows.
    skipped: bool,
    /// A wake was seen in this poll.
    woken: bool,
}

impl EventLoop {
    pub(crate) fn new(options: TcpOptions) -> Result<Self, Error> {
        let (ring, ring_refused) = match options.backend {
            Backend::Epoll => (None, None),
            Backend::Auto | Backend::IoUring => {
                match Ring::new(options.receive_buffers, options.receive_buffer_bytes) {
                    Ok(ring) => (Some(ring), None),
                    Err(reason) if options.backend == Backend::IoUring => return Err(Error::IoUring { reason }),
                    Err(reason) => (None, Some(reason)),
                }
            }
        };
        let epoll = Epoll::new().map_err(|source| Error::Setup { what: "an epoll descriptor", source })?;
        let bell = Bell::new().map_err(|source| Error::Setup { what: "an eventfd", source })?;
        epoll
            .add(bell.raw_fd(), epoll::IN, token(kind::BELL, 0))
            .map_err(|source| Error::Setup { what: "an epoll registration", source })?;
        Ok(EventLoop {
            conns: Conns::with_capacity(options.max_connections_hint),
            pool: Pool::new(options.receive_buffer_bytes),
            options,
            epoll,
            rearm_bell: ring.is_some(),
            ring,
            ring_refused,
            bell: Arc::new(bell),
            listeners: Vec::new(),
            watched: Vec::new(),
            stats: Stats::default(),
            pending: Vec::new(),
            dirty: Vec::new(),
            direct: Vec::new(),
            leased: Vec::new(),
            starved: Vec::new(),
            rearm_watch: Vec::new(),
            ring_in_epoll: false,
            direct_max: DIRECT_MAX,
            few: true,
            window: 1,
            window_receives: 0,
            window_conns: 0,
            leaving: VecDeque::new(),
            dialling: Vec::new(),
            dial_due: None,
            accept_again: None,
            polls: 0,
            spinning: false,
            asked: false,
            skipped: false,
            woken: false,
        })
    }

    /// Collects what happened.
    pub(crate) fn poll(&mut self, events: &mut Vec<Event>) {
        self.polls += 1;
        self.woken = false;
        // A dial that is decided here is told of before anything that the connection brings.
        self.meet_deadlines();
        events.append(&mut self.pending);
        if self.bell.is_rung() {
            self.answer_bell(events);
        }
        if self.ring.is_some() {
            self.poll_ring(events);
        }
        self.poll_direct(events);
        // What was found on the way (a send that failed, say) belongs to this poll too.
        events.append(&mut self.pending);
    }

    fn poll_direct(&mut self, events: &mut Vec<Event>) {
        if self.asked {
            self.asked = false;
            self.skipped = false;
            self.take_reports(events);
            return;
        }
        if self.ring.is_some() && self.direct.is_empty() {
            return;
        }
        if self.spinning {
            let few = (1..=SPIN_DIRECT_MAX).contains(&self.direct.len());
            if few && (self.ring.is_some() || !self.polls.is_multiple_of(SPIN_EPOLL_EVERY)) {
                self.try_direct(events);
                return;
            }
        } else if !self.skipped {
            // A loop that sleeps polls once more after it served something, and then parks, which
            // asks epoll anyway: asking here as well would cost a call per request. A loop that
            // does not park is served by its next poll.
            self.skipped = true;
            return;
        }
        self.skipped = false;
        self.ask_epoll(Some(Duration::ZERO));
        self.take_reports(events);
    }

    fn ask_epoll(&mut self, timeout: Option<Duration>) {
        self.stats.kernel_entries += 1;
        self.epoll.wait(timeout);
    }

    /// Reads every directly served connection once.
    fn try_direct(&mut self, events: &mut Vec<Event>) {
        let mut at = 0;
        while let Some(&index) = self.direct.get(at) {
            self.receive_direct(index, events);
            // A connection that ended has been replaced by the last of the list.
            if self.direct.get(at) == Some(&index) {
                at += 1;
            }
        }
    }

    /// Acts on what epoll reported.
    fn take_reports(&mut self, events: &mut Vec<Event>) {
        for at in 0..self.epoll.reports() {
            let report = self.epoll.report(at);
            let index = report.token as u32;
            match report.token >> 32 {
                kind::CONN => self.conn_ready(index, report.flags, events),
                kind::LISTENER => self.accept_ready(index, events),
                kind::BELL => self.answer_bell(events),
                kind::WATCH => self.wake(events),
                // The ring: looked at by every poll anyway.
                _ => {}
            }
        }
        self.epoll.clear();
    }

    fn conn_ready(&mut self, index: u32, flags: u32, events: &mut Vec<Event>) {
        let Some(conn) = self.conns.slot(index) else { return };
        let is_writable = flags & (epoll::OUT | epoll::BROKEN) != 0 && conn.interest & epoll::OUT != 0;
        if conn.dial.is_some() {
            if is_writable {
                self.dial_answered(index, events);
            }
            return;
        }
        if is_writable {
            self.start_send(index);
        }
        if flags & (epoll::IN | epoll::BROKEN) != 0 {
            self.receive_direct(index, events);
        }
    }

    fn answer_bell(&mut self, events: &mut Vec<Event>) {
        if self.bell.answer() {
            self.wake(events);
        }
    }

    /// Reports a wake, once a poll.
    fn wake(&mut self, events: &mut Vec<Event>) {
        if !self.woken {
            self.woken = true;
            events.push(Event::Wake);
        }
    }

    /// Sleeps until something may be ready.
    pub(crate) fn park(&mut self, timeout: Option<Duration>) {
        if !self.pending.is_empty() || self.bell.is_rung() || self.epoll.has_reports() {
            return;
        }
        let timeout = self.sooner(timeout);
        if self.ring.is_some() && self.park_ring(timeout) {
            return;
        }
        self.ask_epoll(timeout);
        self.asked = true;
    }

    /// Sleeps in the ring; false if epoll must be slept in instead, because connections are read
    /// directly. It then watches the ring, too.
    fn park_ring(&mut self, timeout: Option<Duration>) -> bool {
        let Some(ring) = &mut self.ring else { return false };
        // Whatever waits to be armed again would not end the sleep.
        if !ring.arrived.is_empty() || !self.starved.is_empty() || !self.rearm_watch.is_empty() || self.rearm_bell {
            return true;
        }
        if self.direct.is_empty() {
            if self.ring_in_epoll {
                self.ring_in_epoll = false;
                self.epoll.remove(ring.signal_fd());
                ring.set_signalling(false);
            }
            ring.reap();
            if ring.arrived.is_empty() {
                ring.wait(timeout);
            }
            return true;
        }
        if ring.has_queued() {
            ring.submit();
        }
        ring.reap();
        if !ring.arrived.is_empty() || ring.wants_entry() {
            return true;
        }
        if !self.ring_in_epoll {
            self.ring_in_epoll = ring.set_signalling(true)
                && self.epoll.add(ring.signal_fd(), epoll::IN | epoll::EDGE, token(kind::RING, 0)).is_ok();
            // What came before the signal was on gave none: look again before sleeping. A set that
            // cannot take the signal is never slept in.
            return true;
        }
        false
    }

    /// The time to sleep, cut short by the transport's own deadlines.
    fn sooner(&self, timeout: Option<Duration>) -> Option<Duration> {
        let leaving = self.leaving.front().map(|leaving| leaving.deadline);
        let Some(deadline) = [leaving, self.accept_again, self.dial_due].into_iter().flatten().min() else {
            return timeout;
        };
        let left = deadline.saturating_duration_since(now());
        Some(timeout.map_or(left, |timeout| timeout.min(left)))
    }

    fn meet_deadlines(&mut self) {
        if self.leaving.is_empty() && self.accept_again.is_none() && self.dial_due.is_none() {
            return;
        }
        let now = now();
        self.end_overdue(now);
        if self.accept_again.is_some_and(|again| again <= now) {
            self.accept_again = None;
            self.resume_accept();
        }
        if self.dial_due.is_some_and(|due| due <= now) {
            self.meet_dials(now);
        }
    }

    /// The counters, with the ring's own.
    pub(crate) fn stats(&self) -> Stats {
        let entries = self.ring.as_ref().map_or(0, |ring| ring.entries);
        Stats { kernel_entries: self.stats.kernel_entries + entries, ..self.stats }
    }

    pub(crate) fn set_spinning(&mut self, spinning: bool) {
        self.spinning = spinning;
    }

    /// Queues a buffer; it starts on its way at the next flush.
    pub(crate) fn send(&mut self, id: ConnId, buf: TxBuf) {
        let Some(conn) = self.conns.find_mut(id) else {
            self.pool.return_tx(buf);
            return;
        };
        if buf.is_empty() || conn.broken {
            self.pool.return_tx(buf);
            return;
        }
        conn.outbox.push(buf, &mut self.pool);
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(id.index);
        }
    }

    /// Starts everything queued since the last flush.
    pub(crate) fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for &index in &dirty {
            if let Some(conn) = self.conns.slot(index)
                && std::mem::take(&mut conn.dirty)
            {
                self.start_send(index);
            }
        }
        if let Some(ring) = &mut self.ring
            && ring.has_queued()
        {
            ring.submit();
            self.complete_sends();
            for &index in &dirty {
                self.mark_blocked(index);
            }
        }
        dirty.clear();
        self.dirty = dirty;
    }

    /// Reports the readability of a descriptor of somebody else's as a wake.
    pub(crate) fn watch(&mut self, fd: RawFd) {
        self.watched.push(fd);
        let index = (self.watched.len() - 1) as u32;
        if self.ring.is_some() {
            self.rearm_watch.push(index);
            return;
        }
        // A descriptor that cannot be watched (closed, or a plain file) is the caller's mistake
        // and harms nobody else.
        let _ = self.epoll.add(fd, epoll::IN, token(kind::WATCH, index));
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        let Some(mut ring) = self.ring.take() else { return };
        if ring.quiesce() {
            for completion in ring.arrived.drain(..) {
                if completion.kind() == uring::kind::ACCEPT && completion.result >= 0 {
                    // SAFETY: the kernel made this descriptor for us and nobody else has it.
                    drop(unsafe { OwnedFd::from_raw_fd(completion.result) });
                }
            }
        } else {
            // The kernel may still read from or write to what it was lent: better lost than freed.
            std::mem::forget(std::mem::take(&mut self.conns));
            std::mem::forget(ring);
        }
    }
}
