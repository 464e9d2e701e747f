//! A Postgres whose commits wait for a replica. (What its failover brings is one of the chaos tests' faults.)
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::time::Duration;

use tokio::time::timeout;

use crate::pair::{Group, LIMIT};
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

/// Sessions whose commit waits for a replica.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

/// Postgres answers such a commit as if it had waited.
#[tokio::test]
async fn a_commit_whose_wait_for_a_replica_is_cancelled_is_not_acked_before_the_replica_has_it() {
    is_not_acked("waits-for-a-replica", "SELECT", "SELECT").await;
}

/// It tells of that by a warning.
#[tokio::test]
async fn no_setting_about_messages_lets_a_commit_be_acked_whose_wait_for_a_replica_is_cancelled() {
    let set = "ALTER ROLE postgres SET client_min_messages = 'error';
        ALTER ROLE postgres SET synchronous_commit = 'local'";
    let meanwhile = "ALTER SYSTEM SET client_min_messages = 'error'";
    is_not_acked("waits-in-silence", set, meanwhile).await;
}

/// `before` the server starts, and while it serves. Both tests speak on one NATS server.
async fn is_not_acked(cluster_id: &str, before: &'static str, meanwhile: &'static str) {
    let Some(postgres) = postgres::own_server().await else {
        return;
    };
    let Some(nats_url) = nats::url().await else {
        return;
    };
    // What is published is still known when the replica is given up.
    let flags = ["--lease", "1s", "--shadow-age", "1m"];
    let mut group = Group::over(postgres.url(), nats_url, &flags);
    group.cluster_id = cluster_id.to_owned();
    group.tables().execute(before).await;
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("steady").await;
    let mut publisher = client.publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;
    let tables = group.tables();

    tables.execute(meanwhile).await;
    // Nobody has that name, so nobody answers for it.
    tables
        .execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        .await;
    tables.execute("SELECT pg_reload_conf()").await;
    let waits = async {
        // Until the setting has reached every process, commits do not wait.
        while tables.number(WAITING).await == 0 {
            publisher.send().await;
            publisher.take_ack(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, waits).await.expect("commits wait");
    publisher.take_acks().await;
    let acked = publisher.published().acked.len();
    let stopped =
        "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    assert_eq!(tables.number(stopped).await, 1);

    wait_until(LIMIT, async || {
        let log = server.log();
        let has_ended = log.contains("a commit was cancelled at");
        if has_ended { Ok(()) } else { Err(log) }
    })
    .await;
    // The next term waits with its first commit.
    wait_until(LIMIT, async || match tables.number(WAITING).await {
        1 => Ok(()),
        count => Err(format!("{count} wait")),
    })
    .await;
    publisher.take_acks().await;
    assert_eq!(publisher.published().acked.len(), acked);

    tables
        .execute("ALTER SYSTEM RESET synchronous_standby_names")
        .await;
    tables.execute("SELECT pg_reload_conf()").await;
    timeout(LIMIT, publisher.take_all_acks()).await.unwrap();
    let published = publisher.published();
    assert_eq!(published.acked.len(), published.sent.len());
    let rows = tables.messages("orders").await;
    assert_eq!(rows.len(), published.sent.len(), "each is stored once");
}
