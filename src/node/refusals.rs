//! What the active says about what Postgres refuses to store.

use std::time::Duration;

use super::log_throttle::LogThrottle;
use super::status_publisher::StatusPublisher;
use crate::core::batch::Batch;
use crate::core::savepoint::RefusedWrite;
use crate::core::time::Instant;
use crate::monitoring::condition::Condition;

/// Without another refusal for so long nobody has to look any more.
const PASSED_AFTER: Duration = Duration::from_mins(10);

#[derive(Debug, Default)]
pub(super) struct Refusals {
    throttle: LogThrottle,
    last: Option<Instant>,
}

impl Refusals {
    /// True when it is news.
    pub(super) fn note(
        &mut self,
        write: &RefusedWrite,
        status: &StatusPublisher,
        now: Instant,
    ) -> bool {
        let RefusedWrite {
            what,
            refusal,
            is_everything,
        } = write;
        self.last = Some(now);
        status.write_refused();
        let cause = format!("{} {} {}", refusal.table, refusal.sqlstate, refusal.rule);
        let remedy = &refusal.remedy;
        status.raise(
            Condition::WritesRefused,
            format!("not stored, the last of them {what}: {refusal}; {remedy}"),
        );
        if *is_everything {
            let why = format!("nothing that clients ask for is stored: {refusal}; {remedy}");
            status.raise(Condition::NothingStored, why);
        }
        let should_log = self.throttle.should_log(&cause, now);
        if should_log {
            tracing::error!(remedy, "not stored: {what}: {refusal}");
        }
        should_log
    }

    pub(super) fn committed(&mut self, batch: &Batch, status: &StatusPublisher) {
        let is_of_clients = !batch.messages.is_empty()
            || !batch.clients.is_empty()
            || !batch.subscriptions.is_empty();
        if self.last.is_some() && is_of_clients {
            status.clear(Condition::NothingStored);
        }
    }

    /// The term is over; the next one finds out for itself.
    pub(super) fn end(status: &StatusPublisher) {
        status.clear(Condition::WritesRefused);
        status.clear(Condition::NothingStored);
    }

    /// To be called now and then.
    pub(super) fn look(&mut self, status: &StatusPublisher, now: Instant) {
        if self.last.is_some_and(|last| now.since(last) > PASSED_AFTER) {
            self.last = None;
            status.clear(Condition::WritesRefused);
            status.clear(Condition::NothingStored);
        }
    }
}
