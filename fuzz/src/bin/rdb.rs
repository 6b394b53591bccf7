//! RDB files and payloads of DUMP: any bytes are read to an end or to an error, the same however they
//! arrive; and what could be read is written, with and without compression, at once and bit by bit, and
//! read back the same.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use tercel_rdb::{
    CollectionKind, Decoder, Encoder, EntryMeta, Item, LoadedString, Parts, PayloadItem, PayloadWriter, RdbError,
    ReadOptions, StringValue, WriteOptions, dump_string, open_payload, restore_string,
};

/// An input that gives so many bytes at a time.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let len = self.1.min(into.len());
        self.0.read(&mut into[..len])
    }
}

/// The same, with nothing there yet between any two pieces.
struct Paused<'a>(Trickle<'a>, bool);

impl Read for Paused<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.1 = !self.1;
        if self.1 { Err(std::io::ErrorKind::WouldBlock.into()) } else { self.0.read(into) }
    }
}

/// The items before the end or the error, which is given as text.
fn read(input: impl Read, options: ReadOptions) -> (Vec<Item>, Option<String>) {
    let mut items = Vec::new();
    let mut decoder = Decoder::deferred(input, options);
    loop {
        match decoder.next() {
            Ok(Item::End) => return (items, None),
            Ok(item) => items.push(item),
            Err(error) if error.is_would_block() => {}
            Err(error) => return (items, Some(error.to_string())),
        }
    }
}

/// A collection from its beginning to its end.
#[derive(Clone, Debug, PartialEq)]
struct Whole {
    kind: CollectionKind,
    strings: Vec<Vec<u8>>,
    deadlines: Vec<Option<i64>>,
}

impl Whole {
    fn new(kind: CollectionKind) -> Self {
        Self { kind, strings: Vec::new(), deadlines: Vec::new() }
    }

    fn add(&mut self, parts: &Parts) {
        assert!(!parts.is_empty());
        self.strings.extend(parts.iter().map(<[u8]>::to_vec));
        if self.kind == CollectionKind::Hash {
            assert_eq!(parts.len() % 2, 0);
            self.deadlines.extend(parts.fields().map(|(.., deadline_ms)| deadline_ms));
        }
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8], Option<i64>)> {
        self.strings
            .chunks(2)
            .zip(&self.deadlines)
            .map(|(pair, deadline_ms)| (&pair[0][..], &pair[1][..], *deadline_ms))
    }

    fn len(&self) -> u64 {
        match self.kind {
            CollectionKind::List => self.strings.len() as u64,
            CollectionKind::Hash => self.deadlines.len() as u64,
        }
    }

    fn expires(&self) -> bool {
        self.deadlines.iter().any(Option::is_some)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Item(Item),
    Collection(Vec<u8>, EntryMeta, Whole),
}

/// Puts collections together; one that is not whole is left out.
fn gather(items: &[Item]) -> Vec<Seen> {
    let mut all = Vec::new();
    let mut open = None;
    for item in items {
        match item {
            Item::Begin { key, kind, meta, .. } => open = Some((key.clone(), *meta, Whole::new(*kind))),
            Item::Parts(parts) => open.as_mut().expect("a collection").2.add(parts),
            Item::Finished => {
                let (key, meta, whole) = open.take().expect("a collection");
                all.push(Seen::Collection(key, meta, whole));
            }
            item => {
                assert!(open.is_none());
                all.push(Seen::Item(item.clone()));
            }
        }
    }
    all
}

fn value(loaded: &LoadedString) -> StringValue<'_> {
    match loaded {
        LoadedString::Int(number) => StringValue::Int(*number),
        LoadedString::Bytes(bytes) => StringValue::Bytes(bytes),
    }
}

/// Writes what there is to be written, and says which this is.
fn write(all: &[Seen], options: WriteOptions, piece: usize) -> (Vec<u8>, Vec<Seen>) {
    let mut encoder = Encoder::new(Vec::new(), options).expect("memory");
    let mut written = Vec::new();
    let mut db = None;
    for seen in all {
        match seen {
            Seen::Item(Item::Aux { key, value }) => match (std::str::from_utf8(key), std::str::from_utf8(value)) {
                (Ok(key), Ok(value)) => encoder.aux(key, value).expect("memory"),
                _ => continue,
            },
            Seen::Item(Item::SelectDb(number)) => {
                encoder.select_db(*number).expect("memory");
                if db.replace(*number) == Some(*number) {
                    continue;
                }
            }
            Seen::Item(Item::ResizeDb { keys, expires }) => encoder.resize_db(*keys, *expires).expect("memory"),
            Seen::Item(Item::Entry { key, value: LoadedString::Bytes(bytes), meta }) if piece > 0 => {
                encoder.begin_long(key, bytes.len() as u64, meta).expect("memory");
                for chunk in bytes.chunks(piece) {
                    encoder.piece(chunk).expect("memory");
                }
            }
            Seen::Item(Item::Entry { key, value: loaded, meta }) => {
                encoder.entry(key, value(loaded), meta).expect("memory");
            }
            Seen::Item(_) => continue,
            Seen::Collection(key, meta, whole) => match whole.kind {
                CollectionKind::List if piece > 0 => {
                    encoder.begin_list(key, whole.len(), meta).expect("memory");
                    whole.strings.iter().for_each(|element| encoder.element(element).expect("memory"));
                }
                CollectionKind::List => {
                    encoder.small_list(key, whole.strings.iter().map(Vec::as_slice), meta).expect("memory");
                }
                CollectionKind::Hash if piece > 0 || whole.expires() => {
                    encoder.begin_hash(key, whole.len(), whole.expires(), meta).expect("memory");
                    whole
                        .fields()
                        .for_each(|(field, value, at_ms)| encoder.field(field, value, at_ms).expect("memory"));
                }
                CollectionKind::Hash => {
                    let fields = whole.fields().map(|(field, value, _)| (field, value));
                    encoder.small_hash(key, fields, meta).expect("memory");
                }
            },
        }
        written.push(seen.clone());
    }
    (encoder.finish().expect("memory"), written)
}

/// The collection in a payload; `None` if it has a string.
fn restore(payload: &[u8], options: ReadOptions) -> Result<Option<Whole>, RdbError> {
    let mut reader = open_payload(payload, options)?;
    let mut whole = None;
    loop {
        match reader.next()? {
            PayloadItem::String(_) => {}
            PayloadItem::Begin { kind, .. } => whole = Some(Whole::new(kind)),
            PayloadItem::Parts(parts) => whole.as_mut().expect("a collection").add(&parts),
            PayloadItem::Finished => return Ok(whole),
        }
    }
}

fn dump(whole: &Whole, compress: bool, at_once: bool) -> Vec<u8> {
    let mut writer = PayloadWriter::new(compress);
    match whole.kind {
        CollectionKind::List if at_once => {
            writer.small_list(whole.strings.iter().map(Vec::as_slice)).expect("memory");
        }
        CollectionKind::List => {
            writer.begin_list(whole.len()).expect("memory");
            whole.strings.iter().for_each(|element| writer.element(element).expect("memory"));
        }
        CollectionKind::Hash if at_once && !whole.expires() => {
            writer.small_hash(whole.fields().map(|(field, value, _)| (field, value))).expect("memory");
        }
        CollectionKind::Hash => {
            writer.begin_hash(whole.len(), whole.expires()).expect("memory");
            whole.fields().for_each(|(field, value, at_ms)| writer.field(field, value, at_ms).expect("memory"));
        }
    }
    let len = writer.len();
    let payload = writer.finish().expect("memory");
    assert_eq!(payload.len(), len + 10);
    payload
}

fn try_payload(payload: &[u8], options: ReadOptions, compress: bool) {
    if let Ok(restored) = restore_string(payload, options) {
        let again = dump_string(value(&restored), compress);
        assert_eq!(restore_string(&again, options).expect("what was dumped"), restored);
    }
    if let Ok(Some(whole)) = restore(payload, options) {
        for at_once in [false, true] {
            let again = dump(&whole, compress, at_once);
            assert_eq!(restore(&again, ReadOptions::default()).expect("what was dumped").as_ref(), Some(&whole));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, bytes)) = data.split_first() else { return };
    let options = ReadOptions { checksum: false, version_check_strict: first & 1 == 0, string_len_max: 1 << 20 };
    let compress = first & 2 == 0;

    try_payload(bytes, options, compress);
    // Checksums are beyond guessing, so the footer is mended for a second try.
    if let Some((head, _)) = bytes.split_last_chunk::<8>()
        && let Err(RdbError::Checksum { computed, .. }) = open_payload(bytes, options)
    {
        try_payload(&[head, &computed.to_le_bytes()].concat(), options, compress);
    }

    let (items, error) = read(bytes, options);
    let trickle = || Trickle(bytes, usize::from(first >> 2) + 1);
    assert_eq!(read(trickle(), options), (items.clone(), error.clone()));
    assert_eq!(read(Paused(trickle(), false), options), (items.clone(), error));
    let _ = read(bytes, ReadOptions { checksum: true, ..options });

    let piece = usize::from(first >> 4) * 7;
    let options = WriteOptions { compress, checksum: first & 4 == 0, field_deadlines: true };
    let (file, written) = write(&gather(&items), options, piece);
    let (items, error) = read(&file[..], ReadOptions::default());
    assert_eq!((gather(&items), error), (written, None));
});
