//! Which messages of a channel are so young that a standby may have kept their publish. When a limit drops one of
//! them, its GUID is kept: a takeover would otherwise take the publish for new and store it again.
//!
//! Told by two marks instead of a time per message: what was published since the older mark is young, and some of
//! what was published before the younger one is not. No wall clock is asked: one that jumps makes messages old.

use std::time::Duration;

use super::ids::Sequence;
use super::time::Instant;

/// The most messages of a channel whose GUIDs are kept.
const KEPT_MAX: u64 = 100_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct GuidWindow {
    /// Everything up to here was published before the window.
    older: Sequence,
    younger: Sequence,
    /// When `younger` was the last message.
    marked_at: Instant,
}

impl GuidWindow {
    /// For a restored channel: any of its messages may have been stored a moment ago, and the clock of another node does
    /// not say which.
    pub(super) fn new(last: Sequence, now: Instant) -> Self {
        Self {
            older: Sequence::ZERO,
            younger: last,
            marked_at: now,
        }
    }

    /// To be called before each publish, and before `settled`; `last` is the channel's last message.
    pub(super) fn advance(&mut self, last: Sequence, now: Instant, window: Duration) {
        if now.since(self.marked_at) >= window {
            self.older = self.younger;
            self.younger = last;
            self.marked_at = now;
        }
    }

    /// The last message that is certain not to be young, in a channel with this last message and publish.
    pub(super) fn settled(
        &mut self,
        last: Sequence,
        published: Instant,
        now: Instant,
        window: Duration,
    ) -> Sequence {
        self.advance(last, now, window);
        if now.since(published) >= window {
            self.older = last;
        }
        self.older.max(bound(last))
    }
}

/// GUIDs are not kept up to here, however young the messages are.
pub(super) fn bound(last: Sequence) -> Sequence {
    Sequence(last.0.saturating_sub(KEPT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_message_stays_young_for_one_window_at_least_and_two_at_most() {
        let mut window = GuidWindow::new(Sequence(5), at(0));
        let mut last = 5;
        for second in 1..100 {
            // One message per second.
            window.advance(Sequence(last), at(second), WINDOW);
            last += 1;
            let settled = window.settled(Sequence(last), at(second), at(second), WINDOW);
            let youngest_old = second.saturating_sub(10) + 5;
            // What was there at the start is young for a window, too.
            let found = if second < 10 { 0 } else { 5 };
            let oldest_young = second.saturating_sub(21) + found;
            assert!(settled.0 <= youngest_old, "{second}: {settled}");
            assert!(settled.0 >= oldest_young, "{second}: {settled}");
        }
    }

    #[test]
    fn a_channel_that_was_quiet_has_no_young_messages() {
        let mut window = GuidWindow::new(Sequence(7), at(0));

        let mut settled = |seconds| window.settled(Sequence(7), at(0), at(seconds), WINDOW);
        assert_eq!(settled(9), Sequence(0));
        assert_eq!(settled(10), Sequence(7));
    }

    #[test]
    fn the_number_of_young_messages_is_bounded() {
        let mut window = GuidWindow::new(Sequence(0), at(0));
        let last = Sequence(KEPT_MAX + 7);

        assert_eq!(window.settled(last, at(1), at(1), WINDOW), Sequence(7));
    }
}
