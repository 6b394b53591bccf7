//! COMMAND: what the declarations say, shown to clients.

use tercel_core::base::glob::Glob;
use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, Outcome, SYNTAX, fail};
use tercel_core::command::grammar::{self, Arg};
use tercel_core::command::key_positions::{Begin, Find};
use tercel_core::command::reply::Reply;
use tercel_core::command::spec::flags::*;
use tercel_core::command::spec::{Group, acl, flags, key};
use tercel_core::command::{CommandId, CommandTable, Spec};
use tercel_core::dispatch::Context;
use tercel_core::dispatch::{Command, cmd};

static COMMAND_SUBCOMMANDS: &[Command] = &[
    cmd("command|count", Group::Server, "2.8.13", 2, LOADING | STALE | SENTINEL, command_count)
        .about("Counts the commands.", "O(1)")
        .acl(acl::CONNECTION),
    cmd("command|docs", Group::Server, "7.0.0", -2, LOADING | STALE | SENTINEL, command_docs)
        .about("Documents commands.", "O(N)")
        .args("[command-name:string...]")
        .acl(acl::CONNECTION)
        .tips(&["nondeterministic_output_order"]),
    cmd("command|getkeys", Group::Server, "2.8.13", -3, LOADING | STALE | SENTINEL, command_getkeys)
        .about("Picks the keys out of a whole command.", "O(N)")
        .args("command:string [arg:string...]")
        .acl(acl::CONNECTION),
    cmd("command|getkeysandflags", Group::Server, "7.0.0", -3, LOADING | STALE | SENTINEL, command_getkeysandflags)
        .about("Picks the keys out of a whole command, with what is done to them.", "O(N)")
        .args("command:string [arg:string...]")
        .acl(acl::CONNECTION),
    cmd("command|help", Group::Server, "5.0.0", 2, LOADING | STALE | SENTINEL, command_help)
        .about("Lists the subcommands.", "O(1)")
        .acl(acl::CONNECTION),
    cmd("command|info", Group::Server, "2.8.13", -2, LOADING | STALE | SENTINEL, command_info)
        .about("Describes commands.", "O(N)")
        .args("[command-name:string...]")
        .acl(acl::CONNECTION)
        .tips(&["nondeterministic_output_order"]),
    cmd("command|list", Group::Server, "7.0.0", -2, LOADING | STALE | SENTINEL, command_list)
        .about("Lists command names.", "O(N)")
        .args("[FILTERBY filterby(MODULE module-name:string|ACLCAT category:string|PATTERN pattern:pattern)]")
        .acl(acl::CONNECTION)
        .tips(&["nondeterministic_output_order"]),
];

pub(crate) static COMMANDS: &[Command] =
    &[cmd("command", Group::Server, "2.8.13", -1, LOADING | STALE | SENTINEL, command)
        .about("Describes commands.", "O(N)")
        .acl(acl::CONNECTION)
        .tips(&["nondeterministic_output_order"])
        .sub(COMMAND_SUBCOMMANDS)];

fn listed(set: u32, names: &[(u32, &'static str)]) -> Vec<&'static str> {
    names.iter().filter(|(flag, _)| set & flag != 0).map(|(_, name)| *name).collect()
}

fn names_as_set(out: &mut Reply, names: &[&str], prefix: &str) {
    out.set(names.len());
    for name in names {
        out.simple(&format!("{prefix}{name}"));
    }
}

/// COMMAND INFO of one command.
fn write_info(table: &CommandTable, out: &mut Reply, id: CommandId) {
    let command = table.spec(id);
    let (first, last, step) = command.legacy_key_range();
    out.array(10);
    out.bulk(command.name);
    out.integer(i64::from(command.arity));
    let mut names = listed(command.flags, flags::NAMES);
    if command.keys.iter().any(|spec| !spec.is_fixed()) {
        names.push("movablekeys");
    }
    names_as_set(out, &names, "");
    out.integer(first);
    out.integer(last);
    out.integer(step);
    names_as_set(out, &listed(command.categories(), acl::NAMES), "@");
    out.array(command.tips.len());
    for tip in command.tips {
        out.bulk(tip);
    }
    out.array(command.keys.len());
    for spec in command.keys {
        out.map(3);
        out.bulk("flags");
        names_as_set(out, &listed(spec.flags, key::NAMES), "");
        out.bulk("begin_search");
        match spec.begin {
            Begin::Index(index) => write_rule(out, "index", None, &[("index", index)]),
            Begin::Keyword { word, from } => {
                write_rule(out, "keyword", Some(("keyword", word)), &[("startfrom", from)])
            }
            Begin::Unknown => write_rule(out, "unknown", None, &[]),
        }
        out.bulk("find_keys");
        match spec.find {
            Find::Range { last, step, limit } => {
                write_rule(out, "range", None, &[("lastkey", last), ("keystep", step), ("limit", limit)]);
            }
            Find::Counted { count, first, step } => {
                let numbers = [("keynumidx", count), ("firstkey", first), ("keystep", step)];
                write_rule(out, "keynum", None, &numbers);
            }
            Find::Unknown => write_rule(out, "unknown", None, &[]),
        }
    }
    let subs: Vec<CommandId> = table.subcommands(id).collect();
    out.array(subs.len());
    for sub in subs {
        write_info(table, out, sub);
    }
}

/// Half of a key specification: its type, and its words and numbers.
fn write_rule(out: &mut Reply, kind: &str, word: Option<(&str, &str)>, numbers: &[(&str, i32)]) {
    out.map(2);
    out.bulk("type");
    out.bulk(kind);
    out.bulk("spec");
    out.map(usize::from(word.is_some()) + numbers.len());
    if let Some((name, word)) = word {
        out.bulk(name);
        out.bulk(word);
    }
    for (name, number) in numbers {
        out.bulk(name);
        out.integer(i64::from(*number));
    }
}

fn write_args(out: &mut Reply, args: &[Arg]) {
    out.array(args.len());
    for arg in args {
        let flags: Vec<&str> =
            [(arg.optional, "optional"), (arg.multiple, "multiple"), (arg.multiple_token, "multiple_token")]
                .iter()
                .filter(|(on, _)| *on)
                .map(|(_, name)| *name)
                .collect();
        let shows_text = !matches!(arg.kind.as_str(), "oneof" | "block");
        let is_key = arg.kind == "key";
        let fields = 2
            + usize::from(shows_text)
            + usize::from(is_key)
            + usize::from(arg.token.is_some())
            + usize::from(!flags.is_empty())
            + usize::from(!arg.children.is_empty());
        out.map(fields);
        out.bulk("name");
        out.bulk(&arg.name);
        out.bulk("type");
        out.bulk(&arg.kind);
        if shows_text {
            out.bulk("display_text");
            out.bulk(&arg.name);
        }
        if is_key {
            out.bulk("key_spec_index");
            out.integer(0);
        }
        if let Some(token) = &arg.token {
            out.bulk("token");
            out.bulk(token);
        }
        if !flags.is_empty() {
            out.bulk("flags");
            names_as_set(out, &flags, "");
        }
        if !arg.children.is_empty() {
            out.bulk("arguments");
            write_args(out, &arg.children);
        }
    }
}

/// COMMAND DOCS of one command, without its name.
fn write_docs(table: &CommandTable, out: &mut Reply, id: CommandId) {
    let command = table.spec(id);
    let args = grammar::parse(command.args).unwrap_or_default();
    let subs: Vec<CommandId> = table.subcommands(id).collect();
    let fields = 4
        + if command.deprecated.is_some() { 3 } else { 0 }
        + usize::from(!args.is_empty())
        + usize::from(!subs.is_empty());
    out.map(fields);
    for (name, value) in [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group.name()),
        ("complexity", command.complexity),
    ] {
        out.bulk(name);
        out.bulk(value);
    }
    if let Some((since, replaced_by)) = command.deprecated {
        out.bulk("doc_flags");
        names_as_set(out, &["deprecated"], "");
        out.bulk("deprecated_since");
        out.bulk(since);
        out.bulk("replaced_by");
        out.bulk(replaced_by);
    }
    if !args.is_empty() {
        out.bulk("arguments");
        write_args(out, &args);
    }
    if !subs.is_empty() {
        out.bulk("subcommands");
        out.map(subs.len());
        for sub in subs {
            out.bulk(table.spec(sub).name);
            write_docs(table, out, sub);
        }
    }
}

fn command(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    let table = &cx.commands.table;
    let all: Vec<CommandId> = table.top_level().map(|(id, _)| id).collect();
    cx.out.array(all.len());
    for id in all {
        write_info(table, cx.out, id);
    }
    Ok(())
}

fn command_info(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    if args.len() == 2 {
        return command(cx, args);
    }
    let table = &cx.commands.table;
    cx.out.array(args.len() - 2);
    for name in args.rest(2) {
        match table.find_full(name) {
            Some(id) => write_info(table, cx.out, id),
            None => cx.out.null(),
        }
    }
    Ok(())
}

fn command_docs(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let table = &cx.commands.table;
    let chosen: Vec<CommandId> = if args.len() == 2 {
        table.top_level().map(|(id, _)| id).collect()
    } else {
        args.rest(2).filter_map(|name| table.find_full(name)).collect()
    };
    cx.out.map(chosen.len());
    for id in chosen {
        cx.out.bulk(table.spec(id).name);
        write_docs(table, cx.out, id);
    }
    Ok(())
}

fn command_count(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    cx.out.count(cx.commands.table.top_level().count());
    Ok(())
}

fn command_list(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let table = &cx.commands.table;
    let names: Vec<&str> = if args.len() == 2 {
        table.top_level().map(|(_, command)| command.name).collect()
    } else if args.len() == 5 && args.is(2, "filterby") {
        let value = args.get(4);
        let fits: Box<dyn Fn(&Spec) -> bool> = match () {
            () if args.is(3, "module") => Box::new(|_| false),
            () if args.is(3, "aclcat") => {
                let category = acl::NAMES
                    .iter()
                    .find(|(_, name)| name.as_bytes().eq_ignore_ascii_case(value))
                    .map_or(0, |(bit, _)| *bit);
                Box::new(move |command| command.categories() & category != 0)
            }
            () if args.is(3, "pattern") => {
                let pattern = Glob::new(value, true);
                Box::new(move |command| pattern.matches(command.name.as_bytes()))
            }
            () => return Err(SYNTAX),
        };
        table.all().filter(|(_, command)| fits(command)).map(|(_, command)| command.name).collect()
    } else {
        return Err(SYNTAX);
    };
    cx.out.bulks(&names);
    Ok(())
}

/// The keys of a whole command: index and what is done to each.
fn keys_of(table: &CommandTable, args: &Args<'_>) -> Result<Vec<(usize, u32)>, CommandError> {
    let shifted = args.behind(2);
    let id = table.resolve(&shifted).ok_or(fail("ERR Invalid command specified"))?;
    let command = table.spec(id);
    if command.keys.is_empty() {
        return Err(fail("ERR The command has no key arguments"));
    }
    if !command.arity_fits(shifted.len()) {
        return Err(fail("ERR Invalid number of arguments specified for command"));
    }
    let mut found = Vec::new();
    for spec in command.keys.iter().filter(|spec| spec.flags & key::NOT_KEY == 0) {
        let keys = spec.keys(&shifted).ok_or(fail("ERR Invalid arguments specified for command"))?;
        let decided = command.key_flags.map(|key_flags| key_flags(&shifted));
        found.extend(keys.into_iter().map(|(index, flags)| (index, decided.unwrap_or(flags))));
    }
    if found.is_empty() {
        return Err(fail("ERR The command has no key arguments"));
    }
    Ok(found)
}

fn command_getkeys(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let found = keys_of(&cx.commands.table, args)?;
    cx.out.array(found.len());
    for (index, _) in found {
        cx.out.bulk(args.get(index + 2));
    }
    Ok(())
}

fn command_getkeysandflags(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let found = keys_of(&cx.commands.table, args)?;
    cx.out.array(found.len());
    for (index, flags) in found {
        cx.out.array(2);
        cx.out.bulk(args.get(index + 2));
        names_as_set(cx.out, &listed(flags, key::NAMES), "");
    }
    Ok(())
}

fn command_help(cx: &mut Context<'_>, _: &Args<'_>) -> Outcome {
    tercel_core::dispatch::help(cx, "command");
    Ok(())
}
