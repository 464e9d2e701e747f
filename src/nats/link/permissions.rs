//! What the NATS server does not grant, and what it does not take.

use std::sync::{MutexGuard, PoisonError};

use super::Link;
use crate::clock::Clock;
use crate::nats::forbidden::Forbidden;
use crate::nats::rejections::{About, Rejections, SHORT};
use crate::nats::wire::encode;

impl Link {
    /// The NATS server does not grant a subscription.
    pub(in crate::nats) fn forbid(&self, error: &str) {
        self.forbidden().note(error, Clock.now().monotonic);
    }

    /// What it said of the subscriptions that it does not grant.
    pub(in crate::nats) fn forbids(&self) -> Option<String> {
        self.forbidden().error()
    }

    fn forbidden(&self) -> MutexGuard<'_, Forbidden> {
        self.forbidden
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The NATS server does not take a message.
    pub(in crate::nats) fn note_rejection(&self, about: About, error: &str) {
        self.counters.add_rejected();
        self.rejections().note(about, error, Clock.now().monotonic);
    }

    /// What it said of the last of these, unless that was long ago.
    pub(in crate::nats) fn rejects(&self) -> Option<String> {
        self.rejections().error(Clock.now().monotonic)
    }

    pub(in crate::nats) fn try_subject(&self, subject: String) {
        self.rejections().try_subject(subject);
    }

    pub(in crate::nats) fn takes_what_was_tried(&self) -> bool {
        self.rejections().takes_what_was_tried()
    }

    /// False where the NATS server would end the connection for a message whose subjects have so many bytes.
    pub(in crate::nats) fn takes_subjects(&self, bytes: usize) -> bool {
        bytes <= SHORT || self.rejections().allow(bytes, Clock.now().monotonic)
    }

    pub(super) fn rejections(&self) -> MutexGuard<'_, Rejections> {
        self.rejections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks again for what was not granted. The NATS server takes no notice of what it knows. To be called now and then.
    pub(in crate::nats) fn ask_again(&self) {
        if !self.forbidden().look(Clock.now().monotonic) {
            return;
        }
        let mut state = self.lock();
        let state = &mut *state;
        if state.connected && state.moving.is_none() {
            for (&sid, subscription) in &state.subscriptions {
                encode::subscribe(&subscription.subject, sid, state.out.urgent());
            }
            self.to_write.notify_one();
        }
    }
}
