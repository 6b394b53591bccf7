//! The stock over a real allocator: what it hands out is ready, and is used.

#![allow(clippy::unwrap_used)]

use tercel_memory::stock::{self, Options, UNIT_BYTES};

fn faults() -> i64 {
    // SAFETY: rusage is plain data that getrusage fills.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage.ru_minflt
    }
}

/// Waits until the stock is full again; the filler needs the processor for that.
fn wait_until_full(units: usize) {
    for _ in 0..10_000 {
        if stock::stats().ready_bytes == units * UNIT_BYTES {
            return;
        }
        std::thread::yield_now();
        std::thread::park_timeout(std::time::Duration::from_millis(1));
    }
    panic!("the stock was never full: {:?}", stock::stats());
}

#[test]
fn memory_comes_from_the_stock_without_faults_zeroed_and_nobody_elses() {
    let options = Options { units: 4, huge: true };
    stock::serve_this_thread(options, || {}).unwrap();
    stock::serve_this_thread(Options { units: 0, ..options }, || unreachable!("there is a filler")).unwrap();
    wait_until_full(4);

    let taken_before = stock::stats().taken;
    let mut held: Vec<Vec<u64>> = Vec::with_capacity(20_000);
    let mut faults_of_filled = 0;
    for round in 0..16 {
        // One megabyte in pieces: never more than the stock holds between two looks.
        wait_until_full(4);
        let missed_before = stock::stats().missed;
        let faults_before = faults();
        for piece in 0..1024u64 {
            let words = vec![0u64; 128];
            assert!(words.iter().all(|&word| word == 0), "piece {piece} of round {round}");
            held.push(words);
        }
        let last = held.len() - 1024;
        for (at, words) in held[last..].iter_mut().enumerate() {
            words.fill((last + at) as u64);
        }
        if stock::stats().missed == missed_before {
            faults_of_filled += faults() - faults_before;
        }
    }
    // Sixteen megabytes are 4,096 small pages; a fault or two for the test's own sake is allowed.
    assert!(faults_of_filled < 400, "{faults_of_filled} faults on filled pages");
    assert!(stock::stats().taken >= taken_before + 6, "{:?}", stock::stats());
    for (at, words) in held.iter().enumerate() {
        assert!(words.iter().all(|&word| word == at as u64), "piece {at} was overwritten");
    }
    // Large pieces and other threads go on without it.
    let large = vec![7u8; 9 << 20];
    let other = std::thread::spawn(|| vec![1u8; 3 << 20].iter().map(|&byte| usize::from(byte)).sum::<usize>());
    assert_eq!(other.join().unwrap(), 3 << 20);
    assert_eq!(large.iter().filter(|&&byte| byte == 7).count(), 9 << 20);
}
