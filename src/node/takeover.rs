//! From the lock to a restored core: carries out what [`core::takeover`](crate::core::takeover) asks for, and logs what it
//! reports.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::claim::{Claimed, failed};
use super::session_reads::read_on_session;
use super::shared::{Node, RoleError};
use super::standby::LockGranted;
use super::standby_listener::StandbyListener;
use crate::clock::Clock;
use crate::core::Request;
use crate::core::batch::{Batch, LostRange, RangeOutcome};
use crate::core::guarded::Guarded;
use crate::core::ids::{ChannelName, Subject};
use crate::core::replay::Stored;
use crate::core::snapshot::Snapshot;
use crate::core::takeover::{self, Answer, FindPublishes, Granted, Known, Recovered, Step};
use crate::core::time::Instant;
use crate::leadership::{Leader, SessionReads};
use crate::protocol::Subjects;
use crate::store::{self, Error};

/// A restored core, and the session that commits what it decides.
#[derive(Debug)]
pub(super) struct Takeover {
    pub(super) broker: Guarded,
    pub(super) leader: Leader<Batch>,
    /// What was received and perhaps not answered, to be handled before anything new.
    pub(super) backlog: VecDeque<(Instant, Request)>,
    /// When the lock was granted.
    pub(super) began: Instant,
    /// When the former active last sent something.
    pub(super) last_sign: Option<Instant>,
}

impl Node {
    /// What is received meanwhile stays with the listener when it fails.
    pub(super) async fn take_over(
        &self,
        granted: LockGranted,
        listener: &mut StandbyListener,
    ) -> Result<Takeover, RoleError> {
        let claimed = Box::pin(self.claim(granted, listener)).await?;
        let recovered = match self.recover(&claimed, listener).await {
            Ok(recovered) => recovered,
            Err(error) => {
                claimed.leader.release_because(failed(&error)).await;
                return Err(error);
            }
        };
        let Claimed {
            leader,
            with_savepoints,
            began,
            last_sign,
        } = claimed;
        let mut settings = self.config.settings();
        settings.limits.adopt(&self.limits.borrow());
        settings.limits.payload_bytes = self.nats.max_payload();
        let restored = recovered.restore(settings, listener.standby.shadow_mut(), Clock.now());
        self.report(&restored.report);

        let load_time = Clock.now().monotonic.since(began);
        let counts = restored.broker.broker().counts();
        tracing::info!(
            epoch = leader.term().epoch().0,
            load_time_ms = load_time.as_millis(),
            counts.clients,
            counts.channels,
            counts.subscriptions,
            requests_received = restored.backlog.len(),
            "active: Streaming Server is ready"
        );
        if with_savepoints {
            tracing::warn!(
                "Postgres refused to store something within the last hour (table refused_writes): each step is taken so \
                 that it can be taken back, which is slower"
            );
        }
        Ok(Takeover {
            broker: restored.broker,
            leader,
            backlog: restored.backlog,
            began,
            last_sign,
        })
    }

    /// Carries out one step after the other.
    async fn recover(
        &self,
        claimed: &Claimed,
        listener: &mut StandbyListener,
    ) -> Result<Box<Recovered>, RoleError> {
        let begun = claimed.leader.takeover();
        let (mut takeover, mut step) = takeover::Takeover::begin(Granted {
            epoch: claimed.leader.term().epoch(),
            last_epoch: begun.last_epoch,
            failed_over: begun.failed_over,
            with_savepoints: claimed.with_savepoints,
            window: self.config.replay_window(),
            digester: store::replay::digest,
        });
        let session_reads = claimed.leader.session_reads();
        loop {
            let answer = match step {
                Step::Drain => {
                    listener.drain(self).await?;
                    Answer::Drained
                }
                Step::ReadTables => {
                    let tables = self.read_tables(&session_reads).await?;
                    let others = other_ack_inboxes(&tables, &self.config.subjects);
                    listener.listen_for_acks_on(others)?;
                    Answer::Tables(Box::new(tables))
                }
                Step::FindPublishes(wanted) => {
                    Answer::Publishes(self.find_publishes(&session_reads, wanted).await?)
                }
                Step::FindClosed(inboxes) => {
                    let inboxes = inboxes.iter().map(|inbox| inbox.as_str().to_owned());
                    Answer::Closed(self.find_closed(&session_reads, inboxes.collect()).await?)
                }
                Step::AskServers(has) => {
                    listener
                        .listen_during(self, self.ask_what_others_remember(has))
                        .await?;
                    Answer::ServersAsked
                }
                Step::Restore(recovered) => return Ok(recovered),
            };
            let took = Clock.now().monotonic.since(claimed.began);
            log_answer(&answer, listener.standby.shadow().received().count(), took);
            let known = Known {
                shadow: listener.standby.shadow(),
                history: &mut self.history(),
                last_sign: self.presence.last_peer(&begun.identity),
            };
            step = takeover.answer(answer, known);
        }
    }

    async fn read_tables(&self, session_reads: &SessionReads) -> Result<Snapshot, Error> {
        match self.store.snapshot().await {
            Err(error) => {
                let store = self.store.clone();
                read_on_session(session_reads, error, move |client| {
                    Box::pin(async move { store.snapshot_on(client).await })
                })
                .await
            }
            read => read,
        }
    }

    async fn find_publishes(
        &self,
        session_reads: &SessionReads,
        wanted: FindPublishes,
    ) -> Result<Stored, Error> {
        match self.store.stored(&wanted).await {
            Err(error) => {
                let store = self.store.clone();
                read_on_session(session_reads, error, move |client| {
                    Box::pin(async move { store.stored_on(client, &wanted).await })
                })
                .await
            }
            read => read,
        }
    }

    async fn find_closed(
        &self,
        session_reads: &SessionReads,
        inboxes: Vec<String>,
    ) -> Result<BTreeSet<Subject>, Error> {
        match self.store.closed_connections(&inboxes).await {
            Err(error) => {
                let store = self.store.clone();
                read_on_session(session_reads, error, move |client| {
                    Box::pin(async move { store.closed_connections_on(client, &inboxes).await })
                })
                .await
            }
            read => read,
        }
    }

    fn report(&self, report: &takeover::Report) {
        tell_unlisted(&report.unlisted);
        if let Some(doubt) = &report.doubt {
            tracing::warn!(%doubt, "the replica that Postgres failed over to may lack messages");
        }
        self.report_lost(&report.lost);
    }

    /// What a failover of Postgres had lost: an acked message that is gone is an operator's business.
    fn report_lost(&self, ranges: &[LostRange]) {
        for LostRange {
            channel: _,
            name,
            first,
            last,
            outcome,
        } in ranges
        {
            let (first, last) = (first.0, last.0);
            match outcome {
                RangeOutcome::Restored => tracing::warn!(
                    channel = %name, first, last,
                    "messages that a failover of Postgres had lost are stored again"
                ),
                RangeOutcome::StoredAnew => tracing::warn!(
                    channel = %name, first, last,
                    "a failover of Postgres has lost these sequences; they are passed over; the publishes that \
                     they were given to are kept here and are stored again"
                ),
                RangeOutcome::Lost => tracing::error!(
                    channel = %name, first, last,
                    "a failover of Postgres has lost acked messages; their sequences are passed over"
                ),
                RangeOutcome::Unknown => tracing::error!(
                    channel = %name, first, last,
                    "a failover of Postgres may have lost acked messages; these sequences are passed over"
                ),
            }
        }
        self.status.lost(ranges);
    }
}

/// Their messages stay, and are delivered to those who subscribed before; nobody can publish or subscribe to them.
fn tell_unlisted(channels: &[ChannelName]) {
    if let Some(first) = channels.first() {
        tracing::warn!(
            channels = channels.len(),
            first = %first,
            "the tables hold channels that this group does not list: requests for them are left to other groups"
        );
    }
}

/// `since_lock`: how long after the lock was granted.
fn log_answer(answer: &Answer, requests: usize, since_lock: Duration) {
    let since_lock_ms = since_lock.as_millis();
    match answer {
        Answer::Drained => tracing::info!(requests, since_lock_ms, "received the last requests"),
        Answer::Tables(tables) => tracing::info!(
            clients = tables.clients.len(),
            channels = tables.channels.len(),
            subscriptions = tables.subscriptions.len(),
            since_lock_ms,
            "read the tables"
        ),
        Answer::Publishes(stored) => tracing::info!(
            publishes = stored.kept.len() + stored.dropped.len(),
            since_lock_ms,
            "looked up the last publishes"
        ),
        Answer::Closed(_) | Answer::ServersAsked => {}
    }
}

/// The inboxes of online subscriptions that came here with their tables, or are older than the ack prefix in use.
fn other_ack_inboxes<'a>(
    snapshot: &'a Snapshot,
    subjects: &'a Subjects,
) -> impl Iterator<Item = &'a str> {
    let online = snapshot.subscriptions.values().filter(|row| row.online);
    let inboxes = online.map(|row| row.ack_inbox.as_str());
    inboxes.filter(|inbox| !subjects.is_ack_inbox(inbox))
}
