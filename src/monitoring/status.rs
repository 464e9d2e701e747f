//! What a node says about itself: published by the role loop on a `tokio::sync::watch`, read by `http`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::condition::Conditions;
use super::histogram::Histogram;
use super::liveness::Liveness;
use crate::core::counts::Counts;
use crate::core::ids::Epoch;
use crate::core::limits::Limits;
use crate::core::time::{Instant, Timestamp};
use crate::nats::counters;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Connecting, migrating, or waiting for the lock.
    Standby,
    /// Holds the lock and serves clients.
    Active,
}

/// Where the pages of the NATS server are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatsPages {
    /// On a port of its own, if at all: this server does not run it.
    Elsewhere,
    /// It is being started, for the first time or again.
    NotYet,
    /// The nats-server that this server runs answers here.
    At(SocketAddr),
}

#[derive(Clone, Debug)]
pub struct Status {
    pub role: Role,
    pub cluster_id: String,
    /// Unique per process.
    pub server_id: String,
    pub started_at: Timestamp,
    /// The epoch of this node's term, while active.
    pub epoch: Option<Epoch>,
    pub active_since: Option<Timestamp>,
    /// While active: this term has stored something, or has lasted for a lease.
    pub has_served: bool,
    /// While active: until when the node may believe that it is.
    pub trusted_until: Option<Instant>,
    /// How often Postgres proved the lock later than half a lease, since the process started.
    pub late_renewals: u64,
    pub counts: Counts,
    /// Batches committed since the process started.
    pub commits: u64,
    /// From a batch's leaving to its being in the tables, since the process started.
    pub commit_seconds: Histogram,
    pub batch_messages: Histogram,
    /// Terms of this process.
    pub takeovers: u64,
    /// From the lock to being ready to serve, of the last of them.
    pub takeover_time: Duration,
    /// From the last sign of the active before to the first answer, of the last of them; `None` where none was received.
    pub takeover_silence: Option<Duration>,
    /// Requests that were received as a standby and answered by the last of them, because nobody had.
    pub takeover_from_memory: u64,
    /// As configured.
    pub limits: Arc<Limits>,
    /// What went wrong between the node and NATS, since the process started.
    pub nats: counters::Counts,
    pub nats_pages: NatsPages,
    /// How often it was started, since the process started.
    pub nats_server_starts: u64,
    /// How often it has ended by itself, since the process started.
    pub nats_server_ends: u64,
    pub failovers: Failovers,
    /// What the kept requests cost; 0 while active.
    pub shadow_bytes: usize,
    /// Requests that a standby had to forget for want of room, since the process started.
    pub shadow_crowded_out: u64,
    /// Others that serve the same cluster ID from other tables, while this node is active.
    pub conflicting_actives: u64,
    /// Why the node can neither serve nor take over, when it cannot: it has only just started, or
    /// database or NATS are out of reach.
    pub unable_reason: Option<String>,
    /// What else is wrong.
    pub conditions: Conditions,
    /// Requests and other writes that Postgres refused to store, since the process started.
    pub writes_refused: u64,
    /// Log lines that could not be written, since the process started.
    pub log_dropped: u64,
    /// Connections for reading that led elsewhere than to the primary, and were not used, since the process started.
    pub reads_astray: u64,
    /// Reads that failed, since the process started.
    pub reads_failed: u64,
    /// How long the transaction is under way that keeps Postgres from cleaning up, as the active saw it last.
    pub oldest_snapshot_seconds: u64,
    /// Whether the server makes progress at all: all of the above may be old.
    pub liveness: Liveness,
}

/// Messages that failovers of Postgres had lost, since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failovers {
    /// Stored again.
    pub restored: u64,
    pub lost: u64,
    /// Sequences that may have been those of acked messages.
    pub unknown: u64,
}

impl Status {
    /// Why the server neither serves nor could take over, or should not; `None` when it is ready.
    pub fn not_ready_reason(&self) -> Option<&str> {
        let unable_reason = self.unable_reason.as_deref();
        let serves = self.role == Role::Active && self.has_served;
        unable_reason.or_else(|| self.conditions.not_ready_reason(serves))
    }

    /// The role at the moment of the question. What the role loop wrote last is not enough: a process that was
    /// frozen wakes up with a status that says "active" while another node is.
    pub fn role_at(&self, now: Instant) -> Role {
        match self.role {
            Role::Active if self.trusted_until.is_some_and(|until| now < until) => Role::Active,
            Role::Active | Role::Standby => Role::Standby,
        }
    }
}
