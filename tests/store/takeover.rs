//! Terms: epochs, commits, renewals, and how they end.

use std::time::Duration;

use stanby::clock::Clock;
use stanby::core::batch::{Batch, ChannelRow, Counters};
use stanby::core::ids::{ChannelId, ChannelName, Epoch, Sequence};
use stanby::core::time::Timestamp;
use stanby::leadership::takeover::Reason;
use stanby::leadership::{Apply, Candidate, Error, Granted, Leader, Record};
use stanby::store::{self, ServerInfo, Writer};
use tokio::time::timeout;
use tokio_postgres::Client;

use super::fixture::{Fixture, PATIENCE, migrated, server_info};
use super::leadership::{granted, joined, queue_of, settings, standby};
use super::support::wait::wait_until;

const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_mins(1);

struct StoreApply(Writer);

impl Apply for StoreApply {
    type Batch = Batch;
    type Error = store::Error;

    async fn apply(
        &mut self,
        client: &Client,
        batch: &Batch,
        epoch: Epoch,
    ) -> Result<(), store::Error> {
        self.0.apply(client, batch, epoch).await
    }
}

/// With a mistake of ours in it.
struct Panics;

impl Apply for Panics {
    type Batch = Batch;
    type Error = store::Error;

    async fn apply(&mut self, _: &Client, _: &Batch, _: Epoch) -> Result<(), store::Error> {
        panic!("on purpose")
    }
}

#[tokio::test]
async fn a_panic_while_a_batch_is_written_ends_the_term() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let mut leader = granted(&fixture, "first", SHORT).await.start(Panics);
    leader.submit(channel(1)).unwrap();

    let ended = timeout(PATIENCE, leader.committed()).await;

    let reason = ended.expect("the term ends").unwrap_err().to_string();
    assert!(reason.contains("panicked"), "{reason}");
    assert!(!leader.term().is_trusted(Clock.now().monotonic));
}

async fn start(fixture: &Fixture, granted: Granted) -> Leader<Batch> {
    let client = granted.client();
    ServerInfo::read_or_create(client, &fixture.url, &server_info("test-cluster"))
        .await
        .unwrap();
    let writer = Writer::prepare(client, &fixture.url).await.unwrap();
    granted.start(StoreApply(writer))
}

async fn leader(fixture: &Fixture, server_id: &str, lease: Duration) -> Leader<Batch> {
    start(fixture, granted(fixture, server_id, lease).await).await
}

fn channel(id: u64) -> Batch {
    let row = ChannelRow {
        name: ChannelName::parse(format!("channel-{id}").into()).unwrap(),
        created_at: Timestamp(1),
        deleting: false,
        first_sequence: Sequence(1),
        last_sequence: Sequence(0),
        last_published_at: Timestamp(0),
        message_count: 0,
        byte_count: 0,
    };
    Batch {
        counters: Some(Counters {
            channel: id,
            subscription: 0,
        }),
        channels: [(ChannelId(id), Some(row))].into(),
        ..Batch::default()
    }
}

#[tokio::test]
async fn epochs_only_grow_and_the_history_says_why() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let first = leader(&fixture, "first", LONG).await;
    assert_eq!(first.takeover().reason, Reason::FirstStart);
    assert_eq!(first.term().epoch(), Epoch(1));
    let loaded = Record {
        load_time: Some(Duration::from_millis(7)),
        ..Record::default()
    };
    let committed = Record {
        first_ack: Some(Duration::from_millis(9)),
        silence: Some(Duration::from_millis(11)),
        answered_from_memory: Some(3),
        ..Record::default()
    };
    first.record(loaded).unwrap();
    first.record(committed).unwrap();
    first.release().await;

    let second = leader(&fixture, "second", LONG).await;
    assert_eq!(second.takeover().reason, Reason::Released);
    drop(second);

    let third = leader(&fixture, "third", LONG).await;
    assert_eq!(third.takeover().reason, Reason::Lost);
    assert_eq!(third.takeover().previous.as_deref(), Some("second"));
    assert_eq!(third.term().epoch(), Epoch(3));

    let client = fixture.client().await;
    let rows = client
        .query(
            "SELECT epoch, from_holder, to_holder, reason,
                extract(epoch FROM load_time)::float8, extract(epoch FROM first_ack)::float8
             FROM takeovers ORDER BY epoch",
            &[],
        )
        .await
        .unwrap();
    let history: Vec<(i64, Option<&str>, &str, &str)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect();
    assert_eq!(
        history,
        [
            (1, None, "first", "first start"),
            (
                2,
                Some("first"),
                "second",
                "released by the previous active"
            ),
            (
                3,
                Some("second"),
                "third",
                "session of the previous active ended"
            ),
        ]
    );
    assert_eq!(rows[0].get::<_, Option<f64>>(4), Some(0.007));
    assert_eq!(rows[0].get::<_, Option<f64>>(5), Some(0.009));
}

#[tokio::test]
async fn a_batch_is_reported_when_it_is_in_the_tables() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let mut leader = leader(&fixture, "first", LONG).await;

    for id in 1..=3 {
        leader.submit(channel(id)).unwrap();
        let committed = timeout(PATIENCE, leader.committed())
            .await
            .unwrap()
            .unwrap();

        assert_eq!(committed.batch, channel(id));
        let snapshot = fixture.store.snapshot().await.unwrap();
        assert_eq!(snapshot.channels.len(), usize::try_from(id).unwrap());
    }
    assert!(leader.term().is_trusted(Clock.now().monotonic));
}

#[tokio::test]
async fn an_idle_active_renews_and_stays_active_for_many_leases() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let leader = leader(&fixture, "first", SHORT).await;
    let term = leader.term().clone();
    let start = term.trusted_until();

    wait_until(PATIENCE, || {
        let until = term.trusted_until();
        async move {
            let gained = until.since(start);
            (gained > SHORT * 5)
                .then_some(())
                .ok_or(format!("trust grew by {gained:?}"))
        }
    })
    .await;

    assert!(term.is_trusted(Clock.now().monotonic));
}

#[tokio::test]
async fn a_batch_that_fails_ends_the_term_and_frees_the_lock() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let mut first = leader(&fixture, "first", LONG).await;
    let term = first.term().clone();
    first.submit(channel(1)).unwrap();
    first.committed().await.unwrap();
    let mut waiting = standby(&fixture, "second", LONG);
    queue_of(&fixture.client().await, 1).await;

    // Another channel with the same name.
    let mut clash = channel(2);
    let name = ChannelName::parse("channel-1".into()).unwrap();
    clash
        .channels
        .values_mut()
        .flatten()
        .for_each(|row| row.name = name.clone());
    first.submit(clash).unwrap();
    let lost = timeout(PATIENCE, first.committed())
        .await
        .unwrap()
        .unwrap_err();

    assert!(lost.to_string().contains("channels_name"), "{lost}");
    assert_eq!(term.lost().await, lost);
    assert!(!term.is_trusted(Clock.now().monotonic));
    assert!(first.submit(channel(3)).is_err());
    assert_eq!(joined(&mut waiting).await.term().epoch(), Epoch(2));
    assert_eq!(fixture.store.snapshot().await.unwrap().channels.len(), 1);
}

/// Acceptance: 136.
#[tokio::test]
async fn an_active_whose_session_was_ended_knows_at_once() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let leader = leader(&fixture, "first", LONG).await;
    let client = fixture.client().await;

    let end = "SELECT pg_terminate_backend(backend_pid) FROM leadership";
    client.execute(end, &[]).await.unwrap();

    // Long before the next renewal would tell.
    let lost = timeout(Duration::from_secs(5), leader.term().lost())
        .await
        .unwrap();
    assert!(lost.to_string().contains("administrator"), "{lost}");
    assert!(!leader.term().is_trusted(Clock.now().monotonic));
}

/// Acceptance: 136.
#[tokio::test]
async fn an_active_that_lost_only_the_lock_ends_its_term() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let granted = granted(&fixture, "first", SHORT).await;
    let key = stanby::leadership::key::lock_key(super::fixture::SCHEMA);
    let client = granted.client();
    client
        .execute("SELECT pg_advisory_unlock($1)", &[&key])
        .await
        .unwrap();

    let leader = start(&fixture, granted).await;

    let lost = timeout(PATIENCE, leader.term().lost()).await.unwrap();
    assert!(
        lost.to_string().contains("no longer holds the lock"),
        "{lost}"
    );
}

/// Acceptance: 137.
#[tokio::test]
async fn an_orderly_release_hands_the_lock_to_the_standby_in_the_queue() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let mut first = leader(&fixture, "first", LONG).await;
    let term = first.term().clone();
    let mut waiting = standby(&fixture, "second", LONG);
    queue_of(&fixture.client().await, 1).await;

    first.submit(channel(1)).unwrap();
    first.committed().await.unwrap();
    first.release().await;

    assert!(!term.is_trusted(Clock.now().monotonic));
    let second = joined(&mut waiting).await;
    assert_eq!(second.takeover().reason, Reason::Released);
    assert_eq!(fixture.store.snapshot().await.unwrap().channels.len(), 1);
}

#[tokio::test]
async fn a_commit_that_outlasts_the_trust_is_reported_only_after_a_renewal() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let mut leader = leader(&fixture, "first", SHORT).await;
    // Not by a lock: while one is in the way, the lease is renewed.
    let slow = "CREATE TABLE public.slow AS SELECT true AS is_slow;
        CREATE FUNCTION public.wait_while_slow() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            WHILE EXISTS (SELECT FROM public.slow) LOOP
                PERFORM pg_sleep(0.02);
            END LOOP;
            RETURN NULL;
        END $$;
        CREATE TRIGGER slow AFTER INSERT OR UPDATE ON channels FOR EACH STATEMENT
            EXECUTE FUNCTION public.wait_while_slow()";
    let other = fixture.client().await;
    other.batch_execute(slow).await.unwrap();
    leader.submit(channel(1)).unwrap();
    let term = leader.term().clone();
    wait_until(PATIENCE, || {
        let trusted = term.is_trusted(Clock.now().monotonic);
        async move {
            (!trusted)
                .then_some(())
                .ok_or("it is still trusted".to_owned())
        }
    })
    .await;

    other
        .batch_execute("DELETE FROM public.slow")
        .await
        .unwrap();
    let committed = timeout(PATIENCE, leader.committed())
        .await
        .unwrap()
        .unwrap();

    assert!(committed.took > SHORT / 2, "{:?}", committed.took);
    assert!(term.is_trusted(Clock.now().monotonic));
}

#[tokio::test]
async fn tables_of_another_postgres_cluster_are_refused_until_somebody_says_so() {
    let Some(fixture) = migrated().await else {
        return;
    };
    drop(granted(&fixture, "first", LONG).await);
    let client = fixture.client().await;
    for (damage, part) in [
        (
            "UPDATE leadership SET system_identifier = 42",
            "restored copy",
        ),
        (
            "UPDATE leadership SET system_identifier = NULL, timeline = 1000",
            "old primary",
        ),
    ] {
        client.batch_execute(damage).await.unwrap();
        let settings = settings(&fixture, "second", LONG);
        let mut candidate = Candidate::open(&settings, &fixture.tracker).await.unwrap();
        candidate.wait().await.unwrap();

        let error = candidate.take_over(Epoch(0), &drop).await.unwrap_err();

        assert!(matches!(error, Error::Refused(_)));
        assert!(error.to_string().contains(part), "{error}");
    }
    let remedy = "UPDATE leadership SET system_identifier = NULL, timeline = NULL";
    client.batch_execute(remedy).await.unwrap();
    assert_eq!(
        granted(&fixture, "third", LONG).await.term().epoch(),
        Epoch(2)
    );

    client
        .batch_execute("UPDATE leadership SET timeline = 0")
        .await
        .unwrap();
    let after_failover = granted(&fixture, "fourth", LONG).await;
    assert_eq!(after_failover.takeover().timeline_advanced, Some((0, 1)));
}
