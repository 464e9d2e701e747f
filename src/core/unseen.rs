//! Messages that a read does not find, and nothing says that they are gone: a policy hides them, an index is damaged, a
//! tool has moved them away. "Not seen" is not "acked". The group that is to get them waits there, all others go on, and
//! the read is made again from time to time: when the rows are back, or somebody has said that they are gone, it goes on by
//! itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::broker::Broker;
use super::channels::Channel;
use super::deadlines::Timer;
use super::gone::Gone;
use super::group::Due;
use super::ids::{ChannelId, ChannelName, PositionId, Sequence};
use super::load::{Load, LoadQuery, Unreadable};
use super::message::Message;
use super::notice::Notice;
use super::time::Instant;

/// Unseen messages that one group waits for, at most, one by one.
const IN_FLIGHT_MAX: usize = 1024;

/// What a group waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct UnseenMessages {
    /// New messages: the first and the last of those that are missing.
    pub(super) next: Option<(Sequence, Sequence)>,
    /// No page is read before.
    until: Instant,
    /// Messages to be redelivered.
    in_flight: BTreeSet<Sequence>,
}

/// Messages of a channel that are missing and not known to be gone, and wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnseenRange {
    pub channel: ChannelName,
    pub first: Sequence,
    pub last: Sequence,
}

impl Channel {
    /// The first range in `first..=last` that is neither found (they ascend), nor gone, nor dropped by a limit.
    pub(super) fn unseen(
        &self,
        first: Sequence,
        last: Sequence,
        found: impl Iterator<Item = Sequence>,
    ) -> Option<(Sequence, Sequence)> {
        let mut next = first.max(self.row.first_sequence);
        for there in found.chain([last.next()]) {
            while next < there {
                let Some(end) = self.gone.end_of(next) else {
                    let gone = self.gone.next_after(next);
                    let until = gone.map_or(there, |gone| gone.min(there));
                    return Some((next, until.previous()));
                };
                next = end.next();
            }
            next = next.max(there.next());
        }
        None
    }
}

impl Broker {
    /// The page that was read is cut before the first message that is unseen; returns those.
    pub(super) fn cut_page(
        &mut self,
        asked: &Load,
        messages: &mut Vec<Arc<Message>>,
        unreadable: &mut Vec<Unreadable>,
        through: &mut Sequence,
    ) -> Option<(Sequence, Sequence)> {
        let LoadQuery::Range { first, .. } = asked.query else {
            return None;
        };
        let expected = through.next().0.saturating_sub(first.0);
        if (messages.len() + unreadable.len()) as u64 == expected {
            return None;
        }
        let channel = self.channels.get(asked.channel)?;
        let mut found: Vec<Sequence> = messages.iter().map(|message| message.sequence).collect();
        found.extend(unreadable.iter().map(|row| row.sequence));
        found.sort_unstable();
        let unseen = channel.unseen(first, *through, found.into_iter())?;
        *through = unseen.0.previous();
        messages.retain(|message| message.sequence < unseen.0);
        unreadable.retain(|row| row.sequence < unseen.0);
        Some(unseen)
    }

    /// A page was read: the group waits before what is unseen, or no longer.
    pub(super) fn wait_for_unseen(
        &mut self,
        position: PositionId,
        unseen: Option<(Sequence, Sequence)>,
    ) {
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        let Some((first, last)) = unseen else {
            if let Some(missing) = &mut group.unseen {
                missing.next = None;
                if missing.in_flight.is_empty() {
                    group.unseen = None;
                    self.waiting_for_unseen.remove(&position);
                }
            }
            return;
        };
        let until = self.now.monotonic + self.settings.limits.unseen_retry;
        let missing = group.unseen.get_or_insert_default();
        missing.until = until;
        let is_news = missing.next.replace((first, last)) != Some((first, last));
        let channel = group.channel;
        self.deadlines.set(Timer::Unseen(position), until);
        self.waiting_for_unseen.insert(position);
        if is_news {
            self.note_unseen(channel, first, last);
        }
    }

    /// The next message of the group is unseen, and it is too early to look again.
    pub(super) fn is_waiting_for_unseen(&self, position: PositionId) -> bool {
        self.groups.get(&position).is_some_and(|group| {
            let missing = group.unseen.as_ref();
            missing.is_some_and(|missing| {
                missing.until > self.now.monotonic
                    && missing
                        .next
                        .is_some_and(|(first, _)| first == group.last_sent.next())
            })
        })
    }

    /// Takes the messages of a redelivery that are unseen; they are due again after a while.
    pub(super) fn postpone_unseen(
        &mut self,
        position: PositionId,
        asked: &[Sequence],
        found: &BTreeSet<Sequence>,
    ) -> BTreeSet<Sequence> {
        let again = self.now.monotonic + self.settings.limits.unseen_retry;
        let Some(group) = self.groups.get_mut(&position) else {
            return BTreeSet::new();
        };
        let Some(channel) = self.channels.get(group.channel) else {
            return BTreeSet::new();
        };
        let is_unseen = |sequence: Sequence| {
            !found.contains(&sequence)
                && channel.unseen(sequence, sequence, [].into_iter()).is_some()
        };
        let unseen: BTreeSet<Sequence> = asked.iter().copied().filter(|&s| is_unseen(s)).collect();
        let mut is_news = true;
        if let Some(missing) = &mut group.unseen {
            is_news = unseen.is_disjoint(&missing.in_flight);
            missing
                .in_flight
                .retain(|sequence| asked.binary_search(sequence).is_err());
        }
        let Some(&first) = unseen.first() else {
            return unseen;
        };
        let channel = group.channel;
        let missing = group.unseen.get_or_insert_default();
        for &sequence in unseen.iter().take(IN_FLIGHT_MAX) {
            missing.in_flight.insert(sequence);
        }
        for &sequence in &unseen {
            group.set_due(sequence, Due::At(again));
        }
        self.waiting_for_unseen.insert(position);
        if is_news {
            let mut last = first;
            while unseen.contains(&last.next()) {
                last = last.next();
            }
            self.note_unseen(channel, first, last);
        }
        unseen
    }

    fn note_unseen(&mut self, id: ChannelId, first: Sequence, last: Sequence) {
        if let Some(channel) = self.channels.get(id) {
            self.notices.push_back(Notice::MessagesUnseen {
                channel: channel.row.name.clone(),
                first,
                last,
            });
        }
    }

    /// More is known of what is gone of the channel: whoever waits for it need not wait.
    pub(super) fn retry_unseen(&mut self, id: ChannelId) {
        let now = self.now.monotonic;
        let positions: Vec<PositionId> = self.waiting_for_unseen.iter().copied().collect();
        for position in positions {
            let Some(group) = self.groups.get_mut(&position) else {
                self.waiting_for_unseen.remove(&position);
                continue;
            };
            if group.channel != id {
                continue;
            }
            let Some(missing) = &mut group.unseen else {
                continue;
            };
            missing.until = now;
            let in_flight = std::mem::take(&mut missing.in_flight);
            let is_due = !in_flight.is_empty();
            for sequence in in_flight {
                group.set_due(sequence, Due::At(now));
            }
            if is_due {
                self.arm_redelivery(position, now);
            }
            self.deliver(position);
        }
    }

    /// Messages that somebody waits for, by channel the first range of them.
    pub fn unseen(&self) -> Vec<UnseenRange> {
        let mut found: Vec<(ChannelId, Gone)> = Vec::new();
        for position in &self.waiting_for_unseen {
            let Some(group) = self.groups.get(position) else {
                continue;
            };
            let Some(missing) = group.unseen.as_ref().filter(|_| group.is_listening()) else {
                continue;
            };
            let known = found.iter().position(|(id, _)| *id == group.channel);
            let index = known.unwrap_or_else(|| {
                found.push((group.channel, Gone::default()));
                found.len() - 1
            });
            let ranges = &mut found[index].1;
            if let Some((first, last)) = missing.next
                && first > group.last_sent
            {
                ranges.insert(first, last);
            }
            let in_flight = missing.in_flight.iter();
            for &sequence in in_flight.filter(|sequence| group.in_flight.contains_key(sequence)) {
                ranges.insert(sequence, sequence);
            }
        }
        let ranges = found.into_iter().filter_map(|(id, ranges)| {
            let first = ranges.next_after(Sequence::ZERO)?;
            Some(UnseenRange {
                channel: self.channels.get(id)?.row.name.clone(),
                first,
                last: ranges.end_of(first)?,
            })
        });
        ranges.collect()
    }

    /// Where a subscription that starts at a time is to start, when these are missing before the first message of that
    /// time: they may be of that time.
    pub(super) fn start_before_unseen(
        &mut self,
        id: ChannelId,
        hole: (Sequence, Sequence),
    ) -> Option<Sequence> {
        let channel = self.channels.get(id)?;
        let last = hole.1.min(channel.committed);
        let (first, last) = channel.unseen(hole.0, last, [].into_iter())?;
        self.note_unseen(id, first, last);
        Some(first)
    }
}
