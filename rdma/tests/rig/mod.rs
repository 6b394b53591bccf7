//! A server and its client on two devices, for the conformance suite.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tercel_rdma::endpoint::Options;
use tercel_rdma::hca::HcaDevice;
use tercel_rdma::software::SoftDevice;
use tercel_rdma::verbs::{Device, Qp};
use tercel_rdma::{RdmaClient, RdmaTransport};
use tercel_transport::client::{Client as _, Received};
use tercel_transport::conformance::{Dial, Dialler, Rig, Seen};
use tercel_transport::{Address, Close, ConnId, ConnectOptions, Event, Hangup, ListenerId, Transport};

pub const WINDOW_BYTES: u32 = 64 * 1024;

/// What a device of a test can do beside verbs.
pub trait Lab: Device {
    /// Whether a poll would find something.
    fn is_pending(&self) -> bool;
    /// Ends a connection without telling the peer, if that can be done.
    fn vanish(&mut self, qp: Qp) -> bool;
    /// Connections for the test that wants many.
    const MANY: usize;
    /// Whether its addresses are those of the loopback device.
    const IS_LOCAL: bool;
}

impl Lab for SoftDevice {
    fn is_pending(&self) -> bool {
        SoftDevice::is_pending(self)
    }
    fn vanish(&mut self, qp: Qp) -> bool {
        SoftDevice::vanish(self, qp);
        true
    }
    const MANY: usize = 500;
    const IS_LOCAL: bool = true;
}

impl Lab for HcaDevice {
    fn is_pending(&self) -> bool {
        true
    }
    fn vanish(&mut self, _: Qp) -> bool {
        false
    }
    const MANY: usize = 60;
    const IS_LOCAL: bool = false;
}

#[derive(Clone, Copy)]
pub struct Setup {
    pub announce_early: bool,
    pub inline_bytes: u32,
    pub window_bytes: u32,
}

type Shared<D> = Rc<RefCell<RdmaClient<D>>>;

pub struct RdmaRig<D: Lab> {
    transport: RdmaTransport<D>,
    listener: ListenerId,
    addr: SocketAddr,
    client: Shared<D>,
    setup: Setup,
}

impl<D: Lab> RdmaRig<D> {
    /// Listens on `addr`; port 0 picks one.
    pub fn new(server: D, client: D, addr: SocketAddr, setup: Setup) -> Self {
        let options = options(setup);
        let mut transport = RdmaTransport::new(server, options.clone()).unwrap();
        let listener = transport.listen(addr, 1000).unwrap();
        let addr = transport.endpoint().local_addr(listener).unwrap();
        let client = RdmaClient::new(client, options, addr).unwrap();
        let listener = ListenerId(listener.0);
        RdmaRig { transport, listener, addr, client: Rc::new(RefCell::new(client)), setup }
    }
}

fn options(setup: Setup) -> Options {
    Options {
        rx_window_bytes: setup.window_bytes,
        tx_bytes: 64 * 1024,
        recv_depth: 32,
        send_depth: 32,
        announce_early: setup.announce_early,
        inline_bytes: setup.inline_bytes,
        drain_timeout: Duration::from_secs(30),
        handshake_timeout: Duration::from_secs(30),
        keepalive_interval: Duration::from_millis(50),
        ..Options::default()
    }
}

fn idle_bytes_max(setup: Setup) -> usize {
    2 * setup.window_bytes as usize + 64 * 1024 + 32 * 64 + 1024
}

impl<D: Lab> Dialler for RdmaRig<D> {
    fn listeners(&mut self) -> [(Address, ListenerId); 2] {
        let second = self.transport.listen(SocketAddr::new(self.addr.ip(), 0), 1000).unwrap();
        let addr = self.transport.endpoint().local_addr(second).unwrap();
        [(Address::Rdma(self.addr), self.listener), (Address::Rdma(addr), ListenerId(second.0))]
    }

    fn nobody(&mut self) -> Address {
        Address::Rdma(SocketAddr::new(self.addr.ip(), 1))
    }

    fn foreign(&self) -> Address {
        Address::Tcp(self.addr)
    }
}

/// The far ends of what a transport has dialled.
struct FarSide<D: Lab> {
    transport: RdmaTransport<D>,
    accepted: Vec<ConnId>,
    hung: Vec<(ConnId, Hangup)>,
}

impl<D: Lab> FarSide<D> {
    fn poll(&mut self) {
        let mut events = Vec::new();
        self.transport.poll(&mut events);
        for event in events {
            match event {
                Event::Accepted(conn) => self.accepted.push(conn),
                Event::Hangup(conn, why) => self.hung.push((conn, why)),
                _ => {}
            }
        }
        self.transport.flush();
    }
}

/// The other way round: the transport under test dials, its clients are connections of another that listens.
pub struct DialledRig<D: Lab> {
    transport: RdmaTransport<D>,
    far: Rc<RefCell<FarSide<D>>>,
    to: Address,
    dialled: usize,
    setup: Setup,
}

impl<D: Lab> DialledRig<D> {
    pub fn new(near: D, far: D, addr: SocketAddr, setup: Setup) -> Self {
        let mut far = RdmaTransport::new(far, options(setup)).unwrap();
        let listener = far.listen(addr, 1000).unwrap();
        let to = Address::Rdma(far.endpoint().local_addr(listener).unwrap());
        let far = FarSide { transport: far, accepted: Vec::new(), hung: Vec::new() };
        let transport = RdmaTransport::new(near, options(setup)).unwrap();
        DialledRig { transport, far: Rc::new(RefCell::new(far)), to, dialled: 0, setup }
    }
}

impl<D: Lab> Rig for DialledRig<D> {
    type Transport = RdmaTransport<D>;
    type Client = FarLine<D>;

    fn transport(&mut self) -> &mut RdmaTransport<D> {
        let mut far = self.far.borrow_mut();
        for _ in 0..8 {
            far.poll();
            if !far.transport.endpoint().device().is_pending() {
                break;
            }
        }
        &mut self.transport
    }

    fn dial(&mut self) -> FarLine<D> {
        self.transport.connect(&self.to, &ConnectOptions::default()).unwrap();
        self.dialled += 1;
        FarLine { far: self.far.clone(), nth: self.dialled - 1 }
    }

    fn overshoot_bytes(&self) -> usize {
        2 * WINDOW_BYTES as usize
    }

    fn idle_bytes_max(&self) -> usize {
        idle_bytes_max(self.setup)
    }

    fn half_closes(&self) -> bool {
        false
    }

    fn is_local(&self) -> bool {
        D::IS_LOCAL
    }

    fn dials_unattended(&self) -> bool {
        // Whoever is dialled has a say in it, and is not polled in a park.
        false
    }

    fn many(&self) -> usize {
        D::MANY
    }
}

/// A far end: they are accepted in the order in which they were dialled, since one waits for another.
pub struct FarLine<D: Lab> {
    far: Rc<RefCell<FarSide<D>>>,
    nth: usize,
}

impl<D: Lab> Dial for FarLine<D> {
    fn is_connected(&mut self) -> bool {
        let mut far = self.far.borrow_mut();
        far.poll();
        far.accepted.len() > self.nth
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut far = self.far.borrow_mut();
        far.poll();
        let conn = far.accepted[self.nth];
        let room = (256 * 1024usize).saturating_sub(far.transport.unsent(conn));
        let len = room.min(bytes.len());
        let mut buf = far.transport.lease();
        buf.extend_from_slice(&bytes[..len]);
        far.transport.send(conn, buf);
        far.transport.flush();
        len
    }

    fn read(&mut self, into: &mut Vec<u8>) -> Seen {
        let mut far = self.far.borrow_mut();
        far.poll();
        let conn = far.accepted[self.nth];
        into.extend_from_slice(far.transport.received(conn));
        far.transport.consume(conn, usize::MAX);
        match far.hung.iter().find(|(hung, _)| *hung == conn) {
            None => Seen::Open,
            Some((_, Hangup::Eof)) => Seen::End,
            Some(_) => Seen::Broken,
        }
    }

    fn end_writing(&mut self) {}

    fn reset(self) -> bool {
        let mut far = self.far.borrow_mut();
        let conn = far.accepted[self.nth];
        let qp = far.transport.endpoint().queue_pair(conn).unwrap();
        let vanished = far.transport.endpoint().device().vanish(qp);
        far.transport.close(conn, if vanished { Close::Abort } else { Close::Drain });
        vanished
    }

    fn hang_up(self) {
        let mut far = self.far.borrow_mut();
        let conn = far.accepted[self.nth];
        far.transport.close(conn, Close::Drain);
        far.transport.flush();
    }
}

impl<D: Lab> Rig for RdmaRig<D> {
    type Transport = RdmaTransport<D>;
    type Client = Line<D>;

    fn transport(&mut self) -> &mut RdmaTransport<D> {
        // The other side is a program of its own; here it runs whenever the server is asked for.
        let mut client = self.client.borrow_mut();
        for _ in 0..8 {
            client.poll(&mut Vec::new());
            if !client.endpoint().device().is_pending() {
                break;
            }
        }
        &mut self.transport
    }

    fn dial(&mut self) -> Line<D> {
        let conn = self.client.borrow_mut().dial().unwrap();
        Line { client: self.client.clone(), conn }
    }

    fn overshoot_bytes(&self) -> usize {
        2 * WINDOW_BYTES as usize
    }

    fn idle_bytes_max(&self) -> usize {
        idle_bytes_max(self.setup)
    }

    fn half_closes(&self) -> bool {
        false
    }

    fn is_local(&self) -> bool {
        D::IS_LOCAL
    }

    fn dials_unattended(&self) -> bool {
        // The software device answers by itself.
        D::IS_LOCAL
    }

    fn many(&self) -> usize {
        D::MANY
    }
}

pub struct Line<D: Lab> {
    client: Shared<D>,
    conn: usize,
}

impl<D: Lab> Dial for Line<D> {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut client = self.client.borrow_mut();
        let taken = client.send(self.conn, bytes).unwrap_or(0);
        client.flush();
        taken
    }

    fn read(&mut self, into: &mut Vec<u8>) -> Seen {
        let mut client = self.client.borrow_mut();
        client.poll(&mut Vec::new());
        let mut room = vec![0; 64 * 1024];
        loop {
            match client.receive(self.conn, &mut room) {
                Ok(Received::Bytes(len)) => into.extend_from_slice(&room[..len]),
                Ok(Received::Nothing) => return Seen::Open,
                Ok(Received::Eof) => return Seen::End,
                Err(error) => {
                    let id = client.id(self.conn);
                    let reason = id.and_then(|id| client.endpoint().reason(id).cloned());
                    eprintln!("broken: {error}, {reason:?}");
                    return Seen::Broken;
                }
            }
        }
    }

    fn end_writing(&mut self) {}

    fn reset(self) -> bool {
        let mut client = self.client.borrow_mut();
        let id = client.id(self.conn).unwrap();
        let qp = client.endpoint().queue_pair(id).unwrap();
        let vanished = client.endpoint().device().vanish(qp);
        if vanished {
            client.close(self.conn);
        } else {
            client.finish(self.conn);
        }
        vanished
    }

    fn hang_up(self) {
        self.client.borrow_mut().finish(self.conn);
    }
}
