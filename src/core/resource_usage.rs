//! What all clients and subscriptions together may take up. Of messages in flight, each may have as much as it asked for while there is room; beyond that
//! those that have more than their share get nothing new until somebody acks. So many subscriptions that ack nothing cost
//! a bounded memory, and others hardly notice them.

use std::collections::VecDeque;

use super::broker::Broker;
use super::group::Group;
use super::ids::{PositionId, Sequence};
use super::notice::Notice;

/// A subscription may keep so many early acks, however many others do.
const EARLY_ACKS_MIN: usize = 1024;

#[derive(Clone, Debug, Default)]
pub(super) struct ResourceUsage {
    /// What clients are called and where they listen.
    pub(super) clients_bytes: usize,
    /// The same of subscriptions.
    pub(super) subscriptions_bytes: usize,
    /// Summed over all groups.
    pub(super) in_flight: usize,
    /// Summed over all groups.
    pub(super) early_acks: usize,
    /// Groups that wait for room, those that wait longest first.
    pub(super) held_back: VecDeque<PositionId>,
    /// It has been logged.
    is_noticed: bool,
}

impl Broker {
    pub(super) fn has_room_for_names_of_clients(&self) -> bool {
        self.usage.clients_bytes < self.settings.limits.clients_bytes
    }

    pub(super) fn has_room_for_names_of_subscriptions(&self) -> bool {
        self.usage.subscriptions_bytes < self.settings.limits.subscriptions_bytes
    }

    fn has_room_in_flight(&self) -> bool {
        self.usage.in_flight < self.settings.limits.in_flight_in_all
    }

    /// True when there is room in all, or the group has less than its share.
    pub(super) fn may_hold_more(&self, position: PositionId) -> bool {
        if self.has_room_in_flight() {
            return true;
        }
        let share = self.settings.limits.in_flight_in_all / self.groups.len().max(1);
        let group = self.groups.get(&position);
        group.is_some_and(|group| group.in_flight.len() < share.max(1))
    }

    /// The group gets nothing new until there is room.
    pub(super) fn hold_back(&mut self, position: PositionId) {
        let group = self
            .groups
            .get_mut(&position)
            .expect("it is about to deliver");
        if !group.held_back {
            group.held_back = true;
            self.usage.held_back.push_back(position);
        }
        if !self.usage.is_noticed {
            self.usage.is_noticed = true;
            self.notices.push_back(Notice::HeldBack);
        }
    }

    /// Ends a message's being in flight; false when it is not.
    pub(super) fn settle(&mut self, position: PositionId, sequence: Sequence) -> bool {
        let Some(group) = self.groups.get_mut(&position) else {
            return false;
        };
        let was_paused = group.is_paused();
        let is_settled = group.settle(sequence);
        if is_settled {
            self.commits.deliveries.settled();
        }
        let goes_on = was_paused && !group.is_paused();
        if is_settled {
            self.usage.in_flight -= 1;
            self.resume_held_back();
        }
        if goes_on {
            self.resume_after_poison(position);
        }
        is_settled
    }

    /// Where there is room, the next group that waits for it has its turn. The one after it comes when that is over.
    pub(super) fn resume_held_back(&mut self) {
        while self.has_room_in_flight()
            && let Some(position) = self.usage.held_back.pop_front()
        {
            if let Some(group) = self.groups.get_mut(&position) {
                group.held_back = false;
                return self.wait_for_turn(position);
            }
        }
    }

    pub(super) fn group_is_gone(&mut self, group: &Group) {
        self.usage.subscriptions_bytes -= group.registered_bytes();
        self.usage.in_flight -= group.in_flight.len();
        self.usage.early_acks -= group.early_acks();
        self.resume_held_back();
    }

    pub(super) fn ack_early(&mut self, position: PositionId, sequence: Sequence) {
        let is_full = self.usage.early_acks >= self.settings.limits.early_acks_in_all;
        let group = self
            .groups
            .get_mut(&position)
            .expect("something of it was acked");
        if !(is_full && group.early_acks() >= EARLY_ACKS_MIN) && group.ack_early(sequence) {
            self.usage.early_acks += 1;
        }
    }
}
