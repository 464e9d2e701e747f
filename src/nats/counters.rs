//! Messages that were lost on our side of NATS. Each is a reason to look; none ends anything.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Since the connection was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that came faster than the node took them; at least so many.
    pub overflows: u64,
    /// Messages not sent because NATS was not connected.
    pub unsent: u64,
    /// Messages not sent because they are larger than the NATS server allows.
    pub oversized: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    overflows: AtomicU64,
    unsent: AtomicU64,
    oversized: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> Counts {
        Counts {
            overflows: self.overflows.load(Relaxed),
            unsent: self.unsent.load(Relaxed),
            oversized: self.oversized.load(Relaxed),
        }
    }

    /// The new count.
    pub(super) fn add_overflow(&self) -> u64 {
        self.overflows.fetch_add(1, Relaxed) + 1
    }

    pub(super) fn add_unsent(&self) {
        self.unsent.fetch_add(1, Relaxed);
    }

    pub(super) fn add_oversized(&self) {
        self.oversized.fetch_add(1, Relaxed);
    }
}
