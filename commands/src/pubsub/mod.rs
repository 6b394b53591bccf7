//! Publish and subscribe: channels, patterns and shard channels.

use tercel_core::base::glob::Glob;
use tercel_core::clients::subscriptions::Kind;
use tercel_core::clients::{ReplyMode, Session};
use tercel_core::command::args::Args;
use tercel_core::command::error::{Outcome, fail, subcommand_syntax};
use tercel_core::command::key_positions::keys_at;
use tercel_core::command::spec::Group;
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::dispatch::Context;
use tercel_core::dispatch::container;
use tercel_core::dispatch::{Command, client_cmd, cmd};

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
    client_cmd(
        "subscribe",
        Group::Pubsub,
        "2.0.0",
        -2,
        WHILE_SUBSCRIBED | PUBSUB | NOSCRIPT | LOADING | STALE | SENTINEL,
        subscribe,
    )
    .about("Subscribes to channels.", "O(N)")
    .args("channel:string..."),
    client_cmd(
        "unsubscribe",
        Group::Pubsub,
        "2.0.0",
        -1,
        WHILE_SUBSCRIBED | PUBSUB | NOSCRIPT | LOADING | STALE | SENTINEL,
        unsubscribe,
    )
    .about("Unsubscribes from channels, or from all of them.", "O(N)")
    .args("[channel:string...]"),
    client_cmd(
        "psubscribe",
        Group::Pubsub,
        "2.0.0",
        -2,
        WHILE_SUBSCRIBED | PUBSUB | NOSCRIPT | LOADING | STALE | SENTINEL,
        psubscribe,
    )
    .about("Subscribes to the channels that match patterns.", "O(N)")
    .args("pattern:pattern..."),
    client_cmd(
        "punsubscribe",
        Group::Pubsub,
        "2.0.0",
        -1,
        WHILE_SUBSCRIBED | PUBSUB | NOSCRIPT | LOADING | STALE | SENTINEL,
        punsubscribe,
    )
    .about("Unsubscribes from patterns, or from all of them.", "O(N)")
    .args("[pattern:pattern...]"),
    client_cmd(
        "ssubscribe",
        Group::Pubsub,
        "7.0.0",
        -2,
        WHILE_SUBSCRIBED | PUBSUB | NOSCRIPT | LOADING | STALE,
        ssubscribe,
    )
    .about("Subscribes to shard channels.", "O(N)")
    .keys(&[keys_at(NOT_KEY, 1, -1, 1)])
    .args("shardchannel:string..."),
    client_cmd(
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
fn confirm(cx: &mut Context<'_>, client: &Session, word: &str, name: Option<&[u8]>, count: usize) {
    let apart = client.output.reply_mode != ReplyMode::On;
    let messages = if apart { cx.server.clients_mut().own_messages() } else { None };
    let out = messages.unwrap_or(cx.out);
    out.push(3);
    out.bulk(word);
    match name {
        Some(name) => out.bulk(name),
        None => out.null(),
    }
    out.count(count);
}

fn subscribe_to(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>, kind: Kind) -> Outcome {
    for name in args.rest(1) {
        let count = cx.server.clients_mut().subscribe(client, kind, name);
        confirm(cx, client, words(kind).0, Some(name), count);
    }
    Ok(())
}

fn unsubscribe_from(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>, kind: Kind) -> Outcome {
    let listed: Vec<Box<[u8]>> =
        if args.len() > 1 { args.rest(1).map(Into::into).collect() } else { client.subscriptions().names(kind) };
    if listed.is_empty() {
        confirm(cx, client, words(kind).1, None, client.subscriptions().counted(kind));
    }
    for name in listed {
        let count = cx.server.clients_mut().unsubscribe(client, kind, &name);
        confirm(cx, client, words(kind).1, Some(&name), count);
    }
    Ok(())
}

fn subscribe(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    subscribe_to(cx, client, args, Kind::Channel)
}

fn unsubscribe(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    unsubscribe_from(cx, client, args, Kind::Channel)
}

fn psubscribe(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    subscribe_to(cx, client, args, Kind::Pattern)
}

fn punsubscribe(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    unsubscribe_from(cx, client, args, Kind::Pattern)
}

fn ssubscribe(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    if cx.caller.in_transaction {
        return Err(fail("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"));
    }
    subscribe_to(cx, client, args, Kind::Shard)
}

fn sunsubscribe(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    unsubscribe_from(cx, client, args, Kind::Shard)
}

fn publish(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let receivers = cx.server.clients_mut().publish(args.get(1), args.get(2));
    cx.out.count(receivers);
    Ok(())
}

fn spublish(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let receivers = cx.server.clients_mut().publish_sharded(args.get(1), args.get(2));
    cx.out.count(receivers);
    Ok(())
}

fn list_channels(cx: &mut Context<'_>, args: &Args<'_>, kind: Kind) -> Outcome {
    if args.len() > 3 {
        return Err(subcommand_syntax("pubsub", args.get(1)));
    }
    let pattern = (args.len() > 2).then(|| Glob::new(args.get(2), false));
    let channels = cx.server.clients().channels(kind);
    let mut found: Vec<&[u8]> =
        channels.filter(|name| pattern.as_ref().is_none_or(|pattern| pattern.matches(name))).collect();
    found.sort_unstable();
    cx.out.bulks(&found);
    Ok(())
}

fn count_subscribers(cx: &mut Context<'_>, args: &Args<'_>, kind: Kind) -> Outcome {
    cx.out.array((args.len() - 2) * 2);
    for name in args.rest(2) {
        cx.out.bulk(name);
        cx.out.count(cx.server.clients().subscribers_len(kind, name));
    }
    Ok(())
}

fn pubsub_channels(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    list_channels(cx, args, Kind::Channel)
}

fn pubsub_shardchannels(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    list_channels(cx, args, Kind::Shard)
}

fn pubsub_numsub(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    count_subscribers(cx, args, Kind::Channel)
}

fn pubsub_shardnumsub(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    count_subscribers(cx, args, Kind::Shard)
}

fn pubsub_numpat(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    cx.out.count(cx.server.clients().channels_len(Kind::Pattern));
    Ok(())
}

fn pubsub_help(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    tercel_core::dispatch::help(cx, "pubsub");
    Ok(())
}
