//! DUMP and RESTORE: a value as a snapshot would hold it, by itself.

use tercel_engine::{Blob, Expire, HeldFieldMap, HeldList, LongString, StringRef, Value};
use tercel_rdb::{LoadedString, PayloadItem, PayloadWriter, RdbError, ReadOptions, StringValue};

use crate::arguments::expiry::effect_of_delete;
use tercel_core::clients::Slice;
use tercel_core::command::Reply;
use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, Outcome, SYNTAX, fail};
use tercel_core::command::event_class as class;
use tercel_core::command::key_positions::keys_at;
use tercel_core::command::parse::integer;
use tercel_core::command::spec::{Group, acl};
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::data::Dataset;
use tercel_core::dispatch::Context;
use tercel_core::dispatch::{Command, cmd};
use tercel_core::persistence;
use tercel_core::persistence::building::Building;

pub(crate) static COMMANDS: &[Command] = &[
    cmd("dump", Group::Generic, "2.6.0", 2, READONLY, dump)
        .about("Returns a key's value as RESTORE takes it.", "O(N) where N is the length of the value")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key")
        .acl(acl::KEYSPACE)
        .tips(&["nondeterministic_output"]),
    cmd("restore", Group::Generic, "2.6.0", -4, WRITE | DENYOOM, restore)
        .about("Makes a key from what DUMP returned.", "O(N) where N is the length of the value")
        .keys(&[keys_at(OW | UPDATE, 1, 0, 1)])
        .args("key:key ttl:integer serialized-value:string [REPLACE] [ABSTTL] [IDLETIME seconds:integer] [FREQ frequency:integer]")
        .acl(acl::KEYSPACE | acl::DANGEROUS),
];

fn dump(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let compress = cx.server.settings().rdbcompression;
    let Some(entry) = cx.server.data_mut().read(cx.caller.db, key) else {
        cx.out.null();
        return Ok(());
    };
    let value = match entry.value() {
        Value::String(value) => {
            let value = match value {
                StringRef::Int(value) => StringValue::Int(value),
                StringRef::Bytes(bytes) => StringValue::Bytes(bytes),
                StringRef::Long(long) => match long.whole().filter(|bytes| bytes.len() <= COMPRESSED_LEN_MAX) {
                    Some(bytes) => StringValue::Bytes(bytes),
                    None => {
                        let long = Held::String(long.clone());
                        return cx.in_slices(args, Box::new(Dump::new(long, compress)));
                    }
                },
            };
            cx.out.bulk(tercel_rdb::dump_string(value, compress));
            return Ok(());
        }
        Value::List(list) => Held::List(list.held()),
        Value::Hash(fields) => Held::Fields(fields.held()),
    };
    cx.in_slices(args, Box::new(Dump::new(value, compress)))
}

/// Longer strings are not compressed, as in a snapshot: that could not be done in pieces.
const COMPRESSED_LEN_MAX: usize = 64 << 10;
/// Elements written in one step, about, and bytes.
const PIECE_PARTS: u64 = 1000;
const PIECE_BYTES: usize = 64 << 10;

/// What is dumped, as it was.
enum Held {
    String(LongString),
    List(HeldList),
    Fields(HeldFieldMap),
}

/// A value on its way into a payload.
struct Dump {
    value: Held,
    at: u64,
    payload: Option<PayloadWriter>,
    /// What of it is written.
    pieces: Vec<Blob>,
}

impl Dump {
    fn new(value: Held, compress: bool) -> Self {
        Dump { value, at: 0, payload: Some(PayloadWriter::new(compress)), pieces: Vec::new() }
    }

    /// A piece of it; true while there is more.
    fn write(&mut self) -> std::io::Result<bool> {
        let Some(payload) = &mut self.payload else { return Ok(false) };
        match &self.value {
            Held::String(long) => {
                if self.at == 0 {
                    payload.begin_long(long.len() as u64)?;
                }
                let from = self.at as usize;
                self.at += PIECE_BYTES as u64;
                long.pieces(from..self.at as usize).try_for_each(|piece| payload.piece(piece))?;
                Ok(self.at < long.len() as u64)
            }
            Held::List(list) => {
                let list = list.view();
                if list.block().is_some() {
                    payload.small_list(list.piece(0))?;
                    return Ok(false);
                }
                if self.at == 0 {
                    payload.begin_list(list.len())?;
                }
                let end = self.at + PIECE_PARTS;
                while self.at < end.min(list.len()) && payload.buffered() < PIECE_BYTES {
                    for element in list.piece(self.at) {
                        payload.element(element)?;
                        self.at += 1;
                    }
                }
                Ok(self.at < list.len())
            }
            Held::Fields(fields) => {
                let fields = fields.view();
                let has_deadlines = fields.soonest().is_some();
                if fields.block().is_some() && !has_deadlines {
                    payload.small_hash(fields.piece(0).map(|field| (field.field, field.value)))?;
                    return Ok(false);
                }
                if self.at == 0 {
                    payload.begin_hash(fields.len(), has_deadlines)?;
                }
                let end = self.at + PIECE_PARTS;
                while self.at < end.min(fields.len()) && payload.buffered() < PIECE_BYTES {
                    for field in fields.piece(self.at) {
                        payload.field(field.field, field.value, field.expire_at)?;
                        self.at += 1;
                    }
                }
                Ok(self.at < fields.len())
            }
        }
    }
}

impl Slice for Dump {
    fn step(&mut self, _: &Args<'_>, _: &mut Dataset, answer: &mut Reply) -> bool {
        if self.write().unwrap_or(false) {
            if let Some(payload) = &mut self.payload {
                let piece = payload.take();
                self.pieces.push(Blob::from_vec(piece));
            }
            return true;
        }
        // Nothing is written but memory, and what is written is what was promised.
        match self.payload.take().map(PayloadWriter::finish) {
            Some(Ok(rest)) => {
                self.pieces.push(Blob::from_vec(rest));
                answer.bulk_of(&self.pieces);
            }
            _ => answer.error("ERR the value cannot be dumped"),
        }
        false
    }

    fn gathered(&self) -> usize {
        self.payload.as_ref().map_or(0, PayloadWriter::len)
    }
}

/// RESTORE's options.
#[derive(Default)]
struct Options {
    replace: bool,
    absolute: bool,
    idle_s: Option<u64>,
    freq: Option<u8>,
}

fn options(args: &Args<'_>) -> Result<Options, CommandError> {
    let mut options = Options::default();
    let mut at = 4;
    while at < args.len() {
        if args.is(at, "replace") {
            options.replace = true;
        } else if args.is(at, "absttl") {
            options.absolute = true;
        } else if args.is(at, "idletime") && at + 1 < args.len() && options.freq.is_none() {
            at += 1;
            let seconds = u64::try_from(integer(args.get(at))?);
            options.idle_s = Some(seconds.map_err(|_| fail("ERR Invalid IDLETIME value, must be >= 0"))?);
        } else if args.is(at, "freq") && at + 1 < args.len() && options.idle_s.is_none() {
            at += 1;
            let freq = u8::try_from(integer(args.get(at))?);
            options.freq = Some(freq.map_err(|_| fail("ERR Invalid FREQ value, must be >= 0 and <= 255"))?);
        } else {
            return Err(SYNTAX);
        }
        at += 1;
    }
    Ok(options)
}

fn restore(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let options = options(args)?;
    let db = cx.caller.db;
    let key = cx.key(args, 1);
    if cx.server.data_mut().peek_to_write(db, key).is_some() && !options.replace {
        return Err(fail("BUSYKEY Target key name already exists."));
    }
    let ttl = integer(args.get(2))?;
    if ttl < 0 {
        return Err(fail("ERR Invalid TTL value, must be >= 0"));
    }
    let limits = ReadOptions {
        string_len_max: cx.string_len_max(),
        checksum: !cx.server.persistence().skips_payload_checksums(),
        ..persistence::read_options(cx.server.settings())
    };
    let value = read(cx, args.get(3), limits).map_err(|error| {
        match error {
            RdbError::Checksum { .. } => fail("ERR DUMP payload version or checksum are wrong"),
            // A type that is not there yet, for instance: then it helps to know which.
            RdbError::Unsupported { what, .. } => {
                CommandError::new(format!("ERR Bad data format: {what} is not supported"))
            }
            _ => fail("ERR Bad data format"),
        }
    })?;
    let now_ms = cx.server.now().unix_ms;
    let deadline_ms = match ttl {
        0 => None,
        _ if options.absolute => Some(ttl),
        _ => Some(ttl.saturating_add(now_ms)),
    };
    if deadline_ms.is_some_and(|at_ms| cx.server.data().expired().is_past(at_ms)) {
        // What was to be replaced is gone, and what was to replace it is past its time.
        if cx.server.data_mut().delete(db, key) {
            effect_of_delete(cx, key.bytes);
        }
        cx.out.ok();
        return Ok(());
    }
    let expire = deadline_ms.map_or(Expire::Clear, Expire::At);
    match value {
        Restored::String(value) => {
            if persistence::with_new_value(value, |value| cx.server.data_mut().store(db, key, value, expire)) {
                // What it replaced is another key by the same name.
                cx.server.data_mut().notify(class::NEW, "new", db, key.bytes);
            }
        }
        Restored::Collection(value) => {
            let data = cx.server.data_mut();
            let replaces = data.peek(db, key).is_some();
            // Of a hash whose fields are all past their time there is nothing to keep.
            if value.store(data, db, key, true) {
                if replaces {
                    data.notify(class::NEW, "new", db, key.bytes);
                }
                if deadline_ms.is_some() {
                    data.set_expire(db, key, deadline_ms);
                }
            }
        }
    }
    cx.server.data_mut().set_accesses(db, key, options.idle_s, options.freq);
    if let Some(at_ms) = deadline_ms.filter(|_| !options.absolute) {
        cx.effect(|command| {
            for index in 0..args.len() {
                if index == 2 { command.push_number(at_ms) } else { command.push_from(args, index) }
            }
            command.push(b"ABSTTL");
        });
    }
    cx.server.data_mut().notify(class::GENERIC, "restore", db, key.bytes);
    cx.out.ok();
    Ok(())
}

/// What a payload held.
enum Restored {
    String(LoadedString),
    Collection(Building),
}

fn read(cx: &Context<'_>, payload: &[u8], options: ReadOptions) -> Result<Restored, RdbError> {
    let mut reader = tercel_rdb::open_payload(payload, options)?;
    let mut value = None;
    loop {
        match reader.next()? {
            PayloadItem::String(string) => value = Some(Restored::String(string)),
            PayloadItem::Begin { kind, .. } => {
                value = Some(Restored::Collection(Building::new(kind, cx.server.data(), cx.server.settings())));
            }
            PayloadItem::Parts(parts) => {
                if let Some(Restored::Collection(building)) = &mut value {
                    let twice = RdbError::Corrupt { at: 0, why: "a field comes twice" };
                    building.add(&parts).map_err(|_| twice)?;
                }
            }
            PayloadItem::Finished => {
                return value.ok_or(RdbError::Corrupt { at: 0, why: "there is no value" });
            }
        }
    }
}
