//! The store as data: applies the same batches as Postgres does, in memory. Simulation and scenarios run on it;
//! the store tests keep it honest by applying the same batches to both.

#[path = "memory_store/in_sql.rs"]
mod in_sql;
#[path = "memory_store/lately.rs"]
mod lately;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use stanby::core::admin::{RequestChange, RequestId, RequestRow};
use stanby::core::batch::{AckedChange, Batch, ChannelRow, ProgressChange, Trim};
use stanby::core::gone::GoneRange;
use stanby::core::ids::{ChannelId, Epoch, PositionId, Sequence, Subject};
use stanby::core::load::{Hole, Load, LoadQuery, Loaded, Oldest, Unreadable};
use stanby::core::message::Message;
use stanby::core::outbox::{OutboxId, OutboxRow};
use stanby::core::policy::{DeadLetter, Policy};
use stanby::core::ranges::Ranges;
use stanby::core::snapshot::Snapshot;
use stanby::core::time::Timestamp;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryStore {
    rows: Snapshot,
    messages: BTreeMap<(ChannelId, Sequence), (Epoch, Arc<Message>)>,
    /// By channel and the last sequence of each lot that was dropped.
    dropped: BTreeMap<(ChannelId, Sequence), lately::Dropped>,
    /// Heartbeat inboxes of clients that were closed or replaced.
    closed: BTreeSet<Subject>,
    /// What was published in SQL, by number, and when it is due.
    outbox: BTreeMap<OutboxId, (Option<Timestamp>, OutboxRow)>,
    outbox_rows: u64,
    ack_rows: u64,
    /// What operators have set.
    pub(crate) policies: Vec<Policy>,
    pub(crate) dead_letters: Vec<(ChannelId, Sequence, DeadLetter)>,
    /// By the last request that did.
    pub(crate) redriven: BTreeMap<(ChannelId, Sequence), RequestId>,
    pub(crate) dropped_unacked: BTreeMap<ChannelId, u64>,
    pub(crate) outbox_refused: Vec<(OutboxRow, String)>,
    /// What operators have asked for, and the answers.
    requests: BTreeMap<RequestId, (RequestRow, Option<RequestChange>)>,
    /// Rows that are there and cannot be read.
    pub(crate) broken: BTreeSet<(ChannelId, Sequence)>,
    /// Rows that are there and that no read finds.
    pub(crate) hidden: BTreeSet<(ChannelId, Sequence)>,
    /// What time it is, since any moment.
    pub(crate) clock: Duration,
    moved_at: BTreeMap<PositionId, Duration>,
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
        for deleted in &batch.deleted {
            let trim = Trim {
                after: deleted.first.previous(),
                through: deleted.last,
            };
            self.trim(deleted.channel, trim, Some(deleted.settled));
        }
        put(&mut self.rows.limits, &batch.limits);
        for (&position, paused) in &batch.paused {
            if *paused {
                self.rows.paused.insert(position);
            } else {
                self.rows.paused.remove(&position);
            }
        }
        let moved = batch.moved.iter().map(|&id| (id, self.clock));
        self.moved_at.extend(moved);
        self.apply_gone(batch);
        self.apply_outbox(batch);
        put(&mut self.rows.counts, &batch.counts);
        let positions = &self.rows.positions;
        self.rows
            .counts
            .retain(|(position, _), _| positions.contains_key(position));
        self.dead_letters.extend(batch.dead_letters.iter().cloned());
        self.redriven.extend(&batch.redriven);
        for (id, dropped) in &batch.dropped_unacked {
            *self.dropped_unacked.entry(*id).or_default() += dropped.messages;
        }
        self.apply_requests(batch);
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

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            policies: self.policies.clone(),
            moved: self
                .moved_at
                .iter()
                .map(|(&id, &at)| (id, self.clock.saturating_sub(at)))
                .collect(),
            ..self.rows.clone()
        }
    }

    pub(crate) fn load(&self, load: &Load) -> Loaded {
        let of_channel = |from: Sequence, to: Sequence| {
            let from_there = self.messages.range((load.channel, from)..);
            from_there
                .take_while(move |&(&key, _)| key <= (load.channel, to))
                .filter(|(key, _)| !self.hidden.contains(key))
                .map(|(_, (_, message))| Arc::clone(message))
        };
        let max = Sequence(u64::MAX);
        match &load.query {
            LoadQuery::Range {
                first,
                last,
                count,
                bytes,
            } => {
                let (messages, complete) = page(of_channel(*first, *last), *count, *bytes);
                let through = if complete { *last } else { last_of(&messages) };
                let asked = through.next().0.saturating_sub(first.0);
                self.loaded(load.channel, messages, through, (*first, asked))
            }
            LoadQuery::Exactly { sequences, bytes } => {
                let stored = sequences
                    .iter()
                    .filter(|&&s| !self.hidden.contains(&(load.channel, s)))
                    .filter_map(|&s| self.messages.get(&(load.channel, s)));
                let stored = stored.map(|(_, message)| Arc::clone(message));
                let (messages, complete) = page(stored, usize::MAX, *bytes);
                let asked = sequences.last().copied().unwrap_or_default();
                let through = if complete { asked } else { last_of(&messages) };
                let first = sequences.first().copied().unwrap_or_default();
                let asked = sequences.iter().filter(|s| **s <= through).count() as u64;
                self.loaded(load.channel, messages, through, (first, asked))
            }
            LoadQuery::FirstSince(time) => {
                let mut messages = of_channel(Sequence::ZERO, max);
                let first = messages.find(|message| message.published_at >= *time);
                let first = first.map(|message| message.sequence);
                let hole = self.rows.channels.get(&load.channel).and_then(|row| {
                    let last = first.map_or(row.last_sequence, Sequence::previous);
                    let before = of_channel(Sequence::ZERO, last).last();
                    let after = before.map_or(Sequence::ZERO, |message| message.sequence.next());
                    let from = after.max(row.first_sequence);
                    (from <= last).then(|| Hole {
                        first: from,
                        last,
                        gone: self.gone(load.channel, from, last),
                    })
                });
                Loaded::FirstSince { first, hole }
            }
            LoadQuery::Oldest { first, count } => {
                let Some(ChannelRow { name, .. }) = self.rows.channels.get(&load.channel) else {
                    return Loaded::Oldest {
                        oldest: Vec::new(),
                        gone: self.gone(load.channel, *first, max),
                    };
                };
                let oldest = of_channel(*first, max).take(*count).map(|message| Oldest {
                    sequence: message.sequence,
                    published_at: message.published_at,
                    size: message.size(name),
                });
                let oldest: Vec<Oldest> = oldest.collect();
                let last = oldest.last().map_or(max, |last| last.sequence);
                let is_dense = last < max && last.next().0 == first.0 + oldest.len() as u64;
                let gone = if is_dense {
                    Ranges::default()
                } else {
                    self.gone(load.channel, *first, last)
                };
                Loaded::Oldest { oldest, gone }
            }
            LoadQuery::Outbox {
                gaps,
                ack_gaps,
                due,
                put_off,
                rows,
                bytes: _,
                payload_bytes,
                settles: _,
            } => Loaded::Outbox(self.outbox_page(
                [gaps, ack_gaps],
                (*due, put_off),
                *rows,
                *payload_bytes,
            )),
            LoadQuery::Policies => Loaded::Policies(self.policies.clone()),
            LoadQuery::DeadLetters {
                first,
                last,
                again,
                rows,
            } => Loaded::DeadLetters(self.letters(load.channel, (*first, *last), *again, *rows)),
            LoadQuery::Requests { rows } => Loaded::Requests(self.request_page(*rows)),
            LoadQuery::Gone => {
                let ranges = self.rows.gone.iter().copied();
                Loaded::Gone(
                    ranges
                        .filter(|range| range.bytes != range.settled)
                        .collect(),
                )
            }
        }
    }

    /// `asked` is the first of those that were, and their number.
    fn loaded(
        &self,
        id: ChannelId,
        page: Vec<Arc<Message>>,
        through: Sequence,
        asked: (Sequence, u64),
    ) -> Loaded {
        let gone = if page.len() as u64 == asked.1 {
            Ranges::default()
        } else {
            self.gone(id, asked.0, through)
        };
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
            gone,
        }
    }

    /// What is noted as gone of these.
    fn gone(&self, channel: ChannelId, first: Sequence, last: Sequence) -> Ranges {
        let ranges = self.rows.gone.iter();
        let ranges = ranges.filter(|r| r.channel == channel && r.last >= first && r.first <= last);
        ranges
            .map(|range| (range.first.max(first), range.last.min(last)))
            .collect()
    }

    /// Every stored message with the epoch that stored it, by channel and sequence.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (ChannelId, Epoch, &Arc<Message>)> {
        self.messages
            .iter()
            .map(|(&(channel, _), (epoch, message))| (channel, *epoch, message))
    }

    /// What an operator does with `DELETE FROM messages`, and what the trigger of the table notes of it.
    pub(crate) fn delete_message(&mut self, channel: ChannelId, sequence: Sequence) {
        let deleted = self.messages.remove(&(channel, sequence));
        let row = self.rows.channels.get(&channel);
        if let Some((_, message)) = deleted
            && let Some(row) = row
            && (row.first_sequence..=row.last_sequence).contains(&sequence)
        {
            let bytes = message.size(&row.name);
            self.note_gone(channel, sequence, sequence, bytes);
        }
    }

    /// Somebody notes that these are gone, which counted as so many bytes.
    pub(crate) fn note_gone(
        &mut self,
        channel: ChannelId,
        first: Sequence,
        last: Sequence,
        bytes: u64,
    ) {
        let before = self.rows.gone.iter_mut();
        let mut before = before.filter(|range| range.channel == channel && range.first <= first);
        if let Some(range) = before.next_back()
            && range.last.next() >= first
        {
            range.last = range.last.max(last);
            range.bytes += bytes;
            return;
        }
        self.rows.gone.push(GoneRange {
            channel,
            first,
            last,
            bytes,
            settled: 0,
        });
        self.rows
            .gone
            .sort_by_key(|range| (range.channel, range.first));
    }

    fn apply_gone(&mut self, batch: &Batch) {
        if batch.gone.is_empty() {
            return;
        }
        for (&channel, &after) in &batch.gone.forgotten_after {
            self.rows
                .gone
                .retain(|range| range.channel != channel || range.first <= after);
            for range in &mut self.rows.gone {
                if range.channel == channel {
                    range.last = range.last.min(after);
                }
            }
        }
        for range in &mut self.rows.gone {
            let settled = batch.gone.settled.get(&(range.channel, range.first));
            range.settled = settled.copied().unwrap_or(range.settled);
        }
        for &(channel, first, last, _) in &batch.gone.added {
            self.note_gone(channel, first, last, 0);
        }
        let channels = &self.rows.channels;
        self.rows.gone.retain(|range| {
            let row = channels.get(&range.channel);
            row.is_some_and(|row| row.first_sequence <= range.last)
        });
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
