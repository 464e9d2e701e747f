//! A standby reads again and again how far the channels are. When Postgres fails over, what was read last shows how
//! much the new primary lacks.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::shared::Node;
use crate::clock::Clock;

const MARKS_INTERVAL: Duration = Duration::from_secs(1);

/// Connections of the pool come and go.
const REHEARSE_EVERY: Duration = Duration::from_secs(30);

impl Node {
    pub(super) async fn watch_high_water_marks(&self) -> Infallible {
        let mut tick = interval(MARKS_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rehearsed = None;
        loop {
            tick.tick().await;
            let now = Clock.now().monotonic;
            let (connections, _) = self.store.pool_use();
            if rehearsed
                .is_none_or(|(at, number)| number < connections || now.since(at) >= REHEARSE_EVERY)
            {
                rehearsed = Some((now, connections));
                self.rehearse().await;
            }
            match self.store.high_water_marks().await {
                Ok(marks) => self.history().observe_at(marks, Clock.now().monotonic),
                // The wait for the lock notices it too, and reports it.
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::debug!(error, "how far channels are cannot be read");
                }
            }
        }
    }

    async fn rehearse(&self) {
        if let Err(error) = self.store.rehearse().await {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "what a takeover reads cannot be prepared");
        }
    }
}
