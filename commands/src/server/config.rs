//! CONFIG: reading, changing and rewriting settings.

use std::path::Path;

use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, Outcome, fail};
use tercel_core::command::parse::lossy;
use tercel_core::command::spec::Group;
use tercel_core::command::spec::flags::*;
use tercel_core::dispatch::Context;
use tercel_core::dispatch::container;
use tercel_core::dispatch::{Command, cmd};
use tercel_core::host::Refused;
use tercel_core::settings::{self, Setting};

static CONFIG_SUBCOMMANDS: &[Command] = &[
    cmd("config|get", Group::Server, "2.0.0", -3, ADMIN | NOSCRIPT | LOADING | STALE, config_get)
        .about("Returns the settings that match.", "O(N)")
        .args("parameter:string..."),
    cmd("config|help", Group::Server, "5.0.0", 2, LOADING | STALE, config_help).about("Lists the subcommands.", "O(1)"),
    cmd("config|resetstat", Group::Server, "2.0.0", 2, ADMIN | NOSCRIPT | LOADING | STALE, config_resetstat)
        .about("Sets the statistics back.", "O(1)")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    cmd("config|rewrite", Group::Server, "2.8.0", 2, ADMIN | NOSCRIPT | LOADING | STALE, config_rewrite)
        .about("Writes the settings in force into the configuration file.", "O(1)")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    cmd("config|set", Group::Server, "2.0.0", -4, DECIDES_PARSING | ADMIN | NOSCRIPT | LOADING | STALE, config_set)
        .about("Changes settings, all of them or none.", "O(N)")
        .args("data{parameter:string value:string}...")
        .secret(|args, index| {
            // Names and values alternate; a secret may stand where a name should.
            index >= 3 && index % 2 == 1 && settings::find(&lossy(args.get(index - 1))).is_some_and(Setting::is_secret)
        })
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
];

pub(crate) static COMMANDS: &[Command] = &[cmd("config", Group::Server, "2.0.0", -2, NONE, container)
    .about("Reads and changes settings.", "O(1)")
    .sub(CONFIG_SUBCOMMANDS)];

fn config_get(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let patterns: Vec<&[u8]> = args.rest(2).collect();
    let found = cx.server.settings().matching(&patterns);
    cx.out.map(found.len());
    for (name, value) in found {
        cx.out.bulk(name);
        cx.out.bulk(value);
    }
    Ok(())
}

fn config_set(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    if !args.len().is_multiple_of(2) {
        return Err(tercel_core::command::error::SYNTAX);
    }
    let mut words = Vec::with_capacity(args.len());
    for at in 2..args.len() {
        let word = String::from_utf8(args.get(at).to_vec()).map_err(|_| {
            // A value is taken as it is or not at all: a password that was changed on its way in locks out.
            let name = lossy(args.get(at - at % 2));
            CommandError::new(format!(
                "ERR CONFIG SET failed (possibly related to argument '{name}') - {}",
                tercel_core::settings::file::NOT_TEXT
            ))
        })?;
        words.push(word);
    }
    let changes: Vec<(&str, &str)> = words.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    let new = cx.server.settings().with_changes(&changes).map_err(|error| CommandError::new(format!("ERR {error}")))?;
    cx.server.change_settings(new).map_err(|Refused { setting, reason }| {
        CommandError::new(format!("ERR CONFIG SET failed (possibly related to argument '{setting}') - {reason}"))
    })?;
    cx.out.ok();
    Ok(())
}

fn config_rewrite(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    let path = &cx.server.host().process().config_file;
    if path.is_empty() {
        return Err(fail("ERR The server is running without a config file"));
    }
    cx.server
        .settings()
        .rewrite(&*cx.server.host().disk(), Path::new(path))
        .map_err(|error| CommandError::new(format!("ERR Rewriting config file: {error}")))?;
    cx.out.ok();
    Ok(())
}

fn config_resetstat(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    cx.server.reset_counters();
    cx.out.ok();
    Ok(())
}

fn config_help(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    tercel_core::dispatch::help(cx, "config");
    Ok(())
}
