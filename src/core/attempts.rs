//! How a node that is not active goes on: the pauses between its attempts to become it. Short at first, so that a blink of
//! the database costs little, then longer; and longer still where one cause ends every term, because each term costs every
//! client a takeover.

use std::time::Duration;

use super::time::Instant;

const FIRST: Duration = Duration::from_millis(50);
/// So that a database that is back is served again within a second.
const LONGEST: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct Backoff {
    longest: Duration,
    last: Option<Duration>,
}

impl Default for Backoff {
    /// Up to 200 ms.
    fn default() -> Self {
        Self::up_to(LONGEST)
    }
}

impl Backoff {
    pub fn up_to(longest: Duration) -> Self {
        Self {
            longest,
            last: None,
        }
    }

    /// The next pause: 50 ms, then twice as long each time, up to the longest.
    pub fn next_pause(&mut self) -> Duration {
        let next = self.last.map_or(FIRST, |last| (last * 2).min(self.longest));
        self.last = Some(next);
        next
    }

    /// Something worked: the next trouble is a new one.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

/// What ended a term or an attempt at one, as far as it shows whether the next will end for the same cause. The adapters know
/// it from the type of an error: its words differ from one time to the next ("connection closed", "broken pipe").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// Postgres is out of reach or restarts, or the connection to it broke.
    DatabaseLost,
    /// Postgres was there and took longer than it may.
    DatabaseSlow,
    /// Rights, settings or the tables are not what a server needs.
    DatabaseRefused,
    /// Postgres will never store what it was given.
    WriteRefused,
    /// The session does not hold the lock that it took.
    LockLost,
    /// NATS is out of reach, fell silent, or took nothing.
    NatsLost,
    /// Another server serves the cluster ID from other tables.
    ConflictingActive,
    /// The process itself: it is asked to stop, or something in it does not work.
    Own,
}

impl EndKind {
    /// The longest pause before another attempt.
    fn longest_pause(self) -> Duration {
        match self {
            // A Postgres that has crashed again and again is served again soon after it is back.
            Self::DatabaseLost => Duration::from_secs(1),
            Self::DatabaseSlow
            | Self::DatabaseRefused
            | Self::WriteRefused
            | Self::LockLost
            | Self::NatsLost
            | Self::ConflictingActive
            | Self::Own => Duration::from_secs(5),
        }
    }
}

/// Ends for one cause that are further apart have nothing to do with each other.
const RELATED_WITHIN: Duration = Duration::from_mins(1);
const SAME_CAUSE_FIRST: Duration = Duration::from_millis(100);

/// Terms, or attempts at one, that end for the same cause again and again: each costs every client a takeover.
#[derive(Debug, Default)]
pub struct SameCause {
    last: Option<(EndKind, Instant)>,
    count: u32,
}

impl SameCause {
    /// One more has ended; the pause before the next: none at first, then 100 ms, twice as long each time, up to 1 s where
    /// Postgres was lost, else up to 5 s.
    pub fn ended(&mut self, cause: EndKind, now: Instant) -> Duration {
        let is_same = self
            .last
            .as_ref()
            .is_some_and(|(last, at)| *last == cause && now.since(*at) < RELATED_WITHIN);
        self.count = if is_same { self.count + 1 } else { 0 };
        self.last = Some((cause, now));
        match self.count {
            0 => Duration::ZERO,
            count => (SAME_CAUSE_FIRST * 2_u32.pow((count - 1).min(6))).min(cause.longest_pause()),
        }
    }

    /// How many there were in a row.
    pub fn count(&self) -> u32 {
        self.count + 1
    }
}

/// The attempts of one process to become the active.
#[derive(Debug)]
pub struct Attempts {
    backoff: Backoff,
    same: SameCause,
    lease: Duration,
}

impl Attempts {
    pub fn new(lease: Duration) -> Self {
        Self {
            backoff: Backoff::default(),
            same: SameCause::default(),
            lease,
        }
    }

    /// A term has ended that had lasted so long; `cause` where nobody wanted that. The pause before the next attempt.
    pub fn term_ended(
        &mut self,
        cause: Option<EndKind>,
        lasted: Duration,
        now: Instant,
    ) -> Duration {
        let pause = cause.map_or(Duration::ZERO, |cause| self.same.ended(cause, now));
        // A term that was of use is no reason to hesitate.
        if lasted > self.lease {
            self.backoff.reset();
        }
        self.backoff.next_pause().max(pause)
    }

    /// An attempt has failed; `is_lasting`: somebody has to change something before it goes. The pause before the next.
    pub fn failed(&mut self, cause: EndKind, is_lasting: bool, now: Instant) -> Duration {
        let pause = if is_lasting {
            self.same.ended(cause, now)
        } else {
            Duration::ZERO
        };
        self.backoff.next_pause().max(pause)
    }

    /// How many ends in a row had the last cause.
    pub fn of_one_cause(&self) -> u32 {
        self.same.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..7).map(|_| backoff.next_pause().as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 200, 200, 200, 200]);

        backoff.reset();
        assert_eq!(backoff.next_pause().as_millis(), 50);
    }

    #[test]
    fn terms_that_end_for_one_cause_are_further_and_further_apart() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let mut same = SameCause::default();
        let pauses: Vec<u128> = (0..9)
            .map(|_| same.ended(EndKind::WriteRefused, at(1)).as_millis())
            .collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(same.count(), 9);

        assert_eq!(same.ended(EndKind::NatsLost, at(2)), Duration::ZERO);
        assert_eq!(same.ended(EndKind::NatsLost, at(3)), SAME_CAUSE_FIRST);
        assert_eq!(
            same.ended(EndKind::NatsLost, at(64)),
            Duration::ZERO,
            "a minute later"
        );
    }

    #[test]
    fn a_postgres_that_crashes_again_and_again_is_served_again_within_a_second() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let mut same = SameCause::default();
        let pauses = (0..7).map(|time| same.ended(EndKind::DatabaseLost, at(time)).as_millis());
        let pauses: Vec<u128> = pauses.collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn a_term_that_was_of_use_is_no_reason_to_hesitate() {
        let mut attempts = Attempts::new(Duration::from_secs(2));
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let millis = |pause: Duration| pause.as_millis();
        assert_eq!(
            millis(attempts.failed(EndKind::DatabaseLost, false, at(0))),
            50
        );
        assert_eq!(
            millis(attempts.failed(EndKind::DatabaseLost, false, at(1))),
            100
        );
        let short = Duration::from_secs(1);
        assert_eq!(
            millis(attempts.term_ended(Some(EndKind::DatabaseLost), short, at(2))),
            200
        );
        let useful = Duration::from_secs(3);
        assert_eq!(millis(attempts.term_ended(None, useful, at(9))), 50);
        assert_eq!(
            millis(attempts.term_ended(Some(EndKind::DatabaseLost), useful, at(10))),
            100
        );
        assert_eq!(attempts.of_one_cause(), 2);
    }
}
