//! Messages in flight that were not acked in time, or were in flight when their subscription resumed or a
//! term began, are delivered again. What is due comes from the group's schedule, a page in each of its turns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::broker::Broker;
use super::deadlines::Timer;
use super::group::Due;
use super::ids::{ChannelId, PositionId, Sequence, SubscriptionId};
use super::load::{Load, LoadQuery};
use super::loads::Purpose;
use super::memory_size;
use super::message::Message;
use super::round_robin::{Turn, steps_of};
use super::time::Instant;

/// Messages due so soon go with the ones that are due already.
const SLACK: Duration = Duration::from_millis(15);

impl Broker {
    pub(super) fn arm_redelivery(&mut self, position: PositionId, at: Instant) {
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        if group.armed.is_none_or(|armed| at < armed) {
            group.armed = Some(at);
            self.deadlines.set(Timer::Redelivery(position), at);
        }
    }

    /// The redelivery timer went off.
    pub(super) fn redeliver_due(&mut self, position: PositionId) {
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        group.armed = None;
        if group.fetching || !group.is_listening() {
            return;
        }
        group.redelivering = true;
        self.deliver(position);
    }

    /// Delivers again what is due, as far as the group's turn allows.
    pub(super) fn redeliver_some(&mut self, position: PositionId, turn: &mut Turn) {
        let now = self.now.monotonic;
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        group.redelivering = false;
        if group.fetching || !group.is_listening() {
            return;
        }
        if group.is_paused() {
            return self.look_for_poison(position);
        }
        if group.in_flight.is_empty() {
            group.replaying = false;
            return self.drop_fetched(position);
        }
        if !group.can_redeliver(|client| self.clients.is_responsive(client)) {
            // Its client misses heartbeats: look again after an ack wait, or when the client answers.
            let waits = self.groups[&position].members.values();
            let wait = waits.map(|member| member.ack_wait).min();
            self.drop_fetched(position);
            return self.arm_redelivery(position, now + wait.unwrap_or_default());
        }
        let page = self.settings.limits.page_messages;
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        let (channel, replaying) = (group.channel, group.replaying);
        let has_policy = group.attempts.is_some();
        let steps = steps_of(group);
        let mut due = group.take_due(now + SLACK, page);
        let is_cut = due.len() == page;
        let are_fewer = self.settle_trimmed(position, &due);
        let group = &self.groups[&position];
        if are_fewer {
            due.retain(|sequence| group.in_flight.contains_key(sequence));
        }
        if replaying {
            // As the read is, or what is due first may never be among what it brings.
            due.sort_unstable();
        }
        let is_here = |sequence: &&Sequence| {
            group.fetched.contains_key(*sequence) || self.tail.get(channel, **sequence).is_some()
        };
        let missing: Vec<Sequence> = due.iter().filter(|s| !is_here(s)).copied().collect();
        // A replay keeps its order. Otherwise what is due first may not have fitted into the read, which is
        // in order of sequence: the rest does not wait for it.
        let ready: Vec<Sequence> = if missing.is_empty() {
            due.clone()
        } else if group.fetched.is_empty() {
            Vec::new()
        } else if replaying {
            due.iter().take_while(is_here).copied().collect()
        } else {
            due.iter().filter(is_here).copied().collect()
        };
        if ready.is_empty() && !missing.is_empty() {
            self.put_back(position, due);
            self.drop_fetched(position);
            if self.is_crowded() {
                // Not by what the group itself has read ahead: it would wait for itself.
                self.drop_page(position);
            }
            if self.is_crowded() {
                return self.redeliver_later(position);
            }
            return self.fetch(position, channel, missing);
        }
        let mut gone = 0;
        for &sequence in &ready {
            if self.is_over(turn) || has_policy && self.groups[&position].is_paused() {
                break;
            }
            turn.steps += steps;
            turn.bytes += self.redeliver(position, sequence);
            gone += 1;
        }
        // In the same order.
        let mut gone = ready[..gone].iter().peekable();
        due.retain(|sequence| gone.next_if_eq(&sequence).is_none());
        let is_more = is_cut || !due.is_empty();
        self.put_back(position, due);
        if is_more {
            self.redeliver_later(position);
        } else {
            self.end_redelivery(position);
        }
    }

    pub(super) fn put_back(&mut self, position: PositionId, sequences: Vec<Sequence>) {
        if let Some(group) = self.groups.get_mut(&position) {
            group.put_back(sequences);
        }
    }

    fn redeliver_later(&mut self, position: PositionId) {
        if let Some(group) = self.groups.get_mut(&position) {
            group.redelivering = true;
        }
    }

    /// Nothing is due any more.
    fn end_redelivery(&mut self, position: PositionId) {
        self.drop_fetched(position);
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        let next = group.next_due();
        if next.is_some_and(|at| at <= self.now.monotonic) {
            group.redelivering = true;
        } else {
            group.replaying = false;
        }
        if let Some(at) = next {
            self.arm_redelivery(position, at);
        }
    }

    fn fetch(&mut self, position: PositionId, channel: ChannelId, mut sequences: Vec<Sequence>) {
        if let Some(group) = self.groups.get_mut(&position) {
            group.fetching = true;
        }
        sequences.sort_unstable();
        let want = LoadQuery::Exactly {
            sequences,
            bytes: self.settings.limits.page_bytes,
        };
        self.loads.ask(channel, want, Purpose::Redelivery(position));
    }

    /// The messages for a redelivery came from the store: everything due up to `through` can go, in order. `rows` could not
    /// be read.
    pub(super) fn redelivery_loaded(
        &mut self,
        position: PositionId,
        asked: &Load,
        messages: Vec<Arc<Message>>,
        mut rows: BTreeSet<Sequence>,
        through: Sequence,
    ) {
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        group.fetching = false;
        if !group.is_listening() {
            return;
        }
        rows.extend(messages.iter().map(|message| message.sequence));
        if let LoadQuery::Exactly { sequences, .. } = &asked.query {
            // Others may have become due meanwhile: the store was not asked about those.
            let asked = &sequences[..sequences.partition_point(|&sequence| sequence <= through)];
            let unseen = self.postpone_unseen(position, asked, &rows);
            let spoken_for = asked.iter().filter(|sequence| !unseen.contains(sequence));
            if let Some(group) = self.groups.get_mut(&position) {
                group.fetched = spoken_for.map(|&sequence| (sequence, None)).collect();
            }
        }
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        for message in messages {
            let bytes = memory_size::message(&message);
            group.fetched_bytes += bytes;
            self.paged_bytes += bytes;
            group.fetched.insert(message.sequence, Some(message));
        }
        group.redelivering = true;
        self.deliver(position);
    }

    /// Delivers a message again; what neither the tail nor the store has any more is settled. Returns what it costs
    /// until it has left.
    fn redeliver(&mut self, position: PositionId, sequence: Sequence) -> usize {
        let Some(group) = self.groups.get_mut(&position) else {
            return 0;
        };
        let has_policy = group.attempts.is_some();
        let fetched = group.fetched.remove(&sequence).flatten();
        if let Some(message) = &fetched {
            let bytes = memory_size::message(message);
            group.fetched_bytes -= bytes;
            self.paged_bytes -= bytes;
        }
        let in_tail = self.tail.get(group.channel, sequence).cloned();
        let Some(message) = in_tail.or(fetched) else {
            self.settle(position, sequence);
            self.note_progress(position);
            return 0;
        };
        if self.is_too_large(position, &message) {
            self.settle(position, sequence);
            self.note_progress(position);
            return 0;
        }
        if self.is_early(position, &message) {
            return 0;
        }
        if has_policy && self.is_poison(position, &message) {
            return message.bytes();
        }
        if let Some(member) = self.pick_for_redelivery(position, sequence) {
            self.send_to(position, member, &message)
        } else {
            self.put_back(position, vec![sequence]);
            0
        }
    }

    /// After a takeover a message is due its wait after its publish; one whose time has not come is given its deadline.
    /// One that was delivered as often as it may be has all of its last wait in this term: whoever works on it may still ack it.
    fn is_early(&mut self, position: PositionId, message: &Message) -> bool {
        let now = self.now;
        let Some(group) = self.groups.get_mut(&position) else {
            return false;
        };
        let Some(entry) = group.in_flight.get(&message.sequence) else {
            return true;
        };
        if entry.due != Due::AfterPublish {
            return false;
        }
        let longest = group
            .members
            .values()
            .map(|member| member.ack_wait)
            .max()
            .unwrap_or_default();
        let attempts = group.attempts.as_ref();
        let wait = attempts.map_or(longest, |attempts| {
            attempts.policy.wait(entry.deliveries, longest)
        });
        let is_last = attempts.is_some_and(|attempts| {
            attempts.policy.is_over(entry.deliveries) && !attempts.is_given_up(message.sequence)
        });
        let since = if is_last {
            now.monotonic.since(self.began)
        } else {
            now.wall.since(message.published_at)
        };
        let left = wait.saturating_sub(since);
        let due = Due::At(now.monotonic + left);
        if left > SLACK {
            group.set_due(message.sequence, due);
            return true;
        }
        false
    }

    /// Settles those of the sequences that retention dropped, or that somebody has deleted; false when there are none.
    fn settle_trimmed(&mut self, position: PositionId, sequences: &[Sequence]) -> bool {
        let Some(group) = self.groups.get(&position) else {
            return false;
        };
        let Some(channel) = self.channels.get(group.channel) else {
            return false;
        };
        let first = channel.row.first_sequence;
        let dropped = sequences.iter().copied();
        let dropped = dropped.filter(|&s| s < first || channel.gone.contains(s));
        let dropped: Vec<Sequence> = dropped.collect();
        let mut settled = false;
        for sequence in dropped {
            settled |= self.settle(position, sequence);
        }
        if settled {
            self.note_progress(position);
        }
        settled
    }

    fn pick_for_redelivery(
        &self,
        position: PositionId,
        sequence: Sequence,
    ) -> Option<SubscriptionId> {
        let group = self.groups.get(&position)?;
        group.pick_for_redelivery(sequence, |client| self.clients.is_responsive(client))
    }
}
