//! DUMP: a value as a snapshot would hold it, by itself.

use tercel_engine::{Blob, HeldFieldMap, HeldList, LongString, StringRef, Value};
use tercel_rdb::{PayloadWriter, StringValue};

use tercel_core::clients::Slice;
use tercel_core::command::Reply;
use tercel_core::command::args::Args;
use tercel_core::command::error::Outcome;
use tercel_core::command::key_positions::keys_at;
use tercel_core::command::spec::{Group, acl};
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::data::Dataset;
use tercel_core::dispatch::Context;
use tercel_core::dispatch::{Command, cmd};

pub(crate) static COMMANDS: &[Command] = &[cmd("dump", Group::Generic, "2.6.0", 2, READONLY, dump)
    .about("Returns a key's value as RESTORE takes it.", "O(N) where N is the length of the value")
    .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
    .args("key:key")
    .acl(acl::KEYSPACE)
    .tips(&["nondeterministic_output"])];

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
