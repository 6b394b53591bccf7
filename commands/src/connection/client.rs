//! CLIENT: looking at connections and steering them.

use super::client_filter::Filter;
use super::describe::{Shown, describe, for_each};
use crate::arguments::names::{checked_name, is_plain};
use tercel_core::clients::{Closing, Pause, ReplyMode, Session};
use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, Outcome, SYNTAX, fail};
use tercel_core::command::parse::{integer, lossy};
use tercel_core::command::spec::flags::*;
use tercel_core::command::spec::{Group, acl};
use tercel_core::dispatch::Context;
use tercel_core::dispatch::GiveUp;
use tercel_core::dispatch::container;
use tercel_core::dispatch::{Command, client_cmd, cmd};

static CLIENT_SUBCOMMANDS: &[Command] = &[
    client_cmd("client|capa", Group::Connection, "8.0.0", -3, PASSES_PAUSE | ALLOW_BUSY | NOSCRIPT | LOADING | STALE, client_capa)
        .about("Announces what the client can do.", "O(1)")
        .args("capability:string...")
        .acl(acl::CONNECTION),
    client_cmd("client|getname", Group::Connection, "2.6.9", 2, PASSES_PAUSE | ALLOW_BUSY | NOSCRIPT | LOADING | STALE | SENTINEL, client_getname)
        .about("Returns the connection's name.", "O(1)")
        .acl(acl::CONNECTION),
    cmd("client|getredir", Group::Connection, "6.0.0", 2, PASSES_PAUSE | ALLOW_BUSY | NOSCRIPT | LOADING | STALE | SENTINEL, client_getredir)
        .about("Returns the client that tracking messages go to.", "O(1)")
        .acl(acl::CONNECTION),
    cmd("client|help", Group::Connection, "5.0.0", 2, PASSES_PAUSE | LOADING | STALE | SENTINEL, client_help)
        .about("Lists the subcommands.", "O(1)")
        .acl(acl::CONNECTION),
    client_cmd("client|id", Group::Connection, "5.0.0", 2, PASSES_PAUSE | ALLOW_BUSY | NOSCRIPT | LOADING | STALE | SENTINEL, client_id)
        .about("Returns the connection's number.", "O(1)")
        .acl(acl::CONNECTION),
    client_cmd("client|import-source", Group::Connection, "8.1.0", 3, PASSES_PAUSE | NOSCRIPT | LOADING | STALE, client_import_source)
        .about("Marks the connection as the source of an import.", "O(1)")
        .args("enabled(ON|OFF)")
        .acl(acl::CONNECTION),
    client_cmd("client|info", Group::Connection, "6.2.0", 2, PASSES_PAUSE | SHOWS_CLIENTS | NOSCRIPT | LOADING | STALE | SENTINEL, client_info)
        .about("Describes the connection.", "O(1)")
        .acl(acl::CONNECTION)
        .tips(&["nondeterministic_output"]),
    client_cmd("client|kill", Group::Connection, "2.4.0", -3, PASSES_PAUSE | ADMIN | NOSCRIPT | LOADING | STALE | SENTINEL, client_kill)
        .about("Closes the connections that fit.", "O(N)")
        .args("filter(old-format:string|new-format([ID client-id:integer...]|[TYPE client-type(normal|master|primary|slave|replica|pubsub)]|[USER username:string]|[ADDR addr:string]|[LADDR laddr:string]|[SKIPME skipme(YES|NO)]|[MAXAGE maxage:integer]|[NAME name:string]|[IDLE idle:integer]|[FLAGS flags:string]|[LIB-NAME lib-name:string]|[LIB-VER lib-ver:string]|[DB db:integer]|[CAPA capa:string]|[IP ip:string]|[NOT-TYPE not-client-type(normal|master|primary|slave|replica|pubsub)]|[NOT-ID not-client-id:integer...]|[NOT-USER not-username:string]|[NOT-ADDR not-addr:string]|[NOT-LADDR not-laddr:string]|[NOT-NAME not-name:string]|[NOT-FLAGS not-flags:string]|[NOT-LIB-NAME not-lib-name:string]|[NOT-LIB-VER not-lib-ver:string]|[NOT-DB not-db:integer]|[NOT-CAPA not-capa:string]|[NOT-IP not-ip:string])...)")
        .acl(acl::CONNECTION),
    client_cmd("client|list", Group::Connection, "2.4.0", -2, PASSES_PAUSE | SHOWS_CLIENTS | ADMIN | NOSCRIPT | LOADING | STALE | SENTINEL, client_list)
        .about("Describes the connections that fit.", "O(N)")
        .args("[TYPE client-type(normal|master|replica|pubsub)] [ID client-id:integer...] [USER username:string] [ADDR addr:string] [LADDR laddr:string] [SKIPME skipme(YES|NO)] [MAXAGE maxage:integer] [NAME name:string] [IDLE idle:integer] [FLAGS flags:string] [LIB-NAME lib-name:string] [LIB-VER lib-ver:string] [DB db:integer] [CAPA capa:string] [IP ip:string] [NOT-TYPE not-client-type(normal|master|replica|pubsub)] [NOT-ID not-client-id:integer...] [NOT-USER not-username:string] [NOT-ADDR not-addr:string] [NOT-LADDR not-laddr:string] [NOT-NAME not-name:string] [NOT-FLAGS not-flags:string] [NOT-LIB-NAME not-lib-name:string] [NOT-LIB-VER not-lib-ver:string] [NOT-DB not-db:integer] [NOT-CAPA not-capa:string] [NOT-IP not-ip:string]")
        .acl(acl::CONNECTION)
        .tips(&["nondeterministic_output"]),
    client_cmd("client|no-evict", Group::Connection, "7.0.0", 3, PASSES_PAUSE | ALLOW_BUSY | ADMIN | NOSCRIPT | LOADING | STALE | SENTINEL, client_no_evict)
        .about("Keeps the connection out of client eviction.", "O(1)")
        .args("enabled(ON|OFF)")
        .acl(acl::CONNECTION),
    cmd("client|no-touch", Group::Connection, "7.2.0", 3, PASSES_PAUSE | ALLOW_BUSY | NOSCRIPT | LOADING | STALE, client_no_touch)
        .about("Says whether the connection's reads count as use of a key.", "O(1)")
        .args("enabled(ON|OFF)")
        .acl(acl::CONNECTION),
    cmd("client|pause", Group::Connection, "3.0.0", -3, PASSES_PAUSE | ADMIN | NOSCRIPT | LOADING | STALE | SENTINEL, client_pause)
        .about("Holds back commands for a time.", "O(1)")
        .args("timeout:integer [mode(WRITE|ALL)]")
        .acl(acl::CONNECTION),
    client_cmd("client|reply", Group::Connection, "3.2.0", 3, PASSES_PAUSE | ALLOW_BUSY | NOSCRIPT | NO_MULTI | LOADING | STALE | SENTINEL, client_reply)
        .about("Switches replies on, off, or off for one command.", "O(1)")
        .args("action(ON|OFF|SKIP)")
        .acl(acl::CONNECTION),
    client_cmd("client|setinfo", Group::Connection, "7.2.0", 4, PASSES_PAUSE | ALLOW_BUSY | NOSCRIPT | LOADING | STALE | SENTINEL, client_setinfo)
        .about("Sets the name and version of the client's library.", "O(1)")
        .args("attr(lib-name libname:string|lib-ver libver:string)")
        .acl(acl::CONNECTION)
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    client_cmd("client|setname", Group::Connection, "2.6.9", 3, PASSES_PAUSE | ALLOW_BUSY | NOSCRIPT | LOADING | STALE | SENTINEL, client_setname)
        .about("Names the connection.", "O(1)")
        .args("connection-name:string")
        .acl(acl::CONNECTION)
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    cmd("client|trackinginfo", Group::Connection, "6.2.0", 2, PASSES_PAUSE | NOSCRIPT | LOADING | STALE | SENTINEL, client_trackinginfo)
        .about("Describes the tracking of the connection.", "O(1)")
        .acl(acl::CONNECTION),
    cmd("client|unblock", Group::Connection, "5.0.0", -3, PASSES_PAUSE | ADMIN | NOSCRIPT | LOADING | STALE | SENTINEL, client_unblock)
        .about("Wakes a client that waits in a blocking command.", "O(log N)")
        .args("client-id:integer [unblock-type(TIMEOUT|ERROR)]")
        .acl(acl::CONNECTION),
    cmd("client|unpause", Group::Connection, "6.2.0", 2, PASSES_PAUSE | ADMIN | NOSCRIPT | LOADING | STALE | SENTINEL, client_unpause)
        .about("Ends a pause.", "O(N)")
        .acl(acl::CONNECTION),
];

pub(crate) static COMMANDS: &[Command] =
    &[cmd("client", Group::Connection, "2.4.0", -2, PASSES_PAUSE | SENTINEL, container)
        .about("Looks at and steers client connections.", "O(1)")
        .sub(CLIENT_SUBCOMMANDS)];

fn client_id(cx: &mut Context<'_>, client: &mut Session, _: &Args<'_>) -> Outcome {
    cx.out.integer(client.id() as i64);
    Ok(())
}

fn client_info(cx: &mut Context<'_>, client: &mut Session, _: &Args<'_>) -> Outcome {
    let line = describe(cx.server, Shown { caller: cx.caller, session: client, out: cx.out });
    cx.out.verbatim(&(line + "\n"));
    Ok(())
}

fn client_list(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    let filter = Filter::parse(cx, args, 2, false)?;
    let mut text = String::new();
    for_each(cx, client, |shown| {
        if filter.fits(cx.server, client.id(), shown) {
            text.push_str(&describe(cx.server, shown));
            text.push('\n');
        }
    });
    cx.out.verbatim(&text);
    Ok(())
}

fn client_kill(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    let old_form = args.len() == 3;
    let filter = if old_form { Filter::address(args.get(2)) } else { Filter::parse(cx, args, 2, true)? };
    let mut chosen = Vec::new();
    for_each(cx, client, |shown| {
        if filter.fits(cx.server, client.id(), shown) {
            chosen.push(shown.session.key());
        }
    });
    for &key in &chosen {
        if key == client.key() {
            client.output.close(Closing::AfterReply);
        } else {
            cx.server.clients_mut().close(key, Closing::Now);
        }
    }
    match (old_form, chosen.len()) {
        (true, 0) => return Err(fail("ERR No such client")),
        (true, _) => cx.out.ok(),
        (false, count) => cx.out.count(count),
    }
    Ok(())
}

fn client_getname(cx: &mut Context<'_>, client: &mut Session, _: &Args<'_>) -> Outcome {
    if client.names.name.is_empty() {
        cx.out.null();
    } else {
        cx.out.bulk(&client.names.name);
    }
    Ok(())
}

fn client_setname(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    client.names.name = checked_name(args.get(2))?;
    cx.out.ok();
    Ok(())
}

fn client_setinfo(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    let attribute = lossy(args.get(2));
    let value = lossy(args.get(3));
    let lib_name = args.is(2, "lib-name");
    if !lib_name && !args.is(2, "lib-ver") {
        return Err(CommandError::new(format!("ERR Unrecognized option '{attribute}'")));
    }
    if !is_plain(args.get(3)) {
        return Err(CommandError::new(format!(
            "ERR {attribute} cannot contain spaces, newlines or special characters."
        )));
    }
    *(if lib_name { &mut client.names.lib_name } else { &mut client.names.lib_ver }) = value;
    cx.out.ok();
    Ok(())
}

fn client_getredir(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    cx.out.integer(-1);
    Ok(())
}

fn client_trackinginfo(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    cx.out.map(3);
    cx.out.bulk("flags");
    cx.out.set(1);
    cx.out.bulk("off");
    cx.out.bulk("redirect");
    cx.out.integer(-1);
    cx.out.bulk("prefixes");
    cx.out.array(0);
    Ok(())
}

fn client_capa(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    // A capability that is not known is left alone, so that newer clients work.
    client.modes.capa_redirect |= (2..args.len()).any(|index| args.is(index, "redirect"));
    cx.out.ok();
    Ok(())
}

fn on_off(args: &Args<'_>) -> Result<bool, CommandError> {
    match () {
        () if args.is(2, "on") => Ok(true),
        () if args.is(2, "off") => Ok(false),
        () => Err(SYNTAX),
    }
}

fn client_no_evict(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    client.modes.no_evict = on_off(args)?;
    cx.out.ok();
    Ok(())
}

fn client_no_touch(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    cx.caller.no_touch = on_off(args)?;
    cx.out.ok();
    Ok(())
}

fn client_import_source(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    // There is no import mode.
    if !args.is(2, "off") {
        return Err(fail("ERR Server is not in import mode"));
    }
    client.modes.import_source = false;
    cx.out.ok();
    Ok(())
}

fn client_reply(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    match () {
        () if args.is(2, "on") => {
            client.output.reply_mode = ReplyMode::On;
            cx.out.ok();
        }
        () if args.is(2, "off") => client.output.reply_mode = ReplyMode::Off,
        () if args.is(2, "skip") => {
            if client.output.reply_mode != ReplyMode::Off {
                client.output.reply_mode = ReplyMode::SkipNext;
            }
        }
        () => return Err(SYNTAX),
    }
    Ok(())
}

fn client_pause(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let writes_only = match args.len() {
        3 => false,
        4 if args.is(3, "write") => true,
        4 if args.is(3, "all") => false,
        4 => return Err(fail("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(SYNTAX),
    };
    let timeout_ms = integer(args.get(2)).map_err(|_| fail("ERR timeout is not an integer or out of range"))?;
    if timeout_ms < 0 {
        return Err(fail("ERR timeout is negative"));
    }
    let until_ms = cx.server.now().unix_ms.checked_add(timeout_ms).ok_or(fail("ERR timeout is out of range"))?;
    // A pause is never shortened or loosened by a second one.
    let pause = match cx.server.pause() {
        Some(old) => Pause { until_ms: old.until_ms.max(until_ms), writes_only: old.writes_only && writes_only },
        None => Pause { until_ms, writes_only },
    };
    cx.server.set_pause(Some(pause));
    cx.out.ok();
    Ok(())
}

fn client_unpause(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    cx.server.set_pause(None);
    cx.out.ok();
    Ok(())
}

fn client_unblock(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    if args.len() == 4 && !args.is(3, "timeout") && !args.is(3, "error") {
        return Err(fail("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
    }
    let id = integer(args.get(2))?;
    let why = if args.is(3, "error") { GiveUp::Unblocked } else { GiveUp::TimedOut };
    let waits = u64::try_from(id).ok().and_then(|id| cx.server.clients().key_of(id));
    let unblocked = waits.is_some_and(|key| tercel_core::dispatch::give_up(cx.commands, cx.server, key, why));
    cx.out.flag(unblocked);
    Ok(())
}

fn client_help(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    tercel_core::dispatch::help(cx, "client");
    Ok(())
}
