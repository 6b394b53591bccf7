//! The endpoint over real rdma_cm and libibverbs calls, on SoftRoCE: `scripts/softroce test` runs this in
//! its guest. `TERCEL_RDMA_ADDR` is the address of an adapter. One test at a time, for each opens it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod rig;

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use rig::{RdmaRig, Setup, WINDOW_BYTES};
use tercel_rdma::endpoint::{Options, Reason};
use tercel_rdma::hca::{HcaDevice, HcaOptions};
use tercel_rdma::verbs::VerbsError;
use tercel_rdma::{RdmaClient, RdmaTransport};
use tercel_transport::client::{Client as _, Received};
use tercel_transport::{Close, ConnId, Event, Hangup, Transport as _};

fn device(cq_depth: u32) -> HcaDevice {
    HcaDevice::open(HcaOptions { cq_depth, ..HcaOptions::default() }).unwrap()
}

fn address(port: u16) -> SocketAddr {
    let ip =
        std::env::var("TERCEL_RDMA_ADDR").expect("TERCEL_RDMA_ADDR: these tests run in the guest of scripts/softroce");
    SocketAddr::new(ip.parse().unwrap(), port)
}

fn rig(setup: Setup) -> RdmaRig<HcaDevice> {
    RdmaRig::new(device(16 * 1024), device(16 * 1024), address(0), setup)
}

const PLAIN: Setup = Setup { announce_early: true, inline_bytes: 256, window_bytes: WINDOW_BYTES };

tercel_transport::conformance_suite!(plain, rig(PLAIN));
tercel_transport::conformance_suite!(
    small_windows,
    rig(Setup { window_bytes: 1999, inline_bytes: 0, announce_early: false })
);

/// A server that echoes, and a client of it, each on a device of its own.
struct Pair {
    server: RdmaTransport<HcaDevice>,
    client: RdmaClient<HcaDevice>,
    log: Vec<Event>,
}

fn options() -> Options {
    Options {
        rx_window_bytes: 64 * 1024,
        tx_bytes: 64 * 1024,
        recv_depth: 32,
        send_depth: 32,
        pooled_max: 2,
        ..Options::default()
    }
}

impl Pair {
    fn new(cq_depth: u32, options: Options) -> Pair {
        let mut server = RdmaTransport::new(device(cq_depth), options.clone()).unwrap();
        let listener = server.listen(address(0), 128).unwrap();
        let addr = server.endpoint().local_addr(listener).unwrap();
        let client = RdmaClient::new(device(cq_depth), options, addr).unwrap();
        Pair { server, client, log: Vec::new() }
    }

    fn turn(&mut self) {
        let from = self.log.len();
        self.server.poll(&mut self.log);
        for event in &self.log[from..] {
            match event {
                Event::Readable(conn) => {
                    let bytes = self.server.received(*conn).to_vec();
                    self.server.consume(*conn, bytes.len());
                    let mut buf = self.server.lease();
                    buf.extend_from_slice(&bytes);
                    self.server.send(*conn, buf);
                }
                Event::Hangup(conn, _) => self.server.close(*conn, Close::Abort),
                _ => {}
            }
        }
        self.server.flush();
        self.client.poll(&mut Vec::new());
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Pair) -> bool) {
        let start = Instant::now();
        while !done(self) {
            self.turn();
            assert!(start.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        }
    }

    fn dial(&mut self) -> usize {
        let conn = self.client.dial().unwrap();
        let id = self.client.id(conn).unwrap();
        self.until("a connection", |pair| {
            pair.client.endpoint().is_live(id) && pair.server.stats().accepted as usize == conn + 1
        });
        conn
    }

    fn echo(&mut self, conn: usize, bytes: &[u8]) {
        assert_eq!(self.client.send(conn, bytes).unwrap(), bytes.len());
        self.client.flush();
        let mut got = Vec::new();
        self.until("an echo", |pair| {
            let mut room = [0; 4096];
            while let Ok(Received::Bytes(len)) = pair.client.receive(conn, &mut room) {
                got.extend_from_slice(&room[..len]);
            }
            got.len() >= bytes.len()
        });
        assert_eq!(got, bytes);
    }

    fn server_hangups(&self) -> Vec<(ConnId, Hangup)> {
        self.log
            .iter()
            .filter_map(|event| if let Event::Hangup(conn, why) = event { Some((*conn, *why)) } else { None })
            .collect()
    }
}

/// Whatever arrives while the server sleeps ends its sleep: connections, single requests at all distances
/// in time, and goodbyes. A sleep through one would last ten seconds.
#[test]
fn no_wake_up_is_lost() {
    let mut server = RdmaTransport::new(device(4096), options()).unwrap();
    let listener = server.listen(address(0), 8).unwrap();
    let addr = server.endpoint().local_addr(listener).unwrap();
    let client = std::thread::spawn(move || {
        let mut client = RdmaClient::new(device(4096), options(), addr).unwrap();
        let mut slowest = Duration::ZERO;
        for round in 0..10u64 {
            let conn = client.connect(Duration::from_secs(9)).unwrap();
            for step in 0..100u64 {
                #[allow(clippy::disallowed_methods)]
                std::thread::sleep(Duration::from_micros((round * 100 + step) * 7 % 3000));
                let start = Instant::now();
                assert_eq!(client.send(conn, b"ping").unwrap(), 4);
                client.flush();
                let (mut got, mut room, mut ready) = (0, [0; 64], Vec::new());
                while got < 4 {
                    if let Received::Bytes(len) = client.receive(conn, &mut room).unwrap() {
                        got += len;
                    } else if step % 2 == 0 {
                        client.wait(Duration::from_secs(9), &mut ready);
                    } else {
                        client.poll(&mut ready);
                    }
                    ready.clear();
                }
                slowest = slowest.max(start.elapsed());
            }
            client.finish(conn);
            client.poll(&mut Vec::new());
        }
        let start = Instant::now();
        while client.endpoint().connections() > 0 && start.elapsed() < Duration::from_secs(9) {
            client.poll(&mut Vec::new());
        }
        slowest
    });
    let mut ended = 0;
    while ended < 10 {
        let mut events = Vec::new();
        server.park(Some(Duration::from_secs(10)));
        server.poll(&mut events);
        for event in events {
            match event {
                Event::Readable(conn) => {
                    let bytes = server.received(conn).to_vec();
                    server.consume(conn, bytes.len());
                    let mut buf = server.lease();
                    buf.extend_from_slice(&bytes);
                    server.send(conn, buf);
                    server.flush();
                }
                Event::Hangup(conn, _) => {
                    server.close(conn, Close::Abort);
                    ended += 1;
                }
                _ => {}
            }
        }
    }
    let slowest = client.join().unwrap();
    assert!(slowest < Duration::from_secs(5), "a sleep was not ended: {slowest:?}");
}

fn resources() -> String {
    let said = Command::new("rdma").args(["resource", "show"]).output().expect("rdma of iproute2");
    String::from_utf8(said.stdout).unwrap()
}

#[test]
fn memory_and_queue_pairs_return_after_200_rounds_of_connect_and_kill() {
    let mut pair = Pair::new(16 * 1024, options());
    let first = pair.dial();
    pair.echo(first, b"before");
    let settled = |pair: &mut Pair| {
        pair.until("the ended to be gone", |pair| {
            pair.server.endpoint().connections() == 1 && pair.client.endpoint().connections() == 1
        });
        pair.server.endpoint().trim();
        pair.client.endpoint().trim();
        (resources(), pair.server.endpoint().pinned_bytes(), pair.client.endpoint().pinned_bytes())
    };
    let before = settled(&mut pair);
    for round in 0..200 {
        let conn = pair.client.dial().unwrap();
        match round % 4 {
            // Before anything happened, in the middle of the handshake, after it, and after use.
            0 => {}
            1 => (0..round % 7).for_each(|_| pair.turn()),
            2 => {
                let id = pair.client.id(conn).unwrap();
                pair.until("a connection", |pair| pair.client.endpoint().is_live(id));
            }
            _ => pair.echo(conn, b"a round"),
        }
        pair.client.close(conn);
        if round % 10 == 0 {
            pair.echo(first, b"others go on");
        }
    }
    let after = settled(&mut pair);
    assert_eq!(before, after);
    pair.echo(first, b"after");
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let mut first = RdmaTransport::new(device(1024), options()).unwrap();
    let listener = first.listen(address(0), 8).unwrap();
    let taken = first.endpoint().local_addr(listener).unwrap();
    let mut second = RdmaTransport::new(device(1024), options()).unwrap();
    assert_eq!(second.listen(taken, 8), Err(VerbsError::AddressInUse));
    first.endpoint().unlisten(listener);
    second.listen(taken, 8).unwrap();
}

#[test]
fn an_address_without_an_adapter_is_an_error() {
    let mut transport = RdmaTransport::new(device(1024), options()).unwrap();
    assert!(transport.listen("192.0.2.1:7000".parse().unwrap(), 8).is_err());
}

#[test]
fn a_dial_that_nobody_answers_is_refused() {
    let mut client = RdmaClient::new(device(1024), options(), address(1)).unwrap();
    assert!(client.connect(Duration::from_secs(20)).is_err());
    assert_eq!(client.endpoint().counters().ended_refused, 1);
}

/// Overruns themselves are made on the software provider; here it is shown that they do not come about.
#[test]
fn a_connection_whose_completions_have_no_room_is_refused_and_the_others_go_on() {
    let options = Options { recv_depth: 4, send_depth: 4, ..options() };
    let mut pair = Pair::new(8, options);
    let first = pair.dial();
    let second = pair.client.dial().unwrap();
    let id = pair.client.id(second).unwrap();
    pair.until("a refusal", |pair| matches!(pair.client.endpoint().reason(id), Some(Reason::Refused(_))));
    assert_eq!(pair.server.endpoint().counters().rejected, 1);
    pair.echo(first, b"goes on");
}

/// The last of these: the adapter is gone afterwards.
#[test]
fn zz_a_device_that_is_removed_ends_its_connections() {
    let mut pair = Pair::new(1024, options());
    let conn = pair.dial();
    pair.echo(conn, b"there");
    let mut removal = Command::new("rdma").args(["link", "delete", "rxe0"]).spawn().expect("rdma of iproute2");
    pair.until("both sides to hang up", |pair| {
        let id = pair.client.id(conn).unwrap();
        !pair.server_hangups().is_empty()
            && matches!(
                pair.client.endpoint().reason(id),
                Some(Reason::DeviceRemoved | Reason::Disconnected | Reason::Completion(_))
            )
    });
    pair.client.close(conn);
    pair.until("everything to be let go", |pair| {
        pair.server.endpoint().connections() == 0 && pair.client.endpoint().connections() == 0
    });
    assert_eq!(
        pair.server.endpoint().counters().ended_device
            + pair.server.endpoint().counters().ended_disconnected
            + pair.server.endpoint().counters().ended_completion,
        1
    );
    // The removal itself ends when this process does, which holds the device open.
    let _ = removal.try_wait();
}
