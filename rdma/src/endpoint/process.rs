//! What drives the connections: events of the connection manager, completions, deadlines, and looking
//! after whatever they touched.

use std::net::SocketAddr;

use tercel_transport::Event;

use super::conn::{Conn, ConnectionMemory, Phase, RECV_SLOT_BYTES};
use super::options::{Ended, Reason};
use super::tx::Shape;
use super::{ENDED_MAX, Endpoint, FLUSH_NS_MAX, WIPE_BYTES};
use crate::proto::{Control, ControlError};
use crate::verbs::{Arrived, CmEvent, Completion, ConnParams, Device, Listener, Qp, QpCaps, RecvWr, Sge, Status};

/// Completions taken at a time, and how often in one poll at most.
pub(super) const BURST: usize = 64;
const BURSTS_MAX: usize = 16;
/// Events of the connection manager handled in one poll at most.
const EVENTS_MAX: usize = 64;
/// Marks the completion of a send.
const SEND_TAG: u16 = u16::MAX;
/// A peer that outruns our receives is to try again for ever, and a lost packet seven times.
const PARAMS: ConnParams = ConnParams { retry_count: 7, rnr_retry_count: 7 };

fn wr_id(index: u32, epoch: u16, tag: u16) -> u64 {
    u64::from(index) << 32 | u64::from(epoch) << 16 | u64::from(tag)
}

impl<D: Device> Endpoint<D> {
    /// Takes everything that is there and keeps the news for the owner.
    pub(super) fn process(&mut self) {
        for _ in 0..EVENTS_MAX {
            let Some(event) = self.device.poll_cm() else { break };
            self.on_event(event);
        }
        for _ in 0..BURSTS_MAX {
            match self.device.poll_cq(&mut self.burst) {
                Ok(count) => {
                    for at in 0..count.min(BURST) {
                        let completion = self.burst[at];
                        self.on_completion(&completion);
                    }
                    if count < BURST {
                        break;
                    }
                }
                Err(error) => {
                    self.poison(&Reason::Verbs(error));
                    break;
                }
            }
        }
        if self.now_ns >= self.next_due_ns {
            self.on_time();
        }
        if !self.to_wipe.is_empty() {
            self.wipe();
        }
        if !self.dirty.is_empty() {
            self.look_after();
        }
    }

    /// Wipes a little of the memory that connections have left.
    fn wipe(&mut self) {
        let whole = self.connection_memory_bytes();
        if let Some((memory, at)) = self.to_wipe.front_mut() {
            memory.wipe(&mut self.device, *at, WIPE_BYTES);
            *at += WIPE_BYTES;
            if *at >= whole
                && let Some((memory, _)) = self.to_wipe.pop_front()
            {
                self.free_memory.push(memory);
            }
        }
    }

    /// Memory for a connection from the pool, if there is any on its adapter.
    fn pooled_memory(&mut self, qp: Qp) -> Option<ConnectionMemory> {
        if let Some(at) = self.free_memory.iter().rposition(|memory| self.device.is_reachable(memory.pd, qp)) {
            return Some(self.free_memory.swap_remove(at));
        }
        let at = self.to_wipe.iter().position(|(memory, _)| self.device.is_reachable(memory.pd, qp))?;
        let (memory, wiped) = self.to_wipe.remove(at)?;
        let left = self.connection_memory_bytes() - wiped;
        memory.wipe(&mut self.device, wiped, left);
        Some(memory)
    }

    /// Windows that became full before the owner's last turn.
    pub(super) fn turn_full(&mut self) {
        let (window_bytes, early) = (self.options.rx_window_bytes, self.options.announce_early);
        while let Some(index) = self.full.pop() {
            let rx = &mut self.conns[index as usize].rx;
            if rx.is_full(window_bytes) {
                rx.set_waited();
                rx.turn(window_bytes, early);
                self.touch(index);
            }
        }
    }

    /// The completion queue cannot be trusted any more: everything on it ends.
    fn poison(&mut self, reason: &Reason) {
        if std::mem::replace(&mut self.poisoned, true) {
            return;
        }
        for index in 0..self.conns.len() as u32 {
            // No flush will be seen either.
            self.conns[index as usize].recvs_out = 0;
            self.fail(index, reason.clone());
        }
    }

    fn on_event(&mut self, event: CmEvent) {
        let (CmEvent::Request { qp, .. }
        | CmEvent::Resolved(qp)
        | CmEvent::Established(qp)
        | CmEvent::Refused(qp, _)
        | CmEvent::Disconnected(qp)
        | CmEvent::DeviceRemoved(qp)) = event;
        if let CmEvent::Request { listener, remote, local, .. } = event {
            self.on_request(listener, qp, remote, local);
            return;
        }
        let Some(index) = self.by_qp.get(&qp).copied() else { return };
        let phase = self.conns[index as usize].phase;
        match event {
            CmEvent::Resolved(_) if phase == Phase::Resolving => {
                let done = self.equip(index).and_then(|()| Ok(self.device.connect(qp, PARAMS)?));
                match done {
                    Ok(()) => self.conns[index as usize].phase = Phase::Connecting,
                    Err(reason) => self.fail(index, reason),
                }
            }
            CmEvent::Established(_) if phase == Phase::Connecting => self.established(index),
            CmEvent::Refused(_, why) if matches!(phase, Phase::Resolving | Phase::Connecting) => {
                self.fail(index, Reason::Refused(why))
            }
            // A server that ends before it has our last word of the handshake says no after the fact.
            CmEvent::Refused(..) => self.fail(index, Reason::Disconnected),
            CmEvent::Disconnected(_) => self.fail(index, Reason::Disconnected),
            CmEvent::DeviceRemoved(_) => self.fail(index, Reason::DeviceRemoved),
            _ => {}
        }
    }

    fn on_request(&mut self, listener: Listener, qp: Qp, remote: SocketAddr, local: SocketAddr) {
        let of_address = self.by_address.get(&remote.ip()).copied().unwrap_or(0);
        let welcome = self.has_room() && of_address < self.options.connections_per_address_max;
        if !welcome || self.poisoned {
            self.counters.rejected += 1;
            self.device.reject(qp);
            self.device.destroy(qp);
            return;
        }
        let index = self.vacancy(qp, remote, local);
        *self.by_address.entry(remote.ip()).or_default() += 1;
        self.conns[index as usize].serves = true;
        self.conns[index as usize].listener = Some(listener);
        self.conns[index as usize].phase = Phase::Connecting;
        self.set_deadline(index, self.options.handshake_timeout);
        // Receives come before the acceptance: the client's first message may overtake our own event.
        if let Err(reason) = self.equip(index).and_then(|()| Ok(self.device.accept(qp, PARAMS)?)) {
            self.device.reject(qp);
            self.fail(index, reason);
        }
    }

    /// Memory, a queue pair and receives for a connection.
    fn equip(&mut self, index: u32) -> Result<(), Reason> {
        let (send_depth, recv_depth) = (self.options.send_depth, self.options.recv_depth);
        let qp = self.conns[index as usize].qp;
        let memory = match self.pooled_memory(qp) {
            Some(memory) => memory,
            None => {
                let memory = ConnectionMemory::new(
                    &mut self.device,
                    qp,
                    self.options.rx_window_bytes,
                    self.options.tx_bytes,
                    recv_depth,
                )?;
                self.pinned_bytes += self.connection_memory_bytes();
                memory
            }
        };
        let conn = &mut self.conns[index as usize];
        conn.memory = Some(memory);
        conn.recv_free.extend(0..recv_depth as u16);
        let caps = self.device.create_qp(
            qp,
            memory.pd,
            QpCaps { send_depth, recv_depth, inline_bytes: self.options.inline_bytes },
        )?;
        conn.inline_bytes = caps.inline_bytes;
        self.post_receives(index)
    }

    /// Posts the receives that are free.
    fn post_receives(&mut self, index: u32) -> Result<(), Reason> {
        let conn = &mut self.conns[index as usize];
        let Some(memory) = conn.memory else { return Ok(()) };
        self.recvs.clear();
        for slot in conn.recv_free.drain(..) {
            let local = Sge { region: memory.recv, offset: u32::from(slot) * RECV_SLOT_BYTES, length: RECV_SLOT_BYTES };
            self.recvs.push(RecvWr { wr_id: wr_id(index, conn.epoch, slot), local });
        }
        conn.recvs_out += self.recvs.len() as u32;
        if let Err(error) = self.device.post_recv(conn.qp, &self.recvs) {
            conn.recvs_out -= self.recvs.len() as u32;
            return Err(error.into());
        }
        Ok(())
    }

    fn established(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if conn.phase == Phase::Connecting {
            conn.phase = Phase::Greeting;
            self.touch(index);
        }
    }

    fn on_completion(&mut self, completion: &Completion) {
        self.counters.completions += 1;
        let (index, epoch, tag) =
            ((completion.wr_id >> 32) as u32, (completion.wr_id >> 16) as u16, completion.wr_id as u16);
        let Some(conn) =
            self.conns.get_mut(index as usize).filter(|conn| conn.epoch == epoch && conn.phase != Phase::Free)
        else {
            return;
        };
        if tag == SEND_TAG {
            match completion.status {
                Status::Success => {
                    conn.tx.completed();
                    if conn.is_at_ease(self.options.recv_depth) {
                        return;
                    }
                }
                Status::Flushed if conn.reason.is_some() => {}
                status => self.fail(index, Reason::Completion(status)),
            }
            self.touch(index);
            return;
        }
        if conn.recvs_out == 0 || u32::from(tag) >= self.options.recv_depth {
            return;
        }
        conn.recvs_out -= 1;
        match completion.status {
            Status::Success => {
                let heard = self.on_arrival(index, tag, completion);
                let conn = &mut self.conns[index as usize];
                conn.recv_free.push(tag);
                match heard {
                    // The owner's answer comes first, and what is then due goes along with it.
                    Ok(()) if conn.is_at_ease(self.options.recv_depth) => return,
                    Ok(()) => {}
                    Err(reason) => self.fail(index, reason),
                }
            }
            Status::Flushed if conn.reason.is_some() => {}
            // Not the first sign of a disconnect on every device; the event that says so follows.
            Status::Flushed => self.fail(index, Reason::Disconnected),
            status => self.fail(index, Reason::Completion(status)),
        }
        self.touch(index);
    }

    /// A receive that worked.
    fn on_arrival(&mut self, index: u32, slot: u16, completion: &Completion) -> Result<(), Reason> {
        // The peer may be heard before the connection manager tells that it is there.
        self.established(index);
        let conn = &mut self.conns[index as usize];
        let left_in_order = conn.phase == Phase::Broken && conn.reason == Some(Reason::Disconnected);
        if !left_in_order && !matches!(conn.phase, Phase::Greeting | Phase::Live | Phase::Draining) {
            return Ok(());
        }
        let Some(memory) = &conn.memory else { return Ok(()) };
        conn.tx.heard();
        match completion.arrived {
            Arrived::Immediate(immediate) => {
                if conn.rx.is_announcement_due() {
                    return Err(Reason::NoWindow);
                }
                let spills =
                    conn.rx.arrived(immediate, completion.length, &self.device, &memory.windows, &mut self.spare)?;
                self.counters.spills += u64::from(spills);
                self.stats.receives += 1;
                self.stats.received_bytes += u64::from(immediate);
                let window_bytes = self.options.rx_window_bytes;
                if conn.phase == Phase::Draining || conn.closing {
                    // Nobody will read it, but the peer may not read us before it has written.
                    conn.rx.consume(usize::MAX, &mut self.spare);
                } else if !std::mem::replace(&mut conn.readable, true) {
                    self.readable.push(index);
                }
                conn.rx.turn(window_bytes, self.options.announce_early);
                if conn.rx.is_full(window_bytes) {
                    self.full.push(index);
                }
                Ok(())
            }
            Arrived::Message => {
                let offset = u32::from(slot) * RECV_SLOT_BYTES;
                let length = completion.length;
                let bytes = self.device.bytes(memory.recv, offset, length.min(RECV_SLOT_BYTES)).unwrap_or_default();
                if length > RECV_SLOT_BYTES {
                    return Err(ControlError::Length(length as usize).into());
                }
                let control = Control::decode(bytes)?;
                self.on_control(index, control)
            }
            Arrived::Nothing => Err(Reason::Completion(Status::Other)),
        }
    }

    fn on_control(&mut self, index: u32, control: Control) -> Result<(), Reason> {
        let conn = &mut self.conns[index as usize];
        match control {
            Control::Keepalive => Ok(()),
            Control::GetServerFeature { .. } | Control::SetClientFeature { .. } if !conn.serves => {
                Err(Reason::ControlRole)
            }
            Control::GetServerFeature { select, .. } => {
                conn.answer_due = Some(select);
                Ok(())
            }
            Control::SetClientFeature { features: 0, .. } => Ok(()),
            Control::SetClientFeature { features, .. } => Err(Reason::Features(features)),
            Control::RegisterXferMemory(window) => {
                let (min, max) = self.options.peer_window_bytes;
                window.check(min, max)?;
                conn.tx.set_window(window);
                conn.stalled = false;
                if conn.phase == Phase::Greeting {
                    self.open(index);
                }
                Ok(())
            }
        }
    }

    /// The handshake is over.
    fn open(&mut self, index: u32) {
        let keepalive = self.options.keepalive_interval.as_nanos() as u64;
        let conn = &mut self.conns[index as usize];
        conn.phase = Phase::Live;
        conn.stood = true;
        conn.deadline_ns = u64::MAX;
        if keepalive > 0 {
            conn.keepalive_ns = self.now_ns.saturating_add(keepalive);
            self.next_due_ns = self.next_due_ns.min(conn.keepalive_ns);
        }
        if conn.closing {
            self.drain(index);
        } else if conn.serves {
            conn.known = true;
            self.stats.accepted += 1;
            self.news.push(Event::Accepted(conn.id(index)));
        } else {
            self.stats.connected += 1;
            self.news.push(Event::Connected(conn.id(index)));
        }
        // What came before the owner knew of the connection is told with it.
        let conn = &mut self.conns[index as usize];
        if conn.known && conn.rx.unconsumed() > 0 && !std::mem::replace(&mut conn.readable, true) {
            self.readable.push(index);
        }
    }

    /// What is queued leaves, then the connection ends.
    pub(super) fn drain(&mut self, index: u32) {
        let window_bytes = self.options.rx_window_bytes;
        let conn = &mut self.conns[index as usize];
        conn.phase = Phase::Draining;
        conn.rx.consume(usize::MAX, &mut self.spare);
        conn.rx.turn(window_bytes, self.options.announce_early);
        self.set_deadline(index, self.options.drain_timeout);
        self.touch(index);
    }

    /// Ends a connection for a reason; the first one counts.
    pub(super) fn fail(&mut self, index: u32, reason: Reason) {
        let conn = &mut self.conns[index as usize];
        if matches!(conn.phase, Phase::Free | Phase::Broken | Phase::Dying) {
            return;
        }
        self.counters.count(&reason);
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(Ended { remote: conn.remote, reason: reason.clone() });
        conn.reason = Some(reason);
        let owned = conn.known && conn.is_open();
        if owned {
            conn.phase = Phase::Broken;
            conn.tx.clear(&mut self.pool);
            conn.keepalive_ns = u64::MAX;
            self.device.disconnect(conn.qp);
            self.set_deadline(index, std::time::Duration::from_nanos(FLUSH_NS_MAX));
            self.touch(index);
        } else {
            self.tear_down(index);
        }
    }

    /// The connection is nobody's any more: disconnect it, and let go of it once it has flushed.
    pub(super) fn tear_down(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if conn.known {
            conn.generation = conn.generation.wrapping_add(1);
            conn.known = false;
        }
        conn.phase = Phase::Dying;
        conn.keepalive_ns = u64::MAX;
        conn.tx.clear(&mut self.pool);
        conn.rx.abandon(&mut self.spare);
        self.device.disconnect(conn.qp);
        self.set_deadline(index, std::time::Duration::from_nanos(FLUSH_NS_MAX));
        self.touch(index);
    }

    /// Destroys the queue pair and frees the slot.
    fn vacate(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        self.device.destroy(conn.qp);
        self.by_qp.remove(&conn.qp);
        if conn.serves
            && let Some(count) = self.by_address.get_mut(&conn.remote.ip())
        {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&conn.remote.ip());
            }
        }
        if let Some(memory) = conn.memory.take() {
            if self.free_memory.len() + self.to_wipe.len() < self.options.pooled_max {
                self.to_wipe.push_back((memory, 0));
            } else {
                self.pinned_bytes -= ConnectionMemory::bytes(
                    self.options.rx_window_bytes,
                    self.options.tx_bytes,
                    self.options.recv_depth,
                );
                memory.free(&mut self.device);
            }
        }
        *conn = Conn {
            dirty: conn.dirty,
            readable: conn.readable,
            ..Conn::vacant(conn.generation.wrapping_add(1), conn.epoch.wrapping_add(1))
        };
        self.free.push(index);
        self.taken -= 1;
    }

    /// Deadlines and keepalives.
    fn on_time(&mut self) {
        let mut next = u64::MAX;
        let keepalive = self.options.keepalive_interval.as_nanos() as u64;
        for index in 0..self.conns.len() as u32 {
            let conn = &mut self.conns[index as usize];
            if self.now_ns >= conn.keepalive_ns {
                conn.keepalive_ns = self.now_ns.saturating_add(keepalive);
                conn.keepalive_due = true;
                self.touch(index);
            }
            let conn = &mut self.conns[index as usize];
            if self.now_ns >= conn.deadline_ns {
                conn.deadline_ns = u64::MAX;
                match conn.phase {
                    Phase::Resolving | Phase::Connecting | Phase::Greeting => {
                        self.fail(index, Reason::HandshakeTimeout)
                    }
                    Phase::Draining => self.fail(index, Reason::DrainTimeout),
                    // It does not flush: it is destroyed as it is.
                    Phase::Broken | Phase::Dying => {
                        conn.recvs_out = 0;
                        self.touch(index);
                    }
                    Phase::Free | Phase::Live => {}
                }
            }
            let conn = &self.conns[index as usize];
            next = next.min(conn.deadline_ns).min(conn.keepalive_ns);
        }
        self.next_due_ns = next;
    }

    /// Posts what is due for every connection that was touched.
    pub(super) fn look_after(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut at = 0;
        while let Some(index) = dirty.get(at).copied() {
            at += 1;
            self.conns[index as usize].dirty = false;
            match self.conns[index as usize].phase {
                Phase::Greeting | Phase::Live | Phase::Draining => self.pump(index),
                Phase::Broken => {
                    let conn = &self.conns[index as usize];
                    if conn.recvs_out == 0 && !conn.hung {
                        self.hangups.push(index);
                    }
                }
                Phase::Dying if self.conns[index as usize].recvs_out == 0 => self.vacate(index),
                _ => {}
            }
            // What failed while it was looked after is looked after too.
            dirty.append(&mut self.dirty);
        }
        dirty.clear();
        self.dirty = dirty;
    }

    /// Posts what is due for a connection: sends before receives, of which enough are still posted.
    fn pump(&mut self, index: u32) {
        self.pump_sends(index);
        let conn = &self.conns[index as usize];
        if matches!(conn.phase, Phase::Greeting | Phase::Live | Phase::Draining)
            && conn.recv_free.len() * 4 >= self.options.recv_depth as usize
            && let Err(reason) = self.post_receives(index)
        {
            self.fail(index, reason);
        }
    }

    fn pump_sends(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        let Some(memory) = &conn.memory else { return };
        let shape = Shape {
            wr_id: wr_id(index, conn.epoch, SEND_TAG),
            region: memory.tx,
            depth: self.options.send_depth,
            inline_bytes: conn.inline_bytes,
        };
        let list = &mut self.sends;
        list.clear();
        if let Some(window) = conn.rx.due_window() {
            let region = memory.windows[window];
            let announcement = Control::RegisterXferMemory(crate::proto::Window {
                address: region.address,
                length: region.length,
                rkey: region.rkey,
            });
            if conn.tx.stage_control(announcement, &shape, &mut self.device, list) {
                conn.rx.announced();
                self.counters.windows_announced += 1;
            }
        }
        if let Some(select) = conn.answer_due
            && conn.tx.stage_control(Control::GetServerFeature { select, features: 0 }, &shape, &mut self.device, list)
        {
            conn.answer_due = None;
        }
        if conn.keepalive_due && conn.tx.stage_control(Control::Keepalive, &shape, &mut self.device, list) {
            conn.keepalive_due = false;
        }
        let sent = if conn.tx.unsent == 0 || !conn.serves && conn.tx.unheard() >= self.options.unheard_max {
            0
        } else {
            conn.tx.stage_data(&shape, &mut self.device, &mut self.pool, list)
        };
        let finish = conn.phase == Phase::Draining && conn.tx.unsent == 0;
        conn.tx.sign(&shape, finish, list);
        if !list.is_empty() {
            self.counters.doorbells += 1;
            self.stats.sends += u64::from(sent > 0);
            self.stats.sent_bytes += sent as u64;
            if let Err(error) = self.device.post_send(conn.qp, list) {
                self.fail(index, error.into());
                return;
            }
        }
        if conn.tx.has_window() && conn.tx.is_stalled() && !std::mem::replace(&mut conn.stalled, true) {
            self.counters.stalls += 1;
        }
        if conn.tx.unsent > 0 {
            conn.blocked = true;
        } else if std::mem::take(&mut conn.blocked) && conn.known {
            self.news.push(Event::Drained(conn.id(index)));
        }
        if finish && conn.tx.is_settled() {
            conn.reason = Some(Reason::Closed);
            self.tear_down(index);
        }
    }
}
