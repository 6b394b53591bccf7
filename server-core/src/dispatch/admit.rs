//! Whether a command may run now: an ordered list of checks. Special treatment is a flag of the
//! declaration; no command is known here by its name.

use tercel_engine::Policy;

use crate::clients::Session;
use crate::command::error::{CommandError, fail, unknown_subcommand, wrong_arity};
use crate::command::parse::lossy;
use crate::command::spec::flags;
use crate::command::{Args, CommandId, CommandTable, Reply, Spec};
use crate::data::Room;
use crate::server::Server;

/// Names listed in the error for an unknown command are cut to this length.
const SHOWN_NAME_LEN_MAX: usize = 128;

pub(super) enum Admitted {
    Run(CommandId, &'static Spec),
    Queue(CommandId, &'static Spec),
}

pub(super) fn held_by_pause(server: &mut Server, session: &Session, spec: Option<&Spec>, args: &Args<'_>) -> bool {
    let Some(pause) = server.pause() else { return false };
    // What is refused for its form is refused at once.
    let Some(spec) = spec.filter(|spec| spec.arity_fits(args.len())) else { return false };
    if !pause.writes_only {
        // CLIENT UNPAUSE has to get through.
        return !spec.is(flags::PASSES_PAUSE);
    }
    // A write waits already where it is to be queued.
    let writes = |set: u32| set & (flags::WRITE | flags::MAY_REPLICATE) != 0;
    writes(spec.flags) || (spec.is(flags::RUNS_QUEUE) && writes(session.transaction.flags()))
}

/// Whether a command uses a key that another is about to change.
#[cold]
pub(super) fn held_by_keys(
    table: &CommandTable,
    server: &Server,
    session: &Session,
    spec: Option<&Spec>,
    args: &Args<'_>,
) -> bool {
    let Some(spec) = spec.filter(|spec| spec.arity_fits(args.len())) else { return false };
    let data = server.data();
    let uses = |spec: &Spec, args: &Args<'_>| {
        // Without keys of its own it may use any.
        if spec.keys.is_empty() {
            return spec.flags & (flags::WRITE | flags::READONLY) != 0;
        }
        let keys = spec.keys.iter().filter_map(|keys| keys.keys(args));
        keys.flatten().any(|(index, _)| data.is_held(args.get(index)))
    };
    // In a transaction it is only queued, and EXEC runs all of them.
    if session.transaction.is_open() {
        return spec.is(flags::RUNS_QUEUE)
            && session.transaction.queued_commands().iter().any(|queued| {
                let args = queued.owned.args();
                uses(table.spec(queued.command), &args)
            });
    }
    uses(spec, args)
}

/// The answer to what has to wait until the snapshot is loaded.
pub const LOADING: CommandError = fail("LOADING Valkey is loading the dataset in memory");

/// Decides whether a command may run now.
#[inline]
pub(super) fn admit(
    server: &mut Server,
    session: &Session,
    out: &Reply,
    command: Option<(CommandId, &'static Spec)>,
    args: &Args<'_>,
) -> Result<Admitted, CommandError> {
    let Some((id, spec)) = command else {
        return Err(if session.is_authenticated() { unknown_command(args) } else { unauthenticated() });
    };
    // A stranger is told nothing else, not even how a command is written.
    if !session.is_authenticated() && !spec.is(flags::NO_AUTH) {
        return Err(unauthenticated());
    }
    if spec.is_container && args.len() >= 2 {
        return Err(unknown_subcommand(spec.name, args.get(1)));
    }
    if !spec.arity_fits(args.len()) {
        return Err(wrong_arity(spec.name));
    }
    if spec.is(flags::PROTECTED) && !debug_allowed(server, session) {
        return Err(fail(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
        ));
    }
    if session.is_subscriber() && !out.is_resp3() && !spec.is(flags::WHILE_SUBSCRIBED) {
        return Err(CommandError::new(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            spec.name
        )));
    }
    if server.persistence().is_loading() && !spec.is(flags::LOADING) {
        return Err(LOADING);
    }
    if server.persistence().is_failing(server.settings()) {
        refuse_unsaved(spec, session.transaction.flags())?;
    }
    if server.settings().maxmemory.0 > 0 {
        room_for(server, session.transaction.flags(), spec)?;
    }
    if session.transaction.is_open() {
        if spec.is(flags::NO_MULTI) {
            return Err(CommandError::new(format!("ERR Command '{}' not allowed inside a transaction", spec.name)));
        }
        if !spec.is(flags::NOT_QUEUED) {
            return Ok(Admitted::Queue(id, spec));
        }
    }
    Ok(Admitted::Run(id, spec))
}

/// Refuses what would change data while nothing can be saved.
fn refuse_unsaved(spec: &Spec, queued_flags: u32) -> Result<(), CommandError> {
    if spec.is(flags::WRITE)
        || spec.is(flags::DENIED_WHEN_UNSAVED)
        || (spec.is(flags::RUNS_QUEUE) && queued_flags & flags::WRITE != 0)
    {
        return Err(fail(
            "MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may modify the data set are disabled, because this instance is configured to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Valkey logs for details about the RDB error.",
        ));
    }
    Ok(())
}

fn debug_allowed(server: &Server, session: &Session) -> bool {
    use crate::settings::LocalAccess;
    match server.settings().enable_debug_command.0 {
        LocalAccess::Yes => true,
        LocalAccess::Local => session.peer().is_local(),
        LocalAccess::No => false,
    }
}

fn unauthenticated() -> CommandError {
    fail("NOAUTH Authentication required.")
}

pub(super) fn unknown_command(args: &Args<'_>) -> CommandError {
    let name = args.get(0);
    let mut shown = String::new();
    for arg in args.rest(1) {
        if shown.len() >= SHOWN_NAME_LEN_MAX {
            break;
        }
        let left = SHOWN_NAME_LEN_MAX - shown.len();
        shown.push_str(&format!("'{}' ", lossy(&arg[..arg.len().min(left)])));
    }
    CommandError::new(format!(
        "ERR unknown command '{}', with args beginning with: {shown}",
        lossy(&name[..name.len().min(SHOWN_NAME_LEN_MAX)])
    ))
}

/// Evicts before a command that may need memory, and refuses it where there is none. Other commands
/// do not wait for that: housekeeping evicts after them.
fn room_for(server: &mut Server, queued_flags: u32, spec: &Spec) -> Result<(), CommandError> {
    let queue_may_need_memory = spec.is(flags::RUNS_QUEUE) && queued_flags & flags::DENYOOM != 0;
    if !spec.is(flags::DENYOOM) && !queue_may_need_memory {
        return Ok(());
    }
    let slice_ns = eviction_slice_ns(server.settings().maxmemory_eviction_tenacity);
    let room = server.make_room(slice_ns);
    if room == Room::None || (room == Room::Evicting && server.settings().maxmemory_policy.0 == Policy::NoEviction) {
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
