//! Who takes part. All run all the time; only one has work.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use stanby::dev::directory::Directory;
use stanby::dev::guardian::Guardian;
use stanby::dev::process::{Process, StopSignals};
use stanby::dev::{nats, postgres};
use tokio::process::Command;
use tokio::time::{interval, timeout};

use crate::jetstream;
use crate::loads::{Load, MAX_IN_FLIGHT};
use crate::options::Options;
use crate::own_postgres;

const READY_LIMIT: Duration = Duration::from_secs(30);
const RUN_LIMIT: Duration = Duration::from_mins(5);

const THIS: &str = env!("CARGO_BIN_EXE_stanby");
/// No limit is to drop or refuse anything.
const STANBY_LIMITS: &[&str] = &["--max-channels=0", "--max-msgs=0", "--max-bytes=0"];
const GO_LIMITS: &[&str] = &["--max_channels=0", "--max_msgs=0", "--max_bytes=0"];

const STOP: StopSignals = StopSignals {
    first: Signal::SIGTERM,
    second: Signal::SIGKILL,
};

pub(crate) struct Ground {
    postgres: postgres::Postgres,
    // Dropped after the servers: the guardian waits for them, and removes the directory.
    guardian: Guardian,
    directory: Directory,
}

pub(crate) struct Contestant {
    pub(crate) name: String,
    /// The caller has named its program.
    pub(crate) is_named: bool,
    protocol: Protocol,
    nats_url: String,
    /// Whose CPU time counts, by what they are called.
    pub(crate) processes: Vec<(String, u32)>,
    // They end with it.
    _servers: Vec<Process>,
    _nats: Option<nats::NatsServer>,
}

#[derive(Clone, PartialEq, Eq)]
enum Protocol {
    Stan { cluster_id: String },
    JetStream,
}

impl Ground {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let directory = Directory::temporary("stanby-compare")?;
        let guardian = Guardian::start(Some(directory.root()))?;
        let options = postgres::Options::default();
        Ok(Self {
            postgres: postgres::Postgres::start(&directory, &options, &guardian).await?,
            guardian,
            directory,
        })
    }

    /// Refuses a Postgres that does not sync each commit to disk: its figures would mean nothing.
    pub(crate) async fn settings(&self) -> anyhow::Result<String> {
        own_postgres::settings(&self.postgres, &["shared_buffers", "max_wal_size"]).await
    }

    /// In the order in which they have their turns.
    pub(crate) async fn contestants(&self, options: &Options) -> anyhow::Result<Vec<Contestant>> {
        let mut contestants = Vec::new();
        for program in &options.programs {
            let named = contestants.len();
            if is_go(program).await? {
                contestants.push(self.go(program, "memory").await?);
                contestants.push(self.go(program, "file").await?);
            } else {
                let name = format!("{} {named}", file_name(program));
                contestants.push(self.stanby(program, &name, 2).await?);
            }
        }
        if options.has("jetstream") {
            contestants.push(self.jetstream().await?);
        }
        let this = Path::new(THIS);
        if options.has("alone") {
            contestants.push(self.stanby(this, "this stanby, alone", 1).await?);
        }
        contestants.push(self.stanby(this, crate::table::THIS, 2).await?);
        Ok(contestants)
    }

    async fn nats(&self, arguments: &[String]) -> anyhow::Result<nats::NatsServer> {
        let options = nats::Options {
            arguments: arguments.to_vec(),
            ..nats::Options::default()
        };
        Ok(nats::NatsServer::start(&self.directory, &options, &self.guardian).await?)
    }

    async fn stanby(
        &self,
        program: &Path,
        name: &str,
        servers: usize,
    ) -> anyhow::Result<Contestant> {
        let cluster_id = word(name);
        let nats = self.nats(&[]).await?;
        let database_url = own_postgres::database(&self.postgres, &cluster_id).await?;
        let (mut processes, mut running) = (Vec::new(), Vec::new());
        for role in ["active", "standby"].into_iter().take(servers) {
            let http_port = free_port()?;
            let mut command = command(program);
            command
                .arg("serve")
                .args(["--database-url", &database_url])
                .args(["--nats-server", &nats.url()])
                .args(["--cluster-id", &cluster_id])
                .args(["--http-host", "127.0.0.1"])
                .args(["--http-port", &http_port.to_string()])
                .args(STANBY_LIMITS);
            let mut server = self.spawn(&format!("{cluster_id}-{role}"), command)?;
            // The first is the active before the second starts.
            wait(&mut server, async || answers(http_port).await).await?;
            if role == "active" {
                wait(&mut server, async || serves(&nats.url(), &cluster_id).await).await?;
            }
            processes.push((role.to_owned(), server.pid()));
            running.push(server);
        }
        let more = [
            ("nats-server", nats.pid()),
            ("Postgres", self.postgres.pid()),
        ];
        processes.extend(more.map(|(name, pid)| (name.to_owned(), pid)));
        Ok(Contestant {
            name: name.to_owned(),
            is_named: program != Path::new(THIS),
            protocol: Protocol::Stan { cluster_id },
            nats_url: nats.url(),
            processes,
            _servers: running,
            _nats: Some(nats),
        })
    }

    /// With the NATS server that is part of it, as it comes.
    async fn go(&self, program: &Path, store: &str) -> anyhow::Result<Contestant> {
        let name = format!("{}, {store} store", file_name(program));
        let cluster_id = word(&name);
        let port = free_port()?;
        let mut command = command(program);
        command
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .args(["-cid", &cluster_id, "-store", store])
            .args(GO_LIMITS);
        if store == "file" {
            let directory = self.directory.root().join(&cluster_id);
            command.arg("-dir").arg(directory);
        }
        let mut server = self.spawn(&cluster_id, command)?;
        let nats_url = format!("nats://127.0.0.1:{port}");
        wait(&mut server, async || serves(&nats_url, &cluster_id).await).await?;
        Ok(Contestant {
            name,
            is_named: true,
            protocol: Protocol::Stan { cluster_id },
            nats_url,
            processes: vec![("server".to_owned(), server.pid())],
            _servers: vec![server],
            _nats: None,
        })
    }

    async fn jetstream(&self) -> anyhow::Result<Contestant> {
        let directory = self.directory.root().join("jetstream");
        let arguments = [
            "-js".to_owned(),
            "-sd".to_owned(),
            directory.display().to_string(),
        ];
        let nats = self.nats(&arguments).await?;
        Ok(Contestant {
            name: "JetStream (file, R1)".to_owned(),
            is_named: false,
            protocol: Protocol::JetStream,
            nats_url: nats.url(),
            processes: vec![("nats-server".to_owned(), nats.pid())],
            _servers: Vec::new(),
            _nats: Some(nats),
        })
    }

    fn spawn(&self, name: &str, command: std::process::Command) -> anyhow::Result<Process> {
        Ok(Process::spawn(
            name,
            command,
            &self.directory,
            STOP,
            &self.guardian,
        )?)
    }

    /// What its servers logged last.
    pub(crate) fn logs(&self, contestant: &Contestant) -> String {
        let Protocol::Stan { cluster_id } = &contestant.protocol else {
            return String::new();
        };
        let mut logs = String::new();
        for name in ["", "-active", "-standby"] {
            let path = self
                .directory
                .logs()
                .join(format!("{cluster_id}{name}.log"));
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(20).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            logs.extend(["\n", &lines.join("\n")]);
        }
        logs
    }
}

impl Contestant {
    /// One run, as `stanby bench --json` prints it.
    pub(crate) async fn run(&self, load: &Load, count: u64) -> anyhow::Result<Value> {
        match &self.protocol {
            Protocol::Stan { cluster_id } => {
                let mut flags = vec![
                    format!("--publishers={}", load.publishers),
                    format!("--subscribers={}", load.subscribers),
                    format!("--size={}", load.size),
                    format!("--window={}", load.window),
                    format!("--max-in-flight={MAX_IN_FLIGHT}"),
                    format!("--count={count}"),
                    format!("--warm-up={}", count / 10),
                ];
                flags.extend(self.processes.iter().map(|(_, pid)| format!("--pid={pid}")));
                bench(&self.nats_url, cluster_id, &flags).await
            }
            Protocol::JetStream => {
                let pid = self.processes.first().map_or(0, |&(_, pid)| pid);
                let run = jetstream::run(&self.nats_url, pid, load, count);
                timeout(RUN_LIMIT, Box::pin(run)).await.context("no end")?
            }
        }
    }
}

/// Whether a publish is acked.
async fn serves(nats_url: &str, cluster_id: &str) -> bool {
    let flags = ["--count=1".to_owned(), "--timeout=2s".to_owned()];
    bench(nats_url, cluster_id, &flags).await.is_ok()
}

async fn bench(nats_url: &str, cluster_id: &str, flags: &[String]) -> anyhow::Result<Value> {
    let mut command = Command::from(command(Path::new(THIS)));
    command
        .args(["bench", "--json", "--nats-server", nats_url])
        .args(["--cluster-id", cluster_id])
        .args(flags)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(RUN_LIMIT, command.output()).await;
    let output = output.context("no end")??;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "stanby bench: {errors}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Nothing of the caller's environment is a server's setting.
fn command(program: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STANBY_") {
            command.env_remove(name);
        }
    }
    command
}

async fn is_go(program: &Path) -> anyhow::Result<bool> {
    let output = Command::new(program).arg("--version").output().await;
    let output = output.with_context(|| format!("{} does not run", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
    ensure!(
        text.contains("stanby") || text.contains("nats-streaming-server"),
        "{} is no STAN server that is known here: --version says {text:?}",
        program.display()
    );
    Ok(!text.contains("stanby"))
}

fn file_name(program: &Path) -> String {
    let name = program.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Fit for a database and for a cluster ID.
fn word(name: &str) -> String {
    let fit = |one: char| {
        if one.is_ascii_alphanumeric() {
            one
        } else {
            '_'
        }
    };
    let fitting: String = name.to_lowercase().chars().map(fit).collect();
    format!("compare_{fitting}")
}

async fn wait(server: &mut Process, is_ready: impl AsyncFn() -> bool) -> anyhow::Result<()> {
    let mut tick = interval(Duration::from_millis(50));
    let limit = tokio::time::Instant::now() + READY_LIMIT;
    while !is_ready().await {
        if server.ended().is_some() {
            return Err(server.failure("ended while starting").into());
        }
        if tokio::time::Instant::now() > limit {
            return Err(server.failure("was not ready in time").into());
        }
        tick.tick().await;
    }
    Ok(())
}

/// Whether the server says that it is active, or can take over.
async fn answers(http_port: u16) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let ask = async || -> std::io::Result<String> {
        let address = (Ipv4Addr::LOCALHOST, http_port);
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.take(16 << 10).read_to_string(&mut answer).await?;
        Ok(answer)
    };
    matches!(timeout(Duration::from_secs(2), ask()).await,
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200 "))
}

fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
