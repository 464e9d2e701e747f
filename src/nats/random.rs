//! Chance: inboxes that nobody can guess, and pauses that do not fall together.

use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};

#[derive(Debug)]
pub(super) struct Random(SystemRandom);

impl Random {
    pub(super) fn new() -> Self {
        Self(SystemRandom::new())
    }

    /// `None` when the system gives no random bytes, which no system does that has started.
    pub(super) fn bytes<const N: usize>(&self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Evenly enough below `limit`; 0 without random bytes.
    pub(super) fn below(&self, limit: usize) -> usize {
        let number = usize::from_ne_bytes(self.bytes().unwrap_or_default());
        number.checked_rem(limit).unwrap_or(0)
    }

    /// From half of `longest` to all of it.
    pub(super) fn pause(&self, longest: Duration) -> Duration {
        let steps = u32::try_from(self.below(1001)).unwrap_or(0);
        longest / 2 + longest / 2 * steps / 1000
    }
}
