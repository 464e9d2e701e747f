//! How many bytes one statement may carry to Postgres. The lease is renewed by answers, and there is none while a statement is
//! still being sent: on a slow link a large one would cost the term, and the next active would build the same one again. So
//! the bound begins small and is what the link carries in a small part of the lease. Postgres' own work is in the time that is
//! measured: the fastest of the last statements counts, so that a busy machine does not make statements smaller, which would
//! keep it busier.

use std::time::Duration;

/// What any link that is of use carries in a quarter of any lease.
const FIRST_BYTES: usize = 64 << 10;

/// Smaller pieces would only cost more answers.
const FLOOR_BYTES: usize = 16 << 10;

/// The link is as fast as the fastest of so many large statements says: Postgres may have been busy during the others.
const SAMPLES: usize = 8;

/// However fast the last statement was, the next one is not larger than so many of it.
const GROWTH_MAX: usize = 4;

/// Everybody's answers wait for the batch under way and for the next one. Each should take so long, or so many times as long
/// as a commit of almost nothing takes, if that is more: where each commit takes long, smaller ones only store less.
const PATIENCE: Duration = Duration::from_millis(10);
const COMMITS_PER_BATCH: u32 = 10;
const PATIENCE_MAX: Duration = Duration::from_millis(40);

/// Unless it has less than this for each [`PATIENCE`]: a busy Postgres takes long for anything.
const BATCH_FLOOR_BYTES: usize = 256 << 10;

/// After so many batches in a row that took longer than [`PATIENCE_MAX`], commits have become slow, whatever small ones took before.
const SLOW_COMMITS: u32 = 8;

/// A commit of no more than this takes as long as one of nothing.
const SMALL_BYTES: usize = 4 << 10;

/// The window of one term; the next term begins with half of what the last one ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadWindow {
    bytes: usize,
    ceiling: usize,
    /// A statement should be under way for so long at most.
    limit: Duration,
    /// Bytes that would have been carried within `limit`, of the last large statements; 0 for none.
    carried: [usize; SAMPLES],
    next: usize,
    /// The last large statement took longer than `limit`.
    was_slow: bool,
    /// Bytes that are carried within [`PATIENCE`], on average; `None` before the first large statement.
    prompt: Option<usize>,
    /// What a commit of almost nothing takes; `None` before the first one.
    least: Option<Duration>,
    /// So many large batches in a row took longer than anybody should wait.
    slow: u32,
}

impl UploadWindow {
    /// Begins for a lease, and never with more than `ceiling` bytes.
    pub fn new(lease: Duration, ceiling: usize) -> Self {
        Self {
            bytes: FIRST_BYTES.min(ceiling),
            ceiling,
            limit: lease / 5,
            carried: [0; SAMPLES],
            next: 0,
            was_slow: false,
            prompt: None,
            least: None,
            slow: 0,
        }
    }

    /// The most bytes of one statement.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The most bytes of a batch, which is never more than a statement. `is_waited_for`: there are clients that wait for each
    /// answer; without them large batches delay nobody, and cost less.
    pub fn batch_bytes(&self, is_waited_for: bool) -> usize {
        let is_prompt = is_waited_for && self.slow < SLOW_COMMITS;
        self.committed_within(if is_prompt {
            self.patience()
        } else {
            PATIENCE_MAX
        })
    }

    /// How long a batch may delay clients that wait for each answer.
    fn patience(&self) -> Duration {
        let least = self.least.map(|least| COMMITS_PER_BATCH * least);
        least.map_or(PATIENCE_MAX, |time| time.clamp(PATIENCE, PATIENCE_MAX))
    }

    /// Bytes, on average.
    fn committed_within(&self, time: Duration) -> usize {
        let prompt = self.prompt.unwrap_or(self.bytes).max(BATCH_FLOOR_BYTES);
        let batch = prompt as u128 * time.as_micros() / PATIENCE.as_micros();
        // What it keeps for clients that have little under way comes on top.
        let most = self.bytes - self.bytes / 9;
        most.min(usize::try_from(batch).unwrap_or(usize::MAX))
    }

    /// True of a batch whose time says something about the link.
    pub fn is_large(&self, bytes: usize) -> bool {
        bytes >= self.batch_bytes(true) / 2
    }

    /// A batch with so many bytes was committed by one statement after `took`, of which a commit of nothing is a part.
    pub fn committed(&mut self, bytes: usize, took: Duration) {
        self.carried(bytes, took);
        let is_small = bytes <= SMALL_BYTES;
        self.least = match self.least {
            None => is_small.then_some(took),
            // Most of the longer ones waited for something else.
            Some(least) if is_small => Some(took.min(least + least / 8)),
            Some(least) => Some(took.min(least)),
        };
        if took <= PATIENCE_MAX {
            self.slow = 0;
        } else if self.is_large(bytes) && bytes <= self.committed_within(self.patience()) / 4 * 5 {
            // One that was made larger, because nobody waited for it, may take longer.
            self.slow = self.slow.saturating_add(1);
        }
    }

    /// A statement with so many bytes was answered after `took`, in which Postgres did all of its work too. One that was
    /// not large says nothing about the link.
    pub fn carried(&mut self, bytes: usize, took: Duration) {
        if !self.is_large(bytes) {
            return;
        }
        let within = |time: Duration| {
            let carried = bytes as u128 * time.as_micros() / took.as_micros().max(1);
            usize::try_from(carried).unwrap_or(usize::MAX)
        };
        let prompt = within(PATIENCE);
        let before = self.prompt.unwrap_or(prompt);
        self.prompt = Some(before - before / 8 + prompt / 8);
        let within_limit = within(self.limit);
        let is_slow = took > self.limit;
        if is_slow && self.was_slow {
            // Twice in a row: the link is slower than it was.
            self.carried = [0; SAMPLES];
        }
        self.carried[self.next % SAMPLES] = within_limit;
        self.next = (self.next + 1) % SAMPLES;
        let fastest = self.carried.into_iter().max().unwrap_or(within_limit);
        let most = if is_slow && !self.was_slow {
            self.bytes / 2
        } else {
            self.bytes.saturating_mul(GROWTH_MAX)
        };
        self.was_slow = is_slow;
        self.set(fastest.min(most));
    }

    /// The term ended before what was under way was answered.
    pub fn lost(&mut self) {
        self.carried = [0; SAMPLES];
        self.set(self.bytes / 2);
    }

    fn set(&mut self, bytes: usize) {
        self.bytes = bytes.max(FLOOR_BYTES).min(self.ceiling);
    }

    /// For the term after: the link may have become slower.
    #[must_use]
    pub fn of_next_term(mut self) -> Self {
        self.bytes = self.bytes.min(FIRST_BYTES.max(self.bytes / 2));
        self.carried = [0; SAMPLES];
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
    fn a_postgres_that_is_slow_for_another_reason_makes_no_statement_smaller() {
        let mut window = UploadWindow::new(LEASE, CEILING);
        for statement in 0..100_u32 {
            // Each takes a while whatever it carries, and now and then one takes very long.
            let busy = if statement % 10 == 9 { 900 } else { 300 };
            let bytes = window.bytes().min(1 << 20);
            let took = Duration::from_millis(busy) + Duration::from_micros(bytes as u64 / 100);
            window.carried(bytes, took);
            assert!(statement < 10 || window.bytes() >= 512 << 10, "{statement}");
        }
        window.carried(1 << 20, Duration::from_millis(310));
        assert!(window.bytes() >= 1 << 20, "{}", window.bytes());
    }

    #[test]
    fn a_batch_is_what_is_committed_within_ten_milliseconds_or_ten_small_commits() {
        let after = |rate: u64, fixed: u64| {
            let mut window = UploadWindow::new(LEASE, CEILING);
            window.committed(1000, Duration::from_micros(fixed));
            for _ in 0..60 {
                let bytes = window.batch_bytes(true);
                let micros = fixed + bytes as u64 * 1_000_000 / rate;
                window.committed(bytes, Duration::from_micros(micros));
            }
            window.batch_bytes(true)
        };
        let is_near = |bytes: usize, wanted: usize| bytes.abs_diff(wanted) <= wanted / 8;
        let fast = after(100 << 20, 500);
        assert!(is_near(fast, 950 << 10), "10 ms of 100 MiB/s: {fast}");
        let slow = after(100 << 20, 3000);
        assert!(is_near(slow, 2765 << 10), "30 ms of 100 MiB/s: {slow}");
        assert_eq!(after(4 << 30, 1000), CEILING - CEILING / 9);
        assert_eq!(
            after(100 << 20, 200_000),
            1 << 20,
            "commits are slow, not the link"
        );
        assert!(after(1 << 20, 1000) < 512 << 10, "the lease comes first");
    }

    #[test]
    fn batches_grow_when_commits_become_slow_and_shrink_when_they_are_quick_again() {
        let mut window = UploadWindow::new(LEASE, CEILING);
        window.committed(100, Duration::from_micros(500));
        let mut commit = |fixed: u64, times: usize| {
            for _ in 0..times {
                let bytes = window.batch_bytes(true);
                let micros = fixed + bytes as u64 * 1_000_000 / (50 << 20);
                window.committed(bytes, Duration::from_micros(micros));
            }
            window.batch_bytes(true)
        };
        let quick = commit(500, 60);
        assert!(quick < 600 << 10, "10 ms of 50 MiB/s: {quick}");
        let slow = commit(100_000, 60);
        assert_eq!(slow, 1 << 20, "commits take a tenth of a second");
        let again = commit(500, 300);
        assert!(again < 600 << 10, "{again}");
    }

    #[test]
    fn large_batches_that_nobody_waited_for_do_not_make_commits_slow() {
        let mut window = UploadWindow::new(LEASE, CEILING);
        window.committed(100, Duration::from_millis(2));
        for _ in 0..60 {
            let bytes = window.batch_bytes(false);
            let micros = 2000 + bytes as u64 * 1_000_000 / (15 << 20);
            window.committed(bytes, Duration::from_micros(micros));
        }
        let bytes = window.batch_bytes(true);
        assert!(bytes <= 512 << 10, "{bytes}");
    }

    #[test]
    fn a_link_that_becomes_slow_and_a_term_that_is_lost_make_statements_smaller() {
        let mut window = UploadWindow::new(LEASE, CEILING);
        over(1 << 30, &mut window, 7);
        over(4 << 20, &mut window, 5);
        assert!(window.bytes() <= 2 << 20, "{}", window.bytes());
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
