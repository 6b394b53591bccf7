//! Host channel adapters: the provider over libibverbs and librdmacm. `ffi` declares and loads, `owned`
//! owns what the libraries hand out and ends what is unsafe, `control` is the connection manager's side
//! and `data` the queues' of [`HcaDevice`], the [`Device`] of the rest of this crate. It knows neither
//! the wire nor connections' states.

mod conns;
mod control;
mod data;
#[allow(unsafe_code, non_camel_case_types)]
#[doc(hidden)]
pub mod ffi;
#[allow(unsafe_code)]
#[doc(hidden)]
pub mod owned;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use slab::Slab;

use crate::verbs::{
    Access, CmEvent, Completion, ConnParams, Device, DeviceLimits, Listener, Pd, Qp, QpCaps, RecvWr, Region, SendWr,
    VerbsError,
};
use conns::Conns;
use owned::{CmId, Cq, Devices, EventChannel, Heap, Mr};

/// How a device is opened.
#[derive(Clone, Copy, Debug)]
pub struct HcaOptions {
    /// Completions to make room for on each adapter, as far as it can.
    pub cq_depth: u32,
    /// Which completion vector raises the interrupt; `None` picks one by this process's number.
    pub completion_vector: Option<u32>,
    /// Registered memory on huge pages, as far as the host has set some aside.
    pub huge_pages: bool,
}

impl Default for HcaOptions {
    fn default() -> Self {
        HcaOptions { cq_depth: 64 * 1024, completion_vector: None, huge_pages: false }
    }
}

/// One core's view of this host's adapters.
pub struct HcaDevice {
    // Connections and regions go before what they rest on; the counted references see to the rest.
    conns: Conns,
    listeners: HashMap<u32, CmId>,
    regions: Slab<Registered>,
    pds: Slab<(Rc<owned::Pd>, u32)>,
    adapters: Vec<Option<Adapter>>,
    channel: Rc<EventChannel>,
    devices: Rc<Devices>,
    heap: Heap,
    options: HcaOptions,
    epoll: Epoll,
    /// Listeners named so far.
    named: u32,
    events: VecDeque<CmEvent>,
    /// Polls since the connection manager was asked.
    unasked: u32,
    /// An adapter's completion queue overran.
    overrun: bool,
    scratch: Vec<ffi::ibv_wc>,
}

// SAFETY: every counted reference to what this owns is held inside it and none is handed out, so all of
// them change threads together; the libraries' objects may be used from any thread, one at a time.
#[allow(unsafe_code)]
unsafe impl Send for HcaDevice {}

struct Adapter {
    cq: Rc<Cq>,
}

struct Conn {
    id: CmId,
    dialling: Option<SocketAddr>,
    /// Which protection domain it uses.
    pd: Option<usize>,
    device: Option<usize>,
}

struct Registered {
    region: Region,
    pd: usize,
    mr: Mr,
}

/// An error of a step that has a name, for the log.
fn at(step: &'static str) -> impl Fn(io::Error) -> VerbsError {
    move |error| VerbsError::Os(format!("{step}: {error}"))
}

fn os(error: io::Error) -> VerbsError {
    match error.kind() {
        io::ErrorKind::AddrInUse => VerbsError::AddressInUse,
        _ => VerbsError::Os(error.to_string()),
    }
}

impl HcaDevice {
    /// Opens this host's adapters.
    ///
    /// # Errors
    /// One line that says what is missing: a library, the kernel's part, or an adapter.
    pub fn open(options: HcaOptions) -> Result<HcaDevice, VerbsError> {
        let api =
            ffi::load().map_err(|error| VerbsError::Os(format!("rdma-core's libraries cannot be loaded: {error}")))?;
        let channel = EventChannel::new(api)
            .map_err(|error| VerbsError::Os(format!("the kernel offers no RDMA connection manager: {error}")))?;
        let devices =
            Devices::open(api).map_err(|error| VerbsError::Os(format!("no RDMA adapter can be opened: {error}")))?;
        if devices.is_empty() {
            return Err(VerbsError::Os("there is no RDMA adapter".to_owned()));
        }
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|errno| os(errno.into()))?;
        let device = HcaDevice {
            conns: Conns::default(),
            listeners: HashMap::new(),
            regions: Slab::new(),
            pds: Slab::new(),
            adapters: (0..devices.len()).map(|_| None).collect(),
            channel,
            devices,
            heap: Heap::new(options.huge_pages),
            options,
            epoll,
            named: 0,
            events: VecDeque::new(),
            unasked: u32::MAX,
            overrun: false,
            scratch: Vec::new(),
        };
        watch(&device.epoll, device.channel.fd())?;
        for adapter in 0..device.devices.len() {
            watch(&device.epoll, device.devices.async_fd(adapter))?;
        }
        Ok(device)
    }
}

fn watch(epoll: &Epoll, fd: BorrowedFd<'_>) -> Result<(), VerbsError> {
    epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0)).map_err(|errno| os(errno.into()))
}

/// Why bytes are not lent.
fn unreachable_bytes(mr: &Mr, offset: u32, length: u32) -> VerbsError {
    if mr.is_shared() { VerbsError::PeerMayWrite } else { VerbsError::Range { offset, length } }
}

impl Device for HcaDevice {
    fn describe(&self) -> String {
        let names: Vec<String> = (0..self.devices.len()).map(|device| self.devices.name(device)).collect();
        names.join(" ")
    }

    fn limits(&self) -> DeviceLimits {
        let cq_depth = self.adapters.iter().flatten().map(|adapter| adapter.cq.depth()).min().unwrap_or(u32::MAX);
        DeviceLimits { cq_depth }
    }

    fn alloc_pd(&mut self, qp: Qp) -> Result<Pd, VerbsError> {
        let device = self.conns.get(qp.0).and_then(|conn| conn.device).ok_or(VerbsError::Unknown("connection"))?;
        let pd = owned::Pd::new(&self.devices, device).map_err(at("cannot make a protection domain"))?;
        Ok(Pd(self.pds.insert((pd, 0)) as u32))
    }

    fn dealloc_pd(&mut self, pd: Pd) -> Result<(), VerbsError> {
        match self.pds.get(pd.0 as usize) {
            None => Err(VerbsError::Unknown("protection domain")),
            Some((_, 0)) => {
                self.pds.remove(pd.0 as usize);
                Ok(())
            }
            Some(_) => Err(VerbsError::State),
        }
    }

    fn is_reachable(&self, pd: Pd, qp: Qp) -> bool {
        let device = self.conns.get(qp.0).and_then(|conn| conn.device);
        device.is_some() && device == self.pds.get(pd.0 as usize).map(|(pd, _)| pd.device())
    }

    fn register(&mut self, pd: Pd, length: u32, access: Access) -> Result<Region, VerbsError> {
        let (domain, users) = self.pds.get_mut(pd.0 as usize).ok_or(VerbsError::Unknown("protection domain"))?;
        let block = self.heap.take(length).map_err(|_| VerbsError::Memory(length))?;
        let mr =
            Mr::new(domain, block, length, access == Access::RemoteWrite).map_err(|_| VerbsError::Memory(length))?;
        *users += 1;
        let entry = self.regions.vacant_entry();
        let region = Region { id: entry.key() as u32, address: mr.address(), length, rkey: mr.rkey() };
        entry.insert(Registered { region, pd: pd.0 as usize, mr });
        Ok(region)
    }

    fn deregister(&mut self, region: Region) -> Result<(), VerbsError> {
        self.region(region)?;
        let gone = self.regions.remove(region.id as usize);
        if let Some((_, users)) = self.pds.get_mut(gone.pd) {
            *users -= 1;
        }
        if let Some(block) = gone.mr.into_block() {
            self.heap.give(block);
        }
        Ok(())
    }

    #[inline]
    fn bytes(&self, region: Region, offset: u32, length: u32) -> Result<&[u8], VerbsError> {
        let mr = &self.region(region)?.mr;
        mr.bytes(offset, length).ok_or_else(|| unreachable_bytes(mr, offset, length))
    }

    #[inline]
    fn bytes_mut(&mut self, region: Region, offset: u32, length: u32) -> Result<&mut [u8], VerbsError> {
        let error = unreachable_bytes(&self.region(region)?.mr, offset, length);
        self.regions.get_mut(region.id as usize).and_then(|found| found.mr.bytes_mut(offset, length)).ok_or(error)
    }

    #[inline]
    fn copy_out(&self, region: Region, offset: u32, length: u32, into: &mut Vec<u8>) -> Result<(), VerbsError> {
        let copied = self.region(region)?.mr.copy_out(offset, length, into);
        copied.ok_or(VerbsError::Range { offset, length })
    }

    fn wipe(&mut self, region: Region, offset: u32, length: u32) -> Result<(), VerbsError> {
        self.region(region)?;
        let wiped = self.regions.get_mut(region.id as usize).and_then(|found| found.mr.wipe(offset, length));
        wiped.ok_or(VerbsError::Range { offset, length })
    }

    fn listen(&mut self, addr: SocketAddr, backlog: u32) -> Result<Listener, VerbsError> {
        self.open_listener(addr, backlog)
    }

    fn local_addr(&self, listener: Listener) -> Option<SocketAddr> {
        self.listeners.get(&listener.0).and_then(CmId::local_addr)
    }

    fn unlisten(&mut self, listener: Listener) {
        self.listeners.remove(&listener.0);
    }

    fn resolve(&mut self, to: SocketAddr) -> Result<Qp, VerbsError> {
        self.dial(to)
    }

    fn create_qp(&mut self, qp: Qp, pd: Pd, caps: QpCaps) -> Result<QpCaps, VerbsError> {
        self.equip(qp, pd, caps)
    }

    fn accept(&mut self, qp: Qp, params: ConnParams) -> Result<(), VerbsError> {
        self.conn(qp)?
            .id
            .accept(params.retry_count, params.rnr_retry_count)
            .map_err(at("cannot accept, the client may be gone"))
    }

    fn reject(&mut self, qp: Qp) {
        if let Ok(conn) = self.conn(qp) {
            conn.id.reject();
        }
    }

    fn connect(&mut self, qp: Qp, params: ConnParams) -> Result<(), VerbsError> {
        self.conn(qp)?.id.connect(params.retry_count, params.rnr_retry_count).map_err(at("cannot connect"))
    }

    fn disconnect(&mut self, qp: Qp) {
        if let Ok(conn) = self.conn(qp) {
            conn.id.disconnect();
        }
    }

    fn destroy(&mut self, qp: Qp) {
        if let Some(conn) = self.conns.remove(qp.0)
            && let Some((_, users)) = conn.pd.and_then(|pd| self.pds.get_mut(pd))
        {
            *users -= 1;
        }
    }

    #[inline]
    fn post_send(&mut self, qp: Qp, list: &[SendWr]) -> Result<(), VerbsError> {
        self.send(qp, list)
    }

    #[inline]
    fn post_recv(&mut self, qp: Qp, list: &[RecvWr]) -> Result<(), VerbsError> {
        self.receive(qp, list)
    }

    #[inline]
    fn poll_cq(&mut self, into: &mut [Completion]) -> Result<usize, VerbsError> {
        self.completions(into)
    }

    #[inline]
    fn poll_cm(&mut self) -> Option<CmEvent> {
        self.next_event()
    }

    fn arm(&mut self) -> Result<(), VerbsError> {
        // Before a sleep the connection manager is asked as well.
        self.unasked = u32::MAX;
        for adapter in self.adapters.iter().flatten() {
            adapter.cq.arm().map_err(os)?;
        }
        Ok(())
    }

    fn acknowledge(&mut self) {
        for adapter in self.adapters.iter().flatten() {
            adapter.cq.acknowledge();
        }
        self.unasked = u32::MAX;
    }

    fn wait_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}
