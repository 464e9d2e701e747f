//! Who gets the lock, and when: hand-over when a holder dies, freezes, stops in the middle of something, or is not
//! one of ours.

use std::time::Duration;

use futures_util::SinkExt;
use stanby::config::database::DatabaseUrl;
use stanby::core::ids::Epoch;
use stanby::core::lease::Lease;
use stanby::leadership::checks::{Durability, check};
use stanby::leadership::key::lock_key;
use stanby::leadership::{Candidate, Error, Granted, Settings};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::Client;

use super::fixture::{Fixture, PATIENCE, SCHEMA, TIMEOUT, migrated};
use super::support::wait::wait_until;

const SHORT: Duration = Duration::from_millis(500);
/// So long that nothing in a test happens because of it.
const LONG: Duration = Duration::from_mins(1);

pub(crate) fn settings(fixture: &Fixture, server_id: &str, lease: Duration) -> Settings {
    Settings {
        url: fixture.url.clone(),
        schema: SCHEMA.to_owned(),
        cluster_id: "test-cluster".to_owned(),
        group: "ft".to_owned(),
        server_id: server_id.to_owned(),
        lease: Lease::new(lease).unwrap(),
        statement_timeout: TIMEOUT,
    }
}

/// Waits for the lock and takes over.
pub(crate) async fn granted(fixture: &Fixture, server_id: &str, lease: Duration) -> Granted {
    let settings = settings(fixture, server_id, lease);
    let mut candidate = Candidate::open(&settings, &fixture.tracker).await.unwrap();
    timeout(PATIENCE, candidate.wait()).await.unwrap().unwrap();
    candidate.take_over(Epoch(0), &drop).await.unwrap()
}

/// A standby in the queue, in a task of its own.
pub(crate) fn standby(fixture: &Fixture, server_id: &str, lease: Duration) -> JoinSet<Granted> {
    let (settings, tracker) = (settings(fixture, server_id, lease), fixture.tracker.clone());
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut candidate = Candidate::open(&settings, &tracker).await.unwrap();
        candidate.wait().await.unwrap();
        candidate.take_over(Epoch(0), &drop).await.unwrap()
    });
    task
}

pub(crate) async fn joined(task: &mut JoinSet<Granted>) -> Granted {
    timeout(PATIENCE, task.join_next())
        .await
        .expect("the lock in time")
        .unwrap()
        .unwrap()
}

/// Until so many sessions wait in the queue for the lock.
pub(crate) async fn queue_of(client: &Client, expected: i64) {
    let question = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    wait_until(PATIENCE, || async {
        let waiting: i64 = client.query_one_scalar(question, &[]).await.unwrap();
        (waiting == expected)
            .then_some(())
            .ok_or(format!("{waiting} wait, not {expected}"))
    })
    .await;
}

/// Acceptance: 128.
#[tokio::test]
async fn a_standby_takes_over_when_the_holders_connection_is_gone() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let holder = granted(&fixture, "first", LONG).await;
    let mut waiting = standby(&fixture, "second", LONG);
    queue_of(&fixture.client().await, 1).await;

    drop(holder);
    let second = joined(&mut waiting).await;

    assert_eq!(second.takeover().previous.as_deref(), Some("first"));
    assert_eq!(second.term().epoch().0, 2);
}

/// Acceptance: 137.
#[tokio::test]
async fn the_lease_ends_a_holder_that_stops_renewing() {
    let Some(fixture) = migrated().await else {
        return;
    };
    // Not started: a server that froze right after it was granted the lock.
    let frozen = granted(&fixture, "frozen", SHORT).await;
    let mut waiting = standby(&fixture, "second", LONG);

    let second = joined(&mut waiting).await;

    assert_eq!(second.takeover().previous.as_deref(), Some("frozen"));
    let error = frozen.client().simple_query("SELECT 1").await.unwrap_err();
    assert!(
        error.is_closed() || error.code().is_some_and(|code| code.code() == "57P05"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_holder_that_froze_within_a_transaction_is_ended_by_its_lease() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let frozen = granted(&fixture, "frozen", SHORT).await;
    frozen
        .client()
        .batch_execute("BEGIN; SELECT 1")
        .await
        .unwrap();

    let second = joined(&mut standby(&fixture, "second", LONG)).await;

    assert_eq!(second.takeover().previous.as_deref(), Some("frozen"));
}

#[tokio::test]
async fn a_standby_ends_a_holder_of_ours_whose_timeouts_did_not_stick() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let holder = stranger(&fixture, "stanby/test-cluster/ft/stuck").await;

    let taken = joined(&mut standby(&fixture, "second", SHORT)).await;

    assert_eq!(taken.term().epoch().0, 1);
    assert!(holder.simple_query("SELECT 1").await.is_err());
}

#[tokio::test]
async fn a_standby_ends_a_holder_that_froze_in_the_middle_of_sending() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let holder = stranger(&fixture, "stanby/test-cluster/ft/stuck").await;
    holder
        .batch_execute("SET idle_session_timeout = 500")
        .await
        .unwrap();
    // The one state that no timeout of Postgres ends.
    let sink = holder
        .copy_in("COPY takeovers (epoch) FROM STDIN")
        .await
        .unwrap();
    let mut sink = std::pin::pin!(sink);
    sink.send(bytes::Bytes::from("4")).await.unwrap();

    let taken = joined(&mut standby(&fixture, "second", SHORT)).await;

    assert_eq!(taken.term().epoch().0, 1);
}

#[tokio::test]
async fn a_holder_that_is_not_ours_is_left_alone() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let holder = stranger(&fixture, "nightly backup").await;
    let mut waiting = standby(&fixture, "second", SHORT);

    // Time for a look at the holder, twice over.
    let early = timeout(SHORT * 6, waiting.join_next()).await;

    assert!(early.is_err(), "{early:?}");
    holder.simple_query("SELECT 1").await.unwrap();
    drop(holder);
    joined(&mut waiting).await;
}

/// Somebody else's session that holds the lock.
async fn stranger(fixture: &Fixture, name: &str) -> Client {
    let client = fixture.client().await;
    client
        .batch_execute(&format!("SET application_name = '{name}'"))
        .await
        .unwrap();
    client
        .execute("SELECT pg_advisory_lock($1)", &[&lock_key(SCHEMA)])
        .await
        .unwrap();
    client
}

/// Acceptance: 130.
#[tokio::test]
async fn a_standby_that_stops_waiting_leaves_the_queue() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let holder = granted(&fixture, "first", LONG).await;
    let client = fixture.client().await;
    let mut gone = standby(&fixture, "second", LONG);
    queue_of(&client, 1).await;

    gone.shutdown().await;

    // Its session waits in a slice of 5 s, but notices much earlier that nobody is there.
    queue_of(&client, 0).await;
    drop(holder);
    assert_eq!(
        granted(&fixture, "third", LONG)
            .await
            .takeover()
            .previous
            .as_deref(),
        Some("first")
    );
}

#[tokio::test]
async fn a_waiting_standby_does_not_hold_back_vacuum_and_is_not_cancelled() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let holder = granted(&fixture, "first", LONG).await;
    let client = fixture.client().await;
    client
        .batch_execute("CREATE TABLE churn AS SELECT n FROM generate_series(1, 1000) n")
        .await
        .unwrap();
    let settings = Settings {
        // Shorter than the slices: it must not apply to the wait.
        statement_timeout: Duration::from_millis(200),
        ..settings(&fixture, "second", SHORT)
    };
    let tracker = fixture.tracker.clone();
    let mut waiting = JoinSet::new();
    waiting.spawn(async move {
        let mut candidate = Candidate::open(&settings, &tracker).await.unwrap();
        candidate.wait().await.unwrap();
        candidate.take_over(Epoch(0), &drop).await.unwrap()
    });
    queue_of(&client, 1).await;

    client.batch_execute("DELETE FROM churn").await.unwrap();
    wait_until(PATIENCE, || async {
        client.batch_execute("VACUUM churn").await.unwrap();
        let pages = "SELECT pg_relation_size('churn')";
        let size: i64 = client.query_one_scalar(pages, &[]).await.unwrap();
        (size == 0)
            .then_some(())
            .ok_or(format!("{size} bytes of dead rows are left"))
    })
    .await;
    drop(holder);
    joined(&mut waiting).await;
}

#[tokio::test]
async fn a_read_only_database_is_waited_for() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    let name = &fixture.database.name;
    client
        .batch_execute(&format!(
            "ALTER DATABASE {name} SET default_transaction_read_only = on"
        ))
        .await
        .unwrap();

    let error = Candidate::open(&settings(&fixture, "one", SHORT), &fixture.tracker).await;

    let error = error.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)));
    assert!(error.to_string().contains("read-only"), "{error}");
}

#[tokio::test]
async fn a_direct_endpoint_passes_the_checks() {
    let Some(fixture) = migrated().await else {
        return;
    };

    let facts = check(&settings(&fixture, "one", SHORT), &fixture.tracker)
        .await
        .unwrap();

    // The tests' Postgres does not sync.
    assert_eq!(facts.durability, Durability::FsyncOff);
    assert!(!facts.version.is_empty());
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let unused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for (url, refused, part) in [
        (
            fixture.database.url.replace(&fixture.database.name, "nope"),
            true,
            "does not exist",
        ),
        (
            format!("postgres://u:geheim@127.0.0.1:{unused}/d"),
            false,
            "check that it runs there",
        ),
    ] {
        let url = DatabaseUrl::parse(&url).unwrap();
        let settings = Settings {
            url,
            ..settings(&fixture, "one", SHORT)
        };

        let error = Candidate::open(&settings, &fixture.tracker)
            .await
            .unwrap_err();

        let text = error.to_string();
        assert_eq!(matches!(error, Error::Refused(_)), refused, "{text}");
        assert!(text.contains(part) && !text.contains("geheim"), "{text}");
    }
}
