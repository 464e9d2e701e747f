//! The members of a group, and whose turn it is.

use std::time::Duration;

use super::batch::SubscriptionRow;
use super::group::Group;
use super::ids::{ClientId, PositionId, Sequence, Subject, SubscriptionId};
use super::no_responders::Answer;
use super::time::Timestamp;

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) client_id: ClientId,
    pub(super) inbox: Subject,
    pub(super) ack_inbox: Subject,
    pub(super) max_in_flight: u32,
    pub(super) ack_wait: Duration,
    /// False for a durable without a client.
    pub(super) online: bool,
    /// Its response is committed, so that messages may follow.
    pub(super) started: bool,
    pub(super) since: Timestamp,
    /// How many of the group's messages in flight it holds.
    pub(super) in_flight: u32,
    /// Zero before the first message of the term.
    pub(super) last_sent: Sequence,
    pub(super) answer: Answer,
    pub(super) last_turn: u64,
}

impl Member {
    pub(super) fn from_row(row: SubscriptionRow, started: bool) -> Self {
        Self {
            client_id: row.client_id,
            inbox: row.inbox,
            ack_inbox: row.ack_inbox,
            max_in_flight: row.max_in_flight,
            ack_wait: row.ack_wait,
            online: row.online,
            started,
            since: row.since,
            in_flight: 0,
            last_sent: Sequence::ZERO,
            answer: Answer::default(),
            last_turn: 0,
        }
    }

    pub(super) fn row(&self, position: PositionId) -> SubscriptionRow {
        SubscriptionRow {
            position,
            client_id: self.client_id.clone(),
            inbox: self.inbox.clone(),
            ack_inbox: self.ack_inbox.clone(),
            max_in_flight: self.max_in_flight,
            ack_wait: self.ack_wait,
            online: self.online,
            since: self.since,
        }
    }

    /// Messages may be sent to it.
    pub(super) fn is_listening(&self) -> bool {
        self.online && self.started
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight < self.max_in_flight
    }
}

impl Group {
    /// The member that the next new message goes to: of those with room, the one with the fewest in flight,
    /// then the one whose turn was longest ago. A queue group passes over unresponsive clients.
    pub(super) fn pick(&self, responsive: impl Fn(&ClientId) -> bool) -> Option<SubscriptionId> {
        if !self.has_room() {
            return None;
        }
        self.members
            .iter()
            .filter(|(_, member)| member.is_listening() && member.has_room())
            .filter(|(_, member)| !self.is_queue() || responsive(&member.client_id))
            .min_by_key(|(_, member)| (member.in_flight, member.last_turn))
            .map(|(&id, _)| id)
    }

    /// False while the members together may hold no more. Messages without a holder count: after a takeover from a server
    /// that did not note holders somebody may well be at work on them.
    fn has_room(&self) -> bool {
        let listening = self.members.values().filter(|member| member.is_listening());
        let room: u64 = listening
            .map(|member| u64::from(member.max_in_flight))
            .sum();
        (self.in_flight.len() as u64) < room
    }

    /// The member that a message is redelivered to: among queue members, responsive ones with room are preferred. Where
    /// nobody has room it goes again to the member that holds it, and so does what an earlier term delivered: nobody gets
    /// more than it may hold. `None` when nobody listens, or when the only candidate is a plain subscription of an
    /// unresponsive client.
    pub(super) fn pick_for_redelivery(
        &self,
        sequence: Sequence,
        responsive: impl Fn(&ClientId) -> bool,
    ) -> Option<SubscriptionId> {
        let entry = self.in_flight.get(&sequence);
        let holder = || {
            let holder = entry.and_then(|entry| entry.holder);
            holder.filter(|holder| {
                let member = self.members.get(holder);
                member.is_some_and(|it| it.is_listening() && responsive(&it.client_id))
            })
        };
        let is_replayed = self.replaying && entry.is_some_and(|entry| entry.since.is_none());
        if is_replayed && let Some(holder) = holder() {
            return Some(holder);
        }
        let (best, member) = self.best_for_redelivery(&responsive)?;
        if member.has_room() {
            return Some(best);
        }
        holder().or(Some(best))
    }

    /// Somebody can be sent what is due.
    pub(super) fn can_redeliver(&self, responsive: impl Fn(&ClientId) -> bool) -> bool {
        self.best_for_redelivery(responsive).is_some()
    }

    fn best_for_redelivery(
        &self,
        responsive: impl Fn(&ClientId) -> bool,
    ) -> Option<(SubscriptionId, &Member)> {
        self.members
            .iter()
            .filter(|(_, member)| member.is_listening())
            .map(|(&id, member)| (id, member, responsive(&member.client_id)))
            .filter(|&(.., responds)| self.is_queue() || responds)
            .min_by_key(|&(_, member, responds)| {
                let rank = (!responds, !member.has_room());
                (rank, member.in_flight, member.last_turn)
            })
            .map(|(id, member, _)| (id, member))
    }
}
