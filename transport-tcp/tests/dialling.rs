//! What concerns the host when we dial: a peer that does not answer, one whose queue is full, addresses that
//! cannot be, and the address we come from. None of it depends on who runs when.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod backends;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use backends::{both, make};
use socket2::{Domain, SockAddr, Socket, Type};
use tercel_transport::{Address, Close, ConnId, ConnectError, ConnectOptions, Event, Hangup, Peer, Transport};
use tercel_transport_tcp::TcpTransport;

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tercel-dial-{}-{name}.sock", std::process::id()))
}

fn within(milliseconds: u64) -> ConnectOptions {
    ConnectOptions { timeout: Duration::from_millis(milliseconds), ..ConnectOptions::default() }
}

/// Sleeps and polls until something happens; never for longer than the transport's own deadlines.
fn next(transport: &mut TcpTransport) -> Vec<Event> {
    let start = Instant::now();
    let mut events = Vec::new();
    while events.is_empty() {
        transport.park(Some(Duration::from_secs(20)));
        transport.poll(&mut events);
        assert!(start.elapsed() < Duration::from_secs(20), "slept through it");
    }
    events
}

/// Fills a listener's queue: from then on the kernel answers nobody.
fn fill(listener: &Socket, addr: &SockAddr, domain: Domain) -> Vec<Socket> {
    let mut fillers = Vec::new();
    loop {
        let filler = Socket::new(domain, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let connected = filler.connect(addr);
        if domain == Domain::UNIX {
            match connected {
                Ok(()) => fillers.push(filler),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
                    return fillers;
                }
            }
            continue;
        }
        // A queue of length 0 has one place: it is taken when the listener is readable.
        let mut pollfd = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the structure lives through the call, which is told of one.
        assert_eq!(unsafe { libc::poll(&raw mut pollfd, 1, 20_000) }, 1);
        fillers.push(filler);
        return fillers;
    }
}

fn silent_tcp() -> (Socket, Address, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap();
    let fillers = fill(&listener, &addr, Domain::IPV4);
    (listener, Address::Tcp(addr.as_socket().unwrap()), fillers)
}

fn silent_unix(name: &str) -> (Socket, Address, Vec<Socket>) {
    let path = path(name);
    let _ = std::fs::remove_file(&path);
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let addr = SockAddr::unix(&path).unwrap();
    listener.bind(&addr).unwrap();
    listener.listen(0).unwrap();
    let fillers = fill(&listener, &addr, Domain::UNIX);
    (listener, Address::Unix(path), fillers)
}

#[test]
fn whoever_does_not_answer_is_given_up_in_time() {
    for backend in both() {
        let mut transport = make(backend);
        let (_tcp, tcp, _fillers) = silent_tcp();
        let (_unix, unix, _more) = silent_unix("silent");
        for to in [&tcp, &unix] {
            let start = Instant::now();
            let conn = transport.connect(to, &within(60)).unwrap();
            let patient = transport.connect(to, &within(3_600_000)).unwrap();
            // Nothing is heard before the time is over, and then once.
            assert_eq!(next(&mut transport), [Event::Hangup(conn, Hangup::Error(libc::ETIMEDOUT))], "{to}");
            assert!(start.elapsed() >= Duration::from_millis(60));
            transport.park(Some(Duration::from_millis(20)));
            let mut events = Vec::new();
            transport.poll(&mut events);
            assert_eq!(events, []);
            transport.close(conn, Close::Drain);
            transport.close(patient, Close::Abort);
            transport.park(Some(Duration::from_millis(5)));
            transport.poll(&mut events);
            assert_eq!((events.len(), transport.connections(), transport.closing()), (0, 0, 0));
        }
        let Address::Unix(path) = unix else { panic!() };
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn one_whose_queue_was_full_answers_later() {
    for backend in both() {
        let mut transport = make(backend);
        let (listener, to, fillers) = silent_unix("full");
        let conn = transport.connect(&to, &within(20_000)).unwrap();
        let mut buf = transport.lease();
        buf.extend_from_slice(b"patience");
        transport.send(conn, buf);
        transport.flush();
        let mut events = Vec::new();
        transport.park(Some(Duration::from_millis(30)));
        transport.poll(&mut events);
        assert_eq!(events, []);
        for _ in &fillers {
            drop(listener.accept().unwrap());
        }
        assert_eq!(next(&mut transport)[0], Event::Connected(conn));
        let (mut peer, _) = listener.accept().unwrap();
        let mut eight = [0; 8];
        peer.read_exact(&mut eight).unwrap();
        assert_eq!(&eight, b"patience");
        peer.write_all(b"x").unwrap();
        let mut events = next(&mut transport);
        events.retain(|event| *event != Event::Drained(conn));
        if events.is_empty() {
            events = next(&mut transport);
        }
        assert_eq!(events, [Event::Readable(conn)]);
        let Address::Unix(path) = to else { panic!() };
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_path_without_a_socket_fails_later_and_an_impossible_one_at_once() {
    for backend in both() {
        let mut transport = make(backend);
        let missing = transport.connect(&Address::Unix(path("missing")), &within(1000)).unwrap();
        assert_eq!(next(&mut transport), [Event::Hangup(missing, Hangup::Error(libc::ENOENT))]);
        let long = Address::Unix("/tmp".to_owned().repeat(50).into());
        assert!(matches!(transport.connect(&long, &within(1000)), Err(ConnectError::Os(_))));
        assert_eq!(transport.connections(), 1);
    }
}

#[test]
fn it_comes_from_the_address_it_was_told_to() {
    for backend in both() {
        let mut transport = make(backend);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let from = "127.0.0.9".parse().unwrap();
        let options = ConnectOptions { source: Some(from), ..ConnectOptions::default() };
        let conn = transport.connect(&Address::Tcp(to), &options).unwrap();
        assert_eq!(next(&mut transport), [Event::Connected(conn)]);
        let (_peer, remote) = listener.accept().unwrap();
        assert_eq!(remote.ip(), from);
        assert_eq!(transport.peer(conn), Some(&Peer::Tcp { remote: to, local: remote }));
        let nodelay = socket2::SockRef::from(&borrow(&transport, conn)).tcp_nodelay().unwrap();
        assert!(nodelay);

        // An address of documentation, which is nobody's; and one of another family.
        for stranger in ["192.0.2.1", "::1"] {
            let options = ConnectOptions { source: Some(stranger.parse().unwrap()), ..options };
            assert!(matches!(transport.connect(&Address::Tcp(to), &options), Err(ConnectError::Os(_))), "{stranger}");
        }
    }
}

fn borrow(transport: &TcpTransport, conn: ConnId) -> impl AsFd {
    // SAFETY: the connection stays open for as long as the test looks at it.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(transport.raw_fd(conn).unwrap()) }
}

#[test]
fn a_peer_that_is_gone_at_once_was_there() {
    for backend in both() {
        let mut transport = make(backend);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for round in 0..20 {
            let conn = transport.connect(&Address::Tcp(listener.local_addr().unwrap()), &within(20_000)).unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            if round % 2 == 0 {
                peer.write_all(b"bye").unwrap();
            }
            drop(peer);
            let mut events = Vec::new();
            while !events.contains(&Event::Hangup(conn, Hangup::Eof)) {
                events.append(&mut next(&mut transport));
            }
            assert_eq!(events[0], Event::Connected(conn));
            assert_eq!(transport.received(conn), if round % 2 == 0 { &b"bye"[..] } else { b"" });
            transport.close(conn, Close::Drain);
        }
    }
}

#[test]
fn dropping_a_transport_with_dials_under_way_is_safe() {
    for backend in both() {
        let mut transport = make(backend);
        let (_listener, to, _fillers) = silent_tcp();
        for turns in 0..10 {
            let conn = transport.connect(&to, &ConnectOptions::default()).unwrap();
            let mut buf = transport.lease();
            buf.push_shared(std::sync::Arc::new(vec![7; 100_000]));
            transport.send(conn, buf);
            transport.flush();
            if turns % 3 == 0 {
                transport.poll(&mut Vec::new());
                transport.close(conn, if turns == 3 { Close::Drain } else { Close::Abort });
            }
        }
        drop(transport);
    }
}
