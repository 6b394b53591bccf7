//! One command of a client: refused, queued or run. The executor comes through here.

use super::admit::{Admitted, admit, held_by_keys, held_by_pause};
use super::after::feed_monitors;
use super::call::{call, reply_error};
use super::context::{Commands, Context};
use super::waiting::serve_waiting;
use crate::clients::{Client, Closing, ReplyMode, Session, Wait};
use crate::command::error::CommandError;
use crate::command::reply::{Mark, Reply};
use crate::command::spec::flags;
use crate::command::{Args, CommandId};
use crate::server::Server;

/// Whether the executor goes on with this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The command is done.
    Done,
    /// A pause holds it back: it is to be tried again later.
    Paused,
    /// A long command is about to change a key of it: it is to be tried again when that is done.
    KeysHeld,
    /// Too many long commands are under way for one more: it is to be tried again when one of them is done.
    TooMany,
}

/// Runs one command of a client, or refuses or queues it.
#[inline]
pub fn process(
    commands: &'static Commands,
    server: &mut Server,
    client: &mut Client,
    id: Option<CommandId>,
    args: &Args<'_>,
    request_len: usize,
) -> Flow {
    let spec = id.map(|id| commands.table.spec(id));
    if server.clients().pause().is_some() && held_by_pause(server, &client.session, spec, args) {
        return Flow::Paused;
    }
    if server.data().holds_any() && held_by_keys(&commands.table, server, &client.session, spec, args) {
        client.caller.wait = Some(Wait::Turn);
        return Flow::KeysHeld;
    }
    let Client { caller, out, session } = client;
    session.set_last_command(id.filter(|_| args.len() < 2 || spec.is_some_and(|spec| !spec.is_container)));
    if id.is_none() && is_http(args) {
        let now_ns = server.now().mono_ns;
        if server.clients_mut().warns_of_http(now_ns) {
            tracing::warn!(
                "Possible SECURITY ATTACK detected: {} sent an HTTP request, perhaps a page in somebody's browser. The connection is closed.",
                session.address()
            );
        }
        session.output.close(Closing::Now);
        return Flow::Done;
    }
    let mark = out.mark();
    let reply_from = out.len();
    match admit(server, session, out, id.zip(spec), args) {
        Ok(Admitted::Run(id, spec)) => {
            let mut cx = Context {
                server: &mut *server,
                caller,
                out: &mut *out,
                client: Some(&mut *session),
                id,
                spec,
                commands,
            };
            // What it answers is written already.
            let _ = call(&mut cx, args, request_len);
            match &mut caller.wait {
                Some(Wait::Turn) => return Flow::TooMany,
                Some(Wait::Keys(wait)) => server.begin_waiting(session.key(), wait),
                _ => {}
            }
            server.close_unit();
            if server.data().has_changed_awaited() {
                serve_waiting(commands, server);
            }
        }
        Ok(Admitted::Queue(id, spec)) => {
            session.transaction.queue(id, spec.flags, args);
            out.simple("QUEUED");
        }
        Err(error) => {
            if let Some(id) = id {
                server.stats_mut().count_rejected(id);
            }
            session.transaction.fail();
            match id.zip(spec).filter(|(_, spec)| spec.is(flags::RUNS_QUEUE)) {
                Some((id, spec)) => {
                    let client = Some(&mut *session);
                    let mut cx = Context { server: &mut *server, caller, out: &mut *out, client, id, spec, commands };
                    queue_refused(&mut cx, args, &error);
                }
                None => reply_error(server, out, &error),
            }
        }
    }
    settle_reply(session, out, mark);
    session.count_command();
    session.output.count_replied(out.len() - reply_from.min(out.len()));
    server.clients_mut().settle_current(session, out);
    Flow::Done
}

/// Whether a line is HTTP's: a page in a browser can send such to a port of the reader's own host,
/// with commands in the body.
#[cold]
fn is_http(args: &Args<'_>) -> bool {
    args.is(0, "post") || args.is(0, "host:")
}

/// Takes replies back that the client does not want.
#[inline]
fn settle_reply(session: &mut Session, out: &mut Reply, mark: Mark) {
    let mode = &mut session.output.reply_mode;
    match *mode {
        ReplyMode::On => {}
        ReplyMode::Off => out.truncate(mark),
        ReplyMode::Skip => {
            out.truncate(mark);
            *mode = ReplyMode::On;
        }
        ReplyMode::SkipNext => *mode = ReplyMode::Skip,
    }
}

/// An EXEC that may not run ends the transaction all the same, so that the client knows where it stands.
fn queue_refused(cx: &mut Context<'_>, args: &Args<'_>, error: &CommandError) {
    if let Some(session) = cx.client.as_deref_mut() {
        cx.server.end_transaction(session);
    }
    let reason = error.0.strip_prefix("ERR ").unwrap_or(&error.0);
    let error = CommandError::new(format!("EXECABORT Transaction discarded because of: {reason}"));
    reply_error(cx.server, cx.out, &error);
    if cx.server.clients().any_monitor() {
        feed_monitors(cx, args);
    }
}

/// Answers a request that cannot be parsed and ends the connection.
pub fn protocol_error(server: &mut Server, client: &mut Client, error: tercel_resp::request::ProtocolError) {
    let error = CommandError::new(format!("ERR {error}"));
    reply_error(server, &mut client.out, &error);
    client.session.output.close(Closing::AfterReply);
    tracing::debug!(client = %client.session.address(), "{}", error.0);
}
