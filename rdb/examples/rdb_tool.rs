//! Run by hand: `write FILE` makes a file of strings, lists and hashes of all kinds, `show FILE` lists
//! what a file holds (a line an entry: database, key, value, expiry, idle time and counter of use; see
//! [`Value`] for a value, bytes are in hexadecimal), `dumps` lists values with their payloads of DUMP,
//! `restore` the values of payloads from its input, `measure` says what writing and reading cost.
//! `tests/with_valkey.py` uses all but the last.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // A program that measures time, run by hand.

use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Write};
use std::time::Instant;

use tercel_rdb::{
    CollectionKind, Decoder, Encoder, EntryMeta, Item, LoadedString, Parts, PayloadItem, PayloadWriter, ReadOptions,
    StringValue, WriteOptions, dump_string, open_payload, restore_string,
};

const NO_META: EntryMeta = EntryMeta { expire_at_ms: None, idle_s: None, freq: None };

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    })
    .take(len)
    .collect()
}

fn write(out: impl Write, options: WriteOptions) -> io::Result<()> {
    let mut encoder = Encoder::new(out, options)?;
    encoder.aux("tercel-ver", "0.1.0")?;
    encoder.aux("redis-ver", "7.2.4")?;
    encoder.aux("redis-bits", "64")?;
    encoder.aux("ctime", "1800000000")?;
    for db in [0, 1, 9] {
        encoder.select_db(db)?;
        encoder.resize_db(3000, 1000)?;
        for number in 0..1000u64 {
            let meta = EntryMeta {
                expire_at_ms: (number % 3 == 0).then_some(4_102_444_800_000 + number as i64),
                idle_s: (db == 1).then_some(number * 100),
                freq: (db == 9).then_some(number as u8),
            };
            let spread = (number as i64 - 500) << (number % 55);
            encoder.entry(format!("int:{number}").as_bytes(), StringValue::Int(spread), &meta)?;
            let len = (number * number / 37) as usize;
            let repeated = b"some text, ".repeat(len / 11 + 1);
            encoder.entry(format!("text:{number}").as_bytes(), StringValue::Bytes(&repeated[..len]), &meta)?;
            // Half of it compresses.
            let mut mixed = noise(number, len);
            mixed[..len / 2].fill(b'-');
            encoder.entry(&noise(number + 7, 12), StringValue::Bytes(&mixed), &meta)?;
        }
        let long = noise(db, 3 << 20);
        encoder.begin_long(b"long", long.len() as u64, &NO_META)?;
        for piece in long.chunks(100_000) {
            encoder.piece(piece)?;
        }
        encoder.entry(&b"a key that repeats itself ".repeat(10), StringValue::Bytes(&vec![0; 5 << 20]), &NO_META)?;
        encoder.entry(b"12345", StringValue::Bytes(b""), &NO_META)?;
    }
    encoder.select_db(2)?;
    for count in [1, 5, 127, 600, 20_000] {
        let key = format!("list:{count}");
        if count < 1000 {
            let elements: Vec<_> = (0..count).map(element).collect();
            encoder.small_list(key.as_bytes(), elements.iter().map(Vec::as_slice), &NO_META)?;
        } else {
            encoder.begin_list(key.as_bytes(), count, &NO_META)?;
            (0..count).try_for_each(|number| encoder.element(&element(number)))?;
        }
        let key = format!("hash:{count}");
        if count < 500 {
            let fields: Vec<_> = (0..count).map(field).collect();
            encoder.small_hash(key.as_bytes(), pairs(&fields), &NO_META)?;
        } else {
            encoder.begin_hash(key.as_bytes(), count, false, &NO_META)?;
            (0..count).map(field).try_for_each(|(field, value)| encoder.field(&field, &value, None))?;
        }
        if options.field_deadlines {
            encoder.begin_hash(format!("expiring:{count}").as_bytes(), count, true, &NO_META)?;
            for number in 0..count {
                let (field, value) = field(number);
                encoder.field(&field, &value, deadline_ms(number))?;
            }
        }
    }
    encoder.small_list(b"list:disputed", disputed().iter().map(Vec::as_slice), &NO_META)?;
    encoder.small_hash(b"hash:disputed", disputed().iter().map(|string| (&string[..], &string[..])), &NO_META)?;
    encoder.finish()?.flush()
}

fn element(number: u64) -> Vec<u8> {
    match number % 4 {
        0 => (number as i64 * number as i64 * number as i64 - 5000).to_string().into_bytes(),
        1 => format!("element {number}").into_bytes(),
        2 => noise(number, number as usize % 300),
        _ => vec![b'x'; number as usize * 7 % 5000],
    }
}

fn field(number: u64) -> (Vec<u8>, Vec<u8>) {
    (format!("field:{number}").into_bytes(), element(number))
}

fn pairs(fields: &[(Vec<u8>, Vec<u8>)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().map(|(field, value)| (&field[..], &value[..]))
}

fn deadline_ms(number: u64) -> Option<i64> {
    number.is_multiple_of(2).then_some(4_102_444_800_000 + number as i64)
}

/// Lengths that packed are written in different ways by different servers, and lengths beside them.
fn disputed() -> Vec<Vec<u8>> {
    [16_377, 16_378, 16_379, 2_097_145, 2_097_146, 2_097_147].map(|len| vec![b'd'; len]).to_vec()
}

/// A value: of a string its bytes, of a list `l` and its elements after commas, of a hash `h` and its
/// fields after commas, `field=value` or `field=value@deadline`.
struct Value {
    kind: Option<CollectionKind>,
    text: String,
}

impl Value {
    fn string(value: LoadedString) -> Self {
        let text = match value {
            LoadedString::Int(number) => hex(number.to_string().as_bytes()),
            LoadedString::Bytes(bytes) => hex(&bytes),
        };
        Self { kind: None, text }
    }

    fn collection(kind: CollectionKind) -> Self {
        let text = match kind {
            CollectionKind::List => "l",
            CollectionKind::Hash => "h",
        };
        Self { kind: Some(kind), text: text.to_string() }
    }

    fn add(&mut self, parts: &Parts) {
        if self.kind == Some(CollectionKind::List) {
            parts.iter().for_each(|element| self.text += &format!(",{}", hex(element)));
            return;
        }
        for (field, value, deadline_ms) in parts.fields() {
            self.text += &format!(",{}={}", hex(field), hex(value));
            if let Some(deadline_ms) = deadline_ms {
                self.text += &format!("@{deadline_ms}");
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files of Redis's own versions too.
const RELAXED: ReadOptions = ReadOptions { checksum: true, version_check_strict: false, string_len_max: 512 << 20 };

fn show(path: &str) {
    let mut decoder = Decoder::new(File::open(path).unwrap(), RELAXED).unwrap();
    let mut out = io::stdout().lock();
    let mut db = 0;
    let mut open = None;
    let number = |what: Option<i64>| what.map_or("-".to_string(), |number| number.to_string());
    loop {
        let (key, value, meta) = match decoder.next().unwrap() {
            Item::SelectDb(number) => {
                db = number;
                continue;
            }
            Item::Entry { key, value, meta } => (key, Value::string(value), meta),
            Item::Begin { key, kind, meta, .. } => {
                open = Some((key, Value::collection(kind), meta));
                continue;
            }
            Item::Parts(parts) => {
                open.as_mut().unwrap().1.add(&parts);
                continue;
            }
            Item::Finished => open.take().unwrap(),
            Item::End => return,
            _ => continue,
        };
        let (expire, idle) = (number(meta.expire_at_ms), number(meta.idle_s.map(|idle_s| idle_s as i64)));
        let freq = number(meta.freq.map(i64::from));
        writeln!(out, "{db} {} {value} {expire} {idle} {freq}", hex(&key)).unwrap();
    }
}

fn dumps(with_deadlines: bool) {
    let mut values: Vec<_> = (0..64).map(|bits| (1i64 << bits).to_string().into_bytes()).collect();
    values.extend((0..200).map(|len| noise(len as u64, len * len / 5)));
    values.extend((0..200).map(|len| b"and so on, ".repeat(len)));
    for value in values {
        for compress in [false, true] {
            println!("{} {}", hex(&value), hex(&dump_string(StringValue::Bytes(&value), compress)));
        }
    }
    let dump = |compress, write: &dyn Fn(&mut PayloadWriter) -> io::Result<()>| {
        let mut writer = PayloadWriter::new(compress);
        write(&mut writer).unwrap();
        let payload = writer.finish().unwrap();
        println!("{} {}", restored(&payload), hex(&payload));
    };
    for compress in [false, true] {
        for count in [1, 2, 30, 400] {
            let fields: Vec<_> = (0..count).map(field).collect();
            dump(compress, &|writer| writer.small_list(fields.iter().map(|(_, value)| &value[..])));
            dump(compress, &|writer| {
                writer.begin_list(count)?;
                fields.iter().try_for_each(|(_, value)| writer.element(value))
            });
            dump(compress, &|writer| writer.small_hash(pairs(&fields)));
            for with_deadlines in [Some(false), with_deadlines.then_some(true)].into_iter().flatten() {
                dump(compress, &|writer| {
                    writer.begin_hash(count, with_deadlines)?;
                    pairs(&fields).zip(0..).try_for_each(|((field, value), number)| {
                        writer.field(field, value, deadline_ms(number).filter(|_| with_deadlines))
                    })
                });
            }
        }
        dump(compress, &|writer| writer.small_list(disputed().iter().map(Vec::as_slice)));
        dump(compress, &|writer| writer.small_hash(disputed().iter().map(|string| (&string[..], &string[..]))));
    }
}

fn restored(payload: &[u8]) -> Value {
    let mut reader = open_payload(payload, RELAXED).unwrap();
    let mut value = match reader.next().unwrap() {
        PayloadItem::String(value) => Value::string(value),
        PayloadItem::Begin { kind, .. } => Value::collection(kind),
        item => panic!("{item:?}"),
    };
    while let PayloadItem::Parts(parts) = reader.next().unwrap() {
        value.add(&parts);
    }
    value
}

/// A line a payload, in hexadecimal, and a line a value.
fn restore() {
    for line in io::stdin().lines() {
        let line = line.unwrap();
        let payload: Vec<_> =
            (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect();
        println!("{}", restored(&payload));
    }
}

/// The median of what seven rounds take, in nanoseconds.
fn median_ns(mut round: impl FnMut()) -> f64 {
    let mut rounds: Vec<_> = (0..7)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_nanos() as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn measure() {
    const ENTRIES: usize = 200_000;
    let text = b"{\"user\":12345,\"name\":\"someone\",\"mail\":\"someone@example.org\",\"since\":\"2024-05-06\",\"active\":true}  ";
    let random: Vec<_> = (0..ENTRIES).map(|number| noise(number as u64, 100)).collect();
    let json: Vec<_> = (0..ENTRIES).map(|number| [&text[..90], format!("{number:010}").as_bytes()].concat()).collect();
    let numbers: Vec<_> = (0..ENTRIES).map(|number| number.to_string().into_bytes()).collect();
    let keys: Vec<_> = (0..ENTRIES).map(|number| format!("key:{number:012}").into_bytes()).collect();
    let meta = EntryMeta { expire_at_ms: Some(4_102_444_800_000), ..NO_META };
    println!(
        "entries of a 16-byte key with expiry, {ENTRIES} a round: ns each, written to nowhere and read from memory"
    );
    for (name, values) in [("100 random bytes", &random), ("100 bytes of JSON", &json), ("small numbers", &numbers)] {
        for options in [(false, false), (false, true), (true, false), (true, true)] {
            let options = WriteOptions { compress: options.0, checksum: options.1, ..WriteOptions::default() };
            let mut bytes = 0;
            let write_ns = median_ns(|| {
                let mut encoder = Encoder::new(io::sink(), options).unwrap();
                for (key, value) in keys.iter().zip(values) {
                    encoder.entry(key, StringValue::Bytes(value), &meta).unwrap();
                }
                bytes = encoder.bytes_written();
                encoder.finish().unwrap();
            }) / ENTRIES as f64;
            let mut encoder = Encoder::new(Vec::new(), options).unwrap();
            for (key, value) in keys.iter().zip(values) {
                encoder.entry(key, StringValue::Bytes(value), &meta).unwrap();
            }
            let file = encoder.finish().unwrap();
            let read_ns = median_ns(|| {
                let mut decoder = Decoder::new(&file[..], ReadOptions::default()).unwrap();
                while black_box(decoder.next().unwrap()) != Item::End {}
            }) / ENTRIES as f64;
            println!(
                "  {name:18} compress {:5} checksum {:5}: write {write_ns:6.0}, read {read_ns:6.0}, {:6.1} bytes an entry",
                options.compress,
                options.checksum,
                bytes as f64 / ENTRIES as f64
            );
        }
    }
    println!("one value of 64 MiB: MB/s of the value");
    let len = 64 << 20;
    let lines = (0..len / 50).map(|line| format!("{line:020} line of a log that says little\n"));
    for (name, value) in
        [("random", noise(1, len)), ("zeros", vec![0; len]), ("log lines", lines.collect::<String>().into_bytes())]
    {
        for (compress, checksum) in [(false, false), (false, true), (true, true)] {
            let options = WriteOptions { compress, checksum, ..WriteOptions::default() };
            let write_ns = median_ns(|| {
                let mut encoder = Encoder::new(io::sink(), options).unwrap();
                encoder.entry(b"k", StringValue::Bytes(&value), &NO_META).unwrap();
                encoder.finish().unwrap();
            });
            let mut encoder = Encoder::new(Vec::new(), options).unwrap();
            encoder.entry(b"k", StringValue::Bytes(&value), &NO_META).unwrap();
            let file = encoder.finish().unwrap();
            let read_ns = median_ns(|| {
                let mut decoder = Decoder::new(&file[..], ReadOptions::default()).unwrap();
                while black_box(decoder.next().unwrap()) != Item::End {}
            });
            println!(
                "  {name:10} compress {compress:5} checksum {checksum:5}: write {:6.0}, read {:6.0}, to {:5.1} %",
                value.len() as f64 * 1000.0 / write_ns,
                value.len() as f64 * 1000.0 / read_ns,
                file.len() as f64 * 100.0 / value.len() as f64
            );
        }
    }
    println!("collections of {ENTRIES} elements or fields and values: ns for each of these");
    let options = WriteOptions { compress: false, ..WriteOptions::default() };
    for (name, len, is_hash) in
        [("lists", 100, false), ("hashes", 50, true), ("one list", 0, false), ("one hash", 0, true)]
    {
        let write = |out: &mut dyn Write| {
            let mut encoder = Encoder::new(out, options).unwrap();
            match (is_hash, len) {
                (false, 0) => {
                    encoder.begin_list(b"k", ENTRIES as u64, &NO_META).unwrap();
                    keys.iter().for_each(|key| encoder.element(key).unwrap());
                }
                (true, 0) => {
                    encoder.begin_hash(b"k", ENTRIES as u64 / 2, false, &NO_META).unwrap();
                    keys.chunks(2).for_each(|pair| encoder.field(&pair[0], &pair[1], None).unwrap());
                }
                (false, len) => keys
                    .chunks(len)
                    .for_each(|keys| encoder.small_list(b"k", keys.iter().map(Vec::as_slice), &NO_META).unwrap()),
                (true, len) => keys.chunks(len).for_each(|keys| {
                    let pairs = keys.chunks(2).map(|pair| (&pair[0][..], &pair[1][..]));
                    encoder.small_hash(b"k", pairs, &NO_META).unwrap();
                }),
            }
            encoder.finish().unwrap();
        };
        let write_ns = median_ns(|| write(&mut io::sink())) / ENTRIES as f64;
        let mut file = Vec::new();
        write(&mut file);
        let read_ns = median_ns(|| {
            let mut decoder = Decoder::new(&file[..], ReadOptions::default()).unwrap();
            while black_box(decoder.next().unwrap()) != Item::End {}
        }) / ENTRIES as f64;
        println!("  {name:9}: write {write_ns:6.1}, read {read_ns:6.1}");
    }
    println!("DUMP and RESTORE: ns each");
    for (name, value) in [("5 bytes", &b"hello"[..]), ("100 bytes of JSON", &json[7]), ("100 random bytes", &random[7])]
    {
        let dump_ns = median_ns(|| {
            for _ in 0..ENTRIES {
                black_box(dump_string(StringValue::Bytes(black_box(value)), true));
            }
        }) / ENTRIES as f64;
        let payload = dump_string(StringValue::Bytes(value), true);
        let restore_ns = median_ns(|| {
            for _ in 0..ENTRIES {
                black_box(restore_string(black_box(&payload), ReadOptions::default()).unwrap());
            }
        }) / ENTRIES as f64;
        println!("  {name:18}: dump {dump_ns:6.0}, restore {restore_ns:6.0}");
    }
}

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["write", path] => write(File::create(path).unwrap(), WriteOptions::default()).unwrap(),
        ["write", path, "plain"] => {
            let options = WriteOptions { compress: false, checksum: false, ..WriteOptions::default() };
            write(File::create(path).unwrap(), options).unwrap();
        }
        ["write", path, "deadlines"] => {
            let options = WriteOptions { field_deadlines: true, ..WriteOptions::default() };
            write(File::create(path).unwrap(), options).unwrap();
        }
        ["show", path] => show(path),
        ["dumps"] => dumps(false),
        ["dumps", "deadlines"] => dumps(true),
        ["restore"] => restore(),
        ["measure"] => measure(),
        _ => {
            eprintln!(
                "usage: rdb_tool write FILE [plain|deadlines] | show FILE | dumps [deadlines] | restore | measure"
            );
            std::process::exit(2);
        }
    }
}
