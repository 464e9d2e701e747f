//! The only place that reads a clock. Everything else is given the time.

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

use crate::core::time::{Instant, Now, Timestamp};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Deadlines run on the boot clock, which counts on while the machine is suspended: a node that wakes up
    /// must find that its trust window has passed.
    ///
    /// # Panics
    /// On a kernel without these clocks; no Linux since 2.6.39 is.
    pub fn now(self) -> Now {
        let monotonic = self.monotonic();
        let wall = clock_gettime(ClockId::CLOCK_REALTIME).expect("POSIX requires the wall clock");
        Now {
            monotonic,
            wall: Timestamp(i64::try_from(nanos(wall)).unwrap_or(i64::MAX)),
        }
    }

    /// The first of the two alone, for who asks before each message.
    ///
    /// # Panics
    /// As [`Self::now`].
    pub fn monotonic(self) -> Instant {
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has the boot clock");
        Instant::from_nanos(nanos(boot))
    }
}

/// A time before the origin counts as the origin.
fn nanos(time: TimeSpec) -> u64 {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec()).unwrap_or(0);
    seconds
        .saturating_mul(NANOS_PER_SECOND)
        .saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_runs_forward_and_the_wall_clock_shows_this_century() {
        let first = Clock.now();
        let mut second = Clock.now();
        for _ in 0..1_000_000 {
            if second.monotonic > first.monotonic {
                break;
            }
            second = Clock.now();
        }

        assert!(second.monotonic > first.monotonic);
        let start_of_2020 = Timestamp(1_577_836_800 * 1_000_000_000);
        assert!(first.wall > start_of_2020);
    }
}
