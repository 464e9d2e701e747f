//! The standby: waits in Postgres' queue for the lock, while NATS is healthy, and keeps what clients ask
//! meanwhile. It answers nobody.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::batches::Batches;
use super::owner::{ensure_ours, ensure_same_cluster};
use super::presence::Presence;
use super::shared::{Node, RoleError};
use super::standby_listener::{NATS_HEALTH_LIMIT, StandbyListener};
use crate::clock::Clock;
use crate::core::standby::ANOTHER_SERVES_AFTER;
use crate::leadership::Candidate;
use crate::monitoring::condition::Condition;
use crate::store;

/// How often a standby looks whose the tables are, until it knows.
const OWNER_INTERVAL: Duration = Duration::from_millis(250);

/// How often a standby looks whether it has the keys of what is stored meanwhile.
const KEYS_INTERVAL: Duration = Duration::from_secs(2);

/// The lock, and what will commit on its session.
pub(super) struct LockGranted {
    pub(super) candidate: Candidate,
    pub(super) batches: Batches,
}

/// Announces this server while it waits for the lock.
struct Queued<'a>(&'a Presence);

impl<'a> Queued<'a> {
    fn begin(presence: &'a Presence) -> Self {
        presence.is_queued(true);
        Self(presence)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.is_queued(false);
    }
}

impl Node {
    pub(super) async fn check_nats(&self, listener: &mut StandbyListener) -> Result<(), RoleError> {
        listener
            .listen_during(self, self.nats.flush(NATS_HEALTH_LIMIT))
            .await??;
        let no_conflicts = self.presence.wait_for_conflicts_to_end();
        listener.listen_during(self, no_conflicts).await
    }

    /// Returns when the lock is granted.
    pub(super) async fn wait_for_lock(&self) -> Result<LockGranted, RoleError> {
        let mut candidate = Candidate::open(&self.leadership, &self.tasks).await?;
        // What a standby reads is of the Postgres on which it waits.
        self.store.fence(candidate.client(), None).await?;
        let batches =
            Batches::prepare(candidate.client(), &self.config, self.upload.clone()).await?;
        self.status.unable(None);
        tracing::info!("standby: waiting for the lock");
        let _queued = Queued::begin(&self.presence);
        let is_owned = {
            let mut granted = pin!(candidate.wait());
            let mut owned = pin!(self.wait_for_owner());
            let mut keys = pin!(self.watch_keys());
            let mut marks = pin!(self.watch_high_water_marks());
            let mut strangers = pin!(self.watch_for_strangers());
            let mut another_serves = pin!(sleep(ANOTHER_SERVES_AFTER));
            let mut another_is_known = false;
            let mut is_owned = false;
            loop {
                tokio::select! {
                    biased;
                    granted = &mut granted => {
                        if granted.is_err() {
                            self.history().lost_primary(Clock.now().monotonic);
                        }
                        granted?;
                        break is_owned;
                    }
                    owned = &mut owned, if !is_owned => {
                        owned?;
                        is_owned = true;
                    }
                    wrong = &mut keys => return Err(wrong),
                    never = &mut marks, if is_owned => match never {},
                    never = &mut strangers => match never {},
                    () = &mut another_serves, if !another_is_known => {
                        // What ended this server's own terms has not ended that one: it can take over again.
                        self.status.clear(Condition::TermsEnd);
                        another_is_known = true;
                    }
                }
            }
        };
        self.status.clear(Condition::LockHeldByStranger);
        if !is_owned {
            let stored = self.store.server_info_on(candidate.client()).await?;
            ensure_ours(stored, &self.config)?;
        }
        Ok(LockGranted { candidate, batches })
    }

    /// Returns when another server has begun to encrypt with a key that this one does not have: it could not take over.
    async fn watch_keys(&self) -> RoleError {
        let mut tick = interval(KEYS_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error @ store::Error::Key(_)) = self.store.check_keys().await {
                return error.into();
            }
        }
    }

    /// Returns once the tables are known to be this cluster's, and fails as soon as they are another's: servers of
    /// two clusters may have found them empty at the same time.
    async fn wait_for_owner(&self) -> Result<(), RoleError> {
        let mut tick = interval(OWNER_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match ensure_same_cluster(&self.store, &self.config).await {
                Ok(true) => return Ok(()),
                Err(failure) if failure.is_final() => return Err(failure),
                // That the database is away is noticed by the wait for the lock.
                Ok(false) | Err(_) => {}
            }
        }
    }
}
