//! The seam between a load generator and a network: the client side.
//!
//! A [`Client`] owns a set of connections to one server and moves bytes for all of them, because a
//! fabric has one completion queue and one doorbell for many connections. It knows no RESP.

use std::io;
use std::time::Duration;

/// What a receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing is there yet.
    Nothing,
    /// That many bytes were written to the start of the buffer; at least one.
    Bytes(usize),
    /// The server closed its side in good order.
    Eof,
}

/// Connections of one thread to one server.
///
/// A connection is named by the index [`Client::connect`] returned; indices count up from 0 and are
/// not used again. No call waits except `connect` and [`Client::wait`].
pub trait Client {
    /// Short name for reports: `tcp`, `unix`, `rdma`.
    fn name(&self) -> &'static str;

    /// Opens a connection, waiting for it at most `timeout`.
    ///
    /// # Errors
    /// The operating system's reason.
    fn connect(&mut self, timeout: Duration) -> io::Result<usize>;

    /// Takes as much of `bytes` as fits now and returns how much, 0 if nothing does. What was taken
    /// may stay back until [`Client::flush`].
    ///
    /// # Errors
    /// The connection is broken.
    fn send(&mut self, conn: usize, bytes: &[u8]) -> io::Result<usize>;

    /// Rings the doorbell for everything sent since the last flush.
    fn flush(&mut self) {}

    /// Receives what is there into `into`, which must not be empty.
    ///
    /// # Errors
    /// The connection is broken.
    fn receive(&mut self, conn: usize, into: &mut [u8]) -> io::Result<Received>;

    /// Appends the connections that may have something to receive, without waiting. May name one
    /// for no reason; never leaves one out for ever.
    fn poll(&mut self, ready: &mut Vec<usize>);

    /// As [`Client::poll`], but sleeps up to `timeout` until there is one, or until a connection
    /// marked by [`Client::set_blocked`] takes bytes again.
    fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>);

    /// Tells that a send fell short and [`Client::wait`] should also end when there is room again.
    fn set_blocked(&mut self, conn: usize, blocked: bool);

    /// Closes a connection at once. Calls that name it afterwards fail with `NotConnected`.
    fn close(&mut self, conn: usize);

    /// A connection's descriptor where it has one, for options and display.
    fn raw_fd(&self, conn: usize) -> Option<i32>;
}

impl<C: Client + ?Sized> Client for Box<C> {
    fn name(&self) -> &'static str {
        (**self).name()
    }
    fn connect(&mut self, timeout: Duration) -> io::Result<usize> {
        (**self).connect(timeout)
    }
    fn send(&mut self, conn: usize, bytes: &[u8]) -> io::Result<usize> {
        (**self).send(conn, bytes)
    }
    fn flush(&mut self) {
        (**self).flush();
    }
    fn receive(&mut self, conn: usize, into: &mut [u8]) -> io::Result<Received> {
        (**self).receive(conn, into)
    }
    fn poll(&mut self, ready: &mut Vec<usize>) {
        (**self).poll(ready);
    }
    fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) {
        (**self).wait(timeout, ready);
    }
    fn set_blocked(&mut self, conn: usize, blocked: bool) {
        (**self).set_blocked(conn, blocked);
    }
    fn close(&mut self, conn: usize) {
        (**self).close(conn);
    }
    fn raw_fd(&self, conn: usize) -> Option<i32> {
        (**self).raw_fd(conn)
    }
}
