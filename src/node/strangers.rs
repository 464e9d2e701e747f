//! A standby looks again and again at who holds the lock: any role that may connect can take it, and keep every server from
//! becoming active.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::shared::Node;
use crate::monitoring::condition::Condition;

const STRANGERS_INTERVAL: Duration = Duration::from_secs(2);

impl Node {
    pub(super) async fn watch_for_strangers(&self) -> Infallible {
        let mut tick = interval(STRANGERS_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match self.store.stranger().await {
                Ok(Some(stranger)) => {
                    let reason = stranger.to_string();
                    self.status.raise(Condition::LockHeldByStranger, reason);
                }
                Ok(None) => self.status.clear(Condition::LockHeldByStranger),
                // That the database is away is noticed by the wait for the lock.
                Err(_) => {}
            }
        }
    }
}
