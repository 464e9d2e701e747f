//! Messages in flight that were not acked in time, or were in flight when their subscription resumed or a
//! term began, are delivered again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::broker::Broker;
use super::deadlines::Timer;
use super::group::{Due, Group};
use super::ids::{ChannelId, PositionId, Sequence, SubscriptionId};
use super::load::{Load, Want};
use super::loads::Purpose;
use super::message::Message;
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
        if group.in_flight.is_empty() {
            return self.end_replay(position);
        }
        let now = self.now.monotonic;
        let wait = group
            .members
            .values()
            .map(|member| member.ack_wait)
            .min()
            .unwrap_or_default();
        let channel = group.channel;
        let mut due = due_sequences(group, now);
        if self.pick_for_redelivery(position).is_none() {
            // Its client misses heartbeats: look again after an ack wait, or when the client answers.
            return self.arm_redelivery(position, now + wait);
        }
        due.truncate(self.settings.limits.page_messages);
        self.settle_trimmed(position, &due);
        due.retain(|sequence| self.groups[&position].in_flight.contains_key(sequence));
        if due.is_empty() {
            return self.rearm(position);
        }
        let missing: Vec<Sequence> = due
            .iter()
            .copied()
            .filter(|&s| self.tail.get(channel, s).is_none())
            .collect();
        if missing.is_empty() {
            self.redeliver(position, &due, &BTreeMap::new());
            self.rearm(position);
        } else {
            self.fetch(position, channel, missing);
            // What was settled because it is gone has made room.
            self.deliver(position);
        }
    }

    fn fetch(&mut self, position: PositionId, channel: ChannelId, mut sequences: Vec<Sequence>) {
        if let Some(group) = self.groups.get_mut(&position) {
            group.fetching = true;
        }
        sequences.sort_unstable();
        let want = Want::Exactly {
            sequences,
            bytes: self.settings.limits.page_bytes,
        };
        self.loads.ask(channel, want, Purpose::Redelivery(position));
    }

    /// The messages for a redelivery came from the store: everything due up to `through` can go, in order.
    pub(super) fn redelivery_loaded(
        &mut self,
        position: PositionId,
        asked: &Load,
        messages: Vec<Arc<Message>>,
        through: Sequence,
    ) {
        let now = self.now.monotonic;
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        group.fetching = false;
        if !group.is_listening() {
            return;
        }
        let fetched: BTreeMap<Sequence, Arc<Message>> = messages
            .into_iter()
            .map(|message| (message.sequence, message))
            .collect();
        let replaying = group.replaying;
        let due = due_sequences(group, now);
        // Others may have become due meanwhile: the store was not asked about those.
        let spoken_for = |sequence: &Sequence| match &asked.want {
            Want::Exactly { sequences, .. } => {
                *sequence <= through && sequences.binary_search(sequence).is_ok()
            }
            Want::Range { .. } | Want::FirstSince(_) | Want::Oldest { .. } => false,
        };
        let ready = |s: &Sequence| spoken_for(s) || self.tail.get(asked.channel, *s).is_some();
        // A replay keeps its order. Otherwise what is due first may not have fitted into the read, which is
        // in order of sequence: the rest does not wait for it.
        let mut due: Vec<Sequence> = if replaying {
            due.into_iter().take_while(ready).collect()
        } else {
            due.into_iter().filter(ready).collect()
        };
        due.truncate(self.settings.limits.page_messages);
        self.redeliver(position, &due, &fetched);
        self.rearm(position);
    }

    /// Delivers again what is due, in order; what neither the tail nor the store has any more is settled.
    fn redeliver(
        &mut self,
        position: PositionId,
        due: &[Sequence],
        fetched: &BTreeMap<Sequence, Arc<Message>>,
    ) {
        for &sequence in due {
            let Some(group) = self.groups.get_mut(&position) else {
                return;
            };
            let in_tail = self.tail.get(group.channel, sequence);
            let Some(message) = in_tail.or_else(|| fetched.get(&sequence)).cloned() else {
                group.settle(sequence);
                self.note_progress(position);
                continue;
            };
            if self.is_too_large(position, &message) {
                if let Some(group) = self.groups.get_mut(&position) {
                    group.settle(sequence);
                }
                self.note_progress(position);
                continue;
            }
            if self.is_early(position, &message) {
                continue;
            }
            if let Some(member) = self.pick_for_redelivery(position) {
                self.send_to(position, member, &message);
            }
        }
    }

    /// After a takeover a message is due an ack wait after its publish; one whose time has not come is given
    /// its deadline.
    fn is_early(&mut self, position: PositionId, message: &Message) -> bool {
        let now = self.now;
        let Some(group) = self.groups.get_mut(&position) else {
            return false;
        };
        let longest = group
            .members
            .values()
            .map(|member| member.ack_wait)
            .max()
            .unwrap_or_default();
        let Some(entry) = group.in_flight.get_mut(&message.sequence) else {
            return true;
        };
        if entry.due != Due::AfterPublish {
            return false;
        }
        let left = longest.saturating_sub(now.wall.since(message.published_at));
        entry.due = Due::At(now.monotonic + left);
        left > SLACK
    }

    /// Settles those of the sequences that retention dropped.
    fn settle_trimmed(&mut self, position: PositionId, sequences: &[Sequence]) {
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        let first = self
            .channels
            .get(group.channel)
            .map(|channel| channel.row.first_sequence);
        let mut settled = false;
        for &sequence in sequences.iter().filter(|&&sequence| Some(sequence) < first) {
            settled |= group.settle(sequence);
        }
        if settled {
            self.note_progress(position);
        }
    }

    fn rearm(&mut self, position: PositionId) {
        let Some(group) = self.groups.get(&position) else {
            return;
        };
        let next = group.next_due();
        let more = next.is_some_and(|at| at <= self.now.monotonic);
        if !more && group.replaying {
            self.end_replay(position);
        } else {
            // What was settled because it is gone has made room.
            self.deliver(position);
        }
        if let Some(at) = next {
            self.arm_redelivery(position, at);
        }
    }

    fn end_replay(&mut self, position: PositionId) {
        if let Some(group) = self.groups.get_mut(&position) {
            group.replaying = false;
        }
        self.deliver(position);
    }

    fn pick_for_redelivery(&self, position: PositionId) -> Option<SubscriptionId> {
        let group = self.groups.get(&position)?;
        group.pick_for_redelivery(|client| self.clients.is_responsive(client))
    }
}

/// What is due now or was never given a deadline, the earliest first; in order of sequence during a replay.
fn due_sequences(group: &Group, now: Instant) -> Vec<Sequence> {
    let limit = now + SLACK;
    let mut due: Vec<(Instant, Sequence)> = group
        .in_flight
        .iter()
        .filter_map(|(&sequence, entry)| match entry.due {
            Due::AfterPublish => Some((Instant::default(), sequence)),
            Due::At(at) if at <= limit => Some((at, sequence)),
            Due::At(_) => None,
        })
        .collect();
    if group.replaying {
        due.sort_unstable_by_key(|&(_, sequence)| sequence);
    } else {
        due.sort_unstable();
    }
    due.into_iter().map(|(_, sequence)| sequence).collect()
}
