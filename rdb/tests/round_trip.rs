//! What is written is read back, whatever it is; and what is damaged never panics and never passes a
//! checksum.

use std::io::{self, Read};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tercel_rdb::{
    Decoder, Encoder, EntryMeta, Item, LoadedString, RdbError, ReadOptions, StringValue, WriteOptions, dump_string,
    restore_string,
};

#[derive(Clone, Debug)]
enum Value {
    Int(i64),
    Bytes(Vec<u8>),
    /// Written in pieces of the given length.
    Long(Vec<u8>, usize),
}

#[derive(Clone, Debug)]
enum Step {
    Aux(String, String),
    SelectDb(u64),
    ResizeDb(u64, u64),
    Entry(Vec<u8>, Value, EntryMeta),
}

/// Bytes as they are met: anything, text of numbers, and what compresses well or hardly.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => vec(any::<u8>(), 0..100),
        2 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        1 => (-40_000i64..40_000).prop_map(|number| format!("{number:03}").into_bytes()),
        2 => (vec(any::<u8>(), 1..20), 1usize..400).prop_map(|(unit, times)| unit.repeat(times)),
        2 => vec(prop_oneof![Just(b'a'), Just(b'b'), any::<u8>()], 0..3000),
        1 => (any::<u8>(), 0usize..200_000).prop_map(|(byte, len)| vec![byte; len]),
        1 => (any::<u64>(), 0usize..200_000).prop_map(|(seed, len)| noise(seed, len)),
    ]
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut out = Vec::with_capacity(len);
    for _ in 0..len {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        out.push((state >> 56) as u8);
    }
    out
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::Int),
        (-70_000i64..70_000).prop_map(Value::Int),
        bytes().prop_map(Value::Bytes),
        (bytes(), 1usize..100_000).prop_map(|(bytes, piece)| Value::Long(bytes, piece)),
    ]
}

fn meta() -> impl Strategy<Value = EntryMeta> {
    (option::of(any::<i64>()), option::of(any::<u64>()), option::of(any::<u8>()))
        .prop_map(|(expire_at_ms, idle_s, freq)| EntryMeta { expire_at_ms, idle_s, freq })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (".{0,40}", ".{0,60}").prop_map(|(key, value)| Step::Aux(key, value)),
        1 => any::<u64>().prop_map(Step::SelectDb),
        1 => (any::<u64>(), any::<u64>()).prop_map(|(keys, expires)| Step::ResizeDb(keys, expires)),
        6 => (bytes(), value(), meta()).prop_map(|(key, value, meta)| Step::Entry(key, value, meta)),
    ]
}

fn encode(steps: &[Step], options: WriteOptions) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), options).expect("written into memory");
    for step in steps {
        match step {
            Step::Aux(key, value) => encoder.aux(key, value),
            Step::SelectDb(db) => encoder.select_db(*db),
            Step::ResizeDb(keys, expires) => encoder.resize_db(*keys, *expires),
            Step::Entry(key, Value::Int(number), meta) => encoder.entry(key, StringValue::Int(*number), meta),
            Step::Entry(key, Value::Bytes(bytes), meta) => encoder.entry(key, StringValue::Bytes(bytes), meta),
            Step::Entry(key, Value::Long(bytes, piece), meta) => {
                let begun = encoder.begin_long(key, bytes.len() as u64, meta);
                bytes.chunks(*piece).fold(begun, |done, chunk| done.and_then(|()| encoder.piece(chunk)))
            }
        }
        .expect("written into memory");
    }
    let written = encoder.bytes_written();
    let file = encoder.finish().expect("written into memory");
    assert_eq!(written + 9, file.len() as u64);
    file
}

fn loaded(bytes: &[u8]) -> LoadedString {
    let number = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<i64>().ok());
    match number.filter(|number| number.to_string().as_bytes() == bytes) {
        Some(number) => LoadedString::Int(number),
        None => LoadedString::Bytes(bytes.to_vec()),
    }
}

/// The items that must come of the steps.
fn expected(steps: &[Step]) -> Vec<Item> {
    let mut db = None;
    let mut items = Vec::new();
    for step in steps {
        match step {
            Step::Aux(key, value) => {
                items.push(Item::Aux { key: key.clone().into_bytes(), value: value.clone().into_bytes() });
            }
            Step::SelectDb(number) => {
                if db.replace(*number) != Some(*number) {
                    items.push(Item::SelectDb(*number));
                }
            }
            Step::ResizeDb(keys, expires) => items.push(Item::ResizeDb { keys: *keys, expires: *expires }),
            Step::Entry(key, value, meta) => {
                let value = match value {
                    Value::Int(number) => LoadedString::Int(*number),
                    Value::Bytes(bytes) | Value::Long(bytes, _) => loaded(bytes),
                };
                items.push(Item::Entry { key: key.clone(), value, meta: *meta });
            }
        }
    }
    items
}

fn decode(input: impl Read, options: ReadOptions) -> Result<Vec<Item>, RdbError> {
    let mut decoder = Decoder::new(input, options)?;
    let mut items = Vec::new();
    loop {
        match decoder.next()? {
            Item::End => break,
            item => items.push(item),
        }
    }
    assert_eq!(decoder.next()?, Item::End);
    Ok(items)
}

/// An input that gives so many bytes at a time, and is interrupted before each.
struct Trickle<'a> {
    bytes: &'a [u8],
    step: usize,
    interrupt: bool,
}

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.interrupt = !self.interrupt;
        if self.interrupt {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = self.step.min(into.len());
        self.bytes.read(&mut into[..len])
    }
}

fn write_options() -> impl Strategy<Value = WriteOptions> {
    (any::<bool>(), any::<bool>()).prop_map(|(compress, checksum)| WriteOptions {
        compress,
        checksum,
        ..WriteOptions::default()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(steps in vec(step(), 0..30), options in write_options(), piece in 1usize..70_000) {
        let file = encode(&steps, options);
        prop_assert_eq!(decode(&file[..], ReadOptions::default()).expect("a good file"), expected(&steps));
        let trickle = Trickle { bytes: &file, step: piece, interrupt: false };
        let unchecked = ReadOptions { checksum: false, ..ReadOptions::default() };
        prop_assert_eq!(decode(trickle, unchecked).expect("a good file"), expected(&steps));
    }

    #[test]
    fn what_is_dumped_is_restored(value in value(), compress in any::<bool>()) {
        let (payload, expected) = match &value {
            Value::Int(number) => (dump_string(StringValue::Int(*number), compress), LoadedString::Int(*number)),
            Value::Bytes(bytes) | Value::Long(bytes, _) => {
                (dump_string(StringValue::Bytes(bytes), compress), loaded(bytes))
            }
        };
        prop_assert_eq!(restore_string(&payload, ReadOptions::default()).expect("a good payload"), expected);
    }
}
