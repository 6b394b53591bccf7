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

use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::rc::Rc;

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

use super::ffi::{self, Api, consts::*};

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
    api: &'static Api,
    list: NonNull<*mut ffi::ibv_context>,
    contexts: Vec<NonNull<ffi::ibv_context>>,
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

    fn raw(&self, device: usize) -> &ffi::ibv_context {
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
    raw: NonNull<ffi::ibv_pd>,
    devices: Rc<Devices>,
    device: usize,
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

/// Pages of this process, zero at first.
struct Pages {
    at: NonNull<u8>,
    length: usize,
}

const PAGE_BYTES: usize = 4096;
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Mapped at a time where regions share mappings.
const HEAP_STEP_BYTES: usize = 32 << 20;

impl Pages {
    /// With `huge`, pages of 2 MiB where the host has set some aside.
    fn new(length: usize, huge: bool) -> io::Result<Pages> {
        let map = |length: usize, flags: c_int| {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
            // SAFETY: new pages wherever the kernel puts them.
            let at = unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
            if at == libc::MAP_FAILED {
                Err(io::Error::last_os_error())
            } else {
                made(at.cast::<u8>()).map(|at| Pages { at, length })
            }
        };
        if huge && let Ok(pages) = map(length.next_multiple_of(HUGE_PAGE_BYTES), libc::MAP_HUGETLB | libc::MAP_POPULATE)
        {
            return Ok(pages);
        }
        map(length.next_multiple_of(PAGE_BYTES), 0)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped by us; every region in them holds them.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.length) };
    }
}

/// Some of the pages of a mapping, which nobody else has.
pub struct Block {
    pages: Rc<Pages>,
    offset: usize,
    length: usize,
}

impl Block {
    fn whole(pages: Pages) -> Block {
        let length = pages.length;
        Block { pages: Rc::new(pages), offset: 0, length }
    }

    /// Cuts off its first `length` bytes, whole pages of which it has at least so many.
    fn split(&mut self, length: usize) -> Option<Block> {
        if length > self.length || !length.is_multiple_of(PAGE_BYTES) {
            return None;
        }
        let first = Block { pages: self.pages.clone(), offset: self.offset, length };
        self.offset += length;
        self.length -= length;
        Some(first)
    }

    fn at(&self) -> NonNull<u8> {
        // SAFETY: a block lies within its mapping.
        unsafe { self.pages.at.add(self.offset) }
    }

    fn zero(&mut self) {
        // SAFETY: within the mapping, and nobody else has these bytes.
        unsafe { ptr::write_bytes(self.at().as_ptr(), 0, self.length) }
    }
}

/// Where the memory of regions comes from. On small pages each region has a mapping of its own; on huge
/// ones they share mappings, which are kept.
#[derive(Default)]
pub struct Heap {
    huge: bool,
    rest: Option<Block>,
    free: HashMap<usize, Vec<Block>>,
}

impl Heap {
    /// On huge pages, as far as the host has set some aside, or not.
    #[must_use]
    pub fn new(huge: bool) -> Heap {
        Heap { huge, ..Heap::default() }
    }

    /// At least `length` bytes, all zero.
    ///
    /// # Errors
    /// There is no memory.
    pub fn take(&mut self, length: u32) -> io::Result<Block> {
        let length = (length as usize).next_multiple_of(PAGE_BYTES);
        if !self.huge {
            return Ok(Block::whole(Pages::new(length, false)?));
        }
        if let Some(mut block) = self.free.get_mut(&length).and_then(Vec::pop) {
            block.zero();
            return Ok(block);
        }
        if self.rest.as_ref().is_none_or(|rest| rest.length < length) {
            self.rest = Some(Block::whole(Pages::new(length.max(HEAP_STEP_BYTES), true)?));
        }
        self.rest.as_mut().and_then(|rest| rest.split(length)).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// Takes a block back.
    pub fn give(&mut self, block: Block) {
        if self.huge {
            self.free.entry(block.length).or_default().push(block);
        }
    }
}

/// Registered memory.
pub struct Mr {
    raw: NonNull<ffi::ibv_mr>,
    length: u32,
    pd: Rc<Pd>,
    /// Gone only when the region is being taken apart.
    block: Option<Block>,
    at: NonNull<u8>,
}

/// Registered bytes as a work request names them.
#[derive(Clone, Copy)]
pub struct Slice<'a> {
    sge: ffi::ibv_sge,
    _region: PhantomData<&'a Mr>,
}

impl Slice<'_> {
    /// How many bytes.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.sge.length
    }
}

impl Mr {
    /// Registers the first `length` bytes of a block, for this side alone or for the peer's writes too.
    ///
    /// # Errors
    /// They are too many, or cannot be pinned.
    pub fn new(pd: &Rc<Pd>, block: Block, length: u32, remote_write: bool) -> io::Result<Mr> {
        if length == 0 || length as usize > block.length {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let at = block.at();
        let access =
            if remote_write { IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE } else { IBV_ACCESS_LOCAL_WRITE };
        // SAFETY: pages that stay until the region is gone, because it holds them, and nobody else has.
        let raw = made(unsafe {
            (pd.devices.api.ibv_reg_mr)(pd.raw.as_ptr(), at.as_ptr().cast(), length as usize, access as c_int)
        })?;
        Ok(Mr { raw, length, pd: pd.clone(), block: Some(block), at })
    }

    /// Unregisters, and hands the memory back.
    #[must_use]
    pub fn into_block(mut self) -> Option<Block> {
        let block = self.block.take();
        // The device is done with the pages before anybody else has them.
        drop(self);
        block
    }

    /// Its address, as the peer writes to it.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.at.as_ptr() as u64
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.length
    }

    /// The key for the peer.
    #[must_use]
    pub fn rkey(&self) -> u32 {
        // SAFETY: ours until `drop`.
        unsafe { self.raw.as_ref() }.rkey
    }

    fn holds(&self, offset: u32, length: u32) -> bool {
        offset.checked_add(length).is_some_and(|end| end <= self.length)
    }

    /// Some of its bytes, for a work request; `None` if they are outside.
    #[must_use]
    pub fn slice(&self, offset: u32, length: u32) -> Option<Slice<'_>> {
        // SAFETY: the region is ours until `drop`.
        let lkey = unsafe { self.raw.as_ref() }.lkey;
        self.holds(offset, length).then(|| Slice {
            sge: ffi::ibv_sge { addr: self.address() + u64::from(offset), length, lkey },
            _region: PhantomData,
        })
    }

    /// Reads its bytes; `None` if they are outside. Of a region open to a peer only what completions
    /// have told of is settled: a hostile peer can change the rest, and that, at any moment, which
    /// readers have to stand as they stand any other value.
    #[must_use]
    pub fn bytes(&self, offset: u32, length: u32) -> Option<&[u8]> {
        // SAFETY: within pages this region holds, zeroed at first and only ever written as bytes. The
        // device may write to them besides; plain bytes have no value that is invalid.
        self.holds(offset, length)
            .then(|| unsafe { std::slice::from_raw_parts(self.at.as_ptr().add(offset as usize), length as usize) })
    }

    /// As [`Mr::bytes`], to write into.
    #[must_use]
    pub fn bytes_mut(&mut self, offset: u32, length: u32) -> Option<&mut [u8]> {
        // SAFETY: as in `bytes`, and no other borrow of this process is alive.
        self.holds(offset, length)
            .then(|| unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr().add(offset as usize), length as usize) })
    }
}

impl Drop for Mr {
    fn drop(&mut self) {
        // SAFETY: ours. Afterwards the device lets nobody at the pages, which are still mapped.
        unsafe { (self.pd.devices.api.ibv_dereg_mr)(self.raw.as_ptr()) };
    }
}

/// A completion queue with its channel.
pub struct Cq {
    raw: NonNull<ffi::ibv_cq>,
    channel: NonNull<ffi::ibv_comp_channel>,
    devices: Rc<Devices>,
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
        // SAFETY: an open context and a channel on it.
        let raw = nonblocking.and_then(|()| {
            made(unsafe {
                (api.ibv_create_cq)(context, depth as c_int, ptr::null_mut(), channel.as_ptr(), vector as c_int)
            })
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

/// The connection manager's channel.
pub struct EventChannel {
    raw: NonNull<ffi::rdma_event_channel>,
    api: &'static Api,
}

/// News of the connection manager.
pub struct News {
    /// Its kind: one of the `RDMA_CM_EVENT_` constants.
    pub kind: u32,
    /// Errors: a negative error number, or the peer's reason for a rejection.
    pub status: i32,
    /// Token of the connection, or of the listener if `dialled` is there.
    pub token: u64,
    /// Somebody dialled: the connection to be.
    pub dialled: Option<CmId>,
}

impl EventChannel {
    /// Whose descriptor does not block.
    ///
    /// # Errors
    /// The kernel has no connection manager.
    pub fn new(api: &'static Api) -> io::Result<Rc<EventChannel>> {
        // SAFETY: takes nothing.
        let raw = made(unsafe { (api.rdma_create_event_channel)() })?;
        let channel = EventChannel { raw, api };
        set_nonblocking(channel.fd())?;
        Ok(Rc::new(channel))
    }

    /// The descriptor that is readable when there is news.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel is ours until `drop`, and open so long.
        unsafe { BorrowedFd::borrow_raw(self.raw.as_ref().fd) }
    }

    /// The next news. The new connection of a request belongs to the caller and has token 0.
    pub fn next(self: &Rc<Self>) -> Option<News> {
        let mut event = ptr::null_mut();
        // SAFETY: our channel and a place for a pointer.
        if unsafe { (self.api.rdma_get_cm_event)(self.raw.as_ptr(), &mut event) } != 0 {
            return None;
        }
        let event = NonNull::new(event)?;
        // SAFETY: the event is the library's and stays until it is acknowledged, which happens once and
        // before its connection can be destroyed: the owner of that is at the earliest asked after us.
        unsafe {
            let seen = event.as_ref();
            let (kind, status, id) = (seen.event, seen.status, seen.id);
            let token = if id.is_null() { 0 } else { (*id).context as u64 };
            (self.api.rdma_ack_cm_event)(event.as_ptr());
            // A request's connection starts out with the token of its listener.
            let dialled = NonNull::new(id).filter(|_| kind == RDMA_CM_EVENT_CONNECT_REQUEST);
            let dialled = dialled.map(|raw| {
                (*raw.as_ptr()).context = ptr::null_mut();
                CmId {
                    raw,
                    channel: self.clone(),
                    pair: None,
                    list: SendList::default(),
                    receives: RecvList::default(),
                }
            });
            Some(News { kind, status, token, dialled })
        }
    }
}

impl Drop for EventChannel {
    fn drop(&mut self) {
        // SAFETY: ours; connections hold it, so there are none.
        unsafe { (self.api.rdma_destroy_event_channel)(self.raw.as_ptr()) };
    }
}

/// What a queue pair rests on, and its data path.
struct Pair {
    _pd: Rc<Pd>,
    _cq: Rc<Cq>,
    raw: NonNull<ffi::ibv_qp>,
    send: unsafe extern "C" fn(*mut ffi::ibv_qp, *mut ffi::ibv_send_wr, *mut *mut ffi::ibv_send_wr) -> c_int,
    receive: unsafe extern "C" fn(*mut ffi::ibv_qp, *mut ffi::ibv_recv_wr, *mut *mut ffi::ibv_recv_wr) -> c_int,
}

/// Work requests being put together; kept for its memory.
#[derive(Default)]
struct SendList {
    requests: Vec<ffi::ibv_send_wr>,
    slices: Vec<ffi::ibv_sge>,
}

#[derive(Default)]
struct RecvList {
    requests: Vec<ffi::ibv_recv_wr>,
    slices: Vec<ffi::ibv_sge>,
}

/// A send work request with its bytes.
pub struct Send<'a> {
    /// Comes back with the completion.
    pub wr_id: u64,
    /// One of the `IBV_WR_` constants.
    pub opcode: u32,
    /// `IBV_SEND_` flags.
    pub flags: u32,
    /// In network order.
    pub immediate: u32,
    /// Where to in the peer's memory.
    pub remote_address: u64,
    /// The key that opens it.
    pub rkey: u32,
    /// The bytes.
    pub bytes: Slice<'a>,
}

/// A connection of the connection manager, a listener, or a dial; with a queue pair once it has one.
pub struct CmId {
    raw: NonNull<ffi::rdma_cm_id>,
    channel: Rc<EventChannel>,
    pair: Option<Pair>,
    list: SendList,
    receives: RecvList,
}

fn address_of(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    // SAFETY: a whole `sockaddr_storage`, which `from_raw` reads as its family says.
    let storage = unsafe { SockaddrStorage::from_raw(ptr::from_ref(storage).cast(), None) }?;
    match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::V4((*v4).into())),
        (_, Some(v6)) => Some(SocketAddr::V6((*v6).into())),
        _ => None,
    }
}

impl CmId {
    /// A fresh one. `token` names it in [`News`].
    ///
    /// # Errors
    /// The kernel has no more.
    pub fn new(channel: &Rc<EventChannel>, token: u64) -> io::Result<CmId> {
        let mut raw = ptr::null_mut();
        // SAFETY: our channel, a place for a pointer; the token is never followed.
        told(unsafe {
            (channel.api.rdma_create_id)(channel.raw.as_ptr(), &mut raw, token as *mut c_void, RDMA_PS_TCP)
        })?;
        Ok(CmId {
            raw: made(raw)?,
            channel: channel.clone(),
            pair: None,
            list: SendList::default(),
            receives: RecvList::default(),
        })
    }

    fn api(&self) -> &'static Api {
        self.channel.api
    }

    fn seen(&self) -> &ffi::rdma_cm_id {
        // SAFETY: ours until `drop`; the library changes it only within calls, which take no borrow of it.
        unsafe { self.raw.as_ref() }
    }

    /// Names it in [`News`] from now on.
    pub fn set_token(&mut self, token: u64) {
        // SAFETY: ours, and the member is there for its user.
        unsafe { self.raw.as_mut() }.context = token as *mut c_void;
    }

    /// Which of the devices it is on, if that is settled and the device is one of them.
    #[must_use]
    pub fn device(&self, devices: &Devices) -> Option<usize> {
        devices.contexts.iter().position(|context| context.as_ptr() == self.seen().verbs)
    }

    /// Our address.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        address_of(&self.seen().addr.src)
    }

    /// The peer's address.
    #[must_use]
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        address_of(&self.seen().addr.dst)
    }

    /// Takes an address and listens on it.
    ///
    /// # Errors
    /// It is taken, or no device's.
    pub fn listen(&mut self, addr: SocketAddr, backlog: u32) -> io::Result<()> {
        let addr = SockaddrStorage::from(addr);
        // SAFETY: ours, and an address of the length its family says.
        told(unsafe { (self.api().rdma_bind_addr)(self.raw.as_ptr(), addr.as_ptr()) })?;
        // SAFETY: ours.
        told(unsafe { (self.api().rdma_listen)(self.raw.as_ptr(), c_int::try_from(backlog).unwrap_or(c_int::MAX)) })
    }

    /// Looks for a way to an address.
    ///
    /// # Errors
    /// There is none.
    pub fn resolve(&mut self, to: SocketAddr, timeout_ms: i32) -> io::Result<()> {
        let to = SockaddrStorage::from(to);
        // SAFETY: ours, and an address of the length its family says; no source address is fine.
        told(unsafe { (self.api().rdma_resolve_addr)(self.raw.as_ptr(), ptr::null(), to.as_ptr(), timeout_ms) })
    }

    /// Looks for a route, after the address.
    ///
    /// # Errors
    /// There is none.
    pub fn resolve_route(&mut self, timeout_ms: i32) -> io::Result<()> {
        // SAFETY: ours.
        told(unsafe { (self.api().rdma_resolve_route)(self.raw.as_ptr(), timeout_ms) })
    }

    /// Makes its queue pair, sends and receives both completing on `cq`. Returns the inline bytes it
    /// takes.
    ///
    /// # Errors
    /// The device's reason; there is one already; domain and connection are on different devices.
    pub fn create_qp(
        &mut self,
        pd: &Rc<Pd>,
        cq: &Rc<Cq>,
        send_depth: u32,
        recv_depth: u32,
        inline_bytes: u32,
    ) -> io::Result<u32> {
        let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
        if self.pair.is_some()
            || self.seen().verbs != pd.devices.contexts[pd.device].as_ptr()
            || !Rc::ptr_eq(&pd.devices, &cq.devices)
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut attr = ffi::ibv_qp_init_attr {
            qp_context: ptr::null_mut(),
            send_cq: cq.raw.as_ptr(),
            recv_cq: cq.raw.as_ptr(),
            srq: ptr::null_mut(),
            cap: ffi::ibv_qp_cap {
                max_send_wr: send_depth,
                max_recv_wr: recv_depth,
                max_send_sge: 1,
                max_recv_sge: 1,
                max_inline_data: inline_bytes,
            },
            qp_type: IBV_QPT_RC,
            sq_sig_all: 0,
        };
        // SAFETY: ours; domain and queue are of the same device and held below as long as the pair is.
        told(unsafe { (self.api().rdma_create_qp)(self.raw.as_ptr(), pd.raw.as_ptr(), &mut attr) })?;
        let ops = &pd.devices.raw(pd.device).ops;
        match (NonNull::new(self.seen().qp), ops.post_send, ops.post_recv) {
            (Some(raw), Some(send), Some(receive)) => {
                self.pair = Some(Pair { _pd: pd.clone(), _cq: cq.clone(), raw, send, receive })
            }
            _ => {
                // SAFETY: just made.
                unsafe { (self.api().rdma_destroy_qp)(self.raw.as_ptr()) };
                return Err(unsupported());
            }
        }
        Ok(attr.cap.max_inline_data.min(inline_bytes))
    }

    fn params(retry_count: u8, rnr_retry_count: u8) -> ffi::rdma_conn_param {
        ffi::rdma_conn_param {
            private_data: ptr::null(),
            private_data_len: 0,
            responder_resources: 1,
            initiator_depth: 1,
            flow_control: 1,
            retry_count,
            rnr_retry_count,
            srq: 0,
            qp_num: 0,
        }
    }

    /// Goes on dialling.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn connect(&mut self, retry_count: u8, rnr_retry_count: u8) -> io::Result<()> {
        let mut params = Self::params(retry_count, rnr_retry_count);
        // SAFETY: ours, and no private data.
        told(unsafe { (self.api().rdma_connect)(self.raw.as_ptr(), &mut params) })
    }

    /// Takes a request.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn accept(&mut self, retry_count: u8, rnr_retry_count: u8) -> io::Result<()> {
        let mut params = Self::params(retry_count, rnr_retry_count);
        // SAFETY: ours, and no private data.
        told(unsafe { (self.api().rdma_accept)(self.raw.as_ptr(), &mut params) })
    }

    /// Refuses a request.
    pub fn reject(&mut self) {
        // SAFETY: ours, and no private data. One that cannot be refused any more is over anyway.
        unsafe { (self.api().rdma_reject)(self.raw.as_ptr(), ptr::null(), 0) };
    }

    /// Tells the peer, and makes everything outstanding flush.
    pub fn disconnect(&mut self) {
        // SAFETY: ours. One that is not connected says so, which is as good.
        unsafe { (self.api().rdma_disconnect)(self.raw.as_ptr()) };
        if let Some(pair) = &self.pair {
            // SAFETY: plain numbers, of which zero is one.
            let mut attr: ffi::ibv_qp_attr = unsafe { MaybeUninit::zeroed().assume_init() };
            attr.qp_state = IBV_QPS_ERR;
            // SAFETY: our queue pair; only the state is looked at.
            unsafe { (self.api().ibv_modify_qp)(pair.raw.as_ptr(), &mut attr, IBV_QP_STATE as c_int) };
        }
    }

    /// How long a peer waits that found no receive posted: `code` as in the InfiniBand specification
    /// (1 is 10 us, 0 is 655 ms). Some devices refuse to change it.
    pub fn set_min_rnr_timer(&mut self, code: u8) {
        if let Some(pair) = &self.pair {
            // SAFETY: plain numbers, of which zero is one.
            let mut attr: ffi::ibv_qp_attr = unsafe { MaybeUninit::zeroed().assume_init() };
            attr.min_rnr_timer = code;
            // SAFETY: our queue pair; only the timer is looked at.
            unsafe { (self.api().ibv_modify_qp)(pair.raw.as_ptr(), &mut attr, IBV_QP_MIN_RNR_TIMER as c_int) };
        }
    }

    /// Posts sends with one doorbell.
    ///
    /// # Errors
    /// How many at the front were posted all the same, and why no more were.
    pub fn post_send<'a>(&mut self, sends: impl Iterator<Item = Send<'a>>) -> Result<(), (usize, io::Error)> {
        let Some(pair) = &self.pair else { return Err((0, io::ErrorKind::NotConnected.into())) };
        let SendList { requests, slices } = &mut self.list;
        requests.clear();
        slices.clear();
        for send in sends {
            slices.push(send.bytes.sge);
            requests.push(ffi::ibv_send_wr {
                wr_id: send.wr_id,
                next: ptr::null_mut(),
                sg_list: ptr::null_mut(),
                num_sge: c_int::from(send.bytes.length() > 0),
                opcode: send.opcode as c_uint,
                send_flags: send.flags,
                imm_data: send.immediate,
                remote_addr: send.remote_address,
                rkey: send.rkey,
                _other_unions: [0; 9],
            });
        }
        let (first, slice) = (requests.as_mut_ptr(), slices.as_mut_ptr());
        let count = requests.len();
        for at in 0..count {
            // SAFETY: both vectors have `count` elements and do not grow any more.
            unsafe {
                (*first.add(at)).sg_list = slice.add(at);
                if at + 1 < count {
                    (*first.add(at)).next = first.add(at + 1);
                }
            }
        }
        if count == 0 {
            return Ok(());
        }
        let mut bad = ptr::null_mut();
        // SAFETY: our queue pair, on whose device this function is; a chain that ends with null, whose
        // slices lie in registered memory that is borrowed while inline bytes are taken. What is not
        // inline the device reads by key as long as the region is registered.
        let result = unsafe { (pair.send)(pair.raw.as_ptr(), first, &mut bad) };
        told(result).map_err(|error| {
            // SAFETY: the device names an element of the chain, or nothing.
            let posted =
                if bad.is_null() { 0 } else { usize::try_from(unsafe { bad.offset_from(first) }).unwrap_or(0) };
            (posted.min(count), error)
        })
    }

    /// Posts receives.
    ///
    /// # Errors
    /// How many at the front were posted all the same, and why no more were.
    pub fn post_recv<'a>(
        &mut self,
        receives: impl Iterator<Item = (u64, Slice<'a>)>,
    ) -> Result<(), (usize, io::Error)> {
        let Some(pair) = &self.pair else { return Err((0, io::ErrorKind::NotConnected.into())) };
        let RecvList { requests, slices } = &mut self.receives;
        requests.clear();
        slices.clear();
        for (wr_id, slice) in receives {
            slices.push(slice.sge);
            requests.push(ffi::ibv_recv_wr { wr_id, next: ptr::null_mut(), sg_list: ptr::null_mut(), num_sge: 1 });
        }
        let (first, slice) = (requests.as_mut_ptr(), slices.as_mut_ptr());
        let count = requests.len();
        for at in 0..count {
            // SAFETY: both vectors have `count` elements and do not grow any more.
            unsafe {
                (*first.add(at)).sg_list = slice.add(at);
                if at + 1 < count {
                    (*first.add(at)).next = first.add(at + 1);
                }
            }
        }
        if count == 0 {
            return Ok(());
        }
        let mut bad = ptr::null_mut();
        // SAFETY: our queue pair, on whose device this function is, and a chain that ends with null. The
        // device writes by key as long as the region is registered.
        let result = unsafe { (pair.receive)(pair.raw.as_ptr(), first, &mut bad) };
        told(result).map_err(|error| {
            // SAFETY: the device names an element of the chain, or nothing.
            let posted =
                if bad.is_null() { 0 } else { usize::try_from(unsafe { bad.offset_from(first) }).unwrap_or(0) };
            (posted.min(count), error)
        })
    }
}

impl Drop for CmId {
    fn drop(&mut self) {
        // SAFETY: ours. The queue pair goes first, then the connection; domain and queue, which `pair`
        // holds, after both. All its events are acknowledged.
        unsafe {
            if self.pair.is_some() {
                (self.api().rdma_destroy_qp)(self.raw.as_ptr());
            }
            (self.api().rdma_destroy_id)(self.raw.as_ptr());
        }
    }
}
