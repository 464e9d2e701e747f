//! `stanby config check`, `show` and `convert`: what a configuration file says, before a server is started with it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::output;
use crate::config::file::{self, Part};
use crate::config::{Error, Notes, ServeFlags, Sources, effective, managed_nats};
use crate::node::doctor::{self, Files};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Find mistakes: read what serve would read, certificates and keys included, and connect to nothing
    #[command(args_override_self = true)]
    Check(Box<CheckArgs>),
    /// Print every setting and where it comes from; secrets are hidden
    #[command(args_override_self = true)]
    Show(Box<ShowArgs>),
    /// Print the part of a file for the nats-server that the server runs, passwords included
    NatsServer(ConvertArgs),
    /// Print a file of NATS Streaming as TOML, passwords included
    Convert(ConvertArgs),
}

#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The file, as with --config
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    serve: ServeFlags,
}

#[derive(Args, Debug)]
pub struct ShowArgs {
    /// The file, as with --config
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    serve: ServeFlags,
}

#[derive(Args, Debug)]
pub struct ConvertArgs {
    /// The file, in the format of NATS
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// `args` are the command line's after `check` or `show`, `notes` about its flags that mean something else here.
pub async fn run(
    command: &ConfigCommand,
    args: &[OsString],
    notes: &Notes,
) -> Result<ExitCode, Failure> {
    match command {
        ConfigCommand::Check(check) => {
            let sources = sources(args, check.file.as_ref())?;
            let Files { errors, warnings } = doctor::files(&sources.config).await;
            let of_values = sources.config.warnings();
            let of_sources = sources.warnings(notes);
            let all = of_sources.iter().chain(&of_values).chain(&warnings);
            all.for_each(|warning| output::note(&format!("warning: {warning}")));
            for unknown in &sources.unknown {
                output::note(&format!("error: {unknown}"));
            }
            if !errors.is_empty() {
                return Err(Error::new(errors.join("\n")).into());
            }
            if !sources.unknown.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
            output::line("the configuration is valid")?;
        }
        ConfigCommand::Show(show) => {
            let values = effective::values(&sources(args, show.file.as_ref())?)?;
            if show.json {
                output::json(&values)?;
            } else {
                output::line(&table(&values))?;
            }
        }
        ConfigCommand::NatsServer(print) => {
            let found = file::read(&print.file, Part::Both)?;
            output::line(&managed_nats::file_of(&found.nats))?;
        }
        ConfigCommand::Convert(convert) => {
            let found = file::read(&convert.file, Part::Both)?;
            output::line(file::render(&found).trim_end())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The positional file and `--json` are ours; the rest is what `serve` takes.
fn sources(args: &[OsString], file: Option<&PathBuf>) -> Result<Sources, Error> {
    let is_flag = |arg: &&OsString| {
        let text = arg.to_string_lossy();
        text.starts_with('-') && text != "--json"
    };
    let mut serve: Vec<OsString> = Vec::new();
    if let Some(file) = file {
        let mut arg = OsString::from("--config=");
        arg.push(file);
        serve.push(arg);
    }
    serve.extend(args.iter().filter(is_flag).cloned());
    Sources::read(&serve)
}

fn table(values: &[effective::Value]) -> String {
    let width = |of: fn(&effective::Value) -> usize| values.iter().map(of).max().unwrap_or(0);
    let (names, texts) = (
        width(|value| value.name.len()),
        width(|value| value.value.chars().count()),
    );
    let lines = values.iter().map(|value| {
        let effective::Value { name, value, from } = value;
        format!("{name:names$}  {value:texts$}  {from}")
    });
    lines.collect::<Vec<_>>().join("\n")
}
