//! `stanby console-user`: a line for the file that says who may log in to the console.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, read};
use ratatui::crossterm::terminal::{disable_raw_mode, enable_raw_mode};

use super::failure::Failure;
use super::output;
use crate::http::console::password::Hashed;
use crate::http::console::users;

const PASSWORD_BYTES_MIN: usize = 10;
const PASSWORD_BYTES_MAX: u64 = 1024;

#[derive(Args, Debug)]
pub struct ConsoleUserArgs {
    /// Name to log in with, which the audit shows
    name: String,

    /// What the user may do
    #[arg(long, value_enum, default_value_t, value_name = "ROLE")]
    role: Role,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Role {
    /// See everything but what stands in messages
    #[default]
    Reader,
    /// See what stands in messages, too
    PayloadReader,
    /// Change things, too
    Operator,
}

impl From<Role> for users::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Reader => Self::Reader,
            Role::PayloadReader => Self::Payloads,
            Role::Operator => Self::Operator,
        }
    }
}

/// The password comes from standard input: as an argument others would see it.
pub fn run(args: &ConsoleUserArgs) -> Result<ExitCode, Failure> {
    if !users::is_name(&args.name) {
        return Err(Failure::Usage(anyhow!(
            "{:?} cannot be a name: it has 1 to 64 letters, digits and .-_@",
            output::name_from_outside(&args.name)
        )));
    }
    let password = if io::stdin().is_terminal() {
        typed()?
    } else {
        piped()?
    };
    if password.len() < PASSWORD_BYTES_MIN {
        return Err(Failure::Usage(anyhow!(
            "the password has less than {PASSWORD_BYTES_MIN} characters; take a longer one"
        )));
    }
    let hashed = Hashed::new(&password);
    let hashed = hashed.context("the system gives no random numbers")?;
    let role = users::Role::from(args.role).name();
    output::line(&format!("{} {role} {hashed}", args.name))?;
    Ok(ExitCode::SUCCESS)
}

fn piped() -> Result<String, Failure> {
    let mut line = String::new();
    let stdin = io::stdin().lock();
    let read = stdin.take(PASSWORD_BYTES_MAX).read_line(&mut line);
    read.context("the password cannot be read from standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn typed() -> Result<String, Failure> {
    output::note("Password (it is not shown), then Enter:");
    enable_raw_mode().context("the terminal cannot hide what is typed")?;
    let typed = keys();
    disable_raw_mode().context("the terminal is left as it was for the password; run `reset`")?;
    typed
}

fn keys() -> Result<String, Failure> {
    let mut password = String::new();
    loop {
        let Event::Key(key) = read().context("the terminal is gone")? else {
            continue;
        };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if key.code == KeyCode::Enter {
            return Ok(password);
        } else if is_control && key.code == KeyCode::Char('c') || key.code == KeyCode::Esc {
            return Err(Failure::Usage(anyhow!("no password was given")));
        } else if key.code == KeyCode::Backspace {
            password.pop();
        } else if let KeyCode::Char(letter) = key.code
            && password.len() < 1024
        {
            password.push(letter);
        }
    }
}
