//! Measures the table: `lookup`, `growth` and `memory`, each with `--keys N`. Uses the engine's public
//! side only, and reads the clock, which the engine must not.
//!
//! As in the server, memory comes from a stock of huge pages filled ahead; `--page-stock 0` leaves it
//! out, `--small-pages` fills it with small ones.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // A program that measures time, run by hand.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use tercel_engine::{Access, Expire, Hash, Keyspace, KeyspaceConfig, NewValue};

const NOW: Access = Access { now_ms: 1_700_000_000_000, lfu: false, lfu_log_factor: 10, lfu_decay_minutes: 1 };
const BATCH: usize = 16;

type Key = [u8; 16];

fn key_of(number: u64) -> Key {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// A permutation-like walk, so that neighbours in memory are no neighbours in time.
fn scattered(at: u64, keys: u64) -> u64 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16) % keys
}

fn keyspace() -> Keyspace {
    Keyspace::new(KeyspaceConfig { databases: 1, hash_key: *b"sixteen key byte", seed: 1 })
}

fn insert(keyspace: &mut Keyspace, number: u64, value: &[u8]) {
    let key = key_of(number);
    let hash = keyspace.hash(&key);
    keyspace.db_mut(0).set(&key, hash, NewValue::Bytes(value), Expire::Clear, &NOW);
}

fn first_byte(keyspace: &Keyspace, key: &Key, hash: Hash) -> u64 {
    keyspace.db(0).find(key, hash).map_or(0, |entry| entry.string().expect("a string").byte(0).map_or(0, u64::from))
}

#[cfg(target_arch = "x86_64")]
fn wait_for_loads() {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { std::arch::x86_64::_mm_lfence() }
}

#[cfg(not(target_arch = "x86_64"))]
fn wait_for_loads() {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

fn lookup(keys: u64) {
    let mut keyspace = keyspace();
    for number in 0..keys {
        insert(&mut keyspace, number, b"value:42");
    }
    let wanted: Vec<Key> = (0..2_000_000).map(|at| key_of(scattered(at, keys))).collect();
    let each = |name: &str, start: Instant, sum: u64| {
        let ns = start.elapsed().as_nanos() as f64 / wanted.len() as f64;
        println!("{name:<8} {ns:7.1} ns a lookup (check {sum})");
        ns
    };
    for _ in 0..3 {
        let start = Instant::now();
        let sum = wanted.iter().map(|key| keyspace.hash(key).0 & 1).sum();
        each("hash", start, sum);
        let start = Instant::now();
        let mut sum = 0;
        for key in &wanted {
            wait_for_loads();
            sum += first_byte(&keyspace, key, keyspace.hash(key));
        }
        let serial = each("serial", start, sum);
        let start = Instant::now();
        let sum = wanted.iter().map(|key| first_byte(&keyspace, key, keyspace.hash(key))).sum();
        let plain = each("plain", start, sum);
        let start = Instant::now();
        let mut sum = 0;
        let mut hashes = [Hash(0); BATCH];
        for batch in wanted.chunks_exact(BATCH) {
            for (hash, key) in hashes.iter_mut().zip(batch) {
                *hash = keyspace.hash(key);
                keyspace.db(0).prefetch_bucket(*hash);
            }
            hashes.iter().for_each(|&hash| keyspace.db(0).prefetch_entry(hash));
            for (&hash, key) in hashes.iter().zip(batch) {
                sum += first_byte(&keyspace, key, hash);
            }
        }
        let staged = each("staged", start, sum);
        println!("plain/staged {:.2}, serial/staged {:.2}", plain / staged, serial / staged);
    }
}

/// Operations slower than this are remembered, in microseconds.
const SLOW_US: f64 = 15.0;

/// Inserts, timing each; the slow ones by their number, with whether the table changed its shape.
fn grow_once(keys: u64) -> HashMap<u64, (f64, bool)> {
    let mut keyspace = keyspace();
    let mut slow = HashMap::with_capacity(1 << 16);
    let mut bytes = 0;
    for number in 0..keys {
        let start = Instant::now();
        insert(&mut keyspace, number, b"value:42");
        let us = start.elapsed().as_nanos() as f64 / 1000.0;
        let bytes_now = keyspace.overhead_bytes();
        if us > SLOW_US {
            slow.insert(number, (us, bytes_now != bytes));
        }
        bytes = bytes_now;
    }
    slow
}

fn hiccups(seconds: f64) {
    let start = Instant::now();
    let mut last = start;
    let (mut over, mut longest) = (0, 0.0f64);
    while start.elapsed().as_secs_f64() < seconds {
        let now = Instant::now();
        let us = now.duration_since(last).as_nanos() as f64 / 1000.0;
        last = now;
        over += u32::from(us > SLOW_US);
        longest = longest.max(us);
    }
    println!("machine alone: {seconds} s of nothing, {over} gaps over {SLOW_US} us, longest {longest:.0} us");
}

fn growth(keys: u64) {
    hiccups(3.0);
    let runs = [grow_once(keys), grow_once(keys), grow_once(keys)];
    hiccups(3.0);
    for (at, run) in runs.iter().enumerate() {
        let mut all: Vec<_> = run.iter().map(|(&number, &(us, table))| (us, number, table)).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let top: Vec<String> =
            all.iter().take(10).map(|(us, _, table)| format!("{us:.0}{}", if *table { "t" } else { "" })).collect();
        println!("run {at}: {} over {SLOW_US} us; longest (t: table changed) {}", all.len(), top.join(" "));
    }
    // The keys are the same in every run, and so is what the table does at each. What is slow once only is the machine.
    let mut common: Vec<(f64, u64, bool)> = runs[0]
        .iter()
        .filter_map(|(number, &(us, table))| {
            let others = (runs[1].get(number)?.0).min(runs[2].get(number)?.0);
            Some((us.min(others), *number, table))
        })
        .collect();
    common.sort_by(|a, b| b.0.total_cmp(&a.0));
    let top: Vec<String> = common
        .iter()
        .take(10)
        .map(|(us, number, table)| format!("{us:.1}@{number}{}", if *table { "t" } else { "" }))
        .collect();
    println!("slow in every run: {}; shortest of the three: {}", common.len(), top.join(" "));
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn memory(keys: u64, value_len: usize) {
    let allocated = || tercel_memory::allocator_stats().allocated;
    let value = vec![b'v'; value_len];
    let mut keyspace = keyspace();
    let (before, resident_before) = (allocated(), resident_bytes());
    let mut next = 1_000_000;
    for number in 0..keys {
        insert(&mut keyspace, number, &value);
        if number + 1 == next || number + 1 == keys {
            let count = number as f64 + 1.0;
            println!(
                "{:>9} keys: table {:.2}, allocated {:.2}, resident {:.2} bytes a key",
                number + 1,
                keyspace.overhead_bytes() as f64 / count,
                (allocated() - before) as f64 / count,
                (resident_bytes() - resident_before) as f64 / count
            );
            next = (next as f64 * 1.1) as u64;
        }
    }
    let stats = keyspace.db(0).table_stats();
    println!(
        "load {:.3}, displaced {:.3}",
        stats.entries as f64 / stats.slots as f64,
        stats.displaced as f64 / stats.entries as f64
    );
    println!("{stats:?}");
    black_box(&keyspace);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str, otherwise: u64| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let stock = tercel_memory::stock::Options {
        units: option("--page-stock", 2) as usize,
        huge: !arguments.iter().any(|argument| argument == "--small-pages"),
    };
    tercel_memory::stock::serve_this_thread(stock, || {}).unwrap();
    match arguments.get(1).map(String::as_str) {
        Some("lookup") => lookup(option("--keys", 10_000_000)),
        Some("growth") => growth(option("--keys", 20_000_000)),
        Some("memory") => memory(option("--keys", 10_000_000), option("--value", 8) as usize),
        _ => eprintln!(
            "table_bench lookup|growth|memory [--keys N] [--value BYTES] [--page-stock UNITS] [--small-pages]"
        ),
    }
    println!("{:?}", tercel_memory::stock::stats());
}
