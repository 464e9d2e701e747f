//! Servers of one group, as processes: how a test starts, asks, signals and ends them.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;
use stanby::dev::process::{Process, StopSignals};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::stan::StanClient;
use crate::support::postgres::TestDatabase;
use crate::support::process::{DIRECTORY, GUARDIAN};
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};
use crate::tables::Tables;

/// Nothing that a test waits for takes so long on a machine that is merely busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Unless a test says otherwise.
const SCHEMA: &str = "stanby";

const PROGRAM: &str = env!("CARGO_BIN_EXE_stanby");

const ANSWER_LIMIT: Duration = Duration::from_millis(500);

/// What the servers of a group share.
pub(crate) struct Group {
    pub(crate) database_url: String,
    pub(crate) nats_url: String,
    pub(crate) cluster_id: String,
    schema: &'static str,
    flags: Vec<String>,
    /// What its servers run.
    pub(crate) program: &'static str,
    _database: Option<TestDatabase>,
}

impl Group {
    /// On the shared Postgres, in a database of its own, and the shared nats-server. `None` where one of them is
    /// not installed.
    pub(crate) async fn new(flags: &[&str]) -> Option<Self> {
        let database = postgres::database().await?;
        let nats_url = nats::url().await?;
        Some(Self {
            database_url: database.url.clone(),
            nats_url,
            // The nats-server is shared, too.
            cluster_id: database.name.clone(),
            schema: SCHEMA,
            flags: owned(flags),
            program: PROGRAM,
            _database: Some(database),
        })
    }

    /// On servers that the test stops and starts.
    pub(crate) fn over(database_url: String, nats_url: String, flags: &[&str]) -> Self {
        Self {
            database_url,
            nats_url,
            cluster_id: "own-cluster".to_owned(),
            schema: SCHEMA,
            flags: owned(flags),
            program: PROGRAM,
            _database: None,
        }
    }

    /// Another group on the same servers and with the same cluster ID. It must not outlive this one's database.
    pub(crate) fn beside(&self, schema: &'static str, flags: &[&str]) -> Self {
        Self {
            database_url: self.database_url.clone(),
            nats_url: self.nats_url.clone(),
            cluster_id: self.cluster_id.clone(),
            schema,
            flags: owned(flags),
            program: PROGRAM,
            _database: None,
        }
    }

    pub(crate) fn server(&self) -> Server {
        self.server_with(&[])
    }

    /// With flags that the others of the group do not have.
    pub(crate) fn server_with(&self, more: &[&str]) -> Server {
        self.server_changed(|command| {
            command.args(more);
        })
    }

    /// A server whose command is changed before it starts.
    pub(crate) fn server_changed(&self, change: impl FnOnce(&mut Command)) -> Server {
        self.start(Server::command_of(self.program), change)
    }

    /// Of the program in that file.
    pub(crate) fn server_of(&self, program: &str) -> Server {
        self.start(Server::command_of(program), |_| {})
    }

    fn start(&self, mut command: Command, change: impl FnOnce(&mut Command)) -> Server {
        let port = free_port();
        command
            .arg("serve")
            .args(["--database-url", &self.database_url])
            .args(["--nats-server", &self.nats_url])
            .args(["--cluster-id", &self.cluster_id])
            .args(["--schema", self.schema])
            .args(["--http-host", "127.0.0.1"])
            .args(["--http-port", &port.to_string()])
            .args(&self.flags);
        change(&mut command);
        Server::start(command, port)
    }

    pub(crate) fn tables(&self) -> Tables {
        Tables::new(&self.database_url).in_schema(self.schema)
    }

    /// A client on a NATS connection of its own.
    pub(crate) async fn client(&self, id: &str) -> StanClient {
        let nats = async_nats::connect(&self.nats_url).await.unwrap();
        StanClient::connect(nats, &self.cluster_id, id)
            .await
            .unwrap()
    }

    /// Waits until so many servers are in the queue for the lock. They listen to clients by then.
    pub(crate) async fn wait_for_standbys(&self, count: i64) {
        let tables = self.tables();
        wait_until(LIMIT, async || match tables.standbys().await {
            Ok(found) if found == count => Ok(()),
            other => Err(format!("{other:?} of {count} standbys")),
        })
        .await;
    }
}

fn owned(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|&flag| flag.to_owned()).collect()
}

/// An active and a standby.
pub(crate) struct Pair {
    pub(crate) group: Group,
    pub(crate) active: Server,
    pub(crate) standby: Server,
}

impl Pair {
    pub(crate) async fn new(flags: &[&str]) -> Option<Self> {
        Some(Self::of(Group::new(flags).await?).await)
    }

    /// Returns when one is active and the other would take over.
    pub(crate) async fn of(group: Group) -> Self {
        let active = group.server();
        active.wait_until_active().await;
        let standby = group.server();
        group.wait_for_standbys(1).await;
        Self {
            group,
            active,
            standby,
        }
    }

    /// Waits until one of the two is active and the other is in the queue again; the active comes first.
    pub(crate) async fn roles(&self) -> (&Server, &Server) {
        let servers = [&self.active, &self.standby];
        let active = wait_for_one_active(&servers).await;
        self.group.wait_for_standbys(1).await;
        (servers[active], servers[1 - active])
    }
}

/// What a server says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Active(u64),
    Standby,
    /// Neither serves nor could take over, with the reason.
    NotReady(String),
    Nothing(String),
}

/// A process of `stanby serve`. Its log must not tell of a panic.
pub(crate) struct Server {
    process: Process,
    pub(crate) http_port: u16,
}

#[derive(Deserialize)]
struct Ready {
    role: String,
    epoch: Option<u64>,
    reason: Option<String>,
}

impl Server {
    /// The program, without any setting from the environment of the tests.
    pub(crate) fn command() -> Command {
        Self::command_of(PROGRAM)
    }

    fn command_of(program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("STANBY_"))
            {
                command.env_remove(name);
            }
        }
        command
    }

    pub(crate) fn start(command: Command, http_port: u16) -> Self {
        // The guardian ends them when the tests are killed, frozen ones as well.
        let signals = StopSignals {
            first: Signal::SIGKILL,
            second: Signal::SIGKILL,
        };
        let name = format!("server-{http_port}");
        let process = Process::spawn(&name, command, &DIRECTORY, signals, &GUARDIAN).unwrap();
        Self { process, http_port }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// `kill -9`.
    pub(crate) async fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.end().await;
    }

    /// Waits until it ends by itself.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        let ended = timeout(LIMIT, self.process.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("it does not end: {}", self.log()))
            .unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn log(&self) -> String {
        read(self.process.log())
    }

    pub(crate) async fn get(&self, path: &str) -> Result<(u16, String), String> {
        get(self.http_port, path).await
    }

    pub(crate) async fn says(&self) -> Says {
        says(self.http_port).await
    }

    /// The epoch.
    pub(crate) async fn wait_until_active(&self) -> u64 {
        wait_until(LIMIT, async || match self.says().await {
            Says::Active(epoch) => Ok(epoch),
            said @ (Says::Standby | Says::NotReady(_) | Says::Nothing(_)) => {
                Err(format!("{said:?}; its log: {}", self.log()))
            }
        })
        .await
    }

    /// Waits until it says that it can neither serve nor take over, with this among the reason.
    pub(crate) async fn wait_for_trouble(&self, text: &str) {
        wait_until(LIMIT, async || match self.says().await {
            Says::NotReady(reason) if reason.contains(text) => Ok(()),
            said @ (Says::Active(_) | Says::Standby | Says::NotReady(_) | Says::Nothing(_)) => {
                Err(format!("{said:?}"))
            }
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("--- log of the server on port {}\n{log}", self.http_port);
        } else {
            assert!(!log.contains("panicked at"), "a server panicked: {log}");
        }
    }
}

/// Waits until exactly one is active; gives its place.
pub(crate) async fn wait_for_one_active(servers: &[&Server]) -> usize {
    wait_until(LIMIT, async || {
        let mut said = Vec::new();
        for server in servers {
            said.push(server.says().await);
        }
        let is_active = |said: &Says| matches!(said, Says::Active(_));
        let is_standby = |said: &&Says| **said == Says::Standby;
        match said.iter().position(is_active) {
            Some(active) if said.iter().filter(is_standby).count() + 1 == servers.len() => {
                Ok(active)
            }
            _ => Err(format!("{said:?}")),
        }
    })
    .await
}

fn read(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

/// Of a monitoring page: the code and the body.
pub(crate) async fn get(port: u16, path: &str) -> Result<(u16, String), String> {
    let asking = async { Question::ask(port, path).await?.answer().await };
    timeout(ANSWER_LIMIT, asking)
        .await
        .map_err(|_| "no answer".to_owned())?
}

/// What the server on this port says about itself.
pub(crate) async fn says(port: u16) -> Says {
    match get(port, "/readyz").await {
        Ok((_, body)) => match serde_json::from_str::<Ready>(&body) {
            Ok(Ready {
                reason: Some(reason),
                ..
            }) => Says::NotReady(reason),
            Ok(Ready {
                role,
                epoch: Some(epoch),
                ..
            }) if role == "active" => Says::Active(epoch),
            Ok(_) => Says::Standby,
            Err(error) => Says::Nothing(format!("{error} in {body}")),
        },
        Err(error) => Says::Nothing(error),
    }
}

/// A question that is on its way, to a server that may be frozen.
pub(crate) struct Question(TcpStream);

impl Question {
    pub(crate) async fn ask(port: u16, path: &str) -> Result<Self, String> {
        let asking = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            Ok::<_, std::io::Error>(stream)
        };
        asking.await.map(Self).map_err(|error| error.to_string())
    }

    pub(crate) async fn answer(mut self) -> Result<(u16, String), String> {
        let mut text = String::new();
        let read = self.0.read_to_string(&mut text).await;
        read.map_err(|error| error.to_string())?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or("half an answer")?;
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((code.ok_or("no code")?, body.to_owned()))
    }
}

/// Below the range that the kernel takes the ports of outgoing connections from, of which the tests make many.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);

    // Suites that run side by side have neighbouring ids: multiplied by this, those are far from each other.
    let start = u16::try_from(std::process::id().wrapping_mul(4_643) % u32::from(COUNT)).unwrap();
    let mut ports = std::iter::repeat_with(|| {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        FIRST + (start + step % COUNT) % COUNT
    });
    ports
        .by_ref()
        .take(usize::from(COUNT))
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .unwrap()
}
