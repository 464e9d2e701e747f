//! The store without a database: applies the same batches and answers the same loads. The simulation runs on it;
//! `tests/store/equivalence.rs` keeps it honest.

use std::collections::BTreeMap;
use std::sync::Arc;

use stanby::core::batch::Batch;
use stanby::core::ids::{ChannelId, Epoch, Sequence};
use stanby::core::load::{Load, Loaded, Oldest, Want};
use stanby::core::message::Message;
use stanby::core::snapshot::Snapshot;

#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryStore {
    rows: Snapshot,
    messages: BTreeMap<(ChannelId, Sequence), (Arc<Message>, Epoch)>,
}

impl MemoryStore {
    /// Fails the test where Postgres would refuse the batch.
    pub(crate) fn apply(&mut self, batch: &Batch, epoch: Epoch) {
        let rows = &mut self.rows;
        if let Some(counters) = batch.counters {
            rows.counters.channel = rows.counters.channel.max(counters.channel);
            rows.counters.subscription = rows.counters.subscription.max(counters.subscription);
        }
        put(&mut rows.channels, &batch.channels);
        for (channel, message) in &batch.messages {
            let key = (*channel, message.sequence);
            let before = self.messages.insert(key, (Arc::clone(message), epoch));
            assert!(before.is_none(), "message {key:?} is written twice");
        }
        for (&trimmed, &through) in &batch.trims {
            self.messages
                .retain(|&(channel, sequence), _| channel != trimmed || sequence > through);
        }
        put(&mut rows.clients, &batch.clients);
        for (id, heartbeat) in &batch.heartbeats {
            if let Some(client) = rows.clients.get_mut(id) {
                client.heartbeat = *heartbeat;
            }
        }
        put(&mut rows.positions, &batch.positions);
        for (id, progress) in &batch.progress {
            let position = rows.positions.get_mut(id);
            position
                .unwrap_or_else(|| panic!("progress of position {id}, which does not exist"))
                .progress = progress.clone();
        }
        put(&mut rows.subscriptions, &batch.subscriptions);
        let mut names = BTreeMap::new();
        for (id, channel) in rows
            .channels
            .iter()
            .filter(|(_, channel)| !channel.deleting)
        {
            let other = names.insert(channel.name.clone(), id);
            assert!(
                other.is_none(),
                "channels {other:?} and {id} have the same name"
            );
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.rows.clone()
    }

    pub(crate) fn load(&self, load: &Load) -> Loaded {
        let channel = load.channel;
        let of_channel = || {
            let range = (channel, Sequence(0))..=(channel, Sequence(u64::MAX));
            self.messages
                .range(range)
                .map(|(&(_, sequence), (message, _))| (sequence, message))
        };
        match &load.want {
            Want::Range {
                first,
                last,
                count,
                bytes,
            } => {
                let wanted =
                    of_channel().filter(|(sequence, _)| (first..=last).contains(&sequence));
                page(wanted.map(|(_, message)| message), *last, *count, *bytes)
            }
            Want::Exactly { sequences, bytes } => {
                let wanted = of_channel().filter(|(sequence, _)| sequences.contains(sequence));
                let last = sequences.iter().max().copied().unwrap_or_default();
                page(wanted.map(|(_, message)| message), last, usize::MAX, *bytes)
            }
            Want::FirstSince(since) => {
                let channel = self.rows.channels.get(&channel);
                let first = channel.map_or(Sequence(u64::MAX), |channel| channel.first_sequence);
                let mut kept = of_channel().filter(|&(sequence, _)| sequence >= first);
                let found = kept.find(|(_, message)| message.published_at >= *since);
                Loaded::FirstSince(found.map(|(sequence, _)| sequence))
            }
            Want::Oldest { first, count } => {
                let Some(row) = self.rows.channels.get(&channel) else {
                    return Loaded::Oldest(Vec::new());
                };
                let wanted = of_channel().filter(|(sequence, _)| sequence >= first);
                let oldest = wanted.take(*count).map(|(sequence, message)| Oldest {
                    sequence,
                    published_at: message.published_at,
                    size: message.size(&row.name),
                });
                Loaded::Oldest(oldest.collect())
            }
        }
    }

    /// Terms that wrote the channel's messages, in order of sequence.
    pub(crate) fn epochs(&self, channel: ChannelId) -> Vec<(Sequence, Epoch)> {
        let range = (channel, Sequence(0))..=(channel, Sequence(u64::MAX));
        self.messages
            .range(range)
            .map(|(&(_, sequence), &(_, epoch))| (sequence, epoch))
            .collect()
    }

    /// What an operator does by hand.
    pub(crate) fn punch_hole(&mut self, channel: ChannelId, sequence: Sequence) {
        self.messages.remove(&(channel, sequence));
    }
}

fn put<K: Ord + Clone, V: Clone>(rows: &mut BTreeMap<K, V>, written: &BTreeMap<K, Option<V>>) {
    for (key, row) in written {
        match row {
            Some(row) => drop(rows.insert(key.clone(), row.clone())),
            None => drop(rows.remove(key)),
        }
    }
}

fn page<'a>(
    wanted: impl Iterator<Item = &'a Arc<Message>>,
    last: Sequence,
    count: usize,
    bytes: usize,
) -> Loaded {
    let mut messages: Vec<Arc<Message>> = Vec::new();
    let mut size = 0;
    let cut = |messages: &[Arc<Message>]| messages.last().map_or(last, |last| last.sequence);
    for message in wanted {
        size += message.data.len();
        let is_first = size == message.data.len();
        if size > bytes && !is_first {
            return Loaded::Messages {
                through: cut(&messages),
                messages,
            };
        }
        messages.push(Arc::clone(message));
        if messages.len() >= count {
            return Loaded::Messages {
                through: cut(&messages),
                messages,
            };
        }
    }
    Loaded::Messages {
        messages,
        through: last,
    }
}
