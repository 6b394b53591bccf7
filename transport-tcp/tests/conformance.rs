//! The conformance suite over real sockets: both backends, both address families, sleeping and
//! spinning, and io_uring with direct receiving forced off, chosen, and forced on.

#![allow(clippy::unwrap_used)]

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tercel_transport::conformance::{Dial, Dialler, Rig, Seen, left_out};
use tercel_transport::{Address, ConnectOptions, ListenerId, Transport};
use tercel_transport_tcp::{Backend, ListenAddr, TcpOptions, TcpTransport};

/// One configuration under test.
struct TcpRig {
    transport: TcpTransport,
    dial: SockAddr,
    domain: Domain,
    overshoot_bytes: usize,
    first: (Address, ListenerId),
    /// Sockets whose addresses nobody answers at.
    silent: Vec<Socket>,
}

#[derive(Clone, Copy)]
struct Setup {
    backend: Backend,
    unix: bool,
    spinning: bool,
    direct_max: usize,
}

const EPOLL: Setup = Setup { backend: Backend::Epoll, unix: false, spinning: false, direct_max: 8 };
const RING: Setup = Setup { backend: Backend::IoUring, unix: false, spinning: false, direct_max: 8 };

/// Without io_uring its tests run over epoll, as the server would, unless it is required.
fn backend_here(wanted: Backend) -> Backend {
    let options = TcpOptions { backend: wanted, ..TcpOptions::default() };
    match TcpTransport::new(options) {
        Err(error) if wanted == Backend::IoUring => {
            left_out("io_uring", error);
            Backend::Epoll
        }
        _ => wanted,
    }
}

fn socket_path() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("tercel-conformance-{}-{count}.sock", std::process::id()))
}

fn rig(setup: Setup) -> TcpRig {
    let options = TcpOptions {
        backend: backend_here(setup.backend),
        drain_timeout: Duration::from_secs(30),
        ..TcpOptions::default()
    };
    let unit = options.receive_buffer_bytes;
    let mut transport = TcpTransport::new(options).unwrap();
    transport.set_direct_connections_max(setup.direct_max);
    transport.set_spinning(setup.spinning);
    let domain = if setup.unix { Domain::UNIX } else { Domain::IPV4 };
    let first = listen(&mut transport, domain);
    let dial = match &first.0 {
        Address::Unix(path) => SockAddr::unix(path).unwrap(),
        Address::Tcp(addr) => (*addr).into(),
        other => panic!("{other}"),
    };
    // The ring's first lot of buffers can be filled before the first completion is seen.
    let overshoot_bytes = if setup.backend == Backend::IoUring { 64 * unit } else { unit };
    TcpRig { transport, dial, domain, overshoot_bytes, first, silent: Vec::new() }
}

fn listen(transport: &mut TcpTransport, domain: Domain) -> (Address, ListenerId) {
    if domain == Domain::UNIX {
        let path = socket_path();
        let id = transport.listen(&ListenAddr::Unix { path: path.clone(), mode: Some(0o700) }, 1000).unwrap();
        return (Address::Unix(path), id);
    }
    let addr: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let id = transport.listen(&ListenAddr::Tcp(addr), 1000).unwrap();
    (Address::Tcp(transport.local_addr(id).unwrap()), id)
}

impl Dialler for TcpRig {
    fn listeners(&mut self) -> [(Address, ListenerId); 2] {
        [self.first.clone(), listen(&mut self.transport, self.domain)]
    }

    fn nobody(&mut self) -> Address {
        // Bound, so that it is nobody else's, and not listening.
        let socket = Socket::new(self.domain, Type::STREAM, None).unwrap();
        let address = if self.domain == Domain::UNIX {
            let path = socket_path();
            socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
            Address::Unix(path)
        } else {
            socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
            Address::Tcp(socket.local_addr().unwrap().as_socket().unwrap())
        };
        self.silent.push(socket);
        address
    }

    fn foreign(&self) -> Address {
        Address::Rdma("127.0.0.1:1".parse().unwrap())
    }
}

impl Drop for TcpRig {
    fn drop(&mut self) {
        for socket in &self.silent {
            if let Some(path) = socket.local_addr().ok().and_then(|addr| addr.as_pathname().map(PathBuf::from)) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// The same from the other end: the transport dials, the clients are those who listen.
struct DialledRig {
    inner: TcpRig,
    far: Socket,
    to: Address,
}

fn dialled(setup: Setup) -> DialledRig {
    let inner = rig(setup);
    let far = Socket::new(inner.domain, Type::STREAM, None).unwrap();
    let to = if setup.unix {
        let path = socket_path();
        far.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        Address::Unix(path)
    } else {
        far.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        Address::Tcp(far.local_addr().unwrap().as_socket().unwrap())
    };
    far.listen(1000).unwrap();
    DialledRig { inner, far, to }
}

impl Rig for DialledRig {
    type Transport = TcpTransport;
    type Client = Client;

    fn transport(&mut self) -> &mut TcpTransport {
        &mut self.inner.transport
    }

    fn dial(&mut self) -> Client {
        self.inner.transport.connect(&self.to, &ConnectOptions::default()).unwrap();
        // The kernel answers for it, whoever polls.
        let (socket, _) = self.far.accept().unwrap();
        client(socket, self.inner.domain)
    }

    fn overshoot_bytes(&self) -> usize {
        self.inner.overshoot_bytes
    }
}

impl Drop for DialledRig {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.to {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn client(socket: Socket, domain: Domain) -> Client {
    socket.set_nonblocking(true).unwrap();
    if domain == Domain::IPV4 {
        socket.set_tcp_nodelay(true).unwrap();
    }
    Client { socket, unix: domain == Domain::UNIX }
}

impl Rig for TcpRig {
    type Transport = TcpTransport;
    type Client = Client;

    fn transport(&mut self) -> &mut TcpTransport {
        &mut self.transport
    }

    fn dial(&mut self) -> Client {
        let socket = Socket::new(self.domain, Type::STREAM, None).unwrap();
        socket.connect(&self.dial).unwrap();
        client(socket, self.domain)
    }

    fn overshoot_bytes(&self) -> usize {
        self.overshoot_bytes
    }
}

struct Client {
    socket: Socket,
    unix: bool,
}

impl Dial for Client {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.socket.send_with_flags(bytes, libc::MSG_NOSIGNAL).unwrap_or(0)
    }

    fn read(&mut self, into: &mut Vec<u8>) -> Seen {
        let mut room = [MaybeUninit::<u8>::uninit(); 64 * 1024];
        for _ in 0..16 {
            match self.socket.recv(&mut room) {
                Ok(0) => return Seen::End,
                // SAFETY: the call wrote this many bytes.
                Ok(len) => into.extend(room[..len].iter().map(|byte| unsafe { byte.assume_init() })),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => break,
                Err(_) => return Seen::Broken,
            }
        }
        Seen::Open
    }

    fn end_writing(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    fn reset(self) -> bool {
        if self.unix {
            return false;
        }
        let lingered: io::Result<()> = self.socket.set_linger(Some(Duration::ZERO));
        lingered.is_ok()
    }

    fn hang_up(self) {}
}

tercel_transport::conformance_suite!(epoll, rig(EPOLL));
tercel_transport::conformance_suite!(epoll_spinning, rig(Setup { spinning: true, ..EPOLL }));
tercel_transport::conformance_suite!(epoll_unix, rig(Setup { unix: true, ..EPOLL }));
tercel_transport::conformance_suite!(io_uring, rig(RING));
tercel_transport::conformance_suite!(io_uring_spinning, rig(Setup { spinning: true, ..RING }));
tercel_transport::conformance_suite!(io_uring_unix, rig(Setup { unix: true, ..RING }));
tercel_transport::conformance_suite!(io_uring_never_direct, rig(Setup { direct_max: 0, ..RING }));
tercel_transport::conformance_suite!(
    io_uring_never_direct_spinning,
    rig(Setup { direct_max: 0, spinning: true, ..RING })
);
tercel_transport::conformance_suite!(io_uring_always_direct, rig(Setup { direct_max: usize::MAX / 4, ..RING }));
tercel_transport::conformance_suite!(io_uring_often_changing, rig(Setup { direct_max: 2, ..RING }));

tercel_transport::conformance_suite!(epoll_dialled, dialled(EPOLL));
tercel_transport::conformance_suite!(epoll_dialled_unix, dialled(Setup { unix: true, ..EPOLL }));
tercel_transport::conformance_suite!(io_uring_dialled, dialled(RING));
tercel_transport::conformance_suite!(io_uring_dialled_unix, dialled(Setup { unix: true, ..RING }));
tercel_transport::conformance_suite!(io_uring_dialled_never_direct, dialled(Setup { direct_max: 0, ..RING }));

tercel_transport::conformance_dials!(epoll_dials, rig(EPOLL));
tercel_transport::conformance_dials!(epoll_dials_spinning, rig(Setup { spinning: true, ..EPOLL }));
tercel_transport::conformance_dials!(epoll_dials_unix, rig(Setup { unix: true, ..EPOLL }));
tercel_transport::conformance_dials!(io_uring_dials, rig(RING));
tercel_transport::conformance_dials!(io_uring_dials_spinning, rig(Setup { spinning: true, ..RING }));
tercel_transport::conformance_dials!(io_uring_dials_unix, rig(Setup { unix: true, ..RING }));
tercel_transport::conformance_dials!(io_uring_dials_never_direct, rig(Setup { direct_max: 0, ..RING }));
tercel_transport::conformance_dials!(io_uring_dials_often_changing, rig(Setup { direct_max: 2, ..RING }));
