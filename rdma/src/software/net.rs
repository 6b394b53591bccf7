//! What lies between software devices: queue pairs, packets under way, completion queues, and the
//! connection manager's events. It touches a device's memory only while that device is being polled.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use nix::sys::eventfd::EventFd;
use slab::Slab;

use super::faults::{Faults, Random};
use super::regions::Regions;
use crate::verbs::{
    Arrived, CmEvent, Completion, ConnParams, Listener, Pd, Qp, QpCaps, RecvWr, Refusal, SendOp, SendWr, Sge, Status,
    VerbsError,
};

/// Packets under way to one queue pair at most.
const WIRE_PACKETS_MAX: usize = 256;
/// Packets one poll delivers to one queue pair at most.
const DELIVER_MAX: usize = 256;

/// Where a queue pair stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not connected yet.
    Young,
    /// Can send and receive.
    Ready,
    /// Everything flushes.
    Error,
}

struct Wqe {
    wr: SendWr,
    inline: Option<Vec<u8>>,
}

struct Packet {
    op: SendOp,
    payload: Vec<u8>,
    due: u64,
    /// A not-ready fault has already been drawn for it.
    drawn: bool,
}

/// One side of a connection.
pub(super) struct End {
    pub(super) id: Qp,
    pub(super) port: usize,
    pub(super) qp: Option<(Pd, QpCaps)>,
    state: State,
    peer: Option<Qp>,
    dialling: Option<SocketAddr>,
    params: ConnParams,
    /// Its peer said goodbye, so silence from there is no failure.
    goodbye: bool,
    sq: VecDeque<Wqe>,
    unacked: VecDeque<(u64, bool)>,
    rq: VecDeque<RecvWr>,
    inbound: VecDeque<Packet>,
    /// How often the packet at the front has found no receive.
    not_ready: u64,
    on_list: bool,
}

/// A device's side of the net.
pub(super) struct Port {
    pub(super) cm: VecDeque<(u64, CmEvent)>,
    pub(super) cq: VecDeque<(Qp, Completion)>,
    pub(super) cq_depth: usize,
    pub(super) overrun: bool,
    pub(super) held_until: u64,
    pub(super) armed: bool,
    pub(super) bell: Arc<EventFd>,
    /// Slots of queue pairs with something to transmit or to deliver.
    pub(super) active: Vec<usize>,
}

pub(super) struct Listening {
    pub(super) port: usize,
    pub(super) id: Listener,
    pub(super) addr: SocketAddr,
    pub(super) backlog: usize,
}

pub(super) struct Net {
    pub(super) step: u64,
    ops: u64,
    random: Random,
    pub(super) faults: Faults,
    pub(super) ports: Vec<Port>,
    pub(super) ends: Slab<End>,
    generation: u64,
    pub(super) listening: Vec<Listening>,
    spare: Vec<Vec<u8>>,
}

impl Net {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Net {
            step: 0,
            ops: 0,
            random: Random::new(seed),
            faults,
            ports: Vec::new(),
            ends: Slab::new(),
            generation: 0,
            listening: Vec::new(),
            spare: Vec::new(),
        }
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
        self.ops = 0;
    }

    fn new_end(&mut self, port: usize) -> Qp {
        self.generation += 1;
        let entry = self.ends.vacant_entry();
        let id = Qp(self.generation << 24 | entry.key() as u64 & 0xff_ffff);
        entry.insert(End {
            id,
            port,
            qp: None,
            state: State::Young,
            peer: None,
            dialling: None,
            params: ConnParams { retry_count: 7, rnr_retry_count: 7 },
            goodbye: false,
            sq: VecDeque::new(),
            unacked: VecDeque::new(),
            rq: VecDeque::new(),
            inbound: VecDeque::new(),
            not_ready: 0,
            on_list: false,
        });
        id
    }

    fn slot(id: Qp) -> usize {
        (id.0 & 0xff_ffff) as usize
    }

    pub(super) fn end(&mut self, id: Qp) -> Option<&mut End> {
        self.ends.get_mut(Self::slot(id)).filter(|end| end.id == id)
    }

    fn own(&mut self, port: usize, id: Qp) -> Result<&mut End, VerbsError> {
        self.end(id).filter(|end| end.port == port).ok_or(VerbsError::Unknown("queue pair"))
    }

    /// Counts an operation of a connection, and breaks the connection if it is the one to break at.
    fn operation(&mut self, id: Qp) {
        self.ops += 1;
        if self.faults.disconnect_at == Some(self.ops) || self.random.chance(self.faults.disconnect_per_million) {
            self.sever(id);
        }
    }

    /// Both sides learn that the connection is over.
    pub(super) fn sever(&mut self, id: Qp) {
        let Some(end) = self.end(id) else { return };
        let (port, peer) = (end.port, end.peer);
        let connected = end.state == State::Ready;
        self.disconnect(id);
        if connected {
            self.event(port, CmEvent::Disconnected(id));
        }
        if let Some(peer) = peer {
            self.fail(peer);
        }
    }

    fn ring(&mut self, port: usize) {
        let port = &mut self.ports[port];
        if std::mem::take(&mut port.armed) {
            // Full counters are as readable as others.
            let _ = port.bell.write(1);
        }
    }

    fn event(&mut self, port: usize, event: CmEvent) {
        let due = self.step + self.random.up_to(self.faults.delay_steps_max);
        self.ports[port].cm.push_back((due, event));
        self.ring(port);
    }

    pub(super) fn next_event(&mut self, port: usize) -> Option<CmEvent> {
        let step = self.step;
        let queue = &mut self.ports[port].cm;
        if queue.front().is_some_and(|(due, _)| *due <= step) {
            queue.pop_front().map(|(_, event)| event)
        } else {
            None
        }
    }

    fn complete(&mut self, id: Qp, port: usize, wr_id: u64, status: Status, arrived: Arrived, length: u32) {
        let burst = self.faults.burst_steps_max;
        if burst > 0 && self.ports[port].cq.is_empty() {
            self.ports[port].held_until = self.step + self.random.up_to(burst);
        }
        let queue = &mut self.ports[port];
        if queue.cq.len() >= queue.cq_depth {
            queue.overrun = true;
        } else {
            queue.cq.push_back((id, Completion { wr_id, status, arrived, length }));
        }
        self.ring(port);
    }

    /// The queue pair goes to its error state and flushes.
    pub(super) fn fail(&mut self, id: Qp) {
        let Some(end) = self.end(id) else { return };
        if end.state == State::Error {
            return;
        }
        end.state = State::Error;
        let port = end.port;
        let dropped = std::mem::take(&mut end.inbound);
        self.spare.extend(dropped.into_iter().map(|packet| packet.payload));
        while let Some(wr_id) = self.end(id).and_then(|end| {
            end.unacked.pop_front().map(|(wr_id, _)| wr_id).or_else(|| end.sq.pop_front().map(|wqe| wqe.wr.wr_id))
        }) {
            self.complete(id, port, wr_id, Status::Flushed, Arrived::Nothing, 0);
        }
        while let Some(wr) = self.end(id).and_then(|end| end.rq.pop_front()) {
            self.complete(id, port, wr.wr_id, Status::Flushed, Arrived::Nothing, 0);
        }
    }

    pub(super) fn resolve(&mut self, port: usize, to: SocketAddr) -> Qp {
        let id = self.new_end(port);
        if let Some(end) = self.end(id) {
            end.dialling = Some(to);
        }
        self.event(port, CmEvent::Resolved(id));
        self.operation(id);
        id
    }

    pub(super) fn create_qp(&mut self, port: usize, id: Qp, pd: Pd, caps: QpCaps) -> Result<(), VerbsError> {
        self.operation(id);
        let end = self.own(port, id)?;
        if end.qp.is_some() {
            return Err(VerbsError::State);
        }
        end.qp = Some((pd, caps));
        Ok(())
    }

    pub(super) fn connect(&mut self, port: usize, id: Qp, params: ConnParams) -> Result<(), VerbsError> {
        self.operation(id);
        let end = self.own(port, id)?;
        if end.qp.is_none() || end.state != State::Young || end.peer.is_some() {
            return Err(VerbsError::State);
        }
        end.params = params;
        let Some(to) = end.dialling else { return Err(VerbsError::State) };
        let found = self
            .listening
            .iter()
            .find(|listening| listening.addr == to)
            .map(|listening| (listening.port, listening.id, listening.backlog));
        let Some((server, listener, backlog)) = found else {
            self.event(port, CmEvent::Refused(id, Refusal::Rejected));
            return Ok(());
        };
        let waiting =
            self.ports[server].cm.iter().filter(|(_, event)| matches!(event, CmEvent::Request { .. })).count();
        if waiting >= backlog {
            self.event(port, CmEvent::Refused(id, Refusal::Unreachable));
            return Ok(());
        }
        let theirs = self.new_end(server);
        if let Some(end) = self.end(theirs) {
            end.peer = Some(id);
        }
        if let Some(end) = self.end(id) {
            end.peer = Some(theirs);
        }
        let remote = SocketAddr::new(to.ip(), 1024 + (id.0 & 0x7fff) as u16);
        self.event(server, CmEvent::Request { listener, qp: theirs, remote, local: to });
        Ok(())
    }

    pub(super) fn accept(&mut self, port: usize, id: Qp, params: ConnParams) -> Result<(), VerbsError> {
        self.operation(id);
        let end = self.own(port, id)?;
        let (Some(peer), true, State::Young) = (end.peer, end.qp.is_some(), end.state) else {
            return Err(VerbsError::State);
        };
        end.params = params;
        let Some(other) = self.end(peer).filter(|other| other.state == State::Young) else {
            return Err(VerbsError::State);
        };
        other.state = State::Ready;
        let theirs = other.port;
        if let Some(end) = self.end(id) {
            end.state = State::Ready;
        }
        self.event(theirs, CmEvent::Established(peer));
        self.event(port, CmEvent::Established(id));
        Ok(())
    }

    pub(super) fn reject(&mut self, port: usize, id: Qp) {
        let Ok(end) = self.own(port, id) else { return };
        if end.state == State::Young
            && let Some(peer) = end.peer.take()
            && let Some(other) = self.end(peer)
        {
            other.peer = None;
            let port = other.port;
            self.event(port, CmEvent::Refused(peer, Refusal::Rejected));
        }
    }

    /// Tells the peer once, and fails this side.
    pub(super) fn disconnect(&mut self, id: Qp) {
        let Some(end) = self.end(id) else { return };
        let (state, peer) = (end.state, end.peer);
        self.fail(id);
        if let Some(peer) = peer
            && let Some(other) = self.end(peer)
            && !std::mem::replace(&mut other.goodbye, true)
        {
            let (port, young) = (other.port, state == State::Young);
            let event = if young && other.dialling.is_some() {
                CmEvent::Refused(peer, Refusal::Unreachable)
            } else {
                CmEvent::Disconnected(peer)
            };
            self.event(port, event);
        }
    }

    /// Ends a queue pair without telling the peer. Returns its protection domain.
    pub(super) fn remove(&mut self, id: Qp) -> Option<Pd> {
        let end = self.end(id)?;
        let (port, on_list) = (end.port, end.on_list);
        let end = self.ends.remove(Self::slot(id));
        self.spare.extend(end.inbound.into_iter().map(|packet| packet.payload));
        let port = &mut self.ports[port];
        if on_list {
            port.active.retain(|slot| *slot != Self::slot(id));
        }
        port.cq.retain(|(of, _)| *of != id);
        port.cm.retain(|(_, event)| match event {
            CmEvent::Request { qp, .. }
            | CmEvent::Resolved(qp)
            | CmEvent::Established(qp)
            | CmEvent::Refused(qp, _)
            | CmEvent::Disconnected(qp)
            | CmEvent::DeviceRemoved(qp) => *qp != id,
        });
        end.qp.map(|(pd, _)| pd)
    }

    /// Ends a queue pair as a machine that loses power does: what is under way to it is never
    /// acknowledged.
    pub(super) fn vanish(&mut self, id: Qp) -> Option<Pd> {
        let peer = self.end(id)?.peer;
        let pd = self.remove(id);
        if let Some(peer) = peer
            && let Some(other) = self.end(peer)
            && other.state == State::Ready
            && !other.unacked.is_empty()
        {
            let port = other.port;
            self.fail_front(peer, port, Status::RetryExceeded);
        }
        pd
    }

    pub(super) fn post_recv(&mut self, port: usize, id: Qp, list: &[RecvWr]) -> Result<(), VerbsError> {
        self.operation(id);
        let end = self.own(port, id)?;
        let Some((_, caps)) = end.qp else { return Err(VerbsError::State) };
        if end.rq.len() + list.len() > caps.recv_depth as usize {
            return Err(VerbsError::QueueFull);
        }
        if end.state == State::Error {
            for wr in list {
                self.complete(id, port, wr.wr_id, Status::Flushed, Arrived::Nothing, 0);
            }
            return Ok(());
        }
        end.rq.extend(list);
        Ok(())
    }

    pub(super) fn post_send(
        &mut self,
        port: usize,
        id: Qp,
        list: &[SendWr],
        regions: &Regions,
    ) -> Result<(), VerbsError> {
        self.operation(id);
        let end = self.own(port, id)?;
        let Some((_, caps)) = end.qp else { return Err(VerbsError::State) };
        if end.state == State::Young {
            return Err(VerbsError::State);
        }
        if end.sq.len() + end.unacked.len() + list.len() > caps.send_depth as usize {
            return Err(VerbsError::QueueFull);
        }
        if let Some(wr) = list.iter().find(|wr| wr.inline && wr.local.length > caps.inline_bytes) {
            return Err(VerbsError::Inline(wr.local.length));
        }
        for wr in list {
            if wr.inline {
                regions.piece(wr.local.region, wr.local.offset, wr.local.length)?;
            }
        }
        let error = end.state == State::Error;
        for wr in list {
            if error {
                self.complete(id, port, wr.wr_id, Status::Flushed, Arrived::Nothing, 0);
                continue;
            }
            let inline = if wr.inline {
                Some(self.copy(regions.piece(wr.local.region, wr.local.offset, wr.local.length)?))
            } else {
                None
            };
            if let Some(end) = self.end(id) {
                end.sq.push_back(Wqe { wr: *wr, inline });
            }
        }
        if error {
            return Ok(());
        }
        self.activate(id);
        if !self.random.chance(self.faults.late_per_million) {
            self.transmit(id, regions);
        }
        Ok(())
    }

    fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        // Of few sizes, so that a copy that is used again seldom grows.
        copy.reserve(bytes.len().next_power_of_two().max(1024));
        copy.extend_from_slice(bytes);
        copy
    }

    fn activate(&mut self, id: Qp) {
        if let Some(end) = self.end(id)
            && !std::mem::replace(&mut end.on_list, true)
        {
            let port = end.port;
            self.ports[port].active.push(Self::slot(id));
        }
    }

    /// Puts posted requests onto the wire.
    fn transmit(&mut self, id: Qp, regions: &Regions) {
        loop {
            let Some(end) = self.end(id) else { return };
            let (Some((pd, _)), Some(peer), false) = (end.qp, end.peer, end.sq.is_empty() || end.state != State::Ready)
            else {
                return;
            };
            let (port, goodbye) = (end.port, end.goodbye);
            let Some(other) = self.end(peer) else {
                if !goodbye {
                    self.fail_front(id, port, Status::RetryExceeded);
                }
                return;
            };
            if other.state != State::Ready || other.inbound.len() >= WIRE_PACKETS_MAX {
                return;
            }
            self.operation(id);
            if self.random.chance(self.faults.fail_per_million) {
                self.fail_front(id, port, Status::RetryExceeded);
                return;
            }
            let due = self.step + self.random.up_to(self.faults.delay_steps_max);
            // The operation may have been the connection's last.
            let Some(wqe) = self.end(id).filter(|end| end.state == State::Ready).and_then(|end| end.sq.pop_front())
            else {
                return;
            };
            let payload = match wqe.inline {
                Some(payload) => payload,
                None => match regions.local(pd, wqe.wr.local) {
                    Ok(bytes) => self.copy(bytes),
                    Err(status) => {
                        self.complete(id, port, wqe.wr.wr_id, status, Arrived::Nothing, 0);
                        self.fail(id);
                        return;
                    }
                },
            };
            if let Some(end) = self.end(id) {
                end.unacked.push_back((wqe.wr.wr_id, wqe.wr.signaled));
            }
            if let Some(other) = self.end(peer) {
                let theirs = other.port;
                // Later packets do not overtake.
                let due = other.inbound.back().map_or(due, |last| last.due.max(due));
                other.inbound.push_back(Packet { op: wqe.wr.op, payload, due, drawn: false });
                self.activate(peer);
                self.ring(theirs);
            }
        }
    }

    /// The oldest request fails; the others flush behind it.
    fn fail_front(&mut self, id: Qp, port: usize, status: Status) {
        let Some(end) = self.end(id) else { return };
        let oldest =
            end.unacked.pop_front().map(|(wr_id, _)| wr_id).or_else(|| end.sq.pop_front().map(|wqe| wqe.wr.wr_id));
        if let Some(wr_id) = oldest {
            self.complete(id, port, wr_id, status, Arrived::Nothing, 0);
        }
        self.fail(id);
    }

    /// Moves everything of one device along: what it posted late, and what has arrived for it.
    pub(super) fn advance(&mut self, port: usize, regions: &mut Regions) {
        self.step += 1;
        let mut at = 0;
        while let Some(slot) = self.ports[port].active.get(at).copied() {
            let Some(id) = self.ends.get(slot).map(|end| end.id) else {
                self.ports[port].active.swap_remove(at);
                continue;
            };
            self.transmit(id, regions);
            self.deliver(id, regions);
            match self.end(id) {
                Some(end) if end.state == State::Ready && !(end.sq.is_empty() && end.inbound.is_empty()) => at += 1,
                end => {
                    if let Some(end) = end {
                        end.on_list = false;
                    }
                    self.ports[port].active.swap_remove(at);
                }
            }
        }
    }

    /// Whether a sleeping device could be moved along by a poll.
    pub(super) fn is_pending(&self, port: usize) -> bool {
        let of = &self.ports[port];
        !of.cm.is_empty()
            || !of.cq.is_empty()
            || of.overrun
            || of.active.iter().filter_map(|slot| self.ends.get(*slot)).any(|end| {
                let deliverable = end
                    .inbound
                    .front()
                    .is_some_and(|packet| matches!(packet.op, SendOp::Write { .. }) || !end.rq.is_empty());
                let peer = end.peer.and_then(|peer| self.ends.get(Self::slot(peer)).filter(|other| other.id == peer));
                let transmittable = !end.sq.is_empty()
                    && peer.map_or(!end.goodbye, |peer| {
                        peer.state == State::Ready && peer.inbound.len() < WIRE_PACKETS_MAX
                    });
                end.state == State::Ready && (deliverable || transmittable)
            })
    }

    fn deliver(&mut self, id: Qp, regions: &mut Regions) {
        for _ in 0..DELIVER_MAX {
            let step = self.step;
            let chance = self.faults.not_ready_per_million;
            let Some(end) = self.end(id).filter(|end| end.state == State::Ready) else { return };
            let (Some((pd, _)), Some(peer), port) = (end.qp, end.peer, end.port) else { return };
            let Some(packet) = end.inbound.front_mut().filter(|packet| packet.due <= step) else { return };
            let wants_receive = !matches!(packet.op, SendOp::Write { .. });
            let draw = wants_receive && !std::mem::replace(&mut packet.drawn, true);
            let (retries, empty) = (end.params.rnr_retry_count, end.rq.is_empty());
            if wants_receive && (empty || (draw && self.random.chance(chance))) {
                let Some(end) = self.end(id) else { return };
                end.not_ready += 1;
                if retries < 7 && end.not_ready > u64::from(retries) {
                    let theirs = self.end(peer).map(|other| other.port);
                    if let Some(theirs) = theirs {
                        self.fail_front(peer, theirs, Status::RnrRetryExceeded);
                    }
                    if let Some(end) = self.end(id) {
                        end.inbound.clear();
                    }
                }
                return;
            }
            let Some(end) = self.end(id) else { return };
            end.not_ready = 0;
            let Some(packet) = end.inbound.pop_front() else { return };
            let receive = if wants_receive { end.rq.pop_front() } else { None };
            let length = packet.payload.len() as u32;
            let ended = match packet.op {
                SendOp::Send => regions.fill(
                    pd,
                    receive.map_or(
                        Sge {
                            region: crate::verbs::Region { id: u32::MAX, address: 0, length: 0, rkey: 0 },
                            offset: 0,
                            length: 0,
                        },
                        |wr| wr.local,
                    ),
                    &packet.payload,
                ),
                SendOp::Write { address, rkey } | SendOp::WriteImm { address, rkey, .. } => {
                    regions.remote_write(pd, address, rkey, &packet.payload)
                }
            };
            self.spare.push(packet.payload);
            match ended {
                Ok(()) => {
                    let arrived = match packet.op {
                        SendOp::WriteImm { immediate, .. } => Arrived::Immediate(immediate),
                        _ => Arrived::Message,
                    };
                    if let Some(wr) = receive {
                        self.complete(id, port, wr.wr_id, Status::Success, arrived, length);
                    }
                    self.acknowledge(peer);
                }
                Err(status) => {
                    // Both sides fail: the receiver knows best why, the sender learns the little a NAK says.
                    if let Some(wr) = receive {
                        let ours = if status == Status::RemoteAccess { Status::Flushed } else { status };
                        self.complete(id, port, wr.wr_id, ours, Arrived::Nothing, 0);
                    }
                    self.fail(id);
                    let theirs = if status == Status::RemoteAccess { status } else { Status::RemoteInvalid };
                    if let Some(sender) = self.end(peer).map(|other| other.port) {
                        self.fail_front(peer, sender, theirs);
                    }
                    return;
                }
            }
        }
    }

    /// The oldest request of a sender has been carried out.
    fn acknowledge(&mut self, sender: Qp) {
        let Some(end) = self.end(sender) else { return };
        let port = end.port;
        let more = !end.sq.is_empty();
        if let Some((wr_id, true)) = end.unacked.pop_front() {
            self.complete(sender, port, wr_id, Status::Success, Arrived::Nothing, 0);
        }
        if more {
            self.ring(port);
        }
    }
}
