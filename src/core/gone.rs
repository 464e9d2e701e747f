//! Messages that are gone for good though no limit dropped them: rows that somebody deleted by hand, that an import or a
//! failover of Postgres left out, or of which an operator says so. What takes them away notes it in the tables. What
//! is missing and not noted is not gone, only unseen (`unseen`).
//!
//! A channel's count follows: all sequences from its first to its last, without those that are gone.

use std::collections::BTreeMap;

use super::broker::Broker;
use super::channels::Channel;
use super::ids::{ChannelId, Sequence};
use super::load::LoadQuery;
use super::loads::Purpose;
use super::notice::Notice;
use super::ranges::Ranges;

/// A range of messages that are gone, as it is noted in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoneRange {
    pub channel: ChannelId,
    pub first: Sequence,
    pub last: Sequence,
    /// What the channel's count of bytes had of them.
    pub bytes: u64,
    /// How much of that has been taken from it.
    pub settled: u64,
}

/// How it is known that messages are gone, where the server itself notes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A failover of Postgres lost them.
    Failover,
    /// The channel never counted them, and has as many others as it counts.
    Counted,
    /// An operator had them deleted.
    Deleted,
}

/// What a batch changes of the notes, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GoneNotes {
    /// Messages after this one never existed: the tables were set back.
    pub forgotten_after: BTreeMap<ChannelId, Sequence>,
    /// By the first of the range: how much of its bytes has been taken from the channel's.
    pub settled: BTreeMap<(ChannelId, Sequence), u64>,
    pub added: Vec<(ChannelId, Sequence, Sequence, Reason)>,
}

impl GoneNotes {
    pub fn is_empty(&self) -> bool {
        self.forgotten_after.is_empty() && self.settled.is_empty() && self.added.is_empty()
    }
}

/// What is gone of one channel, within its first and last sequence.
#[derive(Clone, Debug, Default)]
pub(super) struct Gone {
    /// By their firsts; disjoint, and never adjacent to each other.
    ranges: BTreeMap<Sequence, Sequence>,
    count: u64,
    /// By the first of a range as it is noted: bytes that this term has taken from the channel's.
    settled: BTreeMap<Sequence, u64>,
}

impl Gone {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The end of the range that the sequence is in.
    pub(super) fn end_of(&self, sequence: Sequence) -> Option<Sequence> {
        let (_, &last) = self.ranges.range(..=sequence).next_back()?;
        (last >= sequence).then_some(last)
    }

    pub(super) fn contains(&self, sequence: Sequence) -> bool {
        self.end_of(sequence).is_some()
    }

    /// The first that is gone after this one.
    pub(super) fn next_after(&self, sequence: Sequence) -> Option<Sequence> {
        let mut after = self.ranges.range(sequence.next()..);
        after.next().map(|(&first, _)| first)
    }

    /// How many of these are gone.
    pub(super) fn count_within(&self, first: Sequence, last: Sequence) -> u64 {
        let begin = self.ranges.range(..=first).next_back();
        let begin = begin.map_or(first, |(&begin, _)| begin);
        let ranges = self
            .ranges
            .range(begin..)
            .take_while(|(from, _)| **from <= last);
        let within = ranges.map(|(&from, &to)| {
            let (from, to) = (from.max(first), to.min(last));
            (to.0 + 1).saturating_sub(from.0)
        });
        within.sum()
    }

    /// The sequence after which so many messages come that are not gone, up to the last.
    pub(super) fn before_last(&self, last: Sequence, messages: u64) -> Sequence {
        let (mut end, mut left) = (last, messages);
        for (&first, &its_last) in self.ranges.range(..=last).rev() {
            let kept = end.0.saturating_sub(its_last.0);
            if kept >= left {
                break;
            }
            left -= kept;
            end = first.previous();
        }
        Sequence(end.0.saturating_sub(left))
    }

    /// True when it was not all known.
    pub(super) fn insert(&mut self, mut first: Sequence, mut last: Sequence) -> bool {
        if last < first {
            return false;
        }
        if let Some((&before, &its_last)) = self.ranges.range(..=first).next_back()
            && its_last.next() >= first
        {
            if its_last >= last {
                return false;
            }
            first = before;
        }
        while let Some((&next, &its_last)) = self.ranges.range(first..).next()
            && next <= last.next()
        {
            self.ranges.remove(&next);
            self.count -= its_last.0 + 1 - next.0;
            last = last.max(its_last);
        }
        self.count += last.0 + 1 - first.0;
        self.ranges.insert(first, last);
        true
    }

    fn forget_before(&mut self, sequence: Sequence) {
        while let Some(entry) = self.ranges.first_entry()
            && *entry.key() < sequence
        {
            let (first, last) = entry.remove_entry();
            self.count -= last.0 + 1 - first.0;
            if last >= sequence {
                self.insert(sequence, last);
            }
        }
        self.settled = self.settled.split_off(&sequence);
    }
}

impl Channel {
    /// What remains after messages turned out to be gone.
    fn recount(&mut self) {
        let row = &mut self.row;
        while let Some(last) = self.gone.end_of(row.first_sequence) {
            row.first_sequence = last.next();
            self.gone.forget_before(row.first_sequence);
        }
        let span = row.last_sequence.next().0 - row.first_sequence.0;
        row.message_count = span - self.gone.count();
        if row.message_count == 0 {
            row.byte_count = 0;
        }
    }

    /// The oldest message was dropped.
    pub(super) fn drop_first(&mut self, bytes: u64) {
        self.row.first_sequence = self.row.first_sequence.next();
        self.row.byte_count = self.row.byte_count.saturating_sub(bytes);
        self.recount();
    }

    /// Takes the range's bytes from the channel's, as far as that was not done before; true when there were any. Of
    /// what limits had dropped before it was deleted they were taken then.
    fn settle(&mut self, range: &GoneRange) -> bool {
        let before = self.gone.settled.get(&range.first).copied();
        let before = before.unwrap_or_default().max(range.settled);
        if range.bytes <= before {
            return false;
        }
        let row = &mut self.row;
        let all = (range.last.0 + 1).saturating_sub(range.first.0).max(1);
        let from = range.first.max(row.first_sequence);
        let to = range.last.min(row.last_sequence);
        let there = (to.0 + 1).saturating_sub(from.0);
        let bytes = u128::from(range.bytes - before) * u128::from(there) / u128::from(all);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        row.byte_count = row.byte_count.saturating_sub(bytes);
        self.gone.settled.insert(range.first, range.bytes);
        true
    }

    /// Whatever is noted beyond the last committed message is not about this channel's.
    fn insert_gone(&mut self, first: Sequence, last: Sequence) -> bool {
        let first = first.max(self.row.first_sequence);
        self.gone.insert(first, last.min(self.committed))
    }
}

impl Broker {
    /// Somebody has noted that messages are gone.
    pub(super) fn look_for_gone(&mut self) {
        let is_asked = |purpose: &Purpose| matches!(purpose, Purpose::Gone);
        if self.loads.waits_for(is_asked) {
            return;
        }
        // One that is under way may not have seen this one.
        self.loads.ask(ChannelId(0), LoadQuery::Gone, Purpose::Gone);
    }

    pub(super) fn gone_loaded(&mut self, ranges: &[GoneRange]) {
        let mut changed: Vec<ChannelId> = Vec::new();
        for range in ranges {
            if self.take_note(range) && changed.last() != Some(&range.channel) {
                changed.push(range.channel);
            }
        }
        for id in changed {
            self.gone_is_known(id);
        }
    }

    /// What a read has seen of the notes.
    pub(super) fn note_gone(&mut self, id: ChannelId, ranges: &Ranges) {
        let Some(channel) = self.channels.get_mut(id) else {
            return;
        };
        let mut is_news = false;
        for (first, last) in ranges.iter() {
            is_news |= channel.insert_gone(first, last);
        }
        if is_news {
            self.gone_is_known(id);
            // Their bytes stand in the note, which nobody may know: notifications can be lost.
            self.look_for_gone();
        }
    }

    fn take_note(&mut self, range: &GoneRange) -> bool {
        let Some(channel) = self.channels.get_mut(range.channel) else {
            return false;
        };
        let has_bytes = channel.settle(range);
        if has_bytes {
            self.commits
                .settle_gone(range.channel, range.first, range.bytes);
        }
        channel.insert_gone(range.first, range.last) || has_bytes
    }

    fn gone_is_known(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(id) else {
            return;
        };
        let before = channel.row.message_count;
        channel.recount();
        let messages = before.saturating_sub(channel.row.message_count);
        if messages > 0 {
            self.notices.push_back(Notice::MessagesGone {
                channel: channel.row.name.clone(),
                messages,
            });
        }
        self.commits.touch_channel(id);
        self.retry_unseen(id);
    }

    /// A new term: what the tables say of what is gone, and what follows for the channels' rows.
    pub(super) fn restore_gone(
        &mut self,
        ranges: &[GoneRange],
        counted: &BTreeMap<ChannelId, Ranges>,
    ) {
        let before: BTreeMap<ChannelId, _> = self
            .channels
            .iter()
            .map(|(id, channel)| (id, channel.row.clone()))
            .collect();
        for range in ranges {
            self.take_note(range);
            let channel = self.channels.get(range.channel);
            if let Some(channel) = channel
                && range.last > channel.row.last_sequence
            {
                let last = channel.row.last_sequence;
                self.commits.forget_gone_after(range.channel, last);
            }
        }
        for (&id, ranges) in counted {
            for (first, last) in ranges.iter() {
                if let Some(channel) = self.channels.get_mut(id)
                    && channel.insert_gone(first, last)
                {
                    self.commits.note_gone(id, first, last, Reason::Counted);
                }
            }
        }
        for (id, before) in before {
            let Some(channel) = self.channels.get_mut(id) else {
                continue;
            };
            channel.recount();
            if channel.row != before {
                self.notices.push_back(Notice::CountCorrected {
                    channel: before.name,
                    before: before.message_count,
                    now: channel.row.message_count,
                });
                self.commits.touch_channel(id);
            }
        }
    }

    /// An operator deletes these; `bytes` is their size.
    pub(super) fn delete_range(
        &mut self,
        id: ChannelId,
        first: Sequence,
        last: Sequence,
        bytes: u64,
    ) {
        if let Some(channel) = self.channels.get_mut(id) {
            channel.row.byte_count = channel.row.byte_count.saturating_sub(bytes);
            channel.insert_gone(first, last);
            channel.recount();
            self.commits.note_gone(id, first, last, Reason::Deleted);
            self.retry_unseen(id);
        }
    }

    /// A failover of Postgres lost these, and they cannot be had back.
    pub(super) fn pass_over_lost(&mut self, id: ChannelId, first: Sequence, last: Sequence) {
        if let Some(channel) = self.channels.get_mut(id) {
            let from = first.max(channel.row.first_sequence);
            channel.gone.insert(from, last);
            self.commits.note_gone(id, first, last, Reason::Failover);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(gone: &Gone) -> Vec<(u64, u64)> {
        let ranges = gone.ranges.iter();
        ranges.map(|(first, last)| (first.0, last.0)).collect()
    }

    #[test]
    fn ranges_join_in_any_order_and_are_counted_once() {
        let mut gone = Gone::default();
        for (first, last, is_news) in [
            (10, 12, true),
            (3, 4, true),
            (11, 12, false),
            (5, 5, true),
            (20, 19, false),
            (8, 14, true),
            (7, 7, true),
        ] {
            assert_eq!(gone.insert(Sequence(first), Sequence(last)), is_news);
        }
        assert_eq!(ranges(&gone), [(3, 5), (7, 14)]);
        assert_eq!(gone.count(), 11);
        assert_eq!(gone.end_of(Sequence(9)), Some(Sequence(14)));
        assert_eq!(gone.end_of(Sequence(6)), None);
        assert_eq!(gone.next_after(Sequence(4)), Some(Sequence(7)));

        assert_eq!(gone.count_within(Sequence(4), Sequence(8)), 4);
        assert_eq!(gone.count_within(Sequence(9), Sequence(9)), 1);
        assert_eq!(gone.count_within(Sequence(15), Sequence(99)), 0);
        for (messages, before) in [(0, 20), (6, 14), (7, 5), (8, 1), (10, 0), (99, 0)] {
            let found = gone.before_last(Sequence(20), messages);
            assert_eq!(found, Sequence(before), "{messages}");
        }

        gone.insert(Sequence(6), Sequence(6));
        assert_eq!((ranges(&gone), gone.count()), (vec![(3, 14)], 12));
        gone.forget_before(Sequence(10));
        assert_eq!((ranges(&gone), gone.count()), (vec![(10, 14)], 5));
        gone.forget_before(Sequence(99));
        assert_eq!((ranges(&gone), gone.count()), (vec![], 0));
    }
}
