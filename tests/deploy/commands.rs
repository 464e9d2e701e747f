//! Each command of the documents is understood by the program, or is another program's with a reason why no test here
//! gives it to that.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use stanby::cli::command::Cli;
use stanby::config::arguments;

use crate::docs::{blocks, outside_of_blocks, pages};

/// First words of lines of `sh`, and what makes sure of them.
const OTHERS: &[(&str, &str)] = &[
    (
        "docker",
        "the compose file and the image are held against the program by tests/deploy/{compose,image}.rs",
    ),
    (
        "kubectl",
        "the manifests are held against Kubernetes' schemas by tests/deploy/kubernetes.rs",
    ),
    (
        "helm",
        "the chart is rendered and judged by tests/deploy/helm.rs",
    ),
    ("psql", "tests/node/roles.rs runs the script"),
    ("pg_dump", "tests/node/backup.rs dumps and restores"),
    (
        "apt",
        "installs the package that tests/deploy/debian.rs looks at",
    ),
    ("editor", "a person's"),
    (
        "systemctl",
        "the unit is judged by systemd-analyze in tests/deploy/systemd.rs",
    ),
    (
        "curl",
        "the same request is made by tests/node/admin_api.rs",
    ),
    ("kill", "tests/node kills servers all the time"),
    ("scripts/dev", "tests/dev runs what it starts"),
    ("scripts/test", "runs this test"),
    (
        "scripts/docs",
        "builds the site of these pages, where mdBook is installed",
    ),
    ("scripts/chaos", "its runs with fixed seeds are tests/chaos"),
    (
        "scripts/simulate",
        "its runs with fixed seeds are tests/simulation",
    ),
    (
        "scripts/figures",
        "measures; FIGURES_QUICK=1 tries whether it works",
    ),
    ("scripts/package", "tests/deploy/package.rs runs it"),
    ("sha256sum", "tests/deploy/package.rs checks the sums"),
    (
        "scripts/soak",
        "a short run of the same is tests/soak/run.rs",
    ),
    ("git", "a developer's"),
    ("cargo", "a developer's"),
    ("python3", "serves the built site"),
];

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
fn trouble(line: &str, is_whole: bool) -> Option<String> {
    let mut words = words(line);
    // Stands for what a reader has.
    for word in &mut words {
        *word = word.replace('…', "x");
    }
    let program = Cli::command();
    let serve = program.find_subcommand("serve").unwrap();
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
                let wrong = trouble(code, true);
                assert_eq!(wrong, None, "{path}: {line}");
                count += 1;
            } else {
                let is_known = OTHERS.iter().any(|(program, _)| *program == first);
                assert!(
                    is_known,
                    "{path}: {line}: no test runs {first}; add it with what makes sure of it"
                );
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
                let wrong = trouble(&code, false);
                assert_eq!(wrong, None, "{path}: {code}");
                count += 1;
            }
        }
    }
    assert!(count > 100, "{count} commands");
}
