//! Sockets as this transport wants them: listeners with their options set, unix paths cleaned up
//! safely, and the two calls of the data path. Knows no connection table and no ring.

use std::fs;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tercel_transport::{Address, ConnectError, Peer};

use crate::{Error, ListenAddr};

/// A bound, listening socket and what is needed to take it down again.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) fd: OwnedFd,
    /// Bound address with the port filled in; `None` for unix.
    pub(crate) local: Option<SocketAddr>,
    /// Path, device and inode of a unix socket, so that only our own file is ever unlinked.
    path: Option<(PathBuf, u64, u64)>,
}

impl Listener {
    /// Opens a listener. The socket blocks, as a multishot accept wants it: io_uring may answer
    /// EAGAIN on a non-blocking one instead of waiting. The readiness path makes it non-blocking.
    pub(crate) fn open(addr: &ListenAddr, backlog: u32, keepalive_seconds: u32) -> Result<Self, Error> {
        match addr {
            ListenAddr::Tcp(addr) => Self::open_tcp(*addr, backlog, keepalive_seconds),
            ListenAddr::Unix { path, mode } => Self::open_unix(path, *mode, backlog),
        }
    }

    fn open_tcp(addr: SocketAddr, backlog: u32, keepalive_seconds: u32) -> Result<Self, Error> {
        let fail = |step| move |source| Error::Listen { step, addr: addr.to_string(), source };
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).map_err(fail("create a socket for"))?;
        socket.set_reuse_address(true).map_err(fail("set SO_REUSEADDR for"))?;
        if addr.is_ipv6() {
            // 0.0.0.0 and :: are two listeners, as every operator of such a server expects.
            socket.set_only_v6(true).map_err(fail("set IPV6_V6ONLY for"))?;
        }
        // Linux hands a listener's options on to what it accepts: set here, they cost no system
        // call per connection.
        socket.set_tcp_nodelay(true).map_err(fail("set TCP_NODELAY for"))?;
        set_keepalive(&socket, keepalive_seconds).map_err(fail("set keep-alive for"))?;
        socket.bind(&addr.into()).map_err(fail("bind"))?;
        socket.listen(backlog_clamped(backlog)).map_err(fail("listen on"))?;
        let local = socket.local_addr().ok().and_then(|local| local.as_socket());
        Ok(Listener { fd: socket.into(), local, path: None })
    }

    fn open_unix(path: &Path, mode: Option<u32>, backlog: u32) -> Result<Self, Error> {
        let fail = |step| move |source| Error::Listen { step, addr: path.display().to_string(), source };
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(fail("create a socket for"))?;
        let addr = SockAddr::unix(path).map_err(fail("bind"))?;
        socket.bind(&addr).map_err(fail("bind"))?;
        let meta = fs::symlink_metadata(path).map_err(fail("inspect"))?;
        let mut listener =
            Listener { fd: socket.into(), local: None, path: Some((path.to_path_buf(), meta.dev(), meta.ino())) };
        let opened = (|| {
            if let Some(mode) = mode {
                // Before `listen`: nobody can connect until the permission stands.
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(fail("set the mode of"))?;
            }
            SockRef::from(&listener.fd).listen(backlog_clamped(backlog)).map_err(fail("listen on"))
        })();
        if opened.is_err() {
            listener.unlink();
        }
        opened.map(|()| listener)
    }

    /// Accepts one connection without waiting. Only after [`Listener::set_nonblocking`].
    pub(crate) fn accept(&self) -> io::Result<OwnedFd> {
        // SAFETY: null address pointers are allowed and mean that none is wanted; the result is
        // checked before it is used.
        let fd = unsafe {
            libc::accept4(self.fd.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Makes [`Listener::accept`] return instead of waiting.
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        SockRef::from(&self.fd).set_nonblocking(true)
    }

    /// Stops listening at once, whoever still holds the socket.
    pub(crate) fn shutdown(&self) {
        // Refused only by a socket that does not listen any more.
        let _ = SockRef::from(&self.fd).shutdown(std::net::Shutdown::Both);
    }

    /// The path of a unix listener as text, for [`Peer::Unix`].
    pub(crate) fn path_text(&self) -> Option<String> {
        self.path.as_ref().map(|(path, ..)| path.display().to_string())
    }

    /// Sets keep-alive for connections accepted from now on.
    pub(crate) fn set_keepalive_seconds(&self, seconds: u32) -> io::Result<()> {
        if self.local.is_none() {
            return Ok(());
        }
        set_keepalive(&SockRef::from(&self.fd), seconds)
    }

    /// Removes the path of a unix listener, if it still is the one this listener made.
    pub(crate) fn unlink(&mut self) {
        if let Some((path, dev, ino)) = self.path.take() {
            let ours = fs::symlink_metadata(&path).is_ok_and(|meta| meta.dev() == dev && meta.ino() == ino);
            if ours {
                // Nothing to do about a failure: the next start removes a stale socket.
                let _ = fs::remove_file(&path);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.unlink();
    }
}

fn backlog_clamped(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

/// As Valkey sets it: first probe after `seconds`, then every third of that, three unanswered ones
/// end the connection. 0 turns it off.
fn set_keepalive(socket: &Socket, seconds: u32) -> io::Result<()> {
    if seconds == 0 {
        return socket.set_keepalive(false);
    }
    let every = (seconds / 3).max(1);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(Duration::from_secs(seconds.into()))
            .with_interval(Duration::from_secs(every.into()))
            .with_retries(3),
    )
}

/// Makes way for a unix listener: a socket nobody answers on is removed, anything else stays.
fn remove_stale(path: &Path) -> Result<(), Error> {
    let fail = |step| move |source| Error::Listen { step, addr: path.display().to_string(), source };
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(fail("inspect"))?,
    };
    if !meta.file_type().is_socket() {
        return Err(Error::NotASocket { path: path.to_path_buf() });
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(fail("create a socket for"))?;
    // Non-blocking, because a live server with a full backlog would hold us here.
    probe.set_nonblocking(true).map_err(fail("probe"))?;
    let addr = SockAddr::unix(path).map_err(fail("bind"))?;
    match probe.connect(&addr) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(fail("remove the stale socket"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(fail("probe")(error)),
        _ => Err(Error::InUse { path: path.to_path_buf() }),
    }
}

/// Who is at the other end of an accepted socket. Fails when the peer has already gone.
pub(crate) fn peer_of(fd: &OwnedFd, listener: &Listener) -> io::Result<Peer> {
    if let Some(path) = listener.path_text() {
        return Ok(Peer::Unix { path });
    }
    let socket = SockRef::from(fd);
    let missing = || io::Error::from_raw_os_error(libc::ENOTCONN);
    let remote = socket.peer_addr()?.as_socket().ok_or_else(missing)?;
    let local = match listener.local {
        Some(local) if !local.ip().is_unspecified() => local,
        _ => socket.local_addr()?.as_socket().ok_or_else(missing)?,
    };
    Ok(Peer::Tcp { remote, local })
}

/// How a dial stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is a connection.
    Stands,
    /// The kernel is at it.
    Open,
    /// The other side (a unix socket) takes nobody right now, and the kernel keeps no place in the queue.
    QueueFull,
    /// It will be none; the operating system's error number.
    Failed(i32),
}

fn os(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EINVAL)
}

/// A socket to dial with, which does not block, and the address as the kernel takes it. `source` is an address
/// of ours to come from.
pub(crate) fn to_dial(
    to: &Address,
    source: Option<IpAddr>,
    keepalive_seconds: u32,
) -> Result<(OwnedFd, SockAddr), ConnectError> {
    let fail = |error: io::Error| ConnectError::Os(os(&error));
    let (socket, addr) = match to {
        Address::Tcp(addr) => {
            let socket = Socket::new(Domain::for_address(*addr), Type::STREAM, None).map_err(fail)?;
            socket.set_tcp_nodelay(true).map_err(fail)?;
            set_keepalive(&socket, keepalive_seconds).map_err(fail)?;
            if let Some(source) = source {
                socket.bind(&SocketAddr::new(source, 0).into()).map_err(fail)?;
            }
            (socket, SockAddr::from(*addr))
        }
        Address::Unix(path) => {
            // Too long a path is found out here.
            let addr = SockAddr::unix(path).map_err(fail)?;
            (Socket::new(Domain::UNIX, Type::STREAM, None).map_err(fail)?, addr)
        }
        Address::Rdma(_) | Address::Memory(_) => return Err(ConnectError::Unsupported),
    };
    socket.set_nonblocking(true).map_err(fail)?;
    Ok((socket.into(), addr))
}

/// Starts to connect.
pub(crate) fn connect(fd: impl AsFd, addr: &SockAddr) -> Answer {
    match SockRef::from(&fd).connect(addr) {
        Ok(()) => Answer::Stands,
        Err(error) => match os(&error) {
            // An interrupted one goes on by itself.
            libc::EINPROGRESS | libc::EINTR | libc::EALREADY => Answer::Open,
            libc::EISCONN => Answer::Stands,
            libc::EAGAIN if addr.is_unix() => Answer::QueueFull,
            errno => Answer::Failed(errno),
        },
    }
}

/// What has become of a connect that was left open.
pub(crate) fn answer(fd: impl AsFd) -> Answer {
    let socket = SockRef::from(&fd);
    match socket.take_error() {
        Ok(Some(error)) | Err(error) => Answer::Failed(os(&error)),
        // A report may be a stale one, of whoever had the slot before: only a peer proves a connection.
        Ok(None) => match socket.peer_addr() {
            Ok(_) => Answer::Stands,
            Err(error) if os(&error) == libc::ENOTCONN => Answer::Open,
            Err(error) => Answer::Failed(os(&error)),
        },
    }
}

/// Makes calls wait again that do not say that they do not want to.
pub(crate) fn set_blocking(fd: impl AsFd) -> io::Result<()> {
    SockRef::from(&fd).set_nonblocking(false)
}

/// Who is at the other end of a socket that dials or has dialled; our own address is unspecified before it is
/// chosen.
pub(crate) fn dialled_peer(fd: impl AsFd, to: &Address) -> Peer {
    match to {
        Address::Unix(path) => Peer::Unix { path: path.display().to_string() },
        Address::Tcp(remote) | Address::Rdma(remote) => {
            let local = SockRef::from(&fd).local_addr().ok().and_then(|local| local.as_socket());
            let local = local.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
            Peer::Tcp { remote: *remote, local }
        }
        Address::Memory(number) => Peer::Memory(*number),
    }
}

/// Ends our half of a connection: the peer reads an end of stream after what was sent.
pub(crate) fn shutdown_write(fd: impl AsFd) {
    // A connection that is already gone has nothing left to end.
    let _ = SockRef::from(&fd).shutdown(std::net::Shutdown::Write);
}

/// One receive that never waits, into what room `buf` has behind its content, at most `limit`
/// bytes. Returns how many bytes were appended; 0 is the end of the stream.
pub(crate) fn receive(fd: impl AsFd, buf: &mut Vec<u8>, limit: usize) -> io::Result<usize> {
    let room: &mut [MaybeUninit<u8>] = buf.spare_capacity_mut();
    let limit = limit.min(room.len());
    let len = SockRef::from(&fd).recv_with_flags(&mut room[..limit], libc::MSG_DONTWAIT)?;
    let filled = buf.len() + len.min(limit);
    // SAFETY: the kernel wrote `len` bytes, at most `limit`, from the start of the spare capacity,
    // so everything below `filled` is initialised and inside the allocation.
    unsafe { buf.set_len(filled) };
    Ok(len.min(limit))
}

/// One send that never waits and never raises a signal. Returns how many bytes were taken.
pub(crate) fn send(fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    SockRef::from(&fd).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
}

/// As [`send`], from several pieces.
pub(crate) fn send_vectored(fd: impl AsFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    SockRef::from(&fd).send_vectored_with_flags(pieces, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
}
