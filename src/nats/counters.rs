//! What went wrong on our side of NATS. Each is a reason to look; none ends anything.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Since the connection was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times that nothing was read for a while because too much waited already.
    pub pauses: u64,
    /// Connections lost while nothing was read or shortly after: NATS cuts off those who are slow, and what it
    /// held for them is lost.
    pub overflows: u64,
    /// Connections lost, whatever the reason.
    pub disconnects: u64,
    /// Messages not sent because NATS was not connected; answers wait instead.
    pub unsent: u64,
    /// Answers that were to wait for a connection, or to be sent again on the next one, and were dropped.
    pub dropped_answers: u64,
    /// Messages that the NATS server does not take: they or their subjects are too long, or not permitted.
    pub rejected: u64,
    /// Messages dropped, or left unanswered, because their subject or reply subject is not text.
    pub unreadable: u64,
    /// Requests refused because they name a channel or an inbox that circumvents the permissions of NATS.
    pub forbidden: u64,
    /// Publishes refused because their client had more than its share waiting.
    pub refused: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pauses: AtomicU64,
    overflows: AtomicU64,
    disconnects: AtomicU64,
    unsent: AtomicU64,
    rejected: AtomicU64,
    unreadable: AtomicU64,
    forbidden: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    /// `dropped_answers`: counted where they wait.
    pub(super) fn read(&self, dropped_answers: u64) -> Counts {
        Counts {
            pauses: self.pauses.load(Relaxed),
            overflows: self.overflows.load(Relaxed),
            disconnects: self.disconnects.load(Relaxed),
            unsent: self.unsent.load(Relaxed),
            dropped_answers,
            rejected: self.rejected.load(Relaxed),
            unreadable: self.unreadable.load(Relaxed),
            forbidden: self.forbidden.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }

    /// The new count.
    pub(super) fn add_pause(&self) -> u64 {
        self.pauses.fetch_add(1, Relaxed) + 1
    }

    pub(super) fn add_overflow(&self) {
        self.overflows.fetch_add(1, Relaxed);
    }

    pub(super) fn add_disconnect(&self) {
        self.disconnects.fetch_add(1, Relaxed);
    }

    pub(super) fn add_unsent(&self, messages: u64) {
        self.unsent.fetch_add(messages, Relaxed);
    }

    pub(super) fn add_rejected(&self) {
        self.rejected.fetch_add(1, Relaxed);
    }

    pub(super) fn add_unreadable(&self) {
        self.unreadable.fetch_add(1, Relaxed);
    }

    /// The new count.
    pub(super) fn add_refused(&self) -> u64 {
        self.refused.fetch_add(1, Relaxed) + 1
    }

    pub(super) fn add_forbidden(&self) {
        self.forbidden.fetch_add(1, Relaxed);
    }
}
