//! A standby looks again and again how far the channels are. When Postgres fails over, what was seen last tells how
//! much the new primary lacks.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::clock::Clock;
use super::shared::Node;

const MARKS_INTERVAL: Duration = Duration::from_secs(1);

impl Node {
    pub(super) async fn watch_marks(&self) -> Infallible {
        let mut tick = interval(MARKS_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match self.store.marks().await {
                Ok(marks) => self.memory().looked(marks, Clock.now().monotonic),
                // The wait for the lock notices it too, and tells.
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::debug!(error, "how far channels are cannot be read");
                }
            }
        }
    }
}
