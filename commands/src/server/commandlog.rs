//! SLOWLOG and COMMANDLOG: the logs of slow and large commands.

use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, Outcome, fail};
use tercel_core::command::parse::integer;
use tercel_core::command::spec::Group;
use tercel_core::command::spec::flags::*;
use tercel_core::dispatch::Context;
use tercel_core::dispatch::container;
use tercel_core::dispatch::{Command, cmd};
use tercel_core::stats::commandlog::Kind;

/// Entries SLOWLOG GET returns unless told otherwise.
const SLOWLOG_COUNT_DEFAULT: i64 = 10;

static SLOWLOG_SUBCOMMANDS: &[Command] = &[
    cmd("slowlog|get", Group::Server, "2.2.12", -2, ADMIN | LOADING | STALE, slowlog_get)
        .about("Returns the newest entries of the log.", "O(N)")
        .args("[count:integer]")
        .tips(&["request_policy:all_nodes", "nondeterministic_output"]),
    cmd("slowlog|help", Group::Server, "6.2.0", 2, LOADING | STALE, slowlog_help)
        .about("Lists the subcommands.", "O(1)"),
    cmd("slowlog|len", Group::Server, "2.2.12", 2, ADMIN | LOADING | STALE, slowlog_len)
        .about("Returns the length of the log.", "O(1)")
        .tips(&["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"]),
    cmd("slowlog|reset", Group::Server, "2.2.12", 2, ADMIN | LOADING | STALE, slowlog_reset)
        .about("Empties the log.", "O(N)")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
];

static COMMANDLOG_SUBCOMMANDS: &[Command] = &[
    cmd("commandlog|get", Group::Server, "8.1.0", 4, ADMIN | LOADING | STALE, commandlog_get)
        .about("Returns the newest entries of a log.", "O(N)")
        .args("count:integer type(slow|large-request|large-reply)")
        .tips(&["request_policy:all_nodes", "nondeterministic_output"]),
    cmd("commandlog|help", Group::Server, "8.1.0", 2, LOADING | STALE, commandlog_help)
        .about("Lists the subcommands.", "O(1)"),
    cmd("commandlog|len", Group::Server, "8.1.0", 3, ADMIN | LOADING | STALE, commandlog_len)
        .about("Returns the length of a log.", "O(1)")
        .args("type(slow|large-request|large-reply)")
        .tips(&["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"]),
    cmd("commandlog|reset", Group::Server, "8.1.0", 3, ADMIN | LOADING | STALE, commandlog_reset)
        .about("Empties a log.", "O(N)")
        .args("type(slow|large-request|large-reply)")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
];

pub(crate) static COMMANDS: &[Command] = &[
    cmd("slowlog", Group::Server, "2.2.12", -2, NONE, container)
        .about("Looks at the log of slow commands.", "O(1)")
        .sub(SLOWLOG_SUBCOMMANDS),
    cmd("commandlog", Group::Server, "8.1.0", -2, NONE, container)
        .about("Looks at the logs of slow and large commands.", "O(1)")
        .sub(COMMANDLOG_SUBCOMMANDS),
];

fn kind(args: &Args<'_>, index: usize) -> Result<Kind, CommandError> {
    match () {
        () if args.is(index, "slow") => Ok(Kind::Slow),
        () if args.is(index, "large-request") => Ok(Kind::LargeRequest),
        () if args.is(index, "large-reply") => Ok(Kind::LargeReply),
        () => Err(fail("ERR type should be one of the following: slow, large-request, large-reply")),
    }
}

/// A count of entries; -1 means all.
fn count(text: &[u8]) -> Result<i64, CommandError> {
    integer(text).ok().filter(|count| *count >= -1).ok_or(fail("ERR count should be greater than or equal to -1"))
}

fn write_entries(cx: &mut Context<'_>, kind: Kind, count: i64) -> Outcome {
    let log = cx.server.stats_mut().logs_mut().log_mut(kind);
    let count = if count == -1 { log.len() } else { log.len().min(count as usize) };
    cx.out.array(count);
    for entry in log.iter().take(count) {
        cx.out.array(6);
        cx.out.integer(entry.id as i64);
        cx.out.integer(entry.unix_seconds);
        cx.out.integer(entry.value);
        cx.out.bulks(&entry.args);
        cx.out.bulk(&entry.address);
        cx.out.bulk(&entry.name);
    }
    Ok(())
}

fn slowlog_get(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let count = match args.len() {
        2 => SLOWLOG_COUNT_DEFAULT,
        3 => count(args.get(2))?,
        _ => return Err(tercel_core::command::error::subcommand_syntax("slowlog", args.get(1))),
    };
    write_entries(cx, Kind::Slow, count)
}

fn slowlog_len(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    let len = cx.server.stats_mut().logs_mut().log_mut(Kind::Slow).len();
    cx.out.count(len);
    Ok(())
}

fn slowlog_reset(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    cx.server.stats_mut().logs_mut().log_mut(Kind::Slow).clear();
    cx.out.ok();
    Ok(())
}

fn slowlog_help(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    tercel_core::dispatch::help(cx, "slowlog");
    Ok(())
}

fn commandlog_get(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let count = count(args.get(2))?;
    let kind = kind(args, 3)?;
    write_entries(cx, kind, count)
}

fn commandlog_len(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let len = cx.server.stats_mut().logs_mut().log_mut(kind(args, 2)?).len();
    cx.out.count(len);
    Ok(())
}

fn commandlog_reset(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    cx.server.stats_mut().logs_mut().log_mut(kind(args, 2)?).clear();
    cx.out.ok();
    Ok(())
}

fn commandlog_help(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    tercel_core::dispatch::help(cx, "commandlog");
    Ok(())
}
