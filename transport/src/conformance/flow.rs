//! Back-pressure in both directions, fairness, and memory.

use super::{Bench, Dial, Rig, pattern};
use crate::{Event, Transport};

/// However much a peer sends, no more than the limit (and one receive) piles up, and nothing is
/// lost over it.
pub fn holds_the_receive_limit(rig: impl Rig) {
    const LIMIT: usize = 64 * 1024;
    const TOTAL: usize = 6 << 20;
    let bound = LIMIT + rig.overshoot_bytes();
    let mut bench = Bench::new(rig);
    let (mut client, conn) = bench.connect();
    bench.transport().set_receive_limit(conn, LIMIT);
    let sent = pattern(0, TOTAL);
    let (mut written, mut consumed) = (0, 0);
    let mut turns = 0usize;
    bench.until("everything", |bench, _| {
        for _ in 0..8 {
            if written < TOTAL {
                written += client.write(&sent[written..(written + 65_536).min(TOTAL)]);
            }
        }
        turns += 1;
        let transport = bench.transport();
        let len = transport.received(conn).len();
        assert!(len <= bound, "{len} bytes piled up, {bound} allowed");
        if turns.is_multiple_of(20) || (written == TOTAL && turns.is_multiple_of(2)) {
            assert!(transport.received(conn) == &sent[consumed..consumed + len], "after {consumed} bytes");
            transport.consume(conn, len);
            consumed += len;
        }
        consumed == TOTAL
    });
}

/// A connection that stands still at its limit goes on when the limit rises.
pub fn resumes_when_the_limit_rises(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let (mut client, conn) = bench.connect();
    bench.transport().set_receive_limit(conn, 1);
    let message = pattern(0, 150_000);
    let mut written = 0;
    for _ in 0..20 {
        written += client.write(&message[written..]);
        bench.turn();
    }
    bench.transport().set_receive_limit(conn, 1 << 20);
    bench.until("the rest", |bench, _| {
        written += client.write(&message[written..]);
        bench.transport().received(conn).len() == message.len()
    });
    assert!(bench.transport().received(conn) == message);
}

/// A peer that floods does not keep another waiting.
pub fn is_fair_under_a_flood(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let (mut flood, flooding) = bench.connect();
    let (mut client, conn) = bench.connect();
    let block = pattern(0, 256 * 1024);
    for round in 0..50usize {
        let ping = pattern(round, 32);
        assert_eq!(client.write(&ping), 32);
        let mut turns = 0;
        bench.until("the ping", |bench, _| {
            flood.write(&block);
            let transport = bench.transport();
            let flooded = transport.received(flooding).len();
            transport.consume(flooding, flooded);
            turns += 1;
            assert!(turns < 200, "starved by a flood");
            transport.received(conn).len() == 32
        });
        bench.transport().consume(conn, 32);
    }
}

/// `unsent` counts what the peer does not take, and `Drained` comes when it has taken it.
pub fn tells_unsent_and_drained(rig: impl Rig) {
    const TOTAL: usize = 16 << 20;
    let mut bench = Bench::new(rig);
    let (mut client, conn) = bench.connect();
    let sent = pattern(0, TOTAL);
    for chunk in sent.chunks(300_000) {
        bench.send(conn, chunk);
    }
    bench.idle(3);
    let unsent = bench.transport().unsent(conn);
    assert!(unsent > 0 && unsent < TOTAL, "{unsent} of {TOTAL} unsent");
    assert!(bench.transport().memory(conn) >= unsent);
    assert!(!bench.log.contains(&Event::Drained(conn)));
    let mut back = Vec::new();
    bench.until_read(&mut client, &mut back, TOTAL);
    assert!(back == sent);
    bench.until("Drained", |bench, _| bench.log.contains(&Event::Drained(conn)));
    assert_eq!(bench.transport().unsent(conn), 0);
}

/// What a peer does not take holds its own size and little more, however small the pieces, and all of it
/// is counted.
pub fn holds_little_more_than_is_unsent(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let (mut client, conn) = bench.connect();
    assert_eq!(bench.transport().unsent_memory(conn), 0);
    // Fills what lies between, so that nothing of what follows leaves.
    let mut sent = pattern(0, 8 << 20);
    bench.send(conn, &sent);
    bench.idle(3);
    let (unsent, held) = (bench.transport().unsent(conn), bench.transport().unsent_memory(conn));
    assert!(unsent > 0 && held >= unsent, "{held} bytes held for {unsent}");
    // Each in a buffer of its own, as a turn leaves them; lengths around the sizes of buffers, too.
    for round in 0..40_000usize {
        let piece = pattern(round, if round.is_multiple_of(97) { 300 + round % 17_000 } else { 20 + round % 40 });
        bench.send(conn, &piece);
        sent.extend_from_slice(&piece);
    }
    let transport = bench.transport();
    let (more, more_held) = (transport.unsent(conn) - unsent, transport.unsent_memory(conn) - held);
    assert!(more_held >= more && more_held < 2 * more + 300_000, "{more_held} bytes held for {more}");
    assert!(transport.memory(conn) >= held + more_held);
    let mut back = Vec::new();
    bench.until_read(&mut client, &mut back, sent.len());
    assert!(back == sent);
    bench.until("the send to end", |bench, _| bench.transport().unsent(conn) == 0);
    assert_eq!(bench.transport().unsent_memory(conn), 0);
}

/// A connection that is idle again holds no more than a fresh one.
pub fn returns_memory(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let (mut client, conn) = bench.connect();
    let fresh = bench.transport().memory(conn);
    assert!(fresh > 0 && fresh <= bench.rig.idle_bytes_max(), "{fresh} bytes for an idle connection");
    let message = pattern(0, 1 << 20);
    let (mut written, mut back) = (0, Vec::new());
    bench.transport().set_receive_limit(conn, 4 << 20);
    bench.until("the message", |bench, _| {
        written += client.write(&message[written..]);
        bench.transport().received(conn).len() == message.len()
    });
    assert!(bench.transport().memory(conn) >= message.len());
    let reply = bench.transport().received(conn).to_vec();
    bench.transport().consume(conn, reply.len());
    bench.send(conn, &reply);
    bench.until_read(&mut client, &mut back, reply.len());
    bench.until("the send to end", |bench, _| bench.transport().unsent(conn) == 0);
    let after = bench.transport().memory(conn);
    assert!(after <= fresh + 512, "{after} bytes held, {fresh} at first");
}

/// The counters count.
pub fn counts(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let (mut client, conn) = bench.connect();
    let before = bench.transport().stats();
    assert_eq!(before.accepted + before.connected, 1);
    assert_eq!(client.write(b"12345"), 5);
    bench.until_received(conn, b"12345");
    bench.send(conn, b"1234567");
    let mut back = Vec::new();
    bench.until_read(&mut client, &mut back, 7);
    bench.until("the send to end", |bench, _| bench.transport().unsent(conn) == 0);
    let after = bench.transport().stats();
    assert_eq!(after.received_bytes - before.received_bytes, 5);
    assert_eq!(after.sent_bytes - before.sent_bytes, 7);
    assert!(after.receives > before.receives && after.sends > before.sends);
}
