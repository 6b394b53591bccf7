//! What happens to every command: the checks before it may run, queueing by MULTI, the run itself
//! with its measurements, and what follows from it. The executor and EXEC come through here.

use tercel_engine::Policy;

use super::args::{Args, OwnedCommand};
use super::context::{Context, lossy};
use super::fail::{Fail, fail, unknown_subcommand, wrong_arity};
use super::registry::{CommandId, table};
use super::spec::{Command, flags};
use crate::reply::Mark;
use crate::session::{Closing, Connection, Queued, ReplyMode};
use crate::settings::Setting;
use crate::state::Core;
use crate::state::maxmemory::Room;
use crate::stats::commandlog::{self, Kind};

/// Between two warnings of HTTP requests.
const HTTP_WARN_EVERY_NS: u64 = 60_000_000_000;
/// Names listed in the error for an unknown command are cut to this length.
const SHOWN_NAME_LEN_MAX: usize = 128;

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
    core: &mut Core,
    connection: &mut Connection,
    id: Option<CommandId>,
    args: &Args<'_>,
    request_len: usize,
) -> Verdict {
    if core.pause.is_some() && held_by_pause(core, connection, id) {
        return Verdict::Hold;
    }
    connection.session.last_command = id.filter(|id| args.len() < 2 || id.command().subcommands.is_empty());
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
    match admit(core, connection, id, args) {
        Ok(Admitted::Run(id)) => {
            run(core, connection, id, args, request_len);
        }
        Ok(Admitted::Queue(id)) => queue(connection, id, args),
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
            if id.is_some_and(|id| id.command().name == "exec") {
                exec_refused(core, connection, args, &error);
            } else {
                reply_error(core, connection, &error);
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

fn reply_error(core: &mut Core, connection: &mut Connection, error: &Fail) {
    core.stats.record_error(&error.0);
    connection.out.error(&error.0);
}

/// An EXEC that may not run ends the transaction all the same, so that the client knows where it stands.
fn exec_refused(core: &mut Core, connection: &mut Connection, args: &Args<'_>, error: &Fail) {
    let session = &mut connection.session;
    session.transaction = None;
    session.watch_broken = false;
    core.unwatch_all(session);
    let reason = error.0.strip_prefix("ERR ").unwrap_or(&error.0);
    reply_error(core, connection, &Fail::new(format!("EXECABORT Transaction discarded because of: {reason}")));
    if !core.clients.monitors.is_empty() {
        feed_monitors(core, connection, args);
    }
}

enum Admitted {
    Run(CommandId),
    Queue(CommandId),
}

fn held_by_pause(core: &mut Core, connection: &Connection, id: Option<CommandId>) -> bool {
    let Some(pause) = core.pause else { return false };
    if pause.until_ms <= core.now.unix_ms {
        core.pause = None;
        return false;
    }
    if !pause.writes_only {
        // CLIENT UNPAUSE has to get through.
        return !id.is_some_and(|id| id.command().name.starts_with("client"));
    }
    let Some(id) = id else { return false };
    let command = id.command();
    let writes = |set: u32| set & (flags::WRITE | flags::MAY_REPLICATE) != 0;
    match (&connection.session.transaction, command.name) {
        (Some(transaction), "exec") => writes(transaction.flags_union),
        (Some(_), _) => false,
        (None, _) => writes(command.flags),
    }
}

/// The answer to what has to wait until the snapshot is loaded.
pub(super) const LOADING: Fail = fail("LOADING Valkey is loading the dataset in memory");

/// Decides whether a command may run now.
#[inline]
fn admit(
    core: &mut Core,
    connection: &mut Connection,
    id: Option<CommandId>,
    args: &Args<'_>,
) -> Result<Admitted, Fail> {
    let session = &mut connection.session;
    let Some(id) = id else {
        return Err(if session.authenticated { unknown_command(args) } else { unauthenticated() });
    };
    let command = id.command();
    // A stranger is told nothing else, not even how a command is written.
    if !session.authenticated && !command.is(flags::NO_AUTH) {
        return Err(unauthenticated());
    }
    if !command.subcommands.is_empty() && args.len() >= 2 {
        return Err(unknown_subcommand(command.name, args.get(1)));
    }
    if !command.arity_fits(args.len()) {
        return Err(wrong_arity(command.name));
    }
    if command.is(flags::PROTECTED) && !debug_allowed(core, connection) {
        return Err(fail(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
        ));
    }
    let session = &mut connection.session;
    if session.is_subscriber() && !connection.out.is_resp3() && !allowed_to_subscribers(command) {
        return Err(Fail::new(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            command.name
        )));
    }
    if core.persistence.loading.is_some() && !command.is(flags::LOADING) {
        return Err(LOADING);
    }
    if core.save_failing() {
        let queued = session.transaction.as_ref().map_or(0, |transaction| transaction.flags_union);
        refuse_unsaved(command, queued)?;
    }
    if core.settings.maxmemory.0 > 0 {
        room_for(core, session.transaction.as_ref().map_or(0, |transaction| transaction.flags_union), command)?;
    }
    if session.transaction.is_some() {
        if command.is(flags::NO_MULTI) {
            return Err(Fail::new(format!("ERR Command '{}' not allowed inside a transaction", command.name)));
        }
        if !runs_inside_transaction(command) {
            return Ok(Admitted::Queue(id));
        }
    }
    Ok(Admitted::Run(id))
}

/// Refuses what would change data while nothing can be saved.
fn refuse_unsaved(command: &Command, queued_flags: u32) -> Result<(), Fail> {
    if command.is(flags::WRITE)
        || command.name == "ping"
        || (command.name == "exec" && queued_flags & flags::WRITE != 0)
    {
        return Err(fail(
            "MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may modify the data set are disabled, because this instance is configured to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Valkey logs for details about the RDB error.",
        ));
    }
    Ok(())
}

fn debug_allowed(core: &Core, connection: &Connection) -> bool {
    use crate::settings::LocalAccess;
    match core.settings.enable_debug_command.0 {
        LocalAccess::Yes => true,
        LocalAccess::Local => connection.session.peer.is_local(),
        LocalAccess::No => false,
    }
}

fn unauthenticated() -> Fail {
    fail("NOAUTH Authentication required.")
}

fn unknown_command(args: &Args<'_>) -> Fail {
    let name = args.get(0);
    let mut shown = String::new();
    for arg in args.rest(1) {
        if shown.len() >= SHOWN_NAME_LEN_MAX {
            break;
        }
        let left = SHOWN_NAME_LEN_MAX - shown.len();
        shown.push_str(&format!("'{}' ", lossy(&arg[..arg.len().min(left)])));
    }
    Fail::new(format!(
        "ERR unknown command '{}', with args beginning with: {shown}",
        lossy(&name[..name.len().min(SHOWN_NAME_LEN_MAX)])
    ))
}

fn allowed_to_subscribers(command: &Command) -> bool {
    matches!(
        command.name,
        "ping"
            | "subscribe"
            | "unsubscribe"
            | "psubscribe"
            | "punsubscribe"
            | "ssubscribe"
            | "sunsubscribe"
            | "quit"
            | "reset"
    )
}

fn runs_inside_transaction(command: &Command) -> bool {
    matches!(command.name, "exec" | "discard" | "quit" | "reset")
}

/// Evicts before a command that may need memory, and refuses it where there is none. Other commands
/// do not wait for that: housekeeping evicts after them.
fn room_for(core: &mut Core, queued_flags: u32, command: &Command) -> Result<(), Fail> {
    if !command.is(flags::DENYOOM) && !(command.name == "exec" && queued_flags & flags::DENYOOM != 0) {
        return Ok(());
    }
    let room = core.make_room(eviction_slice_ns(core.settings.maxmemory_eviction_tenacity));
    if room == Room::None || (room == Room::Evicting && core.settings.maxmemory_policy.0 == Policy::NoEviction) {
        return Err(fail("OOM command not allowed when used memory > 'maxmemory'."));
    }
    Ok(())
}

/// How long one command may evict, in nanoseconds. Shorter than Valkey's at the same tenacity, since a
/// turn that has evicted ends early and the next one goes on.
fn eviction_slice_ns(tenacity: i64) -> u64 {
    match tenacity {
        0..=10 => 20_000 * tenacity as u64,
        11..=99 => (200_000.0 * 1.15f64.powi(tenacity as i32 - 10)) as u64,
        _ => u64::MAX,
    }
}

fn queue(connection: &mut Connection, id: CommandId, args: &Args<'_>) {
    let session = &mut connection.session;
    if let Some(transaction) = session.transaction.as_mut() {
        // What will not run anyway is not kept.
        if !transaction.failed && !session.watch_broken {
            let owned = OwnedCommand::from_args(args);
            transaction.memory += owned.memory();
            transaction.commands.push(Queued { command: id, owned });
        }
        transaction.flags_union |= id.command().flags;
    }
    connection.out.simple("QUEUED");
}

/// Runs a command that was admitted, measures it, and sees to what follows from it.
#[inline]
pub fn run(core: &mut Core, connection: &mut Connection, id: CommandId, args: &Args<'_>, request_len: usize) {
    let command = id.command();
    core.no_touch = connection.session.no_touch && command.name != "touch";
    if command.keys.is_empty() {
        // Some of these show or reset the histograms.
        core.stats.settle();
    }
    let reply_from = connection.out.len();
    let begin_ns = core.clock.mono_ns();
    let mut cx = Context { core: &mut *core, session: &mut connection.session, out: &mut connection.out, command };
    let outcome = (command.handler)(&mut cx, args);
    let failed = outcome.is_err();
    if let Err(error) = outcome {
        reply_error(core, connection, &error);
    }
    if !core.afterwards.is_empty() {
        core.settle_afterwards();
    }
    // Monitors see a command once it ran: after the commands of its transaction, with the database it chose.
    if !core.clients.monitors.is_empty() && !command.is(flags::SKIP_MONITOR) && !command.is(flags::ADMIN) {
        feed_monitors(core, connection, args);
    }
    let took_ns = core.clock.mono_ns() - begin_ns;
    core.stats.commands_processed += 1;
    let track = core.settings.latency_tracking;
    core.stats.record_command(id, connection.session.carrier, took_ns, failed, track);
    let event = if command.is(flags::FAST) { "fast-command" } else { "command" };
    core.stats.latency.record(event, took_ns, core.now.unix_ms, core.settings.latency_monitor_threshold);
    let settings = &core.settings;
    let over = |value: u64, limit: i64| limit >= 0 && value as i64 >= limit;
    let reply_len = connection.out.len().saturating_sub(reply_from);
    if (over(took_ns / 1000, settings.commandlog_execution_slower_than)
        || over(request_len as u64, settings.commandlog_request_larger_than)
        || over(reply_len as u64, settings.commandlog_reply_larger_than))
        && !command.is(flags::SKIP_COMMANDLOG)
    {
        log_command(core, connection, args, took_ns, request_len, reply_len);
    }
}

fn log_command(
    core: &mut Core,
    connection: &Connection,
    args: &Args<'_>,
    took_ns: u64,
    request_len: usize,
    reply_len: usize,
) {
    let settings = &core.settings;
    let candidates = [
        (
            Kind::Slow,
            (took_ns / 1000) as i64,
            settings.commandlog_execution_slower_than,
            settings.commandlog_slow_execution_max_len,
        ),
        (
            Kind::LargeRequest,
            request_len as i64,
            settings.commandlog_request_larger_than,
            settings.commandlog_large_request_max_len,
        ),
        (
            Kind::LargeReply,
            reply_len as i64,
            settings.commandlog_reply_larger_than,
            settings.commandlog_large_reply_max_len,
        ),
    ];
    for (kind, value, limit, len_max) in candidates {
        if limit < 0 || value < limit {
            continue;
        }
        let entry = commandlog::Entry {
            id: 0,
            unix_seconds: core.now.unix_ms / 1000,
            value,
            args: commandlog::shorten((0..args.len()).map(|index| redacted(args, index))),
            address: connection.session.address(),
            name: connection.session.name.clone(),
        };
        core.stats.logs.log(kind).push(entry, len_max as usize);
    }
}

/// An argument as logs and monitors may show it: passwords are not.
fn redacted<'a>(args: &Args<'a>, index: usize) -> &'a [u8] {
    let secret = match index {
        0 => false,
        _ if args.is(0, "auth") => true,
        _ if args.is(0, "config") && args.is(1, "set") => {
            // Names and values alternate; a secret may stand where a name should.
            index >= 3
                && index % 2 == 1
                && crate::settings::find(&lossy(args.get(index - 1))).is_some_and(Setting::is_secret)
        }
        _ if args.is(0, "hello") => {
            (index >= 2 && args.is(index - 1, "auth")) || (index >= 3 && args.is(index - 2, "auth"))
        }
        _ => false,
    };
    if secret { b"(redacted)" } else { args.get(index) }
}

fn feed_monitors(core: &mut Core, connection: &Connection, args: &Args<'_>) {
    let now = core.now;
    let mut line = format!(
        "{}.{:06} [{} {}]",
        now.unix_us / 1_000_000,
        now.unix_us % 1_000_000,
        connection.session.db,
        match &connection.session.peer {
            tercel_transport::Peer::Unix { path } => format!("unix:{path}"),
            _ => connection.session.address(),
        }
    )
    .into_bytes();
    for index in 0..args.len() {
        line.push(b' ');
        quote_into(&mut line, redacted(args, index));
    }
    for &key in &core.clients.monitors.clone() {
        core.write_to(key, |out| out.encode(|into, _| tercel_resp::encode::simple(into, &line)));
    }
}

/// Appends bytes in double quotes, with escapes for what is not printable.
pub fn quote_into(line: &mut Vec<u8>, bytes: &[u8]) {
    line.push(b'"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            7 => line.extend_from_slice(b"\\a"),
            8 => line.extend_from_slice(b"\\b"),
            b' '..=b'~' => line.push(byte),
            other => line.extend_from_slice(format!("\\x{other:02x}").as_bytes()),
        }
    }
    line.push(b'"');
}

/// Answers a request that cannot be parsed and ends the connection.
pub fn protocol_error(core: &mut Core, connection: &mut Connection, error: tercel_resp::request::ProtocolError) {
    let error = Fail::new(format!("ERR {error}"));
    reply_error(core, connection, &error);
    connection.session.closing = Some(Closing::AfterReply);
    tracing::debug!(client = %connection.session.address(), "{}", error.0);
}

/// Looks a command up by its words.
#[inline]
#[must_use]
pub fn resolve(args: &Args<'_>) -> Option<CommandId> {
    table().resolve(args)
}
