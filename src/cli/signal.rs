//! `stanby signal`, and with it `-signal` of nats-server: asks a server that runs on this machine to stop, to open
//! its log again or to read its configuration again.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::failure::Failure;

#[derive(Args, Debug)]
pub struct SignalArgs {
    /// stop (kill at once), quit or term (in order), reopen (the log file) or reload (the configuration); with =PID or
    /// =FILE, its PID file, where several servers run
    #[arg(value_name = "COMMAND[=PID]")]
    command: String,
}

pub fn run(args: &SignalArgs) -> Result<ExitCode, Failure> {
    let (name, pid) = match args.command.split_once('=') {
        Some((name, pid)) => (name, Some(pid)),
        None => (args.command.as_str(), None),
    };
    let signal = match name {
        "stop" => Signal::SIGKILL,
        "quit" => Signal::SIGINT,
        "term" => Signal::SIGTERM,
        "reopen" => Signal::SIGUSR1,
        "reload" => Signal::SIGHUP,
        _ => {
            return Err(Failure::Usage(anyhow!(
                "unknown signal {name:?}; use stop, quit, term, reopen or reload"
            )));
        }
    };
    let pid = match pid {
        Some(text) => pid_of(text).ok_or_else(|| {
            Failure::Usage(anyhow!(
                "{text:?} is neither the number of a process nor a file that holds one; write {name}=1234"
            ))
        })?,
        None => only_server(name)?,
    };
    kill(Pid::from_raw(pid), signal)
        .with_context(|| format!("process {pid} cannot be signalled"))?;
    Ok(ExitCode::SUCCESS)
}

/// A number, or a file that holds one.
fn pid_of(text: &str) -> Option<i32> {
    let number = text.parse().ok();
    let of_file = || std::fs::read_to_string(text).ok()?.trim().parse().ok();
    number.or_else(of_file).filter(|&pid| pid > 0)
}

fn only_server(signal: &str) -> Result<i32, Failure> {
    let servers =
        servers().context("the processes of this machine cannot be listed; name one with =PID")?;
    match servers.as_slice() {
        [only] => Ok(*only),
        [] => Err(Failure::Failed(anyhow!(
            "no stanby server runs on this machine"
        ))),
        several => {
            let pids: Vec<String> = several.iter().map(i32::to_string).collect();
            let pids = pids.join(", ");
            Err(Failure::Usage(anyhow!(
                "several stanby servers run: {pids}; say which: {signal}={}",
                several[0]
            )))
        }
    }
}

/// Processes of this program that serve.
fn servers() -> std::io::Result<Vec<i32>> {
    let mut servers = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // Gone meanwhile, or somebody else's.
        let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else {
            continue;
        };
        let words: Vec<String> = line
            .split(|&byte| byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        if serves(&words) && u32::try_from(pid) != Ok(std::process::id()) {
            servers.push(pid);
        }
    }
    Ok(servers)
}

fn serves(words: &[String]) -> bool {
    let program = words.first().map(Path::new).and_then(Path::file_name);
    let first = words.get(1).map_or("", String::as_str);
    let is_flag = first.starts_with('-');
    let is_signal = words.iter().any(|word| {
        let flag = word.trim_start_matches('-');
        word.starts_with('-') && ["sl", "signal"].contains(&flag.split('=').next().unwrap_or(flag))
    });
    match program.and_then(|program| program.to_str()) {
        Some("stanby") => (first == "serve" || is_flag) && !is_signal,
        Some("nats-streaming-server") => !is_signal,
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_is_named_by_its_number_or_by_the_file_that_holds_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "4321\n").unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(super::pid_of(path), Some(4321));
        assert_eq!(super::pid_of("1234"), Some(1234));
        for text in ["0", "-5", "x", "/nowhere.pid", ""] {
            assert_eq!(super::pid_of(text), None, "{text}");
        }
    }

    #[test]
    fn servers_are_told_by_their_command_line() {
        let serves = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            super::serves(&words)
        };
        for server in [
            "stanby serve --lease 2s",
            "/usr/bin/stanby -cid x",
            "nats-streaming-server",
            "nats-streaming-server -sc a.conf",
        ] {
            assert!(serves(server), "{server}");
        }
        for other in [
            "stanby pub a b",
            "stanby signal quit",
            "stanby -sl quit",
            "nats-streaming-server --signal=reload",
            "vi serve",
            "",
        ] {
            assert!(!serves(other), "{other}");
        }
    }
}
