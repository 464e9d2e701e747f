//! What a node hears from NATS while it is not active. Kept across candidacies that fail and terms that end: a
//! database that comes back after a few seconds finds the requests of that time still known. A broken connection to
//! NATS ends it, because of what was missed nobody knows.

use std::time::Duration;

use tokio::sync::watch;

use super::pace::Pace;
use super::shared::{Node, Setback};
use crate::clock::Clock;
use crate::core::Event;
use crate::core::active::EVENTS_PER_TURN;
use crate::core::shadow::Shadow;
use crate::core::time::Instant;
use crate::nats::Ingress;

/// For reading what waits when the lock is won. New requests come in meanwhile.
const HEAR_OUT_LIMIT: Duration = Duration::from_secs(2);

/// NATS must answer within this before a node may queue for the lock.
pub(super) const NATS_HEALTH_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Ears {
    pub(super) ingress: Ingress,
    pub(super) shadow: Shadow,
    connected: watch::Receiver<bool>,
    events: Vec<Event>,
}

impl Node {
    /// Listens as soon as there is a NATS to listen to.
    pub(super) async fn listen(&self) -> Result<Ears, Setback> {
        let mut connected = self.nats.connected();
        self.wait_for_nats(&mut connected).await?;
        let ingress =
            Ingress::subscribe(&self.nats, &self.config.subjects, &self.ack_tokens).await?;
        Ok(Ears {
            ingress,
            shadow: Shadow::new(self.config.shadow),
            connected,
            events: Vec::new(),
        })
    }

    /// Listens on after a term, with what it left behind; `None` when NATS is out of reach.
    pub(super) fn listen_on(
        &self,
        ingress: Ingress,
        left: impl Iterator<Item = (Instant, Event)>,
    ) -> Option<Ears> {
        let mut connected = self.nats.connected();
        let now = Clock.now().monotonic;
        let mut shadow = Shadow::new(self.config.shadow);
        shadow.inherit(left, now);
        let is_connected = *connected.borrow_and_update();
        is_connected.then_some(Ears {
            ingress,
            shadow,
            connected,
            events: Vec::new(),
        })
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

impl Ears {
    /// Remembers what comes until the work is done.
    pub(super) async fn during<T>(
        &mut self,
        node: &Node,
        work: impl Future<Output = T>,
    ) -> Result<T, Setback> {
        tokio::pin!(work);
        let mut pace = Pace::default();
        loop {
            pace.give_way().await;
            tokio::select! {
                biased;
                () = node.shutdown.cancelled() => return Err(Setback::Shutdown),
                // Out of the queue before the lock comes: an active without NATS serves nobody.
                _ = self.connected.changed() => return Err(Setback::NatsLost),
                done = &mut work => return Ok(done),
                received = self.ingress.recv(&mut self.events, EVENTS_PER_TURN) => {
                    received?;
                    self.remember(node);
                }
            }
        }
    }

    /// Hears the last requests, up to now. The last active may have carried out what still waits here unread; taken
    /// for new, it would be carried out a second time.
    pub(super) async fn hear_out(&mut self, node: &Node) -> Result<(), Setback> {
        // NATS' answer comes behind all of these, and not through a full queue.
        self.during(node, node.nats.flush(NATS_HEALTH_LIMIT))
            .await??;
        let until = Clock.now().monotonic + HEAR_OUT_LIMIT;
        loop {
            let more = self.ingress.recv_waiting(&mut self.events, EVENTS_PER_TURN);
            self.remember(node);
            if !more {
                return Ok(());
            }
            if Clock.now().monotonic >= until {
                tracing::warn!(
                    "requests come faster than they can be read; some may be carried out twice"
                );
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    fn remember(&mut self, node: &Node) {
        let now = Clock.now().monotonic;
        self.shadow.remember(self.events.drain(..), now);
        node.board
            .shadow(self.shadow.bytes(), self.shadow.take_crowded_out());
        node.board.nats(node.nats.counts());
    }
}
