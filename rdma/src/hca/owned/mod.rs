//! Owners of what the libraries hand out: each gives its thing back when it is dropped, and holds what
//! has to outlive it, so that nothing is given back while something rests on it. The functions here are
//! safe to call; what is unsafe about verbs ends in this file. All of it belongs to one thread.
//!
//! Registered bytes are borrowed from the region that holds them, so a region cannot go away under a
//! work request that is being built:
//!
//! ```compile_fail,E0505
//! # use tercel_rdma::hca::owned::Mr;
//! fn dropped_under_a_slice(region: Mr) -> u32 {
//!     let slice = region.slice(0, 8).unwrap();
//!     drop(region);
//!     slice.length()
//! }
//! ```
//!
//! and neither a region nor a queue pair can cross to another thread:
//!
//! ```compile_fail,E0277
//! # use tercel_rdma::hca::owned::Mr;
//! fn sent_away(region: Mr) {
//!     std::thread::spawn(move || drop(region));
//! }
//! ```

mod cm;
mod cq;
mod regions;

use std::ffi::{CStr, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::rc::Rc;

use super::ffi::{self, Api};
pub use cm::{CmId, EventChannel, RawCmEvent, Send};
pub use cq::Cq;
pub use regions::{Block, Heap, Mr, Slice};

/// What a call says that returns an error number, or -1 and `errno`.
fn told(result: c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        errno => Err(io::Error::from_raw_os_error(errno.abs())),
    }
}

fn made<T>(raw: *mut T) -> io::Result<NonNull<T>> {
    NonNull::new(raw).ok_or_else(io::Error::last_os_error)
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The devices there were when it was made, open.
pub struct Devices {
    pub(super) api: &'static Api,
    list: NonNull<*mut ffi::ibv_context>,
    pub(super) contexts: Vec<NonNull<ffi::ibv_context>>,
}

impl Devices {
    /// Opens them.
    ///
    /// # Errors
    /// There is none, or the kernel has no RDMA.
    pub fn open(api: &'static Api) -> io::Result<Rc<Devices>> {
        let mut count = 0;
        // SAFETY: `count` is a place for an int.
        let list = made(unsafe { (api.rdma_get_devices)(&mut count) })?;
        // SAFETY: the list has `count` entries and stays until `drop`.
        let entries = unsafe { std::slice::from_raw_parts(list.as_ptr(), usize::try_from(count).unwrap_or(0)) };
        let contexts = entries.iter().filter_map(|entry| NonNull::new(*entry)).collect();
        let devices = Devices { api, list, contexts };
        for context in 0..devices.contexts.len() {
            set_nonblocking(devices.async_fd(context))?;
        }
        Ok(Rc::new(devices))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contexts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.contexts.is_empty()
    }

    pub(super) fn raw(&self, device: usize) -> &ffi::ibv_context {
        // SAFETY: the library keeps the context open and in place as long as the list is held.
        unsafe { self.contexts[device].as_ref() }
    }

    /// A device's name, as `ibv_devices` lists it.
    #[must_use]
    pub fn name(&self, device: usize) -> String {
        // SAFETY: the device of an open context is there, and so is its name.
        let name = unsafe { (self.api.ibv_get_device_name)(self.raw(device).device) };
        if name.is_null() {
            return String::new();
        }
        // SAFETY: a C string of the library's, at least until the device is closed.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }

    /// Completions a completion queue of a device holds at most.
    #[must_use]
    pub fn cqe_max(&self, device: usize) -> u32 {
        let mut attr = MaybeUninit::<ffi::ibv_device_attr>::zeroed();
        // SAFETY: an open context and a place for its attributes.
        let result = unsafe { (self.api.ibv_query_device)(self.contexts[device].as_ptr(), attr.as_mut_ptr()) };
        // SAFETY: numbers, of which zero is one.
        let attr = unsafe { attr.assume_init() };
        if result == 0 { u32::try_from(attr.max_cqe).unwrap_or(0) } else { 0 }
    }

    /// Completion vectors of a device.
    #[must_use]
    pub fn completion_vectors(&self, device: usize) -> u32 {
        u32::try_from(self.raw(device).num_comp_vectors).unwrap_or(0)
    }

    /// The descriptor that is readable when a device has something to say.
    #[must_use]
    pub fn async_fd(&self, device: usize) -> BorrowedFd<'_> {
        // SAFETY: open as long as the context, which this holds.
        unsafe { BorrowedFd::borrow_raw(self.raw(device).async_fd) }
    }

    /// What it has to say: the type of its next event.
    pub fn next_event(&self, device: usize) -> Option<u32> {
        let mut event = MaybeUninit::<ffi::ibv_async_event>::zeroed();
        // SAFETY: an open context, whose descriptor does not block, and a place for the event.
        if unsafe { (self.api.ibv_get_async_event)(self.contexts[device].as_ptr(), event.as_mut_ptr()) } != 0 {
            return None;
        }
        // SAFETY: filled by the call above, and acknowledged once.
        unsafe {
            (self.api.ibv_ack_async_event)(event.as_mut_ptr());
            Some(event.assume_init().event_type)
        }
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        // SAFETY: ours, and everything made on a device holds the list.
        unsafe { (self.api.rdma_free_devices)(self.list.as_ptr()) }
    }
}

/// A protection domain.
pub struct Pd {
    pub(super) raw: NonNull<ffi::ibv_pd>,
    pub(super) devices: Rc<Devices>,
    pub(super) device: usize,
}

impl Pd {
    /// On a device.
    ///
    /// # Errors
    /// It has no more.
    pub fn new(devices: &Rc<Devices>, device: usize) -> io::Result<Rc<Pd>> {
        // SAFETY: an open context.
        let raw = made(unsafe { (devices.api.ibv_alloc_pd)(devices.contexts[device].as_ptr()) })?;
        Ok(Rc::new(Pd { raw, devices: devices.clone(), device }))
    }

    /// On which device.
    #[must_use]
    pub fn device(&self) -> usize {
        self.device
    }
}

impl Drop for Pd {
    fn drop(&mut self) {
        // SAFETY: ours; regions and queue pairs in it hold it, so there are none.
        unsafe { (self.devices.api.ibv_dealloc_pd)(self.raw.as_ptr()) };
    }
}
