//! From the lock to a restored core: the epoch, the tables, the requests that nobody answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::active::Active;
use super::batches::Batches;
use super::clock::Clock;
use super::shared::{Node, Setback};
use super::standby::Won;
use crate::config::Config;
use crate::core::heard::Done;
use crate::core::ids::{ChannelId, ChannelName, Guid, Sequence};
use crate::core::snapshot::Snapshot;
use crate::core::{Broker, Event, heard};
use crate::known_bad::{self, Mistake};
use crate::leadership::Takeover;
use crate::nats::Egress;
use crate::protocol::Subjects;
use crate::store::{ServerInfo, Store};

/// More messages than were heard may have been stored since the first one that was heard: the order in which
/// the two nodes heard them may differ a little.
const LOOK_BACK_SLACK: u64 = 1000;

impl Node {
    pub(super) async fn take_over(&self, won: Won) -> Result<Active<'_>, Setback> {
        let began = Clock.now().monotonic;
        let Won {
            candidate,
            mut ingress,
            shadow,
        } = won;
        let granted = candidate.take_over().await?;
        let url = &self.config.database_url;
        let wanted = server_info(&self.config.cluster_id, &self.config.subjects);
        let stored = match ServerInfo::read_or_create(granted.client(), url, &wanted).await {
            Err(_) if known_bad::is(Mistake::PlainTryLock) => wanted.clone(),
            stored => stored?,
        };
        ensure_same_subjects(&stored, &wanted)?;
        let batches = Batches::prepare(granted.client(), &self.config).await?;
        // From here on the lease is renewed: reading the tables may take longer than that.
        let leader = granted.start(batches);
        log_takeover(leader.takeover());

        let heard = self.hear_out(&mut ingress, shadow).await?;
        let snapshot = self.store.snapshot().await?;
        let stored = if known_bad::is(Mistake::ShadowWithoutGuidCheck) {
            Done::default()
        } else {
            self.stored_publishes(&snapshot, &heard).await?
        };
        let others = other_ack_inboxes(&snapshot, &self.config.subjects);
        ingress.hear_acks_on(&self.nats, others).await?;
        let mut settings = self.config.settings();
        settings.limits.payload_bytes = self.nats.max_payload();
        let broker = Broker::restore(snapshot, settings, Clock.now());
        let backlog = VecDeque::from(heard::judge(heard, &stored));

        let load_time = Clock.now().monotonic.since(began);
        leader.record(Some(load_time), None)?;
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
        let egress = Egress::new(
            self.nats.clone(),
            self.config.subjects.clone(),
            ingress.probes(),
        );
        Ok(Active::new(
            self, broker, leader, ingress, egress, backlog, began,
        ))
    }

    /// What the tables say of the publishes that were heard.
    async fn stored_publishes(
        &self,
        snapshot: &Snapshot,
        heard: &[Event],
    ) -> Result<Done, Setback> {
        let live = snapshot.channels.iter().filter(|(_, row)| !row.deleting);
        let ids: BTreeMap<&ChannelName, ChannelId> =
            live.map(|(&id, row)| (&row.name, id)).collect();
        let mut wanted: BTreeMap<ChannelId, (Sequence, Vec<Guid>)> = BTreeMap::new();
        for (channel, guid) in heard::publishes(heard) {
            if let Some(&id) = ids.get(channel) {
                wanted.entry(id).or_default().1.push(guid.clone());
            }
        }
        let mut trimmed = BTreeSet::new();
        for (id, (after, guids)) in &mut wanted {
            let back = guids.len() as u64 + LOOK_BACK_SLACK;
            let row = &snapshot.channels[id];
            *after = Sequence(row.last_sequence.0.saturating_sub(back));
            if row.first_sequence > after.next() {
                trimmed.insert(row.name.clone());
            }
        }
        let stored = self.store.stored(&wanted).await?;
        let named = |(id, guid)| (snapshot.channels[&id].name.clone(), guid);
        Ok(Done {
            stored: stored.into_iter().map(named).collect(),
            trimmed,
        })
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
    let Some(stored) = store.server_info().await? else {
        return Ok(false);
    };
    stored.ensure_cluster_id(&config.cluster_id)?;
    ensure_same_subjects(&stored, &server_info(&config.cluster_id, &config.subjects))?;
    Ok(true)
}

fn log_takeover(takeover: &Takeover) {
    tracing::info!(
        epoch = takeover.epoch.0,
        previous = takeover.previous.as_deref().unwrap_or("none"),
        reason = takeover.reason.as_str(),
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
         start with the former",
        stored.discover_prefix, wanted.discover_prefix
    )))
}
