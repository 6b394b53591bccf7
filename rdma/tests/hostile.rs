//! A peer that speaks verbs by hand and does everything it should not. Each time its connection ends
//! with the right reason and counter, another one goes on, and what it held comes back.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use tercel_rdma::RdmaTransport;
use tercel_rdma::endpoint::{Counters, Options, Reason};
use tercel_rdma::proto::{Control, ControlError, ImmediateError, Window, WindowError};
use tercel_rdma::software::{Fabric, Faults, SoftDevice, SoftLimits};
use tercel_rdma::verbs::{
    Access, Arrived, CmEvent, Completion, ConnParams, Device, Qp, QpCaps, RecvWr, Region, SendOp, SendWr, Sge, Status,
    VerbsError,
};
use tercel_transport::{Address, Close, ConnId, ConnectOptions, Event, Hangup, Transport};

const WINDOW_BYTES: u32 = 64 * 1024;
const PARAMS: ConnParams = ConnParams { retry_count: 7, rnr_retry_count: 7 };

struct Server {
    fabric: Fabric,
    transport: RdmaTransport<SoftDevice>,
    addr: SocketAddr,
    log: Vec<Event>,
}

impl Server {
    fn new(options: Options) -> Server {
        let fabric = Fabric::new(3, Faults::default());
        let mut transport = RdmaTransport::new(
            fabric.device(SoftLimits::default()).unwrap(),
            Options { rx_window_bytes: WINDOW_BYTES, ..options },
        )
        .unwrap();
        let listener = transport.listen("127.0.0.1:6379".parse().unwrap(), 64).unwrap();
        let addr = transport.endpoint().local_addr(listener).unwrap();
        Server { fabric, transport, addr, log: Vec::new() }
    }

    fn turn(&mut self) {
        for _ in 0..4 {
            self.transport.poll(&mut self.log);
            self.transport.flush();
        }
    }
}

/// A peer by hand.
struct Peer {
    device: SoftDevice,
    qp: Qp,
    rx: Region,
    tx: Region,
    window: Option<Window>,
    arrived: Vec<(u32, Vec<u8>)>,
    statuses: Vec<Status>,
    events: Vec<CmEvent>,
}

impl Peer {
    fn connect(server: &mut Server) -> Peer {
        let mut device = server.fabric.device(SoftLimits::default()).unwrap();
        let qp = device.resolve(server.addr).unwrap();
        assert_eq!(device.poll_cm(), Some(CmEvent::Resolved(qp)));
        let mut peer = Peer::equip(device, qp);
        peer.device.connect(qp, PARAMS).unwrap();
        peer.turn(server);
        peer
    }

    /// One that is dialled, and takes the connection.
    fn accept(server: &mut Server, timeout: Duration) -> (Peer, ConnId) {
        let mut device = server.fabric.device(SoftLimits::default()).unwrap();
        let addr: SocketAddr = "127.0.0.2:6379".parse().unwrap();
        device.listen(addr, 1).unwrap();
        let options = ConnectOptions { timeout, ..ConnectOptions::default() };
        let conn = server.transport.connect(&Address::Rdma(addr), &options).unwrap();
        let qp = loop {
            server.turn();
            if let Some(CmEvent::Request { qp, .. }) = device.poll_cm() {
                break qp;
            }
        };
        let mut peer = Peer::equip(device, qp);
        peer.device.accept(qp, PARAMS).unwrap();
        peer.turn(server);
        assert!(peer.window.is_some());
        (peer, conn)
    }

    fn equip(mut device: SoftDevice, qp: Qp) -> Peer {
        let pd = device.alloc_pd(qp).unwrap();
        let rx = device.register(pd, 1 << 16, Access::RemoteWrite).unwrap();
        let tx = device.register(pd, 1 << 17, Access::Local).unwrap();
        device.create_qp(qp, pd, QpCaps { send_depth: 4096, recv_depth: 64, inline_bytes: 0 }).unwrap();
        for _ in 0..64 {
            device
                .post_recv(qp, &[RecvWr { wr_id: 0, local: Sge { region: tx, offset: 1 << 16, length: 64 } }])
                .unwrap();
        }
        Peer { device, qp, rx, tx, window: None, arrived: Vec::new(), statuses: Vec::new(), events: Vec::new() }
    }

    fn turn(&mut self, server: &mut Server) {
        for _ in 0..3 {
            server.turn();
            while let Some(event) = self.device.poll_cm() {
                self.events.push(event);
            }
            let mut got = [Completion::EMPTY; 64];
            let count = self.device.poll_cq(&mut got).unwrap();
            for completion in &got[..count] {
                match (completion.status, completion.arrived) {
                    (Status::Success, Arrived::Message) => {
                        let bytes = self.device.bytes(self.tx, 1 << 16, completion.length).unwrap();
                        if let Control::RegisterXferMemory(window) = Control::decode(bytes).unwrap() {
                            self.window = Some(window);
                        }
                    }
                    (Status::Success, Arrived::Immediate(len)) => {
                        let mut bytes = Vec::new();
                        self.device.copy_out(self.rx, 0, len, &mut bytes).unwrap();
                        self.arrived.push((len, bytes));
                    }
                    (Status::Success, Arrived::Nothing) => {}
                    (status, _) => self.statuses.push(status),
                }
            }
        }
    }

    fn post(&mut self, op: SendOp, length: u32) {
        let local = Sge { region: self.tx, offset: 0, length };
        let _ = self.device.post_send(self.qp, &[SendWr { wr_id: 1, op, local, signaled: true, inline: false }]);
    }

    fn message(&mut self, bytes: &[u8]) {
        self.device.bytes_mut(self.tx, 0, bytes.len() as u32).unwrap().copy_from_slice(bytes);
        self.post(SendOp::Send, bytes.len() as u32);
    }

    fn control(&mut self, control: Control) {
        self.message(&control.encode());
    }

    fn announce(&mut self) {
        let window = Window { address: self.rx.address, length: self.rx.length, rkey: self.rx.rkey };
        self.control(Control::RegisterXferMemory(window));
    }

    fn write(&mut self, offset: u32, length: u32, immediate: u32) {
        let window = self.window.unwrap();
        let op = SendOp::WriteImm { address: window.address + u64::from(offset), rkey: window.rkey, immediate };
        self.post(op, length);
    }
}

fn echo(server: &mut Server, conn: ConnId) {
    let mut buf = server.transport.lease();
    buf.extend_from_slice(server.transport.received(conn));
    server.transport.consume(conn, buf.len());
    server.transport.send(conn, buf);
    server.transport.flush();
}

fn last_accepted(server: &Server) -> ConnId {
    let accepted =
        server.log.iter().rev().find_map(|event| if let Event::Accepted(conn) = event { Some(*conn) } else { None });
    accepted.unwrap()
}

/// Lets a peer misbehave beside a good one; returns why it ended and what was counted.
fn misbehaves(deed: impl FnOnce(&mut Peer, &mut Server)) -> (Reason, Counters) {
    let mut server = Server::new(Options::default());
    let mut good = Peer::connect(&mut server);
    good.announce();
    good.turn(&mut server);
    let good_conn = last_accepted(&server);
    let held = {
        server.transport.endpoint().trim();
        server.transport.endpoint().device().holdings()
    };

    let mut bad = Peer::connect(&mut server);
    bad.announce();
    bad.turn(&mut server);
    let conn = last_accepted(&server);
    assert_ne!(conn, good_conn);
    deed(&mut bad, &mut server);
    bad.turn(&mut server);
    let ended: Vec<_> = server.transport.endpoint().take_ended().collect();
    assert_eq!(ended.len(), 1, "{ended:?}");
    let hung = server.log.iter().filter(|event| matches!(event, Event::Hangup(gone, _) if *gone == conn)).count();
    assert_eq!(hung, 1, "{:?}", server.log);
    server.transport.close(conn, Close::Drain);
    server.turn();

    good.write(0, 5, 5);
    good.turn(&mut server);
    echo(&mut server, good_conn);
    good.turn(&mut server);
    assert_eq!(good.arrived.len(), 1, "the good peer is served no more");
    let endpoint = server.transport.endpoint();
    endpoint.trim();
    assert_eq!(endpoint.device().holdings(), held, "something is left of the bad peer");
    (ended[0].reason.clone(), endpoint.counters())
}

#[test]
fn immediates_that_cannot_be_true() {
    for (length, immediate, why) in [
        (8, u32::MAX, ImmediateError::BeyondWindow { immediate: u32::MAX, room: WINDOW_BYTES }),
        (8, WINDOW_BYTES + 1, ImmediateError::BeyondWindow { immediate: WINDOW_BYTES + 1, room: WINDOW_BYTES }),
        (0, 0, ImmediateError::Zero),
        (8, 0, ImmediateError::Zero),
        (8, 7, ImmediateError::ShorterThanWrite { immediate: 7, written: 8 }),
    ] {
        let (reason, counters) = misbehaves(|peer, _| peer.write(0, length, immediate));
        assert_eq!(reason, Reason::Immediate(why));
        assert_eq!(counters.ended_immediate, 1);
    }
    // The second one no longer fits.
    let (reason, _) = misbehaves(|peer, server| {
        peer.write(0, 100, WINDOW_BYTES - 10);
        peer.turn(server);
        peer.write(0, 11, 11);
    });
    assert_eq!(reason, Reason::Immediate(ImmediateError::BeyondWindow { immediate: 11, room: 10 }));
}

#[test]
fn writes_outside_the_window() {
    let (reason, counters) = misbehaves(|peer, _| peer.write(WINDOW_BYTES - 4, 8, 8));
    assert!(matches!(reason, Reason::Completion(_) | Reason::Disconnected), "{reason:?}");
    assert_eq!(counters.ended_completion + counters.ended_disconnected, 1);
    // Somebody else's key: the domain is not theirs.
    misbehaves(|peer, _| {
        let window = peer.window.unwrap();
        for rkey in 0..512u32 {
            peer.post(
                SendOp::WriteImm {
                    address: window.address,
                    rkey: rkey.wrapping_mul(257) ^ window.rkey.wrapping_add(1),
                    immediate: 4,
                },
                4,
            );
        }
    });
}

#[test]
fn control_messages_that_are_none() {
    for len in [0usize, 1, 31, 33, 63, 64] {
        let (reason, counters) = misbehaves(|peer, _| peer.message(&vec![0; len]));
        assert_eq!(reason, Reason::Control(ControlError::Length(len)));
        assert_eq!(counters.ended_control, 1);
    }
    let (reason, _) = misbehaves(|peer, _| peer.message(&[0; 65]));
    assert_eq!(reason, Reason::Completion(Status::LocalLength));
    for opcode in [4u16, 255, u16::MAX] {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&opcode.to_be_bytes());
        let (reason, _) = misbehaves(|peer, _| peer.message(&bytes));
        assert_eq!(reason, Reason::Control(ControlError::Opcode(opcode)));
    }
    let (reason, _) = misbehaves(|peer, _| peer.control(Control::SetClientFeature { select: 0, features: 1 }));
    assert_eq!(reason, Reason::Features(1));
}

#[test]
fn absurd_windows() {
    for (address, length) in [(0, 0), (0, 1), (0, u32::MAX), (u64::MAX - 10, 65536)] {
        let (reason, counters) =
            misbehaves(|peer, _| peer.control(Control::RegisterXferMemory(Window { address, length, rkey: 1 })));
        let want = if length == 65536 { WindowError::Address { address, length } } else { WindowError::Length(length) };
        assert_eq!(reason, Reason::Window(want));
        assert_eq!(counters.ended_window, 1);
    }
    // One that looks right and is not theirs: the reply fails, nothing else does.
    let (reason, _) = misbehaves(|peer, server| {
        peer.control(Control::RegisterXferMemory(Window { address: 4096, length: 65536, rkey: 0xdead }));
        peer.write(0, 4, 4);
        peer.turn(server);
        let conn = last_accepted(server);
        echo(server, conn);
    });
    assert_eq!(reason, Reason::Completion(Status::RemoteAccess));
}

#[test]
fn a_device_removed_and_a_peer_that_leaves() {
    let (reason, counters) = misbehaves(|_, server| {
        let conn = last_accepted(server);
        let endpoint = server.transport.endpoint();
        let qp = endpoint.queue_pair(conn).unwrap();
        endpoint.device().remove_under(qp);
    });
    // The flush may be seen before the news.
    assert!(matches!(reason, Reason::DeviceRemoved | Reason::Disconnected), "{reason:?}");
    assert_eq!(counters.ended_device + counters.ended_disconnected, 1);
    let (reason, _) = misbehaves(|peer, _| peer.device.disconnect(peer.qp));
    assert_eq!(reason, Reason::Disconnected);
}

#[test]
fn asking_for_features_is_answered_and_keepalives_are_not() {
    let mut server = Server::new(Options::default());
    let mut peer = Peer::connect(&mut server);
    peer.announce();
    peer.control(Control::GetServerFeature { select: 7, features: 99 });
    peer.control(Control::Keepalive);
    server.turn();
    let mut seen = Vec::new();
    let mut got = [Completion::EMPTY; 16];
    for _ in 0..4 {
        let count = peer.device.poll_cq(&mut got).unwrap();
        for completion in got[..count].iter().filter(|completion| completion.arrived == Arrived::Message) {
            seen.push(Control::decode(peer.device.bytes(peer.tx, 1 << 16, completion.length).unwrap()).unwrap());
        }
        server.turn();
    }
    assert_eq!(seen, [Control::GetServerFeature { select: 7, features: 0 }]);
}

#[test]
fn what_was_received_stays_whatever_is_written_over_it() {
    let mut server = Server::new(Options::default());
    let mut peer = Peer::connect(&mut server);
    peer.announce();
    peer.turn(&mut server);
    let conn = last_accepted(&server);
    peer.device.bytes_mut(peer.tx, 0, 5).unwrap().copy_from_slice(b"first");
    peer.write(0, 5, 5);
    peer.turn(&mut server);
    assert_eq!(server.transport.received(conn), b"first");
    let window = peer.window.unwrap();
    peer.device.bytes_mut(peer.tx, 0, 5).unwrap().copy_from_slice(b"other");
    peer.post(SendOp::Write { address: window.address, rkey: window.rkey }, 5);
    peer.turn(&mut server);
    assert_eq!(peer.statuses, []);
    assert_eq!(server.transport.received(conn), b"first");
}

#[test]
fn memory_that_a_peer_may_write_to_is_not_lent() {
    let mut server = Server::new(Options::default());
    let mut peer = Peer::connect(&mut server);
    let rx = peer.rx;
    assert_eq!(peer.device.bytes(rx, 0, 1), Err(VerbsError::PeerMayWrite));
    assert_eq!(peer.device.bytes_mut(rx, 0, 1), Err(VerbsError::PeerMayWrite));
    let mut copied = b"before ".to_vec();
    assert_eq!(
        peer.device.copy_out(rx, rx.length - 1, 2, &mut copied),
        Err(VerbsError::Range { offset: rx.length - 1, length: 2 })
    );
    assert_eq!(copied, b"before ");
    peer.device.copy_out(rx, rx.length - 2, 2, &mut copied).unwrap();
    assert_eq!(copied, b"before \0\0");
}

#[test]
fn more_unread_messages_than_receives() {
    let mut server = Server::new(Options::default());
    let mut peer = Peer::connect(&mut server);
    peer.announce();
    peer.turn(&mut server);
    let conn = last_accepted(&server);
    for at in 0..1025 {
        peer.write(at, 1, 1);
    }
    for _ in 0..20 {
        peer.turn(&mut server);
    }
    assert_eq!(server.transport.received(conn).len(), 1025, "{:?}", peer.statuses);
    assert!(peer.statuses.is_empty());
}

#[test]
fn limits_turn_requests_away() {
    let per_address = Options { connections_per_address_max: 2, ..Options::default() };
    let in_all = Options { connections_max: 2, ..Options::default() };
    let pinned = Options { pinned_bytes_max: 900_000, ..Options::default() };
    for options in [per_address, in_all, pinned] {
        let mut server = Server::new(options);
        let peers: Vec<_> = (0..4).map(|_| Peer::connect(&mut server)).collect();
        let refused =
            peers.iter().filter(|peer| peer.events.iter().any(|event| matches!(event, CmEvent::Refused(..)))).count();
        assert_eq!(refused, 2);
        assert_eq!(server.transport.endpoint().counters().rejected, 2);
    }
}

#[test]
fn memory_that_cannot_be_pinned() {
    let mut server = Server::new(Options::default());
    server.transport.endpoint().device().set_registered_bytes_max(100_000);
    let peer = Peer::connect(&mut server);
    assert!(peer.events.iter().any(|event| matches!(event, CmEvent::Refused(..))), "{:?}", peer.events);
    let ended: Vec<_> = server.transport.endpoint().take_ended().collect();
    assert!(matches!(ended[0].reason, Reason::Verbs(VerbsError::Memory(_))), "{ended:?}");
    server.turn();
    let holdings = server.transport.endpoint().device().holdings();
    assert_eq!((holdings.queue_pairs, holdings.protection_domains, holdings.registered_bytes), (0, 0, 0));
}

#[test]
fn a_peer_that_never_announces() {
    let mut server = Server::new(Options { handshake_timeout: std::time::Duration::ZERO, ..Options::default() });
    let mut peer = Peer::connect(&mut server);
    for _ in 0..20 {
        peer.turn(&mut server);
    }
    let ended: Vec<_> = server.transport.endpoint().take_ended().collect();
    assert_eq!(ended[0].reason, Reason::HandshakeTimeout);
    assert!(!server.log.iter().any(|event| matches!(event, Event::Accepted(_))));
    assert_eq!(server.transport.endpoint().connections(), 0);
}

#[test]
fn a_taken_port_is_an_error() {
    let mut server = Server::new(Options::default());
    let addr = server.addr;
    assert_eq!(server.transport.listen(addr, 1), Err(VerbsError::AddressInUse));
}

#[test]
fn an_overrun_completion_queue_ends_what_is_on_it() {
    let fabric = Fabric::new(3, Faults::default());
    let limits = SoftLimits { cq_depth: 200, ..SoftLimits::default() };
    // The endpoint counts what it may cause: one connection of 192 requests fits, two do not.
    let transport = RdmaTransport::new(
        fabric.device(limits).unwrap(),
        Options { rx_window_bytes: WINDOW_BYTES, ..Options::default() },
    )
    .unwrap();
    let mut server = Server { fabric, transport, addr: "127.0.0.1:1".parse().unwrap(), log: Vec::new() };
    server.transport.listen(server.addr, 8).unwrap();
    let mut first = Peer::connect(&mut server);
    let second = Peer::connect(&mut server);
    assert!(second.events.iter().any(|event| matches!(event, CmEvent::Refused(..))));
    first.announce();
    first.turn(&mut server);
    let conn = last_accepted(&server);
    // So only a device that breaks its word overruns.
    server.transport.endpoint().device().overrun();
    server.turn();
    assert!(server.log.iter().any(|event| matches!(event, Event::Hangup(gone, Hangup::Error(_)) if *gone == conn)));
    server.transport.close(conn, Close::Abort);
    server.turn();
    assert_eq!(server.transport.endpoint().connections(), 0);
}

#[test]
fn a_peer_that_looks_at_nothing_any_more() {
    let mut server = Server::new(Options { keepalive_interval: std::time::Duration::ZERO, ..Options::default() });
    let mut good = Peer::connect(&mut server);
    good.announce();
    good.turn(&mut server);
    let good_conn = last_accepted(&server);
    let held = server.transport.endpoint().device().holdings();
    let mut silent = Peer::connect(&mut server);
    silent.announce();
    silent.turn(&mut server);
    let conn = last_accepted(&server);
    // It is sent more than its window, its receives and our ring take, one message a turn.
    for _ in 0..300 {
        let mut buf = server.transport.lease();
        buf.extend_from_slice(&[b'x'; 1000]);
        server.transport.send(conn, buf);
        server.transport.flush();
        server.turn();
    }
    assert!(server.transport.unsent(conn) > 0, "all of it left, to whom?");
    good.write(0, 5, 5);
    good.turn(&mut server);
    echo(&mut server, good_conn);
    good.turn(&mut server);
    assert_eq!(good.arrived.len(), 1, "the good peer is served no more");
    server.transport.close(conn, Close::Abort);
    drop(silent);
    server.turn();
    let endpoint = server.transport.endpoint();
    endpoint.trim();
    assert_eq!(endpoint.device().holdings(), held, "something is left of the silent peer");
}

#[test]
fn a_flood_of_connection_requests() {
    let mut server = Server::new(Options { connections_max: 8, ..Options::default() });
    let mut good = Peer::connect(&mut server);
    good.announce();
    good.turn(&mut server);
    let good_conn = last_accepted(&server);
    server.transport.endpoint().trim();
    let held = server.transport.endpoint().device().holdings();
    let mut flood = server.fabric.device(SoftLimits::default()).unwrap();
    for round in 0..200 {
        // A backlog's worth at once, none of which ever says more.
        let dialled: Vec<Qp> = (0..100).map(|_| flood.resolve(server.addr).unwrap()).collect();
        while let Some(event) = flood.poll_cm() {
            if let CmEvent::Resolved(qp) = event {
                let pd = flood.alloc_pd(qp).unwrap();
                flood.create_qp(qp, pd, QpCaps { send_depth: 4, recv_depth: 4, inline_bytes: 0 }).unwrap();
                let _ = flood.connect(qp, ConnParams { retry_count: 7, rnr_retry_count: 7 });
            }
        }
        server.turn();
        assert!(server.transport.endpoint().connections() <= 8);
        if round % 20 == 0 {
            good.write(round / 20 * 5, 5, 5);
            good.turn(&mut server);
            echo(&mut server, good_conn);
            good.turn(&mut server);
            assert_eq!(good.arrived.len() as u32, round / 20 + 1, "the good peer is served no more");
        }
        dialled.into_iter().for_each(|qp| flood.destroy(qp));
        server.turn();
    }
    assert!(server.transport.endpoint().counters().rejected > 1000);
    drop(flood);
    (0..10).for_each(|_| server.turn());
    let endpoint = server.transport.endpoint();
    endpoint.trim();
    assert_eq!(endpoint.device().holdings(), held, "something is left of the flood");
}

/// A server that writes before it has announced a window breaks no rule of ours, but nothing is told of a dial
/// before it stands.
#[test]
fn what_a_dialled_server_writes_too_early_is_told_once_it_stands() {
    let mut server = Server::new(Options::default());
    let (mut peer, conn) = Peer::accept(&mut server, Duration::from_secs(60));
    peer.device.bytes_mut(peer.tx, 0, 5).unwrap().copy_from_slice(b"early");
    peer.write(0, 5, 5);
    peer.turn(&mut server);
    assert_eq!(server.log, []);
    peer.announce();
    peer.turn(&mut server);
    assert_eq!(server.log, [Event::Connected(conn), Event::Readable(conn)]);
    assert_eq!(server.transport.received(conn), b"early");
}

/// One that goes before it stands, in whatever order, is a failure and no end of a stream.
#[test]
fn a_dialled_server_that_never_stands_is_an_error() {
    for writes in [false, true] {
        let mut server = Server::new(Options::default());
        let (mut peer, conn) = Peer::accept(&mut server, Duration::from_secs(60));
        if writes {
            peer.write(0, 5, 5);
            peer.turn(&mut server);
        }
        peer.device.disconnect(peer.qp);
        peer.turn(&mut server);
        assert!(matches!(server.log[..], [Event::Hangup(gone, Hangup::Error(_))] if gone == conn), "{:?}", server.log);
        server.transport.close(conn, Close::Drain);
        peer.turn(&mut server);
        assert_eq!(server.log.len(), 1);
    }
    // One that says nothing at all is given up after the time the dial was given.
    let mut server = Server::new(Options { handshake_timeout: Duration::from_secs(3600), ..Options::default() });
    let (_peer, conn) = Peer::accept(&mut server, Duration::from_millis(20));
    while server.log.is_empty() {
        server.transport.park(None);
        server.turn();
    }
    assert_eq!(server.log, [Event::Hangup(conn, Hangup::Error(110))]);
}
