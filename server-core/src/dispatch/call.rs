//! One command of a client: refused, queued or run, and the run itself with its measurements. The
//! executor and EXEC come through here.

use super::admit::{Admitted, admit, held_by_pause};
use super::after::{feed_monitors, log_command};
use super::command::Commands;
use super::context::Context;
use crate::clients::client::{Closing, Connection, Queued, ReplyMode};
use crate::command::error::CommandError;
use crate::command::reply::Mark;
use crate::command::spec::flags;
use crate::command::{Args, CommandId, OwnedCommand, Spec};
use crate::server::Core;
use crate::stats::latency;

/// Between two warnings of HTTP requests.
const HTTP_WARN_EVERY_NS: u64 = 60_000_000_000;

/// Whether the executor goes on with this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The command is done.
    Done,
    /// A pause holds it back: it is to be tried again later.
    Hold,
}

/// Runs one command of a client, or refuses or queues it.
#[inline]
pub fn process(
    commands: &'static Commands,
    core: &mut Core,
    connection: &mut Connection,
    id: Option<CommandId>,
    args: &Args<'_>,
    request_len: usize,
) -> Verdict {
    let spec = id.map(|id| commands.table.spec(id));
    if core.pause.is_some() && held_by_pause(core, connection, spec, args) {
        return Verdict::Hold;
    }
    connection.session.last_command = id.filter(|_| args.len() < 2 || spec.is_some_and(|spec| !spec.is_container));
    if id.is_none() && is_http(args) {
        let now_ns = core.now.mono_ns;
        if core.stats.http_warned_ns.is_none_or(|at_ns| now_ns - at_ns >= HTTP_WARN_EVERY_NS) {
            core.stats.http_warned_ns = Some(now_ns);
            tracing::warn!(
                "Possible SECURITY ATTACK detected: {} sent an HTTP request, perhaps a page in somebody's browser. The connection is closed.",
                connection.session.address()
            );
        }
        connection.session.closing = Some(Closing::Now);
        return Verdict::Done;
    }
    let mark = connection.out.mark();
    let reply_from = connection.out.len();
    match admit(core, connection, id.zip(spec), args) {
        Ok(Admitted::Run(id)) => {
            run(commands, core, connection, id, args, request_len);
        }
        Ok(Admitted::Queue(id)) => queue(connection, id, commands.table.spec(id), args),
        Err(error) => {
            if let Some(id) = id {
                core.stats.commands[id.index()].rejected += 1;
            }
            if let Some(transaction) = connection.session.transaction.as_mut() {
                // It will not run: nothing of it needs to be kept.
                transaction.failed = true;
                transaction.commands = Vec::new();
                transaction.memory = 0;
            }
            match spec.filter(|spec| spec.is(flags::RUNS_QUEUE)) {
                Some(spec) => exec_refused(core, connection, spec, args, &error),
                None => reply_error(core, connection, &error),
            }
        }
    }
    settle_reply(connection, mark);
    let session = &mut connection.session;
    session.commands_total += 1;
    session.replied_total += (connection.out.len() - reply_from.min(connection.out.len())) as u64;
    if let Some(current) = core.current.as_mut() {
        if !current.pushes.is_empty() || current.pushes.is_over() {
            connection.out.append(&mut current.pushes);
        }
        for (db, key, change) in current.touched.drain(..) {
            session.touch_watched(db, &key, change);
        }
        if let Some(how) = current.closing.take() {
            session.closing = Some(how);
        }
    }
    Verdict::Done
}

/// Whether a line is HTTP's: a page in a browser can send such to a port of the reader's own host,
/// with commands in the body.
#[cold]
fn is_http(args: &Args<'_>) -> bool {
    args.is(0, "post") || args.is(0, "host:")
}

/// Takes replies back that the client does not want.
#[inline]
fn settle_reply(connection: &mut Connection, mark: Mark) {
    match connection.session.reply_mode {
        ReplyMode::On => {}
        ReplyMode::Off => connection.out.truncate(mark),
        ReplyMode::Skip => {
            connection.out.truncate(mark);
            connection.session.reply_mode = ReplyMode::On;
        }
        ReplyMode::SkipNext => connection.session.reply_mode = ReplyMode::Skip,
    }
}

fn reply_error(core: &mut Core, connection: &mut Connection, error: &CommandError) {
    core.stats.record_error(&error.0);
    connection.out.error(&error.0);
}

/// An EXEC that may not run ends the transaction all the same, so that the client knows where it stands.
fn exec_refused(core: &mut Core, connection: &mut Connection, spec: &Spec, args: &Args<'_>, error: &CommandError) {
    core.end_transaction(&mut connection.session);
    let reason = error.0.strip_prefix("ERR ").unwrap_or(&error.0);
    reply_error(core, connection, &CommandError::new(format!("EXECABORT Transaction discarded because of: {reason}")));
    if !core.clients.monitors.is_empty() {
        feed_monitors(core, connection, spec, args);
    }
}

fn queue(connection: &mut Connection, id: CommandId, spec: &Spec, args: &Args<'_>) {
    let session = &mut connection.session;
    if let Some(transaction) = session.transaction.as_mut() {
        // What will not run anyway is not kept.
        if !transaction.failed && !session.watch_broken {
            let owned = OwnedCommand::from_args(args);
            transaction.memory += owned.memory();
            transaction.commands.push(Queued { command: id, owned });
        }
        transaction.flags_union |= spec.flags;
    }
    connection.out.simple("QUEUED");
}

/// Runs a command that was admitted, measures it, and sees to what follows from it.
#[inline]
pub fn run(
    commands: &'static Commands,
    core: &mut Core,
    connection: &mut Connection,
    id: CommandId,
    args: &Args<'_>,
    request_len: usize,
) {
    let spec = commands.table.spec(id);
    core.data.set_no_touch(connection.session.no_touch && !spec.is(flags::ALWAYS_TOUCHES));
    if spec.keys.is_empty() {
        // Some of these show or reset the histograms.
        core.stats.settle();
    }
    let reply_from = connection.out.len();
    let begin_ns = core.clock.mono_ns();
    let mut cx =
        Context { core: &mut *core, session: &mut connection.session, out: &mut connection.out, spec, commands };
    let outcome = commands.handler(id)(&mut cx, args);
    let failed = outcome.is_err();
    if let Err(error) = outcome {
        reply_error(core, connection, &error);
    }
    core.settle();
    // Monitors see a command once it ran: after the commands of its transaction, with the database it chose.
    if !core.clients.monitors.is_empty() && !spec.is(flags::SKIP_MONITOR) && !spec.is(flags::ADMIN) {
        feed_monitors(core, connection, spec, args);
    }
    let took_ns = core.clock.mono_ns() - begin_ns;
    core.stats.commands_processed += 1;
    let track = core.settings.latency_tracking;
    core.stats.record_command(id, connection.session.kind, took_ns, failed, track);
    let event = if spec.is(flags::FAST) { latency::FAST_COMMAND } else { latency::COMMAND };
    core.stats.latency.record(event, took_ns, core.now.unix_ms, core.settings.latency_monitor_threshold);
    let settings = &core.settings;
    let over = |value: u64, limit: i64| limit >= 0 && value as i64 >= limit;
    let reply_len = connection.out.len().saturating_sub(reply_from);
    if (over(took_ns / 1000, settings.commandlog_execution_slower_than)
        || over(request_len as u64, settings.commandlog_request_larger_than)
        || over(reply_len as u64, settings.commandlog_reply_larger_than))
        && !spec.is(flags::SKIP_COMMANDLOG)
    {
        log_command(core, connection, spec, args, took_ns, request_len, reply_len);
    }
}

/// Answers a request that cannot be parsed and ends the connection.
pub fn protocol_error(core: &mut Core, connection: &mut Connection, error: tercel_resp::request::ProtocolError) {
    let error = CommandError::new(format!("ERR {error}"));
    reply_error(core, connection, &error);
    connection.session.closing = Some(Closing::AfterReply);
    tracing::debug!(client = %connection.session.address(), "{}", error.0);
}
