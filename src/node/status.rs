//! What a node says about itself: published by the role loop on a `tokio::sync::watch`, read by `http`.

use crate::core::broker::Counts;
use crate::core::ids::Epoch;
use crate::core::time::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Connecting, migrating, or waiting for the lock.
    Standby,
    /// Holds the lock and serves clients.
    Active,
}

#[derive(Clone, Debug)]
pub struct Status {
    pub role: Role,
    pub cluster_id: String,
    /// Unique per process.
    pub server_id: String,
    pub started_at: Timestamp,
    /// Of this node's term, while active.
    pub epoch: Option<Epoch>,
    pub active_since: Option<Timestamp>,
    pub counts: Counts,
    /// Why the node can neither serve nor take over, when it cannot: database or NATS out of reach.
    pub trouble: Option<String>,
}
