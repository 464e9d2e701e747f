//! How often the failure of attempts is logged.

use std::time::Duration;

use crate::core::time::Instant;

/// The same failure is logged again after this.
const NEWS_AFTER: Duration = Duration::from_secs(10);

/// Keeps an outage from filling the log: each failure is logged when it begins, and then now and then.
#[derive(Debug, Default)]
pub(super) struct LogThrottle {
    last: Option<(String, Instant)>,
}

impl LogThrottle {
    /// True when the failure is another one than the last, or was not logged for ten seconds.
    pub(super) fn should_log(&mut self, failure: &str, now: Instant) -> bool {
        let is_known = self
            .last
            .as_ref()
            .is_some_and(|(last, logged)| last == failure && now.since(*logged) < NEWS_AFTER);
        if !is_known {
            self.last = Some((failure.to_owned(), now));
        }
        !is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_when_it_is_new_and_then_every_ten_seconds() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let mut throttle = LogThrottle::default();
        let failures = [
            (0, "away"),
            (1, "away"),
            (2, "full"),
            (3, "away"),
            (12, "away"),
            (13, "away"),
        ];
        let logged = failures.map(|(second, text)| throttle.should_log(text, at(second)));

        assert_eq!(logged, [true, false, true, true, false, true]);
    }
}
