//! The server as a whole: INFO, sizes, flushing, time, MONITOR, SHUTDOWN, DEBUG and LOLWUT.

pub(super) mod command;
pub(super) mod commandlog;
pub(super) mod config;
mod debug;
mod digest;
mod info;
pub(super) mod latency;
pub(super) mod memory;
pub(super) mod persistence;

use debug::debug;
use info::info;
use tercel_core::clients::{Session, Wait};
use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, Outcome, SYNTAX, fail};
use tercel_core::command::parse::integer;
use tercel_core::command::spec::flags::*;
use tercel_core::command::spec::{Group, acl};
use tercel_core::dispatch::Context;
use tercel_core::dispatch::{Command, client_cmd, cmd};
use tercel_core::server::Request;

pub(crate) static COMMANDS: &[Command] = &[
    cmd("info", Group::Server, "1.0.0", -1, SHOWS_CLIENTS | LOADING | STALE | SENTINEL, info)
        .about("Reports on the server.", "O(1)")
        .args("[section:string...]")
        .acl(acl::DANGEROUS)
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"]),
    cmd("dbsize", Group::Server, "1.0.0", 1, READONLY | FAST, dbsize)
        .about("Counts the keys of the database.", "O(1)")
        .acl(acl::KEYSPACE)
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"]),
    cmd("flushall", Group::Server, "1.0.0", -1, WRITE | ALL_DBS, flushall)
        .about("Removes all keys of all databases.", "O(N)")
        .args("[flush-type(ASYNC|SYNC)]")
        .acl(acl::DANGEROUS | acl::KEYSPACE)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
    cmd("flushdb", Group::Server, "1.0.0", -1, WRITE, flushdb)
        .about("Removes all keys of the database.", "O(N)")
        .args("[flush-type(ASYNC|SYNC)]")
        .acl(acl::DANGEROUS | acl::KEYSPACE)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
    cmd("swapdb", Group::Server, "4.0.0", 3, WRITE | FAST, swapdb)
        .about("Exchanges two databases.", "O(N)")
        .args("index1:integer index2:integer")
        .acl(acl::DANGEROUS | acl::KEYSPACE),
    cmd("time", Group::Server, "2.6.0", 1, LOADING | STALE | FAST, time)
        .about("Returns the server's time.", "O(1)")
        .tips(&["nondeterministic_output"]),
    client_cmd("monitor", Group::Server, "1.0.0", 1, ADMIN | NOSCRIPT | LOADING | STALE, monitor)
        .about("Streams every command the server runs.", "O(1)"),
    cmd("lolwut", Group::Server, "5.0.0", -1, READONLY | FAST, lolwut)
        .about("Shows some art and the version.", "O(1)")
        .args("[VERSION version:integer]"),
    cmd(
        "shutdown",
        Group::Server,
        "1.0.0",
        -1,
        ADMIN | NOSCRIPT | LOADING | STALE | NO_MULTI | SENTINEL | ALLOW_BUSY,
        shutdown,
    )
    .about("Ends the server.", "O(N)")
    .args("[abort-selector(save-selector-block{[save-selector(NOSAVE|SAVE)] [NOW] [FORCE] [SAFE] [FAILOVER]}|ABORT)]"),
    cmd("debug", Group::Server, "1.0.0", -2, ADMIN | NOSCRIPT | LOADING | STALE | PROTECTED, debug)
        .about("Tools for testing the server.", "O(1)"),
];

fn dbsize(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    let len = cx.server.data().db(cx.caller.db).len();
    cx.out.count(len);
    Ok(())
}

/// SYNC and ASYNC mean the same here: the keys are gone at once and freed in slices.
fn check_flush_options(args: &Args<'_>) -> Result<(), CommandError> {
    match args.len() {
        1 => Ok(()),
        2 if args.is(1, "sync") || args.is(1, "async") => Ok(()),
        _ => Err(SYNTAX),
    }
}

fn flushdb(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    check_flush_options(args)?;
    cx.server.flush_db(cx.caller.db);
    // Whether there was anything here or not.
    cx.effect(|command| command.push(b"FLUSHDB"));
    cx.out.ok();
    Ok(())
}

fn flushall(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    check_flush_options(args)?;
    for db in 0..cx.server.data().databases() {
        if !cx.server.data().db(db).is_empty() {
            cx.server.flush_db(db);
        }
    }
    cx.effect(|command| command.push(b"FLUSHALL"));
    // Nobody is told that the data is gone while a crash could bring it back.
    if cx.server.persistence_mut().after_flush() {
        cx.caller.wait = Some(Wait::Saved);
    }
    cx.out.ok();
    Ok(())
}

fn swapdb(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let index = |at: usize| integer(args.get(at)).ok().filter(|index| i32::try_from(*index).is_ok());
    let first = index(1).ok_or(fail("ERR invalid first DB index"))?;
    let second = index(2).ok_or(fail("ERR invalid second DB index"))?;
    let databases = cx.server.data().databases() as i64;
    if !(0..databases).contains(&first) || !(0..databases).contains(&second) {
        return Err(tercel_core::command::error::DB_OUT_OF_RANGE);
    }
    let (first, second) = (first as usize, second as usize);
    if first != second {
        cx.server.swap_dbs(first, second);
    }
    cx.out.ok();
    Ok(())
}

fn time(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    let now = cx.server.read_clock();
    cx.out.array(2);
    cx.out.bulk((now.unix_us / 1_000_000).to_string());
    cx.out.bulk((now.unix_us % 1_000_000).to_string());
    Ok(())
}

fn monitor(cx: &mut Context<'_>, client: &mut Session, _: &Args<'_>) -> Outcome {
    if cx.caller.in_transaction {
        return Err(fail("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    cx.server.clients_mut().add_monitor(client);
    cx.out.ok();
    Ok(())
}

fn lolwut(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let mut at = 1;
    if args.len() >= 3 && args.is(1, "version") {
        integer(args.get(2))?;
        at = 3;
    }
    let columns = if args.len() > at { integer(args.get(at))?.clamp(1, 160) } else { 66 };
    let rows = if args.len() > at + 1 { integer(args.get(at + 1))?.clamp(1, 40) } else { 12 };
    // A falcon's dive: the curve of a pursuit, drawn by distance to it.
    let mut picture = String::new();
    for row in 0..rows {
        for column in 0..columns {
            let x = column as f64 / columns as f64;
            let y = row as f64 / rows as f64;
            let path = 1.0 - (1.0 - x).powf(3.0);
            let distance = (y - path).abs();
            picture.push(match distance {
                d if d < 0.04 => '#',
                d if d < 0.10 => '+',
                d if d < 0.18 => '.',
                _ => ' ',
            });
        }
        picture.push('\n');
    }
    picture.push_str(&format!("\nTercel ver. {}\n", env!("CARGO_PKG_VERSION")));
    cx.out.verbatim(&picture);
    Ok(())
}

fn shutdown(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let (mut save, mut nosave, mut abort, mut failover) = (false, false, false, false);
    let (mut force, mut others) = (false, false);
    for index in 1..args.len() {
        match () {
            () if args.is(index, "save") => save = true,
            () if args.is(index, "nosave") => nosave = true,
            () if args.is(index, "abort") => abort = true,
            () if args.is(index, "failover") => failover = true,
            () if args.is(index, "force") => force = true,
            () if args.is(index, "now") || args.is(index, "safe") => others = true,
            () => return Err(SYNTAX),
        }
    }
    if (abort && (save || nosave || failover || force || others)) || (save && nosave) {
        return Err(SYNTAX);
    }
    if failover {
        return Err(fail("ERR SHUTDOWN FAILOVER is only supported in cluster mode."));
    }
    if abort {
        return Err(fail("ERR No shutdown in progress."));
    }
    tracing::info!("User requested shutdown...");
    let asked = if save { Some(true) } else { nosave.then_some(false) };
    if cx.server.persistence_mut().before_shutdown(asked).is_err() {
        if !force {
            tracing::warn!("Error trying to save the DB, can't exit.");
            return Err(fail("ERR Errors trying to SHUTDOWN. Check logs."));
        }
        tracing::warn!("Error trying to save the DB. Exit anyway.");
    }
    cx.server.request(Request::Shutdown);
    Ok(())
}
