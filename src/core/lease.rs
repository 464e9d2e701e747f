//! The lease: what it may be, and what follows from it.

use std::time::Duration;

/// How long the active may be silent before Postgres ends its session and with it the term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease(Duration);

impl Lease {
    pub const MIN: Duration = Duration::from_millis(500);
    pub const MAX: Duration = Duration::from_mins(1);
    pub const DEFAULT: Self = Self(Duration::from_secs(2));

    /// `None` outside 500 ms to 1 min: a shorter one ends terms on a busy machine, a longer one is an outage.
    pub fn new(duration: Duration) -> Option<Self> {
        (Self::MIN..=Self::MAX)
            .contains(&duration)
            .then_some(Self(duration))
    }

    pub fn duration(self) -> Duration {
        self.0
    }

    /// Three renewals may go missing before the session ends.
    pub fn renew_every(self) -> Duration {
        self.0 / 4
    }

    /// How long after a message was *sent* its answer proves the lock: shorter than Postgres' own timer, even when
    /// the two clocks do not run at quite the same rate.
    pub fn trust(self) -> Duration {
        self.0
            .saturating_sub((self.0 / 10).max(Duration::from_millis(100)))
    }
}
