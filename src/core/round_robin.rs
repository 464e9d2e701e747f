//! Which group delivers next. What leaves the node does so at the pace of the connection: only so much is handed out as may
//! wait for it, and the groups that have more take turns. So one subscription with a hundred thousand messages due
//! holds up no other, and nobody's answers, and costs the memory of a turn.

use super::broker::Broker;
use super::group::Group;
use super::ids::PositionId;
use super::outbound::Outbound;

/// A turn is over after so many bytes.
const TURN_BYTES: usize = 64 << 10;

/// And after so many messages looked at, sent or not.
const TURN_STEPS: usize = 1024;

/// Turns that are given in one go have so many steps together.
const STEPS_IN_ALL: usize = 4 * TURN_STEPS;

/// Choosing among so many members costs as much as a step.
const MEMBERS_PER_STEP: usize = 64;

/// What a group has had of its turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) bytes: usize,
    pub(super) steps: usize,
}

/// What it costs to look at a message of the group.
pub(super) fn steps_of(group: &Group) -> usize {
    1 + group.members.len() / MEMBERS_PER_STEP
}

impl Broker {
    /// Lets the group send what is due or new: at once when nobody waits for a turn, else in its turn.
    pub(super) fn deliver(&mut self, position: PositionId) {
        if self.in_line.is_empty() && !self.is_draining && self.has_window() {
            self.take_turn(position);
        } else {
            self.wait_for_turn(position);
        }
    }

    /// Returns its steps.
    fn take_turn(&mut self, position: PositionId) -> usize {
        // Old and new messages have a turn each: none of them waits for the other for ever.
        let is_redelivering = |broker: &Self| {
            let group = broker.groups.get(&position);
            group.is_some_and(|group| group.redelivering)
        };
        let (mut old, mut new) = (Turn::default(), Turn::default());
        let has_due = is_redelivering(self);
        if has_due {
            self.redeliver_some(position, &mut old);
        }
        // It makes nothing due.
        self.deliver_some(position, &mut new);
        if has_due && is_redelivering(self) {
            self.wait_for_turn(position);
        }
        self.resume_held_back();
        let steps = old.steps + new.steps;
        self.steps += steps as u64;
        steps
    }

    pub(super) fn wait_for_turn(&mut self, position: PositionId) {
        if let Some(group) = self.groups.get_mut(&position)
            && !group.waiting
        {
            group.waiting = true;
            self.in_line.push_back(position);
        }
    }

    /// Gives turns to those that are in line, each once at most, until enough waits to be sent, or others should have
    /// their turn.
    fn give_turns(&mut self) {
        if self.is_draining {
            return;
        }
        if self.is_crowded() {
            self.drop_idle_pages();
        }
        let mut steps = 0;
        for _ in 0..self.in_line.len() {
            if !self.has_window() || steps >= STEPS_IN_ALL {
                break;
            }
            let Some(position) = self.in_line.pop_front() else {
                break;
            };
            if let Some(group) = self.groups.get_mut(&position) {
                group.waiting = false;
                steps += self.take_turn(position);
            }
        }
        self.turns_are_cut = steps >= TURN_STEPS;
    }

    pub(super) fn is_over(&self, turn: &Turn) -> bool {
        turn.bytes >= TURN_BYTES || turn.steps >= TURN_STEPS || !self.has_window()
    }

    fn has_window(&self) -> bool {
        self.commits.deliveries.bytes() < self.settings.limits.window_bytes
    }

    /// So much is read ahead that nothing more should be.
    pub(super) fn is_crowded(&self) -> bool {
        self.paged_bytes > self.settings.limits.paged_bytes
    }

    /// Groups that cannot send now give back what was read for them.
    fn drop_idle_pages(&mut self) {
        let holds = |group: &Group| group.page.bytes + group.fetched_bytes > 0;
        let groups = self.groups.iter();
        let idle = groups.filter(|(_, group)| holds(group) && !group.waiting);
        let idle: Vec<PositionId> = idle.map(|(&position, _)| position).collect();
        for position in idle {
            self.drop_page(position);
            self.drop_fetched(position);
        }
    }

    /// Grows with the work of looking for deliveries: one for each message that was looked at, more where many members
    /// might have got it.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// True when [`Self::poll_delivery`] has given `None` because finding the next one was enough work at once.
    pub fn has_turns(&self) -> bool {
        self.turns_are_cut
            && !self.in_line.is_empty()
            && !self.is_draining
            && self.commits.deliveries.bytes() == 0
    }

    /// False when [`Self::poll_delivery`] would find nothing.
    pub fn has_deliveries(&self) -> bool {
        !self.in_line.is_empty() || !self.commits.deliveries.is_empty()
    }

    /// A delivery that may leave the node.
    pub fn poll_delivery(&mut self) -> Option<Outbound> {
        let mut has_room = self.commits.deliveries.bytes() <= self.settings.limits.window_bytes / 2;
        loop {
            if has_room && !self.in_line.is_empty() {
                self.give_turns();
            }
            let (position, delivery) = self.commits.deliveries.pop()?;
            if position.is_none_or(|position| self.is_in_flight(position, &delivery)) {
                return Some(delivery);
            }
            // Nothing comes that would give the next turn when what took the room was settled meanwhile.
            has_room = self.commits.deliveries.bytes() == 0;
        }
    }

    fn is_in_flight(&self, position: PositionId, delivery: &Outbound) -> bool {
        let Outbound::Deliver { message, .. } = delivery else {
            return true;
        };
        let group = self.groups.get(&position);
        group.is_some_and(|group| group.in_flight.contains_key(&message.sequence))
    }

    /// An answer or a probe that may leave the node. They have priority over deliveries.
    pub fn poll_answer(&mut self) -> Option<Outbound> {
        while let Some(answer) = self.commits.poll_answer() {
            let Outbound::Probe { probe, .. } = &answer else {
                return Some(answer);
            };
            if self.probe_leaves(*probe) {
                return Some(answer);
            }
        }
        None
    }
}
