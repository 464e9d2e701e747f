//! The standby: waits in Postgres' queue for the lock, while NATS is healthy, and remembers what clients ask
//! meanwhile. It answers nobody.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::clock::Clock;
use super::shared::{Node, Setback};
use super::takeover::ensure_same_cluster;
use crate::core::Event;
use crate::leadership::Candidate;
use crate::nats::{Ingress, Shadow};

/// Requests taken from NATS in one go.
const EVENTS_PER_TURN: usize = 1024;

/// Beyond the time that it takes to notice the end of an active: for the takeover itself.
const SHADOW_MARGIN: Duration = Duration::from_secs(1);

/// For reading what waits when the lock is won. New requests come in meanwhile.
const HEAR_OUT_LIMIT: Duration = Duration::from_secs(2);

const SHADOW_BYTES: usize = 64 << 20;

/// NATS must answer within this before a node may queue for the lock.
const NATS_HEALTH_LIMIT: Duration = Duration::from_secs(1);

/// How often a standby looks whose the tables are, until it knows.
const OWNER_INTERVAL: Duration = Duration::from_millis(250);

/// The lock, and what happened before it was won.
#[derive(Debug)]
pub(super) struct Won {
    pub(super) candidate: Candidate,
    /// Goes on where the shadow ends.
    pub(super) ingress: Ingress,
    pub(super) shadow: Shadow,
}

impl Node {
    pub(super) async fn stand_by(&self) -> Result<Won, Setback> {
        let mut connected = self.nats.connected();
        self.wait_for_nats(&mut connected).await?;
        let mut ingress = Ingress::subscribe(&self.nats, &self.config.subjects).await?;
        self.nats.flush(NATS_HEALTH_LIMIT).await?;
        let mut candidate = Candidate::open(&self.leadership, &self.tasks).await?;
        self.board.trouble(None);
        tracing::info!("standby: waiting for the lock");

        let mut shadow = Shadow::new(
            self.leadership.lease.duration() * 2 + SHADOW_MARGIN,
            SHADOW_BYTES,
        );
        let mut events = Vec::new();
        {
            let mut granted = pin!(candidate.wait());
            let mut owned = pin!(self.wait_for_owner());
            let mut is_owned = false;
            loop {
                tokio::select! {
                    biased;
                    () = self.shutdown.cancelled() => return Err(Setback::Shutdown),
                    // Out of the queue before the lock comes: an active without NATS serves nobody.
                    _ = connected.wait_for(|connected| !connected) => return Err(Setback::NatsLost),
                    granted = &mut granted => {
                        granted?;
                        if !is_owned {
                            ensure_same_cluster(&self.store, &self.config).await?;
                        }
                        break;
                    }
                    owned = &mut owned, if !is_owned => {
                        owned?;
                        is_owned = true;
                    }
                    received = ingress.recv(&mut events, EVENTS_PER_TURN) => {
                        received?;
                        shadow.remember(events.drain(..), Clock.now().monotonic);
                        self.board.nats(self.nats.counts());
                    }
                }
            }
        }
        Ok(Won {
            candidate,
            ingress,
            shadow,
        })
    }

    /// The last requests, up to now, in the order they came. The last active may have carried out what still waits
    /// here unread; taken for new, it would be carried out a second time.
    pub(super) async fn hear_out(
        &self,
        ingress: &mut Ingress,
        mut shadow: Shadow,
    ) -> Result<Vec<Event>, Setback> {
        let mut events = Vec::new();
        {
            let mut flushed = pin!(self.nats.flush(NATS_HEALTH_LIMIT));
            loop {
                tokio::select! {
                    biased;
                    flushed = &mut flushed => {
                        flushed?;
                        break;
                    }
                    // NATS' answer comes behind all of these, and not through a full queue.
                    received = ingress.recv(&mut events, EVENTS_PER_TURN) => {
                        received?;
                        shadow.remember(events.drain(..), Clock.now().monotonic);
                    }
                }
            }
        }
        let until = Clock.now().monotonic + HEAR_OUT_LIMIT;
        loop {
            let more = ingress.recv_waiting(&mut events, EVENTS_PER_TURN);
            let now = Clock.now().monotonic;
            shadow.remember(events.drain(..), now);
            if !more {
                break;
            }
            if now >= until {
                tracing::warn!(
                    "requests come faster than they can be read; some may be carried out twice"
                );
                break;
            }
            tokio::task::yield_now().await;
        }
        self.board.shadow_crowded_out(shadow.crowded_out());
        Ok(shadow.take(Clock.now().monotonic))
    }

    /// Returns once the tables are known to be this cluster's, and fails as soon as they are another's: servers of
    /// two clusters may have found them empty at the same time.
    async fn wait_for_owner(&self) -> Result<(), Setback> {
        let mut tick = interval(OWNER_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match ensure_same_cluster(&self.store, &self.config).await {
                Ok(true) => return Ok(()),
                Err(setback) if setback.is_final() => return Err(setback),
                // Whoever waits for the lock notices that the database is away.
                Ok(false) | Err(_) => {}
            }
        }
    }

    async fn wait_for_nats(&self, connected: &mut watch::Receiver<bool>) -> Result<(), Setback> {
        if !*connected.borrow_and_update() {
            self.board.trouble(Some(Setback::NatsLost.to_string()));
            tracing::warn!("standby: waiting for NATS before queueing for the lock");
        }
        tokio::select! {
            () = self.shutdown.cancelled() => Err(Setback::Shutdown),
            connected = connected.wait_for(|&connected| connected) => match connected {
                Ok(_) => Ok(()),
                Err(_) => Err(Setback::NatsLost),
            },
        }
    }
}
