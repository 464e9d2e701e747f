//! The pages of the reference that the program alone can tell: commands, settings, refusals, conditions.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};
use stanby::cli::command::Cli;
use stanby::config::spellings::ALIASES;

use crate::docs::source;
use crate::page::{cell, is_what_the_program_says};
use crate::program::read;

const HOW: &str = "cargo test --test deploy -- reference";

fn program() -> Command {
    let mut program = Cli::command();
    program.build();
    program
}

fn help(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let help = cell(&help);
    // Where a default is not clap's, the text says it.
    help.rsplit_once(" [default: ")
        .map_or(help.clone(), |(text, _)| text.to_owned())
}

fn default(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let told = help.rsplit_once("[default: ");
    let told = told.map(|(_, rest)| cell(rest.trim_end().trim_end_matches(']')));
    let values = arg.get_default_values().iter();
    let values: Vec<_> = values.map(|value| value.to_str().unwrap()).collect();
    let is_switch = !arg.get_action().takes_values();
    match told {
        Some(told) => told,
        None if is_switch || values.concat().is_empty() => String::new(),
        None => format!("`{}`", values.join(" ")),
    }
}

/// `--name VALUE`, or `NAME` where it has no flag.
fn spelling(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default().iter();
    let value = names
        .map(clap::builder::Str::as_str)
        .collect::<Vec<_>>()
        .join(" ");
    let Some(long) = arg.get_long() else {
        return format!("`{value}`");
    };
    let short = arg.get_short().map(|short| format!("`-{short}`, "));
    let is_optional = arg
        .get_num_args()
        .is_some_and(|range| range.min_values() == 0);
    let value = match arg.get_action().takes_values() && !value.is_empty() {
        true if is_optional => format!("[={value}]"),
        true => format!(" {value}"),
        false => String::new(),
    };
    format!("{}`--{long}{value}`", short.unwrap_or_default())
}

fn variable(arg: &Arg) -> String {
    let name = arg.get_env().and_then(|name| name.to_str());
    name.map(|name| format!("`{name}`")).unwrap_or_default()
}

fn shown(command: &Command) -> impl Iterator<Item = &Arg> {
    let args = command.get_arguments().filter(|arg| !arg.is_hide_set());
    args.filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
}

fn commands(command: &Command, level: usize, page: &mut String) {
    for command in command.get_subcommands() {
        if command.is_hide_set() || command.get_name() == "help" {
            continue;
        }
        let name = command.get_bin_name().unwrap().to_owned();
        let about = command.get_about().map(ToString::to_string);
        writeln!(page, "{} {name}\n", "#".repeat(level)).unwrap();
        writeln!(page, "{}.\n", cell(&about.unwrap())).unwrap();
        if command.has_subcommands() {
            commands(command, level + 1, page);
            continue;
        }
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").trim();
        writeln!(page, "```text\n{usage}\n```\n").unwrap();
        if name == "stanby serve" {
            page.push_str("[Configuration](configuration.md) lists its flags.\n\n");
            continue;
        }
        let args: Vec<&Arg> = shown(command).collect();
        let serves = args.iter().filter(|arg| arg.get_long() == Some("lease"));
        if serves.count() == 1 {
            page.push_str("It takes the flags of `stanby serve` ([Configuration](configuration.md)), and these:\n\n");
        }
        let serve = program().find_subcommand("serve").unwrap().clone();
        let like_serve = |arg: &Arg| {
            args.iter().any(|arg| arg.get_long() == Some("lease"))
                && serve.get_arguments().any(|of| of.get_id() == arg.get_id())
        };
        page.push_str("| argument | meaning | default | environment |\n|---|---|---|---|\n");
        for arg in args.iter().filter(|arg| !like_serve(arg)) {
            let (spelling, help) = (spelling(arg), help(arg));
            let (default, variable) = (default(arg), variable(arg));
            writeln!(page, "| {spelling} | {help} | {default} | {variable} |").unwrap();
        }
        page.push('\n');
        if let Some(more) = command.get_after_help() {
            writeln!(page, "{}\n", cell(&more.to_string())).unwrap();
        }
    }
}

fn configuration() -> String {
    let program = program();
    let serve = program.find_subcommand("serve").unwrap();
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    let mut order = Vec::new();
    for arg in shown(serve) {
        let heading = arg.get_help_heading().unwrap_or("Other");
        if !order.contains(&heading) {
            order.push(heading);
        }
        let flag = arg.get_long().unwrap();
        let former = ALIASES.iter().filter(|(_, ours)| *ours == flag);
        let former: Vec<String> = former.map(|(name, _)| format!("`-{name}`")).collect();
        let section = sections.entry(heading).or_default();
        let (spelling, help) = (spelling(arg), help(arg));
        let (default, variable) = (default(arg), variable(arg));
        let former = former.join(", ");
        writeln!(
            section,
            "| {spelling} | {help} | {default} | {variable} | {former} |"
        )
        .unwrap();
    }
    let mut page = "# Configuration\n\n\
        <!-- Written by `UPDATE=1 cargo test --test deploy -- reference`. -->\n\n\
        The flags of `stanby serve`. Each is a key of a TOML file, too, with `_` for `-`. A flag overrides the environment, the\n\
        environment overrides files, and files override defaults. [Configure](../configure.md) explains files, and what to\n\
        think about. The last column has the spelling of nats-streaming-server where it differs by more than `_` for `-`.\n\n"
        .to_owned();
    for heading in order {
        let rows = &sections[heading];
        writeln!(
            page,
            "## {heading}\n\n| flag | meaning | default | environment | former spelling |\n|---|---|---|---|---|\n{rows}"
        )
        .unwrap();
    }
    page
}

/// The text of each refusal, of the table that the server answers from, with what `core` says about its cause.
fn refusals() -> String {
    let causes = read("src/core/rejection.rs");
    let (mut cause, mut of_variant) = (String::new(), BTreeMap::new());
    let variants = causes.split("pub enum Rejection {").nth(1).unwrap();
    for line in variants.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            cause = if cause.is_empty() {
                text.to_owned()
            } else {
                format!("{cause} {text}")
            };
        } else if line.starts_with(char::is_uppercase) {
            let name = line.split(|c: char| !c.is_alphanumeric()).next().unwrap();
            of_variant.insert(name.to_owned(), std::mem::take(&mut cause));
        }
    }
    let texts = read("src/protocol/rejection.rs");
    let mut rows = String::new();
    for arm in texts.split("Rejection::").skip(1) {
        let name = arm.split(|c: char| !c.is_alphanumeric()).next().unwrap();
        let arm = arm.split_once("=>").unwrap().1;
        let text = arm.split_once('"').unwrap().1;
        let end = text
            .char_indices()
            .find(|&(at, c)| c == '"' && !text[..at].ends_with('\\'));
        let text = text[..end.unwrap().0]
            .replace("\\\"", "\"")
            .replace('\\', "");
        let cause = &of_variant[name];
        assert!(
            !cause.is_empty(),
            "src/core/rejection.rs says nothing about {name}"
        );
        writeln!(rows, "| `` {} `` | {} |", cell(&text), cell(cause)).unwrap();
    }
    assert!(rows.lines().count() >= of_variant.len(), "{rows}");
    rows
}

/// Of the one table that names, effects and sentences stand in.
fn conditions() -> String {
    let source = source("src");
    let table = source.split("\nconditions! {\n").nth(1).unwrap();
    let table = table.split("\n}\n").next().unwrap();
    let (mut meaning, mut rows) = (String::new(), String::new());
    for line in table.lines().map(str::trim) {
        if let Some(sentence) = line.strip_prefix("/// ") {
            meaning = format!("{meaning} {sentence}");
            continue;
        }
        let (_, rest) = line.split_once('"').unwrap();
        let (name, effect) = rest.split_once("\", ").unwrap();
        let ready = match effect {
            "NotReady;" => "503",
            "NotReadyUnlessServing;" => "503; of an active that serves 200",
            "Warns;" => "200",
            other => panic!("{name}: {other}"),
        };
        let meaning = std::mem::take(&mut meaning);
        writeln!(rows, "| `{name}` | {} | {ready} |", cell(&meaning)).unwrap();
    }
    assert!(rows.lines().count() > 10, "{rows}");
    rows
}

#[test]
fn the_reference_of_commands_is_what_the_program_says() {
    let mut page = "# Commands\n\n\
        <!-- Written by `UPDATE=1 cargo test --test deploy -- reference`. -->\n\n\
        `stanby COMMAND --help` prints the same. [Exit codes](../troubleshooting.md#exit-codes) are the same for all commands.\n\
        A first argument that begins with a dash means `serve`, with the flags of nats-streaming-server.\n\n"
        .to_owned();
    commands(&program(), 2, &mut page);
    is_what_the_program_says("docs/reference/cli.md", HOW, &page);
}

#[test]
fn the_reference_of_settings_is_what_the_program_says() {
    is_what_the_program_says("docs/reference/configuration.md", HOW, &configuration());
}

#[test]
fn the_reference_of_errors_is_what_the_program_says() {
    let (refusals, conditions) = (refusals(), conditions());
    let page = format!(
        "# Error texts\n\n\
        <!-- Written by `UPDATE=1 cargo test --test deploy -- reference`. -->\n\n\
        ## Refusals\n\n\
        What a client library reports when the server refuses a request. Most texts are those of nats-streaming-server,\n\
        because applications compare them.\n\n\
        | text | cause |\n|---|---|\n{refusals}\n\
        ## Conditions\n\n\
        What is wrong with a server right now. Each is raised with a sentence that names the cause and the remedy, on `/readyz`\n\
        and `/healthz`, in the log, as `stanby_condition{{kind}}`, in the table `conditions` and in `stanby status`.\n\
        [Troubleshoot](../troubleshooting.md) says what to do.\n\n\
        | kind | meaning | `/readyz` |\n|---|---|---|\n{conditions}\n\
        ## In SQL\n\n\
        [Publishing and acking in SQL](../sql.md#errors) lists the SQLSTATEs that functions and procedures raise.\n\n\
        ## Log lines and exit codes\n\n\
        [Troubleshoot](../troubleshooting.md#log-lines) lists both.\n"
    );
    is_what_the_program_says("docs/reference/errors.md", HOW, &page);
}
