//! What clients did and what was committed, and the promises that hold at each commit: sequences dense and
//! never used twice, times and epochs in order, messages as published, nothing dropped without a limit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use stanby::core::Request;
use stanby::core::batch::{Batch, ChannelRow, Trim};
use stanby::core::ids::{ChannelId, ChannelName, ClientId, Epoch, Guid, PositionId, Sequence};
use stanby::core::limits::Settings;
use stanby::core::message::Message;
use stanby::core::request::Subscribe;
use stanby::core::time::Timestamp;

use super::failovers::Failovers;
use super::progress::{Positions, Wanted};
use crate::admin::Allowed;
use crate::world::Time;

#[derive(Debug, Default)]
pub(super) struct ChannelFacts {
    pub(super) name: Option<ChannelName>,
    pub(super) last: Sequence,
    pub(super) last_published_at: Timestamp,
    /// Every message ever committed; they are never forgotten, only dropped from `live`.
    pub(super) history: BTreeMap<Sequence, Arc<Message>>,
    pub(super) live: BTreeSet<Sequence>,
    /// Deleted by an operator, and their bytes: limits may still count them.
    pub(super) phantoms: u64,
    pub(super) phantom_bytes: u64,
    /// Which of them are not there: to a server they look as if they had never been stored.
    pub(super) by_hand: BTreeSet<Sequence>,
}

#[derive(Debug)]
struct Published {
    at: Time,
    channel: ChannelName,
    data: Bytes,
    /// The channel's last acked message when this one was published.
    after: Option<(ChannelId, Sequence)>,
}

/// More was in flight than there is room for: right only if the rest was being dropped by a limit, or had been acked
/// through a member whose subscribe was not committed. That commit is at most the next but one.
#[derive(Debug)]
pub(super) struct Excess {
    pub(super) epoch: Epoch,
    pub(super) channel: ChannelId,
    pub(super) position: PositionId,
    /// Received before, by ack inbox.
    pub(super) acks: BTreeMap<String, BTreeSet<Sequence>>,
    pub(super) held: Vec<Sequence>,
    pub(super) max: usize,
    pub(super) commits: u32,
    pub(super) fact: String,
}

#[derive(Debug)]
pub(crate) struct Checks {
    /// As of the step under way.
    pub(crate) now: Time,
    pub(crate) violation: Option<String>,
    pub(crate) deliveries: u64,
    pub(crate) redeliveries: u64,
    pub(super) settings: Settings,
    pub(super) epoch: Epoch,
    pub(super) epoch_since: Time,
    pub(super) begun: Epoch,
    pub(super) channels: BTreeMap<ChannelId, ChannelFacts>,
    published: BTreeMap<Guid, Published>,
    /// Further publishes under a GUID that was used before.
    repeated: BTreeMap<Guid, Vec<(ChannelName, Bytes)>>,
    /// All that was ever stored.
    contents: BTreeSet<(Guid, Bytes)>,
    pub(crate) greedy: u64,
    pub(super) stored: BTreeMap<Guid, (ChannelId, Sequence)>,
    /// Refused by the server.
    refused: BTreeSet<Guid>,
    pub(crate) clock_jumped: bool,
    pub(crate) failovers: Failovers,
    /// When a message that was published in SQL was last stored.
    pub(crate) sql_stored_at: Time,
    /// A publish is known again for so long.
    memory: Time,
    /// Stored again by a later term, which had received them too late to know.
    pub(crate) duplicates: u64,
    last_acked: BTreeMap<ChannelName, (ChannelId, Sequence)>,
    pub(super) positions: Positions,
    /// What operators have emptied in the commit under way.
    allowed: BTreeMap<ChannelId, Vec<Allowed>>,
    /// How often operators have moved a position.
    pub(crate) moves: BTreeMap<PositionId, u64>,
    pub(crate) emptied: u64,
    /// Of every connection that was ever registered.
    pub(super) heartbeat_inboxes: BTreeSet<String>,
    /// Clients whose row is in the last commit: of several connects, only the last one's is.
    pub(super) last_clients: BTreeSet<ClientId>,
    pub(super) excesses: Vec<Excess>,
    /// When a transaction committed that was told that its ack counts.
    pub(crate) acked_in_sql: BTreeMap<(PositionId, Sequence), Time>,
    /// The latest that any node's wall clock has shown.
    pub(super) latest_wall: Timestamp,
}

impl Checks {
    pub(crate) fn new(settings: Settings, memory: Time) -> Self {
        Self {
            now: 0,
            violation: None,
            deliveries: 0,
            redeliveries: 0,
            settings,
            epoch: Epoch(0),
            epoch_since: 0,
            begun: Epoch(0),
            channels: BTreeMap::new(),
            published: BTreeMap::new(),
            repeated: BTreeMap::new(),
            contents: BTreeSet::new(),
            greedy: 0,
            stored: BTreeMap::new(),
            refused: BTreeSet::new(),
            clock_jumped: false,
            failovers: Failovers::default(),
            sql_stored_at: 0,
            memory,
            duplicates: 0,
            last_acked: BTreeMap::new(),
            positions: Positions::default(),
            heartbeat_inboxes: BTreeSet::new(),
            last_clients: BTreeSet::new(),
            excesses: Vec::new(),
            allowed: BTreeMap::new(),
            moves: BTreeMap::new(),
            emptied: 0,
            acked_in_sql: BTreeMap::new(),
            latest_wall: Timestamp(0),
        }
    }

    pub(crate) fn violated(&mut self, fact: String) {
        self.violation.get_or_insert(fact);
    }

    pub(crate) fn require(&mut self, holds: bool, fact: impl FnOnce() -> String) {
        if !holds {
            self.violated(fact());
        }
    }

    pub(crate) fn stored(&self) -> usize {
        self.stored.len()
    }

    /// A term is about to carry out what its node received as a standby.
    pub(crate) fn on_replay<'a>(&mut self, planned: impl Iterator<Item = &'a Request>) {
        for event in planned {
            let Request::Publish { request, .. } = event else {
                continue;
            };
            let Some(&key) = self.stored.get(&request.guid) else {
                continue;
            };
            if self.repeated.contains_key(&request.guid) {
                continue;
            }
            if !self.is_deleted_by_hand(key) {
                let (id, sequence) = key;
                let fact = format!("what is stored is not done again: {id}#{sequence} would be");
                return self.violated(fact);
            }
        }
    }

    /// The publish was answered, or will be when it is asked for again.
    pub(crate) fn is_dealt_with(&self, guid: &Guid) -> bool {
        self.stored.contains_key(guid)
            || self.refused.contains(guid)
            || self.failovers.lost_publishes.contains(guid)
    }

    pub(super) fn refuses(&mut self, guid: &Guid) {
        self.refused.insert(guid.clone());
    }

    /// A node takes over, whether or not it will commit anything.
    pub(crate) fn begins(&mut self, epoch: Epoch) {
        self.begun = self.begun.max(epoch);
    }

    pub(crate) fn saw_wall(&mut self, wall: Timestamp) {
        self.latest_wall = self.latest_wall.max(wall);
    }

    pub(crate) fn publishes(&mut self, guid: Guid, channel: &ChannelName, data: Bytes) {
        let after = self.last_acked.get(channel).copied();
        self.published.insert(
            guid,
            Published {
                at: self.now,
                channel: channel.clone(),
                data,
                after,
            },
        );
    }

    /// A publish under the GUID of another one, which is another message all the same.
    pub(crate) fn repeats(&mut self, guid: Guid, channel: &ChannelName, data: Bytes) {
        let others = self.repeated.entry(guid).or_default();
        others.push((channel.clone(), data));
    }

    pub(crate) fn was_published(&self, guid: &Guid) -> bool {
        self.published.contains_key(guid)
    }

    pub(crate) fn was_stored(&self, guid: &Guid) -> bool {
        self.stored.contains_key(guid)
    }

    /// A publisher got its ack.
    pub(crate) fn acked(&mut self, guid: &Guid, data: &Bytes) {
        let is_stored = self.contents.contains(&(guid.clone(), data.clone()));
        self.require(is_stored, || {
            format!("an acked publish is stored with what it says: {guid} is not")
        });
        if self.repeated.contains_key(guid) {
            return;
        }
        let Some(&(channel, sequence)) = self.stored.get(guid) else {
            let lost = self.failovers.lost_publishes.contains(guid);
            return self.require(lost, || {
                format!("an acked publish is stored: {guid} is not")
            });
        };
        if let Some(name) = self
            .channels
            .get(&channel)
            .and_then(|facts| facts.name.clone())
        {
            let last = self.last_acked.entry(name).or_insert((channel, sequence));
            *last = (*last).max((channel, sequence));
        }
    }

    pub(crate) fn subscribes(&mut self, request: &Subscribe) {
        let durable = request.durable_name.clone();
        let durable = durable.filter(|_| request.queue_group.is_none());
        let wanted = Wanted {
            channel: request.channel.clone(),
            start: request.start,
            durable: durable.map(|name| (request.client_id.clone(), name)),
        };
        let inbox = request.inbox.to_string();
        self.positions.wanted.insert(inbox, wanted);
    }

    /// Judges a commit that is about to be applied; false when it must not be.
    pub(crate) fn before_commit(&mut self, batch: &Batch, epoch: Epoch) -> bool {
        let last = self.epoch;
        self.require(epoch >= last, || {
            format!("no commit of epoch {epoch} follows one of epoch {last}")
        });
        if epoch != last {
            self.epoch_since = self.now;
            self.positions.begin_epoch();
        }
        self.epoch = epoch;
        for (&id, row) in &batch.channels {
            if let Some(row) = row {
                self.channels.entry(id).or_default().name = Some(row.name.clone());
            }
        }
        self.check_told(batch);
        for (channel, message) in &batch.messages {
            self.appended(*channel, message, epoch);
        }
        for (&channel, &Trim { through, .. }) in &batch.trims {
            self.trimmed(
                channel,
                through,
                batch.channels.get(&channel).and_then(Option::as_ref),
            );
        }
        self.settle_excesses(epoch);
        for (&id, row) in &batch.channels {
            self.channel_row(id, row.as_ref());
        }
        self.last_clients = batch.clients.keys().cloned().collect();
        for row in batch.clients.values().flatten() {
            self.heartbeat_inboxes
                .insert(row.heartbeat_inbox.to_string());
        }
        self.check_positions(batch);
        self.allowed.clear();
        self.violation.is_none()
    }

    fn appended(&mut self, id: ChannelId, message: &Arc<Message>, epoch: Epoch) {
        let sequence = message.sequence;
        let facts = self.channels.entry(id).or_default();
        let (last, last_at) = (facts.last, facts.last_published_at);
        facts.last = sequence;
        facts.last_published_at = message.published_at;
        let before = facts.history.insert(sequence, Arc::clone(message));
        facts.live.insert(sequence);
        facts.by_hand.remove(&sequence);
        let name = facts.name.clone();
        let dense = sequence == last.next() || self.is_told(id, last, sequence);
        self.require(dense, || {
            format!("sequences are dense at commit time: {id}#{sequence} follows #{last}")
        });
        if let Some(before) = before {
            let same = before.guid == message.guid && before.data == message.data;
            let key = (id, sequence);
            let excused = self.failovers.excused;
            let free = excused || !self.failovers.spoken.contains(&key);
            self.require(same || free, || {
                format!("a sequence is never used twice: {id}#{sequence} is")
            });
            self.failovers.lost.remove(&key);
            if same {
                self.stored.insert(message.guid.clone(), key);
                return;
            }
        }
        if message.guid.as_str().starts_with("sql-") {
            self.sql_stored_at = self.now;
        }
        let content = (message.guid.clone(), message.data.clone());
        self.contents.insert(content);
        self.require(message.published_at >= last_at, || {
            format!("timestamps never decrease: that of {id}#{sequence} does")
        });
        let guid = &message.guid;
        if let Some(others) = self.repeated.get(guid) {
            let mut others = others.iter();
            let is_one = others
                .any(|(channel, data)| *data == message.data && name.as_ref() == Some(channel));
            if is_one || self.stored.contains_key(guid) {
                self.stored.entry(guid.clone()).or_insert((id, sequence));
                let original = self.published.get(guid);
                let is_original = original.is_some_and(|it| it.data == message.data);
                return self.require(is_one || is_original, || {
                    format!("a message is stored as it was published: {guid} is not")
                });
            }
        }
        let Some(published) = self.published.get(guid) else {
            return self.violated(format!("a stored message was published: {guid} was not"));
        };
        let same = published.data == message.data && name.as_ref() == Some(&published.channel);
        let after = published.after.filter(|(channel, _)| *channel == id);
        let is_known = self.now - published.at < self.memory;
        self.require(same, || {
            format!("a message is stored as it was published: {guid} is not")
        });
        if let Some(before) = self.stored.insert(guid.clone(), (id, sequence)) {
            self.duplicates += 1;
            // A publish that was on its way for longer than anybody remembers, or that an operator deleted, is new.
            // Where clocks jump, what a channel that a node had received nothing for stored last looks older than it is.
            let deleted = self.is_deleted_by_hand(before);
            let excused = self.failovers.excused;
            let in_sql = guid.as_str().starts_with("sql-");
            let tolerated = if in_sql {
                // A failover may have lost that the row was taken, and with it who remembers the message.
                self.failovers.count > 0
            } else {
                !is_known || deleted || self.clock_jumped || excused
            };
            return self.require(tolerated, || {
                format!("a publish is stored once: {guid} is stored again in epoch {epoch}")
            });
        }
        let excused = self.failovers.excused;
        self.require(
            excused || after.is_none_or(|(_, earlier)| earlier < sequence),
            || format!("a publish begun after an ack comes after it: {id}#{sequence} does not"),
        );
    }

    fn trimmed(&mut self, id: ChannelId, through: Sequence, row: Option<&ChannelRow>) {
        let limits = self.settings.limits.channel;
        let latest_wall = self.latest_wall;
        let Some(facts) = self.channels.get_mut(&id) else {
            return;
        };
        let kept = facts.live.split_off(&through.next());
        let dropped = std::mem::replace(&mut facts.live, kept);
        let Some(last) = dropped
            .last()
            .and_then(|sequence| facts.history.get(sequence))
        else {
            return;
        };
        let Some(name) = &facts.name else {
            return;
        };
        let size = |s: &Sequence| facts.history.get(s).map_or(0, |message| message.size(name));
        let count = facts.live.len() as u64 + facts.phantoms + 1;
        let bytes =
            facts.live.iter().map(size).sum::<u64>() + facts.phantom_bytes + last.size(name);
        let crowded = limits.messages.is_some_and(|max| count > max)
            || limits.bytes.is_some_and(|max| bytes > max);
        // What was deleted by hand since the purge was decided is not kept.
        let after = facts.live.len() as u64 + facts.phantoms;
        let mut purges = self.allowed.get(&id).into_iter().flatten();
        let purged = purges.any(|allowed| {
            allowed.before.is_none_or(|before| through < before)
                && allowed.keep.is_none_or(|keep| after >= keep)
        });
        // However large it is, the newest stays, except for its age.
        let justified = crowded && last.sequence < facts.last
            || limits
                .age
                .is_some_and(|max| latest_wall.since(last.published_at) >= max)
            || purged
            || row.is_some_and(|row| row.deleting && limits.inactivity.is_some());
        let age = latest_wall.since(last.published_at);
        self.require(justified, || {
            format!(
                "a message is dropped only by a limit: {id}#{through} needed not go: {count} messages, {bytes} \
                 bytes, {age:?} old, {limits:?}"
            )
        });
    }

    /// An operator has the channel emptied by the commit that comes now.
    pub(crate) fn allow_purge(&mut self, channel: ChannelId, allowed: Allowed) {
        self.emptied += 1;
        self.allowed.entry(channel).or_default().push(allowed);
    }

    fn settle_excesses(&mut self, epoch: Epoch) {
        let mut excesses = std::mem::take(&mut self.excesses);
        excesses.retain_mut(|excess| {
            let facts = self.channels.get(&excess.channel);
            let lives = |s: &&Sequence| facts.is_some_and(|facts| facts.live.contains(s));
            let acked: BTreeSet<Sequence> = (excess.acks.iter())
                .filter(|(inbox, _)| self.positions.of_ack_inbox(inbox) == Some(excess.position))
                .flat_map(|(_, acks)| acks.iter().copied())
                .collect();
            let held = excess.held.iter().filter(|s| !acked.contains(s));
            excess.commits += 1;
            excess.epoch == epoch && held.filter(lives).count() > excess.max
        });
        if let Some(excess) = excesses.iter().find(|excess| excess.commits >= 2) {
            self.violated(excess.fact.clone());
        }
        self.excesses = excesses;
    }

    fn channel_row(&mut self, id: ChannelId, row: Option<&ChannelRow>) {
        let Some(facts) = self.channels.get(&id) else {
            return;
        };
        let (last, first) = (facts.last, facts.live.first().copied());
        match row {
            None => self.require(first.is_none(), || {
                format!("a channel goes after its messages: {id} has {first:?}")
            }),
            Some(row) => {
                let passed_over = self.is_told(id, last, row.last_sequence.next());
                if let Some(facts) = self.channels.get_mut(&id) {
                    facts.last = row.last_sequence;
                }
                self.require(row.last_sequence == last || passed_over, || {
                    format!(
                        "a channel's row tells its last message: {id} {} {last}",
                        row.last_sequence
                    )
                });
                self.require(row.deleting || first.is_none_or(|first| row.first_sequence <= first), || {
                    format!(
                        "no message is below its channel's first: {id} has {first:?}, first is {}",
                        row.first_sequence
                    )
                });
            }
        }
    }
}
