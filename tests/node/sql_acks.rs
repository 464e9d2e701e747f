//! Consumers that ack in transactions of their own.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::applications::Applications;
use crate::held::publish;
use crate::pair::{Group, LIMIT, Pair, wait_for_one_active};
use crate::sql::{application, refused};
use crate::support::wait::wait_until;

pub(crate) async fn is_told(connection: &mut PgConnection, call: &str) -> bool {
    let query = AssertSqlSafe(format!("SELECT stanby.{call}"));
    sqlx::query_scalar(query)
        .fetch_one(connection)
        .await
        .unwrap()
}

pub(crate) async fn wait_until_carried_out(group: &Group, unacked: i64) {
    let tables = group.tables();
    wait_until(LIMIT, async || {
        let pending = tables
            .number("SELECT count(*) FROM stanby.pending_acks")
            .await;
        let left = tables
            .number("SELECT coalesce(sum(unacked), 0)::bigint FROM stanby.position_status")
            .await;
        match (pending, left == unacked) {
            (0, true) => Ok(()),
            _ => Err(format!(
                "{pending} acks wait, and {left} messages are unacked"
            )),
        }
    })
    .await;
}

#[tokio::test]
async fn an_ack_in_a_transaction_counts_when_that_commits_and_one_of_two_is_told_so() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("billing-1").await;
    let mut taker = client.take("orders", ("", "billing"), 100).await;
    publish(&client, "orders", 5).await;
    taker.wait_for(5).await;
    let mut first = application(&group).await;
    let mut second = application(&group).await;

    // Sent, and perhaps not noted yet.
    first.execute("BEGIN").await.unwrap();
    let ack = |sequence: u64| {
        format!(
            "ack('orders', durable := 'billing', sequence := {sequence}, client_id := 'billing-1')"
        )
    };
    assert!(is_told(&mut first, &ack(1)).await);
    assert!(!is_told(&mut first, &ack(1)).await);
    first.execute("ROLLBACK").await.unwrap();
    first.execute("BEGIN").await.unwrap();
    assert!(is_told(&mut first, &ack(1)).await);
    // The second one waits for the first.
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(async move {
        let counts = is_told(&mut second, &ack(1)).await;
        (second, counts)
    });
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%stanby.ack%'";
    wait_until(LIMIT, async || match group.tables().number(blocked).await {
        0 => Err("nobody waits".to_owned()),
        _ => Ok(()),
    })
    .await;
    first.execute("COMMIT").await.unwrap();
    let (mut second, counts) = waiting.join_next().await.unwrap().unwrap();
    assert!(!counts);
    wait_until_carried_out(&group, 4).await;
    assert!(!is_told(&mut second, &ack(1)).await);

    // A client's ack came first.
    taker.ack(2).await;
    wait_until_carried_out(&group, 3).await;
    assert!(!is_told(&mut second, &ack(2)).await);
    // Without its client, as long as no other has a durable of this name.
    assert!(is_told(&mut second, "ack('orders', 3, 'billing')").await);
    wait_until_carried_out(&group, 2).await;
    let (_, metrics) = server.get("/metrics").await.unwrap();
    assert!(
        metrics.contains("stanby_sql_acked_messages_total 2"),
        "{metrics}"
    );
    assert_eq!(taker.again().len(), 0);
}

#[tokio::test]
async fn a_message_that_is_refused_in_sql_comes_again_after_its_delay() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("worker").await;
    let mut taker = client.take("orders", ("workers", ""), 100).await;
    publish(&client, "orders", 3).await;
    taker.wait_for(3).await;
    let mut application = application(&group).await;
    let group_name = "queue_group => 'workers'";
    assert!(
        is_told(
            &mut application,
            &format!("nack('orders', 2, {group_name})")
        )
        .await
    );
    let later = format!(
        "nack('orders', 3, {group_name}, delay => '1500 milliseconds', reason => 'no stock')"
    );
    let before = tokio::time::Instant::now();
    assert!(is_told(&mut application, &later).await);
    while taker.times(3) < 2 {
        taker.next(LIMIT).await;
    }
    assert!(before.elapsed() >= Duration::from_millis(1400));
    assert_eq!(
        [1, 2, 3].map(|sequence| taker.times(sequence)),
        [1, 2, 2],
        "what nobody refused does not come again"
    );
    assert!(is_told(&mut application, &format!("ack('orders', 3, {group_name})")).await);
    assert!(
        !is_told(
            &mut application,
            &format!("nack('orders', 3, {group_name})")
        )
        .await
    );
    wait_until_carried_out(&group, 2).await;
}

#[tokio::test]
async fn acks_that_stand_in_pages_are_known_and_those_in_sql_are_carried_out_before_a_redelivery() {
    let Some(Pair {
        group,
        mut active,
        standby,
    }) = Pair::new(&["--lease", "1s"]).await
    else {
        return;
    };
    let client = group.client("worker").await;
    let mut taker = client.take("orders", ("", "books"), 10_000).await;
    publish(&client, "orders", 3000).await;
    let all = taker.wait_for(3000).await;
    for &sequence in all.iter().filter(|&sequence| sequence % 2 == 0) {
        taker.ack(sequence).await;
    }
    wait_until_carried_out(&group, 1500).await;
    let pages = "SELECT count(*) FROM stanby.position_acks";
    assert_eq!(group.tables().number(pages).await, 3);
    let told =
        "SELECT count(*) FROM generate_series(1, 3000) n WHERE stanby.ack('orders', n, 'books')";
    // All of those that are not acked, and each once, while no server works.
    active.signal(nix::sys::signal::Signal::SIGSTOP);
    let mut first = application(&group).await;
    first.execute("BEGIN").await.unwrap();
    let counted: i64 = sqlx::query_scalar(told)
        .fetch_one(&mut first)
        .await
        .unwrap();
    assert_eq!(counted, 1500);
    first.execute("COMMIT").await.unwrap();
    assert_eq!(group.tables().number(told).await, 0);
    active.signal(nix::sys::signal::Signal::SIGKILL);
    active.end().await;
    standby.wait_until_active().await;
    wait_until_carried_out(&group, 0).await;
    assert_eq!(group.tables().number(told).await, 0);
    publish(&client, "orders", 1).await;
    taker.wait_for(3001).await;
    assert_eq!(taker.again().len(), 0, "nothing is delivered again");
}

#[tokio::test]
async fn what_cannot_be_acked_is_told_with_what_to_do() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let mut clients = Vec::new();
    for id in ["billing-1", "billing-2"] {
        let client = group.client(id).await;
        let taker = client.take("orders", ("", "billing"), 100).await;
        let workers = client.take("orders", ("workers", ""), 100).await;
        clients.push((client, taker, workers));
    }
    publish(&clients[0].0, "orders", 2).await;
    clients[0].1.wait_for(2).await;
    let mut application = application(&group).await;
    for (call, code, text) in [
        ("ack('order', 1, 'billing')", "STB04", "'orders'"),
        ("ack(NULL, 1, 'billing')", "STB04", ""),
        (
            "ack('orders', 1, 'biling', client_id => 'billing-1')",
            "STB04",
            "billing of client billing-1",
        ),
        ("ack('orders', 1, 'billing')", "STB04", "client_id"),
        (
            "ack('orders', 1, queue_group => 'worker')",
            "STB04",
            "'workers'",
        ),
        ("ack('orders', 1)", "STB04", "queue_group"),
        (
            "ack('orders', 3, queue_group => 'workers')",
            "STB05",
            "1 to 2",
        ),
        (
            "ack('orders', 0, queue_group => 'workers')",
            "STB05",
            "1 to 2",
        ),
        (
            "ack('orders', NULL, queue_group => 'workers')",
            "STB05",
            "1 to 2",
        ),
        (
            "nack('orders', 3, queue_group => 'workers')",
            "STB05",
            "1 to 2",
        ),
        (
            "nack('orders', 1, queue_group => 'workers', delay => '-1 s')",
            "STB03",
            "365",
        ),
    ] {
        let (found, hint) = refused(&mut application, &format!("SELECT stanby.{call}")).await;
        assert_eq!(found, code, "{call}");
        assert!(!hint.is_empty() && hint.contains(text), "{call}: {hint}");
    }
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let begin = format!("BEGIN ISOLATION LEVEL {level}");
        application.execute(AssertSqlSafe(begin)).await.unwrap();
        let call = "SELECT stanby.ack('orders', 1, queue_group => 'workers')";
        let (found, hint) = refused(&mut application, call).await;
        assert_eq!(found, "STB06");
        assert!(hint.contains("READ COMMITTED"), "{hint}");
        application.execute("ROLLBACK").await.unwrap();
    }
    let pending = "SELECT count(*) FROM stanby.pending_acks";
    assert_eq!(group.tables().number(pending).await, 0);

    let role = format!("consumer_{}", group.cluster_id);
    application
        .execute(AssertSqlSafe(format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA stanby TO {role}; SET ROLE {role}"
        )))
        .await
        .unwrap();
    let call = "SELECT stanby.ack('orders', 1, queue_group => 'workers')";
    assert_eq!(refused(&mut application, call).await.0, "42501");
    application
        .execute(AssertSqlSafe(format!(
            "RESET ROLE; SELECT stanby.grant_to_publisher('{role}'); SET ROLE {role};
             CREATE TEMPORARY TABLE pending_acks (LIKE pg_class)"
        )))
        .await
        .unwrap();
    assert!(
        is_told(
            &mut application,
            "ack('orders', 1, queue_group => 'workers')"
        )
        .await
    );
    for query in [
        "DELETE FROM stanby.pending_acks",
        "SELECT FROM stanby.positions",
        "SELECT FROM stanby.pending_ack_status",
    ] {
        assert_eq!(refused(&mut application, query).await.0, "42501", "{query}");
    }
    application
        .execute(AssertSqlSafe(format!(
            "RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}"
        )))
        .await
        .unwrap();
    application.close().await.unwrap();
}

/// The application's own table is the judge.
#[tokio::test]
async fn what_follows_from_a_message_follows_once_whichever_server_is_killed() {
    let Some(group) = Group::new(&["--lease", "1s"]).await else {
        return;
    };
    let mut servers = vec![group.server(), group.server()];
    wait_for_one_active(&servers.iter().collect::<Vec<_>>()).await;
    let applications = Applications::start(&group, 2, 3).await;
    for _ in 0..3 {
        let active = wait_for_one_active(&servers.iter().collect::<Vec<_>>()).await;
        let before = applications.effects().await;
        wait_until(LIMIT, async || match applications.effects().await {
            now if now > before + 50 => Ok(()),
            now => Err(format!("{now} effects, {before} before")),
        })
        .await;
        applications.end_sessions().await;
        servers.swap_remove(active).kill().await;
        servers.push(group.server());
    }
    let outcome = applications.finish().await;
    assert!(outcome.sent > 150, "{outcome:?}");
    assert!(
        outcome.false_acks > 0,
        "nobody was told that an ack does not count: {outcome:?}"
    );
    assert!(outcome.dead_letters > 0, "nothing was poison: {outcome:?}");
    assert!(outcome.wrong.is_empty(), "{outcome:?}");
}
