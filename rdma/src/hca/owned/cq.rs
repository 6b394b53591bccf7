//! Completion queues.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::rc::Rc;

use super::super::ffi;
use super::{Devices, made, set_nonblocking, told};

/// A completion queue with its channel.
pub struct Cq {
    pub(super) raw: NonNull<ffi::ibv_cq>,
    channel: NonNull<ffi::ibv_comp_channel>,
    pub(super) devices: Rc<Devices>,
    poll: unsafe extern "C" fn(*mut ffi::ibv_cq, c_int, *mut ffi::ibv_wc) -> c_int,
    notify: unsafe extern "C" fn(*mut ffi::ibv_cq, c_int) -> c_int,
}

impl Cq {
    /// On a device, for at least `depth` completions.
    ///
    /// # Errors
    /// The device has no more, or none of that size.
    pub fn new(devices: &Rc<Devices>, device: usize, depth: u32, vector: u32) -> io::Result<Rc<Cq>> {
        let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
        let ops = &devices.raw(device).ops;
        let (poll, notify) = (ops.poll_cq.ok_or_else(unsupported)?, ops.req_notify_cq.ok_or_else(unsupported)?);
        let context = devices.contexts[device].as_ptr();
        let api = devices.api;
        // SAFETY: an open context.
        let channel = made(unsafe { (api.ibv_create_comp_channel)(context) })?;
        // SAFETY: the channel was just made, and its descriptor belongs to it.
        let nonblocking = set_nonblocking(unsafe { BorrowedFd::borrow_raw(channel.as_ref().fd) });
        let raw = nonblocking.and_then(|()| {
            let (depth, vector) = (depth as c_int, vector as c_int);
            // SAFETY: an open context and a channel on it.
            made(unsafe { (api.ibv_create_cq)(context, depth, ptr::null_mut(), channel.as_ptr(), vector) })
        });
        match raw {
            Ok(raw) => Ok(Rc::new(Cq { raw, channel, devices: devices.clone(), poll, notify })),
            Err(error) => {
                // SAFETY: ours, and nothing uses it.
                unsafe { (api.ibv_destroy_comp_channel)(channel.as_ptr()) };
                Err(error)
            }
        }
    }

    /// Completions it holds at most.
    #[must_use]
    pub fn depth(&self) -> u32 {
        // SAFETY: ours until `drop`.
        u32::try_from(unsafe { self.raw.as_ref() }.cqe).unwrap_or(0)
    }

    /// The descriptor that is readable once something completed after [`Cq::arm`].
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel is ours until `drop`, and open so long.
        unsafe { BorrowedFd::borrow_raw(self.channel.as_ref().fd) }
    }

    /// Takes completions; how many.
    ///
    /// # Errors
    /// The queue is broken.
    pub fn poll(&self, into: &mut [ffi::ibv_wc]) -> io::Result<usize> {
        let room = c_int::try_from(into.len()).unwrap_or(c_int::MAX);
        // SAFETY: our queue, on whose device this function is, and room for that many.
        let count = unsafe { (self.poll)(self.raw.as_ptr(), room, into.as_mut_ptr()) };
        usize::try_from(count).map_err(|_| io::Error::other("the completion queue cannot be polled"))
    }

    /// Makes the next completion readable on the descriptor.
    ///
    /// # Errors
    /// The device's reason.
    pub fn arm(&self) -> io::Result<()> {
        // SAFETY: our queue, on whose device this function is.
        told(unsafe { (self.notify)(self.raw.as_ptr(), 0) })
    }

    /// Takes what made the descriptor readable.
    pub fn acknowledge(&self) {
        let mut count = 0;
        let (mut cq, mut context): (*mut ffi::ibv_cq, *mut c_void) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: our channel, whose descriptor does not block; only our queue uses it.
        while unsafe { (self.devices.api.ibv_get_cq_event)(self.channel.as_ptr(), &mut cq, &mut context) } == 0 {
            count += 1;
        }
        if count > 0 {
            // SAFETY: that many events of our queue were taken above.
            unsafe { (self.devices.api.ibv_ack_cq_events)(self.raw.as_ptr(), count) };
        }
    }
}

impl Drop for Cq {
    fn drop(&mut self) {
        // SAFETY: ours; queue pairs on it hold it, so there are none, and all events are acknowledged.
        unsafe {
            (self.devices.api.ibv_destroy_cq)(self.raw.as_ptr());
            (self.devices.api.ibv_destroy_comp_channel)(self.channel.as_ptr());
        }
    }
}
