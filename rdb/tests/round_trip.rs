//! What is written is read back, whatever it is; and what is damaged never panics and never passes a
//! checksum.

mod paused;

use std::io::{self, Read};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tercel_rdb::{
    CollectionKind, Decoder, Encoder, EntryMeta, Item, LoadedString, Parts, PayloadItem, PayloadWriter, RdbError,
    ReadOptions, StringValue, WriteOptions, dump_string, open_payload, restore_string,
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
    /// Written at once or one by one.
    List(Vec<u8>, Vec<Vec<u8>>, bool, EntryMeta),
    Hash(Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>, bool, EntryMeta),
    Deadlines(Vec<u8>, Vec<(Vec<u8>, Vec<u8>, Option<i64>)>, EntryMeta),
}

/// What a file is read as: items, of which those of a collection are one.
#[derive(Debug, PartialEq)]
enum Seen {
    Item(Item),
    Collection {
        key: Vec<u8>,
        kind: CollectionKind,
        strings: Vec<Vec<u8>>,
        deadlines: Vec<Option<i64>>,
        meta: EntryMeta,
    },
}

impl Seen {
    fn of(kind: CollectionKind, key: Vec<u8>, meta: EntryMeta) -> Self {
        Self::Collection { key, kind, strings: Vec::new(), deadlines: Vec::new(), meta }
    }

    fn add(&mut self, parts: &Parts) {
        let Self::Collection { kind, strings, deadlines, .. } = self else { panic!("parts of nothing") };
        assert!(!parts.is_empty());
        strings.extend(parts.iter().map(<[u8]>::to_vec));
        if *kind == CollectionKind::Hash {
            deadlines.extend(parts.fields().map(|(.., deadline)| deadline));
        }
    }
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

/// Parts of collections: mostly short, and some about which servers differ.
fn part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..80),
        4 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        8 => (-10_000_000i64..10_000_000).prop_map(|number| number.to_string().into_bytes()),
        1 => bytes(),
        1 => (16_300usize..16_400).prop_map(|len| vec![b'x'; len]),
    ]
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
        2 => (bytes(), vec(part(), 1..100), any::<bool>(), meta())
            .prop_map(|(key, elements, small, meta)| Step::List(key, elements, small, meta)),
        2 => (bytes(), vec((part(), part()), 1..100), any::<bool>(), meta())
            .prop_map(|(key, fields, small, meta)| Step::Hash(key, fields, small, meta)),
        2 => (bytes(), vec((part(), part(), option::of(0..=i64::MAX)), 1..100), meta())
            .prop_map(|(key, fields, meta)| Step::Deadlines(key, fields, meta)),
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
            Step::List(key, elements, true, meta) => encoder.small_list(key, elements.iter().map(Vec::as_slice), meta),
            Step::List(key, elements, false, meta) => {
                let begun = encoder.begin_list(key, elements.len() as u64, meta);
                elements.iter().fold(begun, |done, element| done.and_then(|()| encoder.element(element)))
            }
            Step::Hash(key, fields, true, meta) => {
                encoder.small_hash(key, fields.iter().map(|(field, value)| (&field[..], &value[..])), meta)
            }
            Step::Hash(key, fields, false, meta) => {
                let begun = encoder.begin_hash(key, fields.len() as u64, false, meta);
                fields.iter().fold(begun, |done, (field, value)| done.and_then(|()| encoder.field(field, value, None)))
            }
            Step::Deadlines(key, fields, meta) => {
                let begun = encoder.begin_hash(key, fields.len() as u64, true, meta);
                fields.iter().fold(begun, |done, (field, value, deadline)| {
                    done.and_then(|()| encoder.field(field, value, *deadline))
                })
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

/// What must come of the steps.
fn expected(steps: &[Step]) -> Vec<Seen> {
    let mut db = None;
    let mut all = Vec::new();
    for step in steps {
        all.push(match step {
            Step::Aux(key, value) => {
                Seen::Item(Item::Aux { key: key.clone().into_bytes(), value: value.clone().into_bytes() })
            }
            Step::SelectDb(number) => {
                if db.replace(*number) == Some(*number) {
                    continue;
                }
                Seen::Item(Item::SelectDb(*number))
            }
            Step::ResizeDb(keys, expires) => Seen::Item(Item::ResizeDb { keys: *keys, expires: *expires }),
            Step::Entry(key, value, meta) => {
                let value = match value {
                    Value::Int(number) => LoadedString::Int(*number),
                    Value::Bytes(bytes) | Value::Long(bytes, _) => loaded(bytes),
                };
                Seen::Item(Item::Entry { key: key.clone(), value, meta: *meta })
            }
            Step::List(key, elements, _, meta) => Seen::Collection {
                key: key.clone(),
                kind: CollectionKind::List,
                strings: elements.clone(),
                deadlines: Vec::new(),
                meta: *meta,
            },
            Step::Hash(key, fields, _, meta) => Seen::Collection {
                key: key.clone(),
                kind: CollectionKind::Hash,
                strings: fields.iter().cloned().flat_map(|(field, value)| [field, value]).collect(),
                deadlines: vec![None; fields.len()],
                meta: *meta,
            },
            Step::Deadlines(key, fields, meta) => Seen::Collection {
                key: key.clone(),
                kind: CollectionKind::Hash,
                strings: fields.iter().cloned().flat_map(|(field, value, _)| [field, value]).collect(),
                deadlines: fields.iter().map(|(.., deadline)| *deadline).collect(),
                meta: *meta,
            },
        });
    }
    all
}

fn decode(input: impl Read, options: ReadOptions) -> Result<Vec<Seen>, RdbError> {
    let mut decoder = Decoder::new(input, options)?;
    let mut all: Vec<Seen> = Vec::new();
    loop {
        match decoder.next()? {
            Item::End => break,
            Item::Begin { key, kind, meta, .. } => all.push(Seen::of(kind, key, meta)),
            Item::Parts(parts) => all.last_mut().expect("a collection").add(&parts),
            Item::Finished => {}
            item => all.push(Seen::Item(item)),
        }
    }
    assert_eq!(decoder.next()?, Item::End);
    Ok(all)
}

/// A collection in a payload, under no key.
fn restore(payload: &[u8]) -> Result<Seen, RdbError> {
    let mut reader = open_payload(payload, ReadOptions::default())?;
    let PayloadItem::Begin { kind, .. } = reader.next()? else { panic!("no collection") };
    let mut seen = Seen::of(kind, Vec::new(), EntryMeta::default());
    loop {
        match reader.next()? {
            PayloadItem::Parts(parts) => seen.add(&parts),
            _ => return Ok(seen),
        }
    }
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
    let field_deadlines = true;
    (any::<bool>(), any::<bool>()).prop_map(move |(compress, checksum)| WriteOptions {
        compress,
        checksum,
        field_deadlines,
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(steps in vec(step(), 0..30), options in write_options(), piece in 1usize..70_000) {
        let file = encode(&steps, options);
        prop_assert_eq!(decode(&file[..], ReadOptions::default()).expect("a good file"), expected(&steps));
        paused::check(&file, ReadOptions::default());
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

    #[test]
    fn what_is_dumped_of_collections_is_restored(
        fields in vec((part(), part(), option::of(0..=i64::MAX)), 1..60),
        compress in any::<bool>(),
    ) {
        let pairs = || fields.iter().map(|(field, value, _)| (&field[..], &value[..]));
        let strings = || fields.iter().flat_map(|(field, value, _)| [&field[..], &value[..]]);
        let of = |kind, deadlines| Seen::Collection {
            key: Vec::new(),
            kind,
            strings: strings().map(<[u8]>::to_vec).collect(),
            deadlines,
            meta: EntryMeta::default(),
        };
        let dumped = |write: &dyn Fn(&mut PayloadWriter) -> io::Result<()>| {
            let mut writer = PayloadWriter::new(compress);
            write(&mut writer).and_then(|()| writer.finish()).expect("memory")
        };
        let list = of(CollectionKind::List, Vec::new());
        let at_once = dumped(&|writer| writer.small_list(strings()));
        prop_assert_eq!(&restore(&at_once).expect("a good payload"), &list);
        let one_by_one = dumped(&|writer| {
            writer.begin_list(2 * fields.len() as u64)?;
            strings().try_for_each(|element| writer.element(element))
        });
        prop_assert_eq!(&restore(&one_by_one).expect("a good payload"), &list);
        let hash = of(CollectionKind::Hash, vec![None; fields.len()]);
        let at_once = dumped(&|writer| writer.small_hash(pairs()));
        prop_assert_eq!(restore(&at_once).expect("a good payload"), hash);
        let one_by_one = dumped(&|writer| {
            writer.begin_hash(fields.len() as u64, true)?;
            fields.iter().try_for_each(|(field, value, deadline)| writer.field(field, value, *deadline))
        });
        let hash = of(CollectionKind::Hash, fields.iter().map(|(.., deadline)| *deadline).collect());
        prop_assert_eq!(restore(&one_by_one).expect("a good payload"), hash);
    }
}
