//! Vacuums for the active what its limits drop. Where the role may not, or it fails, autovacuum has to do.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::clock::Clock;
use crate::core::vacuum::Dead;
use crate::store::{Error, Store};

const LOOK_EVERY: Duration = Duration::from_secs(5);

pub(super) async fn sweep(store: Store) -> Infallible {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = sweep_once(&store).await {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "messages cannot be vacuumed");
        }
    }
}

async fn sweep_once(store: &Store) -> Result<(), Error> {
    let Some(found) = store
        .dead()
        .await?
        .filter(|found| found.is_worth_a_vacuum())
    else {
        return Ok(());
    };
    let Dead { dead, live } = found;
    let began = Clock.now().monotonic;
    store.vacuum().await?;
    let took_ms = Clock.now().monotonic.since(began).as_millis();
    tracing::debug!(dead, live, took_ms, "messages were vacuumed");
    Ok(())
}
