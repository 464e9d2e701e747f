//! Postgres' wall clock is set while servers run: nobody's time counts by it.

use nix::sys::signal::Signal;

use crate::pair::{Group, LIMIT, Pair};
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};
use crate::takeover::Work;

const HOUR: i64 = 3600;

/// Holders of the lock whose last renewal was by a clock that is ahead.
const RENEWED_AHEAD: &str =
    "SELECT count(*) FROM pg_locks k JOIN pg_stat_activity a ON a.pid = k.pid
    WHERE k.locktype = 'advisory' AND k.objsubid = 1 AND k.granted
        AND a.query_start - a.backend_start > interval '30 min'";

/// By that clock Postgres counts the timeouts that it ends silent sessions with.
#[tokio::test]
async fn an_active_that_freezes_while_postgres_clock_goes_back_is_taken_over() {
    let Some((postgres, clock)) = postgres::own_server_with_clock().await else {
        return;
    };
    let Some(nats_url) = nats::url().await else {
        return;
    };
    let mut group = Group::over(postgres.url(), nats_url, &["--lease", "1s"]);
    group.cluster_id = "clock-goes-back".to_owned();
    let pair = Pair::of(group).await;

    // What waits sees the time as it is: the step back is from an hour ahead.
    clock.jump(HOUR);
    let tables = pair.group.tables();
    wait_until(LIMIT, async || match tables.number(RENEWED_AHEAD).await {
        1 => Ok(()),
        count => Err(format!("{count} holders have renewed since")),
    })
    .await;
    pair.active.signal(Signal::SIGSTOP);
    clock.jump(0);

    assert_eq!(pair.standby.wait_until_active().await, 2);
    assert!(
        pair.standby
            .log()
            .contains("silent for more than two leases"),
        "{}",
        pair.standby.log()
    );
}

#[tokio::test]
async fn a_clock_of_postgres_that_jumps_makes_no_standby_end_a_healthy_active() {
    let Some((postgres, clock)) = postgres::own_server_with_clock().await else {
        return;
    };
    let Some(nats_url) = nats::url().await else {
        return;
    };
    let mut group = Group::over(postgres.url(), nats_url, &["--lease", "1s"]);
    group.cluster_id = "clock-jumps".to_owned();
    let pair = Pair::of(group).await;
    let work = Work::start(&pair.group).await;
    work.progress_with_standbys(&[&pair.standby]).await;

    // Never behind the real time: the library that sets the clock tells that one to a signal handler that interrupts it, and
    // timers of Postgres that are checked there would be an hour over.
    for seconds in [3 * HOUR, 2 * HOUR, HOUR, 12 * HOUR] {
        clock.jump(seconds);
        work.progress(2000).await;
    }

    for server in [&pair.active, &pair.standby] {
        assert!(
            !server.log().contains("silent for more than"),
            "{}",
            server.log()
        );
    }
    work.finish(&pair.group).await;
}
