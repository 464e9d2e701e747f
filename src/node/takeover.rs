//! From the lock to a restored core: the epoch, the tables, the requests that nobody answered.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;

use super::clock::Clock;
use super::ears::Ears;
use super::errands::read_on_session;
use super::rivals::Rivals;
use super::shared::{Node, Setback};
use super::standby::Won;
use crate::config::Config;
use crate::core::batch::{Batch, Fate, LostRange};
use crate::core::guarded::Guarded;
use crate::core::heard::{Done, Stored};
use crate::core::ids::Guid;
use crate::core::memory::Marks;
use crate::core::regression::Regression;
use crate::core::snapshot::Snapshot;
use crate::core::time::Instant;
use crate::core::{Broker, Event, heard};
use crate::known_bad::{self, Mistake};
use crate::leadership::{self, Leader, Record};
use crate::protocol::Subjects;
use crate::protocol::subjects::{self, Told};
use crate::store::{self, ServerInfo, Store};

/// A restored core, and the session that commits what it decides.
#[derive(Debug)]
pub(super) struct Takeover {
    pub(super) broker: Guarded,
    pub(super) leader: Leader<Batch>,
    /// What was heard and perhaps not answered, to be handled before anything new.
    pub(super) backlog: VecDeque<(Instant, Event)>,
    /// When the lock was granted.
    pub(super) began: Instant,
    /// When the active before was heard last.
    pub(super) last_sign: Option<Instant>,
}

impl Node {
    /// What is heard meanwhile stays in the ears when it fails.
    pub(super) async fn take_over(&self, won: Won, ears: &mut Ears) -> Result<Takeover, Setback> {
        let began = Clock.now().monotonic;
        let epoch_known = self.memory().epoch();
        let Won {
            mut candidate,
            mut batches,
        } = won;
        let alone = self.announcer.ensure_no_rival(candidate.place());
        ears.during(self, alone).await?.map_err(Setback::Rival)?;
        let last_sign = self.announcer.last_mate(candidate.place());
        let sign_every = Rivals::interval(self.leadership.lease.duration());
        candidate.last_heard(last_sign, sign_every);
        let granted = candidate.take_over(epoch_known).await?;
        let was_released = granted.takeover().reason == leadership::Reason::Released;
        let url = &self.config.database_url;
        let wanted = server_info(&self.config.cluster_id, &self.config.subjects);
        let stored = match ServerInfo::read_or_create(granted.client(), url, &wanted).await {
            Err(_) if known_bad::is(Mistake::PlainTryLock) => wanted.clone(),
            stored => stored?,
        };
        ensure_same_subjects(&stored, &wanted)?;
        if !known_bad::is(Mistake::PlainTryLock) {
            unless_refused(store::heard::forget_dropped(granted.client(), url).await)?;
            let served = self.config.partition.as_ref();
            unless_refused(store::served::record(granted.client(), url, served).await)?;
        }
        let takes_care = self.takes_care.swap(false, Ordering::AcqRel)
            || store::refused::is_recent(granted.client(), url).await?;
        if takes_care {
            batches.take_care();
        }
        let epoch = granted.term().epoch();
        if !known_bad::is(Mistake::PlainTryLock) {
            self.store.fence(granted.client(), Some(epoch)).await?;
        }
        match self.store.begin_term(granted.client(), epoch).await {
            Err(_) if known_bad::is(Mistake::PlainTryLock) => {}
            sealer => batches.seal_with(sealer?),
        }
        // From here on the lease is renewed: reading the tables may take longer than that.
        let leader = granted.start(batches);
        log_takeover(leader.takeover());

        ears.hear_out(self).await?;
        tracing::info!(
            requests = ears.shadow.heard().count(),
            since_lock_ms = Clock.now().monotonic.since(began).as_millis(),
            "heard the last requests"
        );
        let errands = leader.errands();
        let snapshot = match self.store.snapshot().await {
            Err(error) => {
                let store = self.store.clone();
                read_on_session(&errands, error, move |client| {
                    Box::pin(async move { store.snapshot_on(client).await })
                })
                .await?
            }
            Ok(snapshot) => snapshot,
        };
        tracing::info!(
            clients = snapshot.clients.len(),
            channels = snapshot.channels.len(),
            subscriptions = snapshot.subscriptions.len(),
            since_lock_ms = Clock.now().monotonic.since(began).as_millis(),
            "read the tables"
        );
        self.tell_unlisted(&snapshot);
        let others = other_ack_inboxes(&snapshot, &self.config.subjects);
        ears.ingress.hear_acks_on(others)?;
        let window = self.config.heard_window();
        let places = heard::look_back(&snapshot, ears.shadow.heard(), window);
        let wanted = heard::publishes(ears.shadow.heard());
        let wanted: BTreeSet<Guid> = wanted.map(|publish| publish.guid.clone()).collect();
        let stored = if known_bad::is(Mistake::ShadowWithoutGuidCheck) {
            Stored::default()
        } else {
            let others = heard::LATE_COPIES_MAX;
            match self.store.stored(&places, &wanted, others).await {
                Err(error) => {
                    let store = self.store.clone();
                    read_on_session(&errands, error, move |client| {
                        Box::pin(
                            async move { store.stored_on(client, &places, &wanted, others).await },
                        )
                    })
                    .await?
                }
                Ok(stored) => stored,
            }
        };
        tracing::info!(
            publishes = stored.kept.len() + stored.dropped.len(),
            since_lock_ms = Clock.now().monotonic.since(began).as_millis(),
            "looked up the last publishes"
        );
        let connections: Vec<String> = heard::connections(ears.shadow.heard())
            .map(|inbox| inbox.as_str().to_owned())
            .collect();
        let closed = match self.store.closed_connections(&connections).await {
            Err(error) => {
                let store = self.store.clone();
                read_on_session(&errands, error, move |client| {
                    Box::pin(async move { store.closed_connections_on(client, &connections).await })
                })
                .await?
            }
            Ok(closed) => closed,
        };
        let mut done = Done::new(
            &snapshot,
            stored,
            closed,
            ears.shadow.heard(),
            store::heard::digest,
        );
        let failed_over = leader.takeover().failed_over;
        let last_epoch = leader.takeover().last_epoch;
        let may_lack = failed_over || self.memory().is_ahead_of(&snapshot, last_epoch);
        if may_lack && !self.memory().is_exact() {
            let asked = self.ask_what_others_remember(&snapshot);
            ears.during(self, asked).await?;
        }
        let regression = {
            let mut memory = self.memory();
            let last_heard = self.announcer.last_mate(&leader.takeover().place);
            if let Some(heard_at) = last_heard {
                memory.heard_active(heard_at);
            }
            let ended_at = memory.last_commit_before(last_heard);
            let heard = failed_over.then(|| {
                let heard = ears.shadow.heard_until(ended_at);
                heard::publishes(heard)
            });

            memory.found(last_epoch);
            if let Some(doubt) = memory.in_doubt().filter(|_| failed_over) {
                tracing::warn!(%doubt, "the replica that Postgres failed over to may lack messages");
            }
            let regression = Regression::find(&snapshot, &memory, heard, &done);
            memory.saw(Marks::of(&snapshot, leader.term().epoch()));
            regression
        };
        for (channel, message) in regression.restored() {
            done.stored.add_message(channel, message);
        }
        let mut settings = self.config.settings();
        settings.limits.adopt(&self.limits.borrow());
        settings.limits.payload_bytes = self.nats.max_payload();
        let now = Clock.now();
        let mut broker = if takes_care {
            Broker::restore_with_care(snapshot, settings, now)
        } else {
            Broker::restore(snapshot, settings, now)
        };
        self.tell_lost(&broker.repair(regression));
        ears.shadow.expire(now.monotonic);
        let backlog = VecDeque::from(heard::judge(ears.shadow.take(), &done));
        broker.remember_stored(done.stored, now.monotonic + window);

        let load_time = Clock.now().monotonic.since(began);
        leader.record(Record {
            load_time: Some(load_time),
            ..Record::default()
        })?;
        let counts = broker.counts();
        tracing::info!(
            epoch = leader.term().epoch().0,
            load_time_ms = load_time.as_millis(),
            counts.clients,
            counts.channels,
            counts.subscriptions,
            requests_heard = backlog.len(),
            "active: Streaming Server is ready"
        );
        Ok(Takeover {
            broker: if takes_care {
                tracing::warn!(
                    "Postgres refused to store something within the last hour (table refused_writes): each step is taken so \
                     that it can be taken back, which is slower"
                );
                Guarded::with_savepoints(broker)
            } else {
                Guarded::new(broker)
            },
            leader,
            backlog,
            began,
            // One that gives the lock up answers until it does.
            last_sign: match last_sign {
                Some(_) if was_released => Some(began),
                sign => sign,
            },
        })
    }
}

impl Node {
    /// Their messages stay, and are delivered to those who subscribed before; nobody can publish or subscribe to them.
    fn tell_unlisted(&self, snapshot: &Snapshot) {
        let Some(partition) = &self.config.partition else {
            return;
        };
        let names = snapshot.channels.values().map(|row| &row.name);
        let unlisted: Vec<_> = names.filter(|name| !partition.contains(name)).collect();
        if let Some(first) = unlisted.first() {
            tracing::warn!(
                channels = unlisted.len(),
                first = %first,
                "the tables hold channels that this group does not list: requests for them are left to other groups"
            );
        }
    }

    /// What a failover of Postgres had lost: an acked message that is gone is an operator's business.
    fn tell_lost(&self, ranges: &[LostRange]) {
        for LostRange {
            channel: _,
            name,
            first,
            last,
            fate,
        } in ranges
        {
            let (first, last) = (first.0, last.0);
            match fate {
                Fate::Restored => tracing::warn!(
                    channel = %name, first, last,
                    "messages that a failover of Postgres had lost are stored again"
                ),
                Fate::StoredAnew => tracing::warn!(
                    channel = %name, first, last,
                    "a failover of Postgres has lost these sequences; they are passed over, and what they were given to was \
                     heard and is stored anew"
                ),
                Fate::Lost => tracing::error!(
                    channel = %name, first, last,
                    "a failover of Postgres has lost acked messages; their sequences are passed over"
                ),
                Fate::Unknown => tracing::error!(
                    channel = %name, first, last,
                    "a failover of Postgres may have lost acked messages; these sequences are passed over"
                ),
            }
        }
        self.board.lost(ranges);
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

/// Fails when the tables are another cluster's: asked at the start, because a standby may not get as far as a
/// takeover for months. False before the first server has made them its own.
pub(super) async fn ensure_same_cluster(store: &Store, config: &Config) -> Result<bool, Setback> {
    ensure_ours(store.server_info().await?, config)
}

/// The same for what was read.
pub(super) fn ensure_ours(stored: Option<ServerInfo>, config: &Config) -> Result<bool, Setback> {
    let Some(stored) = stored else {
        return Ok(false);
    };
    stored.ensure_cluster_id(&config.cluster_id)?;
    ensure_same_subjects(&stored, &server_info(&config.cluster_id, &config.subjects))?;
    Ok(true)
}

/// The subjects to serve on: those of the configuration, unless the tables came from a server that told its clients
/// others.
pub(super) async fn subjects_of(store: &Store, config: &Config) -> Result<Subjects, Setback> {
    let subjects = config.subjects.clone();
    let stored = match store.server_info().await? {
        // What else differs is refused later, with what to do.
        Some(stored)
            if stored.cluster_id == config.cluster_id
                && stored.discover_prefix == **subjects.discover() =>
        {
            stored
        }
        Some(_) | None => return Ok(subjects),
    };
    let told = Told {
        publish_prefix: stored.publish_prefix,
        subscribe: stored.subscribe_subject,
        unsubscribe: stored.unsubscribe_subject,
        close_subscription: stored.close_subscription_subject,
        close_client: stored.close_subject,
    };
    let refused = |error: subjects::Error| {
        Setback::Settings(format!(
            "table server_info, the subjects told to clients: {error}"
        ))
    };
    subjects.telling(told).map_err(refused)
}

/// For what no term depends on: that Postgres refuses it for good is told, and the session goes on.
fn unless_refused(done: Result<(), store::Error>) -> Result<(), store::Error> {
    match done {
        Err(
            error @ (store::Error::Failed(_)
            | store::Error::Refused(_)
            | store::Error::NotStored { .. }),
        ) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "a note of the takeover is not stored");
            Ok(())
        }
        done => done,
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

fn server_info(cluster_id: &str, subjects: &Subjects) -> ServerInfo {
    ServerInfo {
        cluster_id: cluster_id.to_owned(),
        discover_prefix: subjects.discover().to_string(),
        publish_prefix: subjects.publish_prefix().to_string(),
        subscribe_subject: subjects.subscribe().to_string(),
        unsubscribe_subject: subjects.unsubscribe().to_string(),
        close_subscription_subject: subjects.close_subscription().to_string(),
        close_subject: subjects.close_client().to_string(),
        ack_prefix: subjects.ack_prefix().to_string(),
    }
}

/// Clients keep using the subjects that they were told when they connected. The ack prefix is none of them: each
/// subscription has its own ack inbox.
fn ensure_same_subjects(stored: &ServerInfo, wanted: &ServerInfo) -> Result<(), Setback> {
    let stored = ServerInfo {
        ack_prefix: wanted.ack_prefix.clone(),
        ..stored.clone()
    };
    if stored == *wanted {
        return Ok(());
    }
    Err(Setback::Settings(format!(
        "clients were told other subjects than this server is configured for (connect subject {:?}, here {:?}); \
         {}",
        stored.discover_prefix,
        wanted.discover_prefix,
        if stored.discover_prefix == wanted.discover_prefix {
            "they came into the tables after its start; start it again"
        } else {
            "start with the former"
        }
    )))
}
