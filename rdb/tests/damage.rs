//! Damaged files: every truncation and every change of one byte of small files, and lengths that are
//! not true. Nothing panics, nothing passes a checksum, and no memory is taken for what is not there.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Read;

use proptest::collection::vec;
use proptest::prelude::*;
use tercel_rdb::{
    Decoder, Encoder, EntryMeta, Item, RdbError, ReadOptions, StringValue, WriteOptions, dump_string, restore_string,
};

/// Counts what the current thread holds, and the most it held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static HELD_MAX: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that is ending has no such variables any more, and nothing to be counted.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = HELD_MAX.try_with(|max| max.set(max.get().max(held.get())));
    });
}

// SAFETY: everything is the system allocator's; counting neither allocates nor touches the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the system allocator's contract, which is this one's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the system allocator's contract, which is this one's.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory held at once during `what`, beyond what was held before.
fn memory_of<T>(what: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    HELD_MAX.set(before);
    let result = what();
    (result, (HELD_MAX.get() - before) as usize)
}

fn decode(bytes: impl Read, options: ReadOptions) -> Result<Vec<Item>, RdbError> {
    let mut decoder = Decoder::new(bytes, options)?;
    let mut items = Vec::new();
    loop {
        match decoder.next()? {
            Item::End => return Ok(items),
            item => items.push(item),
        }
    }
}

const OPTIONS: ReadOptions = ReadOptions { checksum: true, version_check_strict: false, string_len_max: 512 << 20 };

/// A small file with all there is in it.
fn small_file(options: WriteOptions) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), options).expect("memory");
    let mut steps = || {
        let meta = EntryMeta { expire_at_ms: Some(1_900_000_000_000), idle_s: Some(70_000), freq: Some(9) };
        encoder.aux("tercel-ver", "0.1.0")?;
        encoder.aux("ctime", "1900000000")?;
        encoder.select_db(0)?;
        encoder.resize_db(5, 1)?;
        encoder.entry(b"plain", StringValue::Bytes(b"value"), &EntryMeta::default())?;
        encoder.entry(b"12", StringValue::Int(-70_000), &meta)?;
        encoder.entry(b"text", StringValue::Bytes(&b"the same, and ".repeat(9)), &meta)?;
        encoder.entry(&[b'k'; 70], StringValue::Int(i64::MIN), &EntryMeta::default())?;
        encoder.select_db(300)?;
        encoder.begin_long(b"long", 100, &EntryMeta::default())?;
        encoder.piece(&[200; 100])?;
        let strings = [&b"some"[..], b"-3", b"70000", b"", b"a b a b a b a b a b a b a b", b"last"];
        let pairs = || strings.chunks(2).map(|pair| (pair[0], pair[1]));
        encoder.small_list(b"sl", strings.into_iter(), &meta)?;
        encoder.small_hash(b"sh", pairs(), &EntryMeta::default())?;
        encoder.begin_list(b"l", 6, &EntryMeta::default())?;
        strings.iter().try_for_each(|element| encoder.element(element))?;
        encoder.begin_hash(b"h", 3, options.field_deadlines, &meta)?;
        pairs().try_for_each(|(field, value)| {
            let deadline_ms = (options.field_deadlines && field != b"some").then_some(1_900_000_000_000);
            encoder.field(field, value, deadline_ms)
        })
    };
    steps().expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn every_truncation_is_noticed() {
    for compress in [false, true] {
        for checksum in [false, true] {
            let file = small_file(WriteOptions { compress, checksum, field_deadlines: checksum });
            assert!(decode(&file[..], OPTIONS).is_ok());
            for len in 0..file.len() {
                assert!(matches!(decode(&file[..len], OPTIONS), Err(RdbError::Truncated { at }) if at <= len as u64));
            }
        }
    }
}

#[test]
fn no_change_of_a_byte_passes_the_checksum() {
    for compress in [false, true] {
        let file = small_file(WriteOptions { compress, ..WriteOptions::default() });
        for at in 0..file.len() {
            for change in 1..=255 {
                let mut bad = file.clone();
                bad[at] ^= change;
                assert!(decode(&bad[..], OPTIONS).is_err(), "byte {at} changed by {change:#x}");
            }
        }
    }
}

#[test]
fn no_change_of_a_byte_panics_or_takes_memory() {
    let mut results = [0, 0];
    for compress in [false, true] {
        let file = small_file(WriteOptions { compress, checksum: false, ..WriteOptions::default() });
        for at in 0..file.len() {
            for change in 1..=255 {
                let mut bad = file.clone();
                bad[at] ^= change;
                let (result, held) = memory_of(|| decode(&bad[..], OPTIONS));
                assert!(held < 300_000, "{held} bytes for byte {at} changed by {change:#x}");
                results[usize::from(result.is_ok())] += 1;
            }
        }
    }
    // Without a checksum a change inside of a key or a value is one nobody can see.
    assert!(results.iter().all(|&count| count > 10_000), "{results:?}");
}

/// Files with the forms that are read and not written.
fn old_forms() -> [Vec<u8>; 3] {
    let ziplist = b"\x1B\0\0\0\x14\0\0\0\x04\0\x00\x02hi\x04\xF3\x02\xC0\x00\x80\x04\x04last\xFF";
    let string = |blob: &[u8]| [&[blob.len() as u8], blob].concat();
    let zipmap = b"\x02\x01a\x02\x02hi??\x01b\x03\x00xyz\xFF";
    let listpack = b"\x17\0\0\0\x06\0\x81a\x02\x81x\x02\xC3\xE8\x02\x81b\x02\x05\x01\x00\x01\xFF";
    let end = b"\xFF\0\0\0\0\0\0\0\0";
    [
        [
            &b"REDIS0006\x0A\x01a"[..],
            &string(ziplist),
            b"\x0D\x01b",
            &string(ziplist),
            b"\x09\x01c",
            &string(zipmap),
            b"\x0E\x01d\x02",
            &string(ziplist),
            &string(ziplist),
            end,
        ]
        .concat(),
        [
            &b"REDIS0012\x18\x01a"[..],
            b"\xE8\x03\0\0\0\0\0\0\x03\x00\x01a\x01x\x01\x01b\x01y\x40\x65\x01c\x01z",
            b"\x16\x01b\x03\x00\x01a\x01x\x01\x01b\x01y\x40\x65\x01c\x01z",
            b"\x19\x01c\xE8\x03\0\0\0\0\0\0",
            &string(listpack),
            b"\x17\x01d",
            &string(listpack),
            end,
        ]
        .concat(),
        [
            &b"REDIS0011\x12\x01a\x03\x01\x05plain\x02\x0E\x0E\0\0\0\x02\0\x82hi\x03\xDF\xFF\x02\xFF"[..],
            b"\x01\x01x",
            end,
        ]
        .concat(),
    ]
}

#[test]
fn no_damage_of_old_forms_panics_or_takes_memory() {
    let mut results = [0, 0];
    for file in old_forms() {
        let items = decode(&file[..], OPTIONS).expect("a good file");
        assert!(items.len() >= 3);
        for len in 0..file.len() {
            assert!(matches!(decode(&file[..len], OPTIONS), Err(RdbError::Truncated { at }) if at <= len as u64));
        }
        for at in 0..file.len() {
            for change in 1..=255 {
                let mut bad = file.clone();
                bad[at] ^= change;
                let (result, held) = memory_of(|| decode(&bad[..], OPTIONS));
                assert!(held < 300_000, "{held} bytes for byte {at} changed by {change:#x}");
                results[usize::from(result.is_ok())] += 1;
            }
        }
    }
    assert!(results.iter().all(|&count| count > 10_000), "{results:?}");
}

#[test]
fn a_length_is_not_believed_before_its_bytes_are_there() {
    let boundless = ReadOptions { string_len_max: u64::MAX, ..OPTIONS };
    let claims: [&[u8]; 6] = [
        b"\x00\x01k\x81\x00\x00\x00\x00\x1F\xFF\xFF\xFF",
        b"\x00\x01k\x81\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\x00\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\x00\x01k\xC3\x80\xFF\xFF\xFF\xFF\x80\xFF\xFF\xFF\xFF",
        b"\x00\x01k\xC3\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\xFA\x80\xFF\xFF\xFF\xFF",
    ];
    for claim in claims {
        for real in [0, 100, 60_000, 70_000, 1_000_000] {
            let file = [b"REDIS0011", claim, &vec![b'x'; real]].concat();
            let (result, held) = memory_of(|| decode(&file[..], boundless));
            assert!(matches!(result, Err(RdbError::Truncated { at }) if at == file.len() as u64), "{result:?}");
            // The decoder's own block, and at most as much again as has been read.
            assert!(held < 200_000 + 3 * real, "{held} bytes for {real}");
        }
    }
    // What compressed bytes cannot give is refused before it is made room for.
    let file = b"REDIS0011\x00\x01k\xC3\x03\x80\x1F\xFF\xFF\xFF\x00a\x00";
    let (result, held) = memory_of(|| decode(&file[..], boundless));
    assert!(matches!(result, Err(RdbError::Corrupt { .. })) && held < 100_000, "{result:?}, {held} bytes");
}

/// Reads a file to its end: how many strings its collections have.
fn count_parts(bytes: &[u8]) -> Result<usize, RdbError> {
    let mut decoder = Decoder::new(bytes, OPTIONS)?;
    let mut count = 0;
    loop {
        match decoder.next()? {
            Item::Parts(parts) => count += parts.len(),
            Item::End => return Ok(count),
            _ => {}
        }
    }
}

#[test]
fn a_collection_of_any_size_takes_little_memory() {
    const COUNT: usize = 1_000_000;
    let options = WriteOptions { compress: false, field_deadlines: true, ..WriteOptions::default() };
    let mut encoder = Encoder::new(Vec::new(), options).expect("memory");
    encoder.begin_list(b"l", COUNT as u64, &EntryMeta::default()).expect("memory");
    (0..COUNT).for_each(|_| encoder.element(b"").expect("memory"));
    encoder.begin_hash(b"h", COUNT as u64, true, &EntryMeta::default()).expect("memory");
    (0..COUNT).for_each(|_| encoder.field(b"field", b"a value", Some(1)).expect("memory"));
    let file = encoder.finish().expect("memory");
    let (count, held) = memory_of(|| count_parts(&file).expect("a good file"));
    assert_eq!(count, 3 * COUNT);
    assert!(held < 400_000, "{held}");
    // A packed one is there once, whatever comes of it.
    let mut encoder = Encoder::new(Vec::new(), options).expect("memory");
    encoder.small_list(b"l", (0..COUNT).map(|_| &b"5"[..]), &EntryMeta::default()).expect("memory");
    let file = encoder.finish().expect("memory");
    let (count, held) = memory_of(|| count_parts(&file).expect("a good file"));
    assert_eq!(count, COUNT);
    // Growing may hold the old and the new for a moment.
    assert!(held < 2 * file.len() + 400_000, "{held}");
}

#[test]
fn a_count_is_not_believed() {
    for claim in [
        &b"\x01\x01k\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"[..],
        b"\x04\x01k\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\x0E\x01k\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\x12\x01k\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\x16\x01k\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
    ] {
        for behind in [&b""[..], &b"\x01".repeat(300_000)] {
            let file = [b"VALKEY080", claim, behind].concat();
            let (result, held) = memory_of(|| count_parts(&file));
            assert!(result.is_err());
            assert!(held < 400_000, "{held}");
        }
    }
}

#[test]
fn long_strings_take_little_more_than_they_are() {
    let value = vec![b'v'; 40 << 20];
    let mut encoder =
        Encoder::new(Vec::new(), WriteOptions { compress: false, ..WriteOptions::default() }).expect("memory");
    encoder.entry(b"k", StringValue::Bytes(&value), &EntryMeta::default()).expect("memory");
    let file = encoder.finish().expect("memory");
    let (items, held) = memory_of(|| decode(&file[..], OPTIONS).expect("a good file"));
    assert_eq!(items.len(), 1);
    // Growing may hold the old and the new for a moment.
    assert!(held < 2 * value.len() + 1_000_000, "{held}");
}

proptest! {
    #[test]
    fn anything_is_read_to_an_end(bytes in vec(any::<u8>(), 0..400), valkey in any::<bool>()) {
        let magic: &[u8] = if valkey { b"VALKEY080" } else { b"REDIS0011" };
        let (_, held) = memory_of(|| decode(&[magic, &bytes].concat()[..], OPTIONS));
        prop_assert!(held < 300_000);
        let _ = restore_string(&bytes, OPTIONS);
    }

    #[test]
    fn any_value_is_read_to_an_end(kind in 0u8..27, bytes in vec(any::<u8>(), 0..400), magic in 0usize..3) {
        let magic: &[u8] = [b"VALKEY080", b"REDIS0011", b"REDIS0012"][magic];
        let (_, held) = memory_of(|| decode(&[magic, &[kind, 0], &bytes].concat()[..], OPTIONS));
        prop_assert!(held < 300_000);
    }

    #[test]
    fn several_changes_are_survived(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut file = small_file(WriteOptions { checksum: false, ..WriteOptions::default() });
        let mut payload = dump_string(StringValue::Bytes(&b"repeated, ".repeat(10)), true);
        for (at, byte) in changes {
            let (at, at_payload) = (at.index(file.len()), at.index(payload.len()));
            file[at] = byte;
            payload[at_payload] = byte;
        }
        let (_, held) = memory_of(|| decode(&file[..], OPTIONS));
        prop_assert!(held < 300_000);
        let _ = restore_string(&payload, OPTIONS);
    }
}
