//! The whole keyspace against a model of ordered maps, by random operations; expiry by a model clock;
//! every eviction policy. Hashes are weakened at random, so that tags and whole hashes collide.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use crate::hash::{Hash, KeyHasher};
use crate::{Access, Blob, Expire, Keyspace, NewValue, Policy, SnapshotId};

const START_MS: i64 = 1_700_000_000_000;

fn access(now_ms: i64, lfu: bool) -> Access {
    Access { now_ms, lfu, lfu_log_factor: 10, lfu_decay_minutes: 1 }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Item {
    value: Vec<u8>,
    expire_at: Option<i64>,
}

#[derive(Clone, Debug)]
enum Op {
    Set { db: usize, key: u16, value: Vec<u8>, form: u8, expire: u8, at: i64 },
    Remove { db: usize, key: u16 },
    Take { db: usize, key: u16 },
    Touch { db: usize, key: u16 },
    SetExpire { db: usize, key: u16, at: Option<i64> },
    Edit { db: usize, key: u16, len: usize, byte: u8 },
    Create { db: usize, key: u16, len: usize },
    Rename { db: usize, from: u16, to: u16 },
    Move { from: usize, to: usize, key: u16 },
    Copy { from: usize, to: usize, key: u16, new_key: u16 },
    Fill { db: usize, from: u16, count: u16, at: Option<i64> },
    Clear { db: usize, from: u16, count: u16 },
    Flush { db: usize },
    Swap { a: usize, b: usize },
    Reclaim { steps: usize },
    Expire { now: i64, max: usize },
    SnapshotBegin { db: Option<usize> },
    SnapshotStep { which: usize, steps: usize },
    SnapshotCancel { which: usize },
}

const DBS: usize = 3;
/// Snapshots under way at once.
const SNAPSHOTS_MAX: usize = 3;

fn deadline() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0i64..50, 1 => Just(i64::MAX), 1 => Just(i64::MIN), 1 => Just(-1i64)]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..40),
        1 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        1 => (0usize..3000, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let db = 0..DBS;
    let key = 0u16..60;
    let len = prop_oneof![0usize..100, 1000usize..1100, 0usize..5000];
    prop_oneof![
        8 => (db.clone(), key.clone(), value(), 0u8..3, 0u8..3, deadline())
            .prop_map(|(db, key, value, form, expire, at)| Op::Set { db, key, value, form, expire, at }),
        3 => (db.clone(), key.clone()).prop_map(|(db, key)| Op::Remove { db, key }),
        2 => (db.clone(), key.clone()).prop_map(|(db, key)| Op::Take { db, key }),
        2 => (db.clone(), key.clone()).prop_map(|(db, key)| Op::Touch { db, key }),
        4 => (db.clone(), key.clone(), prop::option::of(deadline()))
            .prop_map(|(db, key, at)| Op::SetExpire { db, key, at }),
        4 => (db.clone(), key.clone(), len.clone(), any::<u8>())
            .prop_map(|(db, key, len, byte)| Op::Edit { db, key, len, byte }),
        2 => (db.clone(), key.clone(), len).prop_map(|(db, key, len)| Op::Create { db, key, len }),
        3 => (db.clone(), key.clone(), key.clone()).prop_map(|(db, from, to)| Op::Rename { db, from, to }),
        3 => (db.clone(), db.clone(), key.clone()).prop_map(|(from, to, key)| Op::Move { from, to, key }),
        3 => (db.clone(), db.clone(), key.clone(), key)
            .prop_map(|(from, to, key, new_key)| Op::Copy { from, to, key, new_key }),
        2 => (db.clone(), 100u16..2000, 1u16..2000, prop::option::of(deadline()))
            .prop_map(|(db, from, count, at)| Op::Fill { db, from, count, at }),
        2 => (db.clone(), 100u16..2000, 1u16..3000).prop_map(|(db, from, count)| Op::Clear { db, from, count }),
        1 => db.clone().prop_map(|db| Op::Flush { db }),
        1 => (db.clone(), db).prop_map(|(a, b)| Op::Swap { a, b }),
        2 => (0usize..500).prop_map(|steps| Op::Reclaim { steps }),
        3 => (deadline(), 0usize..200).prop_map(|(now, max)| Op::Expire { now, max }),
        3 => prop::option::of(0..DBS).prop_map(|db| Op::SnapshotBegin { db }),
        8 => (0..SNAPSHOTS_MAX, 1usize..60).prop_map(|(which, steps)| Op::SnapshotStep { which, steps }),
        1 => (0..SNAPSHOTS_MAX).prop_map(|which| Op::SnapshotCancel { which }),
    ]
}

fn key_of(key: u16) -> Vec<u8> {
    // Some keys are longer than the header's field for their length.
    if key == 7 { vec![b'L'; 70_000] } else { format!("k{key}").into_bytes() }
}

/// Keys by database.
type Snapshot = BTreeMap<(usize, Vec<u8>), Item>;

struct Pair {
    keyspace: Keyspace,
    model: Vec<BTreeMap<Vec<u8>, Item>>,
    flushed: u64,
    /// What each snapshot under way is to hand out, and what it has.
    snapshots: Vec<(SnapshotId, [Snapshot; 2])>,
}

impl Pair {
    fn new(keep: u64) -> Self {
        let keyspace = Keyspace::with_hasher(DBS, KeyHasher::new(&[9; 16], keep), 4);
        Pair { keyspace, model: vec![BTreeMap::new(); DBS], flushed: 0, snapshots: Vec::new() }
    }

    fn hashed(&self, key: u16) -> (Vec<u8>, Hash) {
        let key = key_of(key);
        let hash = self.keyspace.hash(&key);
        (key, hash)
    }

    fn apply(&mut self, op: Op) {
        let now = access(START_MS, false);
        match op {
            Op::Set { db, key, value, form, expire, at } => {
                let (key, hash) = self.hashed(key);
                let new = match form {
                    0 => NewValue::Bytes(&value),
                    1 => NewValue::Raw(&value),
                    _ => NewValue::Blob(Blob::from_vec(value.clone())),
                };
                let old = self.model[db].get(&key).cloned();
                let (expire, expire_at) = match expire {
                    0 => (Expire::Clear, None),
                    1 => (Expire::Keep, old.as_ref().and_then(|item| item.expire_at)),
                    _ => (Expire::At(at), Some(at)),
                };
                assert_eq!(self.keyspace.db_mut(db).set(&key, hash, new, expire, &now), old.is_some());
                self.model[db].insert(key, Item { value, expire_at });
            }
            Op::Remove { db, key } => {
                let (key, hash) = self.hashed(key);
                assert_eq!(self.keyspace.db_mut(db).remove(&key, hash), self.model[db].remove(&key).is_some());
            }
            Op::Take { db, key } => {
                let (key, hash) = self.hashed(key);
                let taken = self.keyspace.db_mut(db).take(&key, hash);
                let taken = taken
                    .map(|(taken, expire_at)| Item { value: taken.string().expect("a string").to_vec(), expire_at });
                assert_eq!(taken, self.model[db].remove(&key));
            }
            Op::Touch { db, key } => {
                let (key, hash) = self.hashed(key);
                let entry = self.keyspace.db_mut(db).touch(&key, hash, &access(START_MS, true));
                assert_eq!(
                    entry.map(|entry| entry.string().expect("a string").to_vec()),
                    self.model[db].get(&key).map(|i| i.value.clone())
                );
            }
            Op::SetExpire { db, key, at } => {
                let (key, hash) = self.hashed(key);
                let item = self.model[db].get_mut(&key);
                assert_eq!(self.keyspace.db_mut(db).set_expire(&key, hash, at), item.is_some());
                if let Some(item) = item {
                    item.expire_at = at;
                }
            }
            Op::Edit { db, key, len, byte } => {
                let (key, hash) = self.hashed(key);
                let bytes = self.keyspace.db_mut(db).edit_string(&key, hash, &now, len).expect("a string");
                let item = self.model[db].get_mut(&key);
                assert_eq!(bytes.is_some(), item.is_some());
                if let (Some(mut bytes), Some(item)) = (bytes, item) {
                    item.value.resize(len.max(item.value.len()), 0);
                    assert_eq!(bytes.len(), item.value.len());
                    if let (Some(at), Some(model_last)) = (bytes.len().checked_sub(1), item.value.last_mut()) {
                        bytes.write(at, &[byte]);
                        *model_last = byte;
                    }
                }
            }
            Op::Create { db, key, len } => {
                let (key, hash) = self.hashed(key);
                assert_eq!(self.keyspace.db_mut(db).create_string(&key, hash, &now, len).len(), len);
                self.model[db].insert(key, Item { value: vec![0; len], expire_at: None });
            }
            Op::Rename { db, from, to } => {
                let (from, from_hash) = self.hashed(from);
                let (to, to_hash) = self.hashed(to);
                let item = self.model[db].remove(&from);
                let renamed = self.keyspace.db_mut(db).rename(&from, from_hash, &to, to_hash);
                assert_eq!(renamed, item.is_some());
                if let Some(item) = item {
                    self.model[db].insert(to, item);
                }
            }
            Op::Move { from, to, key } => {
                let (key, hash) = self.hashed(key);
                let can = self.model[from].contains_key(&key) && !self.model[to].contains_key(&key);
                assert_eq!(self.keyspace.move_key(from, to, &key, hash), can);
                if can && let Some(item) = self.model[from].remove(&key) {
                    self.model[to].insert(key, item);
                }
            }
            Op::Copy { from, to, key, new_key } => {
                let (key, hash) = self.hashed(key);
                let (new_key, new_hash) = self.hashed(new_key);
                let item = self.model[from].get(&key).cloned();
                let copied = self.keyspace.copy_key(from, &key, hash, to, &new_key, new_hash, &now);
                assert_eq!(copied, item.is_some());
                if let Some(item) = item {
                    self.model[to].insert(new_key, item);
                }
            }
            Op::Fill { db, from, count, at } => {
                for key in from..from + count {
                    let value = key.to_string().into_bytes();
                    self.apply(Op::Set { db, key, value, form: 0, expire: at.map_or(0, |_| 2), at: at.unwrap_or(0) });
                }
            }
            Op::Clear { db, from, count } => (from..from + count).for_each(|key| self.apply(Op::Remove { db, key })),
            Op::Flush { db } => {
                let keys = std::mem::take(&mut self.model[db]).len();
                self.flushed += keys as u64;
                assert_eq!(self.keyspace.flush(db), keys);
            }
            Op::Swap { a, b } => {
                self.keyspace.swap(a, b);
                self.model.swap(a, b);
            }
            Op::Reclaim { steps } => {
                let more = self.keyspace.reclaim(steps);
                assert!(more || self.keyspace.reclaim_pending() == 0);
                let counted = self.keyspace.reclaimed_total() + self.keyspace.reclaim_pending() as u64;
                // A snapshot keeps what was flushed until it has walked it.
                assert!(counted == self.flushed || (!self.snapshots.is_empty() && counted < self.flushed));
            }
            Op::Expire { now, max } => {
                let mut due: Vec<(i64, usize, Vec<u8>)> = Vec::new();
                for (db, keys) in self.model.iter().enumerate() {
                    for (key, item) in keys {
                        due.extend(item.expire_at.filter(|&at| at <= now).map(|at| (at, db, key.clone())));
                    }
                }
                let mut removed = BTreeSet::new();
                let count = self.keyspace.expire_due(now, max, &mut |db, key| {
                    assert!(removed.insert((db, key.to_vec())), "only once");
                });
                assert_eq!((count, removed.len()), (due.len().min(max), due.len().min(max)));
                for (db, key) in removed {
                    let item = self.model[db].remove(&key).expect("was there");
                    assert!(item.expire_at.is_some_and(|at| at <= now));
                }
            }
            Op::SnapshotBegin { db } => {
                if self.snapshots.len() == SNAPSHOTS_MAX {
                    return;
                }
                let id = match db {
                    None => self.keyspace.snapshot_begin(),
                    Some(db) => self.keyspace.snapshot_begin_db(db),
                };
                let keys = self.model.iter().enumerate().filter(|(index, _)| db.is_none_or(|db| db == *index));
                let wanted =
                    keys.flat_map(|(db, keys)| keys.iter().map(move |(key, item)| ((db, key.clone()), item.clone())));
                self.snapshots.push((id, [wanted.collect(), BTreeMap::new()]));
            }
            Op::SnapshotStep { which, steps } => (0..steps).for_each(|_| self.snapshot_step(which)),
            Op::SnapshotCancel { which } => {
                if !self.snapshots.is_empty() {
                    let (id, _) = self.snapshots.remove(which % self.snapshots.len());
                    self.keyspace.snapshot_cancel(id);
                    assert!(!self.keyspace.snapshot_step(id, &mut |_, _| panic!("it is over")));
                }
            }
        }
    }

    fn snapshot_step(&mut self, which: usize) {
        if self.snapshots.is_empty() {
            return;
        }
        let at = which % self.snapshots.len();
        let (id, [wanted, seen]) = &mut self.snapshots[at];
        let more = self.keyspace.snapshot_step(*id, &mut |db, entry| {
            let item = Item { value: entry.string().expect("a string").to_vec(), expire_at: entry.expire_at() };
            assert!(seen.insert((db, entry.key().to_vec()), item).is_none(), "each key comes once");
        });
        if !more {
            assert_eq!(seen, wanted);
            self.snapshots.remove(at);
        }
    }

    fn check(&mut self) {
        for (index, model) in self.model.iter().enumerate() {
            let db = self.keyspace.db(index);
            assert_eq!((db.len(), db.is_empty()), (model.len(), model.is_empty()));
            for (key, item) in model {
                let entry = db.find(key, self.keyspace.hash(key)).expect("in the model");
                assert_eq!(entry.key(), key);
                assert_eq!(
                    (entry.string().expect("a string").to_vec(), entry.expire_at()),
                    (item.value.clone(), item.expire_at)
                );
                assert_eq!(entry.string().expect("a string").len(), item.value.len());
            }
            let mut all = BTreeSet::new();
            db.for_each(&mut |entry| assert!(all.insert(entry.key().to_vec())));
            assert!(all.iter().eq(model.keys()));
            let mut scanned = BTreeSet::new();
            let mut cursor = 0;
            loop {
                cursor = db.scan(cursor, &mut |entry| assert!(scanned.insert(entry.key().to_vec())));
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(scanned, all, "an undisturbed scan returns each key once");
            let deadlines: BTreeSet<(i64, u64)> =
                model.iter().filter_map(|(key, item)| Some((item.expire_at?, self.keyspace.hash(key).0))).collect();
            assert!(db.deadlines().map(|(at, hash)| (at, hash.0)).eq(deadlines.iter().copied()));
            assert_eq!(db.expires_len(), model.values().filter(|item| item.expire_at.is_some()).count());
            assert_eq!(db.table_stats().entries, model.len());
        }
        let soonest = self.model.iter().flat_map(|keys| keys.values()).filter_map(|item| item.expire_at).min();
        assert_eq!(self.keyspace.next_deadline(), soonest);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_keyspace_does_what_maps_do(
        ops in prop::collection::vec(op(), 1..120),
        keep in prop_oneof![3 => Just(u64::MAX), 1 => Just(0u64), 1 => Just(0xffff), 1 => Just(!0xffff), 1 => Just(0x30)],
    ) {
        let mut pair = Pair::new(keep);
        for (at, op) in ops.into_iter().enumerate() {
            pair.apply(op);
            if at % 16 == 0 {
                pair.check();
            }
        }
        while !pair.snapshots.is_empty() {
            pair.snapshot_step(0);
        }
        pair.check();
    }
}

fn keyspace(databases: usize) -> Keyspace {
    Keyspace::with_hasher(databases, KeyHasher::new(&[5; 16], u64::MAX), 11)
}

fn set(keyspace: &mut Keyspace, db: usize, key: &str, expire_at: Option<i64>, access: &Access) {
    let hash = keyspace.hash(key.as_bytes());
    let expire = expire_at.map_or(Expire::Clear, Expire::At);
    keyspace.db_mut(db).set(key.as_bytes(), hash, NewValue::Bytes(b"value"), expire, access);
}

#[test]
fn many_keys_due_at_once_go_in_slices() {
    let mut keyspace = keyspace(2);
    for number in 0..30_000 {
        set(&mut keyspace, number % 2, &format!("k{number}"), Some(START_MS), &access(START_MS - 1, false));
    }
    let mut calls = 0;
    assert_eq!(keyspace.expire_due(START_MS - 1, 100, &mut |_, _| calls += 1), 0);
    for _ in 0..300 {
        assert_eq!(keyspace.expire_due(START_MS, 100, &mut |_, _| calls += 1), 100);
    }
    assert_eq!(keyspace.expire_due(START_MS, 100, &mut |_, _| calls += 1), 0);
    assert_eq!((calls, keyspace.next_deadline()), (30_000, None));
    assert!(keyspace.db(0).is_empty() && keyspace.db(1).is_empty());
}

#[test]
fn eviction_without_candidates_says_so() {
    let mut keyspace = keyspace(2);
    let now = access(START_MS, false);
    for policy in [Policy::NoEviction, Policy::AllKeysLru, Policy::AllKeysRandom, Policy::VolatileTtl] {
        assert!(!keyspace.evict_one(policy, 5, &now, &mut |_, _| {}));
    }
    set(&mut keyspace, 1, "stays", None, &now);
    for policy in
        [Policy::NoEviction, Policy::VolatileLru, Policy::VolatileLfu, Policy::VolatileRandom, Policy::VolatileTtl]
    {
        assert!(!keyspace.evict_one(policy, 5, &now, &mut |_, _| {}), "{policy:?}");
    }
    assert!(keyspace.evict_one(Policy::AllKeysLru, 5, &now, &mut |_, _| {}));
}

#[test]
fn every_policy_empties_what_it_may_and_nothing_else() {
    for policy in [
        Policy::AllKeysLru,
        Policy::VolatileLru,
        Policy::AllKeysLfu,
        Policy::VolatileLfu,
        Policy::AllKeysRandom,
        Policy::VolatileRandom,
        Policy::VolatileTtl,
    ] {
        for ttl_one_in in [2, 50] {
            let mut keyspace = keyspace(3);
            let lfu = matches!(policy, Policy::AllKeysLfu | Policy::VolatileLfu);
            let now = access(START_MS, lfu);
            let volatile = !matches!(policy, Policy::AllKeysLru | Policy::AllKeysLfu | Policy::AllKeysRandom);
            for number in 0..2000i64 {
                let at = (number % ttl_one_in == 0).then_some(START_MS + number * 17 % 3000);
                set(&mut keyspace, number as usize % 3, &format!("k{number}"), at, &now);
            }
            let may: usize =
                (0..3).map(|db| if volatile { keyspace.db(db).expires_len() } else { keyspace.db(db).len() }).sum();
            let mut evicted = HashMap::new();
            while keyspace.evict_one(policy, 5, &now, &mut |db, entry| {
                assert!(evicted.insert((db, entry.key().to_vec()), ()).is_none());
            }) {}
            let left: usize = (0..3).map(|db| keyspace.db(db).len()).sum();
            assert_eq!((evicted.len(), left), (may, 2000 - may), "{policy:?}");
        }
    }
}

#[test]
fn the_idle_the_rare_and_the_soonest_go_first() {
    for (policy, lfu) in [
        (Policy::AllKeysLru, false),
        (Policy::VolatileLru, false),
        (Policy::AllKeysLfu, true),
        (Policy::VolatileLfu, true),
    ] {
        let mut keyspace = keyspace(1);
        let before = access(START_MS, lfu);
        for number in 0..4000 {
            set(&mut keyspace, 0, &format!("k{number}"), Some(i64::MAX - number), &before);
        }
        let now = access(START_MS + 30_000, lfu);
        for number in 0..2000 {
            let key = format!("k{number}");
            let hash = keyspace.hash(key.as_bytes());
            for _ in 0..20 {
                keyspace.db_mut(0).touch(key.as_bytes(), hash, &now);
            }
        }
        let mut used = 0;
        for _ in 0..1000 {
            assert!(keyspace.evict_one(policy, 5, &now, &mut |_, entry| {
                let number: u32 = std::str::from_utf8(&entry.key()[1..]).expect("digits").parse().expect("digits");
                used += u32::from(number < 2000);
            }));
        }
        assert!(used < 30, "{policy:?} gave up {used} keys in use of 1000");
    }
    let mut keyspace = keyspace(2);
    let now = access(START_MS, false);
    for number in 0..500 {
        set(&mut keyspace, number as usize % 2, &format!("k{number}"), Some(1000 - number), &now);
    }
    let mut last = 500;
    while keyspace.evict_one(Policy::VolatileTtl, 5, &now, &mut |_, entry| {
        let number: i64 = std::str::from_utf8(&entry.key()[1..]).expect("digits").parse().expect("digits");
        assert_eq!(number, last - 1);
        last = number;
    }) {}
    assert_eq!(last, 0);
}
