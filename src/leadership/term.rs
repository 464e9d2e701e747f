//! One tenure as active: its number, how long it may believe in itself, and its end. Pure: times are arguments.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::error::TermLost;
use crate::core::ids::Epoch;
use crate::core::time::Instant;

/// How long the active may be silent before Postgres ends its session and with it the term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease(Duration);

impl Lease {
    pub const MIN: Duration = Duration::from_millis(500);
    pub const MAX: Duration = Duration::from_mins(1);
    pub const DEFAULT: Self = Self(Duration::from_secs(2));

    /// `None` outside 500 ms to 60 s: a shorter one ends terms on a busy machine, a longer one is an outage.
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

/// A term as everybody in the process sees it; clones share it.
#[derive(Clone, Debug)]
pub struct Term {
    epoch: Epoch,
    lease: Lease,
    /// In nanoseconds of the boot clock.
    trusted_until: Arc<AtomicU64>,
    end: Arc<OnceLock<TermLost>>,
    ended: CancellationToken,
    asked_to_end: CancellationToken,
}

impl Term {
    /// Of a lock whose request was sent at `sent`.
    pub fn new(epoch: Epoch, lease: Lease, sent: Instant) -> Self {
        let term = Self {
            epoch,
            lease,
            trusted_until: Arc::default(),
            end: Arc::default(),
            ended: CancellationToken::new(),
            asked_to_end: CancellationToken::new(),
        };
        term.extend(sent);
        term
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Until then nobody else can be active. Never goes back while the term lasts.
    pub fn trusted_until(&self) -> Instant {
        Instant::from_nanos(self.trusted_until.load(Ordering::Acquire))
    }

    /// True when it is safe to act as the active: to send, to answer, to count a heartbeat as missed.
    pub fn is_trusted(&self, now: Instant) -> bool {
        self.end.get().is_none() && now < self.trusted_until()
    }

    /// The session answered to what was sent at `sent`. Anchored there: a slow answer must not lengthen the belief.
    pub(super) fn extend(&self, sent: Instant) {
        let until = (sent + self.lease.trust()).as_nanos();
        self.trusted_until.fetch_max(until, Ordering::AcqRel);
    }

    /// The first reason stays.
    pub(super) fn finish(&self, reason: TermLost) {
        drop(self.end.set(reason));
        self.ended.cancel();
    }

    /// Somebody wants another server to be the active.
    pub(super) fn ask_to_end(&self) {
        self.asked_to_end.cancel();
    }

    /// Waits until somebody wants another server to be the active. May be dropped and called again.
    pub async fn asked_to_end(&self) {
        self.asked_to_end.cancelled().await;
    }

    /// Waits for the end of the term and says why it ended. May be dropped and called again.
    pub async fn lost(&self) -> TermLost {
        self.ended.cancelled().await;
        self.end
            .get()
            .cloned()
            .unwrap_or_else(|| TermLost("for no known reason".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn lease(millis: u64) -> Lease {
        Lease::new(Duration::from_millis(millis)).unwrap()
    }

    #[test]
    fn a_lease_is_between_half_a_second_and_a_minute() {
        for (millis, good) in [(499, false), (500, true), (60_000, true), (60_001, false)] {
            let lease = Lease::new(Duration::from_millis(millis));
            assert_eq!(lease.is_some(), good, "{millis}");
        }
    }

    #[test]
    fn trust_ends_before_the_lease_does() {
        assert_eq!(lease(2000).trust(), Duration::from_millis(1800));
        assert_eq!(lease(500).trust(), Duration::from_millis(400));
    }

    #[test]
    fn trust_counts_from_when_the_question_was_sent_and_never_goes_back() {
        let term = Term::new(Epoch(1), lease(1000), at(0));
        assert!(term.is_trusted(at(899)));
        assert!(!term.is_trusted(at(900)));

        term.extend(at(500));
        term.extend(at(200));
        assert_eq!(term.trusted_until(), at(1400));
    }

    #[test]
    fn an_ended_term_is_never_trusted_again_and_keeps_its_first_reason() {
        let term = Term::new(Epoch(1), lease(1000), at(0));
        let other = term.clone();
        term.finish(TermLost("first".into()));
        term.finish(TermLost("second".into()));
        term.extend(at(5000));

        assert!(!other.is_trusted(at(1)));
        assert_eq!(other.end.get(), Some(&TermLost("first".into())));
    }
}
