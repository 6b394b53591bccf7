//! One command of a client: refused, queued or run, and the run itself with its measurements. The
//! executor and EXEC come through here.

use super::admit::{Admitted, admit, held_by_keys, held_by_pause, unknown_command};
use super::after::{count_and_log, feed_monitors};
use super::context::{Commands, Context, Handler};
use super::slices::send_so_far;
use super::waiting::serve_waiting;
use tercel_transport::PeerKind;

use crate::clients::{Caller, Client, Closing, ReplyMode, Session, Wait};
use crate::command::error::{CommandError, fail};
use crate::command::reply::{Mark, Reply};
use crate::command::spec::flags;
use crate::command::{Args, CommandId, Outcome};
use crate::data::effects::Effect;
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

/// A command about a client, called by somebody who is none.
const NO_CLIENT: CommandError = fail("ERR This command needs a client connection");

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

fn reply_error(server: &mut Server, out: &mut Reply, error: &CommandError) {
    server.stats_mut().record_error(&error.0);
    out.error(&error.0);
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

/// Runs a command that was admitted, measures it, and sees to what follows from it. An error is written already
/// when it is returned.
#[inline]
pub(super) fn call(cx: &mut Context<'_>, args: &Args<'_>, request_len: usize) -> Outcome {
    let (id, spec) = (cx.id, cx.spec);
    cx.server.data_mut().set_no_touch(cx.caller.no_touch && !spec.is(flags::ALWAYS_TOUCHES));
    if spec.keys.is_empty() {
        // Some of these show or reset the histograms.
        cx.server.stats_mut().settle();
    }
    let reply_from = cx.out.len();
    let begun = cx.server.data().command_begins();
    // SELECT and the like change it.
    let db = cx.caller.db;
    let begin_ns = cx.server.clock().mono_ns();
    let outcome = match cx.commands.handler(id) {
        Handler::Any(handler) => handler(cx, args),
        Handler::OfClient(handler) => match cx.client.take() {
            Some(session) => {
                let outcome = handler(cx, &mut *session, args);
                cx.client = Some(session);
                outcome
            }
            None => Err(NO_CLIENT),
        },
    };
    let failed = outcome.is_err();
    if let Err(error) = &outcome {
        reply_error(cx.server, cx.out, error);
    }
    if matches!(cx.caller.wait, Some(Wait::Turn)) {
        // It has not even begun.
        return outcome;
    }
    let is_muted =
        cx.client.as_ref().is_some_and(|client| matches!(client.output.reply_mode, ReplyMode::Off | ReplyMode::Skip));
    if let Some(Wait::Keys(wait)) = &mut cx.caller.wait {
        // It is counted when it is answered; what it is told of may have been told already.
        wait.is_muted = is_muted;
        wait.request_len = request_len;
        cx.server.settle();
        if cx.server.clients().any_monitor() && !cx.caller.is_woken {
            feed_monitors(cx, args);
        }
        return outcome;
    }
    cx.server.data_mut().command_ended(begun, db, args);
    cx.server.settle();
    // Monitors see a command once it ran: after the commands of its transaction, with the database it chose.
    if cx.server.clients().any_monitor()
        && !cx.caller.is_woken
        && !spec.is(flags::SKIP_MONITOR)
        && !spec.is(flags::ADMIN)
    {
        feed_monitors(cx, args);
    }
    let reply_len = cx.out.len().saturating_sub(reply_from);
    let took_ns = cx.server.clock().mono_ns() - begin_ns;
    if let Some(sliced) = cx.caller.sliced() {
        // It is counted when it is answered.
        sliced.spent_ns = took_ns;
        sliced.request_len = request_len;
        sliced.is_muted = is_muted;
        if !is_muted && sliced.job.streams() {
            sliced.sent_len = Some(0);
            send_so_far(sliced, cx.out);
            let version = cx.out.version;
            if let Some(session) = cx.client.as_deref_mut() {
                session.output.begin_pieces(version);
            }
        }
        return outcome;
    }
    count_and_log(cx, args, took_ns, failed, request_len, reply_len);
    outcome
}

/// Runs an effect of another server, which was admitted there; what it answers is nobody's concern.
///
/// # Errors
/// What it answers if that is an error: then the data here is not what it was there.
pub fn apply(commands: &'static Commands, server: &mut Server, effect: &Effect) -> Outcome {
    let args = effect.command.args();
    let id = commands.table.resolve(&args).ok_or_else(|| unknown_command(&args))?;
    let spec = commands.table.spec(id);
    let (mut caller, mut out) = (Caller::new(PeerKind::Socket), Reply::default());
    caller.db = effect.db;
    server.data_mut().set_following(true);
    let mut cx = Context { server: &mut *server, caller: &mut caller, out: &mut out, client: None, id, spec, commands };
    let answered = call(&mut cx, &args, args.bytes_len());
    server.data_mut().set_following(false);
    server.close_unit();
    answered
}

impl Context<'_> {
    /// Runs another command for the same caller, in the same way as a client's own: EXEC runs its queue so.
    pub fn call(&mut self, client: &mut Session, id: CommandId, args: &Args<'_>) {
        let mut inner = Context {
            server: &mut *self.server,
            caller: &mut *self.caller,
            out: &mut *self.out,
            client: Some(client),
            id,
            spec: self.commands.table.spec(id),
            commands: self.commands,
        };
        // One that fails does not end the others, and has its reply.
        let _ = call(&mut inner, args, args.bytes_len());
    }
}

/// Answers a request that cannot be parsed and ends the connection.
pub fn protocol_error(server: &mut Server, client: &mut Client, error: tercel_resp::request::ProtocolError) {
    let error = CommandError::new(format!("ERR {error}"));
    reply_error(server, &mut client.out, &error);
    client.session.output.close(Closing::AfterReply);
    tracing::debug!(client = %client.session.address(), "{}", error.0);
}
