//! Parks end when they should, and not much later.

use std::time::{Duration, Instant};

use super::{Bench, Dial, Rig};
use crate::{Event, Transport};

/// A park that something should end is given this long.
const LONG: Duration = Duration::from_secs(10);

/// Parks and polls until an event is there; fails if a park slept through.
pub(super) fn park_for<R: Rig>(bench: &mut Bench<R>, wanted: impl Fn(&Event) -> bool) {
    let start = Instant::now();
    let mut events = Vec::new();
    while !events.iter().any(&wanted) {
        bench.transport().park(Some(LONG));
        bench.transport().poll(&mut events);
        assert!(start.elapsed() < LONG, "slept through it: {events:?}");
    }
}

/// Bytes that came before, or between the last poll and the park, end it.
pub fn wakes_for_data(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let (mut client, conn) = bench.connect();
    for round in 0..200usize {
        // Whether or not a poll came in between, and with the connection in any state.
        bench.idle(round % 3);
        assert_eq!(client.write(b"x"), 1);
        park_for(&mut bench, |event| *event == Event::Readable(conn));
        bench.transport().consume(conn, 1);
        bench.send(conn, b"y");
    }
}

/// A new connection ends a park.
pub fn wakes_for_a_connection(rig: impl Rig) {
    if !rig.dials_unattended() {
        return;
    }
    let mut bench = Bench::new(rig);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(bench.rig.dial());
        park_for(&mut bench, |event| matches!(event, Event::Accepted(_) | Event::Connected(_)));
    }
}

/// A waker in another thread ends a park, whether it rings before or during it.
pub fn wakes_for_the_waker(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let _client = bench.connect();
    for round in 0..10u64 {
        let waker = bench.transport().waker();
        let ringer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(round % 4 * 3));
            waker.wake();
            waker.wake();
        });
        park_for(&mut bench, |event| *event == Event::Wake);
        ringer.join().unwrap();
        bench.idle(3);
    }
    bench.transport().waker().wake();
    park_for(&mut bench, |event| *event == Event::Wake);
}

/// The time ends a park, and the park really sleeps.
pub fn wakes_for_the_time(rig: impl Rig) {
    let mut bench = Bench::new(rig);
    let _client = bench.connect();
    bench.idle(10);
    let start = Instant::now();
    let mut parks = 0;
    while start.elapsed() < Duration::from_millis(50) {
        bench.transport().park(Some(Duration::from_millis(10)));
        bench.turn();
        parks += 1;
    }
    assert!(parks < 40, "{parks} parks in 50 ms: it does not sleep");
    assert!(start.elapsed() < Duration::from_secs(5));
    bench.transport().park(Some(Duration::ZERO));
}
