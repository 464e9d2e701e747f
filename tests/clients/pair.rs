//! Two `stanby serve` processes that race for one schema, and who of them is active. Knows nothing of clients.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use stanby::dev::Error;
use stanby::dev::directory::Directory;
use stanby::dev::guardian::Guardian;
use stanby::dev::process::{Process, StopSignals};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::nats;
use crate::support::postgres::{self, TestDatabase};
use crate::support::wait::wait_until;

/// Takeovers take milliseconds; a busy machine may take its time all the same.
const ROLE_LIMIT: Duration = Duration::from_secs(30);

const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A pair on the nats-server of all tests and a database of its own.
pub(crate) async fn for_test(cluster_id: &str, more: &[&str]) -> Option<(TestDatabase, Pair)> {
    let database = postgres::database().await?;
    let settings = Settings {
        database_url: database.url.clone(),
        nats_url: nats::url().await?,
        cluster_id: cluster_id.to_owned(),
        more: more.iter().map(|flag| String::from(*flag)).collect(),
    };
    let pair = Pair::start(settings).await;
    Some((database, pair))
}

/// What the servers are told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) database_url: String,
    pub(crate) nats_url: String,
    pub(crate) cluster_id: String,
    pub(crate) more: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Pair {
    settings: Settings,
    servers: Vec<Server>,
    starts: usize,
    // Dropped after the servers: the guardian waits for them, and removes the directory.
    guardian: Guardian,
    directory: Directory,
}

#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    http_port: u16,
}

/// What a server answers to "are you active?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Active,
    NotActive,
    /// Not started yet, frozen, or gone.
    Silent,
}

impl Pair {
    /// Returns once one is active and the other waits for the lock.
    pub(crate) async fn start(settings: Settings) -> Self {
        let directory = Directory::temporary("stanby-test").unwrap();
        let guardian = Guardian::start(Some(directory.root())).unwrap();
        let mut pair = Self {
            settings,
            servers: Vec::new(),
            starts: 0,
            guardian,
            directory,
        };
        for _ in 0..2 {
            let server = pair.spawn().unwrap();
            pair.servers.push(server);
        }
        pair.wait_for_roles().await;
        pair
    }

    pub(crate) fn nats_url(&self) -> &str {
        &self.settings.nats_url
    }

    fn spawn(&mut self) -> Result<Server, Error> {
        let http_port = free_port();
        let settings = &self.settings;
        let mut command = Command::new(env!("CARGO_BIN_EXE_stanby"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("STANBY_") {
                command.env_remove(name);
            }
        }
        command
            .arg("serve")
            .args(["--database-url", &settings.database_url])
            .args(["--nats-server", &settings.nats_url])
            .args(["--cluster-id", &settings.cluster_id])
            .args(["--http-host", "127.0.0.1"])
            .args(["--http-port", &http_port.to_string()])
            .args(&settings.more);
        let signals = StopSignals {
            first: Signal::SIGTERM,
            second: Signal::SIGKILL,
        };
        self.starts += 1;
        let name = server_name(self.starts);
        let process = Process::spawn(&name, command, &self.directory, signals, &self.guardian)?;
        Ok(Server { process, http_port })
    }

    /// The index of the active, once there is exactly one and all others wait for the lock.
    pub(crate) async fn wait_for_roles(&mut self) -> usize {
        let mut roles = Vec::new();
        let settled = async {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            loop {
                tick.tick().await;
                roles.clear();
                for server in &mut self.servers {
                    if let Some(status) = server.process.ended() {
                        let error = server.process.failure(format_args!("ended with {status}"));
                        panic!("{error}");
                    }
                    roles.push(server.role().await);
                }
                let count = |role| roles.iter().filter(|&&r| r == role).count();
                if count(Role::Active) == 1 && count(Role::NotActive) == roles.len() - 1 {
                    return roles.iter().position(|&role| role == Role::Active);
                }
            }
        };
        let Ok(active) = timeout(ROLE_LIMIT, settled).await else {
            panic!("roles after {ROLE_LIMIT:?}: {roles:?}");
        };
        active.expect("one of them is active")
    }

    pub(crate) fn server(&self, index: usize) -> &Server {
        &self.servers[index]
    }

    /// Waits until this server answers, and fails unless its first answer is `role`, when it should not be active.
    pub(crate) async fn wait_for_role(&self, index: usize, role: Role) {
        let server = self.server(index);
        wait_until(ROLE_LIMIT, async || {
            let answer = server.role().await;
            if answer == role {
                return Ok(());
            }
            assert_ne!(answer, Role::Active, "server {index} acts as the active");
            let pid = server.pid();
            Err(format!(
                "server {index} (pid {pid}) is {answer:?}, not {role:?}"
            ))
        })
        .await;
    }

    /// Sends `signal` to the active and waits for its end.
    pub(crate) async fn end_active(&mut self, signal: Signal) {
        let active = self.wait_for_roles().await;
        self.end(active, signal).await;
    }

    /// Sends `signal` to a server, waits for its end, and forgets it.
    pub(crate) async fn end(&mut self, index: usize, signal: Signal) {
        let mut server = self.servers.remove(index);
        server.process.signal(signal);
        timeout(ROLE_LIMIT, server.process.wait())
            .await
            .expect("it ends")
            .unwrap();
    }

    /// Starts one more server, and waits until it can take over.
    pub(crate) async fn add(&mut self) {
        let server = self.spawn().unwrap();
        self.servers.push(server);
        self.wait_for_roles().await;
    }

    /// What all servers logged, those that have ended included.
    pub(crate) fn logs(&self) -> String {
        let directory = self.directory.logs();
        let mut logs = String::new();
        for start in 1..=self.starts {
            let name = server_name(start);
            let text = std::fs::read_to_string(directory.join(&name).with_extension("log"));
            logs.extend(["--- ", &name, "\n", &text.unwrap_or_default()]);
        }
        logs
    }
}

impl Drop for Pair {
    // The directory with the logs goes with it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub(crate) async fn role(&self) -> Role {
        match timeout(ANSWER_LIMIT, self.ask("/healthz/active")).await {
            Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200 ") => Role::Active,
            // Connecting and migrating is not waiting yet.
            Ok(Ok(_)) => match timeout(ANSWER_LIMIT, self.ask("/readyz")).await {
                Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200 ") => Role::NotActive,
                _ => Role::Silent,
            },
            _ => Role::Silent,
        }
    }

    async fn ask(&self, page: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.http_port)).await?;
        let request =
            format!("GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(16 << 10).read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

fn server_name(start: usize) -> String {
    format!("server-{start}")
}

/// Below the ports that the system gives to outgoing connections, so that none of those takes it meanwhile.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);

    let begin = u16::try_from(std::process::id() % 1000).unwrap_or_default() * 10;
    (0..10_000)
        .map(|_| 20_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000)
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .expect("one of ten thousand ports is free")
}
