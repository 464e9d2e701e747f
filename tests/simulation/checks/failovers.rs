//! Postgres fails over to a replica that may have been behind: what the servers told clients before is put back
//! under the same sequences, or told to be lost, and no sequence is used for something else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stanby::core::batch::{Batch, LostRange, RangeOutcome};
use stanby::core::ids::{ChannelId, Epoch, Guid, Sequence};

use super::ledger::Checks;
use crate::memory_store::MemoryStore;
use crate::world::Time;

#[derive(Debug, Default)]
pub(crate) struct Failovers {
    /// That lost something.
    pub(crate) count: u64,
    pub(crate) restored: u64,
    pub(crate) passed_over: u64,
    /// After which a node rightly believed that nothing is missing.
    pub(crate) believed: u64,
    /// Of the last one.
    pub(crate) at: Time,
    /// The last term then.
    pub(crate) epoch: Epoch,
    /// The failover before: since then an epoch is one term's.
    pub(crate) from: Time,
    /// The last one, even if nobody had committed anything since the one before.
    pub(super) latest: Time,
    /// Since when that epoch had committed something.
    pub(crate) since: Time,
    /// A channel was lost with its first messages.
    pub(crate) new_channel: bool,
    /// Messages that were committed and are not in the tables.
    pub(super) lost: BTreeSet<(ChannelId, Sequence)>,
    pub(super) lost_publishes: BTreeSet<Guid>,
    /// Clients know of these: acked or delivered.
    pub(super) spoken: BTreeSet<(ChannelId, Sequence)>,
    /// Told to the operator not to be had back.
    pub(super) told: BTreeSet<(ChannelId, Sequence)>,
    /// Once nobody could know what was lost.
    pub(super) excused: bool,
}

impl Checks {
    /// `changes` were lost.
    pub(crate) fn fails_over(&mut self, tables: &MemoryStore, changes: usize) {
        let rows = tables.snapshot();
        let mut there: BTreeMap<ChannelId, BTreeSet<Sequence>> = BTreeMap::new();
        for (channel, _, message) in tables.messages() {
            there.entry(channel).or_default().insert(message.sequence);
        }
        self.failovers.new_channel &= self.epoch == Epoch(0);
        let mut lost = Vec::new();
        for (&id, facts) in &mut self.channels {
            let live = there.remove(&id).unwrap_or_default();
            let before = std::mem::replace(&mut facts.live, live);
            let row = rows.channels.get(&id);
            if row.is_none() && id.0 <= rows.counters.channel {
                continue; // It was deleted before.
            }
            let last = row.map_or(Sequence::ZERO, |row| row.last_sequence);
            for (&sequence, message) in facts.history.range(last.next()..) {
                self.failovers.lost.insert((id, sequence));
                lost.push((id, Arc::clone(message)));
            }
            // A deletion may be lost as well, or what it was of.
            let live = &facts.live;
            let is_gone = |it: &Sequence| *it <= last && !live.contains(it);
            facts.by_hand.retain(is_gone);
            self.failovers.new_channel |= row.is_none() && !before.is_empty();
            facts.last = last;
            facts.last_published_at = row.map(|row| row.last_published_at).unwrap_or_default();
        }
        for (id, message) in lost {
            self.loses(id, &message);
        }
        // Twice in a row: what counts is what there was before the first.
        if self.epoch != Epoch(0) {
            self.failovers.at = self.now;
            self.failovers.from = self.failovers.latest;
            // A term that committed nothing has read, and told, what the one before may not know it had committed.
            self.failovers.epoch = self.epoch.max(self.begun);
            self.failovers.since = self.epoch_since;
        }
        self.failovers.latest = self.now;
        self.failovers.count += u64::from(changes > 0);
        self.epoch = Epoch(0);
        self.begun = Epoch(0);
        self.excesses.clear();
        self.last_clients.clear();
        self.positions.fail_over(&rows);
    }

    /// The messages that the last failovers have lost.
    pub(crate) fn lost_publishes(&self) -> impl Iterator<Item = (ChannelId, Sequence, &Guid)> {
        let lost = self.failovers.lost.iter();
        lost.filter_map(|&(id, sequence)| {
            let message = self.channels.get(&id)?.history.get(&sequence)?;
            Some((id, sequence, &message.guid))
        })
    }

    /// The node that takes over had no chance to know what was committed.
    pub(crate) fn cannot_be_told(&mut self) {
        self.failovers.excused = true;
        for (id, sequence) in std::mem::take(&mut self.failovers.lost) {
            self.failovers.spoken.remove(&(id, sequence));
            if let Some(facts) = self.channels.get_mut(&id) {
                facts.history.remove(&sequence);
            }
            self.positions.forget(id, sequence);
        }
    }

    /// By a node that knows that every commit had waited for the replica.
    pub(crate) fn nothing_was_lost(&mut self, told: &[LostRange]) {
        self.failovers.believed += 1;
        self.require(told.is_empty(), || {
            format!("a replica that every commit waited for lacks nothing: {told:?}")
        });
    }

    /// A server that lives remembers these, by channel, sequence and GUID.
    pub(crate) fn what_is_remembered_is_put_back(
        &mut self,
        told: &[LostRange],
        remembered: &[(ChannelId, Sequence, Guid)],
    ) {
        let passed_over = |(channel, sequence, guid): &&(ChannelId, Sequence, Guid)| {
            let mut ranges = told
                .iter()
                .filter(|range| range.outcome != RangeOutcome::Restored);
            let is_told = ranges.any(|range| {
                range.channel == *channel && (range.first..=range.last).contains(sequence)
            });
            // A term that did not know better has stored it under another.
            is_told && !self.stored.contains_key(guid)
        };
        let lost = remembered.iter().find(passed_over).cloned();
        self.require(lost.is_none(), || {
            format!("what a living server remembers is put back: {lost:?} is not")
        });
    }

    /// What a batch tells of a failover before it.
    pub(super) fn check_told(&mut self, batch: &Batch) {
        for range in &batch.lost {
            let mut sequence = range.first;
            while sequence <= range.last {
                let key = (range.channel, sequence);
                match range.outcome {
                    RangeOutcome::Restored => {
                        self.failovers.restored += 1;
                        let mut messages = batch.messages.iter();
                        let there = messages.any(|(c, m)| (*c, m.sequence) == key);
                        self.require(there, || {
                            format!("what is told to be restored is stored: {key:?} is not")
                        });
                    }
                    RangeOutcome::Lost | RangeOutcome::StoredAnew | RangeOutcome::Unknown => {
                        self.failovers.passed_over += 1;
                        self.failovers.told.insert(key);
                    }
                }
                sequence = sequence.next();
            }
        }
    }

    /// Every sequence after `last` and before `next` was told to be passed over.
    pub(super) fn is_told(&self, channel: ChannelId, last: Sequence, next: Sequence) -> bool {
        let mut sequence = last.next();
        while sequence < next {
            if !self.failovers.told.contains(&(channel, sequence)) {
                return false;
            }
            sequence = sequence.next();
        }
        true
    }

    /// In the end.
    pub(crate) fn check_failovers(&mut self) {
        let lost = self.failovers.lost.intersection(&self.failovers.spoken);
        let untold = lost.copied().find(|key| !self.failovers.told.contains(key));
        self.require(untold.is_none(), || {
            format!("what a failover lost is told: {untold:?} is not")
        });
    }
}
