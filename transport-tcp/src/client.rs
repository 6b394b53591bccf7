//! The client side for load generators: TCP and unix sockets behind
//! [`tercel_transport::client::Client`].
//!
//! One connection is polled by trying to receive, which spares a system call a turn; several share
//! an epoll set. Touches sockets only.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tercel_transport::client::{Client, Received};

/// Readiness reports taken from the kernel at once.
const EVENTS_MAX: usize = 256;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAddr {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix-domain socket.
    Unix(PathBuf),
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientAddr::Tcp(addr) => write!(f, "tcp://{addr}"),
            ClientAddr::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Connections to one address.
pub struct SocketClient {
    addr: ClientAddr,
    conns: Vec<Option<Socket>>,
    open: usize,
    /// Connections marked as blocked, so that a busy poll need not look at them.
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl SocketClient {
    /// A client without connections.
    ///
    /// # Errors
    /// The operating system gives no epoll descriptor.
    pub fn new(addr: ClientAddr) -> io::Result<Self> {
        // SAFETY: the call takes no pointer; its result is checked before it is used.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        Ok(SocketClient { addr, conns: Vec::new(), open: 0, epoll, events })
    }

    fn socket(&self, conn: usize) -> io::Result<&Socket> {
        self.conns.get(conn).and_then(Option::as_ref).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn control(&self, operation: i32, conn: usize, interest: i32) -> io::Result<()> {
        let fd = self.socket(conn)?.as_raw_fd();
        let mut event = libc::epoll_event { events: interest as u32, u64: conn as u64 };
        // SAFETY: both descriptors are open, and the event lives through the call.
        let failed = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) } < 0;
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn collect(&mut self, timeout: Option<Duration>, ready: &mut Vec<usize>) {
        let room = self.events.len() as i32;
        let events = self.events.as_mut_ptr();
        let epoll = self.epoll.as_raw_fd();
        let got = match timeout {
            // SAFETY: `events` has room for `room` elements and lives through the call.
            None => unsafe { libc::epoll_wait(epoll, events, room, 0) },
            Some(timeout) => {
                let spec = libc::timespec {
                    tv_sec: timeout.as_secs().min(3600) as libc::time_t,
                    tv_nsec: timeout.subsec_nanos().into(),
                };
                // SAFETY: as above; `spec` lives through the call and no signal mask is given.
                let got = unsafe { libc::epoll_pwait2(epoll, events, room, &raw const spec, std::ptr::null()) };
                if got < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
                    // Kernels before 5.11 only know milliseconds; early is better than late.
                    let ms = timeout.as_millis().min(3_600_000) as i32;
                    // SAFETY: as above.
                    unsafe { libc::epoll_wait(epoll, events, room, ms) }
                } else {
                    got
                }
            }
        };
        // An interrupted wait is an empty one.
        let got = usize::try_from(got).unwrap_or(0);
        ready.extend(self.events.iter().take(got).map(|event| event.u64 as usize));
    }
}

fn nothing_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Client for SocketClient {
    fn name(&self) -> &'static str {
        match self.addr {
            ClientAddr::Tcp(_) => "tcp",
            ClientAddr::Unix(_) => "unix",
        }
    }

    fn connect(&mut self, timeout: Duration) -> io::Result<usize> {
        let socket = match &self.addr {
            ClientAddr::Tcp(addr) => {
                let socket = Socket::new(Domain::for_address(*addr), Type::STREAM, None)?;
                socket.connect_timeout(&(*addr).into(), timeout)?;
                socket.set_tcp_nodelay(true)?;
                socket
            }
            ClientAddr::Unix(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                // A full backlog would hold a connect for ever; the send timeout bounds it.
                socket.set_write_timeout(Some(timeout))?;
                socket.connect(&SockAddr::unix(path)?)?;
                socket
            }
        };
        socket.set_nonblocking(true)?;
        let conn = self.conns.len();
        self.conns.push(Some(socket));
        if let Err(error) = self.control(libc::EPOLL_CTL_ADD, conn, libc::EPOLLIN | libc::EPOLLRDHUP) {
            self.conns.pop();
            return Err(error);
        }
        self.open += 1;
        Ok(conn)
    }

    #[inline]
    fn send(&mut self, conn: usize, bytes: &[u8]) -> io::Result<usize> {
        match self.socket(conn)?.send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) {
            Err(error) if nothing_yet(&error) => Ok(0),
            other => other,
        }
    }

    #[inline]
    fn receive(&mut self, conn: usize, into: &mut [u8]) -> io::Result<Received> {
        let mut socket = self.socket(conn)?;
        match io::Read::read(&mut socket, into) {
            Ok(0) => Ok(Received::Eof),
            Ok(len) => Ok(Received::Bytes(len)),
            Err(error) if nothing_yet(&error) => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    #[inline]
    fn poll(&mut self, ready: &mut Vec<usize>) {
        if self.open == 1 {
            ready.extend(self.conns.iter().position(Option::is_some));
        } else {
            self.collect(None, ready);
        }
    }

    fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) {
        self.collect(Some(timeout), ready);
    }

    fn set_blocked(&mut self, conn: usize, blocked: bool) {
        let interest = libc::EPOLLIN | libc::EPOLLRDHUP | if blocked { libc::EPOLLOUT } else { 0 };
        // Refused only for a connection that is gone, which the next send reports.
        let _ = self.control(libc::EPOLL_CTL_MOD, conn, interest);
    }

    fn close(&mut self, conn: usize) {
        if let Some(socket) = self.conns.get_mut(conn).and_then(Option::take) {
            self.open -= 1;
            let _ = SockRef::from(&socket).shutdown(std::net::Shutdown::Both);
        }
    }

    fn raw_fd(&self, conn: usize) -> Option<i32> {
        self.socket(conn).ok().map(AsRawFd::as_raw_fd)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn receive_all(client: &mut SocketClient, conn: usize, len: usize) -> Vec<u8> {
        let mut got = Vec::new();
        let mut ready = Vec::new();
        while got.len() < len {
            ready.clear();
            client.wait(PATIENCE, &mut ready);
            assert!(!ready.is_empty(), "nothing came");
            let mut chunk = [0; 4096];
            match client.receive(conn, &mut chunk).unwrap() {
                Received::Bytes(len) => got.extend_from_slice(&chunk[..len]),
                Received::Nothing => {}
                Received::Eof => break,
            }
        }
        got
    }

    #[test]
    fn bytes_travel_and_the_end_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = SocketClient::new(ClientAddr::Tcp(listener.local_addr().unwrap())).unwrap();
        let conn = client.connect(PATIENCE).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        assert_eq!(client.receive(conn, &mut [0; 8]).unwrap(), Received::Nothing);
        assert_eq!(client.send(conn, b"hello").unwrap(), 5);
        let mut five = [0; 5];
        server.read_exact(&mut five).unwrap();
        server.write_all(b"world").unwrap();
        drop(server);
        assert_eq!(receive_all(&mut client, conn, 6), b"world");
        client.close(conn);
        assert_eq!(client.send(conn, b"x").unwrap_err().kind(), io::ErrorKind::NotConnected);
    }

    #[test]
    fn a_blocked_send_ends_a_wait_when_there_is_room() {
        let directory = std::env::temp_dir().join(format!("tercel-client-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = SocketClient::new(ClientAddr::Unix(path)).unwrap();
        let conn = client.connect(PATIENCE).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let chunk = vec![7; 65536];
        let mut sent = 0;
        loop {
            match client.send(conn, &chunk).unwrap() {
                0 => break,
                len => sent += len,
            }
        }
        client.set_blocked(conn, true);
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; sent];
            server.read_exact(&mut got).unwrap();
            server
        });
        let mut ready = Vec::new();
        client.wait(PATIENCE, &mut ready);
        assert_eq!(ready, [conn]);
        let _server = reader.join().unwrap();
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn nobody_there_is_an_error() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(SocketClient::new(ClientAddr::Tcp(free)).unwrap().connect(PATIENCE).is_err());
    }
}
