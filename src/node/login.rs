//! Whether this server could log in to its database again. Its sessions last for weeks, and would hide until they end that
//! its password was replaced.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::board::Board;
use crate::config::DatabaseUrl;
use crate::config::database::TroubleKind;
use crate::monitoring::condition::Condition;
use crate::postgres::find;

const EVERY: Duration = Duration::from_secs(10);

/// Until the node stops.
pub(super) async fn watch(url: DatabaseUrl, board: Board, shutdown: CancellationToken) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let adjust = |config: &mut tokio_postgres::Config| {
        config.application_name("stanby/login");
    };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let login = tokio::select! {
            () = shutdown.cancelled() => return,
            login = find::connect(&url, &adjust) => login.map(drop),
        };
        match login {
            Ok(()) => board.clear(Condition::LoginRefused),
            Err(trouble) if trouble.kind == TroubleKind::Refused => {
                board.raise(Condition::LoginRefused, trouble.text);
            }
            // That the database is away is noticed by who uses it.
            Err(_) => {}
        }
    }
}
