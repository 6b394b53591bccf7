//! Waking a parked transport from another thread: a flag that costs a spinning loop one load, and
//! an eventfd that ends a wait.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The shared half of a waker.
#[derive(Debug)]
pub(crate) struct Bell {
    rung: AtomicBool,
    fd: OwnedFd,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is used.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Bell { rung: AtomicBool::new(false), fd })
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Whether somebody rang since [`Bell::answer`].
    pub(crate) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    /// Takes the ring back; true if there was one. The flag goes first and the descriptor after
    /// it: somebody who rings in between finds the flag clear, so writes again, and at worst a
    /// wait ends once for nothing.
    pub(crate) fn answer(&self) -> bool {
        let rung = self.rung.swap(false, Ordering::AcqRel);
        let mut count = 0u64;
        // SAFETY: eight bytes are written to `count`, which lives across the call; the descriptor
        // does not block.
        unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut count).cast(), 8) };
        rung
    }
}

impl tercel_transport::Wake for Bell {
    fn wake(&self) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let one = 1u64;
        // SAFETY: eight bytes are read from `one`, which lives across the call. A full counter
        // (EAGAIN) is as good as a successful write.
        unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), 8) };
    }
}
