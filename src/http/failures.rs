//! Who guesses has to wait: wrong tokens and passwords are counted by the address that they come from.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Wrong ones from one address within [`WINDOW`]; then none is looked at until it is over.
const FAILURES_MAX: u32 = 10;

const WINDOW: Duration = Duration::from_mins(1);

/// Addresses of which failures are counted at once.
const ADDRESSES_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Failures {
    /// When the first came, and how many since.
    by_address: Mutex<BTreeMap<IpAddr, (Instant, u32)>>,
}

type Counts = BTreeMap<IpAddr, (Instant, u32)>;

impl Failures {
    /// For how long nothing that comes from there is looked at.
    pub(super) fn banned(&self, from: IpAddr) -> Option<Duration> {
        self.with(|counts| banned(counts, from, Instant::now()))
    }

    pub(super) fn count(&self, from: IpAddr) {
        self.with(|counts| count(counts, from, Instant::now()));
    }

    /// It was right after all: [`Self::count`] came before it was looked at.
    pub(super) fn forgive(&self, from: IpAddr) {
        self.with(|counts| {
            if let Some((_, count)) = counts.get_mut(&from) {
                *count = count.saturating_sub(1);
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        // Each change is a single step, so a panic elsewhere leaves nothing half done.
        let mut counts = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        act(&mut counts)
    }
}

fn banned(counts: &mut Counts, from: IpAddr, now: Instant) -> Option<Duration> {
    counts.retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
    let (since, count) = counts.get(&from)?;
    (*count >= FAILURES_MAX).then(|| WINDOW.saturating_sub(now.duration_since(*since)))
}

fn count(counts: &mut Counts, from: IpAddr, now: Instant) {
    if counts.len() >= ADDRESSES_MAX && !counts.contains_key(&from) {
        let oldest = counts.iter().min_by_key(|(_, (since, _))| *since);
        if let Some(oldest) = oldest.map(|(address, _)| *address) {
            counts.remove(&oldest);
        }
    }
    let (_, count) = counts.entry(from).or_insert((now, 0));
    *count += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_wrong_tokens_waits_and_others_do_not() {
        let mut counts = Counts::default();
        let now = Instant::now();
        let address = |last| IpAddr::from([192, 0, 2, last]);
        for _ in 0..FAILURES_MAX {
            assert_eq!(banned(&mut counts, address(1), now), None);
            count(&mut counts, address(1), now);
        }
        assert_eq!(banned(&mut counts, address(1), now), Some(WINDOW));
        assert_eq!(banned(&mut counts, address(2), now), None);
        assert_eq!(banned(&mut counts, address(1), now + WINDOW), None);
    }
}
