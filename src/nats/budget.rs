//! How much may wait between the socket and those who take it. Over the limit nothing more is read, so that the
//! memory stays bounded and the NATS server learns that this side is slow.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

use tokio::sync::Notify;

use super::gate::Refusing;
use crate::core::time::Instant;

/// The budget of one connection.
#[derive(Debug)]
pub(super) struct Budget {
    messages_max: usize,
    bytes_max: usize,
    messages: AtomicUsize,
    bytes: AtomicUsize,
    refuses: AtomicBool,
    /// Clients with more than their share of half of this are refused, so that it is never full.
    keeps_reading: AtomicBool,
    /// In nanoseconds. A refusal is an answer of the active, which may give it for as long as it is trusted.
    refuses_until: AtomicU64,
    freed: Notify,
}

impl Budget {
    /// At least one of each, or nothing would ever be read.
    pub(super) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self {
            messages_max: messages_max.max(1),
            bytes_max: bytes_max.max(1),
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            refuses: AtomicBool::new(false),
            keeps_reading: AtomicBool::new(false),
            refuses_until: AtomicU64::new(0),
            freed: Notify::new(),
        }
    }

    /// What is taken in one go may pass the limit: it has been read already.
    pub(super) fn take(&self, messages: usize, bytes: usize) {
        self.messages.fetch_add(messages, SeqCst);
        self.bytes.fetch_add(bytes, SeqCst);
    }

    pub(super) fn give_back(&self, messages: usize, bytes: usize) {
        self.messages.fetch_sub(messages, SeqCst);
        self.bytes.fetch_sub(bytes, SeqCst);
        if self.has_room() {
            self.freed.notify_one();
        }
    }

    pub(super) fn has_room(&self) -> bool {
        let (messages, bytes) = self.used();
        messages < self.messages_max && bytes < self.bytes_max
    }

    /// Whether anybody is refused, and whether so early that reading goes on.
    pub(super) fn refuse(&self, refuses: bool, keeps_reading: bool) {
        self.refuses.store(refuses, SeqCst);
        self.keeps_reading.store(keeps_reading, SeqCst);
    }

    pub(super) fn refuse_until(&self, until: Instant) {
        self.refuses_until.store(until.as_nanos(), SeqCst);
    }

    /// `None` where nobody is refused.
    pub(super) fn refusing(&self, now: Instant) -> Option<Refusing> {
        let refusing = if self.keeps_reading.load(SeqCst) {
            Refusing::BeyondShare((self.messages_max / 2, self.bytes_max / 2))
        } else {
            Refusing::Floods
        };
        let may_speak = now.as_nanos() < self.refuses_until.load(SeqCst);
        (self.refuses.load(SeqCst) && may_speak).then_some(refusing)
    }

    /// For one that waits at a time.
    pub(super) async fn room(&self) {
        while !self.has_room() {
            self.freed.notified().await;
        }
    }

    /// Messages and bytes.
    pub(super) fn used(&self) -> (usize, usize) {
        (self.messages.load(SeqCst), self.bytes.load(SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_refused_by_who_may_not_speak_as_the_active() {
        let budget = Budget::new(10, 1000);
        let at = Instant::from_nanos;
        budget.refuse_until(at(5));
        assert_eq!(budget.refusing(at(4)), None, "a standby");

        budget.refuse(true, false);
        assert_eq!(budget.refusing(at(4)), Some(Refusing::Floods));
        assert_eq!(budget.refusing(at(5)), None, "frozen, and back");

        budget.refuse(true, true);
        let beyond = Some(Refusing::BeyondShare((5, 500)));
        assert_eq!(budget.refusing(at(4)), beyond);
    }
}
