//! One tenure as active: its number, how long it may assume that it holds the lock, and its end. Pure: times are arguments.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::error::TermLost;
use crate::core::attempts::EndKind;
use crate::core::ids::Epoch;
use crate::core::lease::Lease;
use crate::core::time::Instant;

const STALLED_MIN: Duration = Duration::from_secs(1);

/// A term as everybody in the process sees it; clones share it.
#[derive(Clone, Debug)]
pub struct Term {
    epoch: Epoch,
    lease: Lease,
    /// When the last question was sent that the session answered, in nanoseconds of the boot clock.
    proved_at: Arc<AtomicU64>,
    late_renewals: Arc<AtomicU64>,
    /// When the active last went round, in nanoseconds of the boot clock; 0 while it does not serve yet.
    progress_at: Arc<AtomicU64>,
    end: Arc<OnceLock<TermLost>>,
    ended: CancellationToken,
    asked_to_end: CancellationToken,
    gone_noted: Arc<Notify>,
    outbox_noted: Arc<Notify>,
    policies_noted: Arc<Notify>,
    blocked: Arc<Mutex<Option<String>>>,
    history_lacks: Arc<Mutex<Option<String>>>,
}

impl Term {
    /// Begins with a lock whose request was sent at `sent`.
    pub fn new(epoch: Epoch, lease: Lease, sent: Instant) -> Self {
        Self {
            epoch,
            lease,
            proved_at: Arc::new(AtomicU64::new(sent.as_nanos())),
            late_renewals: Arc::default(),
            progress_at: Arc::default(),
            end: Arc::default(),
            ended: CancellationToken::new(),
            asked_to_end: CancellationToken::new(),
            gone_noted: Arc::default(),
            outbox_noted: Arc::default(),
            policies_noted: Arc::default(),
            blocked: Arc::default(),
            history_lacks: Arc::default(),
        }
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Until then nobody else can be active. Never goes back while the term lasts.
    pub fn trusted_until(&self) -> Instant {
        Instant::from_nanos(self.proved_at.load(Ordering::Acquire)) + self.lease.trust()
    }

    /// Until then it is safe to act as the active: to send, to answer, to count a heartbeat as missed. In the past once
    /// the term has ended.
    pub fn acts_until(&self) -> Instant {
        match self.end.get() {
            None => self.trusted_until(),
            Some(_) => Instant::from_nanos(0),
        }
    }

    /// True when it is safe to act as the active.
    pub fn is_trusted(&self, now: Instant) -> bool {
        now < self.acts_until()
    }

    /// The session answered at `answered` to what was sent at `sent`. Anchored at the question: a slow answer must
    /// not extend the trust window. Returns how long there had been no proof, when that was more than half a lease: a
    /// machine or a network that goes on like this will lose the term.
    pub fn extend(&self, sent: Instant, answered: Instant) -> Option<Duration> {
        let before = self.proved_at.fetch_max(sent.as_nanos(), Ordering::AcqRel);
        let unproved = answered.since(Instant::from_nanos(before));
        let is_late = unproved > self.lease.duration() / 2;
        if is_late {
            self.late_renewals.fetch_add(1, Ordering::Relaxed);
        }
        is_late.then_some(unproved)
    }

    /// How often there was no proof of the lock for more than half a lease.
    pub fn late_renewals(&self) -> u64 {
        self.late_renewals.load(Ordering::Relaxed)
    }

    /// The active makes progress: it takes events, runs timers, and what it sends moves. From the first time on the lease is
    /// renewed only while this is called: a lock that is held by a server that cannot serve keeps everybody from being
    /// served.
    pub fn record_progress(&self, now: Instant) {
        self.progress_at.store(now.as_nanos(), Ordering::Release);
    }

    /// How long the active has made no progress, when that is longer than a lease (and than a second: the time that a busy
    /// machine may keep a thread waiting).
    pub(super) fn stalled_for(&self, now: Instant) -> Option<Duration> {
        let progress_at = self.progress_at.load(Ordering::Acquire);
        if progress_at == 0 {
            return None;
        }
        let silence = now.since(Instant::from_nanos(progress_at));
        (silence > self.lease.duration().max(STALLED_MIN)).then_some(silence)
    }

    /// The first reason stays.
    pub fn finish(&self, reason: TermLost) {
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

    pub(super) fn note_gone(&self) {
        self.gone_noted.notify_one();
    }

    /// Waits until somebody notes in the tables that messages are gone. May be dropped and called again.
    pub async fn gone_noted(&self) {
        self.gone_noted.notified().await;
    }

    pub(super) fn note_outbox(&self) {
        self.outbox_noted.notify_one();
    }

    /// Waits until somebody publishes in SQL who wants it to be seen, or may have done so for the first time. May be dropped
    /// and called again.
    pub async fn outbox_noted(&self) {
        self.outbox_noted.notified().await;
    }

    pub(super) fn note_policies(&self) {
        self.policies_noted.notify_one();
    }

    /// Waits until somebody sets a policy or removes one. May be dropped and called again.
    pub async fn policies_noted(&self) {
        self.policies_noted.notified().await;
    }

    /// Whose locks a commit waits for, as a sentence; `None` when one got through.
    pub(super) fn blocked(&self, by: Option<String>) {
        *self.blocked.lock().unwrap_or_else(PoisonError::into_inner) = by;
    }

    /// Whose locks a commit waits for.
    pub fn blocked_by(&self) -> Option<String> {
        let blocked = self.blocked.lock();
        blocked.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the history of takeovers lacks this term; `None` when it has it.
    pub(super) fn history_lacks(&self, why: Option<String>) {
        let lacks = self.history_lacks.lock();
        *lacks.unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Why the history of takeovers lacks this term.
    pub fn unnoted(&self) -> Option<String> {
        let lacks = self.history_lacks.lock();
        lacks.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the end of the term and says why it ended. May be dropped and called again.
    pub async fn lost(&self) -> TermLost {
        self.ended.cancelled().await;
        self.end
            .get()
            .cloned()
            .unwrap_or_else(|| TermLost::new(EndKind::Own, "for no known reason"))
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

        term.extend(at(500), at(510));
        term.extend(at(200), at(520));
        assert_eq!(term.trusted_until(), at(1400));
    }

    #[test]
    fn more_than_half_a_lease_without_proof_is_late() {
        let term = Term::new(Epoch(1), lease(1000), at(0));
        assert_eq!(term.extend(at(300), at(500)), None);
        assert_eq!(
            term.extend(at(600), at(801)),
            Some(Duration::from_millis(501))
        );
        assert_eq!(term.extend(at(900), at(1000)), None);
        assert_eq!(term.late_renewals(), 1);
    }

    #[test]
    fn an_active_that_has_gone_round_once_has_to_go_on_doing_so() {
        let term = Term::new(Epoch(1), lease(2000), at(0));
        assert_eq!(term.stalled_for(at(60_000)), None, "it does not serve yet");
        term.record_progress(at(60_000));
        assert_eq!(term.stalled_for(at(62_000)), None);
        assert_eq!(
            term.stalled_for(at(62_001)),
            Some(Duration::from_millis(2001))
        );
        term.record_progress(at(62_002));
        assert_eq!(term.stalled_for(at(62_100)), None);

        let short = Term::new(Epoch(1), lease(500), at(0));
        short.record_progress(at(100));
        assert_eq!(short.stalled_for(at(1100)), None);
        assert!(short.stalled_for(at(1101)).is_some());
    }

    #[test]
    fn an_ended_term_is_never_trusted_again_and_keeps_its_first_reason() {
        let term = Term::new(Epoch(1), lease(1000), at(0));
        let other = term.clone();
        term.finish(TermLost::new(EndKind::Own, "first"));
        term.finish(TermLost::new(EndKind::Own, "second"));
        term.extend(at(5000), at(5000));

        assert!(!other.is_trusted(at(1)));
        assert_eq!(other.end.get(), Some(&TermLost::new(EndKind::Own, "first")));
    }
}
