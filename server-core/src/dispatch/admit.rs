//! Whether a command may run now: an ordered list of checks. Special treatment is a flag of the
//! declaration; no command is known here by its name.

use tercel_engine::Policy;

use crate::clients::client::Connection;
use crate::command::error::{CommandError, fail, unknown_subcommand, wrong_arity};
use crate::command::parse::lossy;
use crate::command::spec::flags;
use crate::command::{Args, CommandId, Spec};
use crate::data::Room;
use crate::server::Core;

/// Names listed in the error for an unknown command are cut to this length.
const SHOWN_NAME_LEN_MAX: usize = 128;

pub(super) enum Admitted {
    Run(CommandId),
    Queue(CommandId),
}

pub(super) fn held_by_pause(core: &mut Core, connection: &Connection, spec: Option<&Spec>, args: &Args<'_>) -> bool {
    let Some(pause) = core.pause else { return false };
    if pause.until_ms <= core.now.unix_ms {
        core.set_pause(None);
        return false;
    }
    // What is refused for its form is refused at once.
    let Some(spec) = spec.filter(|spec| spec.arity_fits(args.len())) else { return false };
    if !pause.writes_only {
        // CLIENT UNPAUSE has to get through.
        return !spec.is(flags::PASSES_PAUSE);
    }
    // A write waits already where it is to be queued.
    let writes = |set: u32| set & (flags::WRITE | flags::MAY_REPLICATE) != 0;
    let queue = connection.session.transaction.as_ref().map_or(0, |transaction| transaction.flags_union);
    writes(spec.flags) || (spec.is(flags::RUNS_QUEUE) && writes(queue))
}

/// The answer to what has to wait until the snapshot is loaded.
pub const LOADING: CommandError = fail("LOADING Valkey is loading the dataset in memory");

/// Decides whether a command may run now.
#[inline]
pub(super) fn admit(
    core: &mut Core,
    connection: &mut Connection,
    command: Option<(CommandId, &Spec)>,
    args: &Args<'_>,
) -> Result<Admitted, CommandError> {
    let session = &mut connection.session;
    let Some((id, spec)) = command else {
        return Err(if session.authenticated { unknown_command(args) } else { unauthenticated() });
    };
    // A stranger is told nothing else, not even how a command is written.
    if !session.authenticated && !spec.is(flags::NO_AUTH) {
        return Err(unauthenticated());
    }
    if spec.is_container && args.len() >= 2 {
        return Err(unknown_subcommand(spec.name, args.get(1)));
    }
    if !spec.arity_fits(args.len()) {
        return Err(wrong_arity(spec.name));
    }
    if spec.is(flags::PROTECTED) && !debug_allowed(core, connection) {
        return Err(fail(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
        ));
    }
    let session = &mut connection.session;
    if session.is_subscriber() && !connection.out.is_resp3() && !spec.is(flags::WHILE_SUBSCRIBED) {
        return Err(CommandError::new(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            spec.name
        )));
    }
    if core.persistence.loading.is_some() && !spec.is(flags::LOADING) {
        return Err(LOADING);
    }
    if core.save_failing() {
        let queued = session.transaction.as_ref().map_or(0, |transaction| transaction.flags_union);
        refuse_unsaved(spec, queued)?;
    }
    if core.settings.maxmemory.0 > 0 {
        room_for(core, session.transaction.as_ref().map_or(0, |transaction| transaction.flags_union), spec)?;
    }
    if session.transaction.is_some() {
        if spec.is(flags::NO_MULTI) {
            return Err(CommandError::new(format!("ERR Command '{}' not allowed inside a transaction", spec.name)));
        }
        if !spec.is(flags::NOT_QUEUED) {
            return Ok(Admitted::Queue(id));
        }
    }
    Ok(Admitted::Run(id))
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

fn debug_allowed(core: &Core, connection: &Connection) -> bool {
    use crate::settings::LocalAccess;
    match core.settings.enable_debug_command.0 {
        LocalAccess::Yes => true,
        LocalAccess::Local => connection.session.peer.is_local(),
        LocalAccess::No => false,
    }
}

fn unauthenticated() -> CommandError {
    fail("NOAUTH Authentication required.")
}

fn unknown_command(args: &Args<'_>) -> CommandError {
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
fn room_for(core: &mut Core, queued_flags: u32, spec: &Spec) -> Result<(), CommandError> {
    let queue_may_need_memory = spec.is(flags::RUNS_QUEUE) && queued_flags & flags::DENYOOM != 0;
    if !spec.is(flags::DENYOOM) && !queue_may_need_memory {
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
