//! From the configuration to what a node works with: the database, NATS and the other groups. What passes by itself is
//! waited for, with the reason on `/readyz`; what somebody has to change first ends the start.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::carry_over::CarryOver;
use super::log_throttle::LogThrottle;
use super::nats_settings::nats_settings_of_server;
use super::owner::{ensure_same_cluster, subjects_of};
use super::partition_peers::PartitionPeers;
use super::presence::Presence;
use super::run::STATEMENT_TIMEOUT;
use super::shared::RoleError;
use super::status_publisher::StatusPublisher;
use crate::clock::Clock;
use crate::config::Config;
use crate::core::attempts::Backoff;
use crate::leadership::{self, checks};
use crate::monitoring::condition::Condition;
use crate::monitoring::reports::Reports;
use crate::nats::Connection;
use crate::printable::with_causes;
use crate::protocol::Subjects;
use crate::protocol::partition_peers::Sender;
use crate::store::{Keyring, Store};

/// Longest pause between two attempts. Each takes some connections, and what is waited for may be that one is free.
const PAUSE_MAX: Duration = Duration::from_secs(1);

pub(super) struct Start<'a> {
    pub(super) leadership: &'a leadership::Settings,
    pub(super) status: &'a StatusPublisher,
    pub(super) tasks: &'a TaskTracker,
    pub(super) shutdown: &'a CancellationToken,
}

pub(super) struct Started {
    pub(super) store: Store,
    pub(super) ack_secret: Vec<u8>,
    pub(super) nats: Connection,
    pub(super) presence: Arc<Presence>,
    /// Asked, and found not to contradict.
    pub(super) partition_peers: Option<PartitionPeers>,
}

impl Start<'_> {
    /// Adds the subjects that clients were given to `config`. Reports are answered from the tables as soon as there are any.
    pub(super) async fn prepare(
        &self,
        config: &mut Config,
        reports: &Reports,
    ) -> Result<Started, RoleError> {
        let (store, ack_secret, subjects) = self.when_it_works(|| self.database(config)).await?;
        config.subjects = subjects;
        let config: &Config = config;
        reports.read_from(store.clone(), config.settings(), self.tasks, self.shutdown);
        let (nats, presence, partition_peers) = self.when_it_works(|| self.nats(config)).await?;
        Ok(Started {
            store,
            ack_secret,
            nats,
            presence,
            partition_peers,
        })
    }

    async fn database(&self, config: &Config) -> Result<(Store, Vec<u8>, Subjects), RoleError> {
        let facts = checks::check(self.leadership, self.tasks).await?;
        let store = Store::open(
            &config.database_url,
            &config.schema,
            &self.leadership.application_name(),
            STATEMENT_TIMEOUT,
        )
        .with_keys(Keyring::new(&config.encryption, &config.cluster_id))
        .known_direct();
        let opened = self.tables(config, &store).await;
        if let Err(failure) = &opened
            && !failure.ends_a_start()
            && let Ok(Some(holder)) = store.takeover_holder().await
        {
            let why = holder.keeps_takeovers_out();
            self.status.raise(Condition::TakeoverBlocked, why);
        }
        let (ack_secret, subjects) = opened?;
        tracing::info!(
            postgres.version = facts.version,
            durability = facts.durability.to_string(),
            schema = config.schema,
            "database is ready"
        );
        Ok((store, ack_secret, subjects))
    }

    async fn tables(
        &self,
        config: &Config,
        store: &Store,
    ) -> Result<(Vec<u8>, Subjects), RoleError> {
        store.migrate().await?;
        store.check_rights().await?;
        let carry_over = CarryOver {
            store,
            config,
            status: self.status,
        };
        Box::pin(carry_over.run()).await?;
        let mut config = config.clone();
        config.subjects = subjects_of(store, &config).await?;
        ensure_same_cluster(store, &config).await?;
        store.check_keys().await?;
        Ok((store.ack_secret().await?, config.subjects))
    }

    async fn nats(
        &self,
        config: &Config,
    ) -> Result<(Connection, Arc<Presence>, Option<PartitionPeers>), RoleError> {
        let (leadership, status) = (self.leadership, self.status);
        let name = format!("stanby-{}-{}", config.cluster_id, leadership.server_id);
        let settings = nats_settings_of_server(&config.nats, name, config.lease.duration());
        let nats = Connection::open(&settings, self.tasks).await?;
        let identity = leadership::read_identity(leadership, self.tasks).await?;
        let partition_peers = match &config.partition {
            None => None,
            Some(partition) => {
                let me = this_group(config, leadership, self.tasks).await?;
                let subject = config.subjects.partition_peers();
                let listening = PartitionPeers::listen(&nats, subject, me, partition.clone()).await;
                let mut partition_peers = listening?;
                if let Some(conflict) = partition_peers.ask().await? {
                    return Err(RoleError::Settings(conflict.to_string()));
                }
                Some(partition_peers)
            }
        };
        // Last: it goes on by itself.
        let presence = Presence::start(
            &nats,
            config,
            leadership,
            identity.tables(),
            status,
            self.shutdown,
            self.tasks,
        )
        .await?;
        Ok((nats, presence, partition_peers))
    }

    async fn when_it_works<T>(
        &self,
        attempt: impl AsyncFn() -> Result<T, RoleError>,
    ) -> Result<T, RoleError> {
        let mut backoff = Backoff::up_to(PAUSE_MAX);
        let mut throttle = LogThrottle::default();
        loop {
            let failure = tokio::select! {
                () = self.shutdown.cancelled() => return Err(RoleError::Shutdown),
                done = attempt() => match done {
                    Err(failure) if !failure.ends_a_start() => failure,
                    done => return done,
                },
            };
            let text = with_causes(&failure);
            if throttle.should_log(&text, Clock.now().monotonic) {
                tracing::warn!("cannot start yet, trying again: {text}");
            }
            self.status.unable(Some(format!("it is starting: {text}")));
            tokio::select! {
                () = self.shutdown.cancelled() => return Err(RoleError::Shutdown),
                () = sleep(backoff.next_pause()) => {}
            }
        }
    }
}

/// As announced to other groups with the same cluster ID.
pub(super) async fn this_group(
    config: &Config,
    leadership: &leadership::Settings,
    tasks: &TaskTracker,
) -> Result<Sender, leadership::Error> {
    let identity = leadership::read_identity(leadership, tasks).await?;
    let name = config.ft_group.as_ref().unwrap_or(&config.schema);
    Ok(Sender {
        server_id: leadership.server_id.clone(),
        tables: identity.tables(),
        group: name.clone(),
    })
}
