//! Starts everything, keeps it running, reports what happens, stops everything.
//!
//! The active server owns neither Postgres nor nats-server: killing it shows a takeover, and nothing else.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Error;
use super::console::Token;
use super::directory::Directory;
use super::guardian::Guardian;
use super::nats::{self, NatsServer};
use super::postgres::{self, Postgres};
use super::process::{Process, StopSignals};
use super::screen::Screen;
use super::servers::{Servers, Started};
use super::{orphan, server};

pub const DEFAULT_PORT: u16 = 4222;
pub const DEFAULT_HTTP_PORT: u16 = 8222;
pub const DEFAULT_CLUSTER_ID: &str = "test-cluster";

/// Short enough to show a takeover as quick as it is.
const TURN: Duration = Duration::from_millis(100);

/// A server finds out first, as it would anywhere.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Two rounds of it (the servers, then what they need) make the promised end within two seconds: what has not ended by
/// then is killed, or (Postgres) gives up its checkpoint.
const STOP_PATIENCE: Duration = Duration::from_millis(900);

/// For children of a supervisor that was killed: their guardian needs about a second.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug)]
pub struct DevOptions {
    pub data: PathBuf,
    /// Uses a temporary directory instead of `data`.
    pub ephemeral: bool,
    /// The port of nats-server.
    pub port: u16,
    /// The port of the first server's pages; the second uses the next.
    pub http_port: u16,
    pub cluster_id: String,
    /// Plays a small shop.
    pub demo: bool,
    /// Shows the servers' logs.
    pub verbose: bool,
    pub pg_bin: Option<PathBuf>,
    pub nats_server_bin: Option<PathBuf>,
}

/// Runs until Ctrl-C, SIGTERM or the end of the terminal; fails when something cannot be started.
pub async fn run(options: DevOptions) -> anyhow::Result<()> {
    // Listening before anything runs: a Ctrl-C during the start must not leave half of it behind.
    let mut signals = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    let [interrupt, terminate, hangup] = &mut signals;
    let mut supervisor = Supervisor::prepare(options)?;
    let result = tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = hangup.recv() => Ok(()),
        result = supervisor.supervise() => result,
    };
    supervisor.stop().await?;
    Ok(result?)
}

struct Supervisor {
    // Dropped in this order: the guardian ends what is left, then a temporary directory goes.
    servers: Option<Servers>,
    demo: Option<Process>,
    nats: Option<NatsServer>,
    postgres: Option<Postgres>,
    guardian: Guardian,
    directory: Directory,
    options: DevOptions,
    screen: Screen,
}

impl Supervisor {
    fn prepare(options: DevOptions) -> Result<Self, Error> {
        let directory = if options.ephemeral {
            Directory::temporary("stanby-dev")?
        } else {
            Directory::open(&options.data)?
        };
        let guardian = Guardian::start(directory.is_temporary().then(|| directory.root()))?;
        let screen = Screen::new();
        Ok(Self {
            servers: None,
            demo: None,
            nats: None,
            postgres: None,
            guardian,
            directory,
            options,
            screen,
        })
    }

    /// Ends only with an error.
    async fn supervise(&mut self) -> Result<(), Error> {
        self.start().await?;
        let mut turns = interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            self.restart_what_servers_need().await?;
            if let Some(servers) = &mut self.servers {
                servers
                    .turn(&self.directory, &self.guardian, &self.screen)
                    .await?;
            }
        }
    }

    async fn start(&mut self) -> Result<(), Error> {
        orphan::end_all(&self.directory, ORPHAN_PATIENCE).await?;
        let http_ports = self.http_ports()?;
        for port in http_ports {
            server::ensure_free(port)?;
        }
        let nats = self.start_nats().await?;
        let nats_url = nats.url();
        self.nats = Some(nats);
        let postgres = self.start_postgres().await?;
        let group = server::Group {
            program: std::env::current_exe()
                .map_err(Error::file("find", "this executable".as_ref()))?,
            database_url: postgres.url(),
            nats_url,
            cluster_id: self.options.cluster_id.clone(),
            token: Token::of(&self.directory)?,
        };
        let started = Started {
            nats_url_is_default: self.options.port == DEFAULT_PORT,
            cluster_id_is_default: self.options.cluster_id == DEFAULT_CLUSTER_ID,
            psql: postgres.psql(),
            verbose: self.options.verbose,
        };
        self.postgres = Some(postgres);
        if self.options.demo {
            self.demo = Some(self.start_demo(&group)?);
        }
        let servers = Servers::start(
            group,
            http_ports,
            started,
            &self.directory,
            &self.guardian,
            &self.screen,
        )?;
        self.servers = Some(servers);
        Ok(())
    }

    /// It waits for the servers by itself.
    fn start_demo(&self, group: &server::Group) -> Result<Process, Error> {
        let mut command = Command::new(&group.program);
        command
            .arg("demo")
            .args(["--database-url", &group.database_url])
            .args(["--nats-server", &group.nats_url])
            .args(["--cluster-id", &group.cluster_id]);
        let signals = StopSignals {
            first: Signal::SIGTERM,
            second: Signal::SIGKILL,
        };
        Process::spawn("demo", command, &self.directory, signals, &self.guardian)
    }

    fn http_ports(&self) -> Result<[u16; 2], Error> {
        let first = self.options.http_port;
        match first.checked_add(1) {
            Some(second) if first != 0 => Ok([first, second]),
            _ => Err(Error::Refused(format!(
                "--http-port {first} leaves no room: choose one from 1 to {}",
                u16::MAX - 1
            ))),
        }
    }

    async fn start_nats(&self) -> Result<NatsServer, Error> {
        let options = nats::Options {
            program: self.options.nats_server_bin.clone(),
            port: Some(self.options.port),
            arguments: Vec::new(),
        };
        NatsServer::start(&self.directory, &options, &self.guardian).await
    }

    async fn start_postgres(&self) -> Result<Postgres, Error> {
        let options = postgres::Options {
            programs: self.options.pg_bin.clone(),
            volatile: self.directory.is_temporary(),
            settings: Vec::new(),
        };
        Postgres::start(&self.directory, &options, &self.guardian).await
    }

    /// Somebody may kill these too, to see what happens.
    async fn restart_what_servers_need(&mut self) -> Result<(), Error> {
        if let Some((pid, status)) = self.postgres.as_mut().and_then(Postgres::ended) {
            self.announce("postgres", pid, status).await;
            let postgres = self.start_postgres().await?;
            self.screen.started_again("postgres", postgres.pid());
            self.postgres = Some(postgres);
        }
        if let Some((pid, status)) = self.nats.as_mut().and_then(NatsServer::ended) {
            self.announce("nats-server", pid, status).await;
            let nats = self.start_nats().await?;
            self.screen.started_again("nats-server", nats.pid());
            self.nats = Some(nats);
        }
        Ok(())
    }

    async fn announce(&self, name: &str, pid: u32, status: ExitStatus) {
        self.screen.ended(name, pid, status);
        tokio::time::sleep_until(Instant::now() + RESTART_DELAY).await;
    }

    /// The servers first, so that they can finish their batches.
    async fn stop(mut self) -> Result<(), Error> {
        let mut first_error = Ok(());
        if let Some(demo) = &mut self.demo {
            first_error = first_error.and(demo.stop(STOP_PATIENCE).await);
        }
        if let Some(servers) = &mut self.servers {
            first_error = first_error.and(servers.stop(STOP_PATIENCE).await);
        }
        let nats = async {
            match &mut self.nats {
                Some(nats) => nats.stop(STOP_PATIENCE).await,
                None => Ok(()),
            }
        };
        let postgres = async {
            match &mut self.postgres {
                // A checkpoint of a busy machine takes seconds, and the directory is removed anyway.
                Some(postgres) if self.directory.is_temporary() => {
                    postgres.stop_at_once(STOP_PATIENCE).await
                }
                Some(postgres) => postgres.stop(STOP_PATIENCE).await,
                None => Ok(()),
            }
        };
        let (nats, postgres) = tokio::join!(nats, postgres);
        first_error.and(nats).and(postgres)
    }
}
