//! The connection manager's side of a device: listeners, dials, requests, and queue pairs as they come
//! and go.

use std::net::SocketAddr;

use super::ffi::consts::*;
use super::owned::{CmId, Cq, RawCmEvent};
use super::{Adapter, Conn, HcaDevice, at, os, watch};
use crate::verbs::{CmEvent, Listener, Pd, Qp, QpCaps, Refusal, VerbsError};

/// How long finding an address or a route may take.
const RESOLVE_MS_MAX: i32 = 2000;
/// The connection manager is asked for news every so many polls, since asking enters the kernel. A sleep
/// ends with its descriptor.
const ASK_EVERY: u32 = 1024;
/// 40 us: how long a peer waits that found no receive posted. What the kernel sets, 655 ms, is no use.
const MIN_RNR_TIMER_CODE: u8 = 4;

/// Listeners' tokens have this bit.
const LISTENER: u64 = 1 << 63;

impl HcaDevice {
    pub(super) fn conn(&mut self, qp: Qp) -> Result<&mut Conn, VerbsError> {
        self.conns.get_mut(qp.0).ok_or(VerbsError::Unknown("connection"))
    }

    pub(super) fn open_listener(&mut self, addr: SocketAddr, backlog: u32) -> Result<Listener, VerbsError> {
        self.named += 1;
        let name = self.named;
        let mut id = CmId::new(&self.channel, LISTENER | u64::from(name)).map_err(os)?;
        id.listen(addr, backlog).map_err(os)?;
        self.listeners.insert(name, id);
        Ok(Listener(name))
    }

    pub(super) fn dial(&mut self, to: SocketAddr) -> Result<Qp, VerbsError> {
        let name = self.conns.next_name().ok_or(VerbsError::State)?;
        let mut id = CmId::new(&self.channel, name).map_err(os)?;
        if id.resolve(to, RESOLVE_MS_MAX).is_err() {
            // No way there is told as every other failed dial is.
            self.events.push_back(CmEvent::Refused(Qp(name), Refusal::Unreachable));
        }
        self.conns.insert(Conn { id, dialling: Some(to), pd: None, device: None });
        Ok(Qp(name))
    }

    /// The completion queue of an adapter, made when it is first needed.
    fn queue(&mut self, device: usize) -> Result<std::rc::Rc<Cq>, VerbsError> {
        if let Some(adapter) = self.adapters.get(device).and_then(Option::as_ref) {
            return Ok(adapter.cq.clone());
        }
        let depth = self.options.cq_depth.min(self.devices.cqe_max(device)).max(1);
        let vectors = self.devices.completion_vectors(device).max(1);
        let vector = self.options.completion_vector.unwrap_or_else(std::process::id) % vectors;
        let cq = Cq::new(&self.devices, device, depth, vector).map_err(at("cannot make a completion queue"))?;
        watch(&self.epoll, cq.fd())?;
        let place = self.adapters.get_mut(device).ok_or(VerbsError::Unknown("adapter"))?;
        *place = Some(Adapter { cq: cq.clone() });
        Ok(cq)
    }

    pub(super) fn equip(&mut self, qp: Qp, pd: Pd, caps: QpCaps) -> Result<QpCaps, VerbsError> {
        let device = self.conn(qp)?.device.ok_or(VerbsError::State)?;
        let cq = self.queue(device)?;
        let (domain, users) = self.pds.get_mut(pd.0 as usize).ok_or(VerbsError::Unknown("protection domain"))?;
        let conn = self.conns.get_mut(qp.0).ok_or(VerbsError::Unknown("connection"))?;
        // What an adapter takes inline is only learnt by trying.
        let mut wanted = caps.inline_bytes;
        let inline_bytes = loop {
            match conn.id.create_qp(domain, &cq, caps.send_depth, caps.recv_depth, wanted) {
                Ok(inline_bytes) => break inline_bytes,
                Err(_) if wanted > 0 => wanted /= 2,
                Err(error) => return Err(at("cannot make a queue pair")(error)),
            }
        };
        *users += 1;
        conn.pd = Some(pd.0 as usize);
        Ok(QpCaps { inline_bytes, ..caps })
    }

    #[inline]
    pub(super) fn next_event(&mut self) -> Option<CmEvent> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if self.unasked < ASK_EVERY {
            self.unasked += 1;
            return None;
        }
        self.ask()
    }

    #[cold]
    fn ask(&mut self) -> Option<CmEvent> {
        loop {
            let Some(raw) = self.channel.next() else {
                self.unasked = 0;
                self.ask_adapters();
                return self.events.pop_front();
            };
            if let Some(event) = self.understand(raw) {
                return Some(event);
            }
        }
    }

    fn ask_adapters(&mut self) {
        for device in 0..self.devices.len() {
            while let Some(kind) = self.devices.next_event(device) {
                match kind {
                    IBV_EVENT_CQ_ERR => self.overrun = true,
                    IBV_EVENT_DEVICE_FATAL => {
                        let gone = self.conns.iter().filter(|(_, conn)| conn.device == Some(device));
                        self.events.extend(gone.map(|(name, _)| CmEvent::DeviceRemoved(Qp(name))));
                    }
                    _ => {}
                }
            }
        }
    }

    fn understand(&mut self, event: RawCmEvent) -> Option<CmEvent> {
        if let Some(mut id) = event.dialled {
            let listener = Listener((event.token & !LISTENER) as u32);
            let device = id.device(&self.devices);
            let addresses = id.remote_addr().zip(id.local_addr());
            let (Some((remote, local)), Some(_), true, Some(name)) =
                (addresses, device, self.listeners.contains_key(&listener.0), self.conns.next_name())
            else {
                // An adapter that came later, a listener that is gone, or too many.
                id.reject();
                return None;
            };
            id.set_token(name);
            self.conns.insert(Conn { id, dialling: None, pd: None, device });
            return Some(CmEvent::Request { listener, qp: Qp(name), remote, local });
        }
        let qp = Qp(event.token);
        let devices = self.devices.clone();
        let conn = self.conns.get_mut(event.token)?;
        let unreachable = CmEvent::Refused(qp, Refusal::Unreachable);
        match event.kind {
            RDMA_CM_EVENT_ADDR_RESOLVED => match conn.id.resolve_route(RESOLVE_MS_MAX) {
                Ok(()) => None,
                Err(_) => Some(unreachable),
            },
            RDMA_CM_EVENT_ROUTE_RESOLVED if conn.dialling.is_some() => {
                conn.device = conn.id.device(&devices);
                Some(CmEvent::Resolved(qp))
            }
            RDMA_CM_EVENT_ADDR_ERROR
            | RDMA_CM_EVENT_ROUTE_ERROR
            | RDMA_CM_EVENT_CONNECT_ERROR
            | RDMA_CM_EVENT_UNREACHABLE => Some(unreachable),
            RDMA_CM_EVENT_REJECTED => Some(CmEvent::Refused(qp, Refusal::Rejected)),
            RDMA_CM_EVENT_ESTABLISHED => {
                conn.id.set_min_rnr_timer(MIN_RNR_TIMER_CODE);
                Some(CmEvent::Established(qp))
            }
            RDMA_CM_EVENT_DISCONNECTED | RDMA_CM_EVENT_ADDR_CHANGE => Some(CmEvent::Disconnected(qp)),
            RDMA_CM_EVENT_DEVICE_REMOVAL => Some(CmEvent::DeviceRemoved(qp)),
            _ => None,
        }
    }
}
