//! A line that shows how far a run is, for people who look at a terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::load::{Driver, Shared, Worker};

const STEP: Duration = Duration::from_millis(1000 / STEPS_PER_SECOND);
const STEPS_PER_SECOND: u64 = 4;
const BAR: usize = 30;

pub(super) struct Progress {
    shared: Arc<Shared>,
    publishes: u64,
    ticks: Interval,
    before: u64,
    shown: bool,
}

impl Progress {
    pub(super) fn new(drivers: &[Driver], shared: &Arc<Shared>) -> Self {
        let workers = drivers.iter().flat_map(|one| &one.workers);
        let publishes = workers.map(|worker| match worker {
            Worker::Publisher(publisher) => publisher.to_send(),
            Worker::Subscriber(_) => 0,
        });
        let mut ticks = interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self {
            shared: Arc::clone(shared),
            publishes: publishes.sum(),
            ticks,
            before: 0,
            shown: io::stderr().is_terminal(),
        }
    }

    /// Draws the line again, a few times in a second.
    pub(super) async fn tick(&mut self) {
        self.ticks.tick().await;
        if !self.shown {
            return;
        }
        let acked = self.shared.acked.load(Relaxed);
        let delivered = self.shared.delivered.load(Relaxed);
        let all = acked + delivered;
        let per_second = (all - self.before.min(all)) * STEPS_PER_SECOND;
        self.before = all;
        let bar = bar(acked, self.publishes);
        let text = format!("\r{bar} {acked} acked, {delivered} delivered, {per_second}/s\x1b[K");
        io::stderr().lock().write_all(text.as_bytes()).ok();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            io::stderr().lock().write_all(b"\r\x1b[K").ok();
        }
    }
}

fn bar(done: u64, all: u64) -> String {
    let full = (done.min(all) * BAR as u64).checked_div(all).unwrap_or(0);
    let full = usize::try_from(full).unwrap_or(BAR);
    format!("[{}{}]", "#".repeat(full), ".".repeat(BAR - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_at_the_end_and_never_longer() {
        assert_eq!(bar(0, 0), format!("[{}]", ".".repeat(BAR)));
        assert_eq!(bar(9, 3), format!("[{}]", "#".repeat(BAR)));
        assert_eq!(bar(1, 2).matches('#').count(), BAR / 2);
    }
}
