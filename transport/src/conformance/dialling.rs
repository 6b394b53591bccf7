//! What is particular to connections that the transport dials. Everything else is the same for both ends: the
//! whole suite runs for dialled connections too, with a rig whose clients listen.

use std::collections::{HashMap, HashSet};

use super::waiting::park_for;
use super::{Bench, Rig, pattern};
use crate::{Address, Close, ConnId, ConnectError, ConnectOptions, Event, Hangup, ListenerId, Transport};

/// Linux's number for a refused connection.
const ECONNREFUSED: i32 = 111;

/// A rig whose transport can reach itself: both ends of a connection are then its own.
pub trait Dialler: Rig {
    /// Two listeners of the transport, with the addresses it reaches them at. Called once.
    fn listeners(&mut self) -> [(Address, ListenerId); 2];

    /// An address of the same kind where a dial is refused.
    fn nobody(&mut self) -> Address;

    /// An address of a kind that the transport does not serve.
    fn foreign(&self) -> Address;
}

/// Begins to connect.
fn dial<R: Rig>(bench: &mut Bench<R>, to: &Address) -> ConnId {
    bench.transport().connect(to, &ConnectOptions::default()).unwrap()
}

/// Both ends of a connection: as dialled, as accepted.
fn pair<R: Rig>(bench: &mut Bench<R>, to: &Address) -> (ConnId, ConnId) {
    let dialled = dial(bench, to);
    (dialled, until_pair(bench, dialled))
}

/// Turns until a dial stands, and returns the other end of it. No other dial may be under way.
fn until_pair<R: Rig>(bench: &mut Bench<R>, dialled: ConnId) -> ConnId {
    let (mut stands, mut accepted) = (false, None);
    bench.until("both ends", |_, events| {
        for event in events {
            match event {
                Event::Connected(conn) => {
                    assert_eq!(*conn, dialled);
                    stands = true;
                }
                Event::Accepted(conn) => {
                    assert!(accepted.is_none(), "one dialled, two accepted");
                    accepted = Some(*conn);
                }
                Event::Hangup(conn, why) => assert_ne!(*conn, dialled, "{why:?}"),
                _ => {}
            }
        }
        stands && accepted.is_some()
    });
    accepted.unwrap()
}

/// Turns until `len` bytes in all were received, which are consumed as they come.
fn take<R: Rig>(bench: &mut Bench<R>, conn: ConnId, len: usize) -> Vec<u8> {
    let mut taken = Vec::new();
    bench.until("bytes", |bench, _| {
        let transport = bench.transport();
        taken.extend_from_slice(transport.received(conn));
        transport.consume(conn, usize::MAX);
        taken.len() >= len
    });
    taken
}

/// A dial stands, is told of once, names its peer, and carries bytes both ways.
pub fn dials_and_exchanges(mut rig: impl Dialler) {
    let [(to, _), _] = rig.listeners();
    let mut bench = Bench::new(rig);
    let (dialled, accepted) = pair(&mut bench, &to);
    assert_ne!(dialled, accepted);
    let transport = bench.transport();
    let is_local = transport.peer(dialled).map(crate::Peer::is_local);
    assert!(transport.received(dialled).is_empty());
    assert_eq!(transport.unsent(dialled), 0);
    assert!(transport.memory(dialled) > 0);
    assert_eq!(is_local, Some(bench.rig.is_local()));
    for len in [1, 7000, 1 << 20] {
        let sent = pattern(len, len);
        for (from, to) in [(dialled, accepted), (accepted, dialled)] {
            bench.send(from, &sent);
            assert!(take(&mut bench, to, len) == sent);
        }
    }
    let stats = bench.transport().stats();
    assert_eq!((stats.accepted, stats.connected), (1, 1));
    bench.send(dialled, b"the last word");
    bench.transport().close(dialled, Close::Drain);
    bench.until("the end", |bench, _| bench.log.contains(&Event::Hangup(accepted, Hangup::Eof)));
    assert_eq!(bench.transport().received(accepted), b"the last word");
}

/// Whoever is accepted has come by the listener that was dialled; whoever dialled has come by none.
pub fn names_the_listener(mut rig: impl Dialler) {
    let listeners = rig.listeners();
    let mut bench = Bench::new(rig);
    assert_ne!(listeners[0].1, listeners[1].1);
    for at in [0, 1, 1, 0, 0, 1] {
        let (to, listener) = &listeners[at];
        let (dialled, accepted) = pair(&mut bench, to);
        let transport = bench.transport();
        assert_eq!(transport.listener(accepted), Some(*listener));
        assert_eq!(transport.listener(dialled), None);
        transport.close(dialled, Close::Abort);
        assert_eq!(transport.listener(dialled), None);
        transport.close(accepted, Close::Abort);
        assert_eq!(transport.listener(accepted), None);
    }
}

/// What is sent while nobody has answered yet is counted and goes out when it stands, which `Drained` tells.
pub fn sends_what_was_queued_before_it_stood(mut rig: impl Dialler) {
    let [(to, _), _] = rig.listeners();
    let mut bench = Bench::new(rig);
    for len in [1, 5000, 2 << 20] {
        let dialled = dial(&mut bench, &to);
        let sent = pattern(len, len);
        let (first, rest) = sent.split_at(len / 3);
        bench.send(dialled, first);
        bench.send(dialled, rest);
        // Where the other side answers within the call, it may be on its way already.
        let transport = bench.transport();
        let unsent = transport.unsent(dialled);
        assert!(transport.unsent_memory(dialled) >= unsent && transport.memory(dialled) >= unsent);
        let accepted = until_pair(&mut bench, dialled);
        assert!(take(&mut bench, accepted, len) == sent);
        bench.until("nothing unsent", |bench, _| {
            bench.transport().unsent(dialled) == 0 && (unsent == 0 || bench.log.contains(&Event::Drained(dialled)))
        });
        bench.send(accepted, b"heard");
        assert_eq!(take(&mut bench, dialled, 5), b"heard");
    }
}

/// One that is drained before it stands still delivers, then ends in good order, and nobody hears of it.
pub fn drains_what_was_queued_before_it_stood(mut rig: impl Dialler) {
    let [(to, _), _] = rig.listeners();
    let mut bench = Bench::new(rig);
    for len in [1, 300_000] {
        let sent = pattern(len, len);
        let dialled = dial(&mut bench, &to);
        bench.send(dialled, &sent);
        bench.transport().close(dialled, Close::Drain);
        assert!(bench.transport().peer(dialled).is_none());
        let mut accepted = None;
        let mut taken = Vec::new();
        bench.until("the last bytes", |bench, events| {
            for event in events {
                if let Event::Accepted(conn) = event {
                    accepted = Some(*conn);
                }
                assert_ne!(event.conn(), Some(dialled));
            }
            let Some(conn) = accepted else { return false };
            let transport = bench.transport();
            taken.extend_from_slice(transport.received(conn));
            transport.consume(conn, usize::MAX);
            bench.log.contains(&Event::Hangup(conn, Hangup::Eof))
        });
        assert!(taken == sent, "{} of {len} bytes", taken.len());
        bench.transport().close(accepted.unwrap(), Close::Drain);
    }
}

/// A receive limit holds from the first byte on if it was set while nobody had answered yet.
pub fn holds_a_limit_set_before_it_stood(mut rig: impl Dialler) {
    const LIMIT: usize = 64 * 1024;
    const TOTAL: usize = 4 << 20;
    let [(to, _), _] = rig.listeners();
    let bound = LIMIT + rig.overshoot_bytes();
    let mut bench = Bench::new(rig);
    let dialled = dial(&mut bench, &to);
    bench.transport().set_receive_limit(dialled, LIMIT);
    let accepted = until_pair(&mut bench, dialled);
    let sent = pattern(0, TOTAL);
    bench.send(accepted, &sent);
    let (mut consumed, mut turns) = (0, 0usize);
    bench.until("everything", |bench, _| {
        turns += 1;
        let transport = bench.transport();
        let len = transport.received(dialled).len();
        assert!(len <= bound, "{len} bytes piled up, {bound} allowed");
        if turns.is_multiple_of(3) {
            assert!(transport.received(dialled) == &sent[consumed..consumed + len], "after {consumed} bytes");
            transport.consume(dialled, len);
            consumed += len;
        }
        consumed == TOTAL
    });
}

/// A dial that nobody answers to is reported once, as an error; what was sent is dropped, and its identity lives
/// until it is closed.
pub fn reports_a_refusal_once(mut rig: impl Dialler) {
    let nobody = rig.nobody();
    let mut bench = Bench::new(rig);
    let mut seen = HashSet::new();
    for round in 0..20 {
        let dialled = dial(&mut bench, &nobody);
        assert!(seen.insert(dialled), "{dialled:?} came twice");
        if round % 2 == 0 {
            bench.send(dialled, b"to nobody");
        }
        let mut why = None;
        bench.until("the refusal", |_, events| {
            for event in events {
                assert_eq!(event.conn(), Some(dialled), "{event:?}");
                let Event::Hangup(_, error) = event else { panic!("{event:?}") };
                why = Some(*error);
            }
            why.is_some()
        });
        assert_eq!(why, Some(Hangup::Error(ECONNREFUSED)));
        bench.send(dialled, b"too late");
        bench.idle(3);
        let transport = bench.transport();
        assert!(transport.peer(dialled).is_some());
        assert_eq!(transport.unsent(dialled), 0);
        assert!(transport.received(dialled).is_empty());
        transport.close(dialled, if round % 3 == 0 { Close::Drain } else { Close::Abort });
        assert!(transport.peer(dialled).is_none());
        bench.idle(2);
    }
    assert_eq!(bench.log.len(), 20, "{:?}", bench.log);
    assert_eq!(bench.transport().stats().connected, 0);
}

/// Closed at whatever moment, a dial is not heard of again, and the next one is as good as any.
pub fn ends_quietly_while_connecting(mut rig: impl Dialler) {
    let [(to, _), _] = rig.listeners();
    let nobody = rig.nobody();
    let mut bench = Bench::new(rig);
    let mut round = 0usize;
    for turns in 0..6 {
        for to in [&to, &nobody] {
            for how in [Close::Abort, Close::Drain] {
                round += 1;
                let dialled = dial(&mut bench, to);
                if round.is_multiple_of(3) {
                    bench.send(dialled, &pattern(round, 3000));
                }
                bench.idle(turns);
                bench.transport().close(dialled, how);
                assert!(bench.transport().peer(dialled).is_none());
                let heard = bench.log.len();
                // Some more under way beside it, in the slot it has left perhaps.
                let next = dial(&mut bench, to);
                bench.idle(6);
                bench.transport().close(next, Close::Abort);
                bench.idle(3);
                assert!(!bench.log[heard..].iter().any(|event| event.conn() == Some(dialled)), "{:?}", bench.log);
            }
        }
    }
    // Whoever came in by then leaves.
    let mut gone = HashSet::new();
    bench.until("everybody to leave", |bench, _| {
        let mut left = 0;
        for at in 0..bench.log.len() {
            let Event::Accepted(conn) = bench.log[at] else { continue };
            let hung = bench.log.iter().any(|event| matches!(event, Event::Hangup(other, _) if *other == conn));
            if hung && gone.insert(conn) {
                bench.transport().close(conn, Close::Abort);
            }
            left += usize::from(!hung);
        }
        left == 0
    });
    let (dialled, accepted) = pair(&mut bench, &to);
    bench.send(dialled, b"after all");
    assert_eq!(take(&mut bench, accepted, 9), b"after all");
}

/// A dial that stands, or fails, ends a park.
pub fn wakes_when_it_stands(mut rig: impl Dialler) {
    if !rig.dials_unattended() {
        return;
    }
    let [(to, _), _] = rig.listeners();
    let nobody = rig.nobody();
    let mut bench = Bench::new(rig);
    for round in 0..20 {
        bench.idle(round % 3);
        let dialled = dial(&mut bench, &to);
        park_for(&mut bench, |event| *event == Event::Connected(dialled));
        let failing = dial(&mut bench, &nobody);
        park_for(&mut bench, |event| *event == Event::Hangup(failing, Hangup::Error(ECONNREFUSED)));
        bench.transport().close(failing, Close::Abort);
        if round % 2 == 0 {
            bench.transport().close(dialled, Close::Abort);
        }
    }
}

/// Many at once, every third of them to nobody: each has its own fate and its own bytes, and no identity comes
/// twice.
pub fn dials_many_and_some_fail(mut rig: impl Dialler) {
    const MANY: usize = 45;
    let listeners = rig.listeners();
    let nobody = rig.nobody();
    let mut bench = Bench::new(rig);
    let mut seen = HashSet::new();
    for round in 0..3 {
        let mut dialled = HashMap::new();
        for at in 0..MANY {
            let to = if at % 3 == 2 { &nobody } else { &listeners[at % 2].0 };
            let conn = dial(&mut bench, to);
            assert!(seen.insert(conn), "{conn:?} came twice");
            bench.send(conn, &pattern(at, 40));
            dialled.insert(conn, at);
            if at % 7 == 0 {
                bench.turn();
            }
        }
        let (mut stand, mut failed) = (HashSet::new(), HashSet::new());
        let mut accepted = Vec::new();
        let mut heard = HashMap::new();
        bench.until("everyone's fate", |bench, _| {
            stand.clear();
            failed.clear();
            accepted.clear();
            for event in &bench.log {
                match event {
                    Event::Connected(conn) if dialled.contains_key(conn) => assert!(stand.insert(*conn)),
                    Event::Hangup(conn, why) if dialled.contains_key(conn) => {
                        assert_eq!(*why, Hangup::Error(ECONNREFUSED));
                        assert!(failed.insert(*conn));
                    }
                    Event::Accepted(conn) => accepted.push(*conn),
                    _ => {}
                }
            }
            for &conn in &accepted {
                let transport = bench.rig.transport();
                if transport.received(conn).len() == 40 {
                    let at = (0..MANY).find(|at| transport.received(conn) == pattern(*at, 40));
                    let listener = transport.listener(conn);
                    heard.insert(at.expect("bytes nobody sent"), (conn, listener));
                }
            }
            stand.len() + failed.len() == MANY && heard.len() == stand.len()
        });
        for (conn, at) in &dialled {
            assert_eq!(failed.contains(conn), at % 3 == 2);
            if let Some((_, listener)) = heard.get(at) {
                assert_eq!(*listener, Some(listeners[at % 2].1));
            }
        }
        for (at, (conn, _)) in &heard {
            bench.send(*conn, &pattern(*at + 1000 + round, 30));
        }
        for (conn, at) in &dialled {
            if at % 3 != 2 {
                bench.until_received(*conn, &pattern(at + 1000 + round, 30));
            }
            bench.transport().close(*conn, if at % 2 == 0 { Close::Abort } else { Close::Drain });
        }
        for (conn, _) in heard.values() {
            bench.transport().close(*conn, Close::Drain);
            assert!(seen.insert(*conn), "{conn:?} came twice");
        }
        bench.log.clear();
    }
}

/// An address of a kind it does not serve is an error at once.
pub fn refuses_a_foreign_address(rig: impl Dialler) {
    let foreign = rig.foreign();
    let mut bench = Bench::new(rig);
    let refused = bench.transport().connect(&foreign, &ConnectOptions::default());
    assert_eq!(refused, Err(ConnectError::Unsupported));
    bench.idle(3);
    assert_eq!(bench.log, []);
}
