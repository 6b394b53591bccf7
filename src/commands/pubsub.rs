//! Publish and subscribe: channels, patterns and shard channels.

use super::args::Args;
use super::context::Context;
use super::fail::{Outcome, fail, subcommand_syntax};
use super::server::container;
use super::spec::{Command, Group, cmd, keys_at};
use super::spec::{flags::*, key::*};
use crate::glob::Glob;
use crate::session::{ReplyMode, Session};
use crate::state::Core;
use crate::state::pubsub::{Listeners, Pattern, forget};

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

pub(super) static COMMANDS: &[Command] = &[
    cmd("subscribe", Group::Pubsub, "2.0.0", -2, PUBSUB | NOSCRIPT | LOADING | STALE | SENTINEL, subscribe)
        .about("Subscribes to channels.", "O(N)")
        .args("channel:string..."),
    cmd("unsubscribe", Group::Pubsub, "2.0.0", -1, PUBSUB | NOSCRIPT | LOADING | STALE | SENTINEL, unsubscribe)
        .about("Unsubscribes from channels, or from all of them.", "O(N)")
        .args("[channel:string...]"),
    cmd("psubscribe", Group::Pubsub, "2.0.0", -2, PUBSUB | NOSCRIPT | LOADING | STALE | SENTINEL, psubscribe)
        .about("Subscribes to the channels that match patterns.", "O(N)")
        .args("pattern:pattern..."),
    cmd("punsubscribe", Group::Pubsub, "2.0.0", -1, PUBSUB | NOSCRIPT | LOADING | STALE | SENTINEL, punsubscribe)
        .about("Unsubscribes from patterns, or from all of them.", "O(N)")
        .args("[pattern:pattern...]"),
    cmd("ssubscribe", Group::Pubsub, "7.0.0", -2, PUBSUB | NOSCRIPT | LOADING | STALE, ssubscribe)
        .about("Subscribes to shard channels.", "O(N)")
        .keys(&[keys_at(NOT_KEY, 1, -1, 1)])
        .args("shardchannel:string..."),
    cmd("sunsubscribe", Group::Pubsub, "7.0.0", -1, PUBSUB | NOSCRIPT | LOADING | STALE, sunsubscribe)
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

/// Kinds of subscription.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Channel,
    Pattern,
    Shard,
}

impl Kind {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Kind::Channel => ("subscribe", "unsubscribe"),
            Kind::Pattern => ("psubscribe", "punsubscribe"),
            Kind::Shard => ("ssubscribe", "sunsubscribe"),
        }
    }

    fn count(self, session: &Session) -> usize {
        match self {
            Kind::Shard => session.subscriptions.shard_channels.len(),
            _ => session.subscriptions.count(),
        }
    }
}

fn add(core: &mut Core, session: &mut Session, kind: Kind, name: &[u8]) {
    let key = session.key;
    let sets = &mut session.subscriptions;
    let is_new = match kind {
        Kind::Channel => sets.channels.insert(name.into()),
        Kind::Pattern => sets.patterns.insert(name.into()),
        Kind::Shard => sets.shard_channels.insert(name.into()),
    };
    if !is_new {
        return;
    }
    sets.names_len += name.len();
    let listeners = match kind {
        Kind::Channel => core.pubsub.channels.entry(name.into()).or_default(),
        Kind::Pattern => {
            let pattern = core.pubsub.patterns.entry(name.into()).or_insert_with(|| Pattern::new(name));
            sets.patterns_memory += pattern.glob.memory();
            &mut pattern.clients
        }
        Kind::Shard => core.pubsub.shard_channels.entry(name.into()).or_default(),
    };
    listeners.insert(key);
}

fn remove(core: &mut Core, session: &mut Session, kind: Kind, name: &[u8]) {
    let key = session.key;
    let sets = &mut session.subscriptions;
    let was_there = match kind {
        Kind::Channel => sets.channels.remove(name),
        Kind::Pattern => sets.patterns.remove(name),
        Kind::Shard => sets.shard_channels.remove(name),
    };
    if !was_there {
        return;
    }
    sets.names_len -= name.len();
    let nobody_left = |listeners: Option<&mut Listeners>| listeners.is_some_and(|listeners| forget(listeners, key));
    let pubsub = &mut core.pubsub;
    match kind {
        Kind::Channel if nobody_left(pubsub.channels.get_mut(name)) => drop(pubsub.channels.remove(name)),
        Kind::Pattern => {
            if let Some(pattern) = pubsub.patterns.get_mut(name) {
                sets.patterns_memory -= pattern.glob.memory();
                if forget(&mut pattern.clients, key) {
                    pubsub.patterns.remove(name);
                }
            }
        }
        Kind::Shard if nobody_left(pubsub.shard_channels.get_mut(name)) => drop(pubsub.shard_channels.remove(name)),
        _ => {}
    }
}

fn names(session: &Session, kind: Kind) -> Vec<Box<[u8]>> {
    let sets = &session.subscriptions;
    match kind {
        Kind::Channel => &sets.channels,
        Kind::Pattern => &sets.patterns,
        Kind::Shard => &sets.shard_channels,
    }
    .iter()
    .cloned()
    .collect()
}

/// Ends all subscriptions of a client that goes away or is reset.
pub(crate) fn unsubscribe_all(core: &mut Core, session: &mut Session) {
    for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
        for name in names(session, kind) {
            remove(core, session, kind, &name);
        }
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
        add(cx.core, cx.session, kind, name);
        let count = kind.count(cx.session);
        confirm(cx, kind.words().0, Some(name), count);
    }
    Ok(())
}

fn unsubscribe_from(cx: &mut Context<'_>, args: &Args<'_>, kind: Kind) -> Outcome {
    let listed: Vec<Box<[u8]>> =
        if args.len() > 1 { args.rest(1).map(Into::into).collect() } else { names(cx.session, kind) };
    if listed.is_empty() {
        let count = kind.count(cx.session);
        confirm(cx, kind.words().1, None, count);
    }
    for name in listed {
        remove(cx.core, cx.session, kind, &name);
        let count = kind.count(cx.session);
        confirm(cx, kind.words().1, Some(&name), count);
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
    super::command::help(cx, "pubsub");
    Ok(())
}
