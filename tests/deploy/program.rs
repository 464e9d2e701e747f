//! What the program knows, for the files to be held against.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _, Parser as _};
use stanby::cli::command::Cli;
use stanby::config::Config;

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails unless the program understands the command line, which begins with the program.
pub(crate) fn assert_parses(line: &[String]) {
    let program = Path::new(&line[0]).file_name().unwrap();
    assert_eq!(program, "stanby", "{line:?}");
    if let Err(error) = Cli::try_parse_from(line) {
        panic!("{line:?}: {error}");
    }
}

/// Fails unless `stanby serve` would start with these flags and these variables of the environment.
pub(crate) fn assert_serves(flags: &[String], environment: &BTreeMap<String, String>) -> Config {
    let serve = Cli::command().find_subcommand("serve").unwrap().clone();
    let mut builder = stanby::Server::builder();
    for (name, value) in environment {
        let arg = serve
            .get_arguments()
            .find(|arg| arg.get_env().is_some_and(|env| env == name.as_str()))
            .unwrap_or_else(|| panic!("{name} is no variable of stanby serve"));
        builder = builder.setting(arg.get_long().unwrap(), value);
    }
    let line = [
        vec!["stanby".to_owned(), "serve".to_owned()],
        flags.to_vec(),
    ]
    .concat();
    assert_parses(&line);
    builder.config().unwrap()
}

/// Long flags of all commands, variables and names of commands.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) flags: BTreeSet<String>,
    pub(crate) variables: BTreeSet<String>,
    pub(crate) commands: BTreeSet<String>,
}

impl Known {
    pub(crate) fn new() -> Self {
        let mut known = Self::default();
        let mut program = Cli::command();
        program.build();
        known.add(&program);
        known
    }

    fn add(&mut self, command: &Command) {
        self.commands.insert(command.get_name().to_owned());
        for arg in command.get_arguments() {
            self.flags.extend(arg.get_long().map(str::to_owned));
            let variable = arg.get_env().map(|name| name.to_str().unwrap().to_owned());
            self.variables.extend(variable);
        }
        for command in command.get_subcommands() {
            self.add(command);
        }
    }
}
