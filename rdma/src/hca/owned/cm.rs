//! The connection manager's channel and its connections, with their queue pairs.

use std::ffi::{c_int, c_uint, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::rc::Rc;

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

use super::super::ffi::{self, Api, consts::*};
use super::{Cq, Devices, Pd, Slice, made, set_nonblocking, told};

/// The connection manager's channel.
pub struct EventChannel {
    raw: NonNull<ffi::rdma_event_channel>,
    api: &'static Api,
}

/// An event of the connection manager as the library tells it.
pub struct RawCmEvent {
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

    /// The descriptor that is readable when there is an event.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel is ours until `drop`, and open so long.
        unsafe { BorrowedFd::borrow_raw(self.raw.as_ref().fd) }
    }

    /// The next event. The new connection of a request belongs to the caller and has token 0.
    pub fn next(self: &Rc<Self>) -> Option<RawCmEvent> {
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
            Some(RawCmEvent { kind, status, token, dialled })
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

/// A work request that can be followed by another.
trait Link {
    fn link(&mut self, slice: *mut ffi::ibv_sge, next: *mut Self);
}

impl Link for ffi::ibv_send_wr {
    fn link(&mut self, slice: *mut ffi::ibv_sge, next: *mut Self) {
        (self.sg_list, self.next) = (slice, next);
    }
}

impl Link for ffi::ibv_recv_wr {
    fn link(&mut self, slice: *mut ffi::ibv_sge, next: *mut Self) {
        (self.sg_list, self.next) = (slice, next);
    }
}

/// Makes a chain that ends with null of requests and as many slices; its first.
fn chain<T: Link>(requests: &mut [T], slices: &mut [ffi::ibv_sge]) -> *mut T {
    let (first, slice, count) = (requests.as_mut_ptr(), slices.as_mut_ptr(), requests.len().min(slices.len()));
    for at in 0..count {
        let next = if at + 1 < count { first.wrapping_add(at + 1) } else { ptr::null_mut() };
        // SAFETY: both have `count` elements at least, and nobody else looks at them.
        unsafe { (*first.add(at)).link(slice.add(at), next) };
    }
    first
}

/// How many requests of a chain were posted before the one that a device calls bad.
fn posted_before<T>(first: *mut T, bad: *mut T) -> usize {
    if bad.is_null() { 0 } else { (bad as usize).saturating_sub(first as usize) / size_of::<T>() }
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
    /// A fresh one. `token` names it in [`RawCmEvent`].
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

    /// Names it in [`RawCmEvent`] from now on.
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
        let count = requests.len();
        if count == 0 {
            return Ok(());
        }
        let first = chain(requests, slices);
        let mut bad = ptr::null_mut();
        // SAFETY: our queue pair, on whose device this function is; a chain that ends with null, whose
        // slices lie in registered memory that is borrowed while inline bytes are taken. What is not
        // inline the device reads by key as long as the region is registered.
        let result = unsafe { (pair.send)(pair.raw.as_ptr(), first, &mut bad) };
        told(result).map_err(|error| (posted_before(first, bad).min(count), error))
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
        let count = requests.len();
        if count == 0 {
            return Ok(());
        }
        let first = chain(requests, slices);
        let mut bad = ptr::null_mut();
        // SAFETY: our queue pair, on whose device this function is, and a chain that ends with null. The
        // device writes by key as long as the region is registered.
        let result = unsafe { (pair.receive)(pair.raw.as_ptr(), first, &mut bad) };
        told(result).map_err(|error| (posted_before(first, bad).min(count), error))
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
