//! A client may have a hundred thousand subscriptions, and ends them all with one request, or by falling silent. The
//! client is gone at once; its subscriptions are closed in steps, so that neither a turn nor a batch grows with them. Until
//! then they are orphans: they are there for nobody, and whoever asks for the same durable gets it.

use super::broker::Broker;
use super::deadlines::Timer;
use super::ids::{PositionId, SubscriptionId};

/// Subscriptions that are closed in one go.
const AT_ONCE: usize = 256;

/// A batch that writes so many subscriptions waits for no more of them.
const ROWS_PER_BATCH: usize = 2048;

impl Broker {
    /// Closes what a client that has gone had: some now, the rest soon.
    pub(super) fn close_all(
        &mut self,
        subscriptions: impl IntoIterator<Item = (PositionId, SubscriptionId)>,
    ) {
        let mut subscriptions = subscriptions.into_iter();
        let room = ROWS_PER_BATCH.saturating_sub(self.commits.subscriptions());
        for (position, id) in subscriptions.by_ref().take(room.min(AT_ONCE)) {
            self.close_subscription(position, id);
        }
        self.orphans.extend(subscriptions);
        self.go_on_closing_orphans();
    }

    pub(super) fn close_orphans(&mut self) {
        for _ in 0..AT_ONCE {
            if self.commits.subscriptions() >= ROWS_PER_BATCH {
                return; // The commit of this batch calls again.
            }
            let Some((position, id)) = self.orphans.pop_first() else {
                return;
            };
            self.close_subscription(position, id);
        }
        self.go_on_closing_orphans();
    }

    pub(super) fn go_on_closing_orphans(&mut self) {
        if !self.orphans.is_empty() {
            self.deadlines.set_by(Timer::Orphans, self.now.monotonic);
        }
    }
}
