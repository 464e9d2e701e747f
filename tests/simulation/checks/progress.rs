//! Promises about what consumers have got: the tables show as acked what was acked, or never wanted, or does
//! not exist any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stanby::core::batch::{Batch, PositionRow, Progress, SubscriptionRow};
use stanby::core::ids::{
    BatchNumber, ChannelId, ChannelName, ClientId, DurableName, PositionId, QueueName, Sequence,
    SubscriptionId,
};
use stanby::core::message::Message;
use stanby::core::request::StartPosition;
use stanby::core::snapshot::Snapshot;

use super::ledger::Checks;

#[derive(Debug)]
pub(super) struct PositionFacts {
    pub(super) channel: ChannelId,
    pub(super) queue: bool,
    called: Called,
    /// Where it began.
    pub(super) start: Sequence,
    /// As committed.
    pub(super) progress: Progress,
    pub(super) handled: Handled,
}

/// What tells a position from others, beside its channel and whatever its number is: after a failover of Postgres the number of
/// one that was lost is given out again.
#[derive(Debug, PartialEq, Eq)]
struct Called {
    queue: Option<QueueName>,
    durable: Option<DurableName>,
    /// Not of a queue group: the client of a durable, or else the inbox.
    whose: Option<String>,
}

impl Called {
    fn of(id: PositionId, row: &PositionRow, batch: &Batch) -> Self {
        let mut members = batch.subscriptions.values().flatten();
        let first = members.find(|member| member.position == id);
        let whose = first.map(|member| match &row.durable_name {
            Some(_) => member.client_id.to_string(),
            None => member.inbox.to_string(),
        });
        Self {
            queue: row.queue_group.clone(),
            durable: row.durable_name.clone(),
            whose: whose.filter(|_| row.queue_group.is_none()),
        }
    }
}

/// What a subscribe asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) channel: ChannelName,
    pub(super) start: StartPosition,
    /// Whose, and what it is called; not of a queue group.
    pub(super) durable: Option<(ClientId, DurableName)>,
}

/// By applications.
#[derive(Clone, Debug, Default)]
pub(super) struct Handled {
    /// Whether or not the ack arrived.
    acked: BTreeSet<Sequence>,
    pub(super) received: BTreeSet<Sequence>,
}

impl Handled {
    fn extend(&mut self, other: Self) {
        self.acked.extend(other.acked);
        self.received.extend(other.received);
    }

    fn forget(&mut self, sequence: Sequence) {
        self.acked.remove(&sequence);
        self.received.remove(&sequence);
    }
}

#[derive(Debug, Default)]
pub(super) struct Positions {
    /// Of which channel a subscription is to be, and where it wants to begin, by its inbox.
    pub(super) wanted: BTreeMap<String, Wanted>,
    pub(super) positions: BTreeMap<PositionId, PositionFacts>,
    /// Deleted: a failover of Postgres may bring them back.
    gone: BTreeMap<PositionId, PositionFacts>,
    /// Every subscription that was ever committed, by its inbox, but those that were lost with a position whose number is another
    /// one's by now.
    pub(super) subscriptions: BTreeMap<String, SubscriptionRow>,
    pub(super) inbox_of_ack_inbox: BTreeMap<String, String>,
    /// By subscription inbox: a subscribe that is carried out again makes another position under the same ack
    /// inbox, and what the application has done with a message it has done once and for all.
    handled: BTreeMap<String, Handled>,
    /// Ack inboxes in the commits of this epoch.
    pub(super) committed: BTreeSet<String>,
    /// Of this epoch.
    pub(super) last_batch: BatchNumber,
}

impl Positions {
    /// Whose acks are received there, of what is committed.
    pub(super) fn of_ack_inbox(&self, ack_inbox: &str) -> Option<PositionId> {
        let inbox = self.inbox_of_ack_inbox.get(ack_inbox)?;
        self.subscriptions.get(inbox).map(|row| row.position)
    }

    /// The tables are those of an earlier time.
    pub(super) fn fail_over(&mut self, rows: &Snapshot) {
        let mut all = std::mem::take(&mut self.gone);
        all.append(&mut self.positions);
        for (&id, row) in &rows.positions {
            if let Some(mut facts) = all.remove(&id) {
                facts.progress = row.progress.clone();
                self.positions.insert(id, facts);
            }
        }
        self.gone = all;
        for row in rows.subscriptions.values() {
            let (inbox, ack_inbox) = (row.inbox.to_string(), row.ack_inbox.to_string());
            self.inbox_of_ack_inbox.insert(ack_inbox, inbox.clone());
            self.subscriptions.insert(inbox, row.clone());
        }
    }

    /// The sequence may be another message's from now on.
    pub(super) fn forget(&mut self, channel: ChannelId, sequence: Sequence) {
        let all = self.positions.iter_mut().chain(&mut self.gone);
        let mut forgetting = BTreeSet::new();
        for (&id, facts) in all.filter(|(_, facts)| facts.channel == channel) {
            facts.handled.forget(sequence);
            forgetting.insert(id);
        }
        for (inbox, handled) in &mut self.handled {
            let row = self.subscriptions.get(inbox);
            if row.is_some_and(|row| forgetting.contains(&row.position)) {
                handled.forget(sequence);
            }
        }
    }

    fn moves(&mut self, id: PositionId, to: Sequence) {
        let Some(facts) = self.positions.get_mut(&id) else {
            return;
        };
        let after = to.previous();
        facts.start = after;
        facts.progress = Progress {
            last_sent: after,
            acked_floor: after,
            ..Progress::default()
        };
        facts.handled.received.retain(|sequence| *sequence < to);
        for (inbox, handled) in &mut self.handled {
            if self
                .subscriptions
                .get(inbox)
                .is_some_and(|row| row.position == id)
            {
                handled.received.retain(|sequence| *sequence < to);
            }
        }
    }

    /// The number is another position's: who was at the lost one is not at this one.
    fn forget_lost(&mut self, id: PositionId, batch: &Batch) {
        let rows = batch.subscriptions.values().flatten();
        let there: BTreeSet<&str> = rows.map(|row| row.inbox.as_str()).collect();
        self.subscriptions
            .retain(|inbox, row| row.position != id || there.contains(inbox.as_str()));
    }

    fn handles(&mut self, inbox: &str, handle: impl Fn(&mut Handled)) {
        handle(self.handled.entry(inbox.to_owned()).or_default());
        if let Some(facts) = self.of_inbox(inbox) {
            handle(&mut facts.handled);
        }
    }

    /// Another epoch than before commits.
    pub(super) fn begin_epoch(&mut self) {
        self.committed.clear();
        self.last_batch = BatchNumber::default();
    }

    /// Takes note of the subscriptions of a batch. Returns what their applications bring along for the positions
    /// that the batch makes.
    fn subscribed(&mut self, batch: &Batch) -> BTreeMap<PositionId, Handled> {
        let mut brought: BTreeMap<PositionId, Handled> = BTreeMap::new();
        self.last_batch = batch.number;
        for row in batch.subscriptions.values().flatten() {
            let (inbox, ack_inbox) = (row.inbox.to_string(), row.ack_inbox.to_string());
            let handled = self.handled.get(&inbox).cloned().unwrap_or_default();
            match self.positions.get_mut(&row.position) {
                Some(facts) => facts.handled.extend(handled),
                None => brought.entry(row.position).or_default().extend(handled),
            }
            self.committed.insert(ack_inbox.clone());
            self.inbox_of_ack_inbox.insert(ack_inbox, inbox.clone());
            self.subscriptions.insert(inbox, row.clone());
        }
        brought
    }

    pub(super) fn of_inbox(&mut self, inbox: &str) -> Option<&mut PositionFacts> {
        let position = self.subscriptions.get(inbox)?.position;
        let here = self.positions.get_mut(&position);
        here.or_else(|| self.gone.get_mut(&position))
    }
}

/// True when the progress says that nothing more is to come of the message.
pub(super) fn is_settled(progress: &Progress, sequence: Sequence) -> bool {
    sequence <= progress.acked_floor || progress.acked_above.contains(sequence)
}

impl Checks {
    /// Of a subscription that was committed.
    pub(crate) fn position_of(&self, inbox: &str) -> Option<PositionId> {
        let row = self.positions.subscriptions.get(inbox)?;
        Some(row.position)
    }

    /// A client acks a message.
    pub(crate) fn acks(&mut self, inbox: &str, sequence: Sequence) {
        self.positions.handles(inbox, |handled| {
            handled.acked.insert(sequence);
        });
    }

    /// A client gets a message.
    pub(crate) fn receives(&mut self, inbox: &str, name: &ChannelName, message: &Arc<Message>) {
        self.positions.handles(inbox, |handled| {
            handled.received.insert(message.sequence);
        });
        // It may come when its subscription is lost, and is of the channel that was asked for all the same.
        let wanted = self.positions.wanted.get(inbox);
        let same = wanted.is_some_and(|wanted| wanted.channel == *name);
        self.require(same, || {
            format!("a message names its channel: {inbox} gets one of {name}")
        });
    }

    /// An operator moves the position by the commit that comes now: everything from there on is to arrive again.
    pub(crate) fn moves(&mut self, id: PositionId, to: Sequence) {
        *self.moves.entry(id).or_default() += 1;
        self.positions.moves(id, to);
    }

    pub(super) fn check_positions(&mut self, batch: &Batch) {
        let mut brought = self.positions.subscribed(batch);
        for (&id, row) in &batch.positions {
            let Some(row) = row else {
                let gone = self.positions.positions.remove(&id);
                self.positions.gone.extend(gone.map(|facts| (id, facts)));
                continue;
            };
            if self.positions.positions.contains_key(&id) {
                self.check_progress(id, &row.progress);
            } else {
                // After a failover of Postgres a request that is carried out again may make the same position again, or the number
                // of a lost one is another one's.
                let called = Called::of(id, row, batch);
                let before = self.positions.gone.remove(&id);
                let was_there = before.is_some();
                let before = before.filter(|it| it.channel == row.channel && it.called == called);
                if was_there && before.is_none() {
                    self.positions.forget_lost(id, batch);
                    self.acked_in_sql.retain(|&(position, _), _| position != id);
                }
                let mut handled = before.map(|facts| facts.handled).unwrap_or_default();
                handled.extend(brought.remove(&id).unwrap_or_default());
                self.position_begins(batch, id, row.channel, &row.progress, &handled);
                let facts = PositionFacts {
                    channel: row.channel,
                    queue: row.queue_group.is_some(),
                    called,
                    start: row.progress.acked_floor,
                    progress: row.progress.clone(),
                    handled,
                };
                self.positions.positions.insert(id, facts);
            }
        }
        for (&id, change) in &batch.progress {
            let before = self.positions.positions.get(&id);
            let mut progress = before.map_or_else(Progress::default, |it| it.progress.clone());
            change.apply(&mut progress);
            self.check_progress(id, &progress);
        }
    }

    /// A new position skips nothing that its first subscription asked for.
    fn position_begins(
        &mut self,
        batch: &Batch,
        id: PositionId,
        channel: ChannelId,
        progress: &Progress,
        handled: &Handled,
    ) {
        let rows = batch.subscriptions.iter();
        let mut rows = rows.filter_map(|(row_id, row)| Some((row_id, row.as_ref()?)));
        // The one that made the group, numbered right after it; within the batch it may have left to others again.
        let maker = SubscriptionId(id.0 + 1);
        let inbox = rows
            .find(|(row_id, row)| **row_id == maker && row.position == id)
            .map(|(_, row)| row.inbox.to_string());
        let Some(asked) = inbox.and_then(|inbox| self.positions.wanted.get(&inbox)) else {
            return;
        };
        let Some(facts) = self.channels.get(&channel) else {
            return;
        };
        let latest_wall = self.latest_wall.0;
        let wants = |start: StartPosition, sequence: Sequence| match start {
            StartPosition::NewOnly => false,
            // Where the last ones were passed over after a failover, there is nothing to begin with.
            StartPosition::LastReceived => {
                facts.history.keys().next_back() == Some(&sequence) && facts.last == sequence
            }
            StartPosition::First => true,
            StartPosition::Sequence(first) => sequence >= first,
            StartPosition::TimeDelta(delta) => {
                facts.history[&sequence].published_at.0 >= latest_wall - delta
            }
        };
        let skips = |start: StartPosition| {
            let mut skipped = facts.live.range(..=progress.acked_floor);
            skipped.find(|&&sequence| wants(start, sequence) && !handled.acked.contains(&sequence))
        };
        // A client that gets no answer asks for its durable again, from elsewhere perhaps, and a takeover carries out both.
        let is_same = |other: &&Wanted| {
            asked.durable.is_some()
                && other.durable == asked.durable
                && other.channel == asked.channel
        };
        let mut others = self.positions.wanted.values().filter(is_same);
        let start = asked.start;
        let first = skips(start)
            .filter(|_| others.all(|other| skips(other.start).is_some()))
            .copied();
        self.require(first.is_none(), || {
            format!("a subscription begins where it asked to: {start:?} skips {channel}#{first:?}")
        });
    }

    fn check_progress(&mut self, id: PositionId, new: &Progress) {
        let Some(facts) = self.positions.positions.get_mut(&id) else {
            return;
        };
        let old = std::mem::replace(&mut facts.progress, new.clone());
        let live = self
            .channels
            .get(&facts.channel)
            .map(|channel| &channel.live);
        let later = live.map(|live| live.range(old.acked_floor.next()..));
        let mut sent = later
            .into_iter()
            .flatten()
            .take_while(|&&s| s <= new.last_sent);
        let wrong = sent.by_ref().copied().find(|&sequence| {
            is_settled(new, sequence)
                && !is_settled(&old, sequence)
                && !facts.handled.acked.contains(&sequence)
        });
        let backwards = new.last_sent < old.last_sent || new.acked_floor < old.acked_floor;
        let channel = facts.channel;
        // Where a sequence was used twice because nobody could know, an ack of one message counts for the other.
        let excused = self.failovers.excused;
        self.require(wrong.is_none() || excused, || {
            format!(
                "the tables show as acked what was acked: position {id} {channel}#{wrong:?} was not"
            )
        });
        self.require(!backwards, || {
            format!("positions do not go back: position {id} from {old:?} to {new:?}")
        });
    }
}
