//! Transactions: MULTI, EXEC, DISCARD and WATCH.

use tercel_core::clients::Session;
use tercel_core::command::args::Args;
use tercel_core::command::error::{Outcome, fail};
use tercel_core::command::key_positions::keys_at;
use tercel_core::command::spec::{Group, acl};
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::dispatch::Context;
use tercel_core::dispatch::{Command, client_cmd};

pub(crate) static COMMANDS: &[Command] = &[
    client_cmd(
        "multi",
        Group::Transactions,
        "1.2.0",
        1,
        NOSCRIPT | LOADING | STALE | FAST | NO_MULTI | ALLOW_BUSY,
        multi,
    )
    .about("Begins a transaction.", "O(1)")
    .acl(acl::TRANSACTION),
    client_cmd(
        "exec",
        Group::Transactions,
        "1.2.0",
        1,
        NOT_QUEUED | RUNS_QUEUE | NOSCRIPT | LOADING | STALE | SKIP_COMMANDLOG,
        exec,
    )
    .about("Runs the commands queued since MULTI.", "O(N)")
    .acl(acl::TRANSACTION),
    client_cmd(
        "discard",
        Group::Transactions,
        "2.0.0",
        1,
        NOT_QUEUED | NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY,
        discard,
    )
    .about("Drops the commands queued since MULTI.", "O(N)")
    .acl(acl::TRANSACTION),
    client_cmd(
        "watch",
        Group::Transactions,
        "2.2.0",
        -2,
        NOSCRIPT | LOADING | STALE | FAST | NO_MULTI | ALLOW_BUSY,
        watch,
    )
    .about("Watches keys: EXEC runs only if none of them changed.", "O(1)")
    .keys(&[keys_at(RO, 1, -1, 1)])
    .args("key:key...")
    .acl(acl::TRANSACTION),
    client_cmd("unwatch", Group::Transactions, "2.2.0", 1, NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY, unwatch)
        .about("Forgets the keys watched for a transaction.", "O(1)")
        .acl(acl::TRANSACTION),
];

fn multi(cx: &mut Context<'_>, client: &mut Session, _: &Args<'_>) -> Outcome {
    client.transaction.begin();
    cx.out.ok();
    Ok(())
}

fn discard(cx: &mut Context<'_>, client: &mut Session, _: &Args<'_>) -> Outcome {
    if !client.transaction.is_open() {
        return Err(fail("ERR DISCARD without MULTI"));
    }
    cx.server.end_transaction(client);
    cx.out.ok();
    Ok(())
}

/// Whether a watched key passed its time since WATCH saw it.
fn watched_key_expired(cx: &Context<'_>, client: &Session) -> bool {
    let data = cx.server.data();
    client.transaction.watched().iter().any(|(db, key, expired)| !expired && data.is_expired(db, data.key(key)))
}

fn exec(cx: &mut Context<'_>, client: &mut Session, _: &Args<'_>) -> Outcome {
    let Some(queue) = client.transaction.take_queue() else {
        return Err(fail("ERR EXEC without MULTI"));
    };
    let broken = client.transaction.is_broken() || watched_key_expired(cx, client);
    cx.server.end_transaction(client);
    if queue.has_failed() {
        return Err(fail("EXECABORT Transaction discarded because of previous errors."));
    }
    if broken {
        cx.out.null_array();
        return Ok(());
    }
    cx.out.array(queue.commands().len());
    cx.caller.in_transaction = true;
    for queued in queue.commands() {
        cx.call(client, queued.command, &queued.owned.args());
    }
    cx.caller.in_transaction = false;
    Ok(())
}

fn watch(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    // Once a watched key changed nothing more can be learned from watching others.
    if !client.transaction.is_broken() {
        for index in 1..args.len() {
            let (key, db) = (cx.key(args, index), cx.caller.db);
            let expired = cx.server.data().is_expired(db, key);
            cx.server.watch(client, db, key.bytes, expired);
        }
    }
    cx.out.ok();
    Ok(())
}

fn unwatch(cx: &mut Context<'_>, client: &mut Session, _: &Args<'_>) -> Outcome {
    cx.server.unwatch_all(client);
    cx.out.ok();
    Ok(())
}
