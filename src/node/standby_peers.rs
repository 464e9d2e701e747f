//! The standbys of the same tables whose announcements arrive over NATS, and the NATS servers that they listen at.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::core::time::Instant;
use crate::protocol::announcement::StandbyAnnouncement;

/// A standby that has announced nothing for so many leases is none.
const SEEN_LEASES: u32 = 3;

/// Standbys that are kept in memory.
const PEERS_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct StandbyPeers {
    seen_within: Duration,
    /// By server ID: the NATS server, and when the standby last announced itself.
    peers: Mutex<BTreeMap<String, (String, Instant)>>,
}

impl StandbyPeers {
    pub(super) fn new(lease: Duration) -> Self {
        Self {
            seen_within: lease * SEEN_LEASES,
            peers: Mutex::default(),
        }
    }

    /// One of them listens at another NATS server than this one.
    pub(super) fn is_elsewhere(&self, nats_server: &str, now: Instant) -> bool {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut peers = peers.values();
        peers.any(|(server, received_at)| {
            server != nats_server && now.since(*received_at) < self.seen_within
        })
    }

    /// True when the standby is new, or has gone to another NATS server.
    pub(super) fn observe(&self, standby: &StandbyAnnouncement, now: Instant) -> bool {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|_, (_, received_at)| now.since(*received_at) < self.seen_within);
        if peers.len() >= PEERS_MAX && !peers.contains_key(&standby.server_id) {
            return false;
        }
        let observed = (standby.nats_server.clone(), now);
        let before = peers.insert(standby.server_id.clone(), observed);
        before.is_none_or(|(nats_server, _)| nats_server != standby.nats_server)
    }
}
