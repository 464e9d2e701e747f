//! Pauses between attempts: short at first, so that a blink of the database costs little, then longer.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
/// So that a database that is back is served again within a second.
const LONGEST: Duration = Duration::from_millis(400);

#[derive(Debug, Default)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The next pause: 50 ms, then twice as long each time, up to 400 ms.
    pub(super) fn next(&mut self) -> Duration {
        let next = self.last.map_or(FIRST, |last| (last * 2).min(LONGEST));
        self.last = Some(next);
        next
    }

    /// Something worked: the next trouble is a new one.
    pub(super) fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..7).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 400, 400, 400]);

        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 50);
    }
}
