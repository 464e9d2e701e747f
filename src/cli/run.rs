//! From the command line to the exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::command::{Cli, Command};
use super::failure::Failure;
use super::{
    alerts, bench, channel, client, completions, config, console_user, demo, dev, dlq, doctor,
    durable, export, health, import, message, migrate, mirror, nats_permissions, output, publish,
    serve, show, signal, status, step_down, subscribe, top, version,
};
use crate::config::Error;
use crate::config::arguments::{self, Arguments};

/// The whole program.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(args) {
        Ok(code) => code,
        Err(failure) => {
            if let Some(message) = failure.message() {
                output::note(&format!("stanby: {message}"));
            }
            failure.code()
        }
    }
}

fn run(args: impl IntoIterator<Item = OsString>) -> Result<ExitCode, Failure> {
    let described = Cli::command();
    let serve = described
        .find_subcommand("serve")
        .expect("there is a command serve");
    let arguments = arguments::normalise(args, serve)?;
    let cli = match Cli::try_parse_from(&arguments.args) {
        Ok(cli) => cli,
        Err(error) => {
            return match mistakes(&arguments.args, &error) {
                Some(mistakes) => Err(Error::new(mistakes.join("\n")).into()),
                None => Ok(explain(&error)),
            };
        }
    };

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the threads of the process cannot be started")?;
    let result = runtime.block_on(dispatch(cli.command, &arguments));
    // Not waited for: a read from a terminal does not end.
    runtime.shutdown_background();
    result
}

async fn dispatch(command: Command, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Arguments { args, notes } = arguments;
    match command {
        // The program and the names of the commands stand before the flags.
        Command::Serve(_) => serve::run(&args[2..], notes).await,
        Command::Config(command) => config::run(&command, &args[3..], notes).await,
        Command::Pub(args) => publish::run(&args).await,
        Command::Sub(args) => subscribe::run(&args).await,
        Command::Status(args) => status::run(&args).await,
        Command::Top(args) => top::run(&args).await,
        Command::Channel(command) => channel::run(&command).await,
        Command::Message(command) => message::run(&command).await,
        Command::Durable(command) => durable::run(&command).await,
        Command::Dlq(command) => dlq::run(&command).await,
        Command::Client(command) => client::run(&command).await,
        Command::Explain(command) => show::takeover::explain(&command).await,
        Command::StepDown(args) => step_down::run(&args).await,
        Command::Bench(args) => bench::run(&args).await,
        Command::Doctor(doctor) => doctor::run(&doctor, &args[2..], notes).await,
        Command::Alerts(command) => alerts::run(&command).await,
        Command::Migrate(args) => migrate::run(&args).await,
        Command::Export(args) => export::run(&args).await,
        Command::Mirror(command) => mirror::run(&command).await,
        Command::Import(_) => import::run(&args[2..]).await,
        Command::NatsPermissions(args) => nats_permissions::run(&args),
        Command::Health(args) => health::run(&args).await,
        Command::Demo(args) => demo::run(&args).await,
        Command::Dev(args) => dev::run(args).await,
        Command::Signal(args) => signal::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => completions::man(&args),
        Command::ConsoleUser(args) => console_user::run(&args),
        Command::Version(args) => version::run(&args),
    }
}

/// All that is wrong with a start line, where that is more than one thing: each of its arguments holds its value, and is
/// judged by itself.
fn mistakes(args: &[OsString], first: &clap::Error) -> Option<Vec<String>> {
    let is_asked = |kind| matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let [program, command, rest @ ..] = args else {
        return None;
    };
    if command != "serve" || is_asked(first.kind()) {
        return None;
    }
    let mut mistakes = Vec::new();
    let mut after_unknown = false;
    for arg in rest {
        let is_value = after_unknown && !arg.as_encoded_bytes().starts_with(b"-");
        let alone = Cli::try_parse_from([program, command, arg]).err();
        let wrong = alone.filter(|error| !is_asked(error.kind()) && !is_value);
        after_unknown = wrong
            .as_ref()
            .is_some_and(|error| error.kind() == ErrorKind::UnknownArgument);
        if let Some(error) = wrong {
            let text = error.to_string();
            let mut lines = text.lines().map(str::trim);
            let mut mistake = lines.next().unwrap_or_default().to_owned();
            if let Some(tip) = lines.find_map(|line| line.strip_prefix("tip: ")) {
                mistake = format!("{mistake} ({tip})");
            }
            mistakes.push(mistake.trim_start_matches("error: ").to_owned());
        }
    }
    mistakes.dedup();
    (mistakes.len() > 1).then_some(mistakes)
}

/// Help and version are no errors, and go to standard output.
fn explain(error: &clap::Error) -> ExitCode {
    // Fails only when the reader has gone.
    error.print().ok();
    let asked = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    if asked {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    }
}
