//! Whether this server could log in to its database again. Its sessions last for weeks, and would hide until they end that
//! its password was replaced.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::status_publisher::StatusPublisher;
use crate::config::DatabaseUrl;
use crate::config::database::DatabaseErrorKind;
use crate::monitoring::condition::Condition;
use crate::postgres::find;

const EVERY: Duration = Duration::from_secs(10);

/// More often while it is refused: who mends it wants to see that.
const EVERY_WHILE_REFUSED: Duration = Duration::from_secs(1);

/// So many times in a row that no more connections are taken is no chance.
const TURNED_AWAY_MAX: u32 = 3;

/// Until the node stops.
pub(super) async fn watch(url: DatabaseUrl, status: StatusPublisher, shutdown: CancellationToken) {
    let mut pause = Duration::ZERO;
    let mut turned_away = 0_u32;
    let adjust = |config: &mut tokio_postgres::Config| {
        config.application_name("stanby/login");
    };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(pause) => {}
        }
        let login = tokio::select! {
            () = shutdown.cancelled() => return,
            login = find::connect(&url, &adjust) => login.map(drop),
        };
        match login {
            Ok(()) => {
                status.clear(Condition::LoginRefused);
                pause = EVERY;
                turned_away = 0;
            }
            // What is not known to pass is for somebody to look at, too.
            Err(error) if error.kind != DatabaseErrorKind::Unavailable => {
                status.raise(Condition::LoginRefused, error.text);
                pause = EVERY_WHILE_REFUSED;
            }
            // For a moment, anybody may meet that.
            Err(error) if error.is_for_want_of_room() => {
                pause = EVERY_WHILE_REFUSED;
                turned_away += 1;
                if turned_away >= TURNED_AWAY_MAX {
                    status.raise(Condition::LoginRefused, error.text);
                }
            }
            // That the database is away is noticed by who uses it.
            Err(_) => pause = pause.max(EVERY_WHILE_REFUSED),
        }
    }
}
