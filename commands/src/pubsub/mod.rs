//! Publish and subscribe: channels, patterns and shard channels.

use tercel_core::base::glob::Glob;
use tercel_core::clients::client::ReplyMode;
use tercel_core::clients::subscriptions::{Kind, Listeners};
use tercel_core::command::args::Args;
use tercel_core::command::error::{Outcome, fail, subcommand_syntax};
use tercel_core::command::key_positions::keys_at;
use tercel_core::command::spec::Group;
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::dispatch::Context;
use tercel_core::dispatch::container;
use tercel_core::dispatch::{Command, cmd};

static PUBSUB_SUBCOMMANDS: &[Command] = &[
    cmd("pubsub|channels", Group::Pubsub, "2.8.0", -2, PUBSUB | LOADING | STALE, pubsub_channels)
        .about("Lists the channels that have subscribers.", "O(N)")
        .args("[pattern:pattern]"),
    cmd("pubsub|help", Group::Pubsub, "6.2.0", 2, LOADING | STALE, pubsub_help).about("Lists the subcommands.", "O(1)"),
    cmd("pubsub|numpat", Group::Pubsub, "2.8.0", 2, PUBSUB | LOADING | STALE, pubsub_numpat)
        .about("Counts the patterns clients are subscribed to.", "O(1)"),
    cmd("pubsub|numsub", Group::Pubsub, "2.8.0", -2, PUBSUB | LOADING | STALE, pubsub_numsub)
        .about("Counts the subscribers of channels.", "O(N)")
        .args("[channel:string...]"),
    cmd("pubsub|shardchannels", Group::Pubsub, "7.0.0", -2, PUBSUB | LOADING | STALE, pubsub_shardchannels)
        .about("Lists the shard channels that have subscribers.", "O(N)")
        .args("[pattern:pattern]"),
    cmd("pubsub|shardnumsub", Group::Pubsub, "7.0.0", -2, PUBSUB | LOADING | STALE, pubsub_shardnumsub)
        .about("Counts the subscribers of shard channels.", "O(N)")
        .args("[shardchannel:string...]"),
];

pub(crate) static COMMANDS: &[Command] = &[
    cmd(
        "subscribe",
        Group::Pubsub,
        "2.0.0",
        -2,
        WHILE_SUBSCRIBED | PUBSUB | NOSCRIPT | LOADING | STALE | SENTINEL,
        subscribe,
    )
    .about("Subscribes to channels.", "O(N)")
    .args("channel:string..."),
    cmd(
        "unsubscribe",
        Group::Pubsub,
        "2.0.0",
        -1,
        WHILE_SUBSCRIBED | PUBSUB | NOSCRIPT | LOADING | STALE | SENTINEL,
        unsubscribe,
    )
    .about("Unsubscribes from channels, or from all of them.", "O(N)")
    .args("[channel:string...]"),
    cmd(
        "psubscribe",
        Group::Pubsub,
        "2.0.0",
        -2,
        WHILE_SUBSCRIBED | PUBSUB | NOSCRIPT | LOADING | STALE | SENTINEL,
        psubscribe,
    )
    .about("Subscribes to the channels that match patterns.", "O(N)")
    .args("pattern:pattern..."),
    cmd(
        "punsubscribe",
        Group::Pubsub,
        "2.0.0",
        -1,
        WHILE_SUBSCRIBED | PUBSUB | NOSCRIPT | LOADING | STALE | SENTINEL,
        punsubscribe,
    )
    .about("Unsubscribes from patterns, or from all of them.", "O(N)")
    .args("[pattern:pattern...]"),
    cmd("ssubscribe", Group::Pubsub, "7.0.0", -2, WHILE_SUBSCRIBED | PUBSUB | NOSCRIPT | LOADING | STALE, ssubscribe)
        .about("Subscribes to shard channels.", "O(N)")
        .keys(&[keys_at(NOT_KEY, 1, -1, 1)])
        .args("shardchannel:string..."),
    cmd(
        "sunsubscribe",
        Group::Pubsub,
        "7.0.0",
        -1,
        WHILE_SUBSCRIBED | PUBSUB | NOSCRIPT | LOADING | STALE,
        sunsubscribe,
    )
    .about("Unsubscribes from shard channels, or from all of them.", "O(N)")
    .keys(&[keys_at(NOT_KEY, 1, -1, 1)])
    .args("[shardchannel:string...]"),
    cmd("publish", Group::Pubsub, "2.0.0", 3, PUBSUB | LOADING | STALE | FAST | MAY_REPLICATE | SENTINEL, publish)
        .about("Sends a message to a channel.", "O(N+M)")
        .args("channel:string message:string"),
    cmd("spublish", Group::Pubsub, "7.0.0", 3, PUBSUB | LOADING | STALE | FAST | MAY_REPLICATE, spublish)
        .about("Sends a message to a shard channel.", "O(N)")
        .keys(&[keys_at(NOT_KEY, 1, 0, 1)])
        .args("shardchannel:string message:string"),
    cmd("pubsub", Group::Pubsub, "2.8.0", -2, NONE, container)
        .about("Looks into the state of publish and subscribe.", "O(1)")
        .sub(PUBSUB_SUBCOMMANDS),
];

/// The words of the messages that tell of a subscription that began, and that ended.
fn words(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Channel => ("subscribe", "unsubscribe"),
        Kind::Pattern => ("psubscribe", "punsubscribe"),
        Kind::Shard => ("ssubscribe", "sunsubscribe"),
    }
}

/// Tells of a subscription that began or ended. It is a message rather than a reply, so it gets through to a
/// client that wants no replies.
fn confirm(cx: &mut Context<'_>, word: &str, name: Option<&[u8]>, count: usize) {
    let out = match &mut cx.core.current {
        Some(current) if cx.session.reply_mode != ReplyMode::On => &mut current.pushes,
        _ => &mut *cx.out,
    };
    out.push(3);
    out.bulk(word);
    match name {
        Some(name) => out.bulk(name),
        None => out.null(),
    }
    out.count(count);
}

fn subscribe_to(cx: &mut Context<'_>, args: &Args<'_>, kind: Kind) -> Outcome {
    for name in args.rest(1) {
        cx.core.pubsub.subscribe(cx.session, kind, name);
        let count = kind.count(cx.session);
        confirm(cx, words(kind).0, Some(name), count);
    }
    Ok(())
}

fn unsubscribe_from(cx: &mut Context<'_>, args: &Args<'_>, kind: Kind) -> Outcome {
    let listed: Vec<Box<[u8]>> =
        if args.len() > 1 { args.rest(1).map(Into::into).collect() } else { kind.names(cx.session) };
    if listed.is_empty() {
        let count = kind.count(cx.session);
        confirm(cx, words(kind).1, None, count);
    }
    for name in listed {
        cx.core.pubsub.unsubscribe(cx.session, kind, &name);
        let count = kind.count(cx.session);
        confirm(cx, words(kind).1, Some(&name), count);
    }
    Ok(())
}

fn subscribe(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    subscribe_to(cx, args, Kind::Channel)
}

fn unsubscribe(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    unsubscribe_from(cx, args, Kind::Channel)
}

fn psubscribe(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    subscribe_to(cx, args, Kind::Pattern)
}

fn punsubscribe(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    unsubscribe_from(cx, args, Kind::Pattern)
}

fn ssubscribe(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    if cx.session.in_exec {
        return Err(fail("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"));
    }
    subscribe_to(cx, args, Kind::Shard)
}

fn sunsubscribe(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    unsubscribe_from(cx, args, Kind::Shard)
}

fn publish(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let receivers = cx.core.publish(args.get(1), args.get(2));
    cx.out.count(receivers);
    Ok(())
}

fn spublish(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let receivers = cx.core.publish_sharded(args.get(1), args.get(2));
    cx.out.count(receivers);
    Ok(())
}

fn list_channels(cx: &mut Context<'_>, args: &Args<'_>, sharded: bool) -> Outcome {
    if args.len() > 3 {
        return Err(subcommand_syntax("pubsub", args.get(1)));
    }
    let table = if sharded { &cx.core.pubsub.shard_channels } else { &cx.core.pubsub.channels };
    let pattern = (args.len() > 2).then(|| Glob::new(args.get(2), false));
    let mut found: Vec<&[u8]> = table
        .keys()
        .map(|name| &**name)
        .filter(|name| pattern.as_ref().is_none_or(|pattern| pattern.matches(name)))
        .collect();
    found.sort_unstable();
    cx.out.bulks(&found);
    Ok(())
}

fn count_subscribers(cx: &mut Context<'_>, args: &Args<'_>, sharded: bool) {
    let table = if sharded { &cx.core.pubsub.shard_channels } else { &cx.core.pubsub.channels };
    cx.out.array((args.len() - 2) * 2);
    for name in args.rest(2) {
        cx.out.bulk(name);
        cx.out.count(table.get(name).map_or(0, Listeners::len));
    }
}

fn pubsub_channels(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    list_channels(cx, args, false)
}

fn pubsub_shardchannels(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    list_channels(cx, args, true)
}

fn pubsub_numsub(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    count_subscribers(cx, args, false);
    Ok(())
}

fn pubsub_shardnumsub(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    count_subscribers(cx, args, true);
    Ok(())
}

fn pubsub_numpat(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    cx.out.count(cx.core.pubsub.patterns.len());
    Ok(())
}

fn pubsub_help(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    tercel_core::dispatch::help(cx, "pubsub");
    Ok(())
}
