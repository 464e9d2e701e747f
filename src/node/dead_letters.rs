//! What the active says about dead letters that their channel does not take.

use std::time::Duration;

use super::status_publisher::StatusPublisher;
use crate::core::Notice;
use crate::core::time::Instant;
use crate::monitoring::condition::Condition;

/// Each is tried again every ten seconds: without another refusal for so long it has passed.
const PASSED_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    last: Option<Instant>,
}

impl DeadLetters {
    pub(super) fn look_at(&mut self, notice: &Notice, status: &StatusPublisher, now: Instant) {
        if let Notice::DeadLetterRefused(channel, why) = notice {
            self.last = Some(now);
            status.raise(
                Condition::DeadLettersRefused,
                format!(
                    "dead letters cannot be written to channel {channel} ({why:?}), and their messages stay in flight; make \
                     room there, or change the policy that names it (view policies)"
                ),
            );
        }
    }

    /// To be called now and then.
    pub(super) fn look(&mut self, status: &StatusPublisher, now: Instant) {
        if self.last.is_some_and(|last| now.since(last) > PASSED_AFTER) {
            self.last = None;
            status.clear(Condition::DeadLettersRefused);
        }
    }

    /// The term is over; the next one finds out for itself.
    pub(super) fn end(status: &StatusPublisher) {
        status.clear(Condition::DeadLettersRefused);
    }
}
