//! Where a node publishes what it says about itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::core::batch::{LostRange, RangeOutcome};
use crate::core::counts::Counts;
use crate::core::limits::Limits;
use crate::leadership::Term;
use crate::monitoring::condition::{Condition, Conditions, Effect};
use crate::monitoring::histogram::{BATCH_MESSAGES, COMMIT_SECONDS, Histogram};
use crate::monitoring::liveness::Liveness;
use crate::monitoring::status::{Failovers, NatsPages, Role, Status};
use crate::nats;
use crate::printable;

/// Cheap to clone; all clones write the same status.
#[derive(Clone, Debug)]
pub(super) struct StatusPublisher {
    status: Arc<watch::Sender<Status>>,
}

impl StatusPublisher {
    pub(super) fn new(cluster_id: String, server_id: String, limits: &Limits) -> Self {
        let status = Status {
            role: Role::Standby,
            cluster_id,
            server_id,
            started_at: Clock.now().wall,
            epoch: None,
            active_since: None,
            has_served: false,
            trusted_until: None,
            late_renewals: 0,
            counts: Counts::default(),
            commits: 0,
            commit_seconds: Histogram::new(&COMMIT_SECONDS),
            batch_messages: Histogram::new(&BATCH_MESSAGES),
            takeovers: 0,
            takeover_time: Duration::ZERO,
            takeover_silence: None,
            takeover_from_memory: 0,
            limits: Arc::new(limits.clone()),
            nats: nats::counters::Counts::default(),
            nats_pages: NatsPages::Elsewhere,
            nats_server_starts: 0,
            nats_server_ends: 0,
            shadow_bytes: 0,
            failovers: Failovers::default(),
            shadow_crowded_out: 0,
            conflicting_actives: 0,
            unable_reason: Some("it is starting".to_owned()),
            conditions: Conditions::default(),
            writes_refused: 0,
            log_dropped: 0,
            reads_astray: 0,
            reads_failed: 0,
            oldest_snapshot_seconds: 0,
            liveness: Liveness::default(),
        };
        Self {
            status: Arc::new(watch::Sender::new(status)),
        }
    }

    pub(super) fn liveness(&self) -> Liveness {
        self.status.borrow().liveness.clone()
    }

    pub(super) fn write_refused(&self) {
        self.status.send_if_modified(|status| {
            status.writes_refused += 1;
            false
        });
    }

    pub(super) fn log_dropped(&self, lines: u64) {
        self.status.send_modify(|status| status.log_dropped = lines);
    }

    pub(super) fn oldest_snapshot(&self, seconds: u64) {
        self.status.send_if_modified(|status| {
            status.oldest_snapshot_seconds = seconds;
            false
        });
    }

    pub(super) fn reads(&self, astray: u64, failed: u64) {
        self.status.send_if_modified(|status| {
            status.reads_astray = astray;
            status.reads_failed = failed;
            false
        });
    }

    pub(super) fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    pub(super) fn standby(&self) {
        self.status.send_modify(|status| {
            status.role = Role::Standby;
            status.epoch = None;
            status.active_since = None;
            status.has_served = false;
            status.trusted_until = None;
            // The traffic is that of the process.
            status.counts = Counts::default().after(status.counts);
        });
    }

    /// The node can neither serve nor take over, or (`None`) it can again.
    pub(super) fn unable(&self, reason: Option<String>) {
        let reason = reason.map(|reason| printable::line(&reason).into_owned());
        self.status.send_if_modified(|status| {
            let changed = status.unable_reason != reason;
            status.unable_reason = reason;
            changed
        });
    }

    /// Something is wrong, in a sentence that says what to do about it. Logged when it begins; may be said again and
    /// again.
    pub(super) fn raise(&self, condition: Condition, reason: impl Into<String>) {
        // It shows in many places, and may repeat what another program said.
        let reason = printable::line(&reason.into()).into_owned();
        let mut is_new = false;
        self.status.send_if_modified(|status| {
            is_new = !status.conditions.holds(condition);
            let now = Clock.now().wall;
            status.conditions.raise(condition, reason.clone(), now)
        });
        if !is_new {
            return;
        }
        match condition.effect() {
            Effect::NotReady | Effect::NotReadyUnlessServing => {
                tracing::error!(condition = condition.name(), "{reason}");
            }
            Effect::Warns => tracing::warn!(condition = condition.name(), "{reason}"),
        }
    }

    /// What was raised has passed. Costs little when nothing was.
    pub(super) fn clear(&self, condition: Condition) {
        let mut cleared = None;
        self.status.send_if_modified(|status| {
            cleared = status.conditions.clear(condition);
            cleared.is_some()
        });
        if let Some(cleared) = cleared {
            let lasted_ms = Clock.now().wall.since(cleared.since).as_millis();
            tracing::info!(
                condition = condition.name(),
                lasted_ms,
                "the condition has passed"
            );
        }
    }

    pub(super) fn conditions(&self) -> Conditions {
        self.status.borrow().conditions.clone()
    }

    /// `took` from the lock on.
    pub(super) fn active(&self, term: &Term, took: Duration) {
        self.status.send_modify(|status| {
            status.takeovers += 1;
            status.takeover_time = took;
            status.role = Role::Active;
            status.epoch = Some(term.epoch());
            status.active_since = Some(Clock.now().wall);
            status.has_served = false;
            status.trusted_until = Some(term.trusted_until());
            status.unable_reason = None;
        });
    }

    /// This term does what it is for.
    pub(super) fn serves(&self) {
        self.status
            .send_if_modified(|status| !std::mem::replace(&mut status.has_served, true));
    }

    /// What clients noticed of the takeover.
    pub(super) fn answered(&self, silence: Option<Duration>, from_memory: u64) {
        self.status.send_modify(|status| {
            status.takeover_silence = silence;
            status.takeover_from_memory = from_memory;
        });
    }

    /// Totals of the terms before.
    pub(super) fn counts(&self) -> Counts {
        self.status.borrow().counts
    }

    /// Totals of the terms before.
    pub(super) fn late_renewals(&self) -> u64 {
        self.status.borrow().late_renewals
    }

    pub(super) fn progress(&self, term: &Term, counts: Counts, late_renewals: u64) {
        self.status.send_modify(|status| {
            status.late_renewals = late_renewals;
            status.trusted_until = Some(term.trusted_until());
            status.counts = counts;
        });
    }

    pub(super) fn committed(&self, messages: usize, took: Duration) {
        // Not urgent: it is shown with the next change.
        self.status.send_if_modified(|status| {
            status.commits += 1;
            status.commit_seconds.observe(took.as_secs_f64());
            let messages = u32::try_from(messages).unwrap_or(u32::MAX);
            status.batch_messages.observe(f64::from(messages));
            false
        });
    }

    pub(super) fn limits(&self, limits: &Limits) {
        self.status
            .send_modify(|status| status.limits = Arc::new(limits.clone()));
    }

    pub(super) fn nats(&self, counts: nats::counters::Counts) {
        self.status.send_if_modified(|status| {
            status.nats = counts;
            false
        });
    }

    pub(super) fn nats_pages(&self, pages: NatsPages) {
        self.status.send_modify(|status| status.nats_pages = pages);
    }

    pub(super) fn nats_server_started(&self, pages: SocketAddr) {
        self.status.send_modify(|status| {
            status.nats_pages = NatsPages::At(pages);
            status.nats_server_starts += 1;
        });
    }

    pub(super) fn nats_server_ended(&self) {
        self.status
            .send_modify(|status| status.nats_server_ends += 1);
    }

    pub(super) fn lost(&self, ranges: &[LostRange]) {
        self.status.send_if_modified(|status| {
            for range in ranges {
                let count = range.last.0 - range.first.0 + 1;
                match range.outcome {
                    RangeOutcome::Restored | RangeOutcome::StoredAnew => {
                        status.failovers.restored += count;
                    }
                    RangeOutcome::Lost => status.failovers.lost += count,
                    RangeOutcome::Unknown => status.failovers.unknown += count,
                }
            }
            false
        });
    }

    pub(super) fn conflicting_actives(&self, count: u64) {
        self.status.send_if_modified(|status| {
            status.conflicting_actives = count;
            false
        });
    }

    pub(super) fn shadow(&self, bytes: usize, crowded_out: u64) {
        self.status.send_if_modified(|status| {
            status.shadow_bytes = bytes;
            status.shadow_crowded_out += crowded_out;
            false
        });
    }
}
