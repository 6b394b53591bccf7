//! RDB files and payloads of DUMP: any bytes are read to an end or to an error, the same however they
//! arrive; and what could be read is written, with and without compression, and read back the same.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use tercel_rdb::{
    Decoder, Encoder, Item, LoadedString, ReadOptions, StringValue, WriteOptions, dump_string, restore_string,
};

/// An input that gives so many bytes at a time.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let len = self.1.min(into.len());
        self.0.read(&mut into[..len])
    }
}

/// The items before the end or the error, which is given as text.
fn read(input: impl Read, options: ReadOptions) -> (Vec<Item>, Option<String>) {
    let mut items = Vec::new();
    let mut decoder = match Decoder::new(input, options) {
        Ok(decoder) => decoder,
        Err(error) => return (items, Some(error.to_string())),
    };
    loop {
        match decoder.next() {
            Ok(Item::End) => return (items, None),
            Ok(item) => items.push(item),
            Err(error) => return (items, Some(error.to_string())),
        }
    }
}

fn value(loaded: &LoadedString) -> StringValue<'_> {
    match loaded {
        LoadedString::Int(number) => StringValue::Int(*number),
        LoadedString::Bytes(bytes) => StringValue::Bytes(bytes),
    }
}

/// Writes what there is to be written of the items, and says which these are.
fn write(items: &[Item], options: WriteOptions, piece: usize) -> (Vec<u8>, Vec<Item>) {
    let mut encoder = Encoder::new(Vec::new(), options).expect("memory");
    let mut written = Vec::new();
    let mut db = None;
    for item in items {
        match item {
            Item::Aux { key, value } => match (std::str::from_utf8(key), std::str::from_utf8(value)) {
                (Ok(key), Ok(value)) => encoder.aux(key, value).expect("memory"),
                _ => continue,
            },
            Item::SelectDb(number) => {
                encoder.select_db(*number).expect("memory");
                if db.replace(*number) == Some(*number) {
                    continue;
                }
            }
            Item::ResizeDb { keys, expires } => encoder.resize_db(*keys, *expires).expect("memory"),
            Item::Entry { key, value: LoadedString::Bytes(bytes), meta } if piece > 0 => {
                encoder.begin_long(key, bytes.len() as u64, meta).expect("memory");
                for chunk in bytes.chunks(piece) {
                    encoder.piece(chunk).expect("memory");
                }
            }
            Item::Entry { key, value: loaded, meta } => encoder.entry(key, value(loaded), meta).expect("memory"),
            Item::SlotInfo { .. } | Item::Function(_) | Item::End => continue,
        }
        written.push(item.clone());
    }
    (encoder.finish().expect("memory"), written)
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, bytes)) = data.split_first() else { return };
    let options = ReadOptions { checksum: false, version_check_strict: first & 1 == 0, string_len_max: 1 << 20 };

    if let Ok(restored) = restore_string(bytes, options) {
        let again = dump_string(value(&restored), first & 2 == 0);
        assert_eq!(restore_string(&again, options).expect("what was dumped"), restored);
    }
    // Checksums are beyond guessing, so the footer is mended for a second try.
    if let Some((head, _)) = bytes.split_last_chunk::<8>()
        && let Err(tercel_rdb::RdbError::Checksum { computed, .. }) = restore_string(bytes, options)
    {
        let _ = restore_string(&[head, &computed.to_le_bytes()].concat(), options);
    }

    let (items, error) = read(bytes, options);
    assert_eq!(read(Trickle(bytes, usize::from(first >> 2) + 1), options), (items.clone(), error));
    let _ = read(bytes, ReadOptions { checksum: true, ..options });

    let piece = usize::from(first >> 4) * 7;
    let (file, written) = write(&items, WriteOptions { compress: first & 2 == 0, checksum: first & 4 == 0 }, piece);
    assert_eq!(read(&file[..], ReadOptions::default()), (written, None));
});
