//! Reading that stops where the input has nothing yet: long strings are neither read again nor held twice, and
//! what is damaged is found as ever. That every file of the other tests is read the same in pauses, they
//! see to themselves.

mod paused;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use paused::{Paused, check, read};
use tercel_rdb::{Decoder, Encoder, EntryMeta, Item, LoadedString, ReadOptions, StringValue, WriteOptions};

/// Counts what this thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static HELD_MAX: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = HELD_MAX.try_with(|max| max.set(max.get().max(held.get())));
    });
}

// SAFETY: all is the system's allocator, with the sizes counted beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: passed on.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const META: EntryMeta = EntryMeta { expire_at_ms: None, idle_s: None, freq: None };

fn noise(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_add(seed).wrapping_mul(0x9E37_79B1) >> 13) as u8).collect()
}

/// Long strings wherever there can be one: a key, a value, one that is compressed, an element, a field and its
/// value.
fn long_file(len: usize) -> Vec<u8> {
    let options = WriteOptions { field_deadlines: true, ..WriteOptions::default() };
    let mut encoder = Encoder::new(Vec::new(), options).expect("memory");
    let mut steps = || {
        encoder.entry(&noise(len, 1), StringValue::Bytes(&noise(len + 1, 2)), &META)?;
        encoder.entry(b"zipped", StringValue::Bytes(&b"again and ".repeat(len / 3)), &META)?;
        encoder.begin_list(&noise(len, 3), 5, &META)?;
        for element in [&b"short"[..], &noise(len, 4), b"", &noise(len + 7, 5), &b"same ".repeat(len / 2)] {
            encoder.element(element)?;
        }
        encoder.begin_hash(b"hash", 3, true, &META)?;
        encoder.field(b"field", &noise(len, 6), Some(4_102_444_800_000))?;
        encoder.field(&noise(len, 7), b"value", None)?;
        encoder.field(&noise(len, 8), &noise(len, 9), Some(1))?;
        encoder.entry(b"last", StringValue::Int(7), &META)
    };
    steps().expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn long_strings_are_the_same_in_pieces() {
    for len in [1000, 65_500, 65_536, 65_600, 131_072, 300_000] {
        check(&long_file(len), ReadOptions::default());
    }
}

#[test]
fn damage_is_found_in_pauses_too() {
    let file = long_file(300);
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 1 << (at % 8);
        let whole = read(&damaged[..], ReadOptions::default());
        assert!(read(Paused::at_random(&damaged, at as u64), ReadOptions::default()) == whole, "byte {at}");
        let whole = read(&file[..at], ReadOptions::default());
        assert!(read(Paused::at_random(&file[..at], at as u64), ReadOptions::default()) == whole, "{at} bytes");
    }
}

/// A string of eight mebibytes in pieces of a kibibyte, nothing before each: it is held once, and grows as it comes.
#[test]
fn a_long_string_is_held_once() {
    const LEN: usize = 8 << 20;
    let mut encoder =
        Encoder::new(Vec::new(), WriteOptions { compress: false, ..WriteOptions::default() }).expect("memory");
    encoder.entry(b"k", StringValue::Bytes(&noise(LEN, 1)), &META).expect("memory");
    let file = encoder.finish().expect("memory");
    let mut turn = 0usize;
    let input = Paused::new(&file, move || {
        turn += 1;
        if turn.is_multiple_of(2) { 1024 } else { 0 }
    });
    let before = HELD.get();
    HELD_MAX.set(before);
    let mut decoder = Decoder::deferred(input, ReadOptions::default());
    let mut pauses = 0;
    let value = loop {
        match decoder.next() {
            Ok(Item::Entry { value: LoadedString::Bytes(value), .. }) => break value,
            Ok(_) => {}
            Err(error) => {
                assert!(error.is_would_block(), "{error}");
                pauses += 1;
                // What has come, at most as much again, and the decoder's block.
                let held = (HELD_MAX.get() - before) as usize;
                assert!(held < 2 * pauses * 1024 + 400_000, "{held} bytes held after {} came", pauses * 1024);
            }
        }
    };
    assert!(pauses >= LEN / 1024);
    assert!(value == noise(LEN, 1));
    let held = (HELD_MAX.get() - before) as usize;
    assert!(held < 2 * LEN + 400_000, "{held}");
}
