//! From the lock to a term: nobody serves the cluster ID from other tables, the tables are ours, the epoch is raised, and
//! from then on the lease is renewed.

use std::sync::atomic::Ordering;

use super::batches::Batches;
use super::conflicting_actives::KnownActives;
use super::owner::{ensure_same_subjects, server_info};
use super::shared::{Node, RoleError};
use super::standby::LockGranted;
use super::standby_listener::StandbyListener;
use crate::clock::Clock;
use crate::core::batch::Batch;
use crate::core::time::Instant;
use crate::leadership::{self, Cause, End, Granted, Leader};
use crate::monitoring::condition::Condition;
use crate::store::{self, LeftForLater, ServerInfo};

/// A term that does not serve yet.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) leader: Leader<Batch>,
    /// Postgres refused something lately.
    pub(super) with_savepoints: bool,
    /// When the lock was granted.
    pub(super) began: Instant,
    /// When the former active last sent something.
    pub(super) last_sign: Option<Instant>,
}

impl Node {
    pub(super) async fn claim(
        &self,
        granted: LockGranted,
        listener: &mut StandbyListener,
    ) -> Result<Claimed, RoleError> {
        let began = Clock.now().monotonic;
        let epoch_known = self.history().epoch();
        let LockGranted {
            mut candidate,
            batches,
        } = granted;
        let alone = self.presence.ensure_no_conflict(candidate.identity());
        listener.listen_during(self, alone).await??;
        let last_sign = self.presence.last_peer(candidate.identity());
        let last_sign = last_sign.map(|sign| sign.received_at);
        let sign_every = KnownActives::interval(self.leadership.lease.duration());
        let before = listener.lock_free_since;
        let before = before.filter(|free| last_sign.is_none_or(|sign| *free >= sign));
        let free_since = *listener.lock_free_since.insert(before.unwrap_or(began));
        candidate.last_sign_at(last_sign, sign_every, Some(free_since));
        let blocked = |by| self.status.raise(Condition::TakeoverBlocked, by);
        let taken = Box::pin(candidate.take_over(epoch_known, &blocked));
        let granted = listener.listen_during(self, taken).await??;
        self.status.clear(Condition::TakeoverBlocked);
        listener.lock_free_since = None;
        let claimed = self.begin(&granted, batches).await;
        let (batches, with_savepoints) = match claimed {
            Ok(begun) => begun,
            Err(error) => {
                granted.give_up(failed(&error)).await;
                return Err(error);
            }
        };
        // One that gives the lock up answers until it does; one whose takeover failed never did.
        let takeover = granted.takeover();
        let has_answered = takeover.reason == leadership::Reason::Released
            && takeover.end.cause != Cause::TakeoverFailed.as_str();
        let last_sign = if has_answered { Some(began) } else { last_sign };
        // From here on the lease is renewed: reading the tables may take longer than that.
        let leader = granted.start(batches);
        log_takeover(leader.takeover());
        Ok(Claimed {
            leader,
            with_savepoints,
            began,
            last_sign,
        })
    }

    /// What a term needs before its first batch: the batches, and whether they can be taken back step by step.
    async fn begin(
        &self,
        granted: &Granted,
        mut batches: Batches,
    ) -> Result<(Batches, bool), RoleError> {
        let url = &self.config.database_url;
        let wanted = server_info(&self.config.cluster_id, &self.config.subjects);
        let (client, epoch) = (granted.client(), granted.term().epoch());
        let served = self.config.partition.as_ref();
        // Together they wait for Postgres once: clients wait for them too.
        let (stored, forgotten, recorded, was_refused, fenced, keys, left) = tokio::join!(
            ServerInfo::read_or_create(client, url, &wanted),
            store::replay::forget_dropped(client, url),
            store::served::record(client, url, served),
            store::refused::is_recent(client, url),
            self.store.fence(client, Some(epoch)),
            self.store.keys_and_terms(client),
            LeftForLater::read(client, url),
        );
        ensure_same_subjects(&stored?, &wanted)?;
        unless_refused(forgotten);
        unless_refused(recorded);
        let with_savepoints = self.needs_savepoints.swap(false, Ordering::AcqRel) | was_refused?;
        fenced?;
        batches.write_channels_later(left?);
        if with_savepoints {
            batches.verify_before_commit();
        }
        batches.seal_with(self.store.begin_term(client, epoch, keys?).await?);
        Ok((batches, with_savepoints))
    }
}

/// For the history: why a term ends that does not serve yet.
pub(super) fn failed(error: &RoleError) -> End {
    if matches!(error, RoleError::Shutdown) {
        return End::new(Cause::Stopped, "its server was asked to stop");
    }
    End::new(Cause::TakeoverFailed, error.to_string())
}

/// For writes that no term depends on: whatever Postgres says to them is logged, and whether the session goes on is seen by those
/// that it does depend on.
fn unless_refused(done: Result<(), store::Error>) {
    if let Err(error) = done {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(error, "a note of the takeover is not stored");
    }
}

fn log_takeover(takeover: &leadership::Takeover) {
    tracing::info!(
        epoch = takeover.epoch.0,
        previous = takeover.previous.as_deref().unwrap_or("none"),
        reason = takeover.reason.as_str(),
        cause = takeover.end.cause,
        detail = takeover.end.detail,
        lock_wait_ms = takeover.lock_wait.as_millis(),
        "took the lock"
    );
    if let Some((from, to)) = takeover.timeline_advanced {
        tracing::error!(
            from,
            to,
            "Postgres has failed over since the last term; unless its standby was synchronous, the last \
             acked messages may be missing"
        );
    }
}
