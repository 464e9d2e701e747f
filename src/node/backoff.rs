//! Pauses between attempts: short at first, so that a blink of the database costs little, then longer; and how often
//! their failure is told.

use std::time::Duration;

use crate::core::time::Instant;

const FIRST: Duration = Duration::from_millis(50);
/// So that a database that is back is served again within a second.
const LONGEST: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Backoff {
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
    pub(super) fn up_to(longest: Duration) -> Self {
        Self {
            longest,
            last: None,
        }
    }

    /// The next pause: 50 ms, then twice as long each time, up to the longest.
    pub(super) fn next(&mut self) -> Duration {
        let next = self.last.map_or(FIRST, |last| (last * 2).min(self.longest));
        self.last = Some(next);
        next
    }

    /// Something worked: the next trouble is a new one.
    pub(super) fn reset(&mut self) {
        self.last = None;
    }
}

/// Ends for one cause that are further apart have nothing to do with each other.
const RELATED_WITHIN: Duration = Duration::from_mins(1);
const SAME_CAUSE_FIRST: Duration = Duration::from_millis(100);
const SAME_CAUSE_LONGEST: Duration = Duration::from_secs(5);

/// Terms, or attempts at one, that end for the same cause again and again: each costs every client a takeover.
#[derive(Debug, Default)]
pub(super) struct SameCause {
    last: Option<(String, Instant)>,
    count: u32,
}

impl SameCause {
    /// One more has ended; the pause before the next: none at first, then 100 ms, twice as long each time, up to 5 s.
    pub(super) fn ended(&mut self, cause: &str, now: Instant) -> Duration {
        let is_same = self
            .last
            .as_ref()
            .is_some_and(|(last, at)| last == cause && now.since(*at) < RELATED_WITHIN);
        self.count = if is_same { self.count + 1 } else { 0 };
        self.last = Some((cause.to_owned(), now));
        match self.count {
            0 => Duration::ZERO,
            count => (SAME_CAUSE_FIRST * 2_u32.pow((count - 1).min(6))).min(SAME_CAUSE_LONGEST),
        }
    }

    /// How many there were in a row.
    pub(super) fn count(&self) -> u32 {
        self.count + 1
    }
}

/// The same trouble is told again after this.
const NEWS_AFTER: Duration = Duration::from_secs(10);

/// Keeps an outage from filling the log: each trouble is told when it begins, and then now and then.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    last: Option<(String, Instant)>,
}

impl Repeats {
    /// True when the trouble is another one than the last, or was not told for ten seconds.
    pub(super) fn is_news(&mut self, trouble: &str, now: Instant) -> bool {
        let is_known = self
            .last
            .as_ref()
            .is_some_and(|(last, told)| last == trouble && now.since(*told) < NEWS_AFTER);
        if !is_known {
            self.last = Some((trouble.to_owned(), now));
        }
        !is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..7).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 200, 200, 200, 200]);

        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 50);
    }

    #[test]
    fn terms_that_end_for_one_cause_are_further_and_further_apart() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let mut same = SameCause::default();
        let pauses: Vec<u128> = (0..9).map(|_| same.ended("a", at(1)).as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(same.count(), 9);

        assert_eq!(same.ended("b", at(2)), Duration::ZERO);
        assert_eq!(same.ended("b", at(3)), SAME_CAUSE_FIRST);
        assert_eq!(same.ended("b", at(64)), Duration::ZERO, "a minute later");
    }

    #[test]
    fn a_trouble_is_told_when_it_is_new_and_then_every_ten_seconds() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let mut repeats = Repeats::default();
        let heard = [
            (0, "away"),
            (1, "away"),
            (2, "full"),
            (3, "away"),
            (12, "away"),
            (13, "away"),
        ];
        let told = heard.map(|(second, text)| repeats.is_news(text, at(second)));

        assert_eq!(told, [true, false, true, true, false, true]);
    }
}
