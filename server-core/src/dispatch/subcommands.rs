//! What all containers have in common: the answer without a subcommand, and HELP.

use super::context::Context;
use crate::command::error::{unknown_subcommand, wrong_arity};
use crate::command::grammar::{self, Arg};
use crate::command::{Args, Outcome};

/// What a container answers that was called without a subcommand: the arity says it is missing.
///
/// # Errors
/// Always.
pub fn container(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    if args.len() < 2 { Err(wrong_arity(cx.name())) } else { Err(unknown_subcommand(cx.name(), args.get(1))) }
}

/// HELP of a container, made from its subcommands' declarations.
pub fn help(cx: &mut Context<'_>, container: &str) {
    let mut lines =
        vec![format!("{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", container.to_ascii_uppercase())];
    let table = &cx.commands.table;
    if let Some(id) = table.find(container.as_bytes()) {
        for sub in table.subcommands(id).map(|sub| table.spec(sub)) {
            let args = grammar::parse(sub.args).unwrap_or_default();
            let usage: Vec<String> = args.iter().map(usage).collect();
            let mut line = sub.own_name().to_ascii_uppercase();
            if !usage.is_empty() {
                line.push(' ');
                line.push_str(&usage.join(" "));
            }
            lines.push(line);
            lines.push(format!("    {}", sub.summary));
        }
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    cx.out.lines(&lines);
}

/// An argument as a person writes it down.
fn usage(arg: &Arg) -> String {
    let own = match arg.kind.as_str() {
        "pure-token" => arg.token.clone().unwrap_or_default(),
        "oneof" => arg.children.iter().map(usage).collect::<Vec<_>>().join("|"),
        "block" => arg.children.iter().map(usage).collect::<Vec<_>>().join(" "),
        _ => format!("<{}>", arg.name),
    };
    let mut text = match (&arg.token, arg.kind.as_str()) {
        (Some(token), kind) if kind != "pure-token" => format!("{token} {own}"),
        _ => own,
    };
    if arg.multiple {
        text = format!("{text} [{text} ...]");
    }
    if arg.optional { format!("[{text}]") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_reads_like_a_manual() {
        let args = grammar::parse("key:key [EX seconds:integer] [cond(NX|XX)] value:string...").unwrap_or_default();
        let text: Vec<String> = args.iter().map(usage).collect();
        assert_eq!(text.join(" "), "<key> [EX <seconds>] [NX|XX] <value> [<value> ...]");
    }
}
