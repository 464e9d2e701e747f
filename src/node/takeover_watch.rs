//! Whether this server could take over if it had to: rights that somebody took away since it started, and locks that keep every
//! server from becoming active, would be noticed by clients first.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::status_publisher::StatusPublisher;
use crate::monitoring::condition::Condition;
use crate::store::{Error, MissingRight, Store};

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Until the node stops.
pub(super) async fn watch(
    store: Store,
    user: String,
    status: StatusPublisher,
    shutdown: CancellationToken,
) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut blocked_looks = 0_u32;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let (lacking, holder) = tokio::select! {
            () = shutdown.cancelled() => return,
            found = async { (store.lacking().await, store.takeover_holder().await) } => found,
        };
        match lacking {
            Ok(missing) if missing.is_empty() => status.clear(Condition::RightsMissing),
            Ok(missing) => status.raise(Condition::RightsMissing, lacks(&user, &missing)),
            Err(Error::Refused(why)) => status.raise(
                Condition::RightsMissing,
                format!("role {user} may not even look what it may do: {why}"),
            ),
            // That the database is away is noticed by who uses it.
            Err(_) => {}
        }
        match holder {
            Ok(None) => {
                blocked_looks = 0;
                status.clear(Condition::TakeoverBlocked);
            }
            // Many a statement of an administrator takes a moment.
            Ok(Some(_)) if blocked_looks == 0 => blocked_looks = 1,
            Ok(Some(holder)) => {
                status.raise(Condition::TakeoverBlocked, holder.keeps_takeovers_out());
            }
            Err(_) => {}
        }
    }
}

fn lacks(user: &str, missing: &[MissingRight]) -> String {
    let what: Vec<&str> = missing.iter().map(|lack| lack.what.as_str()).collect();
    let remedies: Vec<&str> = missing.iter().map(|lack| lack.remedy.as_str()).collect();
    format!(
        "role {user} {}, and cannot take over or serve without that: {}",
        what.join(", "),
        remedies.join("; ")
    )
}
