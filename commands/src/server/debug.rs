//! DEBUG: what test suites need, as far as this version's types go.

use tercel_engine::{Encoding, Expire, NewValue};

use super::digest;
use tercel_resp::encode;

use tercel_core::base::glob::Glob;
use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, NO_SUCH_KEY, Outcome, fail};
use tercel_core::command::parse::shown;
use tercel_core::command::parse::{float, integer, lossy};
use tercel_core::dispatch::Context;
use tercel_core::server::Request;

const HELP: &[&str] = &[
    "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CHANGE-REPL-ID",
    "    Does nothing: there is no replication yet.",
    "DIGEST",
    "    Returns a digest of all data.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Returns digests of values.",
    "ERROR <text>",
    "    Answers an error.",
    "HTSTATS <db>",
    "    Describes the table of a database.",
    "HTSTATS-KEY <key>",
    "    Describes a value that is reported as a hash table.",
    "LISTPACK <key>",
    "    Describes a value that is reported as a listpack, in the log.",
    "LOG <text>",
    "    Writes to the log.",
    "OBJECT <key>",
    "    Describes a value.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Makes keys <prefix>:<number> that are not there yet, with values of a size in bytes.",
    "PROTOCOL <type>",
    "    Answers a value of a type of the protocol.",
    "RELOAD [NOSAVE] [NOFLUSH] [MERGE]",
    "    Saves, removes all data and loads what was saved.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Lets deadlines fire or not.",
    "SLEEP <seconds>",
    "    Stops the server for a time.",
    "STRINGMATCH-LEN <len> <pattern>",
    "    Matches a pattern against a long text.",
    "RESTART | CRASH-AND-RECOVER | PANIC | SEGFAULT",
    "    Not supported.",
];

pub(super) fn debug(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let sub = lossy(args.get(1)).to_ascii_lowercase();
    match (sub.as_str(), args.len()) {
        ("help", 2) => cx.out.lines(HELP),
        ("sleep", 3) => {
            let seconds = float(args.get(2))?;
            sleep(cx, seconds);
            cx.out.ok();
        }
        ("set-active-expire", 3) => {
            let on = integer(args.get(2))? != 0;
            cx.server.data_mut().set_active_expire(on);
            cx.out.ok();
        }
        ("set-skip-checksum-validation", 3) => {
            let skips = integer(args.get(2))? != 0;
            cx.server.persistence_mut().skip_payload_checksums(skips);
            cx.out.ok();
        }
        ("populate", 3..=5) => {
            populate(cx, args)?;
            cx.out.ok();
        }
        ("object", 3 | 4) => return object(cx, args),
        ("digest", 2) => {
            let job = digest::OfAll::new(cx.server.data_mut());
            return cx.in_slices(args, Box::new(job));
        }
        ("digest-value", 3..) => {
            cx.out.array(args.len() - 2);
            let (data, db) = (cx.server.data(), cx.caller.db);
            let expired = data.expired();
            let of = |bytes| Some(digest::OfValue::new(data.peek(db, data.key(bytes))?.value(), expired));
            let job = digest::OfValues { values: args.rest(2).map(of).collect() };
            return cx.in_slices(args, Box::new(job));
        }
        ("htstats", 3 | 4) => {
            let db = cx.db_index(args.get(2))?;
            let stats = cx.server.data().db(db).table_stats();
            cx.out.verbatim(&format!("[Dictionary HT]\n{stats:#?}\n"));
        }
        ("listpack", 3) => {
            let (encoding, bytes) = shape(cx, args)?;
            if encoding != Encoding::ListPack {
                return Err(fail("ERR Not a listpack encoded object."));
            }
            tracing::info!("DEBUG LISTPACK: {} is one block with its key, {bytes} bytes", shown(args.get(2)));
            cx.out.simple("Listpack structure printed on stdout");
        }
        ("htstats-key", 3..) => {
            let (encoding, bytes) = shape(cx, args)?;
            if encoding != Encoding::HashTable {
                return Err(fail("ERR The value stored at the specified key is not represented using an hash table"));
            }
            // There is no table: fields lie in leaves, in the order of their hashes.
            cx.out.verbatim(&format!("[Dictionary HT]\nbytes: {bytes}\n"));
        }
        ("log", 3) => {
            tracing::warn!("DEBUG LOG: {}", lossy(args.get(2)));
            cx.out.ok();
        }
        ("error", 3) => return Err(CommandError::new(lossy(args.get(2)))),
        ("stringmatch-len", 4) => {
            let len = integer(args.get(2))?.clamp(0, 1 << 26) as usize;
            cx.out.flag(Glob::new(args.get(3), false).matches(&vec![b'a'; len]));
        }
        ("protocol", 3) => return protocol(cx, args),
        ("change-repl-id" | "jmap" | "quicklist-packed-threshold", _)
        | ("pause-cron" | "replybuffer" | "dict-resizing", 3 | 4) => cx.out.ok(),
        ("reload", 2..) => {
            reload(cx, args)?;
            cx.out.ok();
        }
        ("exit", 2) => cx.server.request(Request::Exit(0)),
        ("loadaof" | "restart" | "crash-and-recover" | "panic" | "segfault", _) => {
            return Err(CommandError::new(format!(
                "ERR DEBUG {} is not supported by this version",
                sub.to_ascii_uppercase()
            )));
        }
        _ => {
            return Err(CommandError::new(format!(
                "ERR unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.",
                shown(args.get(1))
            )));
        }
    }
    Ok(())
}

/// How the value of the key that is argument 2 is reported, and its memory in bytes.
fn shape(cx: &Context<'_>, args: &Args<'_>) -> Result<(Encoding, usize), CommandError> {
    let data = cx.server.data();
    let entry = data.peek(cx.caller.db, data.key(args.get(2))).ok_or(NO_SUCH_KEY)?;
    Ok((entry.encoding(), entry.memory_bytes()))
}

/// Stops the whole executor: that is what the command is for.
fn sleep(cx: &Context<'_>, seconds: f64) {
    if seconds.is_finite() && seconds > 0.0 {
        cx.server.host().sleep(std::time::Duration::from_secs_f64(seconds.min(3600.0)));
    }
}

fn reload(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    if cx.server.persistence().is_loading() {
        // What is loaded so far would be saved in place of the whole.
        return Err(tercel_core::dispatch::LOADING);
    }
    let (mut save, mut flush, mut merge) = (true, true, false);
    for index in 2..args.len() {
        match () {
            () if args.is(index, "nosave") => save = false,
            () if args.is(index, "noflush") => flush = false,
            () if args.is(index, "merge") => merge = true,
            () => return Err(fail("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")),
        }
    }
    if save {
        cx.server.persistence_mut().save_now().map_err(|_| super::persistence::FAILED)?;
    }
    if flush {
        for db in 0..cx.server.data().databases() {
            cx.server.data_mut().flush(db);
        }
    }
    // The same data, but for what was not saved: nobody else's business.
    cx.server.data_mut().no_effect();
    cx.server.persistence_mut().load_now(merge).map_err(|error| {
        tracing::warn!("{error}");
        fail("ERR Error trying to load the RDB dump, check server logs.")
    })
}

/// Values say their number, padded with zero bytes or cut to the size if one is given.
fn populate(cx: &mut Context<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let count = integer(args.get(2))?;
    let prefix = if args.len() > 3 { lossy(args.get(3)) } else { "key".to_owned() };
    let size = if args.len() > 4 { Some(integer(args.get(4))?) } else { None };
    if count < 0 || size.is_some_and(|size| size < 0 || size > cx.server.settings().proto_max_bulk_len.0) {
        return Err(fail("ERR value is out of range, must be positive"));
    }
    let db = cx.caller.db;
    for number in 0..count {
        let name = format!("{prefix}:{number}");
        let key = cx.server.data().key(name.as_bytes());
        if cx.server.data().peek(db, key).is_some() {
            continue;
        }
        let mut value = format!("value:{number}").into_bytes();
        if let Some(size) = size.filter(|&size| size > 0) {
            value.resize(size as usize, 0);
        }
        cx.server.data_mut().store(db, key, NewValue::Bytes(&value), Expire::Clear);
    }
    Ok(())
}

fn object(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.server.data().key(args.get(2));
    let now_ms = cx.server.now().unix_ms;
    let Some(entry) = cx.server.data().peek(cx.caller.db, key) else { return Err(NO_SUCH_KEY) };
    let encoding = entry.encoding().name();
    let text = format!(
        "Value at:0x{:x} refcount:1 encoding:{encoding} serializedlength:{} lru:{} lru_seconds_idle:{}",
        key.hash.0,
        entry.string().map_or(entry.memory_bytes(), |value| value.len() + 1),
        (now_ms / 1000 - entry.idle_seconds(now_ms) as i64) & 0xff_ffff,
        entry.idle_seconds(now_ms)
    );
    cx.out.simple(&text);
    Ok(())
}

fn protocol(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let resp3 = cx.out.is_resp3();
    match lossy(args.get(2)).to_ascii_lowercase().as_str() {
        "string" => cx.out.bulk("Hello World"),
        "integer" => cx.out.integer(12345),
        #[allow(clippy::approx_constant)] // The number Valkey answers here.
        "double" => cx.out.double(3.141),
        "null" => cx.out.null(),
        "array" => {
            cx.out.array(3);
            (0..3).for_each(|number| cx.out.integer(number));
        }
        "set" => {
            cx.out.set(3);
            (0..3).for_each(|number| cx.out.integer(number));
        }
        "map" => {
            cx.out.map(3);
            for number in 0..3 {
                cx.out.integer(number);
                cx.out.boolean(number == 1);
            }
        }
        "attrib" => {
            if resp3 {
                cx.out.encode(|into, _| encode::header(into, b'|', 1));
                cx.out.bulk("key-popularity");
                cx.out.array(2);
                cx.out.bulk("key:123");
                cx.out.integer(90);
            }
            cx.out.bulk("Some real reply following the attribute");
        }
        "push" => {
            if !resp3 {
                return Err(fail("ERR RESP2 is not supported by this command"));
            }
            cx.out.push(2);
            cx.out.bulk("server-cpu-usage");
            cx.out.integer(42);
        }
        "verbatim" => cx.out.verbatim("This is a verbatim\nstring"),
        "true" => cx.out.boolean(true),
        "false" => cx.out.boolean(false),
        "bignum" => {
            cx.out.encode(|into, version| encode::big_number(into, version, b"1234567999999999999999999999999999999"));
        }
        _ => {
            return Err(fail(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|double|null|array|set|map|attrib|push|verbatim|true|false|bignum",
            ));
        }
    }
    Ok(())
}
