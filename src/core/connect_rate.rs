//! How many clients may connect in a second: a bucket of tokens that fills up with time.
//!
//! A connect is the one request that anybody can make the server work for, by inventing client IDs: each is a row to
//! commit and a client to send heartbeats to.

use std::time::Duration;

use super::time::Instant;

/// What a full bucket holds, as the time that it takes to fill: applications that all start at once.
const BURST: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default)]
pub(super) struct ConnectRate {
    /// When the bucket is full again, if nobody takes from it.
    full_at: Instant,
    /// Somebody was refused since it was full.
    is_exceeded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Admitted,
    /// The first one since the bucket was full.
    RefusedFirst,
    Refused,
}

impl ConnectRate {
    /// Takes a token. `None` is no limit.
    pub(super) fn admit(&mut self, per_second: Option<u32>, now: Instant) -> Admission {
        let Some(per_second) = per_second.filter(|&count| count > 0) else {
            return Admission::Admitted;
        };
        let each = Duration::from_secs(1) / per_second;
        if self.full_at <= now {
            self.full_at = now;
            self.is_exceeded = false;
        }
        if self.full_at.since(now) + each <= BURST {
            self.full_at = self.full_at + each;
            return Admission::Admitted;
        }
        if self.is_exceeded {
            return Admission::Refused;
        }
        self.is_exceeded = true;
        Admission::RefusedFirst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn admitted(rate: &mut ConnectRate, asked: usize, now: Instant) -> usize {
        let asked = (0..asked).filter(|_| rate.admit(Some(2), now) == Admission::Admitted);
        asked.count()
    }

    #[test]
    fn ten_seconds_worth_may_come_at_once_and_then_so_many_per_second() {
        let mut rate = ConnectRate::default();
        assert_eq!(admitted(&mut rate, 100, at(5000)), 20);
        assert_eq!(admitted(&mut rate, 100, at(5499)), 0);
        assert_eq!(admitted(&mut rate, 100, at(5500)), 1);
        assert_eq!(admitted(&mut rate, 100, at(8500)), 6);
        assert_eq!(admitted(&mut rate, 100, at(100_000)), 20);
    }

    #[test]
    fn the_first_refusal_is_told_apart_until_the_bucket_was_full_again() {
        let mut rate = ConnectRate::default();
        assert_eq!(admitted(&mut rate, 20, at(0)), 20);
        assert_eq!(rate.admit(Some(2), at(0)), Admission::RefusedFirst);
        assert_eq!(rate.admit(Some(2), at(1)), Admission::Refused);
        assert_eq!(admitted(&mut rate, 21, at(60_000)), 20);
        assert_eq!(rate.admit(Some(2), at(60_000)), Admission::Refused);
        assert_eq!(admitted(&mut rate, 20, at(120_000)), 20);
        assert_eq!(rate.admit(Some(2), at(120_000)), Admission::RefusedFirst);
    }

    #[test]
    fn no_limit_admits_everybody() {
        let mut rate = ConnectRate::default();
        for per_second in [None, Some(0)] {
            let all = (0..1000).all(|_| rate.admit(per_second, at(0)) == Admission::Admitted);
            assert!(all);
        }
    }
}
