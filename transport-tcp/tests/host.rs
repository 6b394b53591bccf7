//! What concerns the host rather than the stream: listeners and their errors, options, running
//! out of descriptors, a kernel that refuses io_uring, and idle connections by the thousand.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod backends;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use backends::{both, make};
use tercel_transport::conformance::left_out;
use tercel_transport::{Close, ConnId, Event, Peer, Transport};
use tercel_transport_tcp::{Backend, Error, ListenAddr, TcpOptions, TcpTransport};

fn any_port() -> ListenAddr {
    ListenAddr::Tcp("127.0.0.1:0".parse().unwrap())
}

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tercel-host-{}-{name}.sock", std::process::id()))
}

/// Turns until an event is there that `pick` takes something from.
fn until<T>(transport: &mut TcpTransport, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
    let start = Instant::now();
    let mut events = Vec::new();
    loop {
        transport.poll(&mut events);
        for event in events.drain(..) {
            if let Some(found) = pick(&event) {
                return found;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain: {what}");
        transport.park(Some(Duration::from_millis(5)));
    }
}

fn accepted(transport: &mut TcpTransport) -> ConnId {
    until(transport, "a connection", |event| match event {
        Event::Accepted(conn) => Some(*conn),
        _ => None,
    })
}

fn option(fd: i32, level: i32, name: i32) -> i32 {
    let mut value = 0i32;
    let mut len = 4u32;
    // SAFETY: both pointers are to live integers of the sizes the call is told.
    let result = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut len) };
    assert_eq!(result, 0);
    value
}

#[test]
fn a_stale_socket_is_replaced_and_nothing_else_is() {
    for backend in both() {
        let mut transport = make(backend);
        let path = path("stale");
        let addr = ListenAddr::Unix { path: path.clone(), mode: Some(0o640) };

        fs::write(&path, "precious").unwrap();
        let refused = transport.listen(&addr, 10).unwrap_err();
        assert!(matches!(refused, Error::NotASocket { .. }), "{refused}");
        assert!(refused.to_string().contains(path.to_str().unwrap()));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();

        let live = UnixListener::bind(&path).unwrap();
        let refused = transport.listen(&addr, 10).unwrap_err();
        assert!(matches!(refused, Error::InUse { .. }), "{refused}");
        drop(live);

        let id = transport.listen(&addr, 10).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let client = UnixStream::connect(&path).unwrap();
        let conn = accepted(&mut transport);
        assert_eq!(transport.peer(conn), Some(&Peer::Unix { path: path.display().to_string() }));
        assert_eq!(transport.local_addr(id), None);
        drop(client);

        transport.unlisten(id);
        transport.unlisten(id);
        assert!(!path.exists());
        let id = transport.listen(&addr, 10).unwrap();
        // Somebody else has taken the path over: it is not ours to remove any more.
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        transport.unlisten(id);
        assert!(path.exists());
        drop((other, transport));
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_taken_port_is_an_error_that_names_it() {
    for backend in both() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = other.local_addr().unwrap();
        let error = make(backend).listen(&ListenAddr::Tcp(addr), 10).unwrap_err().to_string();
        assert!(error.contains(&addr.to_string()) && error.contains("in use"), "{error}");
    }
}

#[test]
fn nobody_answers_after_unlisten_and_connections_stay() {
    for backend in both() {
        let mut transport = make(backend);
        let id = transport.listen(&any_port(), 10).unwrap();
        let addr = transport.local_addr(id).unwrap();
        let mut client = TcpStream::connect(addr).unwrap();
        let conn = accepted(&mut transport);
        transport.unlisten(id);
        assert_eq!(transport.local_addr(id), None);
        assert!(TcpStream::connect(addr).is_err());
        client.write_all(b"still here").unwrap();
        until(&mut transport, "bytes", |event| (*event == Event::Readable(conn)).then_some(()));
        assert_eq!(transport.received(conn), b"still here");
        // The port can be had again at once.
        let again = transport.listen(&ListenAddr::Tcp(addr), 10).unwrap();
        assert_eq!(transport.local_addr(again), Some(addr));
    }
}

#[test]
fn both_families_share_a_port() {
    for backend in both() {
        let mut transport = make(backend);
        let v4 = transport.listen(&ListenAddr::Tcp("0.0.0.0:0".parse().unwrap()), 10).unwrap();
        let port = transport.local_addr(v4).unwrap().port();
        let v6: SocketAddr = format!("[::]:{port}").parse().unwrap();
        if let Err(error) = transport.listen(&ListenAddr::Tcp(v6), 10) {
            left_out("ipv6", error);
            continue;
        }
        for host in ["127.0.0.1", "::1"] {
            let client = TcpStream::connect((host, port)).unwrap();
            let conn = accepted(&mut transport);
            let Some(Peer::Tcp { remote, local }) = transport.peer(conn) else { panic!("not TCP") };
            assert_eq!((*remote, *local), (client.local_addr().unwrap(), client.peer_addr().unwrap()));
        }
    }
}

#[test]
fn accepted_sockets_have_the_options_of_their_listener() {
    for backend in both() {
        let mut transport = make(backend);
        let id = transport.listen(&any_port(), 10).unwrap();
        let addr = transport.local_addr(id).unwrap();
        for (seconds, probes) in [(300, 100), (60, 20), (1, 1)] {
            transport.set_keepalive_seconds(seconds);
            let _client = TcpStream::connect(addr).unwrap();
            let conn = accepted(&mut transport);
            let fd = transport.raw_fd(conn).unwrap();
            assert_eq!(option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY), 1);
            assert_eq!(option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE), 1);
            assert_eq!(option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE), seconds as i32);
            assert_eq!(option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL), probes);
            assert_eq!(option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT), 3);
        }
        transport.set_keepalive_seconds(0);
        let _client = TcpStream::connect(addr).unwrap();
        let conn = accepted(&mut transport);
        assert_eq!(option(transport.raw_fd(conn).unwrap(), libc::SOL_SOCKET, libc::SO_KEEPALIVE), 0);
    }
}

#[test]
fn a_watched_descriptor_wakes_as_long_as_it_is_readable() {
    for backend in both() {
        let mut transport = make(backend);
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        transport.watch(theirs.as_raw_fd());
        let wake = |event: &Event| (*event == Event::Wake).then_some(());
        for _ in 0..5 {
            ours.write_all(b"x").unwrap();
            until(&mut transport, "the first wake", wake);
            until(&mut transport, "the second wake", wake);
            theirs.read_exact(&mut [0]).unwrap();
            let mut events = Vec::new();
            // At most what was already under way.
            for _ in 0..5 {
                transport.poll(&mut events);
            }
            events.clear();
            transport.park(Some(Duration::from_millis(5)));
            transport.poll(&mut events);
            assert_eq!(events, []);
        }
    }
}

#[test]
fn what_drains_is_given_up_in_time() {
    for backend in both() {
        let options = TcpOptions { backend, drain_timeout: Duration::from_millis(50), ..TcpOptions::default() };
        let mut transport = TcpTransport::new(options).unwrap();
        let id = transport.listen(&any_port(), 10).unwrap();
        let _client = TcpStream::connect(transport.local_addr(id).unwrap()).unwrap();
        let conn = accepted(&mut transport);
        let mut buf = transport.lease();
        buf.extend_from_slice(&vec![7; 32 << 20]);
        transport.send(conn, buf);
        transport.flush();
        transport.close(conn, Close::Drain);
        assert_eq!((transport.connections(), transport.closing()), (0, 1));
        let start = Instant::now();
        while transport.closing() > 0 {
            transport.park(None);
            transport.poll(&mut Vec::new());
            assert!(start.elapsed() < Duration::from_secs(5), "never given up");
        }
        assert!(start.elapsed() >= Duration::from_millis(40));
    }
}

#[test]
fn dropping_a_transport_with_everything_under_way_is_safe() {
    for backend in both() {
        for direct_max in [0, 8] {
            let mut transport = make(backend);
            transport.set_direct_connections_max(direct_max);
            let id = transport.listen(&any_port(), 10).unwrap();
            let addr = transport.local_addr(id).unwrap();
            let mut clients = Vec::new();
            for at in 0..5 {
                let mut client = TcpStream::connect(addr).unwrap();
                let conn = accepted(&mut transport);
                client.write_all(&[at; 50_000]).unwrap();
                let mut buf = transport.lease();
                buf.extend_from_slice(&vec![at; 8 << 20]);
                buf.push_shared(std::sync::Arc::new(vec![at; 1 << 20]));
                transport.send(conn, buf);
                clients.push(client);
            }
            transport.flush();
            transport.poll(&mut Vec::new());
            drop(transport);
        }
    }
}

/// Run alone in its own process: it changes the process's limit of descriptors.
#[test]
#[ignore = "lowers the limit of descriptors; run by out_of_descriptors_in_a_child"]
fn out_of_descriptors() {
    // First of all: the kernel reads the limit when an accept is armed.
    limit_descriptors(64);
    for backend in both() {
        let mut transport = make(backend);
        let id = transport.listen(&any_port(), 100).unwrap();
        let addr = transport.local_addr(id).unwrap();
        let client = TcpStream::connect(addr).unwrap();
        let conn = accepted(&mut transport);
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let places: Vec<OwnedFd> = std::iter::from_fn(|| duplicate(&client)).collect();
        socket.connect(&addr.into()).unwrap();
        let start = Instant::now();
        let mut errors = 0;
        let mut events = Vec::new();
        let entries = transport.stats().kernel_entries;
        while start.elapsed() < Duration::from_millis(350) {
            transport.park(Some(Duration::from_millis(50)));
            transport.poll(&mut events);
            for event in events.drain(..) {
                match event {
                    Event::AcceptError(errno) => {
                        assert_eq!(errno, libc::EMFILE);
                        errors += 1;
                    }
                    Event::Accepted(_) => panic!("accepted without a descriptor"),
                    _ => {}
                }
            }
        }
        assert!((1..=6).contains(&errors), "{errors} errors in 350 ms");
        assert!(transport.stats().kernel_entries - entries < 100, "it spins");
        drop(places);
        transport.close(conn, Close::Abort);
        accepted(&mut transport);
    }
}

#[test]
fn out_of_descriptors_in_a_child() {
    run_alone("out_of_descriptors");
}

fn run_alone(test: &str) {
    let me = std::env::current_exe().unwrap();
    let output = std::process::Command::new(me)
        .args(["--exact", test, "--ignored", "--test-threads", "1", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn duplicate(stream: &TcpStream) -> Option<OwnedFd> {
    // SAFETY: no pointers; the result is checked before it is used.
    let fd = unsafe { libc::fcntl(stream.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) };
    // SAFETY: a fresh descriptor that nobody else has.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets the soft limit of descriptors; returns what it was.
fn limit_descriptors(soft: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live structure of the call's type, here and below.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    let old = limit.rlim_cur;
    limit.rlim_cur = soft.min(limit.rlim_max);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    old
}

/// In a thread of its own: a filter cannot be taken off again, but holds only for its thread.
#[test]
fn a_filter_that_refuses_io_uring_leaves_epoll() {
    std::thread::spawn(|| {
        refuse_io_uring();
        let refused = TcpTransport::new(TcpOptions { backend: Backend::IoUring, ..TcpOptions::default() });
        let Err(error) = refused else { panic!("io_uring in spite of the filter") };
        assert!(matches!(error, Error::IoUring { .. }));

        let mut transport = make(Backend::Auto);
        assert_eq!(transport.name(), "epoll");
        let text = transport.describe();
        assert!(text.starts_with("epoll (io_uring refused") && text.contains("not permitted"), "{text}");
        let id = transport.listen(&any_port(), 10).unwrap();
        let _client = TcpStream::connect(transport.local_addr(id).unwrap()).unwrap();
        accepted(&mut transport);
    })
    .join()
    .unwrap();
}

fn refuse_io_uring() {
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        // The system call's number, which is the first field.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_io_uring_setup as u32, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program and its statements outlive the call, which copies them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

/// Ten thousand connections, both ends of which are in this process.
#[test]
#[ignore = "needs 20,100 descriptors (ulimit -n); as many fit as the limit allows"]
fn ten_thousand_idle_connections() {
    limit_descriptors(u64::MAX);
    let hard = limit_descriptors(u64::MAX);
    let count = (hard.saturating_sub(100) / 2).min(10_000) as usize;
    for backend in both() {
        let mut transport = make(backend);
        let path = path("idle");
        transport.listen(&ListenAddr::Unix { path: path.clone(), mode: None }, 4096).unwrap();
        let before = resident_bytes();
        let mut clients = Vec::new();
        let mut conns = Vec::new();
        for _ in 0..count {
            clients.push(UnixStream::connect(&path).unwrap());
            conns.push(accepted(&mut transport));
        }
        // Every one of them has served before it goes idle.
        for (client, conn) in clients.iter_mut().zip(&conns) {
            client.write_all(b"hello").unwrap();
            until(&mut transport, "bytes", |event| (*event == Event::Readable(*conn)).then_some(()));
            let mut buf = transport.lease();
            buf.extend_from_slice(transport.received(*conn));
            transport.consume(*conn, 5);
            transport.send(*conn, buf);
            transport.flush();
            client.read_exact(&mut [0; 5]).unwrap();
        }
        transport.poll(&mut Vec::new());
        let each = (resident_bytes() - before) / count;
        let held: usize = conns.iter().map(|conn| transport.memory(*conn)).sum::<usize>() / count;
        println!("{}: {count} connections, {each} resident bytes each, {held} accounted", transport.name());
        assert!(each <= 1024, "{each} bytes an idle connection");
        assert!(held <= 1024, "{held} bytes an idle connection");
    }
}

fn resident_bytes() -> usize {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
