//! How connections end, from either side, and what is left of their identity.

use std::collections::HashSet;

use super::{Bench, Dial, Rig, Seen, pattern};
use crate::{Close, Event, Hangup, Transport};

/// Turns until the client sees the end; returns what it saw.
fn until_over<R: Rig>(bench: &mut Bench<R>, client: &mut R::Client, into: &mut Vec<u8>) -> Seen {
    let mut seen = Seen::Open;
    bench.until("the end", |_, _| {
        seen = client.read(into);
        seen != Seen::Open
    });
    seen
}

/// Draining delivers everything that was handed over, then ends in good order.
pub fn drains_on_close(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    for len in [0, 1, 5000, 4 << 20] {
        let (mut client, conn) = bench.connect();
        let sent = pattern(len, len);
        let transport = bench.transport();
        let mut buf = transport.lease();
        buf.extend_from_slice(&sent);
        transport.send(conn, buf);
        transport.close(conn, Close::Drain);
        assert!(transport.peer(conn).is_none());
        transport.flush();
        let mut back = Vec::new();
        assert_eq!(until_over(&mut bench, &mut client, &mut back), Seen::End);
        assert!(back == sent, "{} of {len} bytes", back.len());
        client.hang_up();
        bench.idle(3);
        assert!(!bench.log.iter().any(|event| matches!(event, Event::Hangup(other, _) if *other == conn)));
    }
}

/// Input nobody will read does not cost the peer the last reply.
pub fn drains_with_unread_input(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let (mut client, conn) = bench.connect();
    assert!(client.write(&pattern(0, 60_000)) > 0);
    bench.until("some input", |bench, _| !bench.transport().received(conn).is_empty());
    let transport = bench.transport();
    let mut buf = transport.lease();
    buf.extend_from_slice(b"-ERR enough\r\n");
    transport.send(conn, buf);
    transport.flush();
    transport.close(conn, Close::Drain);
    client.write(&pattern(0, 1000));
    let mut back = Vec::new();
    assert_eq!(until_over(&mut bench, &mut client, &mut back), Seen::End);
    assert_eq!(back, b"-ERR enough\r\n");
}

/// Aborting ends at once.
pub fn aborts_on_close(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let (mut client, conn) = bench.connect();
    bench.transport().close(conn, Close::Abort);
    assert!(bench.transport().peer(conn).is_none());
    assert_ne!(until_over(&mut bench, &mut client, &mut Vec::new()), Seen::Open);
}

/// Aborting with much under way in both directions harms nobody else.
pub fn aborts_with_sends_under_way(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let (mut other, theirs) = bench.connect();
    for round in 0..20usize {
        let (mut client, conn) = bench.connect();
        client.write(&pattern(round, 100_000));
        bench.send(conn, &pattern(round, 8 << 20));
        bench.idle(round % 3);
        bench.transport().close(conn, Close::Abort);
        if round % 2 == 0 {
            // Its buffers are handed out again at once.
            bench.send(theirs, &pattern(round, 1000));
            let mut back = Vec::new();
            bench.until_read(&mut other, &mut back, 1000);
            assert!(back == pattern(round, 1000));
        }
        assert_ne!(until_over(&mut bench, &mut client, &mut Vec::new()), Seen::Open);
    }
}

/// The end of the stream is reported once, after the last bytes, which stay readable.
pub fn ends_after_the_last_bytes(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    for len in [0usize, 1, 3000, 100_000] {
        let (mut client, conn) = bench.connect();
        let sent = pattern(len, len);
        let mut written = 0;
        bench.until("the client to write", |_, _| {
            written += client.write(&sent[written..]);
            written == len
        });
        client.hang_up();
        bench.until("the end", |bench, _| bench.log.contains(&Event::Hangup(conn, Hangup::Eof)));
        assert!(bench.transport().received(conn) == sent, "bytes lost before the end of stream");
        bench.idle(3);
        assert!(bench.transport().received(conn) == sent);
        bench.transport().close(conn, Close::Drain);
    }
}

/// A peer that has ended its half still gets its answer.
pub fn answers_a_half_closed_peer(rig: impl Rig) {
    if !rig.half_closes() {
        return;
    }
    let mut bench = Bench::new(rig);
    let (mut client, conn) = bench.connect();
    assert_eq!(client.write(b"question"), 8);
    client.end_writing();
    bench.until("the end", |bench, _| bench.log.contains(&Event::Hangup(conn, Hangup::Eof)));
    assert_eq!(bench.transport().received(conn), b"question");
    let reply = pattern(0, 2 << 20);
    let transport = bench.transport();
    let mut buf = transport.lease();
    buf.extend_from_slice(&reply);
    transport.send(conn, buf);
    transport.close(conn, Close::Drain);
    transport.flush();
    let mut back = Vec::new();
    until_over(&mut bench, &mut client, &mut back);
    assert!(back == reply, "{} of {} bytes", back.len(), reply.len());
}

/// A broken connection is reported once, whichever direction notices it.
pub fn reports_a_reset(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    for sending in [false, true] {
        let (client, conn) = bench.connect();
        if sending {
            bench.send(conn, &pattern(0, 8 << 20));
            bench.idle(2);
        }
        if !client.reset() {
            return;
        }
        bench.until("the hangup", |bench, _| {
            bench.log.iter().any(|event| matches!(event, Event::Hangup(other, _) if *other == conn))
        });
        // Whoever has not noticed yet goes on sending.
        bench.send(conn, b"too late");
        bench.idle(3);
        bench.transport().close(conn, Close::Drain);
        bench.idle(3);
    }
}

/// No two connections ever have the same identity.
pub fn never_reuses_an_identity(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let mut seen = HashSet::new();
    for round in 0..60 {
        let (client, conn) = bench.connect();
        assert!(seen.insert(conn), "{conn:?} came twice");
        if round % 3 == 0 {
            client.hang_up();
            bench.until("the end", |bench, _| bench.log.contains(&Event::Hangup(conn, Hangup::Eof)));
        }
        let how = if round % 2 == 0 { Close::Abort } else { Close::Drain };
        bench.transport().close(conn, how);
    }
}

/// Every call on a dead identity does nothing, also when its slot has a new tenant.
pub fn ignores_late_calls(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let (client, dead) = bench.connect();
    bench.transport().close(dead, Close::Abort);
    client.hang_up();
    bench.idle(5);
    let (mut client, conn) = bench.connect();
    assert_eq!(client.write(b"mine"), 4);
    bench.until_received(conn, b"mine");
    bench.send(dead, b"not yours");
    let transport = bench.transport();
    transport.consume(dead, 100);
    transport.set_receive_limit(dead, 1);
    transport.close(dead, Close::Abort);
    transport.close(dead, Close::Drain);
    assert!(transport.received(dead).is_empty());
    assert!(transport.peer(dead).is_none());
    assert_eq!((transport.unsent(dead), transport.memory(dead)), (0, 0));
    let never = crate::ConnId { index: 1 << 30, generation: 0 };
    assert!(transport.received(never).is_empty());
    transport.close(never, Close::Drain);
    assert_eq!(transport.received(conn), b"mine");
    bench.send(conn, b"yours");
    let mut back = Vec::new();
    bench.until_read(&mut client, &mut back, 5);
    assert_eq!(back, b"yours");
}
