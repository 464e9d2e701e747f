//! A server inside another program, for programs in Rust that bring their own active or standby along.
//!
//! ```no_run
//! # async fn f() -> Result<(), stanby::server::Error> {
//! let server = stanby::Server::builder()
//!     .database_url("postgres://stanby@db.example.com/stan?sslmode=verify-full")
//!     .nats_server("nats://nats-1:4222")
//!     .cluster_id("orders")
//!     .setting("max-age", "24h")
//!     .start()
//!     .await?;
//! // … until the program ends:
//! server.stop().await
//! # }
//! ```
//!
//! It is the server that `stanby serve` runs, less what belongs to a process: arguments, environment, files, signals,
//! logs. Log lines are events of `tracing`, for a subscriber of the program's own. It has threads and a
//! tokio runtime of its own, so that a program that is busy does not cost it the term. One thing concerns the program as
//! a whole: a term that can neither be trusted nor be given up ends the process (`node::watchdog`).

use std::fmt::{self, Display};
use std::io;
use std::net::SocketAddr;

use clap::{Args as _, Command, FromArgMatches as _};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::Clock;
use crate::config::nats::DEFAULT_SERVER;
use crate::config::{self, Config, Secret, ServeFlags};
use crate::core::limits::Limits;
use crate::monitoring::status::{Role, Status};
use crate::node::NewNode;

/// Beside the one that decides: for the connections.
const WORKERS: usize = 2;

/// Whole sentences, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A setting is wrong or missing; nothing was tried.
    #[error(transparent)]
    Settings(#[from] config::Error),
    /// Database or NATS cannot be used as configured, or the tables are another cluster's.
    #[error("{0}")]
    Failed(String),
}

/// A server that runs. Dropping it stops it as [`Server::stop`] does, without waiting for the end.
#[derive(Debug)]
pub struct Server {
    status: watch::Receiver<Status>,
    task: oneshot::Receiver<anyhow::Result<()>>,
    /// How it ended, once it has.
    end: Option<Result<(), Error>>,
    stop: DropGuard,
}

impl Server {
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns when the server is active or a standby that can take over. A database or NATS that is not there yet is waited
    /// for without a limit of its own; fails with what somebody has to change first.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let limits = watch::Sender::new(config.limits.clone());
        let node = NewNode::new(config).map_err(|error| Error::Failed(format!("{error:#}")))?;
        let mut status = node.status();
        let shutdown = CancellationToken::new();
        let mut server = Self {
            status: node.status(),
            task: run_aside(node, limits, shutdown.clone())?,
            end: None,
            stop: shutdown.drop_guard(),
        };
        tokio::select! {
            ready = status.wait_for(|status| status.not_ready_reason().is_none()) => {
                if ready.is_err() {
                    server.ended().await?;
                }
            }
            ended = server.ended() => ended?,
        }
        Ok(server)
    }

    /// As of this moment.
    pub fn role(&self) -> Role {
        self.status.borrow().role_at(Clock.now().monotonic)
    }

    /// All that the server says about itself, and when it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Returns when the server serves clients; a standby may wait for ever.
    pub async fn active(&mut self) -> Result<(), Error> {
        let mut status = self.status.clone();
        let is_active = |status: &Status| status.role_at(Clock.now().monotonic) == Role::Active;
        tokio::select! {
            found = status.wait_for(is_active) => if found.is_ok() { return Ok(()) },
            ended = self.ended() => return ended,
        }
        self.ended().await
    }

    /// Returns when the server has ended by itself, which trouble with database or NATS does not make it do.
    pub async fn ended(&mut self) -> Result<(), Error> {
        if let Some(end) = &self.end {
            return end.clone();
        }
        let end = match (&mut self.task).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::Failed(format!("{error:#}"))),
            Err(_) => Err(Error::Failed("the server ended with a panic".to_owned())),
        };
        self.end.insert(end).clone()
    }

    /// Finishes what is under way, gives the lock to a standby, and returns when everything is put away.
    pub async fn stop(self) -> Result<(), Error> {
        let Self {
            status,
            task,
            end,
            stop,
        } = self;
        let shutdown = stop.disarm();
        shutdown.cancel();
        let mut server = Self {
            status,
            task,
            end,
            stop: shutdown.drop_guard(),
        };
        server.ended().await
    }
}

/// On threads of its own.
fn run_aside(
    node: NewNode,
    limits: watch::Sender<Limits>,
    shutdown: CancellationToken,
) -> Result<oneshot::Receiver<anyhow::Result<()>>, Error> {
    let failed = |error: io::Error| {
        Error::Failed(format!(
            "the threads of the server cannot be started: {error}"
        ))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("stanby")
        .enable_all()
        .build()
        .map_err(failed)?;
    let (sender, receiver) = oneshot::channel();
    let serve = move || {
        let result = runtime.block_on(node.run(limits.subscribe(), shutdown));
        runtime.shutdown_background();
        // The end of a dropped server is not waited for.
        drop(sender.send(result));
    };
    std::thread::Builder::new()
        .name("stanby".to_owned())
        .spawn(serve)
        .map_err(failed)?;
    Ok(receiver)
}

/// The configuration of a server, by the names of the flags of `stanby serve`.
#[derive(Clone, Default)]
pub struct Builder {
    settings: Vec<(String, String)>,
}

/// What the program around the server decides.
const OF_THE_PROCESS: &[&str] = &[
    "config",
    "stan-config",
    "pid",
    "log",
    "log-format",
    "log-size-limit",
    "syslog",
    "remote-syslog",
    "debug",
    "trace",
];

impl Builder {
    /// The one setting that must be given.
    #[must_use]
    pub fn database_url(self, url: impl Display) -> Self {
        self.setting("database-url", url)
    }

    /// One URL, or several with commas between.
    #[must_use]
    pub fn nats_server(self, urls: impl Display) -> Self {
        self.setting("nats-server", urls)
    }

    #[must_use]
    pub fn cluster_id(self, id: impl Display) -> Self {
        self.setting("cluster-id", id)
    }

    /// Where the health and monitoring pages listen; nowhere unless set.
    #[must_use]
    pub fn http(self, address: SocketAddr) -> Self {
        self.setting("http-host", address.ip())
            .setting("http-port", address.port())
    }

    /// Any flag of `stanby serve`, by its long name without dashes; the last value counts.
    #[must_use]
    pub fn setting(mut self, flag: impl Into<String>, value: impl Display) -> Self {
        self.settings.push((flag.into(), value.to_string()));
        self
    }

    /// The environment has no say.
    pub fn config(&self) -> Result<Config, Error> {
        for (flag, _) in &self.settings {
            if OF_THE_PROCESS.contains(&flag.as_str()) {
                return Err(config::Error::new(format!(
                    "{flag} is not a setting of an embedded server: its program reads files and writes logs"
                ))
                .into());
            }
        }
        let command = ServeFlags::augment_args(
            Command::new("server")
                .no_binary_name(true)
                .args_override_self(true),
        );
        let args = self
            .settings
            .iter()
            .map(|(flag, value)| format!("--{flag}={value}"));
        let mut flags = command
            .mut_args(|arg| arg.env(None::<&str>))
            .try_get_matches_from(args)
            .and_then(|matches| ServeFlags::from_arg_matches(&matches))
            .map_err(|error| config::sources::from_clap(&error))?;
        // A program that has a server inside does not expect another process beside it.
        flags
            .nats
            .nats_server
            .get_or_insert_with(|| Secret::from(DEFAULT_SERVER));
        Ok(Config::from_flags(&flags)?)
    }

    /// See [`Server::start`].
    pub async fn start(self) -> Result<Server, Error> {
        Server::start(self.config()?).await
    }
}

/// Names only: values may be secrets.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.settings.iter().map(|(flag, _)| flag);
        f.debug_set().entries(names).finish()
    }
}
