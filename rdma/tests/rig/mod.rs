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
use tercel_transport::conformance::{Dial, Rig, Seen};

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
    client: Shared<D>,
    idle_bytes_max: usize,
}

impl<D: Lab> RdmaRig<D> {
    /// Listens on `addr`; port 0 picks one.
    pub fn new(server: D, client: D, addr: SocketAddr, setup: Setup) -> Self {
        let options = Options {
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
        };
        let mut transport = RdmaTransport::new(server, options.clone()).unwrap();
        let listener = transport.listen(addr, 1000).unwrap();
        let addr = transport.endpoint().local_addr(listener).unwrap();
        let client = RdmaClient::new(client, options, addr).unwrap();
        let idle_bytes_max = 2 * setup.window_bytes as usize + 64 * 1024 + 32 * 64 + 1024;
        RdmaRig { transport, client: Rc::new(RefCell::new(client)), idle_bytes_max }
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
        self.idle_bytes_max
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
