//! A warm connection's GET and overwriting SET allocate nothing: the executor's thread is watched by
//! the allocator's own count, over the in-memory transport and over sockets with both backends.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tercel::executor::Executor;
use tercel_core::server::Server;
use tercel_core::settings::Settings;
use tercel_rdma::endpoint::Options;
use tercel_rdma::software::{Fabric, Faults, SoftDevice, SoftLimits};
use tercel_rdma::{RdmaClient, RdmaTransport};
use tercel_transport::Transport;
use tercel_transport::client;
use tercel_transport::conformance::left_out;
use tercel_transport::memory::{MemoryPeer, MemoryTransport};
use tercel_transport_tcp::{Backend, ListenAddr, TcpOptions, TcpTransport};

const TURNS_MAX: usize = 200_000;
const ROUNDS: usize = 200;

/// The other end of a connection, in the executor's own thread.
trait Client {
    fn write(&mut self, bytes: &[u8]);
    /// Bytes that have arrived, counted and dropped.
    fn read(&mut self) -> usize;
}

impl Client for MemoryPeer {
    fn write(&mut self, bytes: &[u8]) {
        assert_eq!(MemoryPeer::write(self, bytes), bytes.len());
    }

    fn read(&mut self) -> usize {
        self.read_available().len()
    }
}

impl Client for TcpStream {
    fn write(&mut self, bytes: &[u8]) {
        self.write_all(bytes).unwrap();
    }

    fn read(&mut self) -> usize {
        let mut chunk = [0; 16384];
        match Read::read(self, &mut chunk) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        }
    }
}

struct Bench<T: Transport, C: Client> {
    executor: Executor<T>,
    client: C,
}

impl<T: Transport, C: Client> Bench<T, C> {
    fn new(transport: T, client: C) -> Self {
        let settings = Settings { commandlog_execution_slower_than: -1, ..Settings::default() };
        let server =
            Server::new(&tercel_commands::commands().table, settings, tercel::start::host::machine(), ".".into());
        Bench {
            executor: Executor::new(transport, tercel_commands::commands(), server, Arc::new(AtomicUsize::new(0))),
            client,
        }
    }

    /// Sends a request and turns until its reply is there. Returns the bytes allocated by the turns.
    fn exchange(&mut self, request: &[u8], reply_len: usize) -> u64 {
        self.client.write(request);
        let mut allocated = 0;
        let mut seen = 0;
        for _ in 0..TURNS_MAX {
            let meter = tercel_memory::MemoryMeter::new();
            let before = meter.thread_allocated_total();
            self.executor.turn();
            allocated += meter.thread_allocated_total() - before;
            seen += self.client.read();
            if seen >= reply_len {
                assert_eq!(seen, reply_len);
                return allocated;
            }
        }
        panic!("no reply of {reply_len} bytes to {:?}, only {seen}", String::from_utf8_lossy(request));
    }

    /// Bytes allocated by `ROUNDS` of these requests in turn, after as many to warm up.
    fn steady(&mut self, exchanges: &[(Vec<u8>, usize)]) -> u64 {
        for _ in 0..ROUNDS {
            for (request, reply_len) in exchanges {
                self.exchange(request, *reply_len);
            }
        }
        (0..ROUNDS).flat_map(|_| exchanges).map(|(request, reply_len)| self.exchange(request, *reply_len)).sum()
    }
}

fn request(words: &[&str], times: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    (0..times).for_each(|_| tercel_resp::encode::request(&mut bytes, words));
    bytes
}

fn set(value_len: usize, times: usize) -> (Vec<u8>, usize) {
    (request(&["SET", "a-key-of-16-bytes", &"v".repeat(value_len)], times), 5 * times)
}

fn get(value_len: usize, times: usize) -> (Vec<u8>, usize) {
    (request(&["GET", "a-key-of-16-bytes"], times), (format!("${value_len}\r\n").len() + value_len + 2) * times)
}

fn nothing_is_allocated<T: Transport, C: Client>(mut bench: Bench<T, C>) {
    // The counter counts: a new key has to come from somewhere.
    assert!(bench.exchange(&request(&["SET", "another", &"v".repeat(500)], 1), 5) >= 500);
    for times in [1, 16] {
        for len in [5, 64, 900] {
            assert_eq!(bench.steady(&[set(len, times)]), 0, "SET of {len} bytes, pipeline {times}");
            assert_eq!(bench.steady(&[get(len, times)]), 0, "GET of {len} bytes, pipeline {times}");
            assert_eq!(
                bench.steady(&[set(len, times), get(len, times)]),
                0,
                "SET and GET of {len} bytes, pipeline {times}"
            );
        }
        // Another length of the same size class, and a number instead of text.
        assert_eq!(
            bench.steady(&[set(62, times), set(64, times), get(64, times)]),
            0,
            "lengths of one class, pipeline {times}"
        );
        let numbers =
            [(request(&["SET", "n", "123456"], times), 5 * times), (request(&["SET", "n", "7"], times), 5 * times)];
        assert_eq!(bench.steady(&numbers), 0, "numbers, pipeline {times}");
        let missing = [(request(&["GET", "missing"], times), 5 * times)];
        assert_eq!(bench.steady(&missing), 0, "GET of a missing key, pipeline {times}");
    }
    // Another size class needs another allocation: one entry of it, and nothing beside it.
    let per_pair = bench.steady(&[set(64, 1), set(500, 1)]) / ROUNDS as u64;
    assert!((500..1000).contains(&per_pair), "a change of class allocates {per_pair} bytes");
}

#[test]
fn over_the_memory_transport() {
    let transport = MemoryTransport::new();
    let client = transport.net().connect();
    nothing_is_allocated(Bench::new(transport, client));
}

fn over_sockets(backend: Backend) {
    let options = TcpOptions { backend, ..TcpOptions::default() };
    let mut transport = match TcpTransport::new(options) {
        Ok(transport) => transport,
        Err(error) if backend == Backend::IoUring => {
            left_out("io_uring", error);
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let listener = transport.listen(&ListenAddr::Tcp("127.0.0.1:0".parse().unwrap()), 16).unwrap();
    let client = TcpStream::connect(transport.local_addr(listener).unwrap()).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_nonblocking(true).unwrap();
    nothing_is_allocated(Bench::new(transport, client));
}

impl Client for RdmaClient<SoftDevice> {
    fn write(&mut self, bytes: &[u8]) {
        assert_eq!(client::Client::send(self, 0, bytes).unwrap(), bytes.len());
        client::Client::flush(self);
    }

    fn read(&mut self) -> usize {
        client::Client::poll(self, &mut Vec::new());
        let mut chunk = [0; 16384];
        match client::Client::receive(self, 0, &mut chunk).unwrap() {
            client::Received::Bytes(len) => len,
            _ => 0,
        }
    }
}

#[test]
fn over_rdma_on_the_software_provider() {
    let fabric = Fabric::new(1, Faults::default());
    let mut transport = RdmaTransport::new(fabric.device(SoftLimits::default()).unwrap(), Options::default()).unwrap();
    let addr = "127.0.0.1:6379".parse().unwrap();
    transport.listen(addr, 16).unwrap();
    let mut client = RdmaClient::new(fabric.device(SoftLimits::default()).unwrap(), Options::default(), addr).unwrap();
    client.dial().unwrap();
    let mut bench = Bench::new(transport, client);
    // Warm is a connection once its windows have changed hands, which takes a buffer for what they cut.
    bench.steady(&[set(900, 16)]);
    nothing_is_allocated(bench);
}

#[test]
fn over_sockets_with_io_uring() {
    over_sockets(Backend::IoUring);
}

#[test]
fn over_sockets_with_epoll() {
    over_sockets(Backend::Epoll);
}
