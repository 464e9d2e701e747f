//! A group: the members that share one position in a channel. Queue members share their group's; every other
//! subscription is a group of its own, with one member at most. So delivery, redelivery, acks and recovery
//! exist once.

mod in_flight;
mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::batch::{PageHolders, PositionRow, ProgressChange};
use super::delivery_attempts::DeliveryAttempts;
use super::holders::Holders;
use super::ids::{ChannelId, DurableName, QueueName, Sequence, SubscriptionId};
use super::members::Member;
use super::memory_size;
use super::message::Message;
use super::progress::Acked;
use super::schedule::Schedule;
use super::time::Instant;
use super::unseen::UnseenMessages;
pub(super) use in_flight::{Due, Handed, InFlight};
pub(super) use page::Page;

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
    /// Durable queue groups: the member that left last, which reports show.
    pub(super) last_member: Option<Box<Member>>,
    pub(super) last_sent: Sequence,
    /// Delivered (or parked by a member that left) and not acked; all at or below `last_sent`.
    pub(super) in_flight: BTreeMap<Sequence, InFlight>,
    /// When what is in flight is due.
    schedule: Schedule,
    /// The rest of what was sent.
    acked: Acked,
    /// Queue groups: what the tables have of `in_flight`.
    holders: Holders,
    /// Acked though not sent in this term: an earlier active sent them and could not note it any more. All
    /// above `last_sent`.
    acked_early: BTreeSet<Sequence>,
    /// Nothing is delivered until an operator lets it.
    pub(super) paused: bool,
    /// So often an operator has moved or resumed it, and nothing is delivered before all of that is committed.
    pub(super) moving: u32,
    /// Acks of what is yet to be sent may be of what an earlier term sent: not once an operator has moved the position, in this
    /// term or lately.
    pub(super) was_moved: bool,
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
    pub(super) unseen: Option<Box<UnseenMessages>>,
    /// Where a policy says how often messages are delivered.
    pub(super) attempts: Option<Box<DeliveryAttempts>>,
    /// Counts deliveries, to give members turns.
    pub(super) turn: u64,
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
            unseen: None,
            attempts: None,
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
    pub(super) fn take_holders(&mut self) -> Vec<(u64, Option<PageHolders>)> {
        self.holders.take_changes(&self.in_flight)
    }

    /// Passes over what comes next, through this sequence: there is nothing to send.
    pub(super) fn skip(&mut self, through: Sequence) {
        self.acked.add(self.last_sent.next(), through);
        self.last_sent = through;
        while self
            .acked_early
            .first()
            .is_some_and(|&first| first <= through)
        {
            self.acked_early.pop_first();
        }
    }

    /// Begins again after this sequence: nothing is in flight, and what was acked does not count.
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
        self.unseen = None;
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
        let members: usize = members.map(memory_size::member).sum();
        memory_size::position_names(self.durable_name.as_ref(), self.queue_group.as_ref()) + members
    }

    /// The share of this member, and of the last one that left, in bytes.
    pub(super) fn registered_bytes_of(&self, id: SubscriptionId) -> usize {
        let member = self.members.get(&id);
        let members = member.into_iter().chain(self.last_member.as_deref());
        members.map(memory_size::member).sum()
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

    /// True when the message needs no delivery. It stays so until the message is passed over: the group's turn may be over first.
    pub(super) fn is_acked_early(&self, sequence: Sequence) -> bool {
        self.acked_early.contains(&sequence)
    }

    /// Nothing waits for a turn of the group: neither new messages nor some that are due, nor what it has read ahead.
    pub(super) fn has_caught_up_with(&self, committed: Sequence) -> bool {
        self.last_sent >= committed && !self.redelivering && self.page.messages.is_empty()
    }

    /// The redelivery timer is not set to go off by then.
    pub(super) fn is_due_before_others(&self, due: Instant) -> bool {
        self.armed.is_none_or(|armed| due < armed)
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

    /// Forgets what was read for a redelivery; returns the bytes.
    pub(super) fn drop_fetched(&mut self) -> usize {
        self.fetched.clear();
        std::mem::take(&mut self.fetched_bytes)
    }
}
