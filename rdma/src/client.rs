//! An [`Endpoint`] as a load generator's client: connections of one thread to one server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tercel_transport::client::{Client, Received};
use tercel_transport::{Close, ConnId, Event, Hangup, TxBuf};

use crate::endpoint::{Endpoint, Options};
use crate::verbs::{Device, VerbsError};

/// Bytes a connection takes before its peer's window has to open.
const QUEUE_BYTES_MAX: usize = 256 * 1024;

struct Line {
    id: ConnId,
    /// Taken and not yet handed over; what one flush covers leaves as one write.
    pending: TxBuf,
    over: Option<Hangup>,
    blocked: bool,
    listed: bool,
}

/// Connections over RDMA to one server.
pub struct RdmaClient<D: Device> {
    endpoint: Endpoint<D>,
    to: SocketAddr,
    lines: Vec<Option<Line>>,
    /// Which line a slot of the endpoint belongs to.
    by_slot: Vec<usize>,
    events: Vec<Event>,
    /// Lines with something pending.
    pending: Vec<usize>,
    /// Lines whose bytes were not all taken by the last receive.
    unread: Vec<usize>,
}

// SAFETY: what is not `Send` by itself are the pieces that a buffer can share with whoever made them, and
// no buffer of a client has any: they are private, and `send` puts nothing but bytes into them.
#[allow(unsafe_code)]
unsafe impl<D: Device + Send> Send for RdmaClient<D> {}

fn broken(error: VerbsError) -> io::Error {
    io::Error::other(error)
}

impl<D: Device> RdmaClient<D> {
    /// A client of the server at `to`.
    ///
    /// # Errors
    /// As [`Endpoint::new`].
    pub fn new(device: D, options: Options, to: SocketAddr) -> Result<Self, VerbsError> {
        let endpoint = Endpoint::new(device, options)?;
        Ok(RdmaClient {
            endpoint,
            to,
            lines: Vec::new(),
            by_slot: Vec::new(),
            events: Vec::new(),
            pending: Vec::new(),
            unread: Vec::new(),
        })
    }

    /// Starts a connection without waiting for it; bytes can be sent at once.
    ///
    /// # Errors
    /// The device has no more.
    pub fn dial(&mut self) -> io::Result<usize> {
        let id = self.endpoint.dial(self.to).map_err(broken)?;
        let conn = self.lines.len();
        let pending = self.endpoint.lease();
        self.lines.push(Some(Line { id, pending, over: None, blocked: false, listed: false }));
        let slot = id.index as usize;
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, usize::MAX);
        }
        self.by_slot[slot] = conn;
        Ok(conn)
    }

    /// Ends a connection once everything taken has arrived, in good order.
    pub fn finish(&mut self, conn: usize) {
        self.flush();
        if let Some(line) = self.lines.get_mut(conn).and_then(Option::take) {
            self.endpoint.close(line.id, Close::Drain);
        }
    }

    /// What is behind it: counters, endings, memory.
    pub fn endpoint(&mut self) -> &mut Endpoint<D> {
        &mut self.endpoint
    }

    /// The endpoint's name of a connection.
    #[must_use]
    pub fn id(&self, conn: usize) -> Option<ConnId> {
        self.line(conn).ok().map(|line| line.id)
    }

    fn line(&self, conn: usize) -> io::Result<&Line> {
        self.lines.get(conn).and_then(Option::as_ref).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn line_mut(&mut self, conn: usize) -> io::Result<&mut Line> {
        self.lines.get_mut(conn).and_then(Option::as_mut).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Lets the endpoint work and notes what it says.
    fn work(&mut self, ready: &mut Vec<usize>) {
        ready.append(&mut self.unread);
        self.events.clear();
        self.endpoint.poll(&mut self.events);
        for event in &self.events {
            let (Event::Readable(id) | Event::Drained(id) | Event::Hangup(id, _)) = event else { continue };
            let Some(conn) = self.by_slot.get(id.index as usize).copied() else { continue };
            let Some(line) = self.lines.get_mut(conn).and_then(Option::as_mut).filter(|line| line.id == *id) else {
                continue;
            };
            match event {
                Event::Hangup(_, why) => line.over = Some(*why),
                Event::Drained(_) if !line.blocked => continue,
                _ => {}
            }
            if !ready.contains(&conn) {
                ready.push(conn);
            }
        }
    }
}

fn ended(why: Hangup) -> io::Error {
    match why {
        Hangup::Eof => io::ErrorKind::BrokenPipe.into(),
        Hangup::Error(errno) => io::Error::from_raw_os_error(errno),
    }
}

impl<D: Device> Client for RdmaClient<D> {
    fn name(&self) -> &'static str {
        "rdma"
    }

    fn connect(&mut self, timeout: Duration) -> io::Result<usize> {
        #[allow(clippy::disallowed_methods)] // Waiting for a connection is what this does.
        let start = std::time::Instant::now();
        let conn = self.dial()?;
        let id = self.line(conn)?.id;
        let mut ready = Vec::new();
        loop {
            self.work(&mut ready);
            if self.endpoint.is_live(id) {
                self.unread.append(&mut ready);
                return Ok(conn);
            }
            let over = self.line(conn)?.over;
            let spent = start.elapsed();
            if over.is_some() || spent >= timeout {
                self.close(conn);
                return Err(over.map_or_else(|| io::ErrorKind::TimedOut.into(), ended));
            }
            self.endpoint.park(Some((timeout - spent).min(Duration::from_millis(100))));
        }
    }

    fn send(&mut self, conn: usize, bytes: &[u8]) -> io::Result<usize> {
        let line = self.line(conn)?;
        if let Some(why) = line.over {
            return Err(ended(why));
        }
        let held = line.pending.len() + self.endpoint.unsent(line.id);
        let take = bytes.len().min(QUEUE_BYTES_MAX.saturating_sub(held));
        let line = self.line_mut(conn)?;
        line.pending.extend_from_slice(&bytes[..take]);
        if take > 0 && !std::mem::replace(&mut line.listed, true) {
            self.pending.push(conn);
        }
        Ok(take)
    }

    fn flush(&mut self) {
        for conn in self.pending.drain(..) {
            let Some(line) = self.lines.get_mut(conn).and_then(Option::as_mut) else { continue };
            line.listed = false;
            let fresh = self.endpoint.lease();
            self.endpoint.send(line.id, std::mem::replace(&mut line.pending, fresh));
        }
        self.endpoint.flush();
    }

    fn receive(&mut self, conn: usize, into: &mut [u8]) -> io::Result<Received> {
        let line = self.line(conn)?;
        let (id, over) = (line.id, line.over);
        let bytes = self.endpoint.received(id);
        let len = bytes.len().min(into.len());
        into[..len].copy_from_slice(&bytes[..len]);
        if len < bytes.len() && !self.unread.contains(&conn) {
            self.unread.push(conn);
        }
        if len > 0 {
            self.endpoint.consume(id, len);
            return Ok(Received::Bytes(len));
        }
        match over {
            None => Ok(Received::Nothing),
            Some(Hangup::Eof) => Ok(Received::Eof),
            Some(why) => Err(ended(why)),
        }
    }

    fn poll(&mut self, ready: &mut Vec<usize>) {
        self.work(ready);
    }

    fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) {
        self.work(ready);
        if ready.is_empty() {
            self.endpoint.park(Some(timeout));
            self.work(ready);
        }
    }

    fn set_blocked(&mut self, conn: usize, blocked: bool) {
        if let Ok(line) = self.line_mut(conn) {
            line.blocked = blocked;
        }
    }

    fn close(&mut self, conn: usize) {
        if let Some(line) = self.lines.get_mut(conn).and_then(Option::take) {
            self.endpoint.close(line.id, Close::Abort);
        }
    }

    fn raw_fd(&self, _conn: usize) -> Option<i32> {
        None
    }
}
