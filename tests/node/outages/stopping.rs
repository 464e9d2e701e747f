//! A statement of Postgres that hangs does not keep a server from stopping.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;

use super::{CHANNEL, LEASE, assert_acked_is_stored, backend_of_active};
use crate::pair::{Group, LIMIT, Pair};
use crate::support::wait::wait_until;

/// What service managers are told to give a server before they kill it (the files under deploy/), less some for a busy
/// machine.
const STOP_BUDGET: Duration = Duration::from_secs(12);

#[tokio::test]
async fn a_commit_that_hangs_does_not_keep_a_server_from_stopping() {
    // Told to stop while it still believes in its lock, and once it does not any more.
    for believes in [true, false] {
        let Some(mut pair) = Pair::new(&["--lease", "1s", "--shadow-age", "1m"]).await else {
            return;
        };
        let client = pair.group.client("steady").await;
        let mut publisher = client.publisher(CHANNEL).await;
        publisher.send_until_acked(LIMIT).await;
        let backend = backend_of_active(&pair.group).await;
        kill(backend, Signal::SIGSTOP).unwrap();
        publisher.send().await;
        wait_until(LIMIT, async || {
            match pair.active.get("/healthz/active").await {
                Ok((200, _)) if believes => Ok(()),
                Ok((503, _)) if !believes => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;

        let since = Instant::now();
        pair.active.signal(Signal::SIGTERM);
        let status = pair.active.end().await;

        let took = since.elapsed();
        kill(backend, Signal::SIGCONT).unwrap();
        assert!(took < STOP_BUDGET, "{took:?}: {}", pair.active.log());
        assert_eq!(status.code(), Some(143));
        publisher.take_all_acks().await;
        assert_acked_is_stored(&pair.group, &publisher).await;
    }
}

#[tokio::test]
async fn a_takeover_that_hangs_does_not_keep_a_server_from_stopping() {
    let Some(group) = Group::new(&LEASE).await else {
        return;
    };
    let first = group.server();
    first.wait_until_active().await;
    let mut second = group.server();
    group.wait_for_standbys(1).await;
    let mut blocker = PgConnection::connect(&group.database_url).await.unwrap();
    let mut transaction = blocker.begin().await.unwrap();
    // Every takeover reads it.
    sqlx::query("LOCK TABLE stanby.clients IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await
        .unwrap();
    first.kill().await;
    wait_until(LIMIT, async || match second.get("/readyz").await? {
        (503, page) if page.contains("takeover-blocked") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;

    let since = Instant::now();
    second.signal(Signal::SIGTERM);
    let status = second.end().await;

    let took = since.elapsed();
    assert!(took < STOP_BUDGET / 2, "{took:?}: {}", second.log());
    assert_eq!(status.code(), Some(143));
    transaction.rollback().await.unwrap();
}
