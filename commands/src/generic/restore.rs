//! RESTORE: makes a key from what DUMP returned. A long payload is looked at in slices.

use std::io::{self, Read};

use tercel_core::clients::Slice;
use tercel_core::command::error::{CommandError, Outcome, SYNTAX, fail};
use tercel_core::command::event_class as class;
use tercel_core::command::key_positions::keys_at;
use tercel_core::command::parse::integer;
use tercel_core::command::spec::{Group, acl};
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::command::{Args, OwnedCommand, Reply};
use tercel_core::data::Dataset;
use tercel_core::dispatch::Context;
use tercel_core::dispatch::{Command, cmd};
use tercel_core::persistence;
use tercel_core::persistence::building::{Building, Limits};
use tercel_engine::{Blob, Expire, LongString, NewValue};
use tercel_rdb::{LoadedString, PayloadCheck, PayloadItem, PayloadReader, RdbError, ReadOptions};

use crate::arguments::expiry::words_of_delete;
use crate::arguments::target::Target;

pub(crate) static COMMANDS: &[Command] = &[
    cmd("restore", Group::Generic, "2.6.0", -4, WRITE | DENYOOM, restore)
        .about("Makes a key from what DUMP returned.", "O(N) where N is the length of the value")
        .keys(&[keys_at(OW | UPDATE, 1, 0, 1)])
        .args("key:key ttl:integer serialized-value:string [REPLACE] [ABSTTL] [IDLETIME seconds:integer] [FREQ frequency:integer]")
        .acl(acl::KEYSPACE | acl::DANGEROUS),
];

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

/// Payloads up to this length are looked at at once.
const AT_ONCE_BYTES: usize = 16 << 10;
/// Bytes summed up in one step.
const STEP_BYTES: usize = 64 << 10;

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
    let deadline_ms = match ttl {
        0 => None,
        _ if options.absolute => Some(ttl),
        _ => Some(ttl.saturating_add(cx.server.now().unix_ms)),
    };
    let read_options = ReadOptions {
        string_len_max: cx.string_len_max(),
        checksum: !cx.server.persistence().skips_payload_checksums(),
        ..persistence::read_options(cx.server.settings())
    };
    let payload = args.get(3);
    let body = match args.blob(3) {
        Some(blob) => blob.clone(),
        None => Blob::from_vec(payload.to_vec()),
    };
    let limits = Limits::of(cx.server.settings());
    let stage = Stage::Check(Box::default());
    let mut job = Restore { target: None, options, deadline_ms, read_options, limits, body, stage, value: None };
    if payload.len() > AT_ONCE_BYTES {
        job.target = Some(Target::new(cx, args, 1));
        return cx.in_slices(args, Box::new(job));
    }
    let Context { server, out, .. } = cx;
    loop {
        let Some(value) = job.read(server.data(), args)? else { continue };
        job.store(value, db, key.bytes, server.data_mut(), args, out);
        return Ok(());
    }
}

fn refused(error: RdbError) -> CommandError {
    match error {
        RdbError::Checksum { .. } => fail("ERR DUMP payload version or checksum are wrong"),
        // A type that is not there yet, for instance: then it helps to know which.
        RdbError::Unsupported { what, .. } => {
            CommandError::new(format!("ERR Bad data format: {what} is not supported"))
        }
        _ => fail("ERR Bad data format"),
    }
}

/// What a payload held.
enum Restored {
    String(LoadedString),
    /// One that lies in the payload as it is, and stays there.
    Part(LongString),
    Collection(Building),
}

/// Hands out the bytes of a payload.
struct Body {
    of: Blob,
    at: usize,
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut rest = self.of.as_slice().get(self.at..).unwrap_or_default();
        let len = rest.read(into)?;
        self.at += len;
        Ok(len)
    }
}

enum Stage {
    Check(Box<PayloadCheck>),
    Read(Box<PayloadReader<Body>>),
    /// It was read, or cannot be.
    Over,
}

struct Restore {
    /// The key, held, if it is done in slices.
    target: Option<Target>,
    options: Options,
    deadline_ms: Option<i64>,
    read_options: ReadOptions,
    limits: Limits,
    body: Blob,
    stage: Stage,
    /// What was read of it so far.
    value: Option<Restored>,
}

impl Restore {
    /// Looks at a piece of the payload; the value once it is whole.
    fn read(&mut self, data: &Dataset, args: &Args<'_>) -> Result<Option<Restored>, CommandError> {
        let payload = args.get(3);
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Check(mut check) => {
                if check.step(payload, STEP_BYTES) {
                    self.stage = Stage::Check(check);
                    return Ok(None);
                }
                let body = Body { of: self.body.clone(), at: 0 };
                let reader = check.open(payload, body, self.read_options).map_err(refused)?;
                let plain = tercel_rdb::plain_string(payload).filter(|plain| {
                    plain.len() > AT_ONCE_BYTES && plain.len() as u64 <= self.read_options.string_len_max
                });
                if let Some(range) = plain {
                    return Ok(Some(Restored::Part(self.body.part(range))));
                }
                self.stage = Stage::Read(Box::new(reader));
                Ok(None)
            }
            Stage::Read(mut reader) => {
                match reader.next().map_err(refused)? {
                    PayloadItem::String(string) => self.value = Some(Restored::String(string)),
                    PayloadItem::Begin { kind, .. } => {
                        self.value = Some(Restored::Collection(Building::new(kind, data, self.limits)));
                    }
                    PayloadItem::Parts(parts) => {
                        if let Some(Restored::Collection(building)) = &mut self.value {
                            // A field comes twice.
                            building.add(&parts).map_err(|_| fail("ERR Bad data format"))?;
                        }
                    }
                    PayloadItem::Finished => return self.value.take().map(Some).ok_or(fail("ERR Bad data format")),
                }
                self.stage = Stage::Read(reader);
                Ok(None)
            }
            Stage::Over => Err(fail("ERR Bad data format")),
        }
    }

    /// Gives the key its value, and tells of it.
    fn store(&self, value: Restored, db: usize, key: &[u8], data: &mut Dataset, args: &Args<'_>, answer: &mut Reply) {
        let key = data.key(key);
        // In slices it may have reached its time since.
        data.expire_if_due(db, key);
        let tell = |data: &mut Dataset, write: &dyn Fn(&mut OwnedCommand)| {
            if data.records_effects() {
                let mut command = OwnedCommand::default();
                write(&mut command);
                data.effect(db, command);
            }
        };
        if self.deadline_ms.is_some_and(|at_ms| data.expired().is_past(at_ms)) {
            // What was to be replaced is gone, and what was to replace it is past its time.
            if data.delete(db, key) {
                tell(data, &|command| words_of_delete(command, key.bytes));
            }
            return answer.ok();
        }
        let expire = self.deadline_ms.map_or(Expire::Clear, Expire::At);
        match value {
            Restored::String(value) => {
                if persistence::with_new_value(value, |value| data.store(db, key, value, expire)) {
                    // What it replaced is another key by the same name.
                    data.notify(class::NEW, "new", db, key.bytes);
                }
            }
            Restored::Part(long) => {
                if data.store(db, key, NewValue::Long(long), expire) {
                    data.notify(class::NEW, "new", db, key.bytes);
                }
            }
            Restored::Collection(value) => {
                let replaces = data.peek(db, key).is_some();
                // Of a hash whose fields are all past their time there is nothing to keep.
                if value.store(data, db, key, true) {
                    if replaces {
                        data.notify(class::NEW, "new", db, key.bytes);
                    }
                    if self.deadline_ms.is_some() {
                        data.set_expire(db, key, self.deadline_ms);
                    }
                }
            }
        }
        data.set_accesses(db, key, self.options.idle_s, self.options.freq);
        match self.deadline_ms.filter(|_| !self.options.absolute) {
            Some(at_ms) => tell(data, &|command| {
                for index in 0..args.len() {
                    if index == 2 { command.push_number(at_ms) } else { command.push_from(args, index) }
                }
                command.push(b"ABSTTL");
            }),
            None => tell(data, &|command| *command = OwnedCommand::from_args(args)),
        }
        data.notify(class::GENERIC, "restore", db, key.bytes);
        answer.ok();
    }
}

impl Slice for Restore {
    fn step(&mut self, args: &Args<'_>, data: &mut Dataset, answer: &mut Reply) -> bool {
        match self.read(data, args) {
            Ok(None) => return true,
            Ok(Some(value)) => {
                if let Some(mut target) = self.target.take() {
                    target.let_go(data);
                    self.store(value, target.db, &target.key, data, args, answer);
                }
            }
            Err(error) => {
                self.abandon(data);
                answer.error(&error.0);
            }
        }
        false
    }

    fn abandon(&mut self, data: &mut Dataset) {
        if let Some(target) = &mut self.target {
            target.let_go(data);
        }
    }
}
