//! The store as data: applies the same batches as Postgres does, in memory. Simulation and scenarios run on it;
//! the store tests keep it honest by applying the same batches to both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stanby::core::batch::{AckedChange, Batch, ChannelRow, ProgressChange, Trim};
use stanby::core::heard::{LookBack, Stored};
use stanby::core::ids::{ChannelId, ChannelName, Epoch, PositionId, Sequence, Subject};
use stanby::core::load::{Load, Loaded, Oldest, Unreadable, Want};
use stanby::core::message::Message;
use stanby::core::snapshot::Snapshot;
use stanby::core::stored::StoredPublish;
use stanby::store::heard::digest;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryStore {
    rows: Snapshot,
    messages: BTreeMap<(ChannelId, Sequence), (Epoch, Arc<Message>)>,
    /// By channel and the last sequence of each lot that was dropped.
    dropped: BTreeMap<(ChannelId, Sequence), (ChannelName, Vec<StoredPublish>)>,
    /// Heartbeat inboxes of clients that were closed or replaced.
    closed: BTreeSet<Subject>,
    /// Rows that are there and cannot be read.
    pub(crate) broken: BTreeSet<(ChannelId, Sequence)>,
}

impl MemoryStore {
    /// Applies a batch as one transaction.
    ///
    /// # Panics
    /// Where Postgres refuses the batch: a sequence that is stored already, progress of a position that does
    /// not exist, two channels with one name.
    pub(crate) fn apply(&mut self, batch: &Batch, epoch: Epoch) {
        if let Some(counters) = batch.counters {
            self.rows.counters = counters;
        }
        put(&mut self.rows.channels, &batch.channels);
        for (channel, message) in &batch.messages {
            let key = (*channel, message.sequence);
            let before = self.messages.insert(key, (epoch, Arc::clone(message)));
            assert!(before.is_none(), "sequence {key:?} was stored twice");
        }
        for (&channel, &trim) in &batch.trims {
            let settled = batch.guids_kept_after.get(&channel).copied();
            self.trim(channel, trim, settled);
        }
        for (id, row) in &batch.clients {
            let before = self.rows.clients.get(id).map(|row| &row.heartbeat_inbox);
            let ended = before
                .filter(|before| row.as_ref().map(|row| &row.heartbeat_inbox) != Some(before));
            self.closed.extend(ended.cloned());
        }
        put(&mut self.rows.clients, &batch.clients);
        for (client, &heartbeat) in &batch.heartbeats {
            if let Some(row) = self.rows.clients.get_mut(client) {
                row.heartbeat = heartbeat;
            }
        }
        put(&mut self.rows.positions, &batch.positions);
        for (position, change) in &batch.progress {
            let row = self.rows.positions.get_mut(position);
            let row = row.unwrap_or_else(|| panic!("position {position} does not exist"));
            change.apply(&mut row.progress);
            self.change_pages(*position, change);
        }
        for (&(position, page), held) in &batch.holders {
            let pages = self.rows.holders.entry(position).or_default();
            match held {
                Some(held) => drop(pages.insert(page, held.clone())),
                None => drop(pages.remove(&page)),
            }
        }
        for (position, _) in batch.positions.iter().filter(|(_, row)| row.is_none()) {
            self.rows.pages.remove(position);
            self.rows.holders.remove(position);
        }
        self.rows.holders.retain(|_, pages| !pages.is_empty());
        put(&mut self.rows.subscriptions, &batch.subscriptions);
        let mut names = BTreeMap::new();
        for (id, channel) in self.rows.channels.iter().filter(|(_, row)| !row.deleting) {
            let other = names.insert(channel.name.clone(), id);
            assert!(other.is_none(), "channels {other:?} and {id} have one name");
        }
    }

    fn change_pages(&mut self, position: PositionId, change: &ProgressChange) {
        let (AckedChange::Row { clears, .. } | AckedChange::Pages { clears, .. }) = &change.acked;
        let mut pages = self.rows.pages.remove(&position).unwrap_or_default();
        if *clears {
            pages.clear();
        }
        if let AckedChange::Pages { changed, gone, .. } = &change.acked {
            pages.retain(|page, _| !gone.contains(page));
            pages.extend(changed.iter().map(|page| (page.page, page.pages)));
        }
        assert!(
            pages.is_empty() || matches!(change.acked, AckedChange::Pages { .. }),
            "the row of position {position} tells everything while it has pages"
        );
        if !pages.is_empty() {
            self.rows.pages.insert(position, pages);
        }
    }

    fn trim(&mut self, channel: ChannelId, trim: Trim, settled: Option<Sequence>) {
        let Trim { after, through } = trim;
        let kept = self.messages.split_off(&(channel, Sequence::ZERO));
        let (gone, kept): (Vec<_>, Vec<_>) = kept.into_iter().partition(|&((c, sequence), _)| {
            c == channel && sequence > after && sequence <= through
        });
        self.messages.extend(kept);
        let Some(settled) = settled else { return };
        self.dropped
            .retain(|&(c, through), _| c != channel || through > settled);
        let mut young = gone.iter().filter(|((_, s), _)| *s > settled).peekable();
        if young.peek().is_none() {
            return;
        }
        let publishes: Vec<StoredPublish> = young.map(|(_, (_, m))| publish(m)).collect();
        let last = gone.last().map_or(through, |((_, last), _)| *last);
        let name = self.rows.channels[&channel].name.clone();
        self.dropped.insert((channel, last), (name, publishes));
    }

    /// What a takeover is told of the publishes that were heard, and of all others there.
    pub(crate) fn stored(&self, places: &BTreeMap<ChannelId, LookBack>) -> Stored {
        let mut stored = Stored::default();
        for (&channel, place) in places {
            let messages = self.messages.range((channel, Sequence::ZERO)..);
            let messages = messages.take_while(|&(&(c, _), _)| c == channel);
            let recent = messages
                .filter(|(_, (_, m))| m.sequence > place.after || m.published_at >= place.since)
                .filter(|(_, (_, m))| m.sequence > place.floor);
            stored
                .kept
                .extend(recent.map(|(_, (_, m))| (channel, publish(m))));
        }
        for (name, publishes) in self.dropped.values() {
            let dropped = publishes
                .iter()
                .map(|publish| (name.clone(), publish.clone()));
            stored.dropped.extend(dropped);
        }
        stored
    }

    /// Those of the connections that have ended.
    pub(crate) fn closed_connections<'a>(
        &self,
        connections: impl Iterator<Item = &'a Subject>,
    ) -> BTreeSet<Subject> {
        let ended = connections.filter(|inbox| self.closed.contains(*inbox));
        ended.cloned().collect()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.rows.clone()
    }

    pub(crate) fn load(&self, load: &Load) -> Loaded {
        let of_channel = |from: Sequence, to: Sequence| {
            let from_there = self.messages.range((load.channel, from)..);
            from_there
                .take_while(move |&(&key, _)| key <= (load.channel, to))
                .map(|(_, (_, message))| Arc::clone(message))
        };
        let max = Sequence(u64::MAX);
        match &load.want {
            Want::Range {
                first,
                last,
                count,
                bytes,
            } => {
                let (messages, complete) = page(of_channel(*first, *last), *count, *bytes);
                let through = if complete { *last } else { last_of(&messages) };
                self.loaded(load.channel, messages, through)
            }
            Want::Exactly { sequences, bytes } => {
                let stored = sequences
                    .iter()
                    .filter_map(|&s| self.messages.get(&(load.channel, s)));
                let stored = stored.map(|(_, message)| Arc::clone(message));
                let (messages, complete) = page(stored, usize::MAX, *bytes);
                let asked = sequences.last().copied().unwrap_or_default();
                let through = if complete { asked } else { last_of(&messages) };
                self.loaded(load.channel, messages, through)
            }
            Want::FirstSince(time) => {
                let mut messages = of_channel(Sequence::ZERO, max);
                let first = messages.find(|message| message.published_at >= *time);
                Loaded::FirstSince(first.map(|message| message.sequence))
            }
            Want::Oldest { first, count } => {
                let Some(ChannelRow { name, .. }) = self.rows.channels.get(&load.channel) else {
                    return Loaded::Oldest(Vec::new());
                };
                let oldest = of_channel(*first, max).take(*count).map(|message| Oldest {
                    sequence: message.sequence,
                    published_at: message.published_at,
                    size: message.size(name),
                });
                Loaded::Oldest(oldest.collect())
            }
        }
    }

    fn loaded(&self, id: ChannelId, page: Vec<Arc<Message>>, through: Sequence) -> Loaded {
        let is_broken = |message: &Arc<Message>| self.broken.contains(&(id, message.sequence));
        let (broken, messages) = page.into_iter().partition(is_broken);
        let unreadable = |message: Arc<Message>| Unreadable {
            sequence: message.sequence,
            why: "broken".to_owned(),
        };
        Loaded::Messages {
            messages,
            unreadable: Vec::into_iter(broken).map(unreadable).collect(),
            through,
        }
    }

    /// Every stored message with the epoch that stored it, by channel and sequence.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (ChannelId, Epoch, &Arc<Message>)> {
        self.messages
            .iter()
            .map(|(&(channel, _), (epoch, message))| (channel, *epoch, message))
    }

    /// What an operator does with `DELETE FROM messages`.
    pub(crate) fn delete_message(&mut self, channel: ChannelId, sequence: Sequence) {
        self.messages.remove(&(channel, sequence));
    }
}

fn publish(message: &Message) -> StoredPublish {
    StoredPublish {
        guid: message.guid.clone(),
        client_id: Some(message.client_id.clone()),
        content: Some(digest(&message.reply, &message.data)),
    }
}

fn put<K: Clone + Ord, V: Clone>(rows: &mut BTreeMap<K, V>, changes: &BTreeMap<K, Option<V>>) {
    for (key, change) in changes {
        match change {
            Some(row) => rows.insert(key.clone(), row.clone()),
            None => rows.remove(key),
        };
    }
}

/// As many messages as fit, and whether they are known to be all.
fn page(
    messages: impl Iterator<Item = Arc<Message>>,
    count: usize,
    bytes: usize,
) -> (Vec<Arc<Message>>, bool) {
    let mut page: Vec<Arc<Message>> = Vec::new();
    let mut size = 0;
    for message in messages {
        size += message.bytes();
        if size > bytes && !page.is_empty() {
            return (page, false);
        }
        page.push(message);
        if page.len() == count {
            return (page, false);
        }
    }
    (page, true)
}

fn last_of(messages: &[Arc<Message>]) -> Sequence {
    messages
        .last()
        .map(|message| message.sequence)
        .unwrap_or_default()
}
