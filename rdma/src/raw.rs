//! Ping-pong by bare work requests: one write with an immediate there, one back, always to the same
//! place, no windows, no queue of replies, no pipelines. It is the floor below what the endpoint does,
//! on the same queue-pair settings, and nothing else should use it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use tercel_transport::client::{Client, Received};

use crate::endpoint::Options;
use crate::proto::{CONTROL_BYTES, Control, Window};
use crate::verbs::{
    Access, Arrived, CmEvent, Completion, ConnParams, Device, Pd, Qp, QpCaps, RecvWr, Region, SendOp, SendWr, Sge,
    Status, VerbsError,
};

/// The longest message in bytes.
pub const MESSAGE_BYTES_MAX: u32 = 1 << 20;
/// Every so many sends ask for a completion, without which their queue would fill up.
const SIGNAL_EVERY: u32 = 16;
const SEND_TAG: u64 = 1 << 63;
const PARAMS: ConnParams = ConnParams { retry_count: 7, rnr_retry_count: 7 };

/// One connection.
struct Pair {
    qp: Qp,
    pd: Pd,
    /// Where the peer writes, what is sent from, and where the one control message goes.
    rx: Region,
    tx: Region,
    control: Region,
    inline_bytes: u32,
    peer: Option<Window>,
    greeted: bool,
    posted: u32,
    /// A message that has arrived and was not taken.
    arrived: Option<u32>,
    /// Sent and not answered.
    awaiting: bool,
    broken: bool,
}

impl Pair {
    fn new<D: Device>(device: &mut D, qp: Qp, options: &Options, number: u64) -> Result<Pair, VerbsError> {
        let pd = device.alloc_pd(qp)?;
        let rx = device.register(pd, MESSAGE_BYTES_MAX, Access::RemoteWrite)?;
        let tx = device.register(pd, MESSAGE_BYTES_MAX + CONTROL_BYTES as u32, Access::Local)?;
        let control = device.register(pd, CONTROL_BYTES as u32 * options.recv_depth, Access::Local)?;
        let caps = QpCaps {
            send_depth: options.send_depth,
            recv_depth: options.recv_depth,
            inline_bytes: options.inline_bytes,
        };
        let caps = device.create_qp(qp, pd, caps)?;
        let receives: Vec<RecvWr> = (0..options.recv_depth).map(|slot| receive(control, number, slot)).collect();
        device.post_recv(qp, &receives)?;
        Ok(Pair {
            qp,
            pd,
            rx,
            tx,
            control,
            inline_bytes: caps.inline_bytes,
            peer: None,
            greeted: false,
            posted: 0,
            arrived: None,
            awaiting: false,
            broken: false,
        })
    }

    fn free<D: Device>(self, device: &mut D) {
        device.disconnect(self.qp);
        device.destroy(self.qp);
        for region in [self.rx, self.tx, self.control] {
            let _ = device.deregister(region);
        }
        let _ = device.dealloc_pd(self.pd);
    }

    fn post<D: Device>(
        &mut self,
        device: &mut D,
        number: u64,
        op: SendOp,
        offset: u32,
        length: u32,
    ) -> Result<(), VerbsError> {
        self.posted += 1;
        let signaled = self.posted.is_multiple_of(SIGNAL_EVERY);
        let local = Sge { region: self.tx, offset, length };
        device.post_send(
            self.qp,
            &[SendWr { wr_id: SEND_TAG | number << 32, op, local, signaled, inline: length <= self.inline_bytes }],
        )
    }

    /// Tells the peer where to write.
    fn greet<D: Device>(&mut self, device: &mut D, number: u64) -> Result<(), VerbsError> {
        if std::mem::replace(&mut self.greeted, true) {
            return Ok(());
        }
        let window = Window { address: self.rx.address, length: self.rx.length, rkey: self.rx.rkey };
        device
            .bytes_mut(self.tx, MESSAGE_BYTES_MAX, CONTROL_BYTES as u32)?
            .copy_from_slice(&Control::RegisterXferMemory(window).encode());
        self.post(device, number, SendOp::Send, MESSAGE_BYTES_MAX, CONTROL_BYTES as u32)
    }

    /// Writes the first `length` bytes of `tx`.
    fn write<D: Device>(&mut self, device: &mut D, number: u64, length: u32) -> Result<(), VerbsError> {
        let peer = self.peer.filter(|peer| length <= peer.length).ok_or(VerbsError::State)?;
        self.post(
            device,
            number,
            SendOp::WriteImm { address: peer.address, rkey: peer.rkey, immediate: length },
            0,
            length,
        )
    }
}

fn receive(control: Region, number: u64, slot: u32) -> RecvWr {
    let local = Sge { region: control, offset: slot * CONTROL_BYTES as u32, length: CONTROL_BYTES as u32 };
    RecvWr { wr_id: number << 32 | u64::from(slot), local }
}

/// What both sides share: a device and its connections by number.
struct Table<D: Device> {
    device: D,
    options: Options,
    pairs: HashMap<u64, Pair>,
    numbers: HashMap<Qp, u64>,
}

impl<D: Device> Table<D> {
    fn new(device: D, options: Options) -> Self {
        Table { device, options, pairs: HashMap::new(), numbers: HashMap::new() }
    }

    fn equip(&mut self, qp: Qp, number: u64) -> Result<(), VerbsError> {
        let pair = Pair::new(&mut self.device, qp, &self.options, number)?;
        self.pairs.insert(number, pair);
        self.numbers.insert(qp, number);
        Ok(())
    }

    fn break_off(&mut self, qp: Qp) {
        if let Some(pair) = self.numbers.get(&qp).and_then(|number| self.pairs.get_mut(number)) {
            pair.broken = true;
        }
    }

    /// Takes completions; appends the numbers of connections that a message has arrived for.
    fn take(&mut self, ready: &mut Vec<u64>) {
        let mut burst = [Completion::EMPTY; 16];
        let Ok(count) = self.device.poll_cq(&mut burst) else {
            self.pairs.values_mut().for_each(|pair| pair.broken = true);
            return;
        };
        for completion in &burst[..count] {
            let number = (completion.wr_id & !SEND_TAG) >> 32;
            let Some(pair) = self.pairs.get_mut(&number) else { continue };
            if completion.status != Status::Success {
                pair.broken = true;
            } else if completion.wr_id & SEND_TAG == 0 {
                let slot = completion.wr_id as u32;
                match completion.arrived {
                    Arrived::Immediate(length) if length <= MESSAGE_BYTES_MAX => {
                        pair.arrived = Some(length);
                        ready.push(number);
                    }
                    Arrived::Message => {
                        let bytes = self.device.bytes(
                            pair.control,
                            slot * CONTROL_BYTES as u32,
                            completion.length.min(CONTROL_BYTES as u32),
                        );
                        match bytes.ok().and_then(|bytes| Control::decode(bytes).ok()) {
                            Some(Control::RegisterXferMemory(window)) => pair.peer = Some(window),
                            _ => pair.broken = true,
                        }
                    }
                    _ => pair.broken = true,
                }
                pair.broken |= self.device.post_recv(pair.qp, &[receive(pair.control, number, slot)]).is_err();
            }
        }
    }

    fn pair(&mut self, conn: usize) -> io::Result<(&mut D, &mut Pair)> {
        let Table { device, pairs, .. } = self;
        let pair = pairs.get_mut(&(conn as u64)).ok_or(io::ErrorKind::NotConnected)?;
        if pair.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok((device, pair))
    }

    fn sleep(&mut self, timeout: Duration) {
        let _ = ppoll(
            &mut [PollFd::new(self.device.wait_fd().as_fd(), PollFlags::POLLIN)],
            Some(TimeSpec::from(timeout)),
            None,
        );
        self.device.acknowledge();
    }
}

/// The side that sends everything back.
pub struct RawEcho<D: Device> {
    table: Table<D>,
    addr: SocketAddr,
    next: u64,
    ready: Vec<u64>,
    /// Where what has arrived is copied to.
    scratch: Vec<u8>,
}

impl<D: Device> RawEcho<D> {
    /// Listens; port 0 picks one.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn new(mut device: D, options: Options, addr: SocketAddr) -> Result<Self, VerbsError> {
        let listener = device.listen(addr, 16)?;
        let addr = device.local_addr(listener).ok_or(VerbsError::State)?;
        Ok(RawEcho { table: Table::new(device, options), addr, next: 0, ready: Vec::new(), scratch: Vec::new() })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers what is there, without waiting. True if there was anything.
    pub fn turn(&mut self) -> bool {
        let mut events = false;
        while let Some(event) = self.table.device.poll_cm() {
            events = true;
            self.on_event(event);
        }
        self.table.take(&mut self.ready);
        let worked = events || !self.ready.is_empty();
        for number in self.ready.drain(..) {
            let Table { device, pairs, .. } = &mut self.table;
            let Some(pair) = pairs.get_mut(&number) else { continue };
            let Some(length) = pair.arrived.take() else { continue };
            pair.broken |= echo(device, pair, number, length, &mut self.scratch).is_err();
        }
        worked
    }

    /// Sleeps until there may be something, `timeout` at most.
    pub fn park(&mut self, timeout: Duration) {
        if self.table.device.arm().is_ok() && !self.turn() {
            self.table.sleep(timeout);
        }
    }

    fn on_event(&mut self, event: CmEvent) {
        match event {
            CmEvent::Request { qp, .. } => {
                let number = self.next;
                self.next += 1;
                let taken = self.table.equip(qp, number).and_then(|()| self.table.device.accept(qp, PARAMS));
                if taken.is_err() {
                    self.table.device.reject(qp);
                    self.let_go(qp);
                }
            }
            CmEvent::Established(qp) => {
                let Table { device, pairs, numbers, .. } = &mut self.table;
                if let Some((number, pair)) =
                    numbers.get(&qp).and_then(|number| Some((*number, pairs.get_mut(number)?)))
                {
                    pair.broken |= pair.greet(device, number).is_err();
                }
            }
            CmEvent::Disconnected(qp) | CmEvent::Refused(qp, _) | CmEvent::DeviceRemoved(qp) => self.let_go(qp),
            CmEvent::Resolved(_) => {}
        }
    }

    fn let_go(&mut self, qp: Qp) {
        match self.table.numbers.remove(&qp).and_then(|number| self.table.pairs.remove(&number)) {
            Some(pair) => pair.free(&mut self.table.device),
            None => self.table.device.destroy(qp),
        }
    }
}

fn echo<D: Device>(
    device: &mut D,
    pair: &mut Pair,
    number: u64,
    length: u32,
    scratch: &mut Vec<u8>,
) -> Result<(), VerbsError> {
    // A real answer is other bytes than the question, so a copy is part of the floor.
    let mut copied = 0;
    while copied < length {
        let count = (length - copied).min(4096);
        scratch.clear();
        device.copy_out(pair.rx, copied, count, scratch)?;
        device.bytes_mut(pair.tx, copied, count)?.copy_from_slice(scratch);
        copied += count;
    }
    pair.write(device, number, length)
}

/// The side that asks: one message under way a connection.
pub struct RawClient<D: Device> {
    table: Table<D>,
    to: SocketAddr,
    next: u64,
    ready: Vec<u64>,
    /// Where what has arrived is copied to.
    scratch: Vec<u8>,
}

impl<D: Device> RawClient<D> {
    /// A client of the echo at `to`.
    #[must_use]
    pub fn new(device: D, options: Options, to: SocketAddr) -> Self {
        RawClient { table: Table::new(device, options), to, next: 0, ready: Vec::new(), scratch: Vec::new() }
    }

    fn work(&mut self, ready: &mut Vec<usize>) {
        while let Some(event) = self.table.device.poll_cm() {
            if let CmEvent::Disconnected(qp) | CmEvent::DeviceRemoved(qp) = event {
                self.table.break_off(qp);
            }
        }
        self.table.take(&mut self.ready);
        ready.extend(self.ready.drain(..).map(|number| number as usize));
        if self.table.pairs.values().any(|pair| pair.broken) {
            ready.extend(self.table.pairs.iter().filter(|(_, pair)| pair.broken).map(|(number, _)| *number as usize));
        }
    }
}

fn broken(error: VerbsError) -> io::Error {
    io::Error::other(error)
}

impl<D: Device> Client for RawClient<D> {
    fn name(&self) -> &'static str {
        "rdma-raw"
    }

    fn connect(&mut self, timeout: Duration) -> io::Result<usize> {
        #[allow(clippy::disallowed_methods)] // Waiting for a connection is what this does.
        let start = std::time::Instant::now();
        let qp = self.table.device.resolve(self.to).map_err(broken)?;
        let number = self.next;
        self.next += 1;
        loop {
            while let Some(event) = self.table.device.poll_cm() {
                match event {
                    CmEvent::Resolved(resolved) if resolved == qp => {
                        self.table
                            .equip(qp, number)
                            .and_then(|()| self.table.device.connect(qp, PARAMS))
                            .map_err(broken)?;
                    }
                    CmEvent::Established(established) if established == qp => {
                        let Table { device, pairs, .. } = &mut self.table;
                        if let Some(pair) = pairs.get_mut(&number) {
                            pair.greet(device, number).map_err(broken)?;
                        }
                    }
                    CmEvent::Refused(refused, _) if refused == qp => {
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    }
                    _ => {}
                }
            }
            self.table.take(&mut self.ready);
            if self.table.pairs.get(&number).is_some_and(|pair| pair.peer.is_some() && pair.greeted) {
                return Ok(number as usize);
            }
            if start.elapsed() >= timeout {
                self.close(number as usize);
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    fn send(&mut self, conn: usize, bytes: &[u8]) -> io::Result<usize> {
        let (device, pair) = self.table.pair(conn)?;
        if pair.awaiting || bytes.is_empty() {
            return Ok(0);
        }
        let length = u32::try_from(bytes.len())
            .ok()
            .filter(|length| *length <= MESSAGE_BYTES_MAX)
            .ok_or(io::ErrorKind::InvalidInput)?;
        device.bytes_mut(pair.tx, 0, length).map_err(broken)?.copy_from_slice(bytes);
        pair.write(device, conn as u64, length).map_err(broken)?;
        pair.awaiting = true;
        Ok(bytes.len())
    }

    fn receive(&mut self, conn: usize, into: &mut [u8]) -> io::Result<Received> {
        let (device, pair) = self.table.pair(conn)?;
        let Some(length) = pair.arrived else { return Ok(Received::Nothing) };
        // What does not fit is asked for again; the write it came with was one.
        let take = (length as usize).min(into.len());
        self.scratch.clear();
        device.copy_out(pair.rx, 0, take as u32, &mut self.scratch).map_err(broken)?;
        into[..take].copy_from_slice(&self.scratch);
        if take < length as usize {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        pair.arrived = None;
        pair.awaiting = false;
        Ok(Received::Bytes(take))
    }

    fn poll(&mut self, ready: &mut Vec<usize>) {
        self.work(ready);
    }

    fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) {
        self.work(ready);
        if ready.is_empty() && self.table.device.arm().is_ok() {
            self.work(ready);
            if ready.is_empty() {
                self.table.sleep(timeout);
                self.work(ready);
            }
        }
    }

    fn set_blocked(&mut self, _conn: usize, _blocked: bool) {}

    fn close(&mut self, conn: usize) {
        if let Some(pair) = self.table.pairs.remove(&(conn as u64)) {
            self.table.numbers.remove(&pair.qp);
            pair.free(&mut self.table.device);
        }
    }

    fn raw_fd(&self, _conn: usize) -> Option<i32> {
        None
    }
}
