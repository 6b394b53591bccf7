//! Bytes arrive whole and in order, in both directions, however they are cut and mixed.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Bench, Dial, Random, Rig, Seen, pattern};
use crate::{Close, ConnId, Event, Hangup, Transport};

/// A connection is reported, names its peer and starts out empty.
pub fn connects_and_names_the_peer(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let (_client, conn) = bench.connect();
    let transport = bench.transport();
    let is_local = transport.peer(conn).map(crate::Peer::is_local);
    assert!(transport.received(conn).is_empty());
    assert_eq!(transport.unsent(conn), 0);
    assert!(!transport.name().is_empty());
    assert_eq!(is_local, Some(bench.rig.is_local()));
}

/// A message cut anywhere is the same message.
pub fn reads_across_every_boundary(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let (mut client, conn) = bench.connect();
    let message = pattern(0, 40);
    for cut in 0..=message.len() {
        assert_eq!(client.write(&message[..cut]), cut);
        bench.until_received(conn, &message[..cut]);
        bench.idle(1);
        assert_eq!(client.write(&message[cut..]), message.len() - cut);
        bench.until_received(conn, &message);
        let transport = bench.transport();
        transport.consume(conn, cut);
        assert!(transport.received(conn) == &message[cut..]);
        transport.consume(conn, message.len() - cut);
        assert!(transport.received(conn).is_empty());
    }
}

/// Eight mebibytes there and back, with a client that reads slowly and a server that stops reading
/// while its replies pile up.
pub fn echoes_much_with_back_pressure_both_ways(rig: impl Rig) {
    const TOTAL: usize = 8 << 20;
    let mut bench = Bench::new(rig);
    let (mut client, conn) = bench.connect();
    let sent = pattern(0, TOTAL);
    let mut written = 0;
    let mut back = Vec::new();
    let mut turns = 0u32;
    bench.until("the echo", |bench, _| {
        if written < TOTAL {
            written += client.write(&sent[written..(written + 100_000).min(TOTAL)]);
        }
        let transport = bench.transport();
        if transport.unsent(conn) < 256 * 1024 {
            let mut buf = transport.lease();
            buf.extend_from_slice(transport.received(conn));
            transport.consume(conn, buf.len());
            transport.send(conn, buf);
            transport.flush();
        }
        turns += 1;
        if turns.is_multiple_of(3) || written == TOTAL {
            assert_eq!(client.read(&mut back), Seen::Open);
        }
        back.len() >= TOTAL
    });
    assert!(back == sent, "the echo differs");
}

/// Five hundred connections, each with its own bytes.
pub fn serves_many_connections(rig: impl Rig) {
    let many = rig.many();
    let mut bench = Bench::new(rig);
    let mut clients = Vec::new();
    for _ in 0..many {
        clients.push(bench.connect());
    }
    for round in 0..3usize {
        for (at, (client, _)) in clients.iter_mut().enumerate() {
            let message = pattern(at * 1000 + round, 64);
            assert_eq!(client.write(&message), 64);
        }
        let mut answered = 0;
        bench.until("everybody's request", |bench, events| {
            for event in events {
                if let Event::Readable(conn) = event {
                    let transport = bench.transport();
                    if transport.received(*conn).len() == 64 {
                        let mut buf = transport.lease();
                        buf.extend_from_slice(transport.received(*conn));
                        transport.consume(*conn, 64);
                        transport.send(*conn, buf);
                        answered += 1;
                    }
                }
            }
            bench.transport().flush();
            answered == many
        });
        for (at, (client, _)) in clients.iter_mut().enumerate() {
            let mut back = Vec::new();
            bench.until_read(client, &mut back, 64);
            assert!(back == pattern(at * 1000 + round, 64), "connection {at} got another's bytes");
        }
    }
    let expected = clients.len();
    for (client, _) in clients {
        client.hang_up();
    }
    let mut gone = 0;
    bench.until("everybody to leave", |_, events| {
        gone += events.iter().filter(|event| matches!(event, Event::Hangup(_, Hangup::Eof))).count();
        gone == expected
    });
}

/// Plain and shared pieces of all sizes arrive in the order they were written.
pub fn sends_shared_pieces_in_order(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let (mut client, conn) = bench.connect();
    let mut expected = Vec::new();
    let mut random = Random::new(7);
    for round in 0..6 {
        let transport = bench.transport();
        let mut buf = transport.lease();
        for piece in 0..40 {
            let len = match random.below(4) {
                0 => random.below(300_000),
                1 => 0,
                _ => random.below(2000),
            };
            let bytes = pattern(round * 1_000_000 + piece, len);
            expected.extend_from_slice(&bytes);
            if random.below(2) == 0 {
                buf.push_shared(Arc::new(bytes));
            } else {
                buf.extend_from_slice(&bytes);
            }
        }
        transport.send(conn, buf);
        if round % 2 == 1 {
            transport.flush();
        }
    }
    let mut back = Vec::new();
    bench.until_read(&mut client, &mut back, expected.len());
    assert!(back == expected, "shared pieces out of place");
}

/// A shared piece is let go of once it has left, and when its connection is aborted.
pub fn releases_shared_pieces(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let piece: Arc<Vec<u8>> = Arc::new(pattern(0, 3 << 20));
    let (mut client, conn) = bench.connect();
    let transport = bench.transport();
    let mut buf = transport.lease();
    buf.push_shared(piece.clone());
    transport.send(conn, buf);
    transport.flush();
    let mut back = Vec::new();
    bench.until_read(&mut client, &mut back, piece.len());
    assert!(back == *piece);
    bench.until("the piece to be let go of", |_, _| Arc::strong_count(&piece) == 1);

    // Nobody reads this one.
    let transport = bench.transport();
    for _ in 0..4 {
        let mut buf = transport.lease();
        buf.push_shared(piece.clone());
        transport.send(conn, buf);
    }
    transport.flush();
    bench.idle(3);
    bench.transport().close(conn, Close::Abort);
    client.hang_up();
    bench.until("the pieces to be let go of", |_, _| Arc::strong_count(&piece) == 1);
}

/// An empty buffer is nothing to send.
pub fn takes_empty_sends(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let (mut client, conn) = bench.connect();
    for _ in 0..3 {
        let transport = bench.transport();
        let buf = transport.lease();
        transport.send(conn, buf);
        let mut buf = transport.lease();
        buf.push_shared(Arc::new(Vec::new()));
        transport.send(conn, buf);
        transport.flush();
        assert_eq!(transport.unsent(conn), 0);
        bench.send(conn, b"x");
    }
    let mut back = Vec::new();
    bench.until_read(&mut client, &mut back, 3);
    assert_eq!(back, b"xxx");
}

/// Bytes of several connections stay readable side by side over several polls.
pub fn keeps_several_unread(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let mut clients: Vec<_> = (0..20).map(|_| bench.connect()).collect();
    for step in 0..5usize {
        for (at, (client, _)) in clients.iter_mut().enumerate() {
            assert_eq!(client.write(&pattern(at * 100 + step * 10, 10)), 10);
        }
        for (at, (_, conn)) in clients.iter().enumerate() {
            let want: Vec<u8> = pattern(at * 100, (step + 1) * 10);
            bench.until_received(*conn, &want);
        }
        bench.idle(2);
    }
}

/// What is consumed in part keeps the rest, and goes on growing behind it.
pub fn consumes_in_part(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let (mut client, conn) = bench.connect();
    let total = pattern(0, 200_000);
    let (mut written, mut consumed) = (0, 0);
    let mut random = Random::new(3);
    bench.until("everything", |bench, _| {
        if written < total.len() {
            let upto = (written + 1 + random.below(30_000)).min(total.len());
            written += client.write(&total[written..upto]);
        }
        let transport = bench.transport();
        let received = transport.received(conn);
        assert!(total[consumed..].starts_with(received), "after {consumed} bytes");
        let step = random.below(received.len() + 1);
        transport.consume(conn, step);
        consumed += step;
        consumed == total.len()
    });
    // More than there is means all there is.
    bench.transport().consume(conn, usize::MAX);
    assert!(bench.transport().received(conn).is_empty());
}

/// One of the random test's connections.
struct Party<C> {
    client: Option<C>,
    conn: ConnId,
    base: usize,
    written: usize,
    echoed: usize,
    back: Vec<u8>,
    open: bool,
    seen: Seen,
    /// The server drained it: everything echoed must arrive.
    drained: bool,
}

/// Random writes, reads, consumes, closes and resets: each stream stays a prefix of what it must
/// be, and the whole of it where it ended in good order.
pub fn keeps_streams_whole_at_random(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let mut random = Random::new(0x7e5);
    let mut parties = Vec::new();
    let mut by_conn: HashMap<ConnId, usize> = HashMap::new();
    for step in 0..6000usize {
        if parties.len() < 200 && by_conn.len() < 12 && random.below(8) == 0 {
            let (client, conn) = bench.connect();
            by_conn.insert(conn, parties.len());
            parties.push(Party {
                client: Some(client),
                conn,
                base: step * 7919,
                written: 0,
                echoed: 0,
                back: Vec::new(),
                open: true,
                seen: Seen::Open,
                drained: false,
            });
        }
        for event in bench.turn() {
            if let Event::Hangup(conn, why) = event {
                let at = by_conn.remove(&conn).unwrap();
                let party: &mut Party<_> = &mut parties[at];
                let rest = bench.transport().received(conn).to_vec();
                if why == Hangup::Eof {
                    assert_eq!(party.echoed + rest.len(), party.written, "bytes lost before the end of stream");
                }
                echo(bench.transport(), party, rest.len());
                party.open = false;
                party.drained = why == Hangup::Eof;
                bench.transport().close(conn, Close::Drain);
            }
        }
        if parties.is_empty() {
            continue;
        }
        let at = random.below(parties.len());
        let party = &mut parties[at];
        match random.below(40) {
            0..12 => {
                if let Some(client) = &mut party.client {
                    let len = if random.below(6) == 0 { random.below(200_000) } else { random.below(500) };
                    party.written += client.write(&pattern(party.base + party.written, len));
                }
            }
            12..20 => read(party),
            20..36 if party.open => {
                let len = random.below(bench.transport().received(party.conn).len() + 1);
                echo(bench.transport(), party, len);
            }
            36 => {
                if let Some(client) = &mut party.client {
                    client.end_writing();
                }
            }
            37 if party.open => {
                party.open = false;
                by_conn.remove(&party.conn);
                party.drained = random.below(2) == 0;
                let how = if party.drained { Close::Drain } else { Close::Abort };
                bench.transport().close(party.conn, how);
            }
            38 if random.below(3) == 0 => {
                if let Some(client) = party.client.take() {
                    party.drained = false;
                    party.seen = Seen::Broken;
                    client.reset();
                }
            }
            _ => {}
        }
        bench.transport().flush();
    }
    for (_, at) in by_conn.drain() {
        bench.transport().close(parties[at].conn, Close::Drain);
        parties[at].drained = true;
        parties[at].open = false;
    }
    bench.transport().flush();
    bench.until("the streams to end", |_, _| {
        let mut waiting = false;
        for party in &mut parties {
            if party.client.is_some() && party.seen == Seen::Open {
                read(party);
                waiting |= party.seen == Seen::Open;
            }
        }
        !waiting
    });
    for party in &parties {
        if party.client.is_some() && party.drained {
            assert_eq!(party.back.len(), party.echoed, "a drained stream is not whole ({:?})", party.seen);
        }
    }
}

/// Echoes the next `len` received bytes of a party, checking that they are the right ones.
fn echo<C>(transport: &mut impl Transport, party: &mut Party<C>, len: usize) {
    let mut buf = transport.lease();
    let received = &transport.received(party.conn)[..len];
    assert!(received == pattern(party.base + party.echoed, len), "received other bytes than were written");
    if len > 1000 {
        buf.push_shared(Arc::new(received.to_vec()));
    } else {
        buf.extend_from_slice(received);
    }
    transport.consume(party.conn, len);
    transport.send(party.conn, buf);
    party.echoed += len;
}

/// Reads what came back, checking that it is the right bytes.
fn read<C: Dial>(party: &mut Party<C>) {
    let Some(client) = &mut party.client else { return };
    let had = party.back.len();
    let seen = client.read(&mut party.back);
    if party.seen == Seen::Open {
        party.seen = seen;
    }
    let new = party.back.len() - had;
    assert!(party.back[had..] == pattern(party.base + had, new), "the echo differs");
}
