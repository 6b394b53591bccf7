//! Files and payloads that real servers wrote (see `data/README.md`).

mod paused;

use std::collections::BTreeMap;

use tercel_rdb::{
    CollectionKind, Decoder, EntryMeta, Item, LoadedString, Magic, PayloadItem, PayloadWriter, RdbError, ReadOptions,
    StringValue, dump_string, open_payload, restore_string,
};

const VALKEY_STRINGS: &[u8] = include_bytes!("data/valkey-strings.rdb");
const VALKEY_PLAIN: &[u8] = include_bytes!("data/valkey-plain.rdb");
const VALKEY_LRU: &[u8] = include_bytes!("data/valkey-lru.rdb");
const VALKEY_LFU: &[u8] = include_bytes!("data/valkey-lfu.rdb");
const VALKEY_HASH: &[u8] = include_bytes!("data/valkey-hash.rdb");
const VALKEY_FUNCTION: &[u8] = include_bytes!("data/valkey-function.rdb");
const REDIS7_STRINGS: &[u8] = include_bytes!("data/redis7-strings.rdb");
const VALKEY_COLLECTIONS: &[u8] = include_bytes!("data/valkey-collections.rdb");
const REDIS8_COLLECTIONS: &[u8] = include_bytes!("data/redis8-collections.rdb");
const VALKEY_DUMPS: &str = include_str!("data/valkey-dumps.txt");

type Keys = BTreeMap<(u64, Vec<u8>), (Vec<u8>, EntryMeta)>;

struct File {
    magic: Magic,
    version: u32,
    aux: BTreeMap<String, String>,
    sizes: Vec<(u64, u64, u64)>,
    functions: Vec<String>,
    keys: Keys,
    collections: Vec<(String, CollectionKind, Vec<String>)>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn bytes_of(value: LoadedString) -> Vec<u8> {
    match value {
        LoadedString::Int(number) => number.to_string().into_bytes(),
        LoadedString::Bytes(bytes) => bytes,
    }
}

fn read(bytes: &[u8]) -> Result<File, RdbError> {
    paused::check(bytes, ReadOptions::default());
    let mut decoder = Decoder::new(bytes, ReadOptions::default())?;
    let mut file = File {
        magic: decoder.magic(),
        version: decoder.version(),
        aux: BTreeMap::new(),
        sizes: Vec::new(),
        functions: Vec::new(),
        keys: Keys::new(),
        collections: Vec::new(),
    };
    let mut db = 0;
    loop {
        match decoder.next()? {
            Item::Aux { key, value } => {
                file.aux.insert(text(&key), text(&value));
            }
            Item::SelectDb(selected) => db = selected,
            Item::ResizeDb { keys, expires } => file.sizes.push((db, keys, expires)),
            Item::SlotInfo { .. } => panic!("this is no cluster"),
            Item::Entry { key, value, meta } => {
                assert!(file.keys.insert((db, key), (bytes_of(value), meta)).is_none());
            }
            Item::Begin { key, kind, .. } => file.collections.push((text(&key), kind, Vec::new())),
            Item::Parts(parts) => {
                let (.., strings) = file.collections.last_mut().expect("a collection that was begun");
                strings.extend(parts.iter().map(text));
            }
            Item::Finished => {}
            Item::Function(code) => file.functions.push(text(&code)),
            Item::End => {
                assert_eq!(decoder.bytes_read(), bytes.len() as u64);
                return Ok(file);
            }
        }
    }
}

/// The incompressible text of `data/make`.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 7u64;
    std::iter::repeat_with(|| {
        state = (state * 69069 + 1) % (1 << 32);
        (33 + state / 65536 % 94) as u8
    })
    .take(len)
    .collect()
}

/// What `data/make` sets.
fn strings() -> Keys {
    let mut keys = Keys::new();
    let mut set = |db, key: &[u8], value: &[u8], expire_at_ms| {
        keys.insert((db, key.to_vec()), (value.to_vec(), EntryMeta { expire_at_ms, ..EntryMeta::default() }));
    };
    for number in
        [0, 127, -128, 128, 32767, -32768, 32768, 2147483647, -2147483648, 2147483648, -2147483649, i64::MAX, i64::MIN]
    {
        set(0, format!("number:{number}").as_bytes(), number.to_string().as_bytes(), None);
    }
    let sentences: Vec<_> = (1..=60)
        .map(|line| format!("Line {line} of a text that repeats itself, with {} in it.", line * line))
        .collect();
    set(0, b"12345", b"the key is a number", None);
    set(0, b"empty", b"", None);
    set(0, b"not-a-number", b"007", None);
    set(0, b"short", b"hello", None);
    set(0, b"noise:100", &noise(100), None);
    set(0, b"repeated:20000", &[b'a'; 20000], None);
    set(0, b"sentences", sentences.join("\n").as_bytes(), None);
    set(0, &b"key".repeat(20), b"the key is compressed", None);
    set(0, b"binary", b"a\0b\r\n\xFF", None);
    set(0, b"expires", b"soon", Some(4_102_444_800_123));
    set(3, b"in-db-3", b"three", None);
    set(3, b"expires-too", b"42", Some(4_102_444_800_000));
    set(15, b"in-db-15", b"fifteen", None);
    keys
}

#[test]
fn strings_of_every_encoding_are_read() {
    for (bytes, magic, version, server, server_version) in [
        (VALKEY_STRINGS, Magic::Valkey, 80, "valkey-ver", "9.1.2"),
        (VALKEY_PLAIN, Magic::Valkey, 80, "valkey-ver", "9.1.2"),
        (REDIS7_STRINGS, Magic::Redis, 10, "redis-ver", "7.0.15"),
    ] {
        let file = read(bytes).expect("a good file");
        assert_eq!((file.magic, file.version), (magic, version));
        assert_eq!(file.aux[server], server_version);
        assert_eq!(file.aux["redis-bits"], "64");
        assert_eq!(file.sizes, [(0, 23, 1), (3, 2, 1), (15, 1, 0)]);
        assert_eq!(file.keys, strings());
        assert!(file.functions.is_empty());
    }
    // What the two are for: one has compressed strings and a checksum, the other has neither.
    assert!(VALKEY_STRINGS.len() < 2_500 && VALKEY_PLAIN.len() > 20_000);
    assert!(!VALKEY_STRINGS.ends_with(&[0; 8]) && VALKEY_PLAIN.ends_with(&[0; 8]));
}

#[test]
fn what_a_policy_knows_of_keys_is_read() {
    let used = |bytes, key: &[u8]| read(bytes).expect("a good file").keys[&(0, key.to_vec())].1;
    assert_eq!(used(VALKEY_LRU, b"idle").idle_s, Some(100_000));
    assert!(used(VALKEY_LRU, b"fresh").idle_s.is_some_and(|idle_s| idle_s < 10));
    assert_eq!(used(VALKEY_LRU, b"fresh").freq, None);
    assert_eq!(used(VALKEY_LFU, b"often"), EntryMeta { freq: Some(200), ..EntryMeta::default() });
}

#[test]
fn a_hash_is_read() {
    let file = read(VALKEY_HASH).expect("a good file");
    let strings = ["name", "someone"].map(str::to_string).to_vec();
    assert_eq!(file.collections, [("user:1".to_string(), CollectionKind::Hash, strings)]);
    assert!(file.keys.is_empty());
}

/// A hash as it is in no order: values by their fields, with deadlines.
type Fields = BTreeMap<String, (String, Option<i64>)>;
type Lists = BTreeMap<String, Vec<String>>;
type Hashes = BTreeMap<String, Fields>;

/// The lists and hashes of a file.
fn collections(bytes: &[u8]) -> Result<(Lists, Hashes), RdbError> {
    paused::check(bytes, ReadOptions { version_check_strict: false, ..ReadOptions::default() });
    let mut decoder = Decoder::new(bytes, ReadOptions { version_check_strict: false, ..ReadOptions::default() })?;
    let (mut lists, mut hashes) = (Lists::new(), Hashes::new());
    let mut open = (String::new(), CollectionKind::List);
    loop {
        match decoder.next()? {
            Item::Begin { key, kind, .. } => open = (text(&key), kind),
            Item::Parts(parts) => match open.1 {
                CollectionKind::List => lists.entry(open.0.clone()).or_default().extend(parts.iter().map(text)),
                CollectionKind::Hash => hashes
                    .entry(open.0.clone())
                    .or_default()
                    .extend(parts.fields().map(|(field, value, at_ms)| (text(field), (text(value), at_ms)))),
            },
            Item::End => return Ok((lists, hashes)),
            _ => {}
        }
    }
}

#[test]
fn collections_of_real_servers_are_read() {
    let numbers = |range: std::ops::RangeInclusive<u64>| range.map(|number| number.to_string());
    let nodes: Vec<_> = numbers(1..=2000).chain([text(&noise(9000))]).chain(numbers(3000..=3010)).collect();
    let fields = |deadlines: &[(&str, i64)]| {
        let mut fields: Fields = numbers(1..=600).map(|number| (format!("field:{number}"), (number, None))).collect();
        for (field, at_ms) in deadlines {
            fields.get_mut(*field).expect("a field").1 = Some(*at_ms);
        }
        fields
    };
    let small = |fields: &[(&str, &str, Option<i64>)]| -> Fields {
        fields.iter().map(|(field, value, at_ms)| (field.to_string(), (value.to_string(), *at_ms))).collect()
    };
    for (file, magic, version) in [(VALKEY_COLLECTIONS, "VALKEY", 80), (REDIS8_COLLECTIONS, "REDIS", 13)] {
        assert!(file.starts_with(magic.as_bytes()));
        let decoder = Decoder::new(file, ReadOptions { version_check_strict: false, ..ReadOptions::default() });
        assert_eq!(decoder.expect("a good beginning").version(), version);
        let (lists, hashes) = collections(file).expect("a good file");
        assert_eq!(lists.len(), 2);
        assert_eq!(lists["list:small"], ["1", "two", "-3", ""]);
        assert_eq!(lists["list:nodes"], nodes);
        assert_eq!(hashes.len(), 4);
        assert_eq!(hashes["hash:plain"], small(&[("a", "1", None), ("b", "two", None)]));
        assert_eq!(hashes["hash:large"], fields(&[]));
        let expires =
            [("a", "1", None), ("b", "two", Some(4_102_444_800_123)), ("c", "three", Some(4_102_444_800_456))];
        assert_eq!(hashes["hash:expires"], small(&expires));
        let deadlines =
            [("field:7", 4_102_444_800_789), ("field:8", 4_102_444_800_789), ("field:9", 4_102_444_800_001)];
        assert_eq!(hashes["hash:large-expires"], fields(&deadlines));
    }
    // Redis's own versions are only read by those who want that.
    assert!(matches!(read(REDIS8_COLLECTIONS), Err(RdbError::Version { version: 13, .. })));
}

#[test]
fn functions_are_handed_out() {
    let file = read(VALKEY_FUNCTION).expect("a good file");
    let [code] = &file.functions[..] else { panic!("{:?}", file.functions) };
    assert!(code.starts_with("#!lua name=mylib\n") && code.ends_with("end)"), "{code}");
    assert_eq!(file.keys.len(), 1);
}

/// Reads to the end, whatever it holds.
fn drain(bytes: &[u8]) -> Result<(), RdbError> {
    let mut decoder = Decoder::new(bytes, ReadOptions::default())?;
    while decoder.next()? != Item::End {}
    Ok(())
}

#[test]
fn no_change_of_a_byte_of_a_real_file_passes() {
    for file in [VALKEY_STRINGS, REDIS7_STRINGS, VALKEY_FUNCTION, VALKEY_LRU, VALKEY_LFU, VALKEY_HASH] {
        assert!(drain(file).is_ok());
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut bad = file.to_vec();
                bad[at] ^= 1 << bit;
                assert!(drain(&bad).is_err(), "bit {bit} of byte {at}");
            }
            assert!(matches!(drain(&file[..at]), Err(RdbError::Truncated { .. })), "cut at {at}");
        }
    }
}

/// When the field of `hash-field-expiry` expires.
const FIELD_DEADLINE_MS: i64 = 3_795_272_709_087;

/// The collection in a payload, and the same written by us.
fn restore_collection(payload: &[u8]) -> (CollectionKind, Vec<String>, Vec<Option<i64>>, Vec<u8>) {
    let mut reader = open_payload(payload, ReadOptions::default()).expect("a good payload");
    let PayloadItem::Begin { kind, len_hint } = reader.next().expect("a collection") else { panic!("no collection") };
    let PayloadItem::Parts(parts) = reader.next().expect("parts") else { panic!("no parts") };
    assert_eq!(reader.next().expect("the end"), PayloadItem::Finished);
    let deadlines: Vec<_> = parts.fields().map(|(.., deadline)| deadline).collect();
    let mut writer = PayloadWriter::new(true);
    let written = match kind {
        CollectionKind::List => writer.small_list(parts.iter()),
        CollectionKind::Hash if deadlines.iter().any(Option::is_some) => {
            let mut written = writer.begin_hash(len_hint, true);
            for (field, value, deadline) in parts.fields() {
                written = written.and_then(|()| writer.field(field, value, deadline));
            }
            written
        }
        CollectionKind::Hash => writer.small_hash(parts.fields().map(|(field, value, _)| (field, value))),
    };
    written.expect("memory");
    (kind, parts.iter().map(text).collect(), deadlines, writer.finish().expect("memory"))
}

#[test]
fn payloads_of_dump_are_read() {
    let mut strings = 0;
    for line in VALKEY_DUMPS.lines() {
        let (name, hex) = line.split_once(' ').expect("two words");
        let payload: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal"))
            .collect();
        let restored = restore_string(&payload, ReadOptions::default());
        let body = |payload: &[u8]| payload[..payload.len() - 10].to_vec();
        let expected = match name {
            "string:number" => b"77".to_vec(),
            "string:text" => b"some text".to_vec(),
            "string:repeated" => b"ab".repeat(100),
            "string:noise" => noise(60),
            "list" => {
                let (kind, strings, _, ours) = restore_collection(&payload);
                assert_eq!((kind, strings.concat().as_str()), (CollectionKind::List, "abc"));
                assert_eq!(body(&ours), body(&payload));
                continue;
            }
            "hash" => {
                let (kind, strings, deadlines, ours) = restore_collection(&payload);
                assert_eq!((kind, strings.concat().as_str()), (CollectionKind::Hash, "ab"));
                assert_eq!(deadlines, [None]);
                assert_eq!(body(&ours), body(&payload));
                continue;
            }
            "hash-field-expiry" => {
                let (kind, strings, deadlines, ours) = restore_collection(&payload);
                assert_eq!((kind, strings.concat().as_str()), (CollectionKind::Hash, "abcd"));
                assert_eq!(deadlines, [Some(FIELD_DEADLINE_MS), None]);
                // With the version, which is Valkey's here.
                assert_eq!(ours, payload);
                continue;
            }
            name => {
                let type_name = match name {
                    "intset" => "set",
                    "sorted-set" => "sorted set",
                    name => name,
                };
                match restored {
                    Err(RdbError::Unsupported { what, key: None }) => assert_eq!(what, type_name),
                    other => panic!("{name}: {other:?}"),
                }
                continue;
            }
        };
        strings += 1;
        assert_eq!(bytes_of(restored.expect("a string")), expected, "{name}");
        // Ours is the same but for the version, where there is only one way to encode a string.
        if name != "string:repeated" {
            let ours = dump_string(StringValue::Bytes(&expected), true);
            assert_eq!(ours[..ours.len() - 10], payload[..payload.len() - 10], "{name}");
        }
    }
    assert_eq!(strings, 4);
}
