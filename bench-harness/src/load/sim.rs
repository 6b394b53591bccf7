//! A server in simulated time: a client and a clock that share one counter of nanoseconds, which
//! moves by a fixed step each time the loop polls.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tercel_resp::reply::Scanner;
use tercel_transport::client::{Client, Received};

use crate::clock::Clock;

#[derive(Clone, Default)]
pub(super) struct SimClock(Rc<Cell<u64>>);

impl Clock for SimClock {
    fn now_ns(&self) -> u64 {
        self.0.get()
    }
}

/// What the simulated server does with its `n`-th request, which arrives at `now_ns`.
pub(super) enum Answer {
    /// Reply at that time.
    At(u64),
    /// Reply with these bytes at once.
    Bytes(&'static [u8]),
    /// Never reply.
    Never,
    /// Close the connection.
    Close,
}

pub(super) struct SimClient<F> {
    time: SimClock,
    step_ns: u64,
    behave: F,
    requests: u64,
    conns: Vec<SimConn>,
}

#[derive(Default)]
struct SimConn {
    partial: Vec<u8>,
    scanner: Scanner,
    replies: VecDeque<(u64, &'static [u8])>,
    closed: bool,
}

impl<F: FnMut(u64, u64) -> Answer> SimClient<F> {
    pub(super) fn new(conns: usize, step_ns: u64, behave: F) -> (Self, SimClock) {
        let time = SimClock::default();
        let conns = (0..conns).map(|_| SimConn::default()).collect();
        (SimClient { time: time.clone(), step_ns, behave, requests: 0, conns }, time)
    }
}

impl<F: FnMut(u64, u64) -> Answer> Client for SimClient<F> {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn connect(&mut self, _: Duration) -> io::Result<usize> {
        self.conns.push(SimConn::default());
        Ok(self.conns.len() - 1)
    }

    fn send(&mut self, conn: usize, bytes: &[u8]) -> io::Result<usize> {
        let now = self.time.now_ns();
        let conn = &mut self.conns[conn];
        conn.partial.extend_from_slice(bytes);
        while let Ok(Some(scanned)) = conn.scanner.next(&conn.partial) {
            conn.partial.drain(..scanned.len);
            let last = conn.replies.back().map_or(0, |reply| reply.0);
            match (self.behave)(self.requests, now) {
                // A connection's replies come in order.
                Answer::At(time) => conn.replies.push_back((time.max(last), b"+OK\r\n")),
                Answer::Bytes(bytes) => conn.replies.push_back((now.max(last), bytes)),
                Answer::Never => {}
                Answer::Close => conn.closed = true,
            }
            self.requests += 1;
        }
        Ok(bytes.len())
    }

    fn receive(&mut self, conn: usize, into: &mut [u8]) -> io::Result<Received> {
        let now = self.time.now_ns();
        let conn = &mut self.conns[conn];
        let mut len = 0;
        while let Some((_, bytes)) = conn.replies.pop_front_if(|reply| reply.0 <= now) {
            into[len..len + bytes.len()].copy_from_slice(bytes);
            len += bytes.len();
        }
        Ok(match len {
            0 if conn.closed => Received::Eof,
            0 => Received::Nothing,
            len => Received::Bytes(len),
        })
    }

    fn poll(&mut self, ready: &mut Vec<usize>) {
        let now = self.time.now_ns() + self.step_ns;
        self.time.0.set(now);
        let due = |conn: &SimConn| conn.closed || conn.replies.front().is_some_and(|reply| reply.0 <= now);
        ready.extend((0..self.conns.len()).filter(|&conn| due(&self.conns[conn])));
    }

    fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) {
        let now = self.time.now_ns();
        let next = self.conns.iter().filter_map(|conn| conn.replies.front()).map(|reply| reply.0).min();
        let until = (now + timeout.as_nanos() as u64).min(next.unwrap_or(u64::MAX));
        self.time.0.set(until.saturating_sub(self.step_ns).max(now));
        self.poll(ready);
    }

    fn set_blocked(&mut self, _: usize, _: bool) {}

    fn close(&mut self, conn: usize) {
        self.conns[conn].closed = true;
    }

    fn raw_fd(&self, _: usize) -> Option<i32> {
        None
    }
}
