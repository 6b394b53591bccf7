//! The readiness set: an epoll descriptor, what it reported last, and the wait. Knows descriptors
//! and tokens, not connections.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Events fetched by one wait at most; it also bounds the receive buffers one poll can take.
const EVENTS_MAX: usize = 256;

/// One report: the token given at registration and the epoll flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) token: u64,
    pub(crate) flags: u32,
}

pub(crate) const IN: u32 = libc::EPOLLIN as u32;
pub(crate) const OUT: u32 = libc::EPOLLOUT as u32;
/// Report only what is new since the last report.
pub(crate) const EDGE: u32 = libc::EPOLLET as u32;
/// Reported whether asked for or not.
pub(crate) const BROKEN: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

/// An epoll descriptor with its event buffer.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Box<[libc::epoll_event; EVENTS_MAX]>,
    len: usize,
    /// Cleared when the kernel turns out to lack nanosecond waits (before 5.11).
    has_pwait2: bool,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is used.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let events = Box::new([libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX]);
        Ok(Epoll { fd, events, len: 0, has_pwait2: true })
    }

    fn control(&self, op: i32, fd: RawFd, flags: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: flags, u64: token };
        // SAFETY: `event` lives across the call and the kernel does not keep the pointer.
        let result = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), op, fd, &mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Registers a descriptor, level-triggered unless the flags say [`EDGE`].
    pub(crate) fn add(&self, fd: RawFd, flags: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, flags, token)
    }

    /// Changes what a registered descriptor is watched for.
    pub(crate) fn modify(&self, fd: RawFd, flags: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, flags, token)
    }

    /// Takes a descriptor out; one that is not there is no error.
    pub(crate) fn remove(&self, fd: RawFd) {
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    /// Waits for readiness; `None` waits without limit. What came is read by [`Epoll::report`].
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) {
        self.len = 0;
        let max = EVENTS_MAX as i32;
        let mut result = -1;
        let mut tried = false;
        if let (Some(limit), true) = (timeout, self.has_pwait2)
            && !limit.is_zero()
        {
            let spec = libc::timespec {
                tv_sec: limit.as_secs().min(i32::MAX as u64) as libc::time_t,
                tv_nsec: limit.subsec_nanos().into(),
            };
            // SAFETY: the event buffer has `max` elements and lives across the call, as does
            // `spec`; the null signal mask leaves the mask alone and has the size 8 the kernel
            // asks for.
            result = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    self.fd.as_raw_fd(),
                    self.events.as_mut_ptr(),
                    max,
                    &spec as *const libc::timespec,
                    std::ptr::null::<libc::sigset_t>(),
                    8usize,
                )
            } as i32;
            tried = result >= 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EINTR);
            self.has_pwait2 = tried;
        }
        if !tried {
            // Rounded up: waking early would only mean to wait again.
            let millis =
                timeout.map_or(-1, |limit| i32::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
            // SAFETY: the event buffer has `max` elements and lives across the call.
            result = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), max, millis) };
        }
        // An interrupted wait brought nothing, which every caller takes as "early for no reason".
        self.len = usize::try_from(result).unwrap_or(0).min(EVENTS_MAX);
    }

    /// Whether reports are waiting to be taken.
    pub(crate) fn has_reports(&self) -> bool {
        self.len > 0
    }

    /// How many reports the last wait brought.
    pub(crate) fn reports(&self) -> usize {
        self.len
    }

    /// The report at `at`; an empty one past the end.
    pub(crate) fn report(&self, at: usize) -> Ready {
        if at >= self.len {
            return Ready { token: u64::MAX, flags: 0 };
        }
        let event = self.events[at];
        Ready { token: event.u64, flags: event.events }
    }

    /// Forgets the reports of the last wait.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}
