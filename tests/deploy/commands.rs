//! Each command of the documents is understood by the program, or is another program's and tried by a test that is named here.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use stanby::cli::command::Cli;
use stanby::config::arguments;

use crate::docs::{blocks, outside_of_blocks, pages};
use crate::program::read;

/// First words of lines of `sh` that are not stanby's: the file that tries the same, and what stands there. Commands of stanby
/// are run by `tests/node/document_commands.rs`.
const OTHERS: &[(&str, &str, &str)] = &[
    ("docker", "tests/deploy/compose.rs", "docker-compose"),
    ("kubectl", "tests/deploy/kubernetes.rs", "deploy/kubernetes"),
    ("helm", "tests/deploy/helm.rs", "deploy/helm/stanby"),
    ("psql", "tests/node/roles.rs", "deploy/sql/roles.sql"),
    ("pg_dump", "tests/node/backup.rs", "pg_dump"),
    ("apt", "tests/deploy/debian.rs", "dpkg"),
    ("systemctl", "tests/deploy/systemd.rs", "systemd-analyze"),
    ("curl", "tests/node/admin_api.rs", "/purge"),
    ("kill", "tests/node/document_commands.rs", "kill -9"),
    ("scripts/dev", "tests/dev/supervisor.rs", "\"dev\""),
    ("scripts/chaos", "tests/chaos/main.rs", "scripts/chaos"),
    (
        "scripts/simulate",
        "tests/simulation/main.rs",
        "scripts/simulate",
    ),
    ("scripts/soak", "tests/soak/run.rs", "scripts/soak"),
    (
        "scripts/package",
        "tests/deploy/package.rs",
        "scripts/package",
    ),
    ("sha256sum", "tests/deploy/package.rs", "SHA256SUMS"),
];

/// A person's.
const NOBODY: &[&str] = &["editor"];

/// A line with those that it continues on, without its comment.
fn lines(block: &str) -> Vec<String> {
    let block = block.replace("\\\n", " ");
    let lines = block
        .lines()
        .map(|line| line.split("  # ").next().unwrap().trim().to_owned());
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// Without the variables before a command; nothing where the line only sets one.
fn command(line: &str) -> Option<&str> {
    let mut code = line;
    loop {
        let name = code.split_once('=').map_or("", |(name, _)| name);
        let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            return Some(code.trim_start_matches("target/release/"));
        }
        let (value, rest) = code.split_once(' ')?;
        if value.contains('"') {
            return None;
        }
        code = rest;
    }
}

/// As a shell would, with quotes of both kinds; what comes behind a redirection or a pipe is not the program's.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut is_word) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => (quote, is_word) = (Some(c), true),
            (None, '|' | '>' | '<' | ';') => break,
            (None, ' ') => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                }
                is_word = false;
            }
            (Some(_) | None, _) => {
                word.push(c);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

/// Nothing, or what is wrong with the line, which begins with the program.
fn problem(line: &str, is_whole: bool) -> Option<String> {
    let mut words = words(line);
    // Stands for what a reader has.
    for word in &mut words {
        *word = word.replace('…', "x");
    }
    let program = Cli::command();
    let Some(serve) = program.find_subcommand("serve") else {
        return Some("the program does not serve".to_owned());
    };
    let args = words.into_iter().map(OsString::from);
    let arguments = match arguments::normalise(args, serve) {
        Ok(arguments) => arguments,
        Err(error) => return Some(error.to_string()),
    };
    let error = Cli::try_parse_from(&arguments.args).err()?;
    let is_incomplete = matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    (is_whole || !is_incomplete).then(|| error.to_string())
}

#[test]
fn each_command_of_the_documents_is_understood_or_another_programs() {
    let mut count = 0;
    let mut others = BTreeSet::new();
    for (path, text) in pages() {
        let shell = blocks(&text)
            .into_iter()
            .filter(|(language, _)| language == "sh");
        for line in shell.flat_map(|(_, block)| lines(&block)) {
            let Some(code) = command(&line) else {
                continue;
            };
            let first = code.split(' ').next().unwrap();
            if first == "stanby" || first == "nats-streaming-server" {
                let wrong = problem(code, true);
                assert_eq!(wrong, None, "{path}: {line}");
                count += 1;
            } else {
                let is_tried = OTHERS.iter().any(|(program, ..)| *program == first);
                assert!(
                    is_tried || NOBODY.contains(&first),
                    "{path}: {line}: no test runs {first}; add it with the file that does"
                );
                others.insert(first.to_owned());
            }
        }
        for line in outside_of_blocks(&text) {
            for code in line.split('`').skip(1).step_by(2) {
                // A cell of a table has its bars escaped.
                let code = code.replace("\\|", "|");
                let Some(rest) = code.strip_prefix("stanby ") else {
                    continue;
                };
                // `channel create|limits` names several.
                let first = rest.split(' ').next().unwrap();
                assert!(!first.is_empty(), "{path}: {code}");
                let wrong = problem(&code, false);
                assert_eq!(wrong, None, "{path}: {code}");
                count += 1;
            }
        }
    }
    assert!(count > 100, "{count} commands");
    for (program, file, text) in OTHERS {
        assert!(others.contains(*program), "no page names {program}");
        assert!(read(file).contains(text), "{file} does not try {program}");
    }
}
