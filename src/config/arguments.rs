//! Turns the command line of `nats-streaming-server` into ours, so that existing unit files and manifests work.
//!
//! Go's `flag` rules hold for `serve`: one dash or two, `-x value` or `-x=value`, booleans only `-x` or `-x=false`,
//! the last one wins. Which flags there are and which of them are booleans is read from the clap command, so
//! only spellings that do not follow from ours are listed here. Values are clap's business.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::go_integer;
use super::notes::Notes;
use super::spellings::{ALIASES, IGNORED, INSTEAD_OF_RAFT, OF_NATS_SERVER, OF_RAFT};

#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// With the program's name first.
    pub args: Vec<OsString>,
    /// Flags that were understood and mean something else here, or nothing.
    pub notes: Notes,
}

/// First arguments that speak to the program and not to `serve`.
const ABOUT: &[&str] = &["-h", "-help", "--help", "-v", "-version", "-V", "--version"];

enum Meaning<'a> {
    /// One of our flags, by its long name.
    Flag(&'a clap::Arg),
    DebugAndTrace,
    Help,
    Version,
    /// Only looks at the configuration.
    Check,
    /// Only signals a server that runs.
    Signal,
    Ignored {
        takes_value: bool,
    },
    /// For the nats-server that this server runs.
    OfNatsServer {
        takes_value: bool,
    },
    OfRaft {
        takes_value: bool,
    },
    Unknown,
}

/// Prepares a command line for clap. `serve` is clap's command of that name; other commands pass unchanged.
pub fn normalise(
    args: impl IntoIterator<Item = OsString>,
    serve: &clap::Command,
) -> Result<Arguments, Error> {
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_else(|| "stanby".into());
    let mut rest = args.peekable();
    let is_former =
        |path: &OsStr| Path::new(path).file_stem() == Some(OsStr::new("nats-streaming-server"));
    let mut stands_in = is_former(&program);
    // As an image passes it that has this program for its entry point.
    if rest.peek().is_some_and(|first| is_former(first)) {
        stands_in = true;
        rest.next();
    }
    let first = rest
        .peek()
        .and_then(|first| first.to_str())
        .unwrap_or_default();
    if matches!(first, "-v" | "-version" | "--version") || stands_in && first == "version" {
        return Ok(plain(program, ["--version".into()]));
    }
    if stands_in && first == "help" {
        return Ok(plain(program, ["serve".into(), "--help".into()]));
    }
    let about = ABOUT.contains(&first) && !stands_in;
    let mut command = vec![OsString::from("serve")];
    if first == "serve" {
        rest.next();
    } else if first == "doctor" {
        command = vec![rest.next().unwrap_or_default()];
    } else if first == "config" {
        let config = rest.next();
        match rest.peek().and_then(|second| second.to_str()) {
            Some("check" | "show") => command = config.into_iter().chain(rest.next()).collect(),
            Some(_) | None => return Ok(plain(program, config.into_iter().chain(rest))),
        }
    } else if about && first == "-help" {
        return Ok(plain(program, ["--help".into()]));
    } else if about || !(stands_in || first.starts_with('-')) {
        return Ok(plain(program, rest));
    }

    let mut normal = Normaliser {
        serve,
        // `config check FILE -cid x`: there, an argument that is no flag does not end them.
        takes_files: command.len() > 1,
        args: Vec::new(),
        notes: Notes::default(),
        raft: Vec::new(),
        is_clustered: false,
        shows_version: false,
        checks: false,
        signal: None,
    };
    normal.walk(rest)?;
    if normal.shows_version {
        return Ok(plain(program, ["--version".into()]));
    }
    normal.note_raft();
    if let Some(signal) = normal.signal {
        if command == ["serve"] {
            return Ok(plain(program, ["signal".into(), signal]));
        }
        // Commands that look at a start line send none.
        normal.notes.no_effect("-signal");
    }
    if normal.checks {
        command = vec!["config".into(), "check".into()];
    }
    let program = std::iter::once(program);
    Ok(Arguments {
        args: program.chain(command).chain(normal.args).collect(),
        notes: normal.notes,
    })
}

fn plain(program: OsString, rest: impl IntoIterator<Item = OsString>) -> Arguments {
    Arguments {
        args: std::iter::once(program).chain(rest).collect(),
        notes: Notes::default(),
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the line")]
struct Normaliser<'a> {
    serve: &'a clap::Command,
    takes_files: bool,
    args: Vec<OsString>,
    notes: Notes,
    /// Flags of Raft mode, as they were written.
    raft: Vec<String>,
    is_clustered: bool,
    /// Goes before everything else, as there.
    shows_version: bool,
    checks: bool,
    signal: Option<OsString>,
}

impl Normaliser<'_> {
    fn walk(&mut self, mut rest: impl Iterator<Item = OsString>) -> Result<(), Error> {
        while let Some(arg) = rest.next() {
            let body = arg.to_str().and_then(flag_body).map(str::to_owned);
            let Some(body) = body else {
                if self.takes_files {
                    self.args.push(arg);
                    continue;
                }
                // As in Go, flags end here; clap says that nothing else is expected.
                self.args.push(arg);
                self.args.extend(rest);
                return Ok(());
            };
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(OsString::from(value))),
                None => (body.as_str(), None),
            };
            self.flag(name, value, &mut rest)?;
        }
        Ok(())
    }

    fn flag(
        &mut self,
        name: &str,
        value: Option<OsString>,
        rest: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), Error> {
        match meaning(name, self.serve) {
            Meaning::Flag(flag) => self.push(name, flag, value.or_else(|| next_for(flag, rest)))?,
            Meaning::DebugAndTrace => {
                let on = boolean(name, value)?;
                self.args.push(format!("--debug={on}").into());
                self.args.push(format!("--trace={on}").into());
            }
            Meaning::Help => self.args.push("--help".into()),
            Meaning::Version => self.shows_version = boolean(name, value)?,
            Meaning::Check => self.checks = boolean(name, value)?,
            Meaning::Signal => self.signal = Some(needed(name, value, rest)?),
            Meaning::Ignored { takes_value } => {
                if takes_value && value.is_none() {
                    rest.next();
                }
                self.notes.no_effect(format!("-{name}"));
            }
            Meaning::OfNatsServer { takes_value } => {
                let mut arg = OsString::from(format!("--nats-server-arg=--{name}"));
                let value = if takes_value {
                    Some(needed(name, value, rest)?)
                } else {
                    value
                };
                if let Some(value) = value {
                    arg.push("=");
                    arg.push(value);
                }
                self.args.push(arg);
            }
            Meaning::OfRaft { takes_value } => {
                if name == "clustered" {
                    self.is_clustered = boolean(name, value)?;
                } else if takes_value && value.is_none() {
                    rest.next();
                }
                self.raft.push(format!("-{name}"));
            }
            Meaning::Unknown => {
                let long = name.replace('_', "-");
                self.args.push(joined(&long, value));
            }
        }
        Ok(())
    }

    /// Without -clustered the others had no effect there either.
    fn note_raft(&mut self) {
        for flag in std::mem::take(&mut self.raft) {
            if self.is_clustered {
                self.notes.replaced(flag, INSTEAD_OF_RAFT);
            } else {
                self.notes.no_effect(flag);
            }
        }
    }

    fn push(&mut self, name: &str, flag: &clap::Arg, value: Option<OsString>) -> Result<(), Error> {
        let long = flag.get_long().unwrap_or(name);
        if is_switch(flag) {
            let on = boolean(name, value)?;
            self.args.push(format!("--{long}={on}").into());
            return Ok(());
        }
        let takes = flag.get_value_parser().type_id();
        match value {
            Some(value) if value.is_empty() && takes == TypeId::of::<PathBuf>() => {
                // There, an empty one names no file.
                if !is_of_former(name) {
                    return Err(Error::new(format!(
                        "--{name} is empty: name a file after it, or leave it out"
                    )));
                }
            }
            Some(value) if INTEGERS.iter().any(|integer| takes == integer()) => {
                let number = value.to_str().and_then(go_integer::decimal);
                let number = number.map_or(value, OsString::from);
                self.args.push(joined(long, Some(number)));
            }
            value => self.args.push(joined(long, value)),
        }
        Ok(())
    }
}

/// The types of flags that are whole numbers.
const INTEGERS: &[fn() -> TypeId] = &[TypeId::of::<i64>, TypeId::of::<u32>, TypeId::of::<i32>];

/// The flag without its dashes, if it is one.
fn flag_body(arg: &str) -> Option<&str> {
    let body = arg.strip_prefix('-')?;
    let body = body.strip_prefix('-').unwrap_or(body);
    (!body.is_empty() && !body.starts_with(['-', '='])).then_some(body)
}

fn meaning<'a>(name: &str, serve: &'a clap::Command) -> Meaning<'a> {
    let alias = ALIASES
        .iter()
        .find(|(theirs, _)| *theirs == name)
        .map(|(_, ours)| *ours);
    let long = alias.map_or_else(|| name.replace('_', "-"), str::to_owned);
    if let Some(flag) = serve
        .get_arguments()
        .find(|flag| flag.get_long() == Some(&long))
    {
        return Meaning::Flag(flag);
    }
    match name {
        "h" | "help" | "help_tls" => return Meaning::Help,
        "v" | "version" => return Meaning::Version,
        "SDV" => return Meaning::DebugAndTrace,
        "t" => return Meaning::Check,
        "sl" | "signal" => return Meaning::Signal,
        _ => {}
    }
    if let Some((_, takes_value)) = IGNORED.iter().find(|(theirs, _)| *theirs == name) {
        return Meaning::Ignored {
            takes_value: *takes_value,
        };
    }
    let find =
        |flags: &[(&'static str, bool)]| flags.iter().find(|(theirs, _)| *theirs == name).copied();
    if let Some((_, takes_value)) = find(OF_NATS_SERVER) {
        return Meaning::OfNatsServer { takes_value };
    }
    match find(OF_RAFT) {
        Some((_, takes_value)) => Meaning::OfRaft { takes_value },
        None => Meaning::Unknown,
    }
}

/// Whether nats-streaming-server has a flag of this name that names a file.
fn is_of_former(name: &str) -> bool {
    ALIASES.iter().any(|(theirs, _)| *theirs == name)
        || ["config", "stan_config", "log", "pid"].contains(&name)
}

/// A flag that may stand without a value never takes the next argument.
fn is_switch(flag: &clap::Arg) -> bool {
    !flag.get_action().takes_values()
        || flag
            .get_num_args()
            .is_some_and(|range| range.min_values() == 0)
}

fn next_for(flag: &clap::Arg, rest: &mut impl Iterator<Item = OsString>) -> Option<OsString> {
    if is_switch(flag) { None } else { rest.next() }
}

/// Joined, so that a value that begins with a dash stays a value.
fn joined(long: &str, value: Option<OsString>) -> OsString {
    let mut arg = OsString::from(format!("--{long}"));
    if let Some(value) = value {
        arg.push("=");
        arg.push(value);
    }
    arg
}

fn needed(
    name: &str,
    value: Option<OsString>,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<OsString, Error> {
    let value = value.or_else(|| rest.next());
    value.ok_or_else(|| Error::new(format!("-{name} needs a value after it")))
}

fn boolean(name: &str, value: Option<OsString>) -> Result<bool, Error> {
    let Some(value) = value else { return Ok(true) };
    match value.to_str() {
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
        Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
        _ => Err(Error::new(format!(
            "-{name} is on or off; write -{name} or -{name}=false"
        ))),
    }
}

#[cfg(test)]
mod tests;
