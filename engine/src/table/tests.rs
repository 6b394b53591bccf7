//! Tests of the table: growth, shrinking, collisions, and what SCAN promises meanwhile.

use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;
use crate::entry::Stored;
use crate::rng::Rng;

fn key_of(number: u64) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

/// A table of numbered keys with its hash.
struct Numbers {
    table: Table,
    hasher: KeyHasher,
}

impl Numbers {
    fn new(keep: u64) -> Self {
        Numbers { table: Table::default(), hasher: KeyHasher::new(&[3; 16], keep) }
    }

    fn insert(&mut self, number: u64) {
        let key = key_of(number);
        let hash = self.hasher.hash(&key);
        if self.table.find_key(&key, hash).is_none() {
            let entry = EntryBox::new(&key, Stored::Int(number as i64), false, None, 0);
            self.table.insert(hash, entry, &self.hasher);
        }
    }

    fn remove(&mut self, number: u64) -> bool {
        let key = key_of(number);
        let hash = self.hasher.hash(&key);
        let Some((slot, _)) = self.table.find_key(&key, hash) else { return false };
        let entry = self.table.remove(hash, slot).expect("just found");
        assert_eq!(entry.as_ref().key(), key);
        true
    }

    fn has(&self, number: u64) -> bool {
        let key = key_of(number);
        self.table.find_key(&key, self.hasher.hash(&key)).is_some()
    }

    /// Reads everything and compares counts, homes and overflow counts with what they must be.
    fn check(&self) {
        let stats = self.table.stats();
        assert_eq!(stats.entries, self.table.len());
        let mut directory_words = 0;
        for root in self.table.roots.iter().flat_map(|roots| roots.iter()) {
            directory_words += if root.is_own() { root.len() } else { 0 };
            let deepest = root.segments().filter(|segment| segment.depth() == root.depth()).count();
            assert_eq!(deepest, root.deepest as usize, "segments as deep as the directory");
            for segment in root.segments() {
                let mut overflow = vec![0usize; segment.buckets()];
                for index in 0..segment.buckets() {
                    let bucket = segment.bucket(index);
                    for slot in 0..bucket.len() {
                        let home = segment.home(bucket.tag(slot));
                        overflow[home] += usize::from(home != index);
                    }
                }
                for (index, &count) in overflow.iter().enumerate() {
                    let noted = segment.bucket(index).overflow();
                    assert!(noted == count || noted == 255, "overflow {noted}, counted {count}");
                }
            }
        }
        if self.table.roots.is_some() {
            assert_eq!(stats.directory_bytes, directory_words * 8 + size_of::<Roots>());
        }
    }

    fn scan_step(&self, cursor: u64, seen: &mut HashSet<i64>) -> u64 {
        self.table.scan(cursor, &mut |entry| {
            seen.insert(entry.string().expect("a string").as_int().expect("numbers only"));
        })
    }
}

#[test]
fn grows_and_shrinks_and_stays_whole() {
    let mut numbers = Numbers::new(u64::MAX);
    let count = 200_000;
    for number in 0..count {
        numbers.insert(number);
    }
    numbers.check();
    assert!((0..count).all(|number| numbers.has(number)));
    assert!(!numbers.has(count));
    let full = numbers.table.stats();
    assert!(full.splits > 200, "{full:?}");
    for number in 0..count - 100 {
        assert!(numbers.remove(number));
    }
    numbers.check();
    assert!((count - 100..count).all(|number| numbers.has(number)));
    let empty = numbers.table.stats();
    assert!(empty.merges > 100 && empty.buckets * 20 < full.buckets, "{full:?} {empty:?}");
    for number in 0..count {
        numbers.insert(number);
    }
    numbers.check();
}

#[test]
fn memory_for_each_key_stays_level() {
    let mut numbers = Numbers::new(u64::MAX);
    let mut worst = 0.0f64;
    for number in 0..400_000u64 {
        numbers.insert(number);
        if number >= 200_000 && number % 1000 == 0 {
            worst = worst.max(numbers.table.bytes() as f64 / number as f64);
        }
    }
    // 8 bytes a slot, and roots and directories, which at this size still show.
    assert!(worst < 9.8, "{worst} bytes a key");
}

/// All keys of one slot of a cluster: their hashes have the highest 14 bits in common (ADR 0010).
#[test]
fn a_hot_slot_costs_a_larger_directory_and_no_more() {
    let mut numbers = Numbers::new(u64::MAX >> 14);
    (0..400_000).for_each(|number| numbers.insert(number));
    numbers.check();
    let stats = numbers.table.stats();
    let each = stats.directory_bytes as f64 / 400_000.0;
    assert!(each < 0.4, "{each} bytes a key for directories");
    // All in one root, so all segments are at the same stage between two splits.
    assert!(numbers.table.bytes() as f64 / 400_000.0 < 17.0, "{stats:?}");
    assert!((0..400_000).step_by(997).all(|number| numbers.has(number)));
}

#[test]
fn equal_hashes_are_kept_apart_by_key() {
    for keep in [0, 0xffff, 0xff00_0000_0000_0000, 0xffff_ffff_ffff_0000, 0x0000_0000_0000_000f] {
        let mut numbers = Numbers::new(keep);
        for number in 0..3000 {
            numbers.insert(number);
        }
        numbers.check();
        assert!((0..3000).all(|number| numbers.has(number)));
        assert!(!numbers.has(3000));
        let mut seen = HashSet::new();
        let mut cursor = 0;
        loop {
            cursor = numbers.scan_step(cursor, &mut seen);
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(seen.len(), 3000);
        for number in (0..3000).step_by(2) {
            assert!(numbers.remove(number));
        }
        numbers.check();
        assert!((0..3000).all(|number| numbers.has(number) == (number % 2 == 1)));
    }
}

#[test]
fn every_entry_is_drawn_sooner_or_later() {
    for count in [1u64, 5, 700, 3000] {
        let mut numbers = Numbers::new(u64::MAX);
        let mut rng = Rng::new(count);
        assert!(numbers.table.random(&mut rng).is_none());
        for number in 0..count {
            numbers.insert(number);
        }
        let mut seen = HashSet::new();
        let mut sampled = HashSet::new();
        for _ in 0..count * 30 {
            seen.insert(numbers.table.random(&mut rng).expect("not empty").string().expect("a string").as_int());
            numbers.table.sample(&mut rng, 2, &mut |entry| {
                sampled.insert(entry.string().expect("a string").as_int());
            });
        }
        assert_eq!(seen.len() as u64, count);
        assert_eq!(sampled.len() as u64, count);
    }
}

#[test]
fn a_drain_frees_in_pieces_and_may_be_left_half_done() {
    for stop_after in [0, 3, 100_000] {
        let mut numbers = Numbers::new(u64::MAX);
        for number in 0..20_000 {
            numbers.insert(number);
        }
        let mut at = Drain::default();
        let mut freed = 0;
        for _ in 0..stop_after {
            let done = numbers.table.drain(&mut at, 50);
            freed += done.entries;
            assert!(done.steps <= 50 + 9);
            assert_eq!(numbers.table.len(), 20_000 - freed);
            if !done.left {
                assert_eq!((freed, numbers.table.bytes()), (20_000, 0));
                break;
            }
        }
    }
}

#[test]
fn any_cursor_is_some_position() {
    let mut numbers = Numbers::new(u64::MAX);
    for number in 0..5000 {
        numbers.insert(number);
    }
    let mut rng = Rng::new(5);
    for _ in 0..20_000 {
        let next = numbers.table.scan(rng.next_u64() >> rng.below(64), &mut |_| {});
        assert!(next < 1 << 53);
    }
}

#[derive(Clone, Debug)]
enum ScanStep {
    Scan(usize),
    Insert(u64, u64),
    Remove(u64, u64),
}

fn scan_steps() -> impl Strategy<Value = Vec<ScanStep>> {
    let step = prop_oneof![
        3 => (1usize..200).prop_map(ScanStep::Scan),
        2 => (0u64..20_000, 1u64..8000).prop_map(|(from, count)| ScanStep::Insert(from, count)),
        2 => (0u64..20_000, 1u64..8000).prop_map(|(from, count)| ScanStep::Remove(from, count)),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is there from the first call to the last is returned at least once, whatever else comes and goes.
    #[test]
    fn scan_returns_what_stays(
        steps in scan_steps(),
        keep in prop_oneof![Just(u64::MAX), Just(0xf0f0_0000_0000_ffff), Just(0xffff_ffff_ffff_0007)],
        start in 0u64..20_000,
    ) {
        let mut numbers = Numbers::new(keep);
        // Numbers from 100000 on stay; the others come and go, so that segments split and merge.
        let staying: BTreeSet<u64> = (100_000..100_000 + 300).collect();
        staying.iter().for_each(|&number| numbers.insert(number));
        (0..start).for_each(|number| numbers.insert(number));
        let mut seen = HashSet::new();
        let mut cursor = 0;
        let mut ended = false;
        for step in steps {
            match step {
                ScanStep::Scan(calls) => {
                    for _ in 0..calls {
                        cursor = numbers.scan_step(cursor, &mut seen);
                        if cursor == 0 {
                            ended = true;
                            break;
                        }
                    }
                }
                ScanStep::Insert(from, count) => (from..from + count).for_each(|number| numbers.insert(number)),
                ScanStep::Remove(from, count) => (from..from + count).for_each(|number| {
                    numbers.remove(number);
                }),
            }
            if ended {
                break;
            }
        }
        numbers.check();
        while !ended {
            cursor = numbers.scan_step(cursor, &mut seen);
            ended = cursor == 0;
        }
        for number in staying {
            prop_assert!(seen.contains(&(number as i64)), "{} was missed", number);
        }
    }
}
