//! Whether clients that wait for each answer share the server with those that have thousands of messages under way.

use std::time::Duration;

use crate::core::event::Event;
use crate::core::request::Request;
use crate::core::time::Instant;

/// After this without a request of theirs there are none.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// When such a client last waited for the others' batch.
#[derive(Debug, Default)]
pub(super) struct LatencySensitiveClients(Option<Instant>);

impl LatencySensitiveClients {
    /// `is_full`: the batch takes nothing more but of clients of whom nothing waits. What every client sends now and then,
    /// those with thousands under way too, says nothing.
    pub(super) fn note(&mut self, is_full: bool, event: &Event, now: Instant) {
        if is_full
            && matches!(
                event,
                Event::Request(Request::Publish { .. } | Request::Ack(_))
            )
        {
            self.0 = Some(now);
        }
    }

    pub(super) fn has_waited(&self, now: Instant) -> bool {
        self.0.is_some_and(|at| now.since(at) < FORGOTTEN_AFTER)
    }
}
