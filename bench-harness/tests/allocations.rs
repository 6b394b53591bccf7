//! The load loop allocates nothing on its path: a run ten times as long allocates as often.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tercel_bench::clock::Clock;
use tercel_bench::load::schedule::Arrivals;
use tercel_bench::load::{Pacing, Plan, Wait, run};
use tercel_bench::recorder::recorder;
use tercel_bench::workload::{Generator, Workload, WorkloadSpec};
use tercel_transport::client::{Client, Received};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has no counter any more, and nobody who reads it.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Time that passes by itself: each look at it is 100 ns later.
#[derive(Default)]
struct Ticking(Cell<u64>);

impl Clock for Ticking {
    fn now_ns(&self) -> u64 {
        self.0.set(self.0.get() + 100);
        self.0.get()
    }
}

/// Answers every request at once with each of its replies in turn, without allocating: requests are
/// counted by their first byte.
struct Instant {
    owed: [usize; 4],
    replies: &'static [&'static [u8]],
    next: usize,
}

impl Client for Instant {
    fn name(&self) -> &'static str {
        "instant"
    }
    fn connect(&mut self, _: Duration) -> io::Result<usize> {
        Ok(0)
    }
    fn send(&mut self, conn: usize, bytes: &[u8]) -> io::Result<usize> {
        self.owed[conn] += bytes.iter().filter(|byte| **byte == b'*').count();
        Ok(bytes.len())
    }
    fn receive(&mut self, conn: usize, into: &mut [u8]) -> io::Result<Received> {
        let mut len = 0;
        for _ in 0..std::mem::take(&mut self.owed[conn]) {
            let reply = self.replies[self.next % self.replies.len()];
            self.next += 1;
            into[len..len + reply.len()].copy_from_slice(reply);
            len += reply.len();
        }
        Ok(if len == 0 { Received::Nothing } else { Received::Bytes(len) })
    }
    fn poll(&mut self, ready: &mut Vec<usize>) {
        ready.extend(0..self.owed.len());
    }
    fn wait(&mut self, _: Duration, ready: &mut Vec<usize>) {
        self.poll(ready);
    }
    fn set_blocked(&mut self, _: usize, _: bool) {}
    fn close(&mut self, _: usize) {}
    fn raw_fd(&self, _: usize) -> Option<i32> {
        None
    }
}

/// The commands of a mix and what they are answered with.
type Mix = (&'static [&'static str], &'static [&'static [u8]]);

/// Whatever is sent is answered alike; commands may get that.
const ANY: Mix = (
    &["5:GET __key__", "SET __key__ __value__ EX __ttl__", "SET x__int__y pre-__value__", "MGET __key__ __key__"],
    &[b"+OK\r\n"],
);
/// Found, not found, and of a wrong length.
const VALUES: Mix = (&["GET __key__"], &[b"$10\r\n0123456789\r\n", b"$-1\r\n", b"_\r\n", b"$1\r\nx\r\n"]);
const LISTS: Mix = (&["MGET __key__ __key__"], &[b"*2\r\n$10\r\n0123456789\r\n$-1\r\n", b"*2\r\n_\r\n$1\r\nx\r\n"]);

fn allocations((commands, replies): Mix, pacing: Pacing, requests: u64) -> u64 {
    let spec = WorkloadSpec {
        commands: commands.iter().map(ToString::to_string).collect(),
        value_size: "10..100".to_owned(),
        ttl: Some("10..60".to_owned()),
        key_distribution: "zipfian".to_owned(),
        ..WorkloadSpec::default()
    };
    let mut workload = Workload::compile(&spec).unwrap();
    if commands == ANY.0 {
        workload = workload.any_reply();
    }
    let workload = Arc::new(workload);
    let mut generator = Generator::new(workload.clone(), 0, 0, 4).unwrap();
    let plan = Plan {
        pacing,
        warmup_ns: 0,
        duration_ns: u64::MAX / 4,
        requests: Some(requests),
        window: 64,
        drain_ns: 1_000_000_000,
        wait: Wait::Spin,
        interval_ns: 10_000_000,
        seed: 1,
    };
    let (mut recorder, tap) = recorder(workload.names().len(), plan.interval_ns);
    let mut client = Instant { owed: [0; 4], replies, next: 0 };
    let before = ALLOCATIONS.get();
    let outcome =
        run(&mut client, 4, &Ticking::default(), &plan, &mut generator, &mut recorder, &AtomicBool::new(false));
    let after = ALLOCATIONS.get();
    assert_eq!(outcome.measured, requests, "{:?}", outcome.failure);
    let found = outcome.found.iter().map(|found| (found.hits, found.misses)).reduce(|a, b| (a.0 + b.0, a.1 + b.1));
    let each = requests / replies.len() as u64;
    assert_eq!(found, Some(if commands == ANY.0 { (0, 0) } else { (2 * each, 2 * each) }));
    drop(tap);
    after - before
}

#[test]
fn the_path_of_a_request_allocates_nothing() {
    for pacing in [Pacing::Closed { depth: 16 }, Pacing::Open { rate: 1e6, arrivals: Arrivals::Poisson }] {
        for mix in [ANY, VALUES, LISTS] {
            let (short, long) = (allocations(mix, pacing, 20_000), allocations(mix, pacing, 200_000));
            assert_eq!(short, long, "{mix:?} {pacing:?}: a longer run allocates more often");
        }
    }
}
