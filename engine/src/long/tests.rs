//! Long strings against plain vectors, with holders of what they were.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Grow(usize),
    Write(usize, Vec<u8>),
    Append(Vec<u8>),
    Hold,
    Release,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let bytes = |max: usize| prop::collection::vec(any::<u8>(), 0..max);
    prop::collection::vec(
        prop_oneof![
            2 => (0..4 * CHUNK_BYTES).prop_map(Op::Grow),
            5 => (0..8 * CHUNK_BYTES, bytes(20)).prop_map(|(at, bytes)| Op::Write(at, bytes)),
            1 => (0..8 * CHUNK_BYTES, bytes(3 * CHUNK_BYTES)).prop_map(|(at, bytes)| Op::Write(at, bytes)),
            3 => bytes(30).prop_map(Op::Append),
            1 => bytes(3 * CHUNK_BYTES).prop_map(Op::Append),
            2 => Just(Op::Hold),
            1 => Just(Op::Release),
        ],
        1..40,
    )
}

fn joined(string: &LongString, range: Range<usize>) -> Vec<u8> {
    string.shared_pieces(range).flat_map(|piece| (*piece).as_ref().to_vec()).collect()
}

fn check(string: &LongString, model: &[u8], from: usize) {
    assert_eq!(string.len(), model.len());
    assert!(string.copied(0..usize::MAX) == model);
    assert!(joined(string, 0..usize::MAX) == model);
    let range = from.min(model.len())..(from + 2 * CHUNK_BYTES + 3).min(model.len());
    assert!(joined(string, range.clone()) == model[range.clone()]);
    assert!(string.copied(range.clone()) == model[range]);
    assert!(string.pieces(0..usize::MAX).all(|piece| !piece.is_empty()));
    assert!(string.piece(model.len()).is_empty());
    if let Text::Chunks(_) = &*string.0 {
        let lens: Vec<usize> = string.pieces(0..usize::MAX).map(<[u8]>::len).collect();
        assert!(lens.iter().all(|&len| len <= CHUNK_BYTES));
        let pairs = lens.windows(3).filter(|three| three[0] + three[1] <= CHUNK_BYTES);
        assert_eq!(pairs.count(), 0, "chunks too short side by side: {lens:?}");
    }
}

proptest! {
    #[test]
    fn it_is_as_a_vector(first in prop::collection::vec(any::<u8>(), 0..5 * CHUNK_BYTES), ops in ops()) {
        let (mut string, mut model) = (LongString::from_vec(first.clone()), first);
        let mut held: Vec<(LongString, Vec<u8>)> = Vec::new();
        for op in ops {
            match op {
                Op::Grow(by) => {
                    let len = model.len() + by;
                    string.grown(len);
                    model.resize(len, 0);
                }
                Op::Write(at, bytes) => {
                    string.write(at, &bytes);
                    let end = model.len().min(at + bytes.len());
                    if at < end {
                        model[at..end].copy_from_slice(&bytes[..end - at]);
                    }
                }
                Op::Append(bytes) => {
                    string.append(&LongString::from_vec(bytes.clone()).shared_whole());
                    model.extend_from_slice(&bytes);
                }
                Op::Hold => held.push((string.clone(), model.clone())),
                Op::Release => drop(held.pop()),
            }
            check(&string, &model, model.len() / 3);
            prop_assert!(string.memory_bytes() >= CONTROL_BYTES);
        }
        for (string, model) in &held {
            check(string, model, 5);
        }
    }
}

#[test]
fn a_piece_that_was_taken_over_goes_after_some_changes() {
    let mut string = LongString::from_vec(vec![7; 10 * CHUNK_BYTES]);
    let whole = string.clone();
    let weak = Arc::downgrade(&string.0);
    string.write(0, b"x");
    drop(whole);
    assert!(weak.upgrade().is_some(), "its other chunks are windows on it");
    for _ in 0..10 {
        string.write(0, b"y");
    }
    assert!(weak.upgrade().is_none(), "all were copied");
    assert_eq!(string.copied(0..3), b"y\x07\x07");
}

#[test]
fn zeros_take_no_memory_until_they_are_written() {
    let mut string = LongString::with_zeros(b"ab", 1000 * CHUNK_BYTES);
    let before = string.memory_bytes();
    assert!(before < 60 * CHUNK_BYTES, "{before}");
    string.write(500 * CHUNK_BYTES + 7, b"c");
    assert!(string.memory_bytes() <= before + 2 * CHUNK_BYTES);
    assert_eq!((string.piece(1)[0], string.piece(500 * CHUNK_BYTES + 7)[0], string.piece(9)[0]), (b'b', b'c', 0));
}

#[test]
fn appending_little_by_little_copies_little() {
    let mut string = LongString::with_zeros(b"", CHUNKED_LEN_MIN + 1);
    let held = string.clone();
    for round in 0..3 * CHUNK_BYTES {
        let len = string.len();
        string.grown(len + 1).write(len, &[round as u8]);
    }
    assert_eq!(string.len(), held.len() + 3 * CHUNK_BYTES);
    assert!(string.copied(held.len()..usize::MAX).iter().enumerate().all(|(at, &byte)| byte == at as u8));
    assert!(string.pieces(0..usize::MAX).count() <= 7, "few chunks");
}
