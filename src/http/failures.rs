//! Who guesses has to wait: wrong tokens and passwords are counted by the address that they come from, or its network.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
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
        self.with(|counts| banned(counts, network(from), Instant::now()))
    }

    pub(super) fn count(&self, from: IpAddr) {
        self.with(|counts| count(counts, network(from), Instant::now()));
    }

    /// It was right after all: [`Self::count`] came before it was looked at.
    pub(super) fn forgive(&self, from: IpAddr) {
        self.with(|counts| {
            if let Some((_, count)) = counts.get_mut(&network(from)) {
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

/// Whoever has an IPv6 address has all of its network, which is 64 bits long at least.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
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

    #[tokio::test]
    async fn another_address_of_the_same_ipv6_network_is_no_new_guesser() {
        let failures = Failures::default();
        for last in 0..FAILURES_MAX {
            failures.count(format!("2001:db8:0:1::{last:x}").parse().unwrap());
        }
        let banned = |from: &str| failures.banned(from.parse().unwrap()).is_some();
        assert!(banned("2001:db8:0:1:ffff::1"));
        assert!(!banned("2001:db8:0:2::1") && !banned("192.0.2.1"));
        for _ in 0..FAILURES_MAX {
            failures.count("::ffff:192.0.2.1".parse().unwrap());
        }
        assert!(banned("192.0.2.1") && !banned("192.0.2.2"));
    }
}
