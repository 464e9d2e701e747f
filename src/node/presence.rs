//! Tells the other servers of a cluster ID which tables this one serves from while it is active, and listens to them:
//! two groups with one cluster ID on different databases do not meet at a lock, and clients would get two answers.
//! What follows from announcements is in [`super::conflicting_actives`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::conflicting_actives::{KnownActives, describe_conflict};
use super::shared::RoleError;
use super::standby_peers::StandbyPeers;
use super::status_publisher::StatusPublisher;
use crate::clock::Clock;
use crate::config::Config;
use crate::core::commit_history::Sign;
use crate::core::database_identity::DatabaseIdentity;
use crate::core::ids::Epoch;
use crate::core::time::Instant;
use crate::leadership;
use crate::monitoring::condition::Condition;
use crate::monitoring::status::Role;
use crate::nats::wire::Message;
use crate::nats::{self, Connection, Inbox};
use crate::protocol::announcement::{Announcement, StandbyAnnouncement};

/// An active that is there answers a question within this.
const ANSWER_LIMIT: Duration = Duration::from_millis(250);

/// A standby looks for another NATS server at most so often.
const MOVES_APART: Duration = Duration::from_secs(30);

/// An active that has announced nothing for so many leases, and for so long, is out of reach.
const UNHEARD_LEASES: u32 = 3;
const UNHEARD_MIN: Duration = Duration::from_secs(5);

/// Questions that come closer together get one answer.
const ANSWERS_APART: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Presence {
    nats: Connection,
    subject: String,
    cluster_id: String,
    /// What all announcements of this process have in common.
    server_id: String,
    host: String,
    is_partitioned: bool,
    lease: Duration,
    /// As all servers of these tables know them.
    tables: String,
    peers: StandbyPeers,
    /// Since when this server waits for the lock, which somebody else holds.
    queued_since: Mutex<Option<Instant>>,
    status: StatusPublisher,
    observed: watch::Sender<Observed>,
    serving: watch::Sender<Option<Serving>>,
    /// The tables that this server may not serve from while somebody serves from others.
    refused: Mutex<Option<DatabaseIdentity>>,
}

#[derive(Debug)]
struct Observed {
    actives: KnownActives,
    /// When actives were last asked to announce themselves.
    asked_at: Instant,
    /// NATS said that no other server is there, when this one began to listen.
    nobody_listened: bool,
    /// When an active of these tables last announced itself.
    active_at: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Debug)]
struct Serving {
    identity: DatabaseIdentity,
    epoch: Epoch,
    since: Instant,
}

/// What a message turned out to be.
enum Heeded {
    Nothing,
    Question,
}

impl Presence {
    /// Listens from now on, until the node stops.
    pub(super) async fn start(
        nats: &Connection,
        config: &Config,
        leadership: &leadership::Settings,
        tables: String,
        status: &StatusPublisher,
        shutdown: &CancellationToken,
        tasks: &tokio_util::task::TaskTracker,
    ) -> Result<Arc<Self>, nats::Error> {
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
        let server_id = leadership.server_id.clone();
        let is_partitioned = config.partition.is_some();
        let observed = Observed {
            actives: KnownActives::new(server_id.clone(), is_partitioned),
            asked_at: Clock.now().monotonic,
            nobody_listened: false,
            active_at: None,
        };
        let presence = Arc::new(Self {
            nats: nats.clone(),
            subject: config.subjects.servers().to_string(),
            cluster_id: config.cluster_id.clone(),
            server_id,
            host: host.unwrap_or_default(),
            is_partitioned,
            lease: leadership.lease.duration(),
            tables,
            peers: StandbyPeers::new(leadership.lease.duration()),
            queued_since: Mutex::default(),
            status: status.clone(),
            observed: watch::Sender::new(observed),
            serving: watch::Sender::new(None),
            refused: Mutex::new(None),
        });
        let mut inbox = nats.inbox();
        let reply = nats.new_subject();
        let alone = inbox.subscribe(&reply)?;
        // Before this server listens there itself, so that NATS can tell when nobody does.
        nats.publish(&presence.subject, Some(&reply), b"").await?;
        inbox.subscribe(&presence.subject)?;
        presence.ask().await?;
        tasks.spawn(Arc::clone(&presence).run(inbox, alone, shutdown.clone()));
        Ok(presence)
    }

    /// A term has begun. It is announced until it ends.
    pub(super) fn serves(&self, identity: DatabaseIdentity, epoch: Epoch) {
        self.serving.send_replace(Some(Serving {
            identity,
            epoch,
            since: Clock.now().monotonic,
        }));
    }

    /// Waits for the lock from now on, or not any more.
    pub(super) fn is_queued(&self, queued: bool) {
        let now = Clock.now().monotonic;
        *lock(&self.queued_since) = queued.then_some(now);
        if queued {
            // Not only after a while.
            self.serving.send_modify(|_| {});
        } else {
            self.status.clear(Condition::ActiveUnheard);
        }
    }

    /// A standby of these tables listens at another NATS server than this one.
    pub(super) fn is_received_elsewhere(&self, nats_server: &str) -> bool {
        self.peers.is_elsewhere(nats_server, Clock.monotonic())
    }

    /// See [`KnownActives::last_peer`].
    pub(super) fn last_peer(&self, here: &DatabaseIdentity) -> Option<Sign> {
        self.observed.borrow().actives.last_peer(here)
    }

    /// See [`KnownActives::last_peer_on`].
    pub(super) fn last_peer_here(&self) -> Option<Sign> {
        self.observed.borrow().actives.last_peer_on(&self.tables)
    }

    /// Fails with the reason when another server serves the cluster ID from other tables. Takes no time for a server
    /// that follows an active of its own tables, or where nobody else is; otherwise that of a question.
    pub(super) async fn ensure_no_conflict(
        &self,
        here: &DatabaseIdentity,
    ) -> Result<(), RoleError> {
        let now = Clock.now().monotonic;
        let (follows, suspects, asked_at) = {
            let Observed {
                actives, asked_at, ..
            } = &*self.observed.borrow();
            let suspects = actives.suspect(here, now).is_some();
            (actives.follows(here, now), suspects, *asked_at)
        };
        if follows {
            return Ok(());
        }
        let asked_at = if suspects {
            // What was received may have been the last of it.
            self.ask().await?
        } else {
            asked_at
        };
        let rest = ANSWER_LIMIT.saturating_sub(Clock.now().monotonic.since(asked_at));
        let mut observed = self.observed.subscribe();
        let answered = observed.wait_for(|observed| {
            let now = Clock.now().monotonic;
            let is_alone = observed.nobody_listened && !suspects;
            is_alone || observed.actives.in_the_way(here, asked_at, now).is_some()
        });
        let Ok(Ok(observed)) = timeout(rest, answered).await else {
            return Ok(());
        };
        let now = Clock.now().monotonic;
        let Some(conflicting) = observed.actives.in_the_way(here, asked_at, now) else {
            return Ok(());
        };
        *self.refused() = Some(here.clone());
        Err(RoleError::ConflictingActive(describe_conflict(
            conflicting,
            &self.cluster_id,
            here,
        )))
    }

    /// Waits while another server announces itself that this one has had to give way to.
    pub(super) async fn wait_for_conflicts_to_end(&self) {
        let Some(here) = self.refused().clone() else {
            return;
        };
        loop {
            let now = Clock.now().monotonic;
            if self.observed.borrow().actives.present(&here, now).is_none() {
                *self.refused() = None;
                return;
            }
            if let Err(error) = self.ask().await {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "actives cannot be asked whether they are there");
            }
            sleep(ANSWER_LIMIT).await;
        }
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, Option<DatabaseIdentity>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks actives to announce themselves at once; says when they were asked.
    async fn ask(&self) -> Result<Instant, nats::Error> {
        let asked_at = Clock.now().monotonic;
        self.observed.send_if_modified(|observed| {
            observed.asked_at = asked_at;
            false
        });
        self.nats.publish(&self.subject, None, b"").await?;
        Ok(asked_at)
    }

    async fn run(self: Arc<Self>, mut inbox: Inbox, alone: u64, shutdown: CancellationToken) {
        let interval = KnownActives::interval(self.lease);
        let mut serving = self.serving.subscribe();
        let mut connected = self.nats.connected();
        let mut nats_server = self.nats.server_ids();
        let mut moved_at = None;
        let mut announced_at = Instant::default();
        let mut next = Clock.now().monotonic + interval;
        let mut reported = None;
        loop {
            let pause = next.since(Clock.now().monotonic);
            let announced = tokio::select! {
                () = shutdown.cancelled() => return,
                message = inbox.next() => {
                    let Ok(message) = message else { return };
                    self.keep_apart(&message, &mut moved_at);
                    if let Heeded::Question = self.heed(&message, alone) {
                        next = next.min(announced_at + ANSWERS_APART);
                    }
                    Ok(())
                }
                Ok(()) = serving.changed() => {
                    next = Clock.now().monotonic;
                    Ok(())
                }
                // An active that loses its NATS server decides by where the standbys are.
                Ok(()) = nats_server.changed() => {
                    next = Clock.now().monotonic;
                    Ok(())
                }
                // What was said meanwhile has been missed.
                changed = connected.changed() => match changed {
                    Ok(()) if *connected.borrow_and_update() => self.ask().await.map(drop),
                    Ok(()) => Ok(()),
                    Err(_) => return,
                },
                () = sleep(pause) => {
                    announced_at = Clock.now().monotonic;
                    next = announced_at + interval;
                    let serving = serving.borrow_and_update().clone();
                    self.observed.send_modify(|observed| observed.actives.forget_silent(announced_at));
                    self.announce(serving).await
                }
            };
            if let Err(error) = announced {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "cannot announce this server to the others");
            }
            self.report_conflicts(&mut reported);
            self.listen_for_active();
        }
    }

    fn heed(&self, message: &Message, alone: u64) -> Heeded {
        if message.sid() == alone {
            self.observed.send_if_modified(|observed| {
                observed.nobody_listened |= message.is_no_responders();
                true
            });
            return Heeded::Nothing;
        }
        if message.payload().is_empty() {
            return Heeded::Question;
        }
        if let Some(announcement) = Announcement::decode(message.payload()) {
            let now = Clock.now().monotonic;
            self.observed.send_modify(|observed| {
                if announcement.identity.tables() == self.tables
                    && announcement.server_id != self.server_id
                {
                    observed.active_at = Some(now);
                }
                observed.actives.observe(announcement, now);
            });
        } else if let Some(standby) = StandbyAnnouncement::decode(message.payload())
            && standby.tables == self.tables
            && standby.server_id != self.server_id
            && self.peers.observe(&standby, Clock.monotonic())
        {
            let is_elsewhere = standby.nats_server != self.nats.server_id();
            tracing::info!(
                server.id = standby.server_id,
                is_elsewhere,
                "a standby listens to NATS; at another NATS server it receives what this one misses when its own fails"
            );
        }
        Heeded::Nothing
    }

    /// A standby leaves the NATS server that the active is connected to: one that fails should not take both along.
    fn keep_apart(&self, message: &Message, moved_at: &mut Option<Instant>) {
        let Some(active) = Announcement::decode(message.payload()) else {
            return;
        };
        let now = Clock.now().monotonic;
        let is_standby = lock(&self.queued_since).is_some();
        let is_together = !active.nats_server.is_empty()
            && active.nats_server == self.nats.server_id()
            && active.server_id != self.server_id
            && active.identity.tables() == self.tables;
        let is_time = moved_at.is_none_or(|at| now.since(at) > MOVES_APART);
        if is_standby && is_together && is_time {
            *moved_at = Some(now);
            self.nats.prefer_another_than(&active.nats_server);
        }
    }

    /// Says so when the active should announce itself and does not.
    fn listen_for_active(&self) {
        let Some(queued_since) = *lock(&self.queued_since) else {
            return;
        };
        let now = Clock.now().monotonic;
        let received_at = self.observed.borrow().active_at.unwrap_or(queued_since);
        let silence = now.since(received_at.max(queued_since));
        if silence > (self.lease * UNHEARD_LEASES).max(UNHEARD_MIN) {
            self.status.raise(
                Condition::ActiveUnheard,
                "another server holds the lock, and NATS does not bring what it says: its clients and those of this \
                 server may not reach each other; look at the routes of the NATS cluster, leafnodes, and imports of \
                 the account",
            );
        } else if received_at > queued_since {
            self.status.clear(Condition::ActiveUnheard);
        }
    }

    /// The term, if it is trusted at this moment.
    fn trusted(&self, serving: Option<Serving>) -> Option<Serving> {
        let status = self.status.watch();
        let status = status.borrow();
        let is_active = status.role_at(Clock.now().monotonic) == Role::Active;
        serving.filter(|serving| is_active && status.epoch == Some(serving.epoch))
    }

    async fn announce(&self, serving: Option<Serving>) -> Result<(), nats::Error> {
        let Some(serving) = self.trusted(serving) else {
            return self.announce_standby().await;
        };
        let announcement = Announcement {
            server_id: self.server_id.clone(),
            host: self.host.clone(),
            is_partitioned: self.is_partitioned,
            epoch: serving.epoch,
            lease: self.lease,
            identity: serving.identity,
            nats_server: self.nats.server_id(),
        };
        let payload = announcement.encode();
        self.nats.publish(&self.subject, None, &payload).await
    }

    async fn announce_standby(&self) -> Result<(), nats::Error> {
        if lock(&self.queued_since).is_none() {
            return Ok(());
        }
        let announcement = StandbyAnnouncement {
            server_id: self.server_id.clone(),
            tables: self.tables.clone(),
            nats_server: self.nats.server_id(),
        };
        let payload = announcement.encode();
        self.nats.publish(&self.subject, None, &payload).await
    }

    /// Raises and clears the condition of conflicting actives.
    fn report_conflicts(&self, reported: &mut Option<String>) {
        let serving = self.trusted(self.serving.borrow().clone());
        let (count, found) = {
            let observed = self.observed.borrow();
            let now = Clock.now().monotonic;
            let here = serving.as_ref();
            let mut lasting = here.into_iter().flat_map(|serving| {
                observed
                    .actives
                    .lasting(&serving.identity, serving.since, now)
            });
            let first = lasting.next().zip(here);
            let found = first.map(|(conflicting, serving)| {
                let text = describe_conflict(conflicting, &self.cluster_id, &serving.identity);
                (conflicting.server_id.clone(), text)
            });
            (u64::from(found.is_some()) + lasting.count() as u64, found)
        };
        self.status.conflicting_actives(count);
        let Some((server_id, text)) = found else {
            reported.take();
            self.status.clear(Condition::ConflictingActives);
            return;
        };
        if reported.as_ref() != Some(&server_id) {
            let text = format!("two servers are active: {text}");
            self.status.raise(Condition::ConflictingActives, text);
            *reported = Some(server_id);
        }
    }
}
