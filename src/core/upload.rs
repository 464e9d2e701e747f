//! How many bytes one statement may carry to Postgres. The lease is renewed by answers, and there is none while a statement is
//! still being sent: on a slow link a large one would cost the term, and the next active would build the same one again. So
//! the bound begins small, grows while the link carries it in a small part of the lease, and shrinks when it does not.

use std::time::Duration;

/// What any link that is of use carries in a quarter of any lease.
const FIRST_BYTES: usize = 64 << 10;

/// Smaller pieces would only cost more answers.
const FLOOR_BYTES: usize = 16 << 10;

/// Of one term; the next one begins with half of what the last one ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadWindow {
    bytes: usize,
    ceiling: usize,
    /// A statement may be under way for so long.
    limit: Duration,
}

impl UploadWindow {
    /// Of a lease, and never more than `ceiling` bytes.
    pub fn new(lease: Duration, ceiling: usize) -> Self {
        Self {
            bytes: FIRST_BYTES.min(ceiling),
            ceiling,
            limit: lease / 4,
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A statement with so many bytes was answered after `took`. One that was not large says nothing about the link.
    pub fn carried(&mut self, bytes: usize, took: Duration) {
        if bytes < self.bytes / 2 {
            return;
        }
        if took <= self.limit / 4 {
            self.bytes = (self.bytes * 2).min(self.ceiling);
        } else if took > self.limit / 2 {
            self.shrink();
        }
    }

    /// The term ended before what was under way was answered.
    pub fn lost(&mut self) {
        self.shrink();
    }

    fn shrink(&mut self) {
        self.bytes = (self.bytes / 2).max(FLOOR_BYTES.min(self.ceiling));
    }

    /// For the term after: the link may have become slower.
    #[must_use]
    pub fn of_next_term(mut self) -> Self {
        self.bytes = self.bytes.min(FIRST_BYTES.max(self.bytes / 2));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(2);
    const CEILING: usize = 8 << 20;

    /// Sends what the window allows over a link of so many bytes per second; the longest that a statement took.
    fn over(link: u64, window: &mut UploadWindow, statements: usize) -> Duration {
        let mut longest = Duration::ZERO;
        for _ in 0..statements {
            let bytes = window.bytes();
            let micros = bytes as u64 * 1_000_000 / link;
            let took = Duration::from_micros(micros) + Duration::from_millis(2);
            window.carried(bytes, took);
            longest = longest.max(took);
        }
        longest
    }

    #[test]
    fn no_statement_takes_a_quarter_of_the_lease_whatever_the_link_carries() {
        for link in [200 << 10, 500 << 10, 4 << 20, 100 << 20, 1 << 30] {
            let mut window = UploadWindow::new(LEASE, CEILING);
            let longest = over(link, &mut window, 50);
            assert!(longest <= LEASE / 4, "{link}: {longest:?}");
        }
    }

    #[test]
    fn a_fast_link_is_used_to_the_full_within_a_few_statements() {
        let mut window = UploadWindow::new(LEASE, CEILING);
        over(1 << 30, &mut window, 7);
        assert_eq!(window.bytes(), CEILING);
        window.carried(100, Duration::from_secs(9));
        assert_eq!(window.bytes(), CEILING, "a slow commit is not a slow link");
    }

    #[test]
    fn a_link_that_becomes_slow_and_a_term_that_is_lost_make_statements_smaller() {
        let mut window = UploadWindow::new(LEASE, CEILING);
        over(1 << 30, &mut window, 7);
        over(4 << 20, &mut window, 5);
        assert!(window.bytes() <= 1 << 20, "{}", window.bytes());
        window.lost();
        let next = window.of_next_term();
        assert!(next.bytes() <= 512 << 10);
        let mut least = next;
        for _ in 0..20 {
            least.lost();
        }
        assert_eq!(least.of_next_term().bytes(), FLOOR_BYTES);
    }
}
