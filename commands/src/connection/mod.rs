//! The connection itself: greeting, authentication, database, reset, quit.

pub(super) mod client;
mod client_filter;
mod describe;

use crate::arguments::names::checked_name;
use tercel_core::base::version::VALKEY_VERSION;
use tercel_core::clients::{Closing, Session};
use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, Outcome, SYNTAX, fail, wrong_arity};
use tercel_core::command::parse::{integer, lossy};
use tercel_core::command::spec::flags::*;
use tercel_core::command::spec::{Group, acl};
use tercel_core::dispatch::Context;
use tercel_core::dispatch::{Command, client_cmd, cmd};
use tercel_resp::Version;

pub(crate) static COMMANDS: &[Command] = &[
    cmd("ping", Group::Connection, "1.0.0", -1, DENIED_WHEN_UNSAVED | WHILE_SUBSCRIBED | FAST | SENTINEL, ping)
        .about("Answers PONG, or the message.", "O(1)")
        .args("[message:string]")
        .acl(acl::CONNECTION)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
    cmd("echo", Group::Connection, "1.0.0", 2, LOADING | STALE | FAST, echo)
        .about("Returns its argument.", "O(1)")
        .args("message:string")
        .acl(acl::CONNECTION),
    client_cmd(
        "hello",
        Group::Connection,
        "6.0.0",
        -1,
        DECIDES_PARSING | NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | SENTINEL | ALLOW_BUSY,
        hello,
    )
    .about("Greets the server and chooses the protocol.", "O(1)")
    .args("[arguments{protover:integer [AUTH auth{username:string password:string}] [SETNAME clientname:string]}]")
    .secret(|args, index| (index >= 2 && args.is(index - 1, "auth")) || (index >= 3 && args.is(index - 2, "auth")))
    .acl(acl::CONNECTION),
    client_cmd(
        "auth",
        Group::Connection,
        "1.0.0",
        -2,
        DECIDES_PARSING | NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | SENTINEL | ALLOW_BUSY,
        auth,
    )
    .about("Authenticates the connection.", "O(N)")
    .args("[username:string] password:string")
    .secret(|_, index| index >= 1)
    .acl(acl::CONNECTION),
    cmd("select", Group::Connection, "1.0.0", 2, ALLOW_BUSY | LOADING | STALE | FAST, select)
        .about("Changes the database of the connection.", "O(1)")
        .args("index:integer")
        .acl(acl::CONNECTION),
    client_cmd(
        "quit",
        Group::Connection,
        "1.0.0",
        -1,
        WHILE_SUBSCRIBED | NOT_QUEUED | ALLOW_BUSY | NOSCRIPT | LOADING | STALE | FAST | NO_AUTH,
        quit,
    )
    .about("Closes the connection.", "O(1)")
    .acl(acl::CONNECTION),
    client_cmd(
        "reset",
        Group::Connection,
        "6.2.0",
        1,
        WHILE_SUBSCRIBED | NOT_QUEUED | DECIDES_PARSING | NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY,
        reset,
    )
    .about("Sets the connection back to how it began.", "O(1)")
    .acl(acl::CONNECTION),
];

fn ping(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    if args.len() > 2 {
        return Err(wrong_arity("ping"));
    }
    let is_subscriber = cx.client.as_ref().is_some_and(|client| client.is_subscriber());
    if is_subscriber && !cx.out.is_resp3() {
        cx.out.array(2);
        cx.out.bulk("pong");
        cx.out.bulk(args.get(1));
    } else if args.len() == 1 {
        cx.out.simple("PONG");
    } else {
        cx.out.bulk(args.get(1));
    }
    Ok(())
}

fn echo(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    cx.out.bulk(args.get(1));
    Ok(())
}

/// Compares without telling by its duration where the texts differ.
fn same_secret(given: &[u8], expected: &[u8]) -> bool {
    let mut difference = given.len() ^ expected.len();
    for (at, byte) in given.iter().enumerate() {
        let other = expected.get(at).copied().unwrap_or(0);
        difference |= usize::from(byte ^ other);
    }
    difference == 0
}

fn authenticate(cx: &mut Context<'_>, client: &mut Session, user: &[u8], password: &[u8]) -> Result<(), CommandError> {
    let required = cx.server.settings().requirepass.as_bytes();
    if user == b"default" && (required.is_empty() || same_secret(password, required)) {
        client.authenticate();
        return Ok(());
    }
    cx.server.clients_mut().count_denied();
    Err(fail("WRONGPASS invalid username-password pair or user is disabled."))
}

fn auth(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    match args.len() {
        2 => {
            if cx.server.settings().requirepass.is_empty() {
                return Err(fail(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
                ));
            }
            authenticate(cx, client, b"default", args.get(1))?;
        }
        3 => authenticate(cx, client, args.get(1), args.get(2))?,
        _ => return Err(SYNTAX),
    }
    cx.out.ok();
    Ok(())
}

fn hello(cx: &mut Context<'_>, client: &mut Session, args: &Args<'_>) -> Outcome {
    let mut version = None;
    if args.len() > 1 {
        version = Some(match integer(args.get(1)) {
            Ok(2) => Version::Resp2,
            Ok(3) => Version::Resp3,
            Ok(_) => return Err(fail("NOPROTO unsupported protocol version")),
            Err(_) => return Err(fail("ERR Protocol version is not an integer or out of range")),
        });
    }
    let mut name = None;
    let mut credentials = None;
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        if args.is(at, "auth") && left >= 2 {
            credentials = Some((args.get(at + 1), args.get(at + 2)));
            at += 3;
        } else if args.is(at, "setname") && left >= 1 {
            name = Some(checked_name(args.get(at + 1))?);
            at += 2;
        } else {
            return Err(CommandError::new(format!("ERR Syntax error in HELLO option '{}'", lossy(args.get(at)))));
        }
    }
    if let Some((user, password)) = credentials {
        authenticate(cx, client, user, password)?;
    }
    if !client.is_authenticated() {
        return Err(fail(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        client.names.name = name;
    }
    if let Some(version) = version {
        cx.out.version = version;
        if let Some(messages) = cx.server.clients_mut().own_messages() {
            messages.version = version;
        }
    }
    let zone = cx.server.settings().availability_zone.clone();
    cx.out.map(7 + usize::from(!zone.is_empty()));
    cx.out.bulk("server");
    cx.out.bulk("tercel");
    cx.out.bulk("version");
    cx.out.bulk(VALKEY_VERSION);
    cx.out.bulk("proto");
    cx.out.integer(if cx.out.is_resp3() { 3 } else { 2 });
    cx.out.bulk("id");
    cx.out.integer(client.id() as i64);
    cx.out.bulk("mode");
    cx.out.bulk("standalone");
    cx.out.bulk("role");
    cx.out.bulk("master");
    cx.out.bulk("modules");
    cx.out.array(0);
    if !zone.is_empty() {
        cx.out.bulk("availability_zone");
        cx.out.bulk(&zone);
    }
    Ok(())
}

fn select(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    cx.caller.db = cx.db_index(args.get(1))?;
    cx.out.ok();
    Ok(())
}

fn quit(cx: &mut Context<'_>, client: &mut Session, _: &Args<'_>) -> Outcome {
    cx.out.ok();
    client.output.close(Closing::AfterReply);
    Ok(())
}

fn reset(cx: &mut Context<'_>, client: &mut Session, _: &Args<'_>) -> Outcome {
    cx.server.reset_session(client);
    cx.caller.db = 0;
    cx.caller.no_touch = false;
    cx.out.version = Version::Resp2;
    cx.out.simple("RESET");
    Ok(())
}
