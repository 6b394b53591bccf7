//! The run of a command that may run, with its measurements. Clients, EXEC, effects and woken waiters come through
//! here.

use super::admit::unknown_command;
use super::after::{count_and_log, feed_monitors};
use super::context::{Commands, Context, Handler};
use tercel_transport::PeerKind;

use crate::clients::{Caller, ReplyMode, Session, Wait};
use crate::command::error::{CommandError, fail};
use crate::command::reply::Reply;
use crate::command::spec::flags;
use crate::command::{Args, CommandId, Outcome};
use crate::data::effects::Effect;
use crate::server::Server;

/// A command about a client, called by somebody who is none.
const NO_CLIENT: CommandError = fail("ERR This command needs a client connection");

pub(super) fn reply_error(server: &mut Server, out: &mut Reply, error: &CommandError) {
    server.stats_mut().record_error(&error.0);
    out.error(&error.0);
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
    if matches!(cx.caller.wait, Some(Wait::Keys(_))) {
        waits_for_keys(cx, args, request_len);
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
    if matches!(cx.caller.wait, Some(Wait::Slices(_))) {
        // It is counted when it is answered.
        goes_on_in_slices(cx, took_ns, request_len);
        return outcome;
    }
    count_and_log(cx, args, took_ns, failed, request_len, reply_len);
    outcome
}

/// Whether the client of the command that runs wants no reply to it.
fn is_muted(cx: &Context<'_>) -> bool {
    cx.client.as_ref().is_some_and(|client| matches!(client.output.reply_mode, ReplyMode::Off | ReplyMode::Skip))
}

/// A command waits for keys: it is counted when it is answered, and what its client is told of may have been told
/// already.
#[cold]
fn waits_for_keys(cx: &mut Context<'_>, args: &Args<'_>, request_len: usize) {
    let is_muted = is_muted(cx);
    if let Some(Wait::Keys(wait)) = &mut cx.caller.wait {
        wait.is_muted = is_muted;
        wait.request_len = request_len;
    }
    cx.server.settle();
    if cx.server.clients().any_monitor() && !cx.caller.is_woken {
        feed_monitors(cx, args);
    }
}

/// A long command has begun: what there is of an answer in pieces is sent.
#[cold]
fn goes_on_in_slices(cx: &mut Context<'_>, took_ns: u64, request_len: usize) {
    let is_muted = is_muted(cx);
    let Some(sliced) = cx.caller.sliced() else { return };
    sliced.spent_ns = took_ns;
    sliced.request_len = request_len;
    sliced.is_muted = is_muted;
    if !is_muted && sliced.job.streams() {
        sliced.sent_len = Some(0);
        sliced.send_so_far(cx.out);
        let version = cx.out.version;
        if let Some(session) = cx.client.as_deref_mut() {
            session.output.begin_pieces(version);
        }
    }
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
