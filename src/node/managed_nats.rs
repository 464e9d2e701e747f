//! The nats-server that a server runs where nats-streaming-server had one inside: started before anything else, started
//! again when it ends by itself, and ended with the server, however that ends.

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr};
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::child_configuration;
use super::greeting::is_nats_server;
use super::new_node::NatsReloads;
use super::status_publisher::StatusPublisher;
use crate::config::managed_nats::ManagedNats as Settings;
use crate::core::attempts::Backoff;
use crate::dev::guardian::Guardian;
use crate::dev::nats::find;
use crate::monitoring::condition::Condition;
use crate::monitoring::status::NatsPages;

const START_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// A nats-server that does not end by itself is ended.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// Lines of its log that an error quotes.
const LINES_QUOTED: usize = 5;

/// What a server connects to.
#[derive(Debug)]
pub(super) struct ManagedNats {
    /// `nats://host:port`, without a login.
    pub(super) url: String,
    stop: CancellationToken,
    supervisor: Option<JoinHandle<()>>,
}

impl ManagedNats {
    /// Returns when the nats-server takes connections. Where one listens on its port already, that one is used.
    pub(super) async fn start(
        settings: &Settings,
        reloads: Option<NatsReloads>,
        status: &StatusPublisher,
        tasks: &TaskTracker,
    ) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let (program, port) = match look(settings).await? {
            Outlook::Runs { program, port } => (program, port),
            Outlook::Listens => {
                let port = settings.port();
                tracing::info!(
                    port,
                    "a NATS server listens there already: it is used, and none is started"
                );
                return Ok(Self {
                    url: format!("nats://127.0.0.1:{port}"),
                    stop,
                    supervisor: None,
                });
            }
        };
        status.nats_pages(NatsPages::NotYet);
        child_configuration::ensure_new_enough(&program).await?;
        child_configuration::ensure_tls_files(&settings.arguments)?;
        let folder = child_configuration::folder()?;
        let guardian = Guardian::start(Some(&folder))?;
        let file = folder.join("nats-server.conf");
        child_configuration::write(&file, &settings.file())?;
        let mut runner = Runner {
            program,
            folder,
            file,
            arguments: settings.arguments.clone(),
            settings: settings.clone(),
            reloads,
            guardian,
            status: status.clone(),
            tasks: tasks.clone(),
        };
        let running = runner.run().await?;
        tracing::info!(
            pid = running.pid,
            url = running.url,
            "nats-server runs, for clients that connect to this server's port"
        );
        let url = running.url.clone();
        // The next one has to listen where clients expect it.
        if port == 0
            && let Some((_, port)) = url.rsplit_once(':')
        {
            runner.arguments.push(format!("--port={port}"));
        }
        let supervisor = tasks.spawn(runner.supervise(running, stop.clone()));
        Ok(Self {
            url,
            stop,
            supervisor: Some(supervisor),
        })
    }

    /// Ends it, in order. To be called when nothing is left to send.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        if let Some(supervisor) = self.supervisor {
            supervisor.await.ok();
        }
    }
}

/// What a start would do.
pub(super) enum Outlook {
    Runs {
        program: PathBuf,
        /// 0: any free one.
        port: u16,
    },
    /// A NATS server has the port already.
    Listens,
}

/// Fails where a start would, without starting anything.
pub(super) async fn look(settings: &Settings) -> anyhow::Result<Outlook> {
    let port = settings.port();
    if is_nats_server(port).await? {
        return Ok(Outlook::Listens);
    }
    let program = find(settings.program.as_deref())?;
    Ok(Outlook::Runs { program, port })
}

struct Runner {
    program: PathBuf,
    folder: PathBuf,
    file: PathBuf,
    arguments: Vec<String>,
    /// Its last configuration.
    settings: Settings,
    reloads: Option<NatsReloads>,
    guardian: Guardian,
    status: StatusPublisher,
    tasks: TaskTracker,
}

/// Why nats-server did not get ready.
#[derive(Debug, thiserror::Error)]
enum NotReady {
    #[error("{0}")]
    Ended(std::process::ExitStatus),
    /// Whether it runs cannot be found out.
    #[error("{0}")]
    Unknown(#[source] std::io::Error),
}

struct Running {
    child: Child,
    pid: u32,
    url: String,
}

impl Runner {
    async fn run(&self) -> anyhow::Result<Running> {
        let mut command = Command::new(&self.program);
        command
            .arg("--config")
            .arg(&self.file)
            .args(&self.arguments)
            .arg("--ports_file_dir")
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal goes to this server alone, which ends things in order.
            .process_group(0);
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be run", self.program.display()))?;
        let pid = child.id().context("nats-server ended at once")?;
        self.guardian.watch(pid, Signal::SIGTERM);
        let last = Arc::new(Mutex::new(VecDeque::new()));
        let lines = child.stderr.take();
        let passing_on = lines.map(|lines| self.tasks.spawn(pass_on(lines, Arc::clone(&last))));
        match timeout(START_LIMIT, self.ready(&mut child, pid)).await {
            Ok(Ok(ports)) => {
                let url = ports
                    .url()
                    .context("nats-server names no port for clients")?;
                let pages = ports
                    .pages()
                    .context("nats-server names no port for its pages")?;
                self.status.nats_server_started(pages);
                Ok(Running { child, pid, url })
            }
            ended => {
                child.start_kill().ok();
                self.guardian.forget(pid);
                // Its last words are still on their way, and end with it.
                if let Some(passing_on) = passing_on {
                    timeout(STOP_LIMIT, passing_on).await.ok();
                }
                let lines = last.lock().unwrap_or_else(PoisonError::into_inner);
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                let how = match ended {
                    Ok(Err(why)) => format!("ended while it started ({why})"),
                    Ok(Ok(_)) | Err(_) => format!("was not ready within {START_LIMIT:?}"),
                };
                bail!("nats-server {how}: {}", lines.join(" | "));
            }
        }
    }

    async fn ready(&self, child: &mut Child, pid: u32) -> Result<Ports, NotReady> {
        let suffix = format!("_{pid}.ports");
        let mut tick = interval(POLL);
        loop {
            tick.tick().await;
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Err(NotReady::Ended(status)),
                Err(error) => return Err(NotReady::Unknown(error)),
            }
            let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
            let file = entries
                .map(|entry| entry.path())
                .find(|path| path.to_string_lossy().ends_with(&suffix));
            // Read while being written, it is not JSON yet.
            let ports = file
                .and_then(|file| fs::read(file).ok())
                .and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let Some(ports) = ports {
                return Ok(ports);
            }
        }
    }

    /// A configuration that the nats-server would not start with changes nothing.
    async fn reload(&mut self, requested: Option<Settings>, pid: u32) {
        let Some(requested) = requested else { return };
        let settings = match self.settings.reloaded(requested) {
            Ok(settings) => settings,
            Err(needs_start) => {
                tracing::warn!(
                    "the nats-server of this server is not reloaded: {needs_start} changed, which takes effect only when the \
                     server is started again"
                );
                return;
            }
        };
        if let Err(error) = self.replace_file(&settings).await {
            tracing::error!("the nats-server of this server is not reloaded: {error:#}");
            return;
        }
        self.settings = settings;
        // It says in the log what it takes, and what only a start can change.
        if let Ok(pid) = i32::try_from(pid) {
            kill(Pid::from_raw(pid), Signal::SIGHUP).ok();
        }
        tracing::info!("nats-server was asked to reload its configuration");
    }

    async fn replace_file(&self, settings: &Settings) -> anyhow::Result<()> {
        let file = self.folder.join("next.conf");
        fs::remove_file(&file).ok();
        child_configuration::write(&file, &settings.file())?;
        child_configuration::check(&self.program, &file, &self.arguments).await?;
        fs::rename(&file, &self.file)
            .with_context(|| format!("{} cannot be replaced", self.file.display()))
    }

    async fn supervise(mut self, mut running: Running, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let ended = tokio::select! {
                ended = running.child.wait() => ended,
                () = stop.cancelled() => return self.end(running).await,
                requested = next(&mut self.reloads) => {
                    self.reload(requested, running.pid).await;
                    continue;
                }
            };
            self.guardian.forget(running.pid);
            self.status.nats_pages(NatsPages::NotYet);
            let how = ended.map_or_else(
                |error| error.to_string(),
                |status: ExitStatus| status.to_string(),
            );
            self.status.nats_server_ended();
            self.status.raise(
                Condition::NatsServerDown,
                format!("the nats-server of this server ended ({how}) and is started again; its log lines say why"),
            );
            running = loop {
                tokio::select! {
                    () = sleep(backoff.next_pause()) => {}
                    () = stop.cancelled() => return,
                }
                match self.run().await {
                    Ok(running) => break running,
                    Err(error) => self.status.raise(
                        Condition::NatsServerDown,
                        format!("the nats-server of this server cannot be started: {error:#}"),
                    ),
                }
            };
            tracing::warn!(
                pid = running.pid,
                url = running.url,
                "nats-server runs again, after it had ended by itself"
            );
            self.status.clear(Condition::NatsServerDown);
        }
    }

    async fn end(self, mut running: Running) {
        if let Ok(pid) = i32::try_from(running.pid) {
            kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
        }
        if timeout(STOP_LIMIT, running.child.wait()).await.is_err() {
            tracing::warn!("nats-server did not end within {STOP_LIMIT:?} and is killed");
            running.child.kill().await.ok();
        }
        self.guardian.forget(running.pid);
    }
}

/// Never, when nobody reloads any more.
async fn next(reloads: &mut Option<NatsReloads>) -> Option<Settings> {
    let Some(receiver) = reloads else {
        return std::future::pending().await;
    };
    if receiver.changed().await.is_err() {
        return std::future::pending().await;
    }
    receiver.borrow_and_update().clone()
}

/// What nats-server writes once it listens.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
    #[serde(default)]
    monitoring: Vec<String>,
}

impl Ports {
    /// By the loopback where it listens there.
    fn url(&self) -> Option<String> {
        let loopback = |url: &&String| url.contains("//127.0.0.1:");
        let url = self.nats.iter().find(loopback).or(self.nats.first())?;
        Some(url.clone())
    }

    fn pages(&self) -> Option<SocketAddr> {
        self.monitoring.first()?.rsplit('/').next()?.parse().ok()
    }
}

/// Its log lines go into ours. `[pid] date time [INF] text` becomes `text` with its level.
async fn pass_on(lines: ChildStderr, last: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(lines).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let (level, text) = level_of(&line);
        match level {
            "INF" => tracing::info!(target: "nats_server", "{text}"),
            "WRN" => tracing::warn!(target: "nats_server", "{text}"),
            "DBG" | "TRC" => tracing::debug!(target: "nats_server", "{text}"),
            _ => tracing::error!(target: "nats_server", "{text}"),
        }
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == LINES_QUOTED {
            last.pop_front();
        }
        last.push_back(text.to_owned());
    }
}

fn level_of(line: &str) -> (&str, &str) {
    for level in ["INF", "WRN", "DBG", "TRC", "ERR", "FTL"] {
        let mark = format!("[{level}] ");
        if let Some(at) = line.find(&mark).filter(|at| *at < 64) {
            let from = at + 1;
            return (&line[from..from + 3], &line[at + mark.len()..]);
        }
    }
    ("ERR", line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_keep_their_level_and_lose_their_time() {
        let line = "[16420] 2026/11/28 17:05:51.682669 [INF] Server is ready";
        assert_eq!(level_of(line), ("INF", "Server is ready"));
        let line = "[7] [WRN] Plaintext passwords detected";
        assert_eq!(level_of(line), ("WRN", "Plaintext passwords detected"));
        let line = "nats-server: c.conf:1: unknown field";
        assert_eq!(level_of(line), ("ERR", line));
    }

    #[test]
    fn the_loopback_is_preferred() {
        let ports: Ports = serde_json::from_str(
            r#"{"nats":["nats://[::1]:4","nats://127.0.0.1:4"],"monitoring":["http://127.0.0.1:5"]}"#,
        )
        .unwrap();
        assert_eq!(ports.url().as_deref(), Some("nats://127.0.0.1:4"));
        assert_eq!(ports.pages(), Some("127.0.0.1:5".parse().unwrap()));
    }
}
