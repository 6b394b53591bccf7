//! Random faults, seeded: streams stay whole on connections that survive and are prefixes on those
//! that do not, the same seed gives the same run, and after ten thousand rounds of connecting and
//! killing nothing is left of any of them.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use tercel_rdma::endpoint::{Endpoint, Options};
use tercel_rdma::software::{Fabric, Faults, Holdings, SoftDevice, SoftLimits};
use tercel_transport::{Close, ConnId, Event, Hangup};

type Side = Endpoint<SoftDevice>;

fn small(window_bytes: u32) -> Options {
    Options {
        rx_window_bytes: window_bytes,
        tx_bytes: 4096,
        recv_depth: 8,
        send_depth: 8,
        inline_bytes: 64,
        peer_window_bytes: (64, 1 << 30),
        ..Options::default()
    }
}

struct Pair {
    fabric: Fabric,
    server: Side,
    client: Side,
    addr: SocketAddr,
}

impl Pair {
    /// Both sides share a clock that moves ten milliseconds whenever it is read.
    fn new(seed: u64, options: &Options) -> Pair {
        let fabric = Fabric::new(seed, Faults::default());
        let time = Arc::new(AtomicU64::new(0));
        let side = || {
            let time = time.clone();
            let clock = Box::new(move || time.fetch_add(10_000_000, Ordering::Relaxed) + 10_000_000);
            Side::with_clock(fabric.device(SoftLimits::default()).unwrap(), options.clone(), clock).unwrap()
        };
        let (mut server, client) = (side(), side());
        let listener = server.listen("127.0.0.1:6379".parse().unwrap(), 64).unwrap();
        let addr = server.local_addr(listener).unwrap();
        Pair { fabric, server, client, addr }
    }

    /// The server's turn: it echoes everything, some of it later. Returns what happened.
    fn serve(&mut self, consume_max: usize) -> Vec<Event> {
        let mut events = Vec::new();
        self.server.poll(&mut events);
        for event in &events {
            match event {
                Event::Hangup(conn, _) => self.server.close(*conn, Close::Drain),
                Event::Accepted(conn) => self.server.set_receive_limit(*conn, 3000),
                _ => {}
            }
        }
        for index in 0..8 {
            for generation in self.generations(index) {
                let conn = ConnId { index, generation };
                let len = self.server.received(conn).len().min(consume_max);
                if len > 0 && self.server.unsent(conn) < 8192 {
                    let mut buf = self.server.lease();
                    buf.extend_from_slice(&self.server.received(conn)[..len]);
                    self.server.consume(conn, len);
                    self.server.send(conn, buf);
                }
            }
        }
        self.server.flush();
        events
    }

    fn generations(&self, index: u32) -> impl Iterator<Item = u32> + use<> {
        let live = (0..64).find(|generation| self.server.peer(ConnId { index, generation: *generation }).is_some());
        live.into_iter()
    }
}

fn pattern(seed: usize, at: usize) -> u8 {
    ((seed * 31 + at).wrapping_mul(0x9E37_79B1) >> 13) as u8
}

#[derive(Default)]
struct Stream {
    sent: usize,
    back: usize,
    over: Option<Hangup>,
}

/// Four connections, each to have `total` bytes echoed; returns what became of each, and a trace.
fn run(
    seed: u64,
    faults: Faults,
    window_bytes: u32,
    total: usize,
    consume_max: usize,
) -> (Vec<Stream>, Vec<(u64, Event)>) {
    let mut pair = Pair::new(seed, &Options { announce_early: !seed.is_multiple_of(3), ..small(window_bytes) });
    pair.fabric.set_faults(faults);
    let mut streams: HashMap<ConnId, (usize, Stream)> = HashMap::new();
    for at in 0..4 {
        streams.insert(pair.client.dial(pair.addr).unwrap(), (at, Stream::default()));
    }
    let mut trace = Vec::new();
    let mut order: Vec<ConnId> = streams.keys().copied().collect();
    order.sort();
    for turn in 0..200_000u64 {
        trace.extend(pair.serve(consume_max).into_iter().map(|event| (turn, event)));
        let mut events = Vec::new();
        pair.client.poll(&mut events);
        for event in &events {
            if let Event::Hangup(conn, why) = event {
                streams.get_mut(conn).unwrap().1.over = Some(*why);
            }
        }
        trace.extend(events.into_iter().map(|event| (turn, event)));
        for conn in &order {
            let (at, stream) = streams.get_mut(conn).unwrap();
            let received = pair.client.received(*conn);
            for byte in received {
                assert_eq!(*byte, pattern(*at, stream.back), "byte {} of stream {at}", stream.back);
                stream.back += 1;
            }
            let len = received.len();
            pair.client.consume(*conn, len);
            assert!(stream.back <= stream.sent);
            if stream.over.is_none() && stream.sent < total && pair.client.unsent(*conn) < 6000 {
                let len = (1 + (turn as usize * 7919 + *at * 104_729) % 2500).min(total - stream.sent);
                let mut buf = pair.client.lease();
                (stream.sent..stream.sent + len).for_each(|byte| buf.push(pattern(*at, byte)));
                pair.client.send(*conn, buf);
                stream.sent += len;
            }
        }
        pair.client.flush();
        if streams.values().all(|(_, stream)| stream.over.is_some() || stream.back == total) {
            break;
        }
    }
    let mut done: Vec<_> = streams.into_values().collect();
    done.sort_by_key(|(at, _)| *at);
    (done.into_iter().map(|(_, stream)| stream).collect(), trace)
}

const ROUGH: Faults = Faults {
    delay_steps_max: 6,
    burst_steps_max: 9,
    late_per_million: 300_000,
    not_ready_per_million: 200_000,
    fail_per_million: 0,
    disconnect_per_million: 0,
    disconnect_at: None,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn harmless_faults_cost_nothing(seed: u64, window_bytes in 64u32..5000, consume_max in 1usize..4000) {
        let (streams, _) = run(seed, ROUGH, window_bytes, 20_000, consume_max.max(window_bytes as usize / 8));
        for stream in streams {
            prop_assert_eq!((stream.back, stream.over), (20_000, None));
        }
    }

    #[test]
    fn broken_connections_end_and_others_stay_whole(seed: u64, window_bytes in 64u32..5000, fail in 0u32..3000, disconnect in 0u32..3000) {
        let faults = Faults { fail_per_million: fail, disconnect_per_million: disconnect, ..ROUGH };
        // Every byte is compared on the way; here each stream is whole or told to be over.
        for stream in run(seed, faults, window_bytes, 20_000, usize::MAX).0 {
            prop_assert!(stream.over.is_some() || stream.back == 20_000);
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let faults = Faults { fail_per_million: 500, disconnect_per_million: 500, ..ROUGH };
    let (_, first) = run(77, faults, 1500, 20_000, usize::MAX);
    let (_, second) = run(77, faults, 1500, 20_000, usize::MAX);
    let (_, other) = run(78, faults, 1500, 20_000, usize::MAX);
    assert_eq!(first, second);
    assert_ne!(first, other);
}

#[test]
fn nothing_is_left_after_ten_thousand_kills() {
    let mut pair = Pair::new(5, &small(1000));
    let mut ends = [0u32; 4];
    let (mut got_through, mut cut) = (0, 0);
    for round in 0..10_000u64 {
        // Every operation of a connection's life is the one it is cut at, with and without delays.
        let faults =
            Faults { disconnect_at: Some(1 + round % 97), ..if round % 2 == 0 { Faults::default() } else { ROUGH } };
        pair.fabric.set_faults(faults);
        let conn = pair.client.dial(pair.addr).unwrap();
        let mut buf = pair.client.lease();
        buf.extend_from_slice(&[round as u8; 2500]);
        pair.client.send(conn, buf);
        let mut over = false;
        for _ in 0..(round / 97) % 40 {
            pair.client.flush();
            pair.serve(usize::MAX);
            let mut events = Vec::new();
            pair.client.poll(&mut events);
            over |= events.iter().any(|event| matches!(event, Event::Hangup(..)));
            let len = pair.client.received(conn).len();
            pair.client.consume(conn, len);
        }
        got_through += u32::from(pair.client.is_live(conn));
        cut += u32::from(over);
        let how = (round % 4) as usize;
        ends[how] += 1;
        match how {
            0 => pair.client.close(conn, Close::Drain),
            1 => pair.client.close(conn, Close::Abort),
            2 => {
                if let Some(qp) = pair.client.queue_pair(conn) {
                    pair.client.device().vanish(qp);
                }
                pair.client.close(conn, Close::Abort);
            }
            _ => {
                if let Some(qp) = pair.client.queue_pair(conn) {
                    pair.client.device().sever(qp);
                }
                pair.client.close(conn, Close::Drain);
            }
        }
        let mut turns = 0;
        while pair.server.connections() + pair.client.connections() > 0 {
            pair.serve(usize::MAX);
            pair.client.poll(&mut Vec::new());
            pair.client.flush();
            turns += 1;
            assert!(
                turns < 200_000,
                "round {round}: {} and {} left",
                pair.server.connections(),
                pair.client.connections()
            );
        }
    }
    assert!(got_through > 1000 && cut > 1000, "{got_through} got through, {cut} were cut: the rounds test too little");
    for side in [&mut pair.server, &mut pair.client] {
        side.trim();
        assert_eq!(side.pinned_bytes(), 0);
        let holdings = side.device().holdings();
        assert_eq!(holdings, Holdings::default());
    }
}
