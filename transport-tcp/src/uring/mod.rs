//! The io_uring: submissions, completions, the provided buffers, and the start-up test that finds
//! out what this kernel does. Knows descriptors and numbers, not connections.
//!
//! The ring is set up with SINGLE_ISSUER and DEFER_TASKRUN: completions are brought about only
//! when this thread enters the kernel asking for them. A spinning loop therefore watches the
//! TASKRUN flag, which costs one load, and enters only when it is up.

mod buffers;
mod ops;
mod probe;

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::wake::Bell;
use buffers::Buffers;
pub(crate) use ops::Ops;

/// Submissions queued before the kernel is entered.
const SUBMISSIONS: u32 = 512;
/// Completions the kernel can post before it has to set some aside.
const COMPLETIONS: u32 = 4096;
/// The one group of provided buffers.
const GROUP: u16 = 0;

/// What a completion is about: the upper part of its number.
pub(crate) mod kind {
    /// Nobody waits for it (a cancellation).
    pub(crate) const IGNORE: u64 = 0;
    /// A connection's receive.
    pub(crate) const RECEIVE: u64 = 1;
    /// A connection's send of one plain piece.
    pub(crate) const SEND: u64 = 2;
    /// A send described by an operation.
    pub(crate) const SEND_OP: u64 = 3;
    /// A send without copy, described by an operation.
    pub(crate) const SEND_ZC: u64 = 4;
    /// A listener's accept.
    pub(crate) const ACCEPT: u64 = 5;
    /// The waker.
    pub(crate) const BELL: u64 = 6;
    /// A watched descriptor.
    pub(crate) const WATCH: u64 = 7;
    /// A dial that is decided.
    pub(crate) const CONNECT: u64 = 8;
}

/// The kernel reports with the notification that it copied after all.
pub(crate) const ZC_COPIED: u32 = 1 << 31;
/// Asks for that report.
const ZC_REPORT_USAGE: u16 = 1 << 3;

/// The number of an operation of some kind about some index.
pub(crate) fn number(kind: u64, index: u32) -> u64 {
    kind << 32 | u64::from(index)
}

/// A completion taken off the ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) number: u64,
    pub(crate) result: i32,
    flags: u32,
}

impl Completion {
    /// More completions of the same operation will follow.
    pub(crate) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The buffer the kernel filled.
    pub(crate) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// The second completion of a send without copy: the bytes are ours again.
    pub(crate) fn is_notification(&self) -> bool {
        cqueue::notif(self.flags)
    }

    /// Which kind of operation.
    pub(crate) fn kind(&self) -> u64 {
        self.number >> 32
    }

    /// Its index.
    pub(crate) fn index(&self) -> u32 {
        self.number as u32
    }
}

/// One io_uring with its buffers.
pub(crate) struct Ring {
    ring: IoUring,
    buffers: Buffers,
    pub(crate) ops: Ops,
    /// Submissions that found the queue full.
    backlog: VecDeque<squeue::Entry>,
    /// Submissions that the kernel has not seen.
    queued: usize,
    /// Operations whose last completion is outstanding.
    inflight: usize,
    /// Completions taken off the ring and not yet handled.
    pub(crate) arrived: VecDeque<Completion>,
    /// Times the kernel was entered.
    pub(crate) entries: u64,
    /// Rung by the kernel, never answered: only its edges count.
    signal: Bell,
    pub(crate) has_send_zc: bool,
    /// Cleared when the kernel (before 6.2) does not know the report.
    pub(crate) reports_copies: bool,
    /// The features found, for the log.
    pub(crate) features: String,
}

impl Ring {
    /// What becomes readable, edge by edge, while signalling is on.
    pub(crate) fn signal_fd(&self) -> RawFd {
        self.signal.raw_fd()
    }

    /// Has the kernel signal when there is something to enter or reap for; false if it will not.
    /// Who waits for the ring's own descriptor is not told of deferred work: DEFER_TASKRUN leaves
    /// that to the thread that enters. For whoever sleeps elsewhere than in the ring this is the way.
    pub(crate) fn set_signalling(&mut self, on: bool) -> bool {
        let submitter = self.ring.submitter();
        let done = if on { submitter.register_eventfd(self.signal.raw_fd()) } else { submitter.unregister_eventfd() };
        done.is_ok()
    }

    /// Queues a submission.
    ///
    /// # Safety
    /// What the entry points to stays where it is, and is not written, until the operation's last completion.
    unsafe fn push(&mut self, entry: squeue::Entry) {
        self.inflight += 1;
        self.queued += 1;
        if self.backlog.is_empty() && self.try_push(&entry) {
            return;
        }
        self.backlog.push_back(entry);
        self.submit();
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: entries come from `push`, whose callers answer for what they point to. A descriptor that were
        // closed would be an error's matter, not memory's.
        unsafe { self.ring.submission().push(entry).is_ok() }
    }

    fn drain_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                break;
            }
        }
    }

    /// Whether submissions wait for the doorbell.
    pub(crate) fn has_queued(&self) -> bool {
        self.queued > 0
    }

    /// Rings the doorbell and brings about what is ready, without waiting.
    pub(crate) fn submit(&mut self) {
        // Each round empties the queue into the kernel, so the backlog shrinks; a kernel that
        // takes nothing is asked again at the next turn.
        for _ in 0..=self.backlog.len().div_ceil(SUBMISSIONS as usize) {
            self.enter(0, Some(Duration::ZERO));
            if self.backlog.is_empty() {
                break;
            }
            self.drain_backlog();
        }
    }

    /// Enters the kernel; waits for `want` completions, at most `timeout`.
    fn enter(&mut self, want: usize, timeout: Option<Duration>) {
        self.entries += 1;
        let submitter = self.ring.submitter();
        let result = match timeout {
            Some(limit) if want > 0 => {
                let spec = Timespec::new().sec(limit.as_secs()).nsec(limit.subsec_nanos());
                submitter.submit_with_args(want, &SubmitArgs::new().timespec(&spec))
            }
            _ => submitter.submit_and_wait(want),
        };
        // Interrupted, timed out or told to reap first: the caller reaps and comes back. What was
        // not taken stays queued.
        let _ = result;
        self.queued = self.ring.submission().len() + self.backlog.len();
    }

    /// Whether an entry would bring something: deferred work is ready, completions were set aside,
    /// or submissions wait.
    pub(crate) fn wants_entry(&mut self) -> bool {
        if self.queued > 0 {
            return true;
        }
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Takes what has completed off the ring.
    pub(crate) fn reap(&mut self) {
        for entry in self.ring.completion() {
            if let Some(id) = cqueue::buffer_select(entry.flags()) {
                self.buffers.came_back(id);
            }
            if !cqueue::more(entry.flags()) {
                self.inflight = self.inflight.saturating_sub(1);
            }
            self.arrived.push_back(Completion {
                number: entry.user_data(),
                result: entry.result(),
                flags: entry.flags(),
            });
        }
    }

    /// Submits, then waits for a completion.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) {
        self.drain_backlog();
        self.enter(1, timeout);
    }

    /// Arms a receive that goes on until it is cancelled, fails or finds no buffer.
    pub(crate) fn receive(&mut self, fd: RawFd, index: u32) {
        let entry = opcode::RecvMulti::new(Fd(fd), GROUP).build();
        // SAFETY: the bytes go into provided buffers, which live as long as the ring.
        unsafe { self.push(entry.user_data(number(kind::RECEIVE, index))) };
    }

    /// Sends one piece, or as much of it as the socket takes: waiting for the whole (MSG_WAITALL) would
    /// hide from the executor how far a slow reader has come.
    ///
    /// # Safety
    /// The bytes stay where they are and are not changed until the completion.
    pub(crate) unsafe fn send(&mut self, fd: RawFd, index: u32, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(fd), bytes.as_ptr(), len).flags(libc::MSG_NOSIGNAL).build();
        // SAFETY: passed on to the caller.
        unsafe { self.push(entry.user_data(number(kind::SEND, index))) };
    }

    /// Sends the pieces of an operation.
    ///
    /// # Safety
    /// `header` is from [`ops::Op::set_pieces`] of operation `op`, which is released only after the completion,
    /// and the pieces stay where they are and are not changed until then.
    pub(crate) unsafe fn send_message(&mut self, fd: RawFd, op: u32, header: *const libc::msghdr) {
        let entry = opcode::SendMsg::new(Fd(fd), header).flags(libc::MSG_NOSIGNAL as u32).build();
        // SAFETY: passed on to the caller.
        unsafe { self.push(entry.user_data(number(kind::SEND_OP, op))) };
    }

    /// Sends `len` bytes without a copy.
    ///
    /// # Safety
    /// Operation `op` holds the bytes at `address`, and is released only after the completion after which no
    /// other follows: the notification, if there is one.
    pub(crate) unsafe fn send_zero_copy(&mut self, fd: RawFd, op: u32, address: *const u8, len: u32) {
        let usage = if self.reports_copies { ZC_REPORT_USAGE } else { 0 };
        let entry = opcode::SendZc::new(Fd(fd), address, len).flags(libc::MSG_NOSIGNAL).zc_flags(usage).build();
        // SAFETY: passed on to the caller.
        unsafe { self.push(entry.user_data(number(kind::SEND_ZC, op))) };
    }

    /// Arms an accept that goes on until it is cancelled or fails.
    pub(crate) fn accept(&mut self, fd: RawFd, index: u32) {
        let entry = opcode::AcceptMulti::new(Fd(fd)).flags(libc::SOCK_CLOEXEC).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.push(entry.user_data(number(kind::ACCEPT, index))) };
    }

    /// Reports once when a descriptor is readable.
    pub(crate) fn poll_readable(&mut self, fd: RawFd, kind: u64, index: u32) {
        let entry = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.push(entry.user_data(number(kind, index))) };
    }

    /// Reports once when a descriptor is writable, or broken.
    pub(crate) fn poll_writable(&mut self, fd: RawFd, kind: u64, index: u32) {
        let entry = opcode::PollAdd::new(Fd(fd), libc::POLLOUT as u32).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.push(entry.user_data(number(kind, index))) };
    }

    /// Asks the operation with this number to end; it still completes.
    pub(crate) fn cancel(&mut self, target: u64) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(target)).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.push(entry.user_data(number(kind::IGNORE, 0))) };
    }

    /// Asks every operation on a descriptor to end; they still complete.
    pub(crate) fn cancel_fd(&mut self, fd: RawFd) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::fd(Fd(fd)).all()).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.push(entry.user_data(number(kind::IGNORE, 0))) };
    }

    /// The content of a filled buffer.
    pub(crate) fn buffer(&self, id: u16, len: usize) -> &[u8] {
        self.buffers.slice(id, len)
    }

    /// Gives a buffer back to the kernel.
    pub(crate) fn give_buffer(&mut self, id: u16) {
        self.buffers.give(id);
    }

    /// Lends the kernel more buffers, if there are more.
    pub(crate) fn grow_buffers(&mut self) -> bool {
        self.buffers.grow()
    }

    /// Ends every operation and waits until the kernel has let go of all memory, for a second at
    /// most. False if it has not: what was lent must then never be freed.
    pub(crate) fn quiesce(&mut self) -> bool {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.push(entry.user_data(number(kind::IGNORE, 0))) };
        for _ in 0..20 {
            self.reap();
            if self.inflight == 0 {
                return true;
            }
            self.wait(Some(Duration::from_millis(50)));
        }
        self.reap();
        self.inflight == 0
    }
}

impl Ring {
    /// Sets a ring up and tries it out.
    ///
    /// # Errors
    /// With the reason as text: refused (seccomp, a sysctl), or a feature is missing.
    pub(crate) fn new(buffers: u16, buffer_bytes: usize) -> Result<Self, String> {
        let refused = |what: &str, error: io::Error| format!("{what}: {error}");
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => "io_uring_setup: SINGLE_ISSUER and DEFER_TASKRUN need Linux 6.1".to_owned(),
                _ => refused("io_uring_setup", error),
            })?;
        let has_send_zc = probe::operations(&ring)?;
        let buffers = Buffers::new(buffers, buffer_bytes).map_err(|error| refused("receive buffers", error))?;
        let (address, count) = buffers.registration();
        // SAFETY: the entries' memory is page-aligned, holds `count` entries and lives as long as
        // the ring: both are fields of the same structure, which is leaked rather than dropped
        // while the kernel may still use them.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0) }
            .map_err(|error| refused("provided-buffer ring", error))?;
        let mut ring = Ring {
            ring,
            buffers,
            ops: Ops::default(),
            backlog: VecDeque::new(),
            queued: 0,
            inflight: 0,
            arrived: VecDeque::with_capacity(256),
            entries: 0,
            signal: Bell::new().map_err(|error| refused("an eventfd", error))?,
            has_send_zc,
            reports_copies: true,
            features: String::new(),
        };
        ring.grow_buffers();
        let tried = probe::try_receive(&mut ring);
        if let Err(reason) = tried {
            if !ring.quiesce() {
                std::mem::forget(ring);
            }
            return Err(reason);
        }
        ring.features = probe::describe(has_send_zc);
        Ok(ring)
    }
}
