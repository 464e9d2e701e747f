//! One child process: its log, its end, how it is stopped. Knows nothing of what the child does.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::timeout;

use super::Error;
use super::directory::Directory;
use super::guardian::Guardian;
use super::orphan;

/// How a child is asked to end.
#[derive(Clone, Copy, Debug)]
pub struct StopSignals {
    pub first: Signal,
    /// For the one that did not listen.
    pub second: Signal,
}

#[derive(Debug)]
pub struct Process {
    name: String,
    child: tokio::process::Child,
    pid: u32,
    log: PathBuf,
    /// Where this child's part of the log begins.
    log_begin: u64,
    signals: StopSignals,
    guardian: Guardian,
}

impl Process {
    /// Starts `command` as the child of `directory` called `name`, in a process group of its own, with its
    /// output appended to its log.
    pub fn spawn(
        name: &str,
        mut command: Command,
        directory: &Directory,
        signals: StopSignals,
        guardian: &Guardian,
    ) -> Result<Self, Error> {
        let log = directory.logs().join(name).with_extension("log");
        let open = || File::options().create(true).append(true).open(&log);
        let output = open().map_err(Error::file("open", &log))?;
        let errors = open().map_err(Error::file("open", &log))?;
        let log_begin = output
            .metadata()
            .map_err(Error::file("look at", &log))?
            .len();
        let program = PathBuf::from(command.get_program());
        command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0);

        let child = tokio::process::Command::from(command)
            .spawn()
            .map_err(|source| Error::Run { program, source })?;
        let Some(pid) = child.id() else {
            return Err(Error::child(
                format!("{name} ended at once"),
                &log,
                log_begin,
            ));
        };
        let name = name.to_owned();
        let process = Self {
            name,
            child,
            pid,
            log,
            log_begin,
            signals,
            guardian: guardian.clone(),
        };
        guardian.watch(pid, signals.first);
        orphan::note(directory, &process.name, pid)?;
        Ok(process)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten()?;
        self.guardian.forget(self.pid);
        Some(status)
    }

    /// Waits until it ends. Dropping the future loses nothing.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        let status = self.child.wait().await.map_err(|source| Error::Run {
            program: PathBuf::from(&self.name),
            source,
        })?;
        self.guardian.forget(self.pid);
        Ok(status)
    }

    /// An error that quotes the log, for a child that did not do what it should.
    pub fn failure(&self, what: impl std::fmt::Display) -> Error {
        Error::child(format!("{} {what}", self.name), &self.log, self.log_begin)
    }

    pub fn signal(&self, signal: Signal) {
        let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) else {
            return;
        };
        if let Err(error) = kill(Pid::from_raw(pid), signal) {
            tracing::debug!(%error, name = self.name, "the child could not be signalled");
        }
    }

    /// Asks it to end; asks again more firmly after `patience`, and again with SIGKILL after as long.
    pub async fn stop(&mut self, patience: Duration) -> Result<(), Error> {
        let StopSignals { first, second } = self.signals;
        self.stop_by(&[first, second, Signal::SIGKILL], patience)
            .await
    }

    /// As `stop`, without asking politely first.
    pub async fn stop_firmly(&mut self, patience: Duration) -> Result<(), Error> {
        self.stop_by(&[self.signals.second, Signal::SIGKILL], patience)
            .await
    }

    async fn stop_by(&mut self, signals: &[Signal], patience: Duration) -> Result<(), Error> {
        for &signal in signals {
            if self.ended().is_some() {
                return Ok(());
            }
            self.signal(signal);
            if let Ok(ended) = timeout(patience, self.wait()).await {
                return ended.map(drop);
            }
        }
        Err(self.failure("does not end, not even with SIGKILL"))
    }
}

impl Drop for Process {
    // Nobody can wait here; the guardian does, should it not listen.
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(self.signals.second);
        }
    }
}

/// What a program prints, for programs that end by themselves.
pub(crate) async fn output(command: Command) -> Result<std::process::Output, Error> {
    let program = PathBuf::from(command.get_program());
    tokio::process::Command::from(command)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| Error::Run { program, source })
}

/// Finds a program in the directories of `PATH`.
pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| is_executable(file))
}

pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
