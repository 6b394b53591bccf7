//! The conformance suite over the software provider: faultless, with every harmless fault at once
//! (delays, late reads of what was posted, receivers not ready, completions in bursts), without inline
//! sends, and announcing windows late.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tercel_rdma::endpoint::Options;
use tercel_rdma::software::{Fabric, Faults, SoftDevice, SoftLimits};
use tercel_rdma::{RdmaClient, RdmaTransport};
use tercel_transport::client::{Client as _, Received};
use tercel_transport::conformance::{Dial, Rig, Seen};

const WINDOW_BYTES: u32 = 64 * 1024;

type Shared = Rc<RefCell<RdmaClient<SoftDevice>>>;

struct RdmaRig {
    transport: RdmaTransport<SoftDevice>,
    client: Shared,
    idle_bytes_max: usize,
}

#[derive(Clone, Copy)]
struct Setup {
    faults: Faults,
    announce_early: bool,
    inline_bytes: u32,
    window_bytes: u32,
}

const PLAIN: Setup = Setup {
    faults: Faults {
        delay_steps_max: 0,
        burst_steps_max: 0,
        late_per_million: 0,
        not_ready_per_million: 0,
        fail_per_million: 0,
        disconnect_per_million: 0,
        disconnect_at: None,
    },
    announce_early: true,
    inline_bytes: 256,
    window_bytes: WINDOW_BYTES,
};
const ROUGH: Faults =
    Faults { delay_steps_max: 5, burst_steps_max: 7, late_per_million: 300_000, not_ready_per_million: 200_000, ..PLAIN.faults };

fn rig(setup: Setup) -> RdmaRig {
    let fabric = Fabric::new(0x7e5ce1, setup.faults);
    let limits = SoftLimits { inline_bytes_max: setup.inline_bytes, ..SoftLimits::default() };
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
    let mut transport = RdmaTransport::new(fabric.device(limits).unwrap(), options.clone()).unwrap();
    let addr: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = transport.listen(addr, 1000).unwrap();
    let addr = transport.endpoint().local_addr(listener).unwrap();
    let client = RdmaClient::new(fabric.device(limits).unwrap(), options, addr).unwrap();
    let idle_bytes_max = 2 * setup.window_bytes as usize + 64 * 1024 + 32 * 64 + 1024;
    RdmaRig { transport, client: Rc::new(RefCell::new(client)), idle_bytes_max }
}

impl Rig for RdmaRig {
    type Transport = RdmaTransport<SoftDevice>;
    type Client = Line;

    fn transport(&mut self) -> &mut RdmaTransport<SoftDevice> {
        // The other side is a program of its own; here it runs whenever the server is asked for.
        let mut client = self.client.borrow_mut();
        for _ in 0..32 {
            client.poll(&mut Vec::new());
            if !client.endpoint().device().is_pending() {
                break;
            }
        }
        &mut self.transport
    }

    fn dial(&mut self) -> Line {
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
}

struct Line {
    client: Shared,
    conn: usize,
}

impl Dial for Line {
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
                Err(_) => return Seen::Broken,
            }
        }
    }

    fn end_writing(&mut self) {}

    fn reset(self) -> bool {
        let mut client = self.client.borrow_mut();
        let id = client.id(self.conn).unwrap();
        let qp = client.endpoint().queue_pair(id).unwrap();
        client.endpoint().device().vanish(qp);
        client.close(self.conn);
        true
    }

    fn hang_up(self) {
        self.client.borrow_mut().finish(self.conn);
    }
}

tercel_transport::conformance_suite!(plain, rig(PLAIN));
tercel_transport::conformance_suite!(rough, rig(Setup { faults: ROUGH, ..PLAIN }));
tercel_transport::conformance_suite!(without_inline, rig(Setup { inline_bytes: 0, ..PLAIN }));
tercel_transport::conformance_suite!(announcing_late, rig(Setup { announce_early: false, ..PLAIN }));
tercel_transport::conformance_suite!(small_windows, rig(Setup { faults: ROUGH, window_bytes: 1999, ..PLAIN }));
