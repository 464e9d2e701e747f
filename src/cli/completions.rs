//! `stanby completions` and `stanby man`: what a package installs for the shell and for man, made from the flags
//! themselves.

use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::shells;

use super::command::Cli;
use super::failure::Failure;
use super::output;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell that reads them
    shell: Shell,
}

#[derive(Args, Debug)]
pub struct ManArgs {
    /// The page of one command instead of the program's
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

pub fn run(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut command = Cli::command();
    let mut script = Vec::new();
    match args.shell {
        Shell::Bash => {
            clap_complete::generate(shells::Bash, &mut command, "stanby", &mut script);
        }
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, "stanby", &mut script),
        Shell::Fish => {
            clap_complete::generate(shells::Fish, &mut command, "stanby", &mut script);
        }
    }
    print(&script)
}

pub fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    let mut program = Cli::command();
    // Gives the subcommands the program's name.
    program.build();
    let command = match &args.command {
        None => program,
        Some(name) => {
            let found = program.find_subcommand(name).cloned();
            found.ok_or_else(|| {
                Failure::Usage(anyhow!(
                    "there is no command {name:?}; `stanby --help` lists them"
                ))
            })?
        }
    };
    let mut page = Vec::new();
    let source = concat!("stanby ", env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(command)
        .source(source)
        .render(&mut page)
        .context("the page cannot be written")?;
    print(&page)
}

fn print(text: &[u8]) -> Result<ExitCode, Failure> {
    output::line(String::from_utf8_lossy(text).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
