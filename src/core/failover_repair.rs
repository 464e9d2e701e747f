//! The tables know less than this node: Postgres has failed over to a replica that had not got the last commits.
//! Messages that are still in memory are put back under their sequences. Sequences that cannot be had back are
//! passed over, so that none is ever used for something else, and every one of them is reported to the operator.

mod repair;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::batch::{LostRange, RangeOutcome};
use super::commit_history::CommitHistory;
use super::ids::{ChannelId, ChannelName, Sequence};
use super::message::Message;
use super::replay::Outcomes;
use super::request::Publish;
use super::snapshot::Snapshot;
use super::time::Timestamp;

/// What the tables lack, by channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    channels: BTreeMap<ChannelId, Gap>,
    /// Channels that cannot be put back, because others have taken their names.
    given_up: Vec<LostRange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Gap {
    name: ChannelName,
    /// The last that the tables have.
    has: Sequence,
    /// The last that is known to have been committed.
    known: Sequence,
    /// The last that may have been.
    possible: Sequence,
    messages: BTreeMap<Sequence, Arc<Message>>,
    /// Whatever had one of these sequences was received, and will be stored again.
    is_fully_received: bool,
}

impl Gaps {
    /// Compares the tables with the history of commits. `received` are the publishes that a standby has kept, and whether it missed
    /// nothing since, given when Postgres is known to have failed over: of those that are not stored the last active may have stored each under the next
    /// sequence, unless the history has exactly what it stored, or each commit waited for the replica
    /// and this one shows everything that is known to have been there. The next is that after what the tables have, where this
    /// node has received all that came since; where it was the active meanwhile, or others publish in SQL, what is known
    /// to have been there is none of these.
    pub fn find<'a>(
        tables: &Snapshot,
        history: &CommitHistory,
        received: Option<impl Iterator<Item = (bool, &'a Publish)>>,
        outcomes: &Outcomes,
    ) -> Self {
        let mut channels = BTreeMap::new();
        let last_of = |id: &ChannelId, name: &ChannelName| match tables.channels.get(id) {
            // A number that a term which did not know better gave to another channel is that one's.
            Some(row) => (!row.deleting && row.name == *name).then_some(row.last_sequence),
            // It was deleted when its number had been given out.
            None => (id.0 > tables.counters.channel).then_some(Sequence::ZERO),
        };
        let live: BTreeMap<&ChannelName, Timestamp> = tables
            .channels
            .values()
            .filter(|row| !row.deleting)
            .map(|row| (&row.name, row.created_at))
            .collect();
        let mut given_up = Vec::new();
        for (&id, mark) in history.channels() {
            if let Some(has) = last_of(&id, &mark.name) {
                // A term that did not know better has created the channel again, and stored messages in it. Its epoch may
                // be a lost one's: an older channel is one whose deletion got lost, a younger one is that term's.
                let other = live.get(&mark.name);
                let other = other.filter(|_| !tables.channels.contains_key(&id));
                let is_replaced =
                    |other: &Timestamp| history.is_outdated(id) || *other > mark.created_at;
                if other.is_some_and(is_replaced) {
                    given_up.push(LostRange {
                        channel: id,
                        name: mark.name.clone(),
                        first: Sequence(1),
                        last: mark.last,
                        outcome: RangeOutcome::Lost,
                    });
                    continue;
                }
                let gap = Gap {
                    name: mark.name.clone(),
                    has,
                    known: mark.last.max(has),
                    possible: mark.last.max(has),
                    messages: BTreeMap::new(),
                    is_fully_received: false,
                };
                channels.insert(id, gap);
            }
        }
        // Another replica than the one that was waited for, perhaps.
        let lacks = channels
            .iter()
            .any(|(id, gap): (_, &Gap)| gap.known > gap.has || !tables.channels.contains_key(id));
        let is_complete = history.is_exact() || history.is_replicated() && !lacks;
        if let Some(received) = received.filter(|_| !is_complete) {
            for (&id, row) in tables.channels.iter().filter(|(_, row)| !row.deleting) {
                channels.entry(id).or_insert_with(|| Gap {
                    name: row.name.clone(),
                    has: row.last_sequence,
                    known: row.last_sequence,
                    possible: row.last_sequence,
                    messages: BTreeMap::new(),
                    is_fully_received: false,
                });
            }
            let mut unstored: BTreeMap<&ChannelName, BTreeSet<_>> = BTreeMap::new();
            let mut reaches_back = BTreeSet::new();
            let mut refused = BTreeSet::new();
            for (is_whole, publish) in received {
                if outcomes.stored.contains(publish) {
                    // The node received everything that came after it.
                    if is_whole && !unstored.contains_key(&publish.channel) {
                        reaches_back.insert(&publish.channel);
                    }
                } else {
                    if !outcomes.stored.knows(&publish.publisher) {
                        refused.insert(&publish.channel);
                    }
                    let Publish {
                        publisher,
                        guid,
                        channel,
                        reply,
                        data,
                    } = publish;
                    let of_channel = unstored.entry(channel).or_default();
                    of_channel.insert((guid, publisher, reply, data));
                }
            }
            for (&id, gap) in &mut channels {
                let count = unstored
                    .get(&gap.name)
                    .map_or(0, |publishes| publishes.len() as u64);
                let above = history.heard_above(id, gap.has);
                gap.possible = gap.known.max(Sequence(above.0 + count));
                gap.is_fully_received = above == gap.has
                    && !history.sql_is_used()
                    && gap.has.0 + count >= gap.known.0
                    && reaches_back.contains(&gap.name)
                    && !refused.contains(&gap.name);
            }
        }
        channels.retain(|_, gap| gap.possible > gap.has);
        let above = channels.iter().map(|(&id, gap)| (id, gap.has)).collect();
        for (id, messages) in history.messages_above(&above) {
            if let Some(gap) = channels.get_mut(&id) {
                // A term that did not know better may have stored a publish again.
                let is_wanted = |message: &Message| {
                    let is_there = outcomes.stored.contains_message(&gap.name, message);
                    message.sequence <= gap.known && !is_there
                };
                gap.messages = messages;
                gap.messages.retain(|_, message| is_wanted(message));
            }
        }
        given_up.retain(|range: &LostRange| range.first <= range.last);
        Self { channels, given_up }
    }

    /// Publishes that will be stored again under their sequences.
    pub fn restored(&self) -> impl Iterator<Item = (ChannelName, &Message)> {
        self.channels.values().flat_map(|gap| {
            let messages = gap.messages.values();
            messages.map(|message| (gap.name.clone(), &**message))
        })
    }
}

impl Gap {
    /// What becomes of the sequences that the tables lack, in order.
    fn ranges(&self, channel: ChannelId) -> Vec<LostRange> {
        let mut ranges: Vec<LostRange> = Vec::new();
        let mut add = |first: Sequence, last: Sequence, outcome: RangeOutcome| {
            if first > last {
                return;
            }
            if let Some(before) = ranges.last_mut()
                && before.outcome == outcome
            {
                before.last = last;
                return;
            }
            ranges.push(LostRange {
                channel,
                name: self.name.clone(),
                first,
                last,
                outcome,
            });
        };
        let (lost, unknown) = if self.is_fully_received {
            (RangeOutcome::StoredAnew, RangeOutcome::StoredAnew)
        } else {
            (RangeOutcome::Lost, RangeOutcome::Unknown)
        };
        let mut next = self.has.next();
        for &sequence in self.messages.keys() {
            add(next, Sequence(sequence.0 - 1), lost);
            add(sequence, sequence, RangeOutcome::Restored);
            next = sequence.next();
        }
        add(next, self.known, lost);
        add(self.known.next(), self.possible, unknown);
        ranges
    }
}

#[cfg(test)]
mod tests;
