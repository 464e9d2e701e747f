//! How much is taken of what came, and what may have come and is not taken yet.

use super::{ActiveLoop, EVENTS_PER_TURN, Intake};
use crate::core::capacity::{Capacity, Quota};
use crate::core::time::Instant;

impl ActiveLoop {
    /// New requests take what a batch keeps for them, unless others wait that came before them.
    pub(super) fn intake(&self) -> Intake {
        if self.ends_at.is_some() {
            return Intake::Nothing;
        }
        let takes = |quota: Quota| Quota {
            requests: quota.requests.min(EVENTS_PER_TURN),
            ..quota
        };
        match self.broker.capacity() {
            Capacity::For(quota) => Intake::All(takes(quota)),
            Capacity::Reserve(quota) if self.backlog.is_empty() => Intake::New(takes(quota)),
            Capacity::Reserve(_) | Capacity::None => Intake::Nothing,
        }
    }

    /// Clients may have answered although nothing has taken their answers: behind a savepoint nothing is taken for as long as a batch
    /// is tried in halves. What came meanwhile is taken once requests could be taken in two turns, as something else may come first
    /// in one of them.
    pub(super) fn note_intake(&mut self, intake: Intake) {
        if !intake.is_open() {
            self.is_behind |= self.broker.has_savepoints();
            self.had_turn = false;
        } else if std::mem::replace(&mut self.had_turn, true) {
            self.is_behind = false;
        }
    }

    /// Since when events that are taken now may have waited: until all that came during a pause is taken.
    pub(super) fn paused_since(&mut self, now: Instant, has_more: bool) -> Instant {
        let since_look = now.since(self.looked_at) > self.pause_max;
        let paused_at = self.paused_at.or(since_look.then_some(self.looked_at));
        self.paused_at = paused_at.filter(|_| has_more);
        paused_at.unwrap_or(now)
    }
}
