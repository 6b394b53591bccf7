//! SAVE, BGSAVE and LASTSAVE. What they do is in [`tercel_core::persistence`].

use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, Outcome, SYNTAX, fail};
use tercel_core::command::spec::Group;
use tercel_core::command::spec::flags::*;
use tercel_core::dispatch::Context;
use tercel_core::dispatch::{Command, cmd};

pub(crate) static COMMANDS: &[Command] = &[
    cmd("save", Group::Server, "1.0.0", 1, ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI, save)
        .about("Saves all data and answers when it is on disk.", "O(N) where N is the number of keys"),
    cmd("bgsave", Group::Server, "1.0.0", -1, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, bgsave)
        .about("Saves all data as it is now, in the background.", "O(1)")
        .args("[operation(SCHEDULE|CANCEL)]"),
    cmd("lastsave", Group::Server, "1.0.0", 1, LOADING | STALE | FAST, lastsave)
        .about("Returns when the data was last saved, in Unix seconds.", "O(1)")
        .acl(tercel_core::command::spec::acl::ADMIN | tercel_core::command::spec::acl::DANGEROUS)
        .tips(&["nondeterministic_output"]),
];

/// Valkey's answer where only the log says more.
pub(super) const FAILED: CommandError = fail("ERR");

fn save(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    if cx.server.persistence().is_saving() {
        return Err(fail("ERR Background save already in progress"));
    }
    cx.server.persistence_mut().save_now().map_err(|_| FAILED)?;
    cx.out.ok();
    Ok(())
}

fn bgsave(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let schedule = match args.len() {
        1 => false,
        2 if args.is(1, "schedule") => true,
        2 if args.is(1, "cancel") => return cancel(cx),
        _ => return Err(SYNTAX),
    };
    if cx.server.persistence().is_saving() {
        return Err(fail("ERR Background save already in progress"));
    }
    if cx.caller.in_transaction {
        // What is saved is whole transactions.
        cx.server.persistence_mut().state.schedule();
        cx.out.simple("Background saving scheduled");
        return Ok(());
    }
    if schedule {
        tracing::info!("Background saving scheduled due to user request");
    }
    if !cx.server.persistence_mut().begin_in_background() {
        return Err(FAILED);
    }
    cx.out.simple("Background saving started");
    Ok(())
}

fn cancel(cx: &mut Context<'_>) -> Outcome {
    if cx.server.persistence_mut().cancel() {
        tracing::info!("Background saving aborted due to user request");
        cx.out.simple("Background saving cancelled");
    } else if cx.server.persistence_mut().state.unschedule() {
        cx.out.simple("Scheduled background saving cancelled");
    } else {
        return Err(fail("ERR Background saving is currently not in progress or scheduled"));
    }
    Ok(())
}

fn lastsave(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    cx.out.integer(cx.server.persistence().status().last_save_s);
    Ok(())
}
