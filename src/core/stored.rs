//! What the terms before stored last. A NATS route that is slow may bring a publish to this node only after the node
//! has taken over, though the last active heard it in time and stored it: it is acked, and not stored again.

use std::collections::BTreeSet;

use super::broker::Broker;
use super::deadlines::Timer;
use super::ids::{ChannelName, Guid, Subject};
use super::outbound::Reply;
use super::request::Publish;
use super::time::Instant;

impl Broker {
    /// Knows these publishes until `until`. Their number is the caller's to bound.
    pub fn remember_stored(&mut self, stored: BTreeSet<(ChannelName, Guid)>, until: Instant) {
        self.stored_before = stored;
        self.deadlines.set(Timer::ForgetStored, until);
    }

    pub(super) fn forget_stored(&mut self) {
        self.stored_before = BTreeSet::new();
    }

    /// True when the publish was stored by a term before, and has got its answer.
    pub(super) fn was_stored_before(&mut self, request: &Publish, reply: Option<&Subject>) -> bool {
        if self.stored_before.is_empty() {
            return false;
        }
        // Each comes late once at most.
        let key = (request.channel.clone(), request.guid.clone());
        let known = self.stored_before.remove(&key);
        if known {
            self.answer(reply.cloned(), Reply::Published(request.guid.clone()));
        }
        known
    }
}
