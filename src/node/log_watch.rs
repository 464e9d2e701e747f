//! Tells, where it can still be read, that log lines are being dropped.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::status_publisher::StatusPublisher;
use crate::clock::Clock;
use crate::core::time::Instant;
use crate::log_queue;
use crate::monitoring::condition::Condition;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Without another dropped line for so long, it has passed.
const PASSED_AFTER: Duration = Duration::from_secs(10);

/// Until the node stops.
pub(super) async fn watch(status: StatusPublisher, shutdown: CancellationToken) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Lines of the process, of which an embedded server may be the second.
    let mut known = log_queue::dropped();
    let mut last: Option<Instant> = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let now = Clock.now().monotonic;
        let dropped = log_queue::dropped();
        if dropped > known {
            known = dropped;
            last = Some(now);
            status.log_dropped(dropped);
            status.raise(
                Condition::LogBlocked,
                "log lines are dropped (stanby_log_dropped_total counts them): their destination is full, \
                 or nothing reads it; check the reader of standard error, or the disk, FIFO or syslog that --log or --syslog names",
            );
        } else if last.is_some_and(|last| now.since(last) >= PASSED_AFTER) {
            last = None;
            status.clear(Condition::LogBlocked);
        }
    }
}
