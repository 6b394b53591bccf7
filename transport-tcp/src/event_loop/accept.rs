//! Listeners and what they bring. A shortage of descriptors is reported and waited out: it must
//! neither spin nor end the service.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use tercel_transport::{Event, RECEIVE_LIMIT_DEFAULT};

use super::{EventLoop, kind, now, token};
use crate::conns::Mode;
use crate::socket::{self, Listener};
use crate::{Error, ListenAddr, ListenerId, epoll, uring};

/// Connections taken from one listener in one poll at most.
const ACCEPT_MAX: usize = 64;
/// How long a listener rests after it ran out of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Failures of one connection on its way in (accept(2) passes its network errors on): the next one
/// is unharmed.
const CONNECTION_ERRORS: [i32; 13] = [
    libc::ECONNABORTED,
    libc::EINTR,
    libc::EAGAIN,
    libc::EPERM,
    libc::EPROTO,
    libc::ENOPROTOOPT,
    libc::EOPNOTSUPP,
    libc::ETIMEDOUT,
    libc::ENETDOWN,
    libc::ENETUNREACH,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    libc::ENONET,
];

/// A listener of this transport.
pub(crate) struct ListenSlot {
    pub(crate) listener: Listener,
    /// Resting after an error.
    resting: bool,
    /// The ring accepts for it.
    pub(super) armed: bool,
    /// Closed, and only here until that operation has ended.
    pub(super) closed: bool,
}

impl EventLoop {
    pub(crate) fn listen(&mut self, addr: &ListenAddr, backlog: u32) -> Result<ListenerId, Error> {
        let listener = Listener::open(addr, backlog, self.options.keepalive_seconds)?;
        let index = self.listeners.len() as u32;
        if self.ring.is_none() {
            let fail = |source| Error::Listen { step: "watch", addr: addr.to_string(), source };
            listener.set_nonblocking().map_err(fail)?;
            self.epoll.add(listener.fd.as_raw_fd(), epoll::IN, token(kind::LISTENER, index)).map_err(fail)?;
        }
        self.listeners.push(Some(ListenSlot { listener, resting: false, armed: false, closed: false }));
        self.arm_accept(index);
        Ok(ListenerId(index))
    }

    pub(crate) fn unlisten(&mut self, id: ListenerId) {
        let Some(place) = self.listeners.get_mut(id.0 as usize) else { return };
        let Some(slot) = place else { return };
        if slot.closed {
            return;
        }
        match &mut self.ring {
            // The armed accept holds on to the socket: it is told to stop listening now, and goes
            // when the operation has ended.
            Some(ring) if slot.armed => {
                slot.closed = true;
                slot.listener.shutdown();
                slot.listener.unlink();
                ring.cancel(uring::number(uring::kind::ACCEPT, id.0));
                ring.submit();
            }
            Some(_) => *place = None,
            None => {
                self.epoll.remove(slot.listener.fd.as_raw_fd());
                *place = None;
            }
        }
    }

    pub(crate) fn local_addr(&self, id: ListenerId) -> Option<SocketAddr> {
        self.listeners.get(id.0 as usize)?.as_ref().filter(|slot| !slot.closed)?.listener.local
    }

    pub(crate) fn set_keepalive_seconds(&mut self, seconds: u32) {
        self.options.keepalive_seconds = seconds;
        for slot in self.listeners.iter().flatten() {
            // Refused only for nonsense; connections then keep the setting they had.
            let _ = slot.listener.set_keepalive_seconds(seconds);
        }
    }

    /// Takes what waits on a listener.
    pub(super) fn accept_ready(&mut self, index: u32, events: &mut Vec<Event>) {
        for _ in 0..ACCEPT_MAX {
            let Some(Some(slot)) = self.listeners.get(index as usize) else { return };
            match slot.listener.accept() {
                Ok(fd) => self.adopt(index, fd, events),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    if !self.accept_failed(index, error.raw_os_error().unwrap_or(0), events) {
                        return;
                    }
                }
            }
        }
    }

    /// Makes a connection of an accepted socket.
    pub(super) fn adopt(&mut self, listener: u32, fd: OwnedFd, events: &mut Vec<Event>) {
        let Some(Some(slot)) = self.listeners.get(listener as usize) else { return };
        if slot.closed {
            return;
        }
        // A peer that is gone before we looked was never there.
        let Ok(peer) = socket::peer_of(&fd, &slot.listener) else { return };
        let id = self.conns.insert(fd, peer, Some(ListenerId(listener)), RECEIVE_LIMIT_DEFAULT);
        self.stats.accepted += 1;
        events.push(Event::Accepted(id));
        let mode = if self.ring.is_some() { Mode::Ring } else { Mode::Direct };
        self.enter_mode(id.index, mode);
    }

    /// Judges a failed accept; true if the next one may be tried at once.
    pub(super) fn accept_failed(&mut self, index: u32, errno: i32, events: &mut Vec<Event>) -> bool {
        if CONNECTION_ERRORS.contains(&errno) {
            return true;
        }
        events.push(Event::AcceptError(errno));
        if let Some(Some(slot)) = self.listeners.get_mut(index as usize) {
            slot.resting = true;
            if self.ring.is_none() {
                self.epoll.remove(slot.listener.fd.as_raw_fd());
            }
            self.accept_again = Some(now() + ACCEPT_REST);
        }
        false
    }

    /// Tries the resting listeners again.
    pub(super) fn resume_accept(&mut self) {
        for index in 0..self.listeners.len() as u32 {
            let Some(Some(slot)) = self.listeners.get_mut(index as usize) else { continue };
            if !std::mem::take(&mut slot.resting) {
                continue;
            }
            if self.ring.is_some() {
                self.arm_accept(index);
            } else if self.epoll.add(slot.listener.fd.as_raw_fd(), epoll::IN, token(kind::LISTENER, index)).is_err() {
                slot.resting = true;
                self.accept_again = Some(now() + ACCEPT_REST);
            }
        }
    }
}
