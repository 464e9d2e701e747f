//! The tables know less than this node: Postgres has failed over to a replica that had not got the last commits.
//! Messages that are still remembered are put back under their sequences. Sequences that cannot be had back are
//! passed over, so that none is ever used for something else, and every one of them is told to the operator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::batch::{ChannelRow, Fate, LostRange};
use super::broker::Broker;
use super::heard::Done;
use super::ids::{ChannelId, ChannelName, Sequence};
use super::memory::Memory;
use super::message::Message;
use super::notice::Notice;
use super::request::Publish;
use super::snapshot::Snapshot;
use super::time::Timestamp;

/// What the tables lack, by channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Regression {
    channels: BTreeMap<ChannelId, Lack>,
    /// Channels that cannot be put back, because others have taken their names.
    given_up: Vec<LostRange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Lack {
    name: ChannelName,
    /// The last that the tables have.
    has: Sequence,
    /// The last that is known to have been committed.
    known: Sequence,
    /// The last that may have been.
    possible: Sequence,
    messages: BTreeMap<Sequence, Arc<Message>>,
    /// Whatever had one of these sequences was heard, and will be stored anew.
    is_heard: bool,
}

impl Regression {
    /// Compares the tables with the memory. `heard` are the publishes that a standby remembers, given when Postgres
    /// is known to have failed over: of those that are not stored the last active may have stored each under the next
    /// sequence, unless the memory tells exactly what it stored, or each commit waited for the replica
    /// and this one shows everything that is known to have been there.
    pub fn find<'a>(
        tables: &Snapshot,
        memory: &Memory,
        heard: Option<impl Iterator<Item = &'a Publish>>,
        done: &Done,
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
        for (&id, mark) in memory.channels() {
            if let Some(has) = last_of(&id, &mark.name) {
                // A term that did not know better has made the channel anew, and stored messages in it. Its epoch may
                // be a lost one's: an older channel is one whose deletion got lost, a younger one is that term's.
                let other = live.get(&mark.name);
                let other = other.filter(|_| !tables.channels.contains_key(&id));
                let is_replaced =
                    |other: &Timestamp| memory.is_outdated(id) || *other > mark.created_at;
                if other.is_some_and(is_replaced) {
                    given_up.push(LostRange {
                        channel: id,
                        name: mark.name.clone(),
                        first: Sequence(1),
                        last: mark.last,
                        fate: Fate::Lost,
                    });
                    continue;
                }
                let lack = Lack {
                    name: mark.name.clone(),
                    has,
                    known: mark.last.max(has),
                    possible: mark.last.max(has),
                    messages: BTreeMap::new(),
                    is_heard: false,
                };
                channels.insert(id, lack);
            }
        }
        // Another replica than the one that was waited for, perhaps.
        let lacks = channels.iter().any(|(id, lack): (_, &Lack)| {
            lack.known > lack.has || !tables.channels.contains_key(id)
        });
        let is_complete = memory.is_exact() || memory.is_replicated() && !lacks;
        if let Some(heard) = heard.filter(|_| !is_complete) {
            for (&id, row) in tables.channels.iter().filter(|(_, row)| !row.deleting) {
                channels.entry(id).or_insert_with(|| Lack {
                    name: row.name.clone(),
                    has: row.last_sequence,
                    known: row.last_sequence,
                    possible: row.last_sequence,
                    messages: BTreeMap::new(),
                    is_heard: false,
                });
            }
            let mut unstored: BTreeMap<&ChannelName, BTreeSet<_>> = BTreeMap::new();
            let mut reaches_back = BTreeSet::new();
            let mut refused = BTreeSet::new();
            for publish in heard {
                if done.stored.contains(publish) {
                    // The node heard everything that came after it.
                    if !unstored.contains_key(&publish.channel) {
                        reaches_back.insert(&publish.channel);
                    }
                } else {
                    if !done.stored.knows(&publish.publisher) {
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
            for lack in channels.values_mut() {
                let count = unstored
                    .get(&lack.name)
                    .map_or(0, |publishes| publishes.len() as u64);
                lack.possible = lack.known.max(Sequence(lack.has.0 + count));
                lack.is_heard = lack.has.0 + count >= lack.known.0
                    && reaches_back.contains(&lack.name)
                    && !refused.contains(&lack.name);
            }
        }
        channels.retain(|_, lack| lack.possible > lack.has);
        let above = channels.iter().map(|(&id, lack)| (id, lack.has)).collect();
        for (id, messages) in memory.messages_above(&above) {
            if let Some(lack) = channels.get_mut(&id) {
                // A term that did not know better may have stored a publish again.
                let is_wanted = |message: &Message| {
                    let is_there = done.stored.contains_message(&lack.name, message);
                    message.sequence <= lack.known && !is_there
                };
                lack.messages = messages;
                lack.messages.retain(|_, message| is_wanted(message));
            }
        }
        given_up.retain(|range: &LostRange| range.first <= range.last);
        Self { channels, given_up }
    }

    /// Publishes that will be stored again under their sequences.
    pub fn restored(&self) -> impl Iterator<Item = (ChannelName, &Message)> {
        self.channels.values().flat_map(|lack| {
            let messages = lack.messages.values();
            messages.map(|message| (lack.name.clone(), &**message))
        })
    }
}

impl Lack {
    /// What becomes of the sequences that the tables lack, in order.
    fn ranges(&self, channel: ChannelId) -> Vec<LostRange> {
        let mut ranges: Vec<LostRange> = Vec::new();
        let mut add = |first: Sequence, last: Sequence, fate: Fate| {
            if first > last {
                return;
            }
            if let Some(before) = ranges.last_mut()
                && before.fate == fate
            {
                before.last = last;
                return;
            }
            ranges.push(LostRange {
                channel,
                name: self.name.clone(),
                first,
                last,
                fate,
            });
        };
        let (lost, unknown) = if self.is_heard {
            (Fate::StoredAnew, Fate::StoredAnew)
        } else {
            (Fate::Lost, Fate::Unknown)
        };
        let mut next = self.has.next();
        for &sequence in self.messages.keys() {
            add(next, Sequence(sequence.0 - 1), lost);
            add(sequence, sequence, Fate::Restored);
            next = sequence.next();
        }
        add(next, self.known, lost);
        add(self.known.next(), self.possible, unknown);
        ranges
    }
}

impl Broker {
    /// Puts back what can be had, and passes over the rest, with the first batch of the term. To be called before
    /// anything else is handled. Tells what becomes of each sequence that was lacking.
    pub fn repair(&mut self, regression: Regression) -> Vec<LostRange> {
        let mut told = regression.given_up;
        for range in &told {
            self.counters.channel = self.counters.channel.max(range.channel.0);
            self.commits.put_counters(self.counters);
        }
        for (id, lack) in regression.channels {
            let ranges = lack.ranges(id);
            self.repair_channel(id, lack);
            let gone = ranges.iter().filter(|range| range.fate != Fate::Restored);
            for range in gone {
                self.pass_over_lost(id, range.first, range.last);
            }
            told.extend(ranges);
        }
        self.commits.tell_lost(&told);
        told
    }

    fn repair_channel(&mut self, id: ChannelId, lack: Lack) {
        if self.channels.get(id).is_none() {
            // The name may belong to a channel whose deletion got lost too.
            if let Some(older) = self.channels.find(lack.name.as_str()) {
                self.delete_channel(older, Notice::ChannelInactive(lack.name.clone()));
            }
            self.counters.channel = self.counters.channel.max(id.0);
            self.commits.put_counters(self.counters);
            self.insert_channel(
                id,
                ChannelRow {
                    name: lack.name,
                    created_at: self.now.wall,
                    deleting: false,
                    first_sequence: Sequence(1),
                    last_sequence: Sequence::ZERO,
                    last_published_at: Timestamp::default(),
                    message_count: 0,
                    byte_count: 0,
                },
            );
        }
        let Some(channel) = self.channels.get_mut(id) else {
            return;
        };
        let row = &mut channel.row;
        let first = lack.messages.keys().next().copied();
        if row.message_count == 0 {
            row.first_sequence = first.unwrap_or(lack.possible.next());
        }
        row.last_sequence = lack.possible;
        self.commits.touch_channel(id);
        for mut message in lack.messages.into_values() {
            if message.published_at < row.last_published_at {
                // A term that knew less has stored later ones under lower sequences.
                Arc::make_mut(&mut message).published_at = row.last_published_at;
            }
            row.message_count += 1;
            row.byte_count += message.size(&row.name);
            row.last_published_at = message.published_at;
            self.commits.forget_outbox_row(message.guid.clone());
            // Not into the tail, which has no holes: they are read from the store.
            self.commits.append(id, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::batch::Batch;
    use crate::core::ids::{ClientId, Epoch, Guid};
    use crate::core::limits::{Heartbeats, Limits, Settings};
    use crate::core::memory::{Mark, Marks};
    use crate::core::request::Publisher;
    use crate::core::stored::StoredPublish;
    use crate::core::time::{Instant, Now};

    fn name() -> ChannelName {
        ChannelName::parse("orders".into()).expect("valid")
    }

    fn mark(last: u64) -> Mark {
        Mark {
            name: name(),
            created_at: Timestamp(1),
            last: Sequence(last),
        }
    }

    fn guid(sequence: u64) -> Guid {
        Guid::parse(format!("g{sequence}").into()).expect("valid")
    }

    fn row(first: u64, last: u64) -> ChannelRow {
        ChannelRow {
            name: name(),
            created_at: Timestamp(1),
            deleting: false,
            first_sequence: Sequence(first),
            last_sequence: Sequence(last),
            last_published_at: Timestamp(last.cast_signed()),
            message_count: last + 1 - first,
            byte_count: 0,
        }
    }

    /// Of a node that committed these messages, the last of them its channel's last.
    fn committed(sequences: std::ops::RangeInclusive<u64>) -> Memory {
        let message = |sequence: u64| Message {
            sequence: Sequence(sequence),
            published_at: Timestamp(sequence.cast_signed()),
            client_id: ClientId::parse("me".into()).expect("valid"),
            guid: guid(sequence),
            reply: "".into(),
            data: "x".into(),
        };
        let batch = Batch {
            channels: BTreeMap::from([(ChannelId(1), Some(row(1, *sequences.end())))]),
            messages: sequences
                .map(|sequence| (ChannelId(1), Arc::new(message(sequence))))
                .collect(),
            ..Batch::default()
        };
        let mut memory = Memory::new(1 << 20);
        memory.committed(Epoch(3), &batch);
        memory
    }

    fn tables(channels: &[(u64, ChannelRow)]) -> Snapshot {
        let mut tables = Snapshot::default();
        for (id, row) in channels {
            tables.counters.channel = tables.counters.channel.max(*id);
            tables.channels.insert(ChannelId(*id), row.clone());
        }
        tables
    }

    /// What a node with this memory tells and writes; `heard` are unanswered publishes of a known failover.
    fn repair(tables: &Snapshot, memory: &Memory, heard: Option<&[u64]>) -> (String, Batch) {
        repair_beside(tables, memory, heard, &Done::default())
    }

    fn stored(sequence: u64) -> StoredPublish {
        StoredPublish {
            guid: guid(sequence),
            client_id: None,
            content: None,
        }
    }

    fn repair_beside(
        tables: &Snapshot,
        memory: &Memory,
        heard: Option<&[u64]>,
        done: &Done,
    ) -> (String, Batch) {
        let publish = |&number: &u64| Publish {
            publisher: Publisher::Client("me".into()),
            guid: guid(number),
            channel: name(),
            reply: "".into(),
            data: "x".into(),
        };
        let publishes: Vec<Publish> = heard.unwrap_or_default().iter().map(publish).collect();
        let heard = heard.map(|_| publishes.iter());
        let regression = Regression::find(tables, memory, heard, done);
        let settings = Settings {
            heartbeats: Heartbeats::default(),
            limits: Limits::default(),
            replace_durables: false,
            ack_prefix: "acks".into(),
            partition: None,
        };
        let mut broker = Broker::restore(tables.clone(), settings, Now::default());
        let told = broker.repair(regression);
        assert_eq!(broker.contradictions(), [""; 0]);
        let batch = broker.poll_batch().unwrap_or_default();
        assert_eq!(batch.lost, told);
        let told = told.iter().map(|range| {
            let LostRange {
                channel,
                first,
                last,
                fate,
                ..
            } = range;
            format!("{channel}: {first} to {last} {fate:?}")
        });
        (told.collect::<Vec<_>>().join(", "), batch)
    }

    fn sequences(batch: &Batch) -> Vec<u64> {
        batch.messages.iter().map(|(_, m)| m.sequence.0).collect()
    }

    #[test]
    fn what_is_remembered_is_put_back_and_the_rest_is_passed_over() {
        let (told, batch) = repair(&tables(&[(1, row(1, 10))]), &committed(14..=16), None);

        assert_eq!(told, "1: 11 to 13 Lost, 1: 14 to 16 Restored");
        assert_eq!(sequences(&batch), [14, 15, 16]);
        let row = batch.channels[&ChannelId(1)].clone().expect("it is kept");
        assert_eq!(
            (row.first_sequence, row.last_sequence),
            (Sequence(1), Sequence(16))
        );
        assert_eq!(row.message_count, 13);
    }

    #[test]
    fn tables_that_know_as_much_are_left_alone() {
        let memory = committed(5..=10);
        for last in [10, 11] {
            let (told, batch) = repair(&tables(&[(1, row(1, last))]), &memory, Some(&[90, 91]));
            assert_eq!((told.as_str(), batch), ("", Batch::default()));
        }
    }

    #[test]
    fn a_channel_that_was_lost_comes_back_and_one_that_was_deleted_does_not() {
        let memory = committed(1..=3);

        let (told, batch) = repair(&tables(&[]), &memory, None);
        assert_eq!(told, "1: 1 to 3 Restored");
        assert_eq!(batch.counters.map(|counters| counters.channel), Some(1));
        assert_eq!(sequences(&batch), [1, 2, 3]);

        let mut other = row(1, 5);
        other.name = ChannelName::parse("other".into()).expect("valid");
        let (told, _) = repair(&tables(&[(2, other)]), &memory, None);
        assert_eq!(told, "");
    }

    #[test]
    fn a_name_that_was_given_to_a_lost_channel_goes_back_to_it() {
        let mut tables = tables(&[(1, row(1, 4))]);
        tables.counters.channel = 1;
        let mut memory = Memory::new(0);
        memory.saw(Marks {
            epoch: Epoch(3),
            all_waited_for: None,
            last_channel: 1,
            channels: BTreeMap::from([(ChannelId(2), mark(2))]),
        });

        let (told, batch) = repair(&tables, &memory, None);

        assert_eq!(told, "2: 1 to 2 Lost");
        let deleting = |id| {
            batch.channels[&ChannelId(id)]
                .as_ref()
                .map(|row| row.deleting)
        };
        assert_eq!((deleting(1), deleting(2)), (Some(true), Some(false)));
    }

    /// Both terms have the same number: the tables lacked the one that is remembered.
    #[test]
    fn a_channel_that_a_term_made_anew_is_kept_and_the_lost_one_is_told() {
        let anew = ChannelRow {
            created_at: Timestamp(2),
            ..row(1, 4)
        };
        let mut tables = tables(&[(1, anew)]);
        tables.counters.channel = 1;
        let mut memory = Memory::new(0);
        memory.saw(Marks {
            epoch: Epoch(3),
            all_waited_for: None,
            last_channel: 2,
            channels: BTreeMap::from([(ChannelId(2), mark(2))]),
        });
        memory.found(Epoch(3));

        let (told, batch) = repair(&tables, &memory, None);

        assert_eq!(told, "2: 1 to 2 Lost");
        assert_eq!(batch.channels, BTreeMap::new());
        assert_eq!(batch.counters.expect("changed").channel, 2);
    }

    /// Of a standby that has seen every commit wait for every replica.
    fn waited_for(last: u64) -> Memory {
        let mut memory = Memory::new(0);
        for second in 1..=3 {
            let marks = Marks {
                epoch: Epoch(3),
                all_waited_for: Some(true),
                last_channel: 1,
                channels: BTreeMap::from([(ChannelId(1), mark(last))]),
            };
            memory.looked(marks, Instant::from_nanos(second * 1_000_000_000));
        }
        memory
    }

    #[test]
    fn nothing_is_passed_over_on_a_replica_that_every_commit_waited_for() {
        let tables = tables(&[(1, row(1, 12))]);

        let (told, batch) = repair(&tables, &waited_for(10), Some(&[13, 14]));

        assert_eq!(told, "");
        assert_eq!(batch, Batch::default());
    }

    #[test]
    fn a_replica_that_lacks_something_known_may_lack_more() {
        let lagging = tables(&[(1, row(1, 10))]);
        let (told, _) = repair(&lagging, &waited_for(12), Some(&[11, 12, 13]));
        assert_eq!(told, "1: 11 to 12 Lost, 1: 13 to 13 Unknown");

        // It has not even got the channel, which was empty when it was seen last.
        let (told, _) = repair(&Snapshot::default(), &waited_for(0), Some(&[1, 2]));
        assert_eq!(told, "1: 1 to 2 Unknown");
    }

    #[test]
    fn a_standby_passes_over_what_may_have_been_given_to_what_it_heard() {
        let tables = tables(&[(1, row(1, 10))]);
        let mut memory = Memory::new(0);
        memory.saw(Marks {
            epoch: Epoch(3),
            all_waited_for: None,
            last_channel: 1,
            channels: BTreeMap::from([(ChannelId(1), mark(12))]),
        });

        let (told, batch) = repair(&tables, &memory, Some(&[11, 12, 13, 13]));
        assert_eq!(told, "1: 11 to 12 Lost, 1: 13 to 13 Unknown");
        assert_eq!(sequences(&batch), [0; 0]);

        // Without a failover of Postgres what was heard is only under way.
        let (told, _) = repair(&tables, &memory, None);
        assert_eq!(told, "1: 11 to 12 Lost");
        // Who was the active knows which were given out.
        let (told, _) = repair(&tables, &committed(1..=12), Some(&[13, 14]));
        assert_eq!(told, "1: 11 to 12 Restored");
    }

    #[test]
    fn sequences_of_what_is_stored_anew_are_not_told_as_lost() {
        let tables = tables(&[(1, row(1, 10))]);
        let mut memory = Memory::new(0);
        memory.saw(Marks {
            epoch: Epoch(3),
            all_waited_for: None,
            last_channel: 1,
            channels: BTreeMap::from([(ChannelId(1), mark(12))]),
        });
        let mut done = Done::default();
        for sequence in 1..=10 {
            done.stored.add(name(), stored(sequence));
        }

        let (told, _) = repair_beside(&tables, &memory, Some(&[9, 10, 11, 12, 13]), &done);
        assert_eq!(told, "1: 11 to 13 StoredAnew");
        // Fewer than were lost, or some came before the node listened.
        let (told, _) = repair_beside(&tables, &memory, Some(&[10, 11]), &done);
        assert_eq!(told, "1: 11 to 12 Lost");
        let (told, _) = repair_beside(&tables, &memory, Some(&[11, 12, 13]), &done);
        assert_eq!(told, "1: 11 to 12 Lost, 1: 13 to 13 Unknown");
    }

    #[test]
    fn messages_put_back_are_not_older_than_those_before_them() {
        let mut tables = tables(&[(1, row(1, 10))]);
        let later = Timestamp(1_000);
        let row = tables.channels.get_mut(&ChannelId(1)).expect("it is there");
        row.last_published_at = later;

        let (_, batch) = repair(&tables, &committed(11..=12), None);

        assert!(batch.messages.iter().all(|(_, m)| m.published_at == later));
    }
}
