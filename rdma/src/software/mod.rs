//! A verbs provider without an adapter: devices of one process, connected by a [`Fabric`]. It checks
//! every access as an adapter does (key, range, protection domain, access), completes in order, makes
//! the faults it is told to ([`Faults`]), and repeats a run of one thread exactly. Devices may live in
//! different threads; memory is only touched while its own device is polled.

mod faults;
mod net;
mod regions;

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::verbs::{
    Access, CmEvent, Completion, ConnParams, Device, DeviceLimits, Listener, Pd, Qp, QpCaps, RecvWr, Region, SendWr,
    VerbsError,
};
pub use faults::Faults;
use net::{Listening, Net, Port};
use regions::Regions;

/// Connects devices. Clones are the same fabric.
#[derive(Clone)]
pub struct Fabric {
    net: Arc<Mutex<Net>>,
}

/// How large a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftLimits {
    /// Bytes of an inline send at most.
    pub inline_bytes_max: u32,
    /// Completions its completion queue holds.
    pub cq_depth: u32,
    /// Bytes that can be registered, as a memlock limit would have it.
    pub registered_bytes_max: usize,
}

impl Default for SoftLimits {
    fn default() -> Self {
        SoftLimits { inline_bytes_max: 256, cq_depth: 1 << 20, registered_bytes_max: usize::MAX }
    }
}

/// What a device holds, for tests of what comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Connections and requests.
    pub queue_pairs: usize,
    /// Protection domains.
    pub protection_domains: usize,
    /// Registered regions.
    pub regions: usize,
    /// Their bytes.
    pub registered_bytes: usize,
    /// Completions nobody has taken.
    pub completions: usize,
    /// Events nobody has taken.
    pub events: usize,
}

fn lock(net: &Mutex<Net>) -> MutexGuard<'_, Net> {
    net.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fabric {
    /// A fabric without devices. The same seed, faults and calls give the same run.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        Fabric { net: Arc::new(Mutex::new(Net::new(seed, faults))) }
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.net).set_faults(faults);
    }

    /// A device on it.
    ///
    /// # Errors
    /// The operating system has no descriptor for its completion channel.
    pub fn device(&self, limits: SoftLimits) -> Result<SoftDevice, VerbsError> {
        let bell = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| VerbsError::Os(errno.to_string()))?;
        let bell = Arc::new(bell);
        let mut net = lock(&self.net);
        net.ports.push(Port {
            cm: Default::default(),
            cq: Default::default(),
            cq_depth: limits.cq_depth as usize,
            overrun: false,
            held_until: 0,
            armed: false,
            bell: bell.clone(),
            active: Vec::new(),
        });
        let port = net.ports.len() - 1;
        Ok(SoftDevice {
            net: self.net.clone(),
            port,
            limits,
            regions: Regions::new(limits.registered_bytes_max),
            bell,
            listeners: 0,
        })
    }
}

/// A device of a [`Fabric`].
pub struct SoftDevice {
    net: Arc<Mutex<Net>>,
    port: usize,
    limits: SoftLimits,
    regions: Regions,
    bell: Arc<EventFd>,
    listeners: u32,
}

impl SoftDevice {
    /// What it holds now.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        let net = lock(&self.net);
        Holdings {
            queue_pairs: net.ends.iter().filter(|(_, end)| end.port == self.port).count(),
            protection_domains: self.regions.pds(),
            regions: self.regions.regions(),
            registered_bytes: self.regions.registered_bytes,
            completions: net.ports[self.port].cq.len(),
            events: net.ports[self.port].cm.len(),
        }
    }

    /// Ends a connection as a machine that loses power does: the peer is told nothing.
    pub fn vanish(&mut self, qp: Qp) {
        let pd = lock(&self.net).vanish(qp);
        if let Some(pd) = pd {
            self.regions.release_pd(pd);
        }
    }

    /// Whether a poll would find something, now or a few steps on.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        lock(&self.net).is_pending(self.port)
    }

    /// Breaks a connection; both sides are told.
    pub fn sever(&mut self, qp: Qp) {
        lock(&self.net).sever(qp);
    }

    /// Reports the device as gone to a connection.
    pub fn remove_under(&mut self, qp: Qp) {
        let mut net = lock(&self.net);
        net.fail(qp);
        let step = net.step;
        net.ports[self.port].cm.push_back((step, CmEvent::DeviceRemoved(qp)));
    }

    /// Puts a completion into the queue that no work request asked for, as no device should.
    pub fn forge(&mut self, completion: Completion) {
        lock(&self.net).ports[self.port].cq.push_back((Qp(0), completion));
    }

    /// Overruns the completion queue.
    pub fn overrun(&mut self) {
        lock(&self.net).ports[self.port].overrun = true;
    }

    /// Lets less be registered from now on.
    pub fn set_registered_bytes_max(&mut self, bytes: usize) {
        self.regions.limit_bytes = bytes;
    }
}

impl Drop for SoftDevice {
    fn drop(&mut self) {
        let mut net = lock(&self.net);
        net.listening.retain(|listening| listening.port != self.port);
        let ours: Vec<Qp> = net.ends.iter().filter(|(_, end)| end.port == self.port).map(|(_, end)| end.id).collect();
        for qp in ours {
            net.disconnect(qp);
            net.remove(qp);
        }
    }
}

impl Device for SoftDevice {
    fn describe(&self) -> String {
        "software".to_owned()
    }

    fn limits(&self) -> DeviceLimits {
        DeviceLimits { cq_depth: self.limits.cq_depth }
    }

    fn alloc_pd(&mut self, _qp: Qp) -> Result<Pd, VerbsError> {
        Ok(self.regions.alloc_pd())
    }

    fn is_reachable(&self, _pd: Pd, _qp: Qp) -> bool {
        true
    }

    fn dealloc_pd(&mut self, pd: Pd) -> Result<(), VerbsError> {
        self.regions.dealloc_pd(pd)
    }

    fn register(&mut self, pd: Pd, length: u32, access: Access) -> Result<Region, VerbsError> {
        self.regions.register(pd, length, access)
    }

    fn deregister(&mut self, region: Region) -> Result<(), VerbsError> {
        self.regions.deregister(region)
    }

    fn bytes(&self, region: Region, offset: u32, length: u32) -> Result<&[u8], VerbsError> {
        self.regions.bytes(region, offset, length)
    }

    fn bytes_mut(&mut self, region: Region, offset: u32, length: u32) -> Result<&mut [u8], VerbsError> {
        self.regions.bytes_mut(region, offset, length)
    }

    #[inline]
    fn copy_out(&self, region: Region, offset: u32, length: u32, into: &mut Vec<u8>) -> Result<(), VerbsError> {
        into.extend_from_slice(self.regions.piece(region, offset, length)?);
        Ok(())
    }

    fn wipe(&mut self, region: Region, offset: u32, length: u32) -> Result<(), VerbsError> {
        self.regions.piece_mut(region, offset, length)?.fill(0);
        Ok(())
    }

    fn listen(&mut self, addr: SocketAddr, backlog: u32) -> Result<Listener, VerbsError> {
        let mut net = lock(&self.net);
        let mut addr = addr;
        if addr.port() == 0 {
            let taken =
                |port: u16| net.listening.iter().any(|listening| listening.addr == SocketAddr::new(addr.ip(), port));
            let free = (49152..=u16::MAX).find(|port| !taken(*port)).ok_or(VerbsError::AddressInUse)?;
            addr.set_port(free);
        } else if net.listening.iter().any(|listening| listening.addr == addr) {
            return Err(VerbsError::AddressInUse);
        }
        self.listeners += 1;
        let id = Listener(self.listeners);
        net.listening.push(Listening { port: self.port, id, addr, backlog: backlog as usize });
        Ok(id)
    }

    fn local_addr(&self, listener: Listener) -> Option<SocketAddr> {
        let net = lock(&self.net);
        net.listening
            .iter()
            .find(|listening| listening.port == self.port && listening.id == listener)
            .map(|listening| listening.addr)
    }

    fn unlisten(&mut self, listener: Listener) {
        lock(&self.net).listening.retain(|listening| listening.port != self.port || listening.id != listener);
    }

    fn resolve(&mut self, to: SocketAddr) -> Result<Qp, VerbsError> {
        Ok(lock(&self.net).resolve(self.port, to))
    }

    fn create_qp(&mut self, qp: Qp, pd: Pd, caps: QpCaps) -> Result<QpCaps, VerbsError> {
        let caps = QpCaps { inline_bytes: caps.inline_bytes.min(self.limits.inline_bytes_max), ..caps };
        self.regions.use_pd(pd)?;
        lock(&self.net).create_qp(self.port, qp, pd, caps).inspect_err(|_| self.regions.release_pd(pd))?;
        Ok(caps)
    }

    fn accept(&mut self, qp: Qp, params: ConnParams) -> Result<(), VerbsError> {
        lock(&self.net).accept(self.port, qp, params)
    }

    fn reject(&mut self, qp: Qp) {
        lock(&self.net).reject(self.port, qp);
    }

    fn connect(&mut self, qp: Qp, params: ConnParams) -> Result<(), VerbsError> {
        lock(&self.net).connect(self.port, qp, params)
    }

    fn disconnect(&mut self, qp: Qp) {
        lock(&self.net).disconnect(qp);
    }

    fn destroy(&mut self, qp: Qp) {
        let mut net = lock(&self.net);
        if net.end(qp).is_none_or(|end| end.port != self.port) {
            return;
        }
        net.disconnect(qp);
        if let Some(pd) = net.remove(qp) {
            self.regions.release_pd(pd);
        }
    }

    fn post_send(&mut self, qp: Qp, list: &[SendWr]) -> Result<(), VerbsError> {
        lock(&self.net).post_send(self.port, qp, list, &self.regions)
    }

    fn post_recv(&mut self, qp: Qp, list: &[RecvWr]) -> Result<(), VerbsError> {
        lock(&self.net).post_recv(self.port, qp, list)
    }

    fn poll_cq(&mut self, into: &mut [Completion]) -> Result<usize, VerbsError> {
        let mut net = lock(&self.net);
        net.advance(self.port, &mut self.regions);
        let step = net.step;
        let port = &mut net.ports[self.port];
        if port.overrun {
            return Err(VerbsError::CqOverrun);
        }
        if port.held_until > step {
            return Ok(0);
        }
        let count = port.cq.len().min(into.len());
        for (place, (_, completion)) in into.iter_mut().zip(port.cq.drain(..count)) {
            *place = completion;
        }
        Ok(count)
    }

    fn poll_cm(&mut self) -> Option<CmEvent> {
        lock(&self.net).next_event(self.port)
    }

    fn arm(&mut self) -> Result<(), VerbsError> {
        let mut net = lock(&self.net);
        let pending = net.is_pending(self.port);
        net.ports[self.port].armed = !pending;
        if pending {
            let _ = self.bell.write(1);
        }
        Ok(())
    }

    fn acknowledge(&mut self) {
        // Nothing to take is fine too.
        let _ = self.bell.read();
    }

    fn wait_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
