//! The bytes themselves, put together by hand from the description of the format, and what is refused.

mod paused;

use std::io::{self, Write};

use tercel_rdb::{
    Decoder, Encoder, EntryMeta, Item, LoadedString, Magic, RdbError, ReadOptions, StringValue, WriteOptions,
    dump_string, restore_string,
};

const RELAXED: ReadOptions = ReadOptions { checksum: true, version_check_strict: false, string_len_max: 512 << 20 };
const STRICT: ReadOptions = ReadOptions { version_check_strict: true, ..RELAXED };

/// The parts of a file without its checksum, and that.
const PARTS: &[&[u8]] = &[
    b"REDIS0011",
    b"\xFA\x09redis-ver\x057.2.4",
    b"\xFA\x0Aredis-bits\xC0\x40",
    b"\xFE\x00",
    b"\xFB\x04\x01",
    b"\x00\x05hello\x05world",
    b"\xFC\xCB\x04\xFB\x71\x1F\x01\x00\x00\xF8\x40\x64\xF9\x07\x00\xC0\x0C\xC1\x39\x30",
    b"\x00\x04long\x06abcdef",
    b"\x00\x00\xC3\x05\x15\x00a\xE0\x0B\x00",
    b"\xFF",
];
const CRC: u64 = 0xACEC_29D6_7C1C_80A6;

const META: EntryMeta = EntryMeta { expire_at_ms: Some(1_234_567_890_123), idle_s: Some(100), freq: Some(7) };
const NO_META: EntryMeta = EntryMeta { expire_at_ms: None, idle_s: None, freq: None };

fn write(options: WriteOptions) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), options).expect("memory");
    let mut steps = || {
        encoder.aux("redis-ver", "7.2.4")?;
        encoder.aux("redis-bits", "64")?;
        encoder.select_db(0)?;
        encoder.select_db(0)?;
        encoder.resize_db(4, 1)?;
        encoder.entry(b"hello", StringValue::Bytes(b"world"), &NO_META)?;
        encoder.entry(b"12", StringValue::Int(12345), &META)?;
        encoder.begin_long(b"long", 6, &NO_META)?;
        encoder.piece(b"abc")?;
        encoder.piece(b"")?;
        encoder.piece(b"def")?;
        encoder.entry(b"", StringValue::Bytes(&[b'a'; 21]), &NO_META)
    };
    steps().expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn the_file_is_as_described() {
    let body = PARTS.concat();
    assert_eq!(write(WriteOptions::default()), [&body[..], &CRC.to_le_bytes()].concat());
    assert_eq!(write(WriteOptions { checksum: false, ..WriteOptions::default() }), [&body[..], &[0; 8]].concat());
    let mut parts = PARTS.to_vec();
    let plain = [b"\x00\x00\x15", &[b'a'; 21][..]].concat();
    parts[8] = &plain;
    assert_eq!(
        write(WriteOptions { checksum: false, compress: false, ..WriteOptions::default() }),
        [parts.concat(), vec![0; 8]].concat()
    );
}

#[test]
fn payloads_are_as_described() {
    let cases: [(StringValue<'_>, &[u8]); 3] = [
        (StringValue::Int(77), b"\x00\xC0\x4D\x0B\x00\x5E\x97\x84\xCA\xCA\x77\x47\x55"),
        (StringValue::Bytes(b"hello"), b"\x00\x05hello\x0B\x00\x0A\xAD\x62\x05\x98\xAB\xC9\x83"),
        (StringValue::Bytes(&[b'a'; 21]), b"\x00\xC3\x05\x15\x00a\xE0\x0B\x00\x0B\x00\x82\x00\xBE\xB5\xA2\xBA\xA3\x2E"),
    ];
    for (value, expected) in cases {
        assert_eq!(dump_string(value, true), expected);
        assert!(restore_string(expected, STRICT).is_ok());
    }
}

fn file(magic: &str, parts: &[&[u8]]) -> Vec<u8> {
    [magic.as_bytes(), &parts.concat()].concat()
}

/// All of a file, or why not.
fn read(bytes: &[u8], options: ReadOptions) -> Result<Vec<Item>, RdbError> {
    paused::check(bytes, options);
    let mut decoder = Decoder::new(bytes, options)?;
    let mut items = Vec::new();
    loop {
        match decoder.next() {
            Ok(Item::End) => return Ok(items),
            Ok(item) => items.push(item),
            Err(error) => {
                assert!(decoder.next().is_err(), "nothing comes after an error");
                return Err(error);
            }
        }
    }
}

fn entry(key: &[u8], value: &[u8], meta: EntryMeta) -> Item {
    Item::Entry { key: key.to_vec(), value: LoadedString::Bytes(value.to_vec()), meta }
}

const END: &[u8] = b"\xFF\0\0\0\0\0\0\0\0";
const ENTRY: &[u8] = b"\x00\x01k\x01v";

#[test]
fn every_opcode_of_strings_is_read() {
    let bytes = file(
        "VALKEY080",
        &[
            b"\xFA\xC0\x07\xC1\x00\x01",
            b"\xF4\x43\xE8\x0A\x80\x00\x01\x00\x00",
            b"\xF5\x07#!lua x",
            b"\xFE\x81\0\0\0\0\0\0\x01\0",
            b"\xFB\x40\x01\x00",
            b"\xFD\xFF\xFF\xFF\x7F",
            ENTRY,
            // What is said before a database is chosen still counts for the next key, as in Valkey.
            b"\xFC\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F\xFE\x02",
            ENTRY,
            b"\xF8\x05\xF9\xFF",
            ENTRY,
            b"\xFC\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            ENTRY,
            b"\xFD\xFF\xFF\xFF\xFF",
            b"\x00\xC2\xFF\xFF\xFF\xFF\xC0\xFF",
            b"\x00\x01n\x14-9223372036854775808",
            END,
            b"what follows",
        ],
    );
    let mut decoder = Decoder::new(&bytes[..], STRICT).expect("a good beginning");
    assert_eq!((decoder.magic(), decoder.version(), decoder.bytes_read()), (Magic::Valkey, 80, 9));
    let expire = |at| EntryMeta { expire_at_ms: Some(at), ..NO_META };
    for expected in [
        Item::Aux { key: b"7".to_vec(), value: b"256".to_vec() },
        Item::SlotInfo { slot: 1000, keys: 10, expires: 65536 },
        Item::Function(b"#!lua x".to_vec()),
        Item::SelectDb(256),
        Item::ResizeDb { keys: 1, expires: 0 },
        entry(b"k", b"v", expire(i64::from(i32::MAX) * 1000)),
        Item::SelectDb(2),
        entry(b"k", b"v", expire(i64::MAX)),
        entry(b"k", b"v", EntryMeta { idle_s: Some(5), freq: Some(255), ..NO_META }),
        // Valkey's sign for no expiry.
        entry(b"k", b"v", NO_META),
        Item::Entry { key: b"-1".to_vec(), value: LoadedString::Int(-1), meta: expire(-1000) },
        Item::Entry { key: b"n".to_vec(), value: LoadedString::Int(i64::MIN), meta: NO_META },
        Item::End,
        Item::End,
    ] {
        assert_eq!(decoder.next().expect("a good file"), expected);
    }
    assert_eq!(decoder.bytes_read(), bytes.len() as u64 - 12);
    let (rest, ahead) = decoder.into_inner();
    assert_eq!([&ahead, rest].concat(), b"what follows");
}

#[test]
fn an_expiry_that_means_none_is_not_written() {
    let mut encoder = Encoder::new(Vec::new(), WriteOptions::default()).expect("memory");
    encoder.entry(b"k", StringValue::Bytes(b"v"), &EntryMeta { expire_at_ms: Some(-1), ..NO_META }).expect("memory");
    let bytes = encoder.finish().expect("memory");
    let expire = EntryMeta { expire_at_ms: Some(0), ..NO_META };
    assert_eq!(read(&bytes, STRICT).expect("a good file"), [entry(b"k", b"v", expire)]);
}

#[test]
fn versions_are_told() {
    for (magic, strict, relaxed) in [
        ("REDIS0001", true, true),
        ("REDIS0011", true, true),
        ("REDIS0012", false, true),
        ("REDIS0079", false, true),
        ("REDIS0080", false, false),
        ("REDIS0000", false, false),
        ("VALKEY079", false, false),
        ("VALKEY080", true, true),
        ("VALKEY081", false, true),
    ] {
        let old = magic == "REDIS0001";
        let bytes = file(magic, &[ENTRY, if old { b"\xFF" } else { END }]);
        for (options, expected) in [(STRICT, strict), (RELAXED, relaxed)] {
            match read(&bytes, options) {
                Ok(items) => assert!(expected && items.len() == 1, "{magic} {options:?}"),
                Err(RdbError::Version { .. }) => assert!(!expected, "{magic} {options:?}"),
                Err(error) => panic!("{magic} {options:?}: {error}"),
            }
        }
    }
    for no_rdb in ["REDIS001a", "REDIX0011", "VALKEY08x", "valkey080", "hello, world", "#!/bin/sh", "x", "VALKEZ"] {
        assert!(matches!(read(no_rdb.as_bytes(), RELAXED), Err(RdbError::NotRdb)), "{no_rdb}");
    }
    for cut in ["", "R", "REDIS", "REDIS001", "VALKEY", "VALKEY08", "REDIS0011", "VALKEY080"] {
        assert!(matches!(read(cut.as_bytes(), RELAXED), Err(RdbError::Truncated { .. })), "{cut}");
    }
    // With a checksum it would not be of version 4.
    assert!(matches!(read(&file("REDIS0004", &[ENTRY, END]), STRICT), Err(RdbError::Corrupt { .. })));
}

#[test]
fn what_there_is_no_place_for_is_named() {
    let unsupported = |magic: &str, part: &[u8]| match read(&file(magic, &[part, ENTRY, END]), RELAXED) {
        Err(RdbError::Unsupported { what, key }) => (what, key),
        other => panic!("{magic} {part:?}: {other:?}"),
    };
    for (kind, expected) in [
        (2, "set"),
        (3, "sorted set"),
        (5, "sorted set"),
        (6, "value of a module"),
        (7, "value of a module"),
        (11, "set"),
        (12, "sorted set"),
        (15, "stream"),
        (17, "sorted set"),
        (19, "stream"),
        (20, "set"),
        (21, "stream"),
    ] {
        assert_eq!(unsupported("VALKEY080", &[kind, 3, b'k', b'e', b'y']), (expected, Some(b"key".to_vec())));
    }
    // In a file that is older than such types.
    assert_eq!(unsupported("REDIS0011", &[24, 1, b'k']).0, "hash with fields that expire");
    assert_eq!(unsupported("REDIS0011", &[22, 1, b'k']).0, "hash with fields that expire");
    for (kind, expected) in [(26, "stream"), (40, "type of values that only Redis has")] {
        assert_eq!(unsupported("REDIS0012", &[kind, 1, b'k']), (expected, Some(b"k".to_vec())));
    }
    assert_eq!(unsupported("REDIS0012", &[243]).0, "module's note on a key");
    assert_eq!(unsupported("VALKEY080", &[243]).0, "slot import");
    assert_eq!(unsupported("VALKEY080", &[247]).0, "module aux");
    assert_eq!(unsupported("REDIS0010", &[246]).0, "function of a release candidate of 7.0");
    assert_eq!(unsupported("VALKEY081", &[100]).0, "type or opcode that is unknown here");
    for unknown in [8, 23, 100, 242] {
        let bytes = file("VALKEY080", &[&[unknown], ENTRY, END]);
        assert!(matches!(read(&bytes, STRICT), Err(RdbError::Corrupt { at: 9, .. })), "{unknown}");
    }
    let error = RdbError::Unsupported { what: "hash", key: Some(b"a\x00key".to_vec()) };
    assert_eq!(error.to_string(), "the data holds a hash, which is not supported (key 'a\\x00key')");
}

#[test]
fn damage_is_told_apart() {
    let mut bad = [&PARTS.concat()[..], &CRC.to_le_bytes()].concat();
    assert_eq!(read(&bad, STRICT).expect("a good file").len(), 8);
    let last = bad.len() - 1;
    bad[last] ^= 1;
    assert!(matches!(
        read(&bad, STRICT),
        Err(RdbError::Checksum { computed: CRC, stored, .. }) if stored == CRC ^ 1 << 56
    ));
    assert!(read(&bad, ReadOptions { checksum: false, ..STRICT }).is_ok());
    for (part, why) in [
        (&b"\x00\x01k\x82"[..], "an unknown encoding of a length"),
        (b"\x00\x01k\xC4", "an unknown encoding of a string"),
        (b"\xFE\xC0\x01", "an encoded string where a number should be"),
        (b"\x00\x01k\xC3\x01\x40\x59\x61", "a compressed string claims more than it can hold"),
        (b"\x00\x01k\xC3\x02\x02\x00a", "a compressed string is shorter than it says"),
    ] {
        match read(&file("REDIS0011", &[part, END]), STRICT) {
            Err(RdbError::Corrupt { why: told, .. }) => assert_eq!(told, why),
            other => panic!("{part:?}: {other:?}"),
        }
    }
    let short = ReadOptions { string_len_max: 4, ..STRICT };
    for part in [&b"\x00\x05abcde\x01v"[..], b"\x00\x01k\x05abcde", b"\x00\x01k\xC3\x02\x05\x00a", b"\xF5\x05abcde"] {
        match read(&file("REDIS0011", &[part, END]), short) {
            Err(RdbError::TooLong { len: 5, len_max: 4, .. }) => {}
            other => panic!("{part:?}: {other:?}"),
        }
    }
    assert_eq!(read(&file("REDIS0011", &[b"\x00\x01k\x04abcd", END]), short).expect("just short enough").len(), 1);
}

#[test]
fn payloads_are_refused_with_their_reasons() {
    let good = dump_string(StringValue::Bytes(b"hello"), true);
    let sealed = |body: &[u8], version: u16| {
        let mut payload = [body, &version.to_le_bytes()].concat();
        // The checksum of a file without one of its own is not compared, so this one is the library's.
        let crc = match restore_string(&[&payload[..], &[1; 8]].concat(), STRICT) {
            Err(RdbError::Checksum { computed, .. }) => computed,
            other => panic!("{other:?}"),
        };
        payload.extend_from_slice(&crc.to_le_bytes());
        payload
    };
    assert_eq!(sealed(b"\x00\x05hello", 11), good);
    for cut in 0..good.len() {
        assert!(matches!(restore_string(&good[..cut], STRICT), Err(RdbError::Checksum { .. })), "{cut}");
    }
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(matches!(restore_string(&bad, STRICT), Err(RdbError::Checksum { .. })), "{at} {bit}");
        }
    }
    let hello = b"\x00\x05hello";
    assert!(restore_string(&sealed(hello, 80), STRICT).is_ok());
    for version in [0, 12, 79, 81, 65535] {
        let payload = sealed(hello, version);
        assert!(matches!(restore_string(&payload, STRICT), Err(RdbError::Checksum { .. })), "{version}");
        assert_eq!(restore_string(&payload, RELAXED).is_ok(), version > 0, "{version}");
    }
    assert!(matches!(
        restore_string(&sealed(b"\x04\x01\x01a\x01b", 11), STRICT),
        Err(RdbError::Unsupported { what: "hash", key: None })
    ));
    assert!(matches!(
        restore_string(&sealed(b"\x02\x01\x01a", 11), STRICT),
        Err(RdbError::Unsupported { what: "set", key: None })
    ));
    for body in [&b""[..], b"\x00", b"\x00\x05hell", b"\x00\x05hello!", b"\xFF", b"\x08\x00", b"\x00\xC7"] {
        assert!(matches!(restore_string(&sealed(body, 11), STRICT), Err(RdbError::Corrupt { .. })), "{body:?}");
    }
    let short = ReadOptions { string_len_max: 4, ..STRICT };
    assert!(matches!(restore_string(&good, short), Err(RdbError::TooLong { .. })));
}

#[test]
fn a_long_value_has_the_length_it_promised() {
    let invalid = |result: io::Result<()>| {
        assert_eq!(result.expect_err("a misuse").kind(), io::ErrorKind::InvalidInput);
    };
    let mut encoder = Encoder::new(Vec::new(), WriteOptions::default()).expect("memory");
    invalid(encoder.piece(b"a"));
    encoder.begin_long(b"k", 3, &NO_META).expect("memory");
    encoder.piece(b"ab").expect("memory");
    invalid(encoder.piece(b"cd"));
    invalid(encoder.entry(b"k", StringValue::Int(1), &NO_META));
    invalid(encoder.begin_long(b"k", 1, &NO_META));
    invalid(encoder.aux("a", "b"));
    invalid(encoder.select_db(1));
    invalid(encoder.resize_db(1, 1));
    encoder.piece(b"c").expect("memory");
    invalid(encoder.piece(b"d"));
    encoder.begin_long(b"l", 0, &NO_META).expect("memory");
    let bytes = encoder.finish().expect("memory");
    assert_eq!(read(&bytes, STRICT).expect("a good file"), [entry(b"k", b"abc", NO_META), entry(b"l", b"", NO_META)]);
    let mut encoder = Encoder::new(Vec::new(), WriteOptions::default()).expect("memory");
    encoder.begin_long(b"k", 1, &NO_META).expect("memory");
    invalid(encoder.finish().map(drop));
}

/// An output that is full after so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.0);
        self.0 -= len;
        if len == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(len) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_output_that_failed_stays_so() {
    for room in [0, 100, 70_000, 300_000] {
        let mut encoder = Encoder::new(Full(room), WriteOptions::default()).expect("nothing is written yet");
        let value = vec![7; 1000];
        let entry = |encoder: &mut Encoder<Full>| encoder.entry(b"k", StringValue::Bytes(&value), &NO_META);
        encoder.begin_long(b"l", 1 << 30, &NO_META).and_then(|()| encoder.piece(&vec![1; 400_000])).expect_err("full");
        assert!(encoder.piece(b"x").is_err());
        assert!(entry(&mut encoder).is_err());
        assert!(encoder.finish().is_err());
    }
    let encoder = Encoder::new(Full(10), WriteOptions::default()).expect("nothing is written yet");
    assert_eq!(encoder.finish().map(drop).expect_err("full").kind(), io::ErrorKind::StorageFull);
}
