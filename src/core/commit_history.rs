//! What a node knows to have been committed: how far each channel was, and the last messages of its own terms. It is
//! only asked when the tables know less, which they do after Postgres itself has failed over to a replica that had
//! not got everything (see [`super::failover_repair`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, ChannelRow};
use super::ids::{ChannelId, ChannelName, Epoch, Sequence};
use super::memory_size;
use super::message::Message;
use super::replicas::{Doubt, Promoted, Replicas};
use super::snapshot::Snapshot;
use super::time::{Instant, Timestamp};

/// Sessions of one server that goes end within this of each other, and what was received by then is handled within it.
const PARTING: Duration = Duration::from_millis(250);

/// How far a channel is known to have been committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HighWaterMark {
    pub name: ChannelName,
    pub created_at: Timestamp,
    pub last: Sequence,
}

impl HighWaterMark {
    fn of(row: &ChannelRow) -> Self {
        Self {
            name: row.name.clone(),
            created_at: row.created_at,
            last: row.last_sequence,
        }
    }
}

/// The channels as the tables show them at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HighWaterMarks {
    pub epoch: Epoch,
    /// Every commit waits for every replica; `None`: not known, or not of the Postgres that the last term wrote on.
    pub all_waited_for: Option<bool>,
    /// Somebody has published or acked in SQL, ever: no standby hears of such messages.
    pub sql_is_used: bool,
    /// The highest channel number given out.
    pub last_channel: u64,
    pub channels: BTreeMap<ChannelId, HighWaterMark>,
}

impl HighWaterMarks {
    pub fn of(tables: &Snapshot, epoch: Epoch) -> Self {
        let live = tables.channels.iter().filter(|(_, row)| !row.deleting);
        let mark = |(&id, row): (&ChannelId, &ChannelRow)| (id, HighWaterMark::of(row));
        Self {
            epoch,
            all_waited_for: None,
            sql_is_used: false,
            last_channel: tables.counters.channel,
            channels: live.map(mark).collect(),
        }
    }
}

/// An active of these tables, as it announces itself on NATS. Nobody proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
    pub received_at: Instant,
    pub epoch: Epoch,
}

/// What a server answers another one that takes over after a failover of Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The last epoch that it committed something in; none where another one has served since.
    pub served: Epoch,
    /// How far channels are, and in which epoch they were known to be there.
    pub channels: BTreeMap<ChannelId, (HighWaterMark, Epoch)>,
    /// In the order of their commits.
    pub messages: Vec<(ChannelId, Arc<Message>)>,
}

/// Lives as long as the process.
#[derive(Debug)]
pub struct CommitHistory {
    epoch: Epoch,
    /// The last epoch that this node committed something in.
    served: Epoch,
    /// When it sent the last of what it has committed.
    served_at: Instant,
    /// The last epoch of which another node has named its commits.
    reported: Epoch,
    reported_at: Instant,
    /// The last epoch in which another node announced that it serves.
    observed: Epoch,
    /// When one last did. A failover may have lost that an epoch had begun, and then another term has the same number, or a
    /// lower one: which of two came later only times tell.
    observed_at: Option<Instant>,
    /// The last epoch before this node's own, as the tables had it when its term began.
    found: Epoch,
    replicas: Replicas,
    lost_primary_at: Option<Instant>,
    channels: BTreeMap<ChannelId, HighWaterMark>,
    /// In which epoch each of them was known to be there.
    known_in: BTreeMap<ChannelId, Epoch>,
    /// How far they were when this node last committed something in them: what it heard as a standby came after that.
    served_through: BTreeMap<ChannelId, Sequence>,
    /// Publishes in SQL may be in the channels, of which no standby hears.
    sql_is_used: bool,
    /// In the order of their commits.
    messages: VecDeque<(ChannelId, Arc<Message>)>,
    bytes: usize,
    bytes_max: usize,
}

impl CommitHistory {
    pub fn new(bytes_max: usize) -> Self {
        Self {
            epoch: Epoch::default(),
            served: Epoch::default(),
            served_at: Instant::default(),
            reported: Epoch::default(),
            reported_at: Instant::default(),
            observed: Epoch::default(),
            observed_at: None,
            found: Epoch::default(),
            replicas: Replicas::default(),
            lost_primary_at: None,
            channels: BTreeMap::new(),
            known_in: BTreeMap::new(),
            served_through: BTreeMap::new(),
            sql_is_used: false,
            messages: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Believes an operator about the replicas that Postgres fails over to.
    #[must_use]
    pub fn with_database_failover(mut self, promoted: Promoted) -> Self {
        self.replicas = Replicas::new(promoted);
        self
    }

    /// The highest epoch known: no later one may be as low.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// True when nobody is known to have committed anything after this node, or after one that has sent its history to this one:
    /// then it knows of all that was.
    pub fn is_exact(&self) -> bool {
        let is_last = |known: Epoch, at: Instant| {
            known == self.epoch && known >= self.observed && self.observed_at <= Some(at)
        };
        self.epoch != Epoch::default()
            && (is_last(self.served, self.served_at) || is_last(self.reported, self.reported_at))
    }

    /// True when these tables lack something that is known.
    pub fn is_ahead_of(&self, tables: &Snapshot, last_term: Epoch) -> bool {
        let lacks = |(id, known): (&ChannelId, &HighWaterMark)| match tables.channels.get(id) {
            Some(row) => !row.deleting && row.name == known.name && row.last_sequence < known.last,
            None => id.0 > tables.counters.channel,
        };
        last_term < self.epoch || self.channels.iter().any(lacks)
    }

    /// What this node has in memory beyond tables that have these channels up to these sequences.
    pub fn account(&self, has: &BTreeMap<ChannelId, Sequence>) -> Account {
        let is_news =
            |id: &ChannelId, sequence: Sequence| has.get(id).is_none_or(|&has| sequence > has);
        let channels = self
            .channels
            .iter()
            .filter(|(id, mark)| is_news(id, mark.last));
        let known_in = |id: &ChannelId| self.known_in.get(id).copied().unwrap_or_default();
        let channels = channels.map(|(&id, mark)| (id, (mark.clone(), known_in(&id))));
        let messages = self.messages.iter();
        let messages = messages.filter(|(id, message)| is_news(id, message.sequence));
        // Whoever asks takes the epoch for known to its end, and asks nobody else.
        let is_last = self.observed_at <= Some(self.served_at);
        Account {
            served: if is_last {
                self.served
            } else {
                Epoch::default()
            },
            channels: channels.collect(),
            messages: messages.cloned().collect(),
        }
    }

    /// Remembers what another node does, until this one has committed as much itself.
    pub fn learn(&mut self, account: Account, now: Instant) {
        self.epoch = self.epoch.max(account.served);
        let is_later = account.served >= self.served.max(self.reported);
        if account.served != Epoch::default() && account.served >= self.reported {
            self.reported = account.served;
            self.reported_at = now;
        }
        for (id, (mark, known_in)) in account.channels {
            let before = self.known_in.get(&id).copied().unwrap_or_default();
            match self.channels.get_mut(&id) {
                Some(known) if known.name == mark.name => {
                    known.last = known.last.max(mark.last);
                    self.known_in.insert(id, before.max(known_in));
                }
                // A term that did not know better has given the number to another channel.
                Some(_) if before >= known_in => {}
                Some(_) | None => {
                    self.served_through.remove(&id);
                    self.channels.insert(id, mark);
                    self.known_in.insert(id, known_in);
                }
            }
        }
        // Servers that take over in turn without a commit ask each other again and again: each message is kept once. Where two
        // messages have one sequence, that of the later term counts: it comes later.
        let key = |(id, message): &(ChannelId, Arc<Message>)| {
            (*id, message.sequence, message.guid.clone())
        };
        let mut reported = account.messages;
        if is_later {
            let known: BTreeSet<_> = reported.iter().map(key).collect();
            let bytes = &mut self.bytes;
            self.messages.retain(|it| {
                let stays = !known.contains(&key(it));
                *bytes -= if stays {
                    0
                } else {
                    memory_size::message(&it.1)
                };
                stays
            });
        } else {
            let known: BTreeSet<_> = self.messages.iter().map(key).collect();
            reported.retain(|it| !known.contains(&key(it)));
        }
        self.bytes += reported
            .iter()
            .map(|(_, message)| memory_size::message(message))
            .sum::<usize>();
        if is_later {
            self.messages.extend(reported);
        } else {
            for message in reported.into_iter().rev() {
                self.messages.push_front(message);
            }
        }
    }

    /// True when a replica that has been promoted can be believed to lack nothing, unless it shows otherwise.
    pub fn is_replicated(&self) -> bool {
        self.replicas.have_everything()
    }

    /// Why a replica that has been promoted may lack what no server has in memory; `None` when it is known not to.
    pub fn in_doubt(&self) -> Option<Doubt> {
        self.replicas.in_doubt().filter(|_| !self.is_exact())
    }

    pub fn channels(&self) -> &BTreeMap<ChannelId, HighWaterMark> {
        &self.channels
    }

    /// True when the channels may have messages that were published in SQL.
    pub(super) fn sql_is_used(&self) -> bool {
        self.sql_is_used
    }

    /// What this node has received as a standby and the tables do not show has sequences above this, if any: all up to this
    /// one may be of others, which it did not receive, or received as the active. The tables have the channel up to `has`.
    pub(super) fn heard_above(&self, channel: ChannelId, has: Sequence) -> Sequence {
        let known = if self.sql_is_used {
            self.channels.get(&channel).map(|mark| mark.last)
        } else {
            self.served_through.get(&channel).copied()
        };
        known.map_or(has, |known| known.max(has))
    }

    /// The messages in memory of these channels that are above the sequences named, in order.
    pub(super) fn messages_above(
        &self,
        above: &BTreeMap<ChannelId, Sequence>,
    ) -> BTreeMap<ChannelId, BTreeMap<Sequence, Arc<Message>>> {
        let mut found: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (channel, message) in &self.messages {
            if above
                .get(channel)
                .is_some_and(|&above| message.sequence > above)
            {
                let of_channel = found.entry(*channel).or_default();
                of_channel.insert(message.sequence, Arc::clone(message));
            }
        }
        found
    }

    /// This node has committed the batch, and had sent it at `sent_at`. It may hear of that much later: after a pause in which
    /// others have served.
    pub fn committed(&mut self, epoch: Epoch, batch: &Batch, sent_at: Instant) {
        self.epoch = self.epoch.max(epoch);
        self.served = self.served.max(epoch);
        self.served_at = self.served_at.max(sent_at);
        self.replicas.committed();
        for (&id, row) in &batch.channels {
            match row {
                Some(row) if !row.deleting => {
                    self.channels.insert(id, HighWaterMark::of(row));
                    self.known_in.insert(id, epoch);
                    self.served_through.insert(id, row.last_sequence);
                }
                Some(_) | None => {
                    self.channels.remove(&id);
                    self.known_in.remove(&id);
                    self.served_through.remove(&id);
                }
            }
        }
        for (channel, message) in &batch.messages {
            self.bytes += memory_size::message(message);
            self.messages.push_back((*channel, Arc::clone(message)));
        }
        while self.bytes > self.bytes_max {
            let Some((_, message)) = self.messages.pop_front() else {
                break;
            };
            self.bytes -= memory_size::message(&message);
        }
    }

    /// The session of this node ended, which had been open on the primary: it may have gone.
    pub fn lost_primary(&mut self, now: Instant) {
        self.lost_primary_at = Some(now);
    }

    /// After this nobody has committed anything on the primary that was there before: it had gone, and the active, which was
    /// that last announced itself at `last_sign_at`, had fallen silent. `None`: not known.
    pub fn last_commit_before(&self, last_sign_at: Option<Instant>) -> Option<Instant> {
        let lost_at = self.lost_primary_at?;
        Some(lost_at.max(last_sign_at.unwrap_or(lost_at)) + PARTING)
    }

    /// A standby has looked at the tables.
    pub fn observe_at(&mut self, marks: HighWaterMarks, now: Instant) {
        self.replicas.observe_sync(marks.all_waited_for, now);
        self.observe(marks);
    }

    /// The active of these tables announced itself, which the tables may not show: not yet, or not any more.
    pub fn observed_active(&mut self, sign: Sign) {
        self.observed = self.observed.max(sign.epoch);
        self.observed_at = self.observed_at.max(Some(sign.received_at));
        self.replicas.observed_active(sign.received_at);
    }

    /// The last term that the tables know of, before this node's own begins. When it is not the last one that is known,
    /// they lack something, whatever was believed.
    pub fn found(&mut self, last_term: Epoch) {
        self.found = last_term;
        if last_term < self.epoch {
            self.replicas.contradicted();
        }
    }

    /// True when a term has served on these tables since the channel was known to be there: what else they show, they
    /// may show because of that term, and not because they have forgotten something.
    pub(super) fn is_outdated(&self, channel: ChannelId) -> bool {
        self.known_in
            .get(&channel)
            .is_none_or(|known_in| *known_in < self.found)
    }

    /// The tables show this, whoever wrote them. Never takes back what was known: they may be a replica's that had
    /// not got everything. A channel that they have given a number to and do not show was deleted.
    pub fn observe(&mut self, marks: HighWaterMarks) {
        self.epoch = self.epoch.max(marks.epoch);
        self.sql_is_used |= marks.sql_is_used;
        self.channels
            .retain(|id, _| id.0 > marks.last_channel || marks.channels.contains_key(id));
        // A term that did not know better has given the number to another channel.
        let is_other = |(id, known): (&ChannelId, &HighWaterMark)| {
            let seen = marks
                .channels
                .get(id)
                .filter(|seen| seen.name != known.name);
            seen.map(|_| *id)
        };
        let others: Vec<ChannelId> = self.channels.iter().filter_map(is_other).collect();
        for other in others {
            self.channels.remove(&other);
            self.known_in.remove(&other);
            self.served_through.remove(&other);
            self.messages.retain(|(id, _)| *id != other);
            self.bytes = self
                .messages
                .iter()
                .map(|(_, message)| memory_size::message(message))
                .sum();
        }
        self.known_in.retain(|id, _| self.channels.contains_key(id));
        self.served_through
            .retain(|id, _| self.channels.contains_key(id));
        for (id, seen) in marks.channels {
            self.known_in.insert(id, marks.epoch);
            match self.channels.get_mut(&id) {
                Some(known) => known.last = known.last.max(seen.last),
                None => {
                    self.channels.insert(id, seen);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
