//! What a node receives from NATS while it is not active. Carries out what [`Standby`] asks for as far as it is about NATS, and
//! hands it what comes.

use std::time::Duration;

use tokio::sync::watch;

use super::pace::Pace;
use super::shared::{Node, RoleError};
use crate::clock::Clock;
use crate::core::Event;
use crate::core::active::EVENTS_PER_TURN;
use crate::core::standby::Standby;
use crate::core::time::Instant;
use crate::nats::{self, Ingress};

/// For reading what waits when the lock is granted. New requests come in meanwhile.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// NATS must answer within this before a node may queue for the lock.
pub(super) const NATS_HEALTH_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct StandbyListener {
    pub(super) standby: Standby,
    /// `None` while it does not listen.
    ingress: Option<Ingress>,
    connected: watch::Receiver<bool>,
    events: Vec<Event>,
    /// When this server had the lock and its takeover failed, the first time since another has served.
    pub(super) lock_free_since: Option<Instant>,
}

impl StandbyListener {
    pub(super) fn new(node: &Node) -> Self {
        let lease = node.leadership.lease.duration();
        Self {
            standby: Standby::new(lease, node.config.shadow),
            ingress: None,
            connected: node.nats.connected(),
            events: Vec::new(),
            lock_free_since: None,
        }
    }

    /// Listens as soon as there is a NATS to listen to.
    pub(super) async fn listen(&mut self, node: &Node) -> Result<(), RoleError> {
        self.ingress = None;
        self.events.clear();
        self.wait_for_nats(node).await?;
        let subjects = &node.config.subjects;
        let ingress = Ingress::subscribe(&node.nats, subjects, &node.ack_tokens).await?;
        self.ingress = Some(ingress);
        Ok(())
    }

    async fn wait_for_nats(&mut self, node: &Node) -> Result<(), RoleError> {
        if !*self.connected.borrow_and_update() {
            node.status.unable(Some(RoleError::NatsLost.to_string()));
            tracing::warn!("standby: waiting for NATS before queueing for the lock");
        }
        tokio::select! {
            () = node.shutdown.cancelled() => Err(RoleError::Shutdown),
            connected = self.connected.wait_for(|&connected| connected) => match connected {
                Ok(_) => Ok(()),
                Err(_) => Err(RoleError::NatsLost),
            },
        }
    }

    /// What the active reads from; it is given back where it is still listened to when the term ends.
    pub(super) fn take_ingress(&mut self) -> Result<Ingress, RoleError> {
        self.ingress.take().ok_or(RoleError::NatsLost)
    }

    /// A term has ended. True where everything is received that clients ask for, from the term on.
    pub(super) fn listen_on(&mut self, ingress: Option<Ingress>) -> bool {
        let is_connected = *self.connected.borrow_and_update();
        self.ingress = ingress.filter(|_| is_connected);
        self.ingress.is_some()
    }

    pub(super) fn listen_for_acks_on<'a>(
        &mut self,
        inboxes: impl Iterator<Item = &'a str>,
    ) -> Result<(), nats::Error> {
        match &mut self.ingress {
            Some(ingress) => ingress.listen_for_acks_on(inboxes),
            None => Ok(()),
        }
    }

    /// Keeps what comes until the work is done.
    pub(super) async fn listen_during<T>(
        &mut self,
        node: &Node,
        work: impl Future<Output = T>,
    ) -> Result<T, RoleError> {
        tokio::pin!(work);
        let mut pace = Pace::default();
        loop {
            pace.give_way().await;
            tokio::select! {
                biased;
                () = node.shutdown.cancelled() => return Err(RoleError::Shutdown),
                // Out of the queue before the lock comes: an active without NATS serves nobody.
                _ = self.connected.changed(), if self.ingress.is_some() => return Err(RoleError::NatsLost),
                done = &mut work => return Ok(done),
                received = receive(self.ingress.as_mut(), &mut self.events) => {
                    received?;
                    self.keep(node);
                }
            }
        }
    }

    /// Receives the last requests, up to now. The last active may have carried out what still waits here unread; taken
    /// for new, it would be carried out a second time.
    pub(super) async fn drain(&mut self, node: &Node) -> Result<(), RoleError> {
        // NATS' answer comes behind all of these, and not through a full queue.
        self.listen_during(node, node.nats.flush(NATS_HEALTH_LIMIT))
            .await??;
        let until = Clock.now().monotonic + DRAIN_LIMIT;
        loop {
            let ingress = self.ingress.as_mut();
            let more = ingress.is_some_and(|it| it.recv_waiting(&mut self.events, EVENTS_PER_TURN));
            self.keep(node);
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

    fn keep(&mut self, node: &Node) {
        let now = Clock.now().monotonic;
        self.standby.receive(self.events.drain(..), now);
        let shadow = self.standby.shadow_mut();
        let crowded_out = shadow.take_crowded_out();
        node.status.shadow(shadow.bytes(), crowded_out);
        node.status.nats(node.nats.counts());
    }
}

/// Up to a turn's events; waits for ever where nothing is listened to.
async fn receive(
    ingress: Option<&mut Ingress>,
    events: &mut Vec<Event>,
) -> Result<(), nats::Error> {
    match ingress {
        Some(ingress) => ingress.recv(events, EVENTS_PER_TURN).await.map(drop),
        None => std::future::pending().await,
    }
}
