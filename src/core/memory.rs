//! What a node knows to have been committed: how far each channel was, and the last messages of its own terms. It is
//! only asked when the tables know less, which they do after Postgres itself has failed over to a replica that had
//! not got everything (see [`super::regression`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::batch::{Batch, ChannelRow};
use super::cost;
use super::ids::{ChannelId, ChannelName, Epoch, Sequence};
use super::message::Message;
use super::replicas::{Doubt, Replicas};
use super::snapshot::Snapshot;
use super::time::{Instant, Timestamp};

/// How far a channel is known to have been committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub name: ChannelName,
    pub created_at: Timestamp,
    pub last: Sequence,
}

impl Mark {
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
pub struct Marks {
    pub epoch: Epoch,
    /// Every commit waits for every replica; `None`: not told, or not of the Postgres that the last term wrote on.
    pub all_waited_for: Option<bool>,
    /// The highest channel number given out.
    pub last_channel: u64,
    pub channels: BTreeMap<ChannelId, Mark>,
}

impl Marks {
    pub fn of(tables: &Snapshot, epoch: Epoch) -> Self {
        let live = tables.channels.iter().filter(|(_, row)| !row.deleting);
        let mark = |(&id, row): (&ChannelId, &ChannelRow)| (id, Mark::of(row));
        Self {
            epoch,
            all_waited_for: None,
            last_channel: tables.counters.channel,
            channels: live.map(mark).collect(),
        }
    }
}

/// Lives as long as the process.
#[derive(Debug)]
pub struct Memory {
    epoch: Epoch,
    /// The last epoch that this node committed something in.
    served: Epoch,
    /// The last epoch before this node's own, as the tables told when its term began.
    found: Epoch,
    replicas: Replicas,
    channels: BTreeMap<ChannelId, Mark>,
    /// In which epoch each of them was known to be there.
    known_in: BTreeMap<ChannelId, Epoch>,
    /// In the order of their commits.
    messages: VecDeque<(ChannelId, Arc<Message>)>,
    bytes: usize,
    bytes_max: usize,
}

impl Memory {
    pub fn new(bytes_max: usize) -> Self {
        Self {
            epoch: Epoch::default(),
            served: Epoch::default(),
            found: Epoch::default(),
            replicas: Replicas::default(),
            channels: BTreeMap::new(),
            known_in: BTreeMap::new(),
            messages: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// The highest epoch known: no later one may be as low.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// True when nobody is known to have committed anything after this node: then it knows of all that was.
    pub fn is_exact(&self) -> bool {
        self.served == self.epoch && self.served != Epoch::default()
    }

    /// True when a replica that has been promoted can be believed to lack nothing, unless it shows otherwise.
    pub fn is_replicated(&self) -> bool {
        self.replicas.have_everything()
    }

    /// Why a replica that has been promoted may lack what nobody here remembers; `None` when it is known not to.
    pub fn in_doubt(&self) -> Option<Doubt> {
        self.replicas.in_doubt().filter(|_| !self.is_exact())
    }

    pub fn channels(&self) -> &BTreeMap<ChannelId, Mark> {
        &self.channels
    }

    /// The messages remembered of these channels that are above the sequences named, in order.
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

    /// This node has committed the batch.
    pub fn committed(&mut self, epoch: Epoch, batch: &Batch) {
        self.epoch = self.epoch.max(epoch);
        self.served = self.served.max(epoch);
        self.replicas.committed();
        for (&id, row) in &batch.channels {
            match row {
                Some(row) if !row.deleting => {
                    self.channels.insert(id, Mark::of(row));
                    self.known_in.insert(id, epoch);
                }
                Some(_) | None => {
                    self.channels.remove(&id);
                    self.known_in.remove(&id);
                }
            }
        }
        for (channel, message) in &batch.messages {
            self.bytes += cost::message(message);
            self.messages.push_back((*channel, Arc::clone(message)));
        }
        while self.bytes > self.bytes_max {
            let Some((_, message)) = self.messages.pop_front() else {
                break;
            };
            self.bytes -= cost::message(&message);
        }
    }

    /// A standby has looked at the tables.
    pub fn looked(&mut self, marks: Marks, now: Instant) {
        self.replicas.looked(marks.all_waited_for, now);
        self.saw(marks);
    }

    /// The active of these tables was heard.
    pub fn heard_active(&mut self, now: Instant) {
        self.replicas.heard_active(now);
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
    pub fn saw(&mut self, marks: Marks) {
        self.epoch = self.epoch.max(marks.epoch);
        self.channels
            .retain(|id, _| id.0 > marks.last_channel || marks.channels.contains_key(id));
        // A term that did not know better has given the number to another channel.
        let is_other = |(id, known): (&ChannelId, &Mark)| {
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
            self.messages.retain(|(id, _)| *id != other);
            self.bytes = self
                .messages
                .iter()
                .map(|(_, message)| cost::message(message))
                .sum();
        }
        self.known_in.retain(|id, _| self.channels.contains_key(id));
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
mod tests {
    use super::*;

    fn marks(epoch: u64, last_channel: u64, channels: &[(u64, u64)]) -> Marks {
        let mark = |&(id, last): &(u64, u64)| {
            let name = ChannelName::parse(format!("c{id}").into()).expect("valid");
            let last = Sequence(last);
            let created_at = Timestamp(id.cast_signed());
            let mark = Mark {
                name,
                created_at,
                last,
            };
            (ChannelId(id), mark)
        };
        Marks {
            epoch: Epoch(epoch),
            all_waited_for: None,
            last_channel,
            channels: channels.iter().map(mark).collect(),
        }
    }

    fn known(memory: &Memory) -> Vec<(u64, u64)> {
        let channels = memory.channels().iter();
        channels.map(|(id, mark)| (id.0, mark.last.0)).collect()
    }

    #[test]
    fn tables_that_know_less_take_nothing_back() {
        let mut memory = Memory::new(0);
        memory.saw(marks(7, 3, &[(1, 10), (2, 20), (3, 30)]));

        // Number 3 was not even given out there; number 2 was, and is gone.
        memory.saw(marks(5, 2, &[(1, 8)]));

        assert_eq!(known(&memory), [(1, 10), (3, 30)]);
        assert_eq!(memory.epoch(), Epoch(7));
        assert!(!memory.is_exact());
    }

    #[test]
    fn a_number_that_was_given_to_another_channel_stands_for_that_one() {
        let mut memory = Memory::new(0);
        memory.saw(marks(7, 1, &[(1, 10)]));
        let mut later = marks(8, 1, &[(1, 3)]);
        for mark in later.channels.values_mut() {
            mark.name = ChannelName::parse("other".into()).expect("valid");
        }

        memory.saw(later);

        assert_eq!(known(&memory), [(1, 3)]);
    }

    #[test]
    fn a_replica_that_lacks_a_term_is_not_believed_to_have_everything() {
        let mut memory = Memory::new(0);
        for second in 1..=3 {
            let marks = Marks {
                all_waited_for: Some(true),
                ..marks(7, 0, &[])
            };
            memory.looked(marks, Instant::from_nanos(second * 1_000_000_000));
        }
        memory.found(Epoch(7));
        assert!(memory.is_replicated());

        memory.found(Epoch(6));

        assert!(!memory.is_replicated());
    }

    #[test]
    fn only_who_committed_last_knows_of_everything() {
        let mut memory = Memory::new(0);
        assert!(!memory.is_exact());

        memory.committed(Epoch(3), &Batch::default());
        assert!(memory.is_exact());

        memory.saw(marks(4, 0, &[]));
        assert!(!memory.is_exact());
    }
}
