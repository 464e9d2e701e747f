//! Looks after the active's tables: vacuums what its limits drop (where the role may not, or it fails, autovacuum has to
//! do), and reports what keeps Postgres from cleaning up and of tables that a crash would empty.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::log_throttle::LogThrottle;
use super::status_publisher::StatusPublisher;
use crate::clock::Clock;
use crate::core::vacuum::{Advice, Dead};
use crate::monitoring::condition::Condition;
use crate::store::{Error, Oldest, Store, Unlogged};

const LOOK_EVERY: Duration = Duration::from_secs(5);

/// An older snapshot is reported when rows have gathered behind it, and after half an hour in any case.
const OLD_SECONDS: u64 = 60;
const VERY_OLD_SECONDS: u64 = 1800;
const DEAD_ROWS: u64 = 10_000;

pub(super) async fn vacuum(store: Store, status: StatusPublisher) -> Infallible {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut throttle = LogThrottle::default();
    let mut is_refusal_told = false;
    loop {
        tick.tick().await;
        // Reads are reported elsewhere.
        if let Ok(oldest) = store.oldest().await {
            tell_oldest(&status, &oldest.unwrap_or_default());
        }
        if let Ok(unlogged) = store.unlogged().await {
            tell_unlogged(&status, unlogged);
        }
        // Where it may not, or fails, autovacuum does within two minutes.
        if let Err(error) = store.vacuum_channel_updates().await {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "channel_updates is not vacuumed");
        }
        match vacuum_once(&store).await {
            Ok(Some(Refused { dead, live })) if !is_refusal_told => {
                is_refusal_told = true;
                tracing::warn!(
                    dead,
                    live,
                    "limits drop messages faster than autovacuum looks for them, and this role may not vacuum: GRANT \
                     MAINTAIN ON ALL TABLES IN SCHEMA to it (Postgres 17 or newer), or set autovacuum_naptime = 10s \
                     on the Postgres server"
                );
            }
            Ok(None | Some(_)) => {}
            Err(error) => {
                if throttle.should_log(&error.to_string(), Clock.now().monotonic) {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(
                        error,
                        "dropped messages cannot be vacuumed; autovacuum has to do"
                    );
                }
            }
        }
    }
}

fn tell_oldest(status: &StatusPublisher, oldest: &Oldest) {
    status.oldest_snapshot(oldest.seconds);
    match cost(oldest) {
        Some(sentence) => status.raise(Condition::OldSnapshot, sentence),
        None => status.clear(Condition::OldSnapshot),
    }
}

fn tell_unlogged(status: &StatusPublisher, unlogged: Option<Unlogged>) {
    match unlogged {
        Some(Unlogged { what, remedy }) => {
            status.raise(Condition::UnloggedTables, format!("{what}: {remedy}"));
        }
        None => status.clear(Condition::UnloggedTables),
    }
}

/// What the oldest snapshot costs, with the remedy; `None` where it is nothing.
pub(super) fn cost(oldest: &Oldest) -> Option<String> {
    let Oldest { who, seconds, dead } = oldest;
    let (seconds, dead) = (*seconds, *dead);
    // Slots and replicas do not tell since when.
    let costs = dead >= DEAD_ROWS && (seconds >= OLD_SECONDS || seconds == 0);
    (!who.is_empty() && (costs || seconds >= VERY_OLD_SECONDS)).then(|| {
        let since = match seconds {
            0 => String::new(),
            seconds => format!(" for {} minutes", seconds / 60),
        };
        format!(
            "{who} keeps Postgres from cleaning up{since}, and commits slow down ({dead} dead rows): end it, \
             or let it read from a replica without hot_standby_feedback"
        )
    })
}

/// Many rows are dead, and the role may not vacuum.
struct Refused {
    dead: u64,
    live: u64,
}

async fn vacuum_once(store: &Store) -> Result<Option<Refused>, Error> {
    let found = store.dead().await?;
    let Dead { dead, live, .. } = found;
    match found.advice() {
        Advice::Leave => return Ok(None),
        Advice::TellOperator => return Ok(Some(Refused { dead, live })),
        Advice::Vacuum => {}
    }
    let began = Clock.now().monotonic;
    store.vacuum().await?;
    let took_ms = Clock.now().monotonic.since(began).as_millis();
    tracing::debug!(dead, live, took_ms, "messages were vacuumed");
    Ok(None)
}
