//! A group: the members that share one position in a channel. Queue members share their group's; every other
//! subscription is a group of its own, with one member at most. So delivery, redelivery, acks and recovery
//! exist once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::batch::{Held, PositionRow, Progress, ProgressChange};
use super::cost;
use super::holders::Holders;
use super::ids::{ChannelId, DurableName, QueueName, Sequence, SubscriptionId};
use super::members::Member;
use super::message::Message;
use super::poison::Tries;
use super::progress::{Acked, Pages};
use super::schedule::Schedule;
use super::time::Instant;
use super::unseen::Missing;

/// More messages than an active sends between two notes of its progress.
const EARLY_ACKS_MAX: usize = 65_536;

#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says of one kind of work whether it is under way"
)]
pub(super) struct Group {
    pub(super) channel: ChannelId,
    pub(super) durable_name: Option<DurableName>,
    pub(super) queue_group: Option<QueueName>,
    pub(super) members: BTreeMap<SubscriptionId, Member>,
    /// Of a durable queue group: who left last, for those who ask whose it was.
    pub(super) last_member: Option<Box<Member>>,
    pub(super) last_sent: Sequence,
    /// Delivered (or parked by a member that left) and not acked; all at or below `last_sent`.
    pub(super) in_flight: BTreeMap<Sequence, InFlight>,
    /// Of these, when they are due.
    schedule: Schedule,
    /// The rest of what was sent.
    acked: Acked,
    /// Of a queue group: what the tables have of `in_flight`.
    holders: Holders,
    /// Acked though not sent in this term: an earlier active sent them and could not note it any more. All
    /// above `last_sent`.
    acked_early: BTreeSet<Sequence>,
    /// Nothing is delivered until an operator lets it.
    pub(super) paused: bool,
    /// So often an operator has moved or resumed it, and nothing is delivered before all of that is committed.
    pub(super) moving: u32,
    /// Acks of what is yet to be sent may be of what an earlier term sent: not once an operator has moved the position.
    was_moved: bool,
    /// New messages wait until what was in flight before a resume or a takeover has been redelivered.
    pub(super) replaying: bool,
    /// When the redelivery timer is set to go off.
    pub(super) armed: Option<Instant>,
    /// Some of what is in flight is due, and goes in its turns.
    pub(super) redelivering: bool,
    /// It is in line for a turn.
    pub(super) waiting: bool,
    /// It waits until all groups together have less in flight.
    pub(super) held_back: bool,
    /// Messages read ahead from the store.
    pub(super) page: Page,
    /// A read for `page` is under way.
    pub(super) paging: bool,
    /// A redelivery waits for messages from the store.
    pub(super) fetching: bool,
    /// What was read for a redelivery; `None` for what the store does not have any more.
    pub(super) fetched: BTreeMap<Sequence, Option<Arc<Message>>>,
    /// What these cost.
    pub(super) fetched_bytes: usize,
    /// It waits for messages that are missing.
    pub(super) held: Option<Box<Missing>>,
    /// Where a policy says how often messages are delivered.
    pub(super) tries: Option<Box<Tries>>,
    /// Counts deliveries, to give members turns.
    pub(super) turn: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub(super) holder: Option<SubscriptionId>,
    pub(super) due: Due,
    /// How often it has been delivered, as far as this term knows.
    pub(super) deliveries: u32,
    /// When it was first delivered; `None` when that was before this term.
    pub(super) since: Option<Instant>,
}

/// What handing a message to a member has changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handed {
    /// For the header; 0 for a first delivery.
    pub(super) redelivery_count: u32,
    /// The tables do not know it.
    pub(super) is_news: bool,
    pub(super) due: Instant,
}

/// When a message in flight is to be redelivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    At(Instant),
    /// An ack wait after the message was published: the time of its delivery did not survive the takeover.
    AfterPublish,
}

/// Messages read from the store: it speaks for everything up to `through`.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    pub(super) messages: VecDeque<Arc<Message>>,
    pub(super) through: Sequence,
    pub(super) bytes: usize,
}

impl Page {
    pub(super) fn new(messages: Vec<Arc<Message>>, through: Sequence) -> Self {
        let bytes = messages.iter().map(|message| cost::message(message)).sum();
        Self {
            messages: messages.into(),
            through,
            bytes,
        }
    }

    /// Drops what lies before `sequence`; returns the bytes dropped.
    pub(super) fn skip_to(&mut self, sequence: Sequence) -> usize {
        let before = self.bytes;
        while self
            .messages
            .front()
            .is_some_and(|message| message.sequence < sequence)
        {
            if let Some(message) = self.messages.pop_front() {
                self.bytes -= cost::message(&message);
            }
        }
        before - self.bytes
    }
}

impl Group {
    pub(super) fn new(row: PositionRow) -> Self {
        Self {
            channel: row.channel,
            durable_name: row.durable_name,
            queue_group: row.queue_group,
            members: BTreeMap::new(),
            last_member: None,
            last_sent: row.progress.last_sent,
            in_flight: BTreeMap::new(),
            schedule: Schedule::default(),
            acked: Acked::new(row.progress.last_sent),
            holders: Holders::default(),
            acked_early: BTreeSet::new(),
            paused: false,
            moving: 0,
            was_moved: false,
            replaying: false,
            armed: None,
            redelivering: false,
            waiting: false,
            held_back: false,
            page: Page::default(),
            paging: false,
            fetching: false,
            fetched: BTreeMap::new(),
            fetched_bytes: 0,
            held: None,
            tries: None,
            turn: 0,
        }
    }

    pub(super) fn row(&self) -> PositionRow {
        PositionRow {
            channel: self.channel,
            durable_name: self.durable_name.clone(),
            queue_group: self.queue_group.clone(),
            progress: self.acked.progress(self.last_sent),
        }
    }

    /// What is to be persisted of the position: everything up to `last_sent` that is not in flight counts as acked.
    pub(super) fn take_change(&mut self) -> ProgressChange {
        self.acked.take_change(self.last_sent)
    }

    /// By page, what is to be persisted of who holds what.
    pub(super) fn take_holders(&mut self) -> Vec<(u64, Option<Held>)> {
        self.holders.take_changes(&self.in_flight)
    }

    /// Passes over what comes next, through this sequence: there is nothing to send.
    pub(super) fn skip(&mut self, through: Sequence) {
        self.acked.add(self.last_sent.next(), through);
        self.last_sent = through;
    }

    /// Begins anew after this sequence: nothing is in flight, and what was acked does not count.
    pub(super) fn begin_after(&mut self, after: Sequence) {
        for sequence in std::mem::take(&mut self.in_flight).into_keys() {
            self.holders.settled(sequence);
        }
        for member in self.members.values_mut() {
            member.in_flight = 0;
        }
        self.schedule.clear();
        self.acked.begin_after(after);
        self.acked_early.clear();
        self.last_sent = after;
        self.was_moved = true;
        self.moving += 1;
        self.replaying = false;
        self.redelivering = false;
        self.held = None;
    }

    /// The next message is put in flight with nobody, to be sent like one that was not acked.
    pub(super) fn send_later(&mut self, next: Sequence, now: Instant) {
        let parked = InFlight {
            holder: None,
            due: Due::At(now),
            deliveries: 1,
            since: None,
        };
        self.in_flight.insert(next, parked);
        self.schedule.add(now, next);
        self.last_sent = next;
    }

    /// Puts in flight what the tables show as delivered and not acked, of messages that still exist.
    pub(super) fn restore_in_flight(
        &mut self,
        progress: Progress,
        pages: Pages,
        first: Sequence,
        last: Sequence,
    ) {
        self.last_sent = progress.last_sent.min(last);
        let floor = progress.acked_floor.max(first.previous());
        let floor = floor.min(self.last_sent);
        self.acked = Acked::restored(progress, pages, floor, self.last_sent);
        let mut cursor = self.acked.floor();
        let top = (self.last_sent.next(), self.last_sent.next());
        for (from, to) in self.acked.above().iter().chain([top]) {
            while cursor.next() < from {
                cursor = cursor.next();
                let parked = InFlight {
                    holder: None,
                    due: Due::AfterPublish,
                    deliveries: 1,
                    since: None,
                };
                self.in_flight.insert(cursor, parked);
                self.schedule.add(parked.due.at(), cursor);
            }
            cursor = to;
        }
    }

    /// What the tables tell of a page: each member that is still there holds what it held.
    pub(super) fn restore_holders(&mut self, page: u64, held: &Held) {
        self.holders.restored(page);
        for &(sequence, id) in held {
            if let Some(entry) = self.in_flight.get_mut(&sequence)
                && let Some(member) = self.members.get_mut(&id)
            {
                entry.holder = Some(id);
                member.in_flight += 1;
            }
        }
    }

    pub(super) fn is_queue(&self) -> bool {
        self.queue_group.is_some()
    }

    pub(super) fn is_durable(&self) -> bool {
        self.durable_name.is_some()
    }

    /// Records that counts as subscriptions: the members, or one for an empty durable group.
    pub(super) fn subscriptions(&self) -> usize {
        self.members.len().max(1)
    }

    pub(super) fn is_online(&self) -> bool {
        self.members.values().any(|member| member.online)
    }

    /// Nothing is to be delivered to it for now.
    pub(super) fn is_halted(&self) -> bool {
        self.paused || self.moving > 0
    }

    pub(super) fn is_listening(&self) -> bool {
        !self.is_halted() && self.members.values().any(Member::is_listening)
    }

    /// What it takes up with names and inboxes, in bytes.
    pub(super) fn registered_bytes(&self) -> usize {
        let members = self.members.values().chain(self.last_member.as_deref());
        let members: usize = members.map(cost::member).sum();
        cost::position_names(self.durable_name.as_ref(), self.queue_group.as_ref()) + members
    }

    /// Of these the part of this member, and of the last one that left.
    pub(super) fn registered_bytes_of(&self, id: SubscriptionId) -> usize {
        let member = self.members.get(&id);
        let members = member.into_iter().chain(self.last_member.as_deref());
        members.map(cost::member).sum()
    }

    /// Hands a message to a member.
    pub(super) fn hand_to(
        &mut self,
        id: SubscriptionId,
        sequence: Sequence,
        now: Instant,
    ) -> Handed {
        let before = self.in_flight.get(&sequence).copied();
        self.release(before.and_then(|entry| entry.holder));
        self.turn += 1;
        let turn = self.turn;
        let member = self.members.get_mut(&id).expect("only members are picked");
        member.in_flight += 1;
        member.last_turn = turn;
        member.last_sent = member.last_sent.max(sequence);
        let deliveries = before.map_or(0, |entry| entry.deliveries);
        // The count wraps to 1: 0 means a first delivery.
        let delivery = deliveries.checked_add(1).unwrap_or(1);
        let mut due = now + member.ack_wait;
        let mut is_counted = false;
        if let Some(tries) = &mut self.tries {
            due = now + tries.policy.wait(delivery, member.ack_wait);
            if before.is_some() {
                tries.delivered_again(sequence);
                is_counted = true;
            }
        }
        let entry = InFlight {
            holder: Some(id),
            due: Due::At(due),
            deliveries: delivery,
            since: before.map_or(Some(now), |entry| entry.since),
        };
        self.in_flight.insert(sequence, entry);
        self.schedule.add(entry.due.at(), sequence);
        self.last_sent = self.last_sent.max(sequence);
        let has_moved = self.is_queue() && before.is_none_or(|entry| entry.holder != Some(id));
        if has_moved {
            self.holders.delivered(sequence);
        }
        Handed {
            // Of one that is tried anew, too.
            redelivery_count: before.map_or(0, |_| deliveries.max(1)),
            is_news: has_moved || is_counted || before.is_none(),
            due,
        }
    }

    /// Ends a message's being in flight; false when it is not.
    pub(super) fn settle(&mut self, sequence: Sequence) -> bool {
        let Some(entry) = self.in_flight.remove(&sequence) else {
            return false;
        };
        self.release(entry.holder);
        self.acked.add(sequence, sequence);
        self.holders.settled(sequence);
        if let Some(tries) = &mut self.tries {
            tries.settled(sequence);
        }
        let in_flight = &self.in_flight;
        self.schedule
            .compact(in_flight.len(), |entry| is_current(in_flight, entry));
        true
    }

    /// Gives a message in flight another deadline.
    pub(super) fn set_due(&mut self, sequence: Sequence, due: Due) {
        if let Some(entry) = self.in_flight.get_mut(&sequence)
            && entry.due != due
        {
            entry.due = due;
            self.schedule.add(due.at(), sequence);
        }
    }

    /// Everything in flight is due now, in order.
    pub(super) fn make_all_due(&mut self, now: Instant) {
        self.schedule.clear();
        for (&sequence, entry) in &mut self.in_flight {
            entry.due = Due::At(now);
            self.schedule.add(now, sequence);
        }
    }

    /// Takes what is due at `limit`, the earliest first, up to `max`. What becomes of each of them is told by
    /// [`Self::hand_to`], [`Self::settle`] or [`Self::set_due`]; the others are to be put back.
    pub(super) fn take_due(&mut self, limit: Instant, max: usize) -> Vec<Sequence> {
        let in_flight = &self.in_flight;
        let mut due = Vec::new();
        while due.len() < max
            && let Some(sequence) = self
                .schedule
                .take(limit, |entry| is_current(in_flight, entry))
        {
            due.push(sequence);
        }
        due
    }

    pub(super) fn put_back(&mut self, sequences: impl IntoIterator<Item = Sequence>) {
        for sequence in sequences {
            if let Some(entry) = self.in_flight.get(&sequence) {
                self.schedule.put_back(entry.due.at(), sequence);
            }
        }
    }

    /// Each message in flight has its place in the schedule. Looks at all of them.
    pub(super) fn is_scheduled(&self) -> bool {
        let entries = self.schedule.entries();
        let mut in_flight = self.in_flight.iter();
        in_flight.all(|(&sequence, entry)| entries.contains(&(entry.due.at(), sequence)))
    }

    /// Remembers an ack of a message that is yet to come, as many as the members may have in flight. False when it does
    /// not, or did before.
    pub(super) fn ack_early(&mut self, sequence: Sequence) -> bool {
        let max: usize = self
            .members
            .values()
            .map(|member| member.max_in_flight as usize)
            .sum();
        sequence > self.last_sent
            && !self.was_moved
            && self.acked_early.len() < max.min(EARLY_ACKS_MAX)
            && self.acked_early.insert(sequence)
    }

    pub(super) fn early_acks(&self) -> usize {
        self.acked_early.len()
    }

    /// True when the message needs no delivery; forgets what lies before it.
    pub(super) fn take_early_ack(&mut self, sequence: Sequence) -> bool {
        while self
            .acked_early
            .first()
            .is_some_and(|&first| first < sequence)
        {
            self.acked_early.pop_first();
        }
        self.acked_early.remove(&sequence)
    }

    fn release(&mut self, holder: Option<SubscriptionId>) {
        if let Some(member) = holder.and_then(|id| self.members.get_mut(&id)) {
            member.in_flight -= 1;
        }
    }

    /// Takes what a leaving member holds away from it; due at once, for whoever is there then.
    pub(super) fn park(&mut self, id: SubscriptionId, now: Instant) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let held = std::mem::take(&mut member.in_flight) as usize;
        let mut left = self.in_flight.iter_mut();
        let mut found = 0;
        while found < held
            && let Some((&sequence, entry)) = left.next()
        {
            if entry.holder == Some(id) {
                found += 1;
                entry.holder = None;
                if entry.due != Due::At(now) {
                    entry.due = Due::At(now);
                    self.schedule.add(now, sequence);
                }
            }
        }
    }

    /// True when the message is yet to be sent, or to be acked.
    pub(super) fn wants(&self, sequence: Sequence) -> bool {
        sequence > self.last_sent || self.in_flight.contains_key(&sequence)
    }

    /// Everything up to here is acked.
    pub(super) fn acked_floor(&self) -> Sequence {
        self.acked.floor()
    }

    /// What was sent is in flight or acked, and nothing is both. Looks at all of it.
    pub(super) fn is_exact(&self) -> bool {
        let (floor, above) = (self.acked.floor(), self.acked.above());
        let acked: u64 = above.iter().map(|(first, last)| last.0 - first.0 + 1).sum();
        let mut in_flight = self.in_flight.keys();
        in_flight.all(|&sequence| sequence > floor && !above.contains(sequence))
            && self.last_sent.0 == floor.0 + acked + self.in_flight.len() as u64
    }

    /// The earliest time at which something in flight is due.
    pub(super) fn next_due(&mut self) -> Option<Instant> {
        let in_flight = &self.in_flight;
        self.schedule.next(|entry| is_current(in_flight, entry))
    }

    /// Forgets what was read for a redelivery; returns the bytes.
    pub(super) fn drop_fetched(&mut self) -> usize {
        self.fetched.clear();
        std::mem::take(&mut self.fetched_bytes)
    }
}

impl Due {
    /// What was never given a deadline comes first.
    fn at(self) -> Instant {
        match self {
            Self::At(at) => at,
            Self::AfterPublish => Instant::default(),
        }
    }
}

fn is_current(
    in_flight: &BTreeMap<Sequence, InFlight>,
    (due, sequence): (Instant, Sequence),
) -> bool {
    in_flight
        .get(&sequence)
        .is_some_and(|entry| entry.due.at() == due)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ranges::Ranges;

    fn group(last_sent: u64) -> Group {
        Group::new(PositionRow {
            channel: ChannelId(1),
            durable_name: None,
            queue_group: None,
            progress: Progress {
                last_sent: Sequence(last_sent),
                ..Progress::default()
            },
        })
    }

    #[test]
    fn progress_and_back_keeps_exactly_what_is_in_flight() {
        for in_flight in [
            vec![],
            vec![10],
            vec![3],
            vec![1, 2, 5, 9, 10],
            (1..=10).collect(),
        ] {
            let mut before = group(10);
            let all = Progress {
                last_sent: Sequence(10),
                ..Progress::default()
            };
            before.restore_in_flight(all, Pages::new(), Sequence(1), Sequence(10));
            for acked in (1..=10).filter(|sequence| !in_flight.contains(sequence)) {
                before.settle(Sequence(acked));
            }

            let mut after = group(10);
            let progress = before.row().progress;
            after.restore_in_flight(progress.clone(), Pages::new(), Sequence(1), Sequence(10));

            let kept: Vec<u64> = after.in_flight.keys().map(|s| s.0).collect();
            assert_eq!(kept, in_flight);
            assert_eq!(after.row().progress, progress);
            assert!(after.is_exact() && before.is_exact());
        }
    }

    #[test]
    fn trimmed_and_future_messages_are_not_in_flight_after_a_restore() {
        let mut after = group(0);
        let progress = Progress {
            last_sent: Sequence(100),
            acked_floor: Sequence(0),
            acked_above: Ranges::default(),
        };
        after.restore_in_flight(progress, Pages::new(), Sequence(8), Sequence(10));

        let kept: Vec<u64> = after.in_flight.keys().map(|s| s.0).collect();
        assert_eq!(kept, [8, 9, 10]);
        assert_eq!(after.last_sent, Sequence(10));
    }
}
