//! What the active does about time and the outbound in one turn of its loop: a bounded amount of each, so that neither
//! holds up the other, nor the requests.

use std::time::Duration;

use super::Active;
use crate::core::guarded::Guarded;
use crate::leadership::Term;
use crate::node::clock::Clock;

/// Deliveries sent in one turn, before requests are looked at again.
const DELIVERY_BYTES_PER_TURN: usize = 512 << 10;

/// And steps of looking for them: choosing among the members of large queue groups takes longer than sending.
const STEPS_PER_TURN: u64 = 8192;

impl Active<'_> {
    /// What is due by now, as much of it as one turn takes.
    pub(super) fn handle_timers(&mut self, term: &Term) {
        let now = Clock.now();
        let is_late = self.is_late(now);
        let due = self.broker.next_timeout();
        if self.nats_lost_at.is_none()
            && !is_late
            && due.is_some_and(|due| due <= now.monotonic)
            && term.is_trusted(now.monotonic)
        {
            self.broker.handle_timeout(now);
        }
    }

    /// Sends what may leave, as long as the node is trusted and NATS there to take it: answers first, then deliveries
    /// as far as they can leave soon. True when the turn was over before the deliveries, or the work for them.
    pub(super) fn send(&mut self, term: &Term) -> bool {
        self.broker.look(Clock.now());
        let has_nats = self.nats_lost_at.is_none();
        let may_send = || has_nats && term.is_trusted(Clock.now().monotonic);
        while self.egress.has_room() && may_send() {
            let Some(answer) = self.broker.poll_answer() else {
                break;
            };
            self.egress.send(answer);
        }
        let (mut sent, steps) = (0, self.broker.steps());
        let is_enough = |sent: usize, broker: &Guarded| {
            sent >= DELIVERY_BYTES_PER_TURN || broker.steps() - steps >= STEPS_PER_TURN
        };
        while !is_enough(sent, &self.broker) && self.egress.has_room_for_deliveries() && may_send()
        {
            let Some(delivery) = self.broker.poll_delivery() else {
                break;
            };
            sent += delivery.cost();
            self.egress.send(delivery);
        }
        self.egress.flush();
        let is_more = is_enough(sent, &self.broker) || has_nats && self.broker.has_turns();
        is_more && self.egress.has_room_for_deliveries()
    }

    /// NATS is connected and has taken nothing for as long as it may be out of reach.
    pub(super) fn is_choked(&mut self, limit: Duration) -> bool {
        if self.nats_lost_at.is_some() || self.egress.has_room_for_deliveries() {
            self.choked_since = None;
            return false;
        }
        let (now, moved) = (Clock.now().monotonic, self.egress.moved());
        let since = self.choked_since.filter(|(_, before)| *before == moved);
        let (since, _) = *self.choked_since.insert(since.unwrap_or((now, moved)));
        now.since(since) > limit
    }
}
