//! DEBUG DIGEST and DIGEST-VALUE: numbers that are the same for the same data, whatever its order and form.

use std::collections::VecDeque;

use sha1::{Digest, Sha1};
use tercel_core::clients::Slice;
use tercel_core::command::{Args, Reply};
use tercel_core::data::{Dataset, Expired};
use tercel_engine::{HeldFieldMap, HeldList, LongString, SnapshotId, StringRef, Value};

pub(super) type Sum = [u8; 20];

pub(super) fn sha1(parts: &[&[u8]]) -> Sum {
    let mut hasher = Sha1::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mix(all: &mut Sum, one: Sum) {
    for (sum, byte) in all.iter_mut().zip(one) {
        *sum ^= byte;
    }
}

/// What is held of a value until its digest is complete.
enum Held {
    String(LongString, Box<Sha1>),
    List(HeldList),
    Fields(HeldFieldMap),
}

/// Bytes of a long string that are looked at in one piece.
const PIECE_BYTES: u64 = 16 << 10;

/// The digest of a value, piece by piece.
pub(super) struct OfValue {
    held: Option<Held>,
    at: u64,
    sum: Sum,
    expired: Expired,
}

impl OfValue {
    /// Begins with a value; a short string is done at once.
    pub(super) fn new(value: Value<'_>, expired: Expired) -> Self {
        let mut digest = OfValue { held: None, at: 0, sum: [0; 20], expired };
        match value {
            Value::String(StringRef::Long(long)) => {
                let begun = Sha1::new_with_prefix(b"string");
                digest.held = Some(Held::String(long.clone(), Box::new(begun)));
            }
            Value::String(value) => digest.sum = sha1(&[b"string", &value.to_vec()]),
            Value::List(list) => digest.held = Some(Held::List(list.held())),
            Value::Hash(fields) => digest.held = Some(Held::Fields(fields.held())),
        }
        digest
    }

    /// A piece of it; true while there is more.
    pub(super) fn step(&mut self) -> bool {
        match &mut self.held {
            None => return false,
            Some(Held::String(long, hasher)) => {
                let from = self.at as usize;
                self.at += PIECE_BYTES;
                long.pieces(from..self.at as usize).for_each(|piece| hasher.update(piece));
                if self.at < long.len() as u64 {
                    return true;
                }
                self.sum = hasher.finalize_reset().into();
            }
            Some(Held::List(list)) => {
                let list = list.view();
                for element in list.piece(self.at) {
                    // In order: each with all before it.
                    self.sum = sha1(&[&self.sum, &(element.len() as u64).to_be_bytes(), element]);
                    self.at += 1;
                }
                if self.at < list.len() {
                    return true;
                }
            }
            Some(Held::Fields(fields)) => {
                let fields = fields.view();
                for field in fields.piece(self.at) {
                    self.at += 1;
                    if field.expire_at.is_some_and(|at_ms| self.expired.is_past(at_ms)) {
                        continue;
                    }
                    let deadline = field.expire_at.map_or([0; 8], i64::to_be_bytes);
                    let len = (field.field.len() as u64).to_be_bytes();
                    mix(&mut self.sum, sha1(&[&len, field.field, field.value, &deadline]));
                }
                if self.at < fields.len() {
                    return true;
                }
            }
        }
        self.held = None;
        false
    }

    /// The digest, once there is no more.
    pub(super) fn sum(&self) -> Sum {
        self.sum
    }
}

/// Digests of some values, one after the other.
pub(super) struct OfValues {
    /// None for a key that is missing.
    pub(super) values: VecDeque<Option<OfValue>>,
}

impl Slice for OfValues {
    fn step(&mut self, _: &Args<'_>, _: &mut Dataset, answer: &mut Reply) -> bool {
        let Some(first) = self.values.front_mut() else { return false };
        match first {
            Some(digest) => {
                if digest.step() {
                    return true;
                }
                answer.simple(&hex(&digest.sum()));
            }
            None => answer.simple(&"0".repeat(40)),
        }
        self.values.pop_front();
        !self.values.is_empty()
    }
}

/// A digest of all live data, as it was when the command began, that does not depend on order.
pub(super) struct OfAll {
    walk: Option<SnapshotId>,
    /// Keys that were found and whose values are still to be looked at: database, key, what their deadline says.
    found: VecDeque<(usize, Box<[u8]>, bool, OfValue)>,
    expired: Expired,
    all: Sum,
}

impl OfAll {
    pub(super) fn new(data: &mut Dataset) -> Self {
        let expired = data.expired();
        OfAll { walk: Some(data.snapshot_begin()), found: VecDeque::new(), expired, all: [0; 20] }
    }
}

impl Slice for OfAll {
    fn step(&mut self, _: &Args<'_>, data: &mut Dataset, answer: &mut Reply) -> bool {
        if let Some((db, key, expires, digest)) = self.found.front_mut() {
            if !digest.step() {
                let expires: &[u8] = if *expires { b"!!expire!!" } else { b"" };
                mix(&mut self.all, sha1(&[&(*db as u32).to_be_bytes(), key, b"\0", &digest.sum(), expires]));
                self.found.pop_front();
            }
            return true;
        }
        let Some(walk) = self.walk else { return false };
        let (expired, found) = (self.expired, &mut self.found);
        let more = data.snapshot_step(walk, &mut |db, entry| {
            if !expired.is(entry) {
                let digest = OfValue::new(entry.value(), expired);
                found.push_back((db, entry.key().into(), entry.expire_at().is_some(), digest));
            }
        });
        if !more {
            self.abandon(data);
            answer.simple(&hex(&self.all));
        }
        more
    }

    fn abandon(&mut self, data: &mut Dataset) {
        if let Some(walk) = self.walk.take() {
            data.snapshot_end(walk);
        }
        self.found.clear();
    }
}
