//! What the server costs over RDMA when the adapter costs nothing: the executor and a client in one
//! thread on the software provider, at native speed. Prints the latency of GETs of 64 bytes beside what
//! this thread loses to the machine, and how a stream of SETs takes the change of windows.
//!
//!   cargo run --release --example rdma_native [-- operations]
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use hdrhistogram::Histogram;
use tercel::executor::Executor;
use tercel_core::server::Server;
use tercel_core::settings::Settings;
use tercel_rdma::endpoint::Options;
use tercel_rdma::software::{Fabric, Faults, SoftDevice, SoftLimits};
use tercel_rdma::{RdmaClient, RdmaTransport};
use tercel_transport::client::{Client, Received};

const WINDOW_BYTES: usize = 1 << 20;

struct Bench {
    executor: Executor<RdmaTransport<SoftDevice>>,
    client: RdmaClient<SoftDevice>,
    ready: Vec<usize>,
}

impl Bench {
    fn new(announce_early: bool) -> Bench {
        let fabric = Fabric::new(1, Faults::default());
        let options = Options { announce_early, ..Options::default() };
        let mut transport = RdmaTransport::new(fabric.device(SoftLimits::default()).unwrap(), options.clone()).unwrap();
        let addr = "127.0.0.1:6379".parse().unwrap();
        transport.listen(addr, 16).unwrap();
        let server = Server::new(
            &tercel_commands::commands().table,
            Settings::default(),
            tercel::start::host::machine(),
            ".".into(),
        );
        let executor = Executor::new(transport, tercel_commands::commands(), server, Arc::new(AtomicUsize::new(0)));
        let mut client = RdmaClient::new(fabric.device(SoftLimits::default()).unwrap(), options, addr).unwrap();
        client.dial().unwrap();
        Bench { executor, client, ready: Vec::new() }
    }

    /// One request and its reply; nanoseconds.
    fn exchange(&mut self, request: &[u8], reply_len: usize) -> u64 {
        let (start, mut seen, mut room) = (Instant::now(), 0, [0; 4096]);
        assert_eq!(self.client.send(0, request).unwrap(), request.len());
        self.client.flush();
        while seen < reply_len {
            self.executor.turn();
            self.ready.clear();
            self.client.poll(&mut self.ready);
            if let Received::Bytes(len) = self.client.receive(0, &mut room).unwrap() {
                seen += len;
            }
        }
        start.elapsed().as_nanos() as u64
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).unwrap()
}

fn show(what: &str, of: &Histogram<u64>) {
    let us = |quantile| of.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "{what:44} p50 {:8.2}  p99 {:8.2}  p999 {:8.2}  max {:8.2} us",
        us(0.5),
        us(0.99),
        us(0.999),
        of.max() as f64 / 1000.0
    );
}

fn main() {
    let operations: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let core = core_affinity::get_core_ids().unwrap_or_default().last().copied();
    core.map(core_affinity::set_for_current);

    let mut bench = Bench::new(true);
    let mut set = Vec::new();
    tercel_resp::encode::request(&mut set, &["SET", "a-key-of-16-bytes", &"v".repeat(64)]);
    bench.exchange(&set, 5);
    let mut get = Vec::new();
    tercel_resp::encode::request(&mut get, &["GET", "a-key-of-16-bytes"]);
    let reply_len = "$64\r\n".len() + 64 + 2;
    for _ in 0..operations / 10 {
        bench.exchange(&get, reply_len);
    }
    let (mut latency, mut machine) = (histogram(), histogram());
    for _ in 0..operations {
        latency.record(bench.exchange(&get, reply_len)).unwrap();
        // As long a stretch without any work of ours: what it takes longer than asked is the machine's.
        let (start, asked) = (Instant::now(), latency.max().min(2000));
        while (start.elapsed().as_nanos() as u64) < asked {
            std::hint::spin_loop();
        }
        machine.record((start.elapsed().as_nanos() as u64).saturating_sub(asked)).unwrap();
    }
    show("GET of 64 bytes, one connection", &latency);
    show("the machine, beside it", &machine);

    let mut set = Vec::new();
    tercel_resp::encode::request(&mut set, &["SET", "a-key-of-16-bytes", &"v".repeat(1024)]);
    for announce_early in [true, false] {
        let mut bench = Bench::new(announce_early);
        for _ in 0..operations / 10 {
            bench.exchange(&set, 5);
        }
        let (mut within, mut across) = (histogram(), histogram());
        let mut written = (operations / 10) as usize * set.len();
        for _ in 0..operations / 4 {
            let crosses = written / WINDOW_BYTES != (written + set.len()) / WINDOW_BYTES;
            written += set.len();
            if crosses { &mut across } else { &mut within }.record(bench.exchange(&set, 5)).unwrap();
        }
        let when = if announce_early { "announced when full" } else { "announced when read" };
        show(&format!("SET of 1 KiB within a window, {when}"), &within);
        show(&format!("SET of 1 KiB across two, {when}"), &across);
    }
}
