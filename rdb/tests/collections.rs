//! Lists and hashes in every form, put together by hand; what is refused; what is written.

mod paused;

use std::io;

use tercel_rdb::{
    CollectionKind, Decoder, Encoder, EntryMeta, Item, LoadedString, PayloadItem, PayloadWriter, RdbError, ReadOptions,
    StringValue, WriteOptions, open_payload, restore_string,
};

const RELAXED: ReadOptions = ReadOptions { checksum: true, version_check_strict: false, string_len_max: 512 << 20 };
const STRICT: ReadOptions = ReadOptions { version_check_strict: true, ..RELAXED };
const NO_META: EntryMeta = EntryMeta { expire_at_ms: None, idle_s: None, freq: None };
const META: EntryMeta = EntryMeta { expire_at_ms: Some(1_234_567_890_123), idle_s: Some(100), freq: Some(7) };
const END: &[u8] = b"\xFF\0\0\0\0\0\0\0\0";

/// A collection put together from its parts.
#[derive(Debug, PartialEq)]
struct Whole {
    kind: CollectionKind,
    strings: Vec<String>,
    deadlines: Vec<Option<i64>>,
    len_hint: u64,
}

impl Whole {
    fn new(kind: CollectionKind, len_hint: u64) -> Self {
        Self { kind, strings: Vec::new(), deadlines: Vec::new(), len_hint }
    }

    fn add(&mut self, parts: &tercel_rdb::Parts) {
        assert!(!parts.is_empty(), "parts without any");
        assert_eq!(parts.len(), parts.iter().count());
        self.strings.extend(parts.iter().map(|string| String::from_utf8_lossy(string).into_owned()));
        if self.kind == CollectionKind::Hash {
            assert_eq!(parts.len(), 2 * parts.fields().count());
            self.deadlines.extend(parts.fields().map(|(.., deadline_ms)| deadline_ms));
        }
    }
}

/// The collections of a file with their keys; other values are `None`.
fn read(file: &[u8], options: ReadOptions) -> Result<Vec<(String, Option<Whole>)>, RdbError> {
    paused::check(file, options);
    let mut decoder = Decoder::new(file, options)?;
    let mut keys: Vec<(String, Option<Whole>)> = Vec::new();
    let mut is_open = false;
    loop {
        let item = match decoder.next() {
            Ok(item) => item,
            Err(error) => {
                assert!(decoder.next().is_err(), "nothing comes after an error");
                return Err(error);
            }
        };
        assert_eq!(is_open, matches!(item, Item::Parts(_) | Item::Finished), "{item:?}");
        match item {
            Item::Begin { key, kind, len_hint, .. } => {
                is_open = true;
                keys.push((String::from_utf8_lossy(&key).into_owned(), Some(Whole::new(kind, len_hint))));
            }
            Item::Parts(parts) => {
                keys.last_mut().and_then(|(_, whole)| whole.as_mut()).expect("a collection").add(&parts);
            }
            Item::Finished => is_open = false,
            Item::Entry { key, .. } => keys.push((String::from_utf8_lossy(&key).into_owned(), None)),
            Item::End => return Ok(keys),
            _ => {}
        }
    }
}

fn seal(body: &[u8], version: u16) -> Vec<u8> {
    let unsealed = [body, &version.to_le_bytes(), &[1; 8]].concat();
    let Err(RdbError::Checksum { computed, .. }) = open_payload(&unsealed, RELAXED) else { panic!("a wrong checksum") };
    [&unsealed[..unsealed.len() - 8], &computed.to_le_bytes()].concat()
}

fn read_payload(payload: &[u8]) -> Result<Whole, RdbError> {
    let mut reader = open_payload(payload, RELAXED)?;
    let result = (|| {
        let PayloadItem::Begin { kind, len_hint } = reader.next()? else { panic!("a collection") };
        let mut whole = Whole::new(kind, len_hint);
        loop {
            match reader.next()? {
                PayloadItem::Parts(parts) => whole.add(&parts),
                PayloadItem::Finished => break,
                item => panic!("{item:?}"),
            }
        }
        assert_eq!(reader.next()?, PayloadItem::Finished);
        Ok(whole)
    })();
    assert!(result.is_ok() || reader.next().is_err(), "nothing comes after an error");
    result
}

/// What a value is, as a file and as a payload of the same version.
fn value(magic: &str, kind: u8, body: &[u8]) -> Result<Whole, RdbError> {
    let version: u16 = magic.trim_start_matches(|digit: char| !digit.is_ascii_digit()).parse().expect("a version");
    let file = [magic.as_bytes(), &[kind, 1, b'k'], body, b"\x00\x01s\x01v", END].concat();
    let of_file = read(&file, RELAXED);
    let of_payload = read_payload(&seal(&[&[kind], body].concat(), version));
    match (of_file, of_payload) {
        (Ok(mut keys), Ok(whole)) => {
            assert_eq!(keys.pop(), Some(("s".to_string(), None)));
            assert_eq!(keys, [("k".to_string(), Some(whole))]);
            Ok(keys.remove(0).1.expect("it was there"))
        }
        (Err(error), Err(_)) => Err(error),
        (of_file, of_payload) => panic!("{of_file:?} but {of_payload:?}"),
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

/// A string of up to 63 bytes.
fn string(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8], bytes].concat()
}

/// The strings 2 and hi.
const ZIPLIST: &[u8] = b"\x11\0\0\0\x0C\0\0\0\x02\0\x00\xF3\x02\x02hi\xFF";
const ZIPLIST_EMPTY: &[u8] = b"\x0B\0\0\0\x0A\0\0\0\0\0\xFF";
/// The strings hi and -1.
const LISTPACK: &[u8] = b"\x0E\0\0\0\x02\0\x82hi\x03\xDF\xFF\x02\xFF";
const LISTPACK_EMPTY: &[u8] = b"\x07\0\0\0\0\0\xFF";
/// The string 2.
const LISTPACK_ONE: &[u8] = b"\x09\0\0\0\x01\0\x02\x01\xFF";

#[test]
fn lists_of_every_form_are_read() {
    let nodes = |nodes: &[&[u8]]| [&[nodes.len() as u8], &nodes.concat()[..]].concat();
    let compressed = [b"\x03\xC3\x05\x15\x00a\xE0\x0B\x00", &string(b"x")[..], b"\xC1\x00\x80"].concat();
    for (kind, body, expected) in [
        (1, &compressed[..], &["aaaaaaaaaaaaaaaaaaaaa", "x", "-32768"][..]),
        (10, &string(ZIPLIST), &["2", "hi"]),
        (14, &nodes(&[&string(ZIPLIST), &string(ZIPLIST_EMPTY), &string(ZIPLIST)]), &["2", "hi", "2", "hi"]),
        (
            18,
            &[
                &b"\x04"[..],
                b"\x02",
                &string(LISTPACK),
                b"\x01\x05plain",
                b"\x02",
                &string(LISTPACK_EMPTY),
                b"\x02",
                &string(LISTPACK_ONE),
            ]
            .concat(),
            &["hi", "-1", "plain", "2"],
        ),
        // A plain node is a string like any other.
        (18, b"\x02\x01\xC0\x07\x01\xC3\x05\x15\x00a\xE0\x0B\x00", &["7", "aaaaaaaaaaaaaaaaaaaaa"]),
    ] {
        for magic in ["REDIS0011", "VALKEY080", "REDIS0012"] {
            let whole = value(magic, kind, body).expect("a good value");
            assert_eq!((whole.kind, &whole.strings[..]), (CollectionKind::List, &texts(expected)[..]), "{kind}");
            assert_eq!(whole.len_hint, expected.len() as u64);
        }
    }
}

#[test]
fn hashes_of_every_form_are_read() {
    let zipmap = string(b"\x02\x01a\x02\x02hi??\x01b\x00\x00\xFF");
    for (kind, body, expected) in [
        (4, &b"\x02\x01a\xC0\x05\x01b\x00"[..], &["a", "5", "b", ""][..]),
        (9, &zipmap, &["a", "hi", "b", ""]),
        (13, &string(ZIPLIST), &["2", "hi"]),
        (16, &string(LISTPACK), &["hi", "-1"]),
    ] {
        for magic in ["REDIS0006", "REDIS0011", "VALKEY080", "REDIS0013"] {
            let whole = value(magic, kind, body).expect("a good value");
            assert_eq!((whole.kind, &whole.strings[..]), (CollectionKind::Hash, &texts(expected)[..]), "{kind}");
            assert_eq!(whole.deadlines, vec![None; expected.len() / 2]);
            assert_eq!(whole.len_hint, expected.len() as u64 / 2);
        }
    }
}

#[test]
fn fields_that_expire_are_read() {
    // Valkey: count, field, value, deadline.
    let fields = [
        &b"\x04"[..],
        b"\x01a\x01x\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\x01b\x01y\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x01c\x01z\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F",
        b"\x01d\xC0\x07\x07\x00\x00\x00\x00\x00\x00\x00",
    ]
    .concat();
    let whole = value("VALKEY080", 22, &fields).expect("a good value");
    assert_eq!(whole.strings.concat(), "axbyczd7");
    assert_eq!(whole.deadlines, [None, Some(0), Some(i64::MAX), Some(7)]);
    // Redis: the earliest, count, deadline less that and plus one, field, value.
    let fields = b"\xE8\x03\0\0\0\0\0\0\x03\x00\x01a\x01x\x01\x01b\x01y\x40\x65\x01c\x01z";
    let whole = value("REDIS0012", 24, fields).expect("a good value");
    assert_eq!(whole.strings.concat(), "axbycz");
    assert_eq!(whole.deadlines, [None, Some(1000), Some(1100)]);
    // A release candidate: the deadline itself.
    let whole = value("REDIS0012", 22, &fields[8..]).expect("a good value");
    assert_eq!(whole.deadlines, [None, Some(1), Some(101)]);
    // Packed: field, value, deadline itself, in either.
    let listpack = b"\x17\0\0\0\x06\0\x81a\x02\x81x\x02\xC3\xE8\x02\x81b\x02\x05\x01\x00\x01\xFF";
    let whole =
        value("REDIS0012", 25, &[b"\xE8\x03\0\0\0\0\0\0", &string(listpack)[..]].concat()).expect("a good value");
    assert_eq!(whole.strings.concat(), "axb5");
    assert_eq!(whole.deadlines, [Some(1000), None]);
    assert_eq!(value("REDIS0013", 23, &string(listpack)).expect("a good value"), whole);
    // No deadline, the earliest of which is one more than any can be, as Redis keeps it.
    let none = b"\x00\x00\x00\x00\x00\x00\x01\x00\x01\x00\x01a\x01x";
    assert_eq!(value("REDIS0012", 24, none).expect("a good value").deadlines, [None]);
    // The latest there can be, and one more.
    let latest = |more: u8| [&[more], &b"\0\0\0\0\0\0\0\x01\x81\0\0\xFF\xFF\xFF\xFF\xFF\xFF\x01a\x01x"[..]].concat();
    assert_eq!(value("REDIS0012", 24, &latest(1)).expect("a good value").deadlines, [Some((1 << 48) - 1)]);
    assert!(matches!(value("REDIS0012", 24, &latest(2)), Err(RdbError::Corrupt { .. })));
    // A payload with a version that both had takes the type for Valkey's, as Valkey does.
    let body = b"\x16\x01\x01a\x01x\x05\0\0\0\0\0\0\0";
    assert_eq!(read_payload(&seal(body, 11)).expect("a good payload").deadlines, [Some(5)]);
}

#[test]
fn a_collection_with_nothing_in_it_is_no_key() {
    let nodes = [b"\x02\x02", &string(LISTPACK_EMPTY)[..], b"\x02", &string(LISTPACK_EMPTY)].concat();
    for (magic, kind, body) in [
        ("REDIS0011", 1, &b"\x00"[..]),
        ("REDIS0011", 4, b"\x00"),
        ("REDIS0011", 10, &string(ZIPLIST_EMPTY)),
        ("REDIS0011", 13, &string(ZIPLIST_EMPTY)),
        ("REDIS0011", 14, b"\x00"),
        ("REDIS0011", 14, &[b"\x01", &string(ZIPLIST_EMPTY)[..]].concat()),
        ("REDIS0011", 16, &string(LISTPACK_EMPTY)),
        ("REDIS0011", 18, b"\x00"),
        ("REDIS0011", 18, &nodes),
        ("VALKEY080", 22, b"\x00"),
        ("REDIS0012", 24, b"\0\0\0\0\0\0\0\0\x00"),
        ("REDIS0012", 25, &[b"\0\0\0\0\0\0\0\0", &string(LISTPACK_EMPTY)[..]].concat()),
    ] {
        // What is said of the key goes with it.
        let expiry = b"\xFC\x01\0\0\0\0\0\0\0";
        let file = [magic.as_bytes(), expiry, &[kind, 1, b'k'], body, b"\x00\x01s\x01v", END].concat();
        let mut decoder = Decoder::new(&file[..], RELAXED).expect("a good beginning");
        let entry = Item::Entry { key: b"s".to_vec(), value: LoadedString::Bytes(b"v".to_vec()), meta: NO_META };
        assert_eq!(decoder.next().expect("a good file"), entry, "{kind}");
        assert_eq!(decoder.next().expect("a good file"), Item::End);
        let version = if magic == "VALKEY080" { 80 } else { magic[5..].parse().expect("a version") };
        let payload = seal(&[&[kind], body].concat(), version);
        assert!(matches!(
            read_payload(&payload),
            Err(RdbError::Corrupt { at: 0, why: "a collection with nothing in it" })
        ));
    }
}

#[test]
fn damage_of_a_collection_is_told() {
    let cut = &string(&ZIPLIST[..16])[..];
    for (magic, kind, body, expected) in [
        ("REDIS0011", 18, &b"\x01\x03\x01a"[..], "a node of a list of an unknown kind"),
        ("REDIS0011", 18, b"\x01\x00\x01a", "a node of a list of an unknown kind"),
        ("REDIS0011", 18, b"\x01\x01\x00", "a node of a list with nothing in it"),
        ("REDIS0011", 18, b"\x01\x02\x00", "a listpack without a header"),
        (
            "REDIS0011",
            18,
            &[b"\x01\x02", &string(ZIPLIST)[..]].concat(),
            "an entry of a listpack whose length behind it is not its own",
        ),
        ("REDIS0011", 10, cut, "a ziplist whose size is not what it says"),
        ("REDIS0011", 14, &[b"\x01", cut].concat(), "a ziplist whose size is not what it says"),
        ("REDIS0011", 16, &string(LISTPACK_ONE), "a packed hash with a field that is not whole"),
        (
            "REDIS0011",
            13,
            b"\x0D\x0D\0\0\0\x0A\0\0\0\x01\0\x00\xF3\xFF",
            "a packed hash with a field that is not whole",
        ),
        ("REDIS0011", 9, b"\x02\x00\xFF", "an empty zipmap"),
        ("REDIS0012", 23, &string(LISTPACK), "a packed hash with a field that is not whole"),
        (
            "REDIS0012",
            23,
            b"\x0E\x0E\0\0\0\x03\0\x01\x01\x01\x01\x811\x02\xFF",
            "an expiry of a field that is no number",
        ),
        (
            "REDIS0012",
            23,
            b"\x0E\x0E\0\0\0\x03\0\x01\x01\x01\x01\xDF\xFF\x02\xFF",
            "an expiry of a field that cannot be one",
        ),
        ("REDIS0012", 24, b"\x01\0\0\0\0\0\x01\0\x01", "an earliest expiry of a hash that cannot be one"),
        ("REDIS0012", 25, b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", "an earliest expiry of a hash that cannot be one"),
        ("REDIS0012", 22, b"\x01\x81\0\x01\0\0\0\0\0\0\x01a\x01x", "an expiry of a field that cannot be one"),
        (
            "REDIS0012",
            24,
            b"\0\0\0\0\0\0\x01\0\x01\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01a\x01x",
            "an expiry of a field that cannot be one",
        ),
        ("VALKEY080", 22, b"\x01\x01a\x01x\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "an expiry of a field that cannot be one"),
        ("REDIS0011", 1, b"\xC0\x01", "an encoded string where a number should be"),
    ] {
        match value(magic, kind, body) {
            Err(RdbError::Corrupt { why, .. }) => assert_eq!(why, expected, "{kind} {body:?}"),
            other => panic!("{kind} {body:?}: {other:?}"),
        }
    }
    // Where: the blob.
    let file = [b"REDIS0011\x12\x01k\x02\x02", &string(LISTPACK)[..], b"\x02", cut, END].concat();
    assert!(matches!(read(&file, STRICT), Err(RdbError::Corrupt { at: 30, .. })));
    // In a payload nothing may follow.
    let body = [&b"\x10"[..], &string(LISTPACK), b"x"].concat();
    assert!(matches!(
        read_payload(&seal(&body, 11)),
        Err(RdbError::Corrupt { why: "there is data behind the value", .. })
    ));
    assert!(matches!(restore_string(&seal(&body, 11), STRICT), Err(RdbError::Unsupported { what: "hash", key: None })));
}

#[test]
fn strings_of_collections_have_the_limit_of_strings() {
    let short = ReadOptions { string_len_max: 4, ..STRICT };
    for value in [
        &b"\x01\x01k\x01\x05abcde"[..],
        b"\x04\x01k\x01\x05abcde\x01v",
        b"\x04\x01k\x01\x01f\x05abcde",
        b"\x12\x01k\x01\x01\x05abcde",
        b"\x12\x01k\x01\x02\xC3\x02\x05\x00a",
        b"\x10\x01k\x05abcde",
    ] {
        let file = [b"REDIS0011", value, END].concat();
        assert!(matches!(read(&file, short), Err(RdbError::TooLong { len: 5, len_max: 4, .. })), "{value:?}");
    }
}

fn uncompressed() -> WriteOptions {
    WriteOptions { compress: false, checksum: false, ..WriteOptions::default() }
}

#[test]
fn what_is_written_is_as_described() {
    let mut encoder =
        Encoder::new(Vec::new(), WriteOptions { field_deadlines: true, ..uncompressed() }).expect("memory");
    let mut steps = || {
        encoder.small_list(b"sl", [&b"hi"[..], b"-1"].into_iter(), &META)?;
        encoder.begin_list(b"l", 2, &NO_META)?;
        encoder.element(b"7")?;
        encoder.element(b"x")?;
        encoder.small_hash(b"sh", [(&b"hi"[..], &b"-1"[..])].into_iter(), &NO_META)?;
        encoder.begin_hash(b"h", 1, false, &NO_META)?;
        encoder.field(b"f", b"v", None)?;
        encoder.begin_hash(b"d", 3, true, &NO_META)?;
        encoder.field(b"a", b"1", None)?;
        encoder.field(b"b", b"2", Some(1))?;
        // As long past as -1 would be.
        encoder.field(b"c", b"3", Some(-1))?;
        encoder.entry(b"s", StringValue::Int(1), &NO_META)
    };
    steps().expect("memory");
    let file = encoder.finish().expect("memory");
    let expected = [
        &b"VALKEY080"[..],
        b"\xFC\xCB\x04\xFB\x71\x1F\x01\x00\x00\xF8\x40\x64\xF9\x07\x12\x02sl\x01\x02",
        &string(LISTPACK),
        b"\x01\x01l\x02\xC0\x07\x01x",
        b"\x10\x02sh",
        &string(LISTPACK),
        b"\x04\x01h\x01\x01f\x01v",
        b"\x16\x01d\x03",
        b"\x01a\xC0\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\x01b\xC0\x02\x01\0\0\0\0\0\0\0",
        b"\x01c\xC0\x03\0\0\0\0\0\0\0\0",
        b"\x00\x01s\xC0\x01",
        END,
    ]
    .concat();
    assert_eq!(file, expected);
    let encoder = Encoder::new(Vec::new(), uncompressed()).expect("memory");
    assert!(encoder.finish().expect("memory").starts_with(b"REDIS0011"));
    for (with_deadlines, version) in [(false, 11), (true, 80)] {
        let mut writer = PayloadWriter::new(true);
        writer.begin_hash(1, with_deadlines).expect("memory");
        writer.field(b"f", b"v", None).expect("memory");
        let len = writer.len();
        let payload = writer.finish().expect("memory");
        assert_eq!(len + 10, payload.len());
        assert_eq!(payload[len..len + 2], [version, 0]);
    }
}

#[test]
fn what_servers_differ_over_is_not_written() {
    // An entry of 16383 bytes in a listpack is one that Redis and Valkey do not read from each other.
    let disputed = vec![b'x'; 16_378];
    let mut writer = PayloadWriter::new(false);
    writer.small_list([&b"hi"[..], b"-1", &disputed, b"2"].into_iter()).expect("memory");
    let payload = writer.finish().expect("memory");
    let expected =
        [&b"\x12\x03\x02"[..], &string(LISTPACK), b"\x01\x7F\xFA", &disputed, b"\x02", &string(LISTPACK_ONE)].concat();
    assert_eq!(payload[..payload.len() - 10], expected);
    let mut writer = PayloadWriter::new(false);
    writer.small_hash([(&b"f"[..], &disputed[..]), (b"2", b"-1")].into_iter()).expect("memory");
    let payload = writer.finish().expect("memory");
    let expected = [&b"\x04\x02\x01f\x7F\xFA"[..], &disputed, b"\xC0\x02\xC0\xFF"].concat();
    assert_eq!(payload[..payload.len() - 10], expected);
    // In between it is read from both.
    let listpack = |back: &[u8]| {
        let len = (6 + 5 + disputed.len() + back.len() + 1) as u32;
        [&len.to_le_bytes()[..], b"\x01\0\xF0\xFA\x3F\0\0", &disputed, back, b"\xFF"].concat()
    };
    for back in [&b"\x7F\xFF"[..], b"\x00\xFF\xFF"] {
        let listpack = listpack(back);
        let len = (listpack.len() as u32).to_be_bytes();
        let whole = value("REDIS0011", 18, &[b"\x01\x02\x80", &len[..], &listpack].concat()).expect("a good value");
        assert_eq!(whole.strings.len(), 1);
    }
}

#[test]
fn a_collection_has_the_length_it_promised() {
    fn invalid<T>(result: io::Result<T>) {
        match result {
            Ok(_) => panic!("a misuse"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidInput),
        }
    }
    let mut encoder = Encoder::new(Vec::new(), uncompressed()).expect("memory");
    let begun = encoder.bytes_written();
    invalid(encoder.element(b"a"));
    invalid(encoder.field(b"a", b"b", None));
    invalid(encoder.small_list(b"k", std::iter::empty(), &META));
    invalid(encoder.small_hash(b"k", std::iter::empty(), &META));
    invalid(encoder.begin_list(b"k", 0, &META));
    invalid(encoder.begin_hash(b"k", 0, false, &META));
    invalid(encoder.begin_hash(b"k", 1, true, &META));
    assert_eq!(encoder.bytes_written(), begun);
    encoder.begin_list(b"l", 2, &NO_META).expect("memory");
    encoder.element(b"a").expect("memory");
    let written = encoder.bytes_written();
    invalid(encoder.piece(b"a"));
    invalid(encoder.field(b"a", b"b", None));
    invalid(encoder.begin_list(b"k", 1, &NO_META));
    invalid(encoder.small_list(b"k", [&b"a"[..]].into_iter(), &NO_META));
    invalid(encoder.small_hash(b"k", [(&b"a"[..], &b"b"[..])].into_iter(), &NO_META));
    invalid(encoder.entry(b"k", StringValue::Int(1), &NO_META));
    invalid(encoder.select_db(1));
    assert_eq!(encoder.bytes_written(), written);
    encoder.element(b"b").expect("memory");
    invalid(encoder.element(b"c"));
    encoder.begin_hash(b"h", 1, false, &NO_META).expect("memory");
    let written = encoder.bytes_written();
    invalid(encoder.element(b"a"));
    invalid(encoder.begin_hash(b"k", 1, false, &NO_META));
    invalid(encoder.field(b"a", b"b", Some(1)));
    assert_eq!(encoder.bytes_written(), written);
    encoder.field(b"a", b"b", None).expect("memory");
    invalid(encoder.field(b"c", b"d", None));
    let file = encoder.finish().expect("memory");
    assert_eq!(read(&file, STRICT).expect("a good file").len(), 2);
    let mut encoder = Encoder::new(Vec::new(), uncompressed()).expect("memory");
    encoder.begin_list(b"l", 1, &NO_META).expect("memory");
    invalid(encoder.finish());

    invalid(PayloadWriter::new(true).finish());
    let mut writer = PayloadWriter::new(true);
    invalid(writer.small_list(std::iter::empty()));
    writer.begin_list(2).expect("memory");
    writer.element(b"a").expect("memory");
    invalid(writer.string(StringValue::Int(1)));
    writer.element(b"a").expect("memory");
    invalid(writer.begin_long(1));
    assert_eq!(read_payload(&writer.finish().expect("memory")).expect("a list").strings, ["a", "a"]);
    let mut writer = PayloadWriter::new(true);
    writer.begin_hash(2, true).expect("memory");
    writer.field(b"a", b"b", Some(5)).expect("memory");
    invalid(writer.finish());
    let mut writer = PayloadWriter::new(true);
    writer.begin_long(3).expect("memory");
    writer.piece(b"abc").expect("memory");
    let payload = writer.finish().expect("memory");
    assert_eq!(restore_string(&payload, STRICT).expect("a string"), LoadedString::Bytes(b"abc".to_vec()));
}
