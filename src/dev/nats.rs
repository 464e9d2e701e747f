//! A nats-server of our own, on a loopback port.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;
use tokio::time::{interval, timeout};

use super::Error;
use super::directory::Directory;
use super::guardian::Guardian;
use super::process::{Process, StopSignals, in_path, is_executable};

/// Where Debian's package puts it, which is not in everybody's `PATH`.
const DEBIAN_PROGRAM: &str = "/usr/sbin/nats-server";

const START_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

const STOP: StopSignals = StopSignals {
    first: Signal::SIGINT,
    // It keeps nothing that an orderly end would save.
    second: Signal::SIGKILL,
};

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The program; found by itself when not given.
    pub program: Option<PathBuf>,
    /// The port, or any free one.
    pub port: Option<u16>,
    /// More arguments for nats-server.
    pub arguments: Vec<String>,
}

#[derive(Debug)]
pub struct NatsServer {
    process: Process,
    port: u16,
}

impl NatsServer {
    /// Starts nats-server and waits until it takes connections.
    pub async fn start(
        directory: &Directory,
        options: &Options,
        guardian: &Guardian,
    ) -> Result<Self, Error> {
        let program = find(options.program.as_deref())?;
        if let Some(port) = options.port {
            ensure_free(port)?;
        }
        let run = directory.run();
        let mut command = Command::new(program);
        command
            .args(["--addr", "127.0.0.1", "--port"])
            .arg(
                options
                    .port
                    .map_or_else(|| String::from("-1"), |port| port.to_string()),
            )
            .arg("--ports_file_dir")
            .arg(&run)
            .args(&options.arguments);

        let mut process = Process::spawn("nats-server", command, directory, STOP, guardian)?;
        match timeout(START_LIMIT, ready(&mut process, &run)).await {
            Ok(port) => Ok(Self {
                port: port?,
                process,
            }),
            Err(_elapsed) => Err(process.failure("was not ready in time")),
        }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn log(&self) -> &Path {
        self.process.log()
    }

    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.process.wait().await
    }

    /// Its process number and how it ended, if it has.
    pub fn ended(&mut self) -> Option<(u32, ExitStatus)> {
        self.process
            .ended()
            .map(|status| (self.process.pid(), status))
    }

    pub async fn stop(&mut self, patience: Duration) -> Result<(), Error> {
        self.process.stop(patience).await
    }

    /// Passes a signal on, for tests that freeze or crash it.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }
}

/// The program: the one named, or the one that is installed.
pub(crate) fn find(explicit: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(program) = explicit {
        if is_executable(program) {
            return Ok(program.to_path_buf());
        }
        return Err(Error::Missing(format!(
            "{} is not a program: --nats-server-bin (STANBY_NATS_SERVER_BIN) must name nats-server itself",
            program.display()
        )));
    }
    in_path("nats-server")
        .or_else(|| Some(PathBuf::from(DEBIAN_PROGRAM)).filter(|program| is_executable(program)))
        .ok_or_else(|| {
            Error::Missing(format!(
                "nats-server is not installed (not in PATH, no {DEBIAN_PROGRAM}): install it (Debian: apt-get \
                 install nats-server), or name it with --nats-server-bin or STANBY_NATS_SERVER_BIN"
            ))
        })
}

/// Turns a taken port into a sentence; nats-server itself would only fill its log.
fn ensure_free(port: u16) -> Result<(), Error> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(Error::Refused(format!(
            "port {port} is taken, and nats-server needs it: stop what listens there, or choose another with --port"
        ))),
        Err(error) => Err(Error::Refused(format!(
            "nats-server cannot listen on port {port} ({error}): choose another with --port"
        ))),
    }
}

/// What nats-server writes once it listens: the only way to learn a port it chose.
#[derive(Deserialize)]
struct PortsFile {
    nats: Vec<String>,
}

async fn ready(process: &mut Process, run: &Path) -> Result<u16, Error> {
    let suffix = format!("_{}.ports", process.pid());
    let mut tick = interval(POLL);
    loop {
        tick.tick().await;
        if process.ended().is_some() {
            return Err(process.failure("ended while starting"));
        }
        let entries = fs::read_dir(run).map_err(Error::file("read", run))?;
        let file = entries
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().ends_with(&suffix));
        // Read while being written, it is not JSON yet.
        let port = file
            .and_then(|file| fs::read(file).ok())
            .and_then(|bytes| serde_json::from_slice::<PortsFile>(&bytes).ok())
            .and_then(|ports| ports.nats.first()?.rsplit_once(':')?.1.parse().ok());
        if let Some(port) = port {
            return Ok(port);
        }
    }
}
