//! The two servers that race for the active role: who is what, restarts, and what to tell about it.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::Error;
use super::directory::Directory;
use super::follow::Follower;
use super::guardian::Guardian;
use super::screen::{Screen, ServerLine, Welcome};
use super::server::{Group, Health, Server};

const START_LIMIT: Duration = Duration::from_mins(1);

/// Leaves time to see who is active after a kill.
const RESTART_DELAY: Duration = Duration::from_secs(2);

/// A server that ends so often in a row before it was ready will not get ready.
const FAILURES_MAX: u32 = 3;

/// What the first screen shows besides the servers.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) nats_url_is_default: bool,
    pub(super) cluster_id_is_default: bool,
    pub(super) psql: String,
    pub(super) verbose: bool,
}

#[derive(Debug)]
pub(super) struct Servers {
    group: Group,
    started: Started,
    slots: Vec<Slot>,
    /// Until when they have to be ready; `None` once they have been.
    start_limit: Option<Instant>,
    /// When all was last seen well; what changed since happened later.
    last_turn: Instant,
    /// Since when nobody is active, at the earliest.
    vacant_since: Option<Instant>,
}

#[derive(Debug)]
struct Slot {
    name: String,
    number: usize,
    http_port: u16,
    server: Option<Server>,
    health: Health,
    log: Option<Follower>,
    start_at: Instant,
    failures: u32,
}

impl Servers {
    pub(super) fn start(
        group: Group,
        http_ports: [u16; 2],
        started: Started,
        directory: &Directory,
        guardian: &Guardian,
        screen: &Screen,
    ) -> Result<Self, Error> {
        let now = Instant::now();
        let slots = http_ports
            .into_iter()
            .zip(1..)
            .map(|(http_port, number)| Slot {
                name: format!("server-{number}"),
                number,
                http_port,
                server: None,
                health: Health::Starting,
                log: None,
                start_at: now,
                failures: 0,
            });
        let mut servers = Self {
            group,
            started,
            slots: slots.collect(),
            start_limit: Some(now + START_LIMIT),
            last_turn: now,
            vacant_since: None,
        };
        servers.start_due(directory, guardian, screen)?;
        Ok(servers)
    }

    /// Looks once at each server, and reports what has changed.
    pub(super) async fn turn(
        &mut self,
        directory: &Directory,
        guardian: &Guardian,
        screen: &Screen,
    ) -> Result<(), Error> {
        let this_turn = Instant::now();
        self.bury(screen)?;
        self.start_due(directory, guardian, screen)?;
        let healths = join_all(self.slots.iter().map(Slot::ask)).await;
        self.show_logs(screen);
        for (index, health) in healths.into_iter().enumerate() {
            self.change(index, health, screen);
        }
        self.last_turn = this_turn;
        self.welcome(directory, screen)
    }

    fn bury(&mut self, screen: &Screen) -> Result<(), Error> {
        for slot in &mut self.slots {
            let Some(server) = &mut slot.server else {
                continue;
            };
            let Some(status) = server.ended() else {
                continue;
            };
            if self.start_limit.is_some() {
                return Err(server.failure(format!("ended before it was ready ({status})")));
            }
            screen.ended(&slot.name, server.pid(), status);
            if slot.health == Health::Starting {
                slot.failures += 1;
                if slot.failures == FAILURES_MAX {
                    return Err(server.failure(format!(
                        "ended {FAILURES_MAX} times in a row before it was ready"
                    )));
                }
            }
            let now = Instant::now();
            if matches!(slot.health, Health::Active { .. }) {
                self.vacant_since = Some(self.last_turn);
            }
            slot.server = None;
            slot.health = Health::Starting;
            slot.start_at = now + RESTART_DELAY;
        }
        Ok(())
    }

    fn start_due(
        &mut self,
        directory: &Directory,
        guardian: &Guardian,
        screen: &Screen,
    ) -> Result<(), Error> {
        let now = Instant::now();
        for slot in &mut self.slots {
            if slot.server.is_some() || slot.start_at > now {
                continue;
            }
            let server = Server::start(
                slot.number,
                &self.group,
                slot.http_port,
                directory,
                guardian,
            )?;
            if self.start_limit.is_none() {
                screen.started_again(&slot.name, server.pid());
            } else if self.started.verbose {
                slot.log = Follower::open(server.log()).ok();
            }
            slot.server = Some(server);
        }
        Ok(())
    }

    fn show_logs(&mut self, screen: &Screen) {
        for slot in &mut self.slots {
            let Some(log) = &mut slot.log else { continue };
            let name = &slot.name;
            if let Err(error) = log.turn(|line| screen.line(&format!("{name} | {line}"))) {
                tracing::warn!(%error, name, "its log cannot be read");
                slot.log = None;
            }
        }
    }

    fn change(&mut self, index: usize, health: Health, screen: &Screen) {
        let slot = &mut self.slots[index];
        let Some(pid) = slot.server.as_ref().map(Server::pid) else {
            return;
        };
        let before = std::mem::replace(&mut slot.health, health.clone());
        if before == health {
            return;
        }
        let name = slot.name.clone();
        let quiet = self.start_limit.is_some();
        if matches!(before, Health::Active { .. }) {
            self.vacant_since = Some(self.last_turn);
        }
        match health {
            Health::Active { epoch } => {
                self.slots[index].failures = 0;
                let gap = self.vacant_since.take().map(|since| since.elapsed());
                if !quiet {
                    screen.active(&name, pid, epoch, gap);
                }
            }
            Health::Standby => {
                self.slots[index].failures = 0;
                if !quiet {
                    screen.standby(&name, pid, self.active_pid());
                }
            }
            Health::NotReady(reason) if !quiet => screen.not_ready(&name, pid, &reason),
            Health::Silent if !quiet => screen.silent(&name, pid),
            // What it says while everything starts is reported if it does not get over it.
            Health::NotReady(_) | Health::Silent | Health::Starting => {}
        }
    }

    fn active_pid(&self) -> Option<u32> {
        let active = |slot: &&Slot| matches!(slot.health, Health::Active { .. });
        self.slots
            .iter()
            .find(active)?
            .server
            .as_ref()
            .map(Server::pid)
    }

    /// Shows the first screen once all are ready.
    fn welcome(&mut self, directory: &Directory, screen: &Screen) -> Result<(), Error> {
        let Some(limit) = self.start_limit else {
            return Ok(());
        };
        let standbys = self
            .slots
            .iter()
            .filter(|slot| slot.health == Health::Standby)
            .count();
        if self.active_pid().is_none() || standbys + 1 != self.slots.len() {
            return if Instant::now() < limit {
                Ok(())
            } else {
                Err(self.not_ready())
            };
        }
        self.start_limit = None;
        let lines: Vec<_> = self.slots.iter().filter_map(Slot::line).collect();
        screen.welcome(&Welcome {
            program: &self.group.program,
            nats_url: &self.group.nats_url,
            nats_url_is_default: self.started.nats_url_is_default,
            cluster_id: &self.group.cluster_id,
            cluster_id_is_default: self.started.cluster_id_is_default,
            servers: &lines,
            token: &self.group.token.text,
            psql: &self.started.psql,
            database_url: &self.group.database_url,
            data: directory.root(),
            logs: &directory.logs(),
            ephemeral: directory.is_temporary(),
        });
        Ok(())
    }

    fn not_ready(&self) -> Error {
        let unready = |slot: &&Slot| !matches!(slot.health, Health::Active { .. });
        let slot = self.slots.iter().find(unready);
        match slot.and_then(|slot| Some((slot.server.as_ref()?, &slot.health))) {
            Some((server, Health::NotReady(reason))) => {
                server.failure(format!("was not ready in time: {reason}"))
            }
            Some((server, _)) => server.failure("was not ready in time"),
            None => Error::Refused(String::from("the servers were not ready in time")),
        }
    }

    pub(super) async fn stop(&mut self, patience: Duration) -> Result<(), Error> {
        let servers = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.server.as_mut());
        let stopped = join_all(servers.map(|server| server.stop(patience))).await;
        stopped.into_iter().collect()
    }
}

impl Slot {
    async fn ask(&self) -> Health {
        match &self.server {
            Some(server) => server.health().await,
            None => Health::Starting,
        }
    }

    fn line(&self) -> Option<ServerLine> {
        Some(ServerLine {
            number: self.number,
            pid: self.server.as_ref()?.pid(),
            http_port: self.http_port,
            active: matches!(self.health, Health::Active { .. }),
        })
    }
}
