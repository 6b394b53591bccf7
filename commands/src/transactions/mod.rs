//! Transactions: MULTI, EXEC, DISCARD and WATCH.

use tercel_core::clients::client::{Connection, Session, Transaction};
use tercel_core::command::args::Args;
use tercel_core::command::error::{Outcome, fail};
use tercel_core::command::key_positions::keys_at;
use tercel_core::command::reply::Reply;
use tercel_core::command::spec::{Group, acl};
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::dispatch;
use tercel_core::dispatch::Context;
use tercel_core::dispatch::{Command, cmd};

pub(crate) static COMMANDS: &[Command] = &[
    cmd("multi", Group::Transactions, "1.2.0", 1, NOSCRIPT | LOADING | STALE | FAST | NO_MULTI | ALLOW_BUSY, multi)
        .about("Begins a transaction.", "O(1)")
        .acl(acl::TRANSACTION),
    cmd(
        "exec",
        Group::Transactions,
        "1.2.0",
        1,
        NOT_QUEUED | RUNS_QUEUE | NOSCRIPT | LOADING | STALE | SKIP_COMMANDLOG,
        exec,
    )
    .about("Runs the commands queued since MULTI.", "O(N)")
    .acl(acl::TRANSACTION),
    cmd(
        "discard",
        Group::Transactions,
        "2.0.0",
        1,
        NOT_QUEUED | NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY,
        discard,
    )
    .about("Drops the commands queued since MULTI.", "O(N)")
    .acl(acl::TRANSACTION),
    cmd("watch", Group::Transactions, "2.2.0", -2, NOSCRIPT | LOADING | STALE | FAST | NO_MULTI | ALLOW_BUSY, watch)
        .about("Watches keys: EXEC runs only if none of them changed.", "O(1)")
        .keys(&[keys_at(RO, 1, -1, 1)])
        .args("key:key...")
        .acl(acl::TRANSACTION),
    cmd("unwatch", Group::Transactions, "2.2.0", 1, NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY, unwatch)
        .about("Forgets the keys watched for a transaction.", "O(1)")
        .acl(acl::TRANSACTION),
];

fn multi(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    cx.session.transaction = Some(Box::<Transaction>::default());
    cx.out.ok();
    Ok(())
}

fn discard(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    if cx.session.transaction.is_none() {
        return Err(fail("ERR DISCARD without MULTI"));
    }
    cx.core.end_transaction(cx.session);
    cx.out.ok();
    Ok(())
}

/// Whether a watched key passed its time since WATCH saw it.
fn watched_key_expired(cx: &Context<'_>) -> bool {
    let data = &cx.core.data;
    cx.session.watched.iter().any(|(db, key, expired)| !expired && data.is_expired(db, data.key(key)))
}

fn exec(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    let Some(transaction) = cx.session.transaction.take() else {
        return Err(fail("ERR EXEC without MULTI"));
    };
    let broken = cx.session.watch_broken || watched_key_expired(cx);
    cx.core.end_transaction(cx.session);
    if transaction.failed {
        return Err(fail("EXECABORT Transaction discarded because of previous errors."));
    }
    if broken {
        cx.out.null_array();
        return Ok(());
    }
    cx.out.array(transaction.commands.len());
    // The commands run like any other, so they need the client whole: it is put together for them
    // and taken apart again.
    let placeholder = Session::new(0, cx.session.conn, cx.session.peer.clone(), 0);
    let session = std::mem::replace(cx.session, placeholder);
    let out = std::mem::replace(cx.out, Reply::new(cx.out.version));
    let mut whole = Connection { session, out };
    whole.session.in_exec = true;
    for queued in &transaction.commands {
        let args = queued.owned.args();
        dispatch::run(cx.commands, cx.core, &mut whole, queued.command, &args, args.bytes_len());
    }
    whole.session.in_exec = false;
    *cx.session = whole.session;
    *cx.out = whole.out;
    Ok(())
}

fn watch(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    // Once a watched key changed nothing more can be learned from watching others.
    if !cx.session.watch_broken {
        for index in 1..args.len() {
            let key = cx.key(args, index);
            let expired = cx.core.data.is_expired(cx.session.db, key);
            cx.core.watch(cx.session, key.bytes, expired);
        }
    }
    cx.out.ok();
    Ok(())
}

fn unwatch(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    cx.core.unwatch_all(cx.session);
    cx.session.watch_broken = false;
    cx.out.ok();
    Ok(())
}
