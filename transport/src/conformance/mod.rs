//! The suite every transport passes. A transport brings a [`Rig`], which makes one and dials it
//! with raw clients; [`conformance_suite!`](crate::conformance_suite) turns that into tests. All
//! runs in one thread and every wait is bounded, so a transport that loses an event fails instead
//! of hanging. Test code: it panics on what it does not expect.

#![allow(clippy::missing_panics_doc, clippy::unwrap_used, clippy::disallowed_methods)]

mod dialling;
mod endings;
mod flow;
mod host;
mod streams;
mod waiting;

pub use dialling::*;
pub use endings::*;
pub use flow::*;
pub use host::*;
pub use streams::*;
pub use waiting::*;

use std::time::{Duration, Instant};

use crate::{ConnId, Event, Transport};

/// Makes a transport and connects to it.
pub trait Rig {
    /// The transport under test.
    type Transport: Transport;
    /// A raw client of it.
    type Client: Dial;

    /// The transport, listening.
    fn transport(&mut self) -> &mut Self::Transport;

    /// Connects a client; the transport may need polls to notice. A rig of a transport that dials has it connect
    /// to the client instead: every property of a connection holds for both ends.
    fn dial(&mut self) -> Self::Client;

    /// Bytes by which a receive limit may be overshot.
    fn overshoot_bytes(&self) -> usize;

    /// Bytes an idle connection may hold. A transport that pins a receive window for each says so here.
    fn idle_bytes_max(&self) -> usize {
        1024
    }

    /// Whether a client can end its half and still read; where the wire has no such thing,
    /// [`Dial::end_writing`] does nothing.
    fn half_closes(&self) -> bool {
        true
    }

    /// Whether the peers are on this host, as [`crate::Peer::is_local`] sees it.
    fn is_local(&self) -> bool {
        true
    }

    /// Whether a dial gets through while the client is not asked for anything.
    fn dials_unattended(&self) -> bool {
        true
    }

    /// Connections for the test that wants many.
    fn many(&self) -> usize {
        500
    }
}

/// What a client's read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The connection is open.
    Open,
    /// The server ended it in good order.
    End,
    /// It broke.
    Broken,
}

/// A raw client. No call waits.
pub trait Dial {
    /// Whether it knows, too, that it is connected. Asked until it does, before anything else.
    fn is_connected(&mut self) -> bool {
        true
    }
    /// Sends what is taken at once; returns how much that was (0 if nothing, or if broken).
    fn write(&mut self, bytes: &[u8]) -> usize;
    /// Appends what has arrived.
    fn read(&mut self, into: &mut Vec<u8>) -> Seen;
    /// Ends this side's half.
    fn end_writing(&mut self);
    /// Breaks the connection; false if this kind of connection cannot be broken.
    fn reset(self) -> bool;
    /// Ends the connection in good order.
    fn hang_up(self);
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Drives a transport and keeps what it reported.
pub(crate) struct Bench<R: Rig> {
    pub(crate) rig: R,
    /// Everything reported since the start.
    pub(crate) log: Vec<Event>,
}

impl<R: Rig> Bench<R> {
    pub(crate) fn new(rig: R) -> Self {
        Bench { rig, log: Vec::new() }
    }

    pub(crate) fn transport(&mut self) -> &mut R::Transport {
        self.rig.transport()
    }

    /// One turn: collects, and sleeps a moment if there was nothing.
    pub(crate) fn turn(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let transport = self.rig.transport();
        transport.poll(&mut events);
        if events.is_empty() {
            transport.park(Some(Duration::from_millis(1)));
            transport.poll(&mut events);
        }
        self.check(&events);
        self.log.extend(events.iter().cloned());
        events
    }

    /// What holds for the events of every poll.
    fn check(&mut self, events: &[Event]) {
        for (at, event) in events.iter().enumerate() {
            match event {
                Event::Readable(conn) => {
                    let again = events.iter().filter(|other| *other == event).count();
                    assert_eq!(again, 1, "Readable twice in one poll: {events:?}");
                    let hung = |event: &&Event| matches!(event, Event::Hangup(other, _) if other == conn);
                    assert!(!events[..at].iter().any(|event| hung(&event)), "Readable after Hangup: {events:?}");
                    assert!(self.log.iter().rfind(hung).is_none(), "Readable after Hangup");
                }
                Event::Hangup(conn, _) => {
                    let hung = |event: &&Event| matches!(event, Event::Hangup(other, _) if other == conn);
                    assert_eq!(events.iter().filter(hung).count(), 1, "two Hangups: {events:?}");
                    assert!(self.log.iter().rfind(hung).is_none(), "two Hangups");
                }
                Event::Connected(conn) => {
                    let again = events.iter().chain(&self.log).filter(|other| *other == event).count();
                    assert_eq!(again, 1, "Connected twice: {events:?}");
                    let early = events[..at].iter().chain(&self.log).any(|event| event.conn() == Some(*conn));
                    assert!(!early, "something before Connected: {events:?}");
                }
                Event::Wake => {
                    let wakes = events.iter().filter(|other| **other == Event::Wake).count();
                    assert_eq!(wakes, 1, "Wake twice in one poll");
                }
                _ => {}
            }
        }
    }

    /// Turns until `done` says so; fails when that takes too long.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self, &[Event]) -> bool) {
        let start = Instant::now();
        loop {
            let events = self.turn();
            if done(self, &events) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        }
    }

    /// Dials, and turns until the connection is there.
    pub(crate) fn connect(&mut self) -> (R::Client, ConnId) {
        let mut client = self.rig.dial();
        let mut accepted = None;
        self.until("a connection", |_, events| {
            for event in events {
                if let Event::Accepted(conn) | Event::Connected(conn) = event {
                    assert!(accepted.is_none(), "one dialled, two connected");
                    accepted = Some(*conn);
                }
            }
            accepted.is_some() && client.is_connected()
        });
        (client, accepted.unwrap())
    }

    /// Turns until exactly these bytes lie unconsumed.
    pub(crate) fn until_received(&mut self, conn: ConnId, want: &[u8]) {
        self.until("bytes", |bench, _| bench.transport().received(conn).len() >= want.len());
        assert!(self.transport().received(conn) == want, "received other bytes than were written");
    }

    /// Turns for a while without expecting anything.
    pub(crate) fn idle(&mut self, turns: usize) {
        for _ in 0..turns {
            self.turn();
        }
    }

    /// Sends bytes and rings the doorbell.
    pub(crate) fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let transport = self.transport();
        let mut buf = transport.lease();
        buf.extend_from_slice(bytes);
        transport.send(conn, buf);
        transport.flush();
    }

    /// Turns until the client has read `len` bytes in all.
    pub(crate) fn until_read(&mut self, client: &mut R::Client, into: &mut Vec<u8>, len: usize) {
        self.until("the client to read", |_, _| {
            let seen = client.read(into);
            assert!(seen != Seen::Broken || into.len() >= len, "broke after {} of {len} bytes", into.len());
            into.len() >= len
        });
    }
}

/// Bytes that tell their place: any loss, doubling or reordering shows.
pub(crate) fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| ((at.wrapping_mul(0x9E37_79B1)) >> 13) as u8).collect()
}

/// A small seeded generator (xorshift): runs must be the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound.max(1)
    }
}

/// Turns a rig into one `#[test]` per property: `conformance_suite!(module, expression making a
/// rig)`.
#[macro_export]
macro_rules! conformance_suite {
    ($module:ident, $rig:expr) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;
            $crate::conformance_suite!(@each $rig;
                connects_and_names_the_peer
                reads_across_every_boundary
                echoes_much_with_back_pressure_both_ways
                holds_the_receive_limit
                resumes_when_the_limit_rises
                drains_on_close
                drains_with_unread_input
                aborts_on_close
                aborts_with_sends_under_way
                ends_after_the_last_bytes
                answers_a_half_closed_peer
                reports_a_reset
                never_reuses_an_identity
                ignores_late_calls
                serves_many_connections
                is_fair_under_a_flood
                sends_shared_pieces_in_order
                releases_shared_pieces
                takes_empty_sends
                tells_unsent_and_drained
                holds_little_more_than_is_unsent
                wakes_for_data
                wakes_for_a_connection
                wakes_for_the_waker
                wakes_for_the_time
                keeps_several_unread
                consumes_in_part
                returns_memory
                counts
                keeps_streams_whole_at_random
            );
        }
    };
    (@each $rig:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $crate::conformance::$name($rig);
            }
        )*
    };
}

/// As [`conformance_suite!`](crate::conformance_suite), for what is particular to a transport's dials: the rig is a
/// [`Dialler`].
#[macro_export]
macro_rules! conformance_dials {
    ($module:ident, $rig:expr) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;
            $crate::conformance_suite!(@each $rig;
                dials_and_exchanges
                names_the_listener
                sends_what_was_queued_before_it_stood
                drains_what_was_queued_before_it_stood
                holds_a_limit_set_before_it_stood
                reports_a_refusal_once
                ends_quietly_while_connecting
                wakes_when_it_stands
                dials_many_and_some_fail
                refuses_a_foreign_address
            );
        }
    };
}
