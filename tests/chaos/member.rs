//! A server of a world, behind a network of its own, and what belongs to it alone: its clock, and where its log goes.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::ground::Ground;
use crate::log_pipe::LogPipe;
use crate::needs::Needs;
use crate::pair::{Group, Server};
use crate::patroni::Door;
use crate::proxy::{Link, Proxy, Target};
use crate::support::process::skip;
use crate::world::Shape;

/// A server and its network.
pub(crate) struct Member {
    pub(crate) to_postgres: Proxy,
    /// One to each nats-server, in the order in which the member knows them.
    to_nats: Vec<Proxy>,
    pub(crate) clock: Option<Clock>,
    pub(crate) log_pipe: Option<LogPipe>,
    group: Group,
    pub(crate) server: Option<Server>,
}

impl Member {
    /// `None` where something is not installed.
    pub(crate) async fn new(ground: &Ground, shape: Shape) -> Option<Self> {
        let clock = if shape.needs.has(Needs::FALSE_CLOCKS) {
            Some(Clock::new()?)
        } else {
            None
        };
        let log_pipe = shape.needs.has(Needs::LOG_PIPES).then(LogPipe::new);
        // Takes little at once, for the sake of those that are narrow.
        let to_postgres = Proxy::start_narrow(ground.primary());
        let mut to_nats = Vec::new();
        for port in ground.nats.ports() {
            to_nats.push(Proxy::start(Target::Port(port)).await);
        }
        let database_url = match (&ground.patroni, shape.patroni) {
            (Some(patroni), Some((_, _, Door::Hosts))) => patroni.url_of_all(),
            _ => format!(
                "postgres://{}@127.0.0.1:{}/postgres",
                ground.role(),
                to_postgres.port
            ),
        };
        let nats_urls = to_nats
            .iter()
            .map(|proxy| format!("nats://127.0.0.1:{}", proxy.port));
        let nats_urls: Vec<_> = nats_urls.collect();
        let mut group = Group::over(database_url, nats_urls.join(","), shape.flags);
        group.program = shape.program.unwrap_or(group.program);
        Some(Self {
            group,
            to_postgres,
            to_nats,
            clock,
            log_pipe,
            server: None,
        })
    }

    pub(crate) fn start(&mut self) {
        let (clock, log_pipe) = (self.clock.as_ref(), self.log_pipe.as_ref());
        self.server = Some(self.group.server_changed(|command| {
            if let Some(clock) = clock {
                clock.apply(command);
            }
            if let Some(log_pipe) = log_pipe {
                log_pipe.apply(command);
            }
        }));
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.server().signal(signal);
    }

    /// What the server that runs has logged; through a pipe, also those before it.
    pub(crate) fn log(&self) -> String {
        let piped = self.log_pipe.as_ref().map(LogPipe::text);
        let own = self.server.as_ref().map(Server::log);
        piped.unwrap_or_default() + &own.unwrap_or_default()
    }

    /// The way to NATS, to whichever server of it.
    pub(crate) fn set_to_nats(&self, link: Link) {
        for proxy in &self.to_nats {
            proxy.set(link);
        }
    }

    /// Whether it is connected to that nats-server alone.
    pub(crate) fn is_at_nats(&self, number: usize) -> bool {
        let mut proxies = self.to_nats.iter().enumerate();
        proxies.all(|(at, proxy)| (proxy.connections() > 0) == (at == number))
    }
}

/// The wall clock of one server.
pub(crate) struct Clock {
    library: PathBuf,
    file: tempfile::NamedTempFile,
}

impl Clock {
    /// `None` where the library is not installed.
    fn new() -> Option<Self> {
        let found = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
            .map(|machine| PathBuf::from(format!("/usr/lib/{machine}/faketime/libfaketimeMT.so.1")))
            .into_iter()
            .find(|path| path.exists());
        let Some(library) = found else {
            skip("libfaketime is not installed: scripts/test installs it");
            return None;
        };
        let clock = Self {
            library,
            file: tempfile::NamedTempFile::new().unwrap(),
        };
        clock.jump(0);
        Some(clock)
    }

    /// From now on it is so many seconds later than it is.
    pub(crate) fn jump(&self, seconds: i64) {
        std::fs::write(self.file.path(), format!("{seconds:+}s\n")).unwrap();
    }

    fn apply(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.file.path())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
    }
}
