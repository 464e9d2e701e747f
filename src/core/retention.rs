//! Limits of channels: the oldest messages make room by number, bytes and age; channels that nobody uses are
//! deleted. All dropping happens in bounded steps.

use std::collections::VecDeque;

use super::batch::ChannelRow;
use super::broker::Broker;
use super::deadlines::Timer;
use super::group::Group;
use super::guid_window;
use super::ids::{ChannelId, PositionId, Sequence};
use super::limits::Limits;
use super::load::{LoadQuery, Oldest};
use super::loads::Purpose;
use super::notice::Notice;
use super::policy::Full;
use super::ranges::Ranges;
use super::time::Now;

/// Messages that one batch drops of a channel that an operator has emptied: others wait for that batch, too.
const EMPTIED_PER_BATCH: u64 = 1000;

/// A deleted channel whose messages are being dropped.
#[derive(Clone, Debug)]
pub(super) struct Purge {
    pub(super) row: ChannelRow,
    /// No standby keeps publishes up to here.
    pub(super) settled: Sequence,
}

/// Messages that would be stored, where it is only asked what would be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Added {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Purge {
    pub(super) fn new(row: ChannelRow, settled: Sequence) -> Self {
        let settled = settled.max(guid_window::bound(row.last_sequence));
        Self { row, settled }
    }
}

impl Broker {
    /// The limits that operators set are others now, also for channels that exist. Subscriptions that are too many
    /// stay; what else is too much goes.
    pub fn set_limits(&mut self, configured: &Limits, now: Now) {
        self.now = now;
        self.settings.limits.adopt(configured);
        let ids: Vec<ChannelId> = self.channels.iter().map(|(id, _)| id).collect();
        for id in ids {
            let name = self
                .channels
                .get(id)
                .map(|channel| channel.row.name.clone());
            let limits = name.map(|name| self.limits_of(&name));
            if let Some(channel) = self.channels.get_mut(id) {
                channel.limits = limits.unwrap_or(channel.limits);
            }
            self.enforce_limits(id);
            // At once if it has been inactive for long enough.
            self.check_inactivity(id);
        }
    }

    /// Drops the oldest messages while the channel is over a limit, or an operator has it emptied. The newest one stays,
    /// except for age.
    pub(super) fn enforce_limits(&mut self, id: ChannelId) {
        self.drop_what_is_too_much(id);
        if self.has_requests() {
            self.note_emptying(id);
        }
    }

    fn drop_what_is_too_much(&mut self, id: ChannelId) {
        let now = self.now;
        if self.withheld.limits.contains(&id) {
            return;
        }
        loop {
            let Some(channel) = self.channels.get(id) else {
                return;
            };
            let (limits, hidden_through) = (channel.limits, channel.hidden_through);
            let full = channel.full;
            let row = &channel.row;
            if row.message_count == 0 {
                return;
            }
            let empties = channel
                .emptying
                .is_some_and(|emptying| row.first_sequence <= emptying.through);
            let crowded = row.message_count > 1
                && (full.keeps_unacked || !full.rejects)
                && (limits.messages.is_some_and(|max| row.message_count > max)
                    || limits.bytes.is_some_and(|max| row.byte_count > max));
            if !crowded && !empties && limits.age.is_none() {
                return;
            }
            let step = self.settings.limits.trim_step;
            let step = if empties {
                step.min(EMPTIED_PER_BATCH)
            } else {
                step
            };
            if channel.trimmed >= step {
                return; // The commit of this batch calls again.
            }
            let Some(oldest) = self.oldest(id) else {
                return;
            };
            let age = now.wall.since(oldest.published_at);
            let expired = limits.age.is_some_and(|max| age >= max);
            if !crowded && !empties && !expired {
                let left = limits
                    .age
                    .map(|max| max.saturating_sub(age))
                    .unwrap_or_default();
                let left = if oldest.sequence <= hidden_through {
                    left.min(self.settings.limits.unseen_retry)
                } else {
                    left
                };
                return self.deadlines.set(Timer::Expiry(id), now.monotonic + left);
            }
            if full.keeps_unacked && !empties && self.is_wanted(id, oldest.sequence) {
                let again = now.monotonic + self.settings.limits.unseen_retry;
                return self.deadlines.set(Timer::Expiry(id), again);
            }
            self.drop_oldest(id, oldest);
        }
    }

    /// True where a policy keeps what is there, and there is no room beside it.
    pub(super) fn is_full(&mut self, id: ChannelId) -> bool {
        self.is_full_beside(id, Added::default())
    }

    /// The same once so much more is stored.
    pub(super) fn is_full_beside(&mut self, id: ChannelId, added: Added) -> bool {
        let Some(channel) = self.channels.get(id) else {
            return false;
        };
        let (full, limits, row) = (channel.full, channel.limits, &channel.row);
        let (messages, bytes) = (
            row.message_count + added.messages,
            row.byte_count + added.bytes,
        );
        if full == Full::default() || messages == 0 {
            return false;
        }
        let is_at_limit = limits.messages.is_some_and(|max| messages >= max)
            || limits.bytes.is_some_and(|max| bytes >= max);
        // What was acked makes room for what is added, one for one.
        let over = limits
            .messages
            .map_or(0, |max| messages.saturating_sub(max))
            .min(added.messages);
        let first = Sequence(row.first_sequence.0 + over);
        is_at_limit && (!full.keeps_unacked || self.is_wanted(id, first))
    }

    /// The channel's oldest message, from the tail or from what was read; asks for a read if it is in neither.
    fn oldest(&mut self, id: ChannelId) -> Option<Oldest> {
        let channel = self.channels.get_mut(id)?;
        let first = channel.row.first_sequence;
        if let Some(message) = self.tail.get(id, first) {
            return Some(Oldest {
                sequence: first,
                published_at: message.published_at,
                size: message.size(&channel.row.name),
            });
        }
        while channel
            .oldest
            .front()
            .is_some_and(|oldest| oldest.sequence < first)
        {
            channel.oldest.pop_front();
        }
        let size = channel.row.byte_count / channel.row.message_count.max(1);
        if let Some(&oldest) = channel.oldest.front() {
            // One that is missing and counts is no younger than those after it.
            return Some(if oldest.sequence > first {
                Oldest {
                    sequence: first,
                    size,
                    ..oldest
                }
            } else {
                oldest
            });
        }
        if first <= channel.hidden_through {
            return Some(Oldest {
                sequence: first,
                published_at: self.now.wall,
                size,
            });
        }
        if first > channel.committed {
            return None; // Not to be read yet: its commit calls again.
        }
        if channel.reading_oldest.is_none() {
            channel.reading_oldest = Some(channel.committed);
            let want = LoadQuery::Oldest {
                first,
                count: self.settings.limits.page_messages,
            };
            self.loads.ask(id, want, Purpose::Oldest);
        }
        None
    }

    pub(super) fn oldest_loaded(&mut self, id: ChannelId, oldest: Vec<Oldest>, gone: &Ranges) {
        self.note_gone(id, gone);
        let Some(channel) = self.channels.get_mut(id) else {
            return;
        };
        let Some(committed) = channel.reading_oldest.take() else {
            return;
        };
        // What is not seen is not gone: it counts, and is dropped by limits as it would be if it were seen.
        channel.hidden_through = if oldest.is_empty() {
            committed
        } else {
            Sequence::ZERO
        };
        channel.oldest = VecDeque::from(oldest);
        self.enforce_limits(id);
    }

    /// True when a durable has not acked the message. Remembers what it finds: a channel may have many durables, and
    /// this is asked for every message that is dropped.
    fn is_wanted(&mut self, id: ChannelId, sequence: Sequence) -> bool {
        let Some(channel) = self.channels.get_mut(id) else {
            return false;
        };
        if sequence <= channel.acked_by_all {
            return false;
        }
        let group = |position: &PositionId| self.groups.get(position);
        if channel
            .slowest
            .as_ref()
            .and_then(group)
            .is_some_and(|group| group.wants(sequence))
        {
            return true;
        }
        let durables = channel
            .groups
            .iter()
            .filter_map(|&id| Some((id, group(&id)?)));
        let mut acked_by_all = channel.row.last_sequence;
        for (position, durable) in durables.filter(|(_, group)| group.is_durable()) {
            if durable.wants(sequence) {
                channel.slowest = Some(position);
                return true;
            }
            acked_by_all = acked_by_all.min(durable.acked_floor());
        }
        channel.acked_by_all = acked_by_all;
        false
    }

    fn drop_oldest(&mut self, id: ChannelId, oldest: Oldest) {
        let empties = self.has_requests()
            && self.channels.get(id).is_some_and(|channel| {
                let emptying = channel.emptying;
                emptying.is_some_and(|emptying| oldest.sequence <= emptying.through)
            });
        if !empties && self.is_wanted(id, oldest.sequence) {
            self.traffic.dropped_unacked += 1;
            self.note_dropped_unacked(id, oldest.sequence);
        }
        let channel = self
            .channels
            .get_mut(id)
            .expect("its oldest message was just found");
        channel.drop_first(oldest.size);
        channel.trimmed += 1;
        if let Some(emptying) = channel.emptying.as_mut().filter(|_| empties) {
            emptying.messages += 1;
            emptying.bytes += oldest.size;
        } else if !channel.limit_noticed {
            channel.limit_noticed = true;
            self.notices
                .push_back(Notice::LimitReached(channel.row.name.clone()));
        }
        let settled = channel.settled(self.now.monotonic, self.settings.limits.duplicate_window);
        self.trim(id, oldest.sequence, settled);
        self.commits.touch_channel(id);
    }

    fn note_dropped_unacked(&mut self, id: ChannelId, sequence: Sequence) {
        let channel = self
            .channels
            .get_mut(id)
            .expect("its oldest message was just found");
        let name = channel.row.name.clone();
        self.commits.note_dropped(id, &name, sequence);
        if !std::mem::replace(&mut channel.drop_noticed, true) {
            self.notices.push_back(Notice::DroppedUnacked {
                channel: name,
                sequence,
            });
        }
    }

    /// Drops messages, and keeps the GUIDs of those after `settled`.
    fn trim(&mut self, id: ChannelId, through: Sequence, settled: Sequence) {
        self.commits.trim(id, through);
        if through > settled && !self.settings.limits.duplicate_window.is_zero() {
            self.commits.keep_guids_after(id, settled);
        }
    }

    /// The commit of a batch that dropped messages. While requests wait for batches of their own, more is dropped by a timer,
    /// which has its turn after them: one commit would follow from the other, and none of them would be tried.
    pub(super) fn go_on_trimming(&mut self, id: ChannelId) {
        let is_there = self.channels.get(id).is_some() || self.purging.contains_key(&id);
        let is_suspended = self.withheld.limits.contains(&id);
        if self.withheld.others_wait && is_there && !is_suspended {
            self.deadlines.set(Timer::Expiry(id), self.now.monotonic);
        } else {
            self.trimmed(id);
        }
    }

    /// There may be more to drop.
    pub(super) fn trimmed(&mut self, id: ChannelId) {
        if self.purging.contains_key(&id) {
            self.purge(id);
        } else {
            self.enforce_limits(id);
        }
    }

    /// The channel's last online subscription left; its inactivity counts from here.
    pub(super) fn note_activity(&mut self, id: ChannelId) {
        let now = self.now.monotonic;
        let Some(channel) = self.channels.get_mut(id) else {
            return;
        };
        channel.last_activity = now;
        if let Some(inactivity) = channel.limits.inactivity {
            self.deadlines.set(Timer::Inactivity(id), now + inactivity);
        }
    }

    pub(super) fn check_inactivity(&mut self, id: ChannelId) {
        let now = self.now.monotonic;
        let Some(channel) = self.channels.get(id) else {
            return;
        };
        let Some(inactivity) = channel.limits.inactivity else {
            return;
        };
        let used = |position| self.groups.get(position).is_some_and(Group::is_online);
        if channel.groups.iter().any(used) {
            return; // Its leaving sets the timer.
        }
        let at = channel.last_activity + inactivity;
        let row = &channel.row;
        let waits_for_some = |group: &Group| {
            group.is_durable()
                && (!group.in_flight.is_empty() || group.last_sent < row.last_sequence)
        };
        let groups = channel.groups.iter();
        let mut groups = groups.filter_map(|position| self.groups.get(position));
        if at > now {
            self.deadlines.set(Timer::Inactivity(id), at);
        } else if channel.full.keeps_unacked && row.message_count > 0 && groups.any(waits_for_some)
        {
            self.deadlines.set(Timer::Inactivity(id), now + inactivity);
        } else {
            let name = channel.row.name.clone();
            self.delete_channel(id, Notice::ChannelInactive(name));
        }
    }

    /// Deletes the channel with its durables. For clients it is gone at once, and its name free; its rows go in
    /// steps.
    pub(super) fn delete_channel(&mut self, id: ChannelId, why: Notice) {
        let Some(mut channel) = self.channels.remove(id) else {
            return;
        };
        self.notices.push_back(why);
        self.request_may_go_on();
        self.deadlines.clear(&Timer::Expiry(id));
        self.withheld.limits.remove(&id);
        self.tail.forget(id);
        for &position in &channel.groups {
            self.drop_page(position);
            self.deadlines.clear(&Timer::Redelivery(position));
            if let Some(group) = self.groups.remove(&position) {
                if group.paused {
                    self.commits.put_paused(position, false);
                }
                for &subscription in group.members.keys() {
                    self.commits.put_subscription(subscription, None);
                }
                self.group_is_gone(&group);
                self.commits.put_position(position, None);
            }
        }
        let settled = channel.settled(self.now.monotonic, self.settings.limits.duplicate_window);
        let row = ChannelRow {
            deleting: true,
            ..channel.row
        };
        self.start_purge(id, Purge::new(row, settled));
    }

    pub(super) fn start_purge(&mut self, id: ChannelId, purge: Purge) {
        self.purging.insert(id, purge);
        self.purge(id);
    }

    /// Drops the next step of a deleted channel's messages, at last the channel itself.
    fn purge(&mut self, id: ChannelId) {
        if self.withheld.limits.contains(&id) {
            return;
        }
        let Some(Purge { row, settled }) = self.purging.get_mut(&id) else {
            return;
        };
        if self.commits.is_trimming(id) {
            // Its commit calls again.
            let row = row.clone();
            return self.commits.put_channel(id, Some(row));
        }
        if row.first_sequence > row.last_sequence {
            self.purging.remove(&id);
            return self.commits.put_channel(id, None);
        }
        let step = Sequence(row.first_sequence.0 + self.settings.limits.trim_step - 1);
        let through = step.min(row.last_sequence);
        row.first_sequence = through.next();
        let settled = *settled;
        self.commits.put_channel(id, Some(row.clone()));
        self.trim(id, through, settled);
    }
}
