//! Nothing is allocated for a message on a warm connection, on either side, hand-overs of windows
//! included.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use tercel_rdma::endpoint::Options;
use tercel_rdma::software::{Fabric, Faults, SoftLimits};
use tercel_rdma::{RdmaClient, RdmaTransport};
use tercel_transport::client::{Client, Received};
use tercel_transport::{Event, Transport};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

#[test]
fn a_warm_connection_allocates_nothing() {
    let fabric = Fabric::new(1, Faults::default());
    let options = Options { rx_window_bytes: 64 * 1024, ..Options::default() };
    let mut server = RdmaTransport::new(fabric.device(SoftLimits::default()).unwrap(), options.clone()).unwrap();
    let listener = server.listen("127.0.0.1:6379".parse().unwrap(), 10).unwrap();
    let addr = server.endpoint().local_addr(listener).unwrap();
    let mut client = RdmaClient::new(fabric.device(SoftLimits::default()).unwrap(), options, addr).unwrap();
    let conn = client.dial().unwrap();
    let (mut events, mut ready) = (Vec::new(), Vec::new());
    let mut into = [0; 4096];
    let mut round_trip = |len: usize| {
        let mut sent = client.send(conn, &[7; 4096][..len]).unwrap();
        assert_eq!(sent, len);
        client.flush();
        while sent > 0 {
            events.clear();
            server.poll(&mut events);
            for event in &events {
                if let Event::Readable(id) = event {
                    let mut buf = server.lease();
                    buf.extend_from_slice(server.received(*id));
                    server.consume(*id, buf.len());
                    server.send(*id, buf);
                }
            }
            server.flush();
            ready.clear();
            client.poll(&mut ready);
            if let Received::Bytes(len) = client.receive(conn, &mut into).unwrap() {
                sent -= len;
            }
        }
    };
    // 65,536 is no multiple of 100 or 1,000: windows end inside messages, and it takes a while until the
    // largest of what can be under way has been.
    for round in 0..6000 {
        round_trip([100, 1000, 4096][round % 3]);
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for round in 0..3000 {
        round_trip([100, 1000, 4096][round % 3]);
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "allocations in 3,000 warm round trips");
    assert!(server.endpoint().counters().windows_announced > 100);
}
