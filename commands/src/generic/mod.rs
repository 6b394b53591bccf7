//! Keys whatever their type: deleting, renaming, copying, walking, asking.

pub(super) mod dump;
pub(super) mod expire;
pub(super) mod restore;

use tercel_core::base::glob::Glob;
use tercel_core::clients::Slice;
use tercel_core::command::Reply;
use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, NO_SUCH_KEY, Outcome, SYNTAX, fail};
use tercel_core::command::event_class as class;
use tercel_core::command::key_positions::keys_at;
use tercel_core::command::parse::integer;
use tercel_core::command::spec::{Group, acl};
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::data::{Dataset, Expired};
use tercel_core::dispatch::Context;
use tercel_core::dispatch::container;
use tercel_core::dispatch::{Command, cmd};
use tercel_engine::SnapshotId;

const SAME_OBJECTS: CommandError = fail("ERR source and destination objects are the same");
/// Keys SCAN returns a call unless told otherwise.
const SCAN_COUNT_DEFAULT: i64 = 10;
/// Keys written into an answer between two looks at the clock.
const ANSWERED_AT_ONCE: usize = 256;

static OBJECT_SUBCOMMANDS: &[Command] = &[
    cmd("object|encoding", Group::Generic, "2.2.3", 3, READONLY, object_encoding)
        .about("Returns how a value is encoded.", "O(1)")
        .keys(&[keys_at(RO, 2, 0, 1)])
        .args("key:key")
        .acl(acl::KEYSPACE)
        .tips(&["nondeterministic_output"]),
    cmd("object|freq", Group::Generic, "4.0.0", 3, READONLY, object_freq)
        .about("Returns how often a key is used.", "O(1)")
        .keys(&[keys_at(RO, 2, 0, 1)])
        .args("key:key")
        .acl(acl::KEYSPACE)
        .tips(&["nondeterministic_output"]),
    cmd("object|help", Group::Generic, "6.2.0", 2, LOADING | STALE, object_help)
        .about("Lists the subcommands.", "O(1)")
        .acl(acl::KEYSPACE),
    cmd("object|idletime", Group::Generic, "2.2.3", 3, READONLY, object_idletime)
        .about("Returns how long a key was not used.", "O(1)")
        .keys(&[keys_at(RO, 2, 0, 1)])
        .args("key:key")
        .acl(acl::KEYSPACE)
        .tips(&["nondeterministic_output"]),
    cmd("object|refcount", Group::Generic, "2.2.3", 3, READONLY, object_refcount)
        .about("Returns how many references a value has.", "O(1)")
        .keys(&[keys_at(RO, 2, 0, 1)])
        .args("key:key")
        .acl(acl::KEYSPACE)
        .tips(&["nondeterministic_output"]),
];

pub(crate) static COMMANDS: &[Command] = &[
    cmd("del", Group::Generic, "1.0.0", -2, WRITE, del)
        .about("Deletes keys.", "O(N)")
        .keys(&[keys_at(RM | DELETE, 1, -1, 1)])
        .args("key:key...")
        .acl(acl::KEYSPACE)
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"]),
    cmd("unlink", Group::Generic, "4.0.0", -2, WRITE | FAST, unlink)
        .about("Deletes keys; large values are freed later.", "O(1)")
        .keys(&[keys_at(RM | DELETE, 1, -1, 1)])
        .args("key:key...")
        .acl(acl::KEYSPACE)
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"]),
    cmd("exists", Group::Generic, "1.0.0", -2, READONLY | FAST, exists)
        .about("Counts how many of the keys exist.", "O(N)")
        .keys(&[keys_at(RO, 1, -1, 1)])
        .args("key:key...")
        .acl(acl::KEYSPACE)
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"]),
    cmd("touch", Group::Generic, "3.2.1", -2, ALWAYS_TOUCHES | READONLY | FAST, touch)
        .about("Marks keys as used and counts those that exist.", "O(N)")
        .keys(&[keys_at(RO, 1, -1, 1)])
        .args("key:key...")
        .acl(acl::KEYSPACE)
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"]),
    cmd("type", Group::Generic, "1.0.0", 2, READONLY | FAST, type_of)
        .about("Returns the type of a value.", "O(1)")
        .keys(&[keys_at(RO, 1, 0, 1)])
        .args("key:key")
        .acl(acl::KEYSPACE),
    cmd("rename", Group::Generic, "1.0.0", 3, WRITE, rename)
        .about("Renames a key, replacing the target.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | DELETE, 1, 0, 1), keys_at(OW | UPDATE, 2, 0, 1)])
        .args("key:key newkey:key")
        .acl(acl::KEYSPACE),
    cmd("renamenx", Group::Generic, "1.0.0", 3, WRITE | FAST, renamenx)
        .about("Renames a key if the target is missing.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | DELETE, 1, 0, 1), keys_at(OW | INSERT, 2, 0, 1)])
        .args("key:key newkey:key")
        .acl(acl::KEYSPACE),
    cmd("copy", Group::Generic, "6.2.0", -3, WRITE | DENYOOM, copy)
        .about("Copies a value to another key.", "O(N)")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1), keys_at(OW | UPDATE, 2, 0, 1)])
        .args("source:key destination:key [DB destination-db:integer] [REPLACE]")
        .acl(acl::KEYSPACE),
    cmd("move", Group::Generic, "1.0.0", 3, WRITE | FAST, move_key)
        .about("Moves a key to another database.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | UPDATE, 1, 0, 1)])
        .args("key:key db:integer")
        .acl(acl::KEYSPACE),
    cmd("randomkey", Group::Generic, "1.0.0", 1, READONLY | TOUCHES_ARBITRARY_KEYS, randomkey)
        .about("Returns some key.", "O(1)")
        .acl(acl::KEYSPACE)
        .tips(&["request_policy:all_shards", "response_policy:special", "nondeterministic_output"]),
    cmd("keys", Group::Generic, "1.0.0", 2, READONLY, keys)
        .about("Returns all keys that match a pattern.", "O(N)")
        .args("pattern:pattern")
        .acl(acl::DANGEROUS | acl::KEYSPACE)
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"]),
    cmd("scan", Group::Generic, "2.8.0", -2, READONLY | TOUCHES_ARBITRARY_KEYS, scan)
        .about("Walks through the keys.", "O(1)")
        .args("cursor:integer [MATCH pattern:pattern] [COUNT count:integer] [TYPE type:string]")
        .acl(acl::KEYSPACE)
        .tips(&["nondeterministic_output", "request_policy:special", "response_policy:special"]),
    cmd("object", Group::Generic, "2.2.3", -2, NONE, container)
        .about("Looks at how a value is stored.", "O(1)")
        .sub(OBJECT_SUBCOMMANDS),
];

fn del(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let mut deleted = 0;
    for index in 1..args.len() {
        let key = cx.key(args, index);
        deleted += usize::from(cx.server.data_mut().delete(cx.caller.db, key));
    }
    cx.out.count(deleted);
    Ok(())
}

fn unlink(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    del(cx, args)
}

fn count_found(cx: &mut Context<'_>, args: &Args<'_>) {
    let mut found = 0;
    for index in 1..args.len() {
        let key = cx.key(args, index);
        found += usize::from(cx.server.data_mut().read(cx.caller.db, key).is_some());
    }
    cx.out.count(found);
}

fn exists(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    // Asking whether a key is there is no use of it.
    cx.server.data_mut().set_no_touch(true);
    count_found(cx, args);
    Ok(())
}

fn touch(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    count_found(cx, args);
    Ok(())
}

fn type_of(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let name = cx.server.data().peek(cx.caller.db, key).map_or("none", |entry| entry.kind().name());
    cx.out.simple(name);
    Ok(())
}

fn rename_key(cx: &mut Context<'_>, args: &Args<'_>, only_if_free: bool) -> Outcome {
    let (from, to) = (cx.key(args, 1), cx.server.data().key(args.get(2)));
    let db = cx.caller.db;
    if cx.server.data_mut().peek_to_write(db, from).is_none() {
        return Err(NO_SUCH_KEY);
    }
    if from.bytes == to.bytes {
        if only_if_free {
            cx.out.integer(0);
        } else {
            cx.out.ok();
        }
        return Ok(());
    }
    let taken = cx.server.data_mut().peek_to_write(db, to).is_some();
    if taken && only_if_free {
        cx.out.integer(0);
        return Ok(());
    }
    cx.server.data_mut().rename(db, from, to);
    cx.server.data_mut().notify(class::GENERIC, "rename_from", db, from.bytes);
    cx.server.data_mut().notify(class::GENERIC, "rename_to", db, to.bytes);
    if only_if_free {
        cx.out.integer(1);
    } else {
        cx.out.ok();
    }
    Ok(())
}

fn rename(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    rename_key(cx, args, false)
}

fn renamenx(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    rename_key(cx, args, true)
}

fn copy(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let (mut target_db, mut replace) = (cx.caller.db, false);
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "replace") {
            replace = true;
        } else if args.is(at, "db") && at + 1 < args.len() {
            at += 1;
            target_db = cx.db_index(args.get(at))?;
        } else {
            return Err(SYNTAX);
        }
        at += 1;
    }
    let db = cx.caller.db;
    let (from, to) = (cx.key(args, 1), cx.server.data().key(args.get(2)));
    if db == target_db && from.bytes == to.bytes {
        return Err(SAME_OBJECTS);
    }
    let source_is_there = cx.server.data_mut().read(db, from).is_some();
    if !source_is_there || (cx.server.data_mut().peek_to_write(target_db, to).is_some() && !replace) {
        cx.out.integer(0);
        return Ok(());
    }
    cx.server.data_mut().copy(db, from, target_db, to);
    cx.server.data_mut().notify(class::GENERIC, "copy_to", target_db, to.bytes);
    cx.out.integer(1);
    Ok(())
}

fn move_key(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let db = cx.caller.db;
    let target_db = cx.db_index(args.get(2))?;
    if db == target_db {
        return Err(SAME_OBJECTS);
    }
    let key = cx.key(args, 1);
    let moved = cx.server.data_mut().move_to(db, key, target_db);
    if moved {
        cx.server.data_mut().notify(class::GENERIC, "move_from", db, key.bytes);
        cx.server.data_mut().notify(class::GENERIC, "move_to", target_db, key.bytes);
    }
    cx.out.flag(moved);
    Ok(())
}

fn randomkey(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    let db = cx.caller.db;
    // Keys past their time are drawn again, a bounded number of times.
    for _ in 0..100 {
        match cx.server.data_mut().random_key(db) {
            Ok(key) => {
                cx.out.bulk(key);
                return Ok(());
            }
            Err(true) => {}
            Err(false) => break,
        }
    }
    cx.out.null();
    Ok(())
}

/// `None` is every key, the empty one too.
fn pattern_of(text: &[u8]) -> Option<Glob> {
    (text != b"*").then(|| Glob::new(text, false))
}

fn keys(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let db = cx.caller.db;
    let walk = cx.server.data_mut().snapshot_begin_db(db);
    let expired = cx.server.data().expired();
    let pattern = pattern_of(args.get(1));
    let keys = Keys { walk: Some(walk), expired, pattern, found: Vec::new(), found_bytes: 0 };
    cx.in_slices(args, Box::new(keys))
}

/// All keys of a database as they were when the command began.
struct Keys {
    /// The walk, until it is over.
    walk: Option<SnapshotId>,
    /// What was past its time then.
    expired: Expired,
    pattern: Option<Glob>,
    found: Vec<Box<[u8]>>,
    found_bytes: usize,
}

impl Slice for Keys {
    fn step(&mut self, _: &Args<'_>, data: &mut Dataset, answer: &mut Reply) -> bool {
        let Some(walk) = self.walk else { return answer_some(&mut self.found, answer) };
        let (expired, pattern) = (self.expired, &self.pattern);
        let (found, found_bytes) = (&mut self.found, &mut self.found_bytes);
        let more = data.snapshot_step(walk, &mut |_, entry| {
            if !expired.is(entry) && pattern.as_ref().is_none_or(|pattern| pattern.matches(entry.key())) {
                *found_bytes += entry.key().len() + size_of::<Box<[u8]>>();
                found.push(entry.key().into());
            }
        });
        if more {
            return true;
        }
        self.abandon(data);
        answer.array(self.found.len());
        !self.found.is_empty()
    }

    fn abandon(&mut self, data: &mut Dataset) {
        if let Some(walk) = self.walk.take() {
            data.snapshot_end(walk);
        }
    }

    fn gathered(&self) -> usize {
        self.found_bytes
    }
}

/// Answers some of the keys found; true while more are left.
fn answer_some(found: &mut Vec<Box<[u8]>>, answer: &mut Reply) -> bool {
    for key in found.drain(found.len().saturating_sub(ANSWERED_AT_ONCE)..) {
        answer.bulk(key);
    }
    !found.is_empty()
}

fn scan(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let cursor = tercel_resp::number::parse_u64(args.get(1)).ok_or(fail("ERR invalid cursor"))?;
    let (mut pattern, mut count, mut kind) = (None, SCAN_COUNT_DEFAULT, None);
    let mut at = 2;
    while at < args.len() {
        if at + 1 >= args.len() {
            return Err(SYNTAX);
        }
        if args.is(at, "match") {
            pattern = pattern_of(args.get(at + 1));
        } else if args.is(at, "count") {
            count = integer(args.get(at + 1))?;
            if count < 1 {
                return Err(SYNTAX);
            }
        } else if args.is(at, "type") {
            let known = ["string", "list", "set", "zset", "hash", "stream"];
            kind = known.into_iter().find(|name| args.is(at + 1, name));
            if kind.is_none() {
                return Err(CommandError::new(format!(
                    "ERR unknown type name '{}'",
                    tercel_core::command::parse::lossy(args.get(at + 1))
                )));
            }
        } else {
            return Err(SYNTAX);
        }
        at += 2;
    }
    let scan = Scan {
        db: cx.caller.db,
        cursor,
        count,
        // An empty stretch of the table costs steps too: the walk is bounded by those as well.
        steps: count.saturating_mul(10),
        pattern,
        kind,
        found: Vec::new(),
        found_bytes: 0,
        upheavals: cx.server.data().upheavals(),
        is_walked: false,
    };
    cx.in_slices(args, Box::new(scan))
}

/// A walk through a part of the keys. It need not be of one moment: that is what SCAN's cursor is for.
struct Scan {
    db: usize,
    cursor: u64,
    /// Keys still to look at.
    count: i64,
    steps: i64,
    pattern: Option<Glob>,
    kind: Option<&'static str>,
    found: Vec<Box<[u8]>>,
    found_bytes: usize,
    /// As many there had been when it began: after another it ends, where it is.
    upheavals: u64,
    is_walked: bool,
}

impl Slice for Scan {
    fn step(&mut self, _: &Args<'_>, data: &mut Dataset, answer: &mut Reply) -> bool {
        if !self.is_walked {
            self.is_walked = !self.walk(data);
            if self.is_walked {
                answer.array(2);
                answer.bulk(self.cursor.to_string());
                answer.array(self.found.len());
            }
            return !self.is_walked || !self.found.is_empty();
        }
        answer_some(&mut self.found, answer)
    }

    fn gathered(&self) -> usize {
        self.found_bytes
    }
}

impl Scan {
    /// A piece of the table; true while there is more to do.
    fn walk(&mut self, data: &mut Dataset) -> bool {
        if data.upheavals() != self.upheavals {
            return false;
        }
        let past = data.expired();
        let mut expired: Vec<Box<[u8]>> = Vec::new();
        self.cursor = data.scan(self.db, self.cursor, &mut |entry| {
            self.count -= 1;
            if self.pattern.as_ref().is_some_and(|pattern| !pattern.matches(entry.key()))
                || self.kind.is_some_and(|kind| kind != entry.kind().name())
            {
                return;
            }
            if past.is(entry) {
                expired.push(entry.key().into());
            } else {
                self.found_bytes += entry.key().len() + size_of::<Box<[u8]>>();
                self.found.push(entry.key().into());
            }
        });
        for bytes in expired {
            let key = data.key(&bytes);
            data.expire_if_due(self.db, key);
        }
        self.steps -= 1;
        self.cursor != 0 && self.count > 0 && self.steps > 0
    }
}

fn uses_lfu(cx: &Context<'_>) -> bool {
    cx.server.data().access().lfu
}

fn object_encoding(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.server.data().key(args.get(2));
    match cx.server.data().peek(cx.caller.db, key) {
        None => cx.out.null(),
        Some(entry) => cx.out.bulk(entry.encoding().name()),
    }
    Ok(())
}

fn object_refcount(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.server.data().key(args.get(2));
    match cx.server.data().peek(cx.caller.db, key) {
        None => cx.out.null(),
        Some(_) => cx.out.integer(1),
    }
    Ok(())
}

fn object_idletime(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.server.data().key(args.get(2));
    let now_ms = cx.server.now().unix_ms;
    let lfu = uses_lfu(cx);
    match cx.server.data().peek(cx.caller.db, key) {
        None => cx.out.null(),
        Some(_) if lfu => {
            return Err(fail(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        Some(entry) => cx.out.integer(entry.idle_seconds(now_ms) as i64),
    }
    Ok(())
}

fn object_freq(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.server.data().key(args.get(2));
    let access = cx.server.data().access();
    match cx.server.data().peek(cx.caller.db, key) {
        None => cx.out.null(),
        Some(_) if !access.lfu => {
            return Err(fail(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        Some(entry) => cx.out.integer(i64::from(entry.lfu_count(&access))),
    }
    Ok(())
}

fn object_help(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    tercel_core::dispatch::help(cx, "object");
    Ok(())
}
