//! Sleeping with connections in every state, while another thread brings events: no sleep may go on
//! through one, whichever way its connection is served.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tercel_transport::conformance::left_out;
use tercel_transport::{ConnId, Event, Transport};
use tercel_transport_tcp::{Backend, ListenAddr, TcpOptions, TcpTransport};

/// A sleep is told to last this long; one that does has slept through its event.
const LONG: Duration = Duration::from_secs(20);

/// Sleeps and answers every byte with one, until all `answers` were given and all `connections` taken.
fn serve(transport: &mut TcpTransport, connections: usize, answers: usize) {
    let (mut taken, mut given) = (0, 0);
    let mut events = Vec::new();
    while taken < connections || given < answers {
        let start = Instant::now();
        transport.park(Some(LONG));
        assert!(
            start.elapsed() < LONG,
            "slept through an event: {taken} of {connections} taken, {given} of {answers} answered"
        );
        transport.poll(&mut events);
        for event in events.drain(..) {
            match event {
                Event::Accepted(_) => taken += 1,
                Event::Readable(conn) => given += answer(transport, conn),
                _ => {}
            }
        }
        transport.flush();
    }
}

/// Answers single bytes; takes what belongs to a flood and says so once it is whole.
fn answer(transport: &mut TcpTransport, conn: ConnId) -> usize {
    let bytes = transport.received(conn);
    let (len, asks) = (bytes.len(), bytes.iter().filter(|&&byte| byte == b'?').count());
    transport.consume(conn, len);
    if asks > 0 {
        let mut buf = transport.lease();
        buf.extend_from_slice(&vec![b'!'; asks]);
        transport.send(conn, buf);
    }
    asks
}

#[test]
fn no_event_is_slept_through_beside_a_client_that_flooded() {
    for backend in [Backend::Epoll, Backend::IoUring] {
        for flood_len in [0usize, 100, 70_000, 300_000] {
            let mut transport = match TcpTransport::new(TcpOptions { backend, ..TcpOptions::default() }) {
                Err(error) if backend == Backend::IoUring => {
                    left_out("io_uring", error);
                    continue;
                }
                made => made.unwrap(),
            };
            let id = transport.listen(&ListenAddr::Tcp("127.0.0.1:0".parse().unwrap()), 64).unwrap();
            let addr = transport.local_addr(id).unwrap();
            let (sender, done) = mpsc::channel();
            let clients = std::thread::spawn(move || {
                let ask = |stream: &mut TcpStream, before: &[u8]| {
                    stream.write_all(before).unwrap();
                    stream.write_all(b"?").unwrap();
                    stream.read_exact(&mut [0]).unwrap();
                };
                let connect = || {
                    let stream = TcpStream::connect(addr).unwrap();
                    stream.set_nodelay(true).unwrap();
                    stream
                };
                let mut flooder = connect();
                ask(&mut flooder, &vec![b'.'; flood_len]);
                // From few connections to many, each asked while the server sleeps.
                let mut others: Vec<TcpStream> = Vec::new();
                for _ in 0..16 {
                    let mut newest = connect();
                    ask(&mut newest, b"");
                    others.push(newest);
                    for stream in &mut others {
                        std::thread::sleep(Duration::from_micros(300));
                        ask(stream, b"");
                    }
                }
                ask(&mut flooder, b"");
                sender.send(()).unwrap();
            });
            serve(&mut transport, 17, 1 + 16 + 16 * 17 / 2 + 1);
            clients.join().unwrap();
            done.recv().unwrap();
        }
    }
}
