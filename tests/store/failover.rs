//! What the tables keep of a failover of Postgres, and how a standby knows what to expect of them.

use std::collections::BTreeMap;
use std::time::Duration;

use stanby::core::batch::{Batch, Counters, LostRange, RangeOutcome};
use stanby::core::commit_history::{HighWaterMark, HighWaterMarks};
use stanby::core::ids::{BatchNumber, ChannelId, ChannelName, Epoch, Sequence};
use stanby::leadership::Candidate;

use super::fixture::migrated;
use super::leadership::{granted, settings};
use super::replay::channel;

/// So long that nothing in a test happens because of it.
const LEASE: Duration = Duration::from_mins(1);

fn name(text: &'static str) -> ChannelName {
    ChannelName::parse(text.into()).unwrap()
}

fn range(first: u64, last: u64, outcome: RangeOutcome) -> LostRange {
    LostRange {
        channel: ChannelId(1),
        name: name("orders"),
        first: Sequence(first),
        last: Sequence(last),
        outcome,
    }
}

#[tokio::test]
async fn what_a_failover_lost_can_be_read_per_term() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer) = fixture.writer().await;
    client
        .batch_execute(
            "INSERT INTO takeovers (epoch, to_holder, reason, lock_wait, timeline_before, timeline_after)
             VALUES (6, 'a', 'r', '1s', NULL, NULL), (7, 'b', 'r', '1s', 1, 2)",
        )
        .await
        .unwrap();
    let batch = Batch {
        number: BatchNumber(1),
        lost: vec![
            range(11, 13, RangeOutcome::Lost),
            range(14, 20, RangeOutcome::Restored),
            range(21, 22, RangeOutcome::Unknown),
        ],
        ..Batch::default()
    };

    writer.apply(&client, &batch, Epoch(7)).await.unwrap();

    let rows = client
        .query(
            "SELECT epoch, restored, lost, unknown, ranges FROM database_failovers",
            &[],
        )
        .await
        .unwrap();
    let [row] = rows.as_slice() else {
        panic!("one failover: {rows:?}");
    };
    let numbers: Vec<i64> = (0..4).map(|column| row.get(column)).collect();
    assert_eq!(numbers, [7, 7, 3, 2]);
    assert_eq!(
        row.get::<_, &str>(4),
        "orders #11 to #13 lost; orders #14 to #20 restored; orders #21 to #22 unknown"
    );
}

#[tokio::test]
async fn a_standby_sees_how_far_the_channels_are() {
    let Some(fixture) = migrated().await else {
        return;
    };
    assert_eq!(
        fixture.store.high_water_marks().await.unwrap(),
        HighWaterMarks::default()
    );
    let (client, writer) = fixture.writer().await;
    let mut deleting = channel(1, 4);
    deleting.name = name("old");
    deleting.deleting = true;
    let batch = Batch {
        number: BatchNumber(1),
        counters: Some(Counters {
            channel: 5,
            subscription: 0,
        }),
        channels: BTreeMap::from([
            (ChannelId(1), Some(channel(1, 9))),
            (ChannelId(2), Some(deleting)),
        ]),
        ..Batch::default()
    };
    writer.apply(&client, &batch, Epoch(1)).await.unwrap();
    client
        .batch_execute("UPDATE leadership SET epoch = 3")
        .await
        .unwrap();

    let marks = fixture.store.high_water_marks().await.unwrap();

    let mark = HighWaterMark {
        name: name("orders"),
        created_at: batch.channels[&ChannelId(1)].as_ref().unwrap().created_at,
        last: Sequence(9),
    };
    let expected = HighWaterMarks {
        epoch: Epoch(3),
        all_waited_for: None,
        sql_is_used: false,
        last_channel: 5,
        channels: BTreeMap::from([(ChannelId(1), mark)]),
    };
    assert_eq!(marks, expected);
}

#[tokio::test]
async fn a_standby_knows_whether_commits_wait_for_the_replicas_of_the_postgres_in_use() {
    let Some(fixture) = migrated().await else {
        return;
    };
    drop(granted(&fixture, "first", LEASE).await);
    let client = fixture.client().await;
    let execute = async |statement: &str| client.batch_execute(statement).await.unwrap();
    let told = async || {
        fixture
            .store
            .high_water_marks()
            .await
            .unwrap()
            .all_waited_for
    };

    // The term may have to deal with a failover first.
    assert_eq!(told().await, None);
    execute("UPDATE takeovers SET first_ack = '1s'").await;
    assert_eq!(told().await, Some(false));

    execute("UPDATE leadership SET timeline = timeline - 1").await;
    assert_eq!(told().await, None);
    execute("UPDATE leadership SET timeline = NULL").await;
    assert_eq!(told().await, None);
}

/// A term that ends before its first commit leaves it to the next one.
#[tokio::test]
async fn a_failover_is_known_until_a_term_has_committed_something() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    let take_over = async |server: &'static str| {
        let granted = granted(&fixture, server, LEASE).await;
        granted.takeover().clone()
    };
    assert!(!take_over("first").await.failed_over);
    client
        .batch_execute("UPDATE leadership SET timeline = timeline - 1")
        .await
        .unwrap();

    let noticed = take_over("second").await;
    assert!(noticed.failed_over && noticed.timeline_advanced.is_some());
    let next = take_over("third").await;
    assert!(next.failed_over && next.timeline_advanced.is_none());

    client
        .execute(
            "UPDATE takeovers SET first_ack = '1s' WHERE epoch = $1",
            &[&next.epoch.0.cast_signed()],
        )
        .await
        .unwrap();
    assert!(!take_over("fourth").await.failed_over);
}

#[tokio::test]
async fn the_number_of_a_term_is_above_all_that_are_known() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let settings = settings(&fixture, "late", LEASE);
    let mut candidate = Candidate::open(&settings, &fixture.tracker).await.unwrap();
    candidate.wait().await.unwrap();

    let granted = candidate.take_over(Epoch(41), &drop).await.unwrap();

    assert_eq!(granted.takeover().epoch, Epoch(42));
}

#[tokio::test]
async fn a_read_on_tables_that_do_not_know_of_the_term_is_refused() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let session = fixture.client().await;
    let known = session.batch_execute("UPDATE leadership SET epoch = 4");
    known.await.unwrap();

    fixture.store.fence(&session, Some(Epoch(5))).await.unwrap();
    let refused = fixture.store.snapshot().await.unwrap_err().to_string();
    assert!(refused.contains("know of term 4 and not of 5"), "{refused}");
    assert!(fixture.store.reads().failing.is_some());

    fixture.store.fence(&session, Some(Epoch(4))).await.unwrap();
    fixture.store.snapshot().await.unwrap();
    assert!(fixture.store.reads().failing.is_none());
}

#[tokio::test]
async fn a_table_whose_rows_may_be_elsewhere_is_not_read() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let session = fixture.client().await;
    session
        .batch_execute("CREATE TABLE moved () INHERITS (messages)")
        .await
        .unwrap();
    let refused = fixture.store.snapshot().await.unwrap_err().to_string();
    assert!(refused.contains("messages is a view"), "{refused}");
    session.batch_execute("DROP TABLE moved").await.unwrap();
    fixture.store.snapshot().await.unwrap();

    session
        .batch_execute(
            "ALTER TABLE positions RENAME TO real; CREATE VIEW positions AS SELECT * FROM real WHERE false",
        )
        .await
        .unwrap();
    let refused = fixture
        .store
        .snapshot_on(&session)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("positions is a view"), "{refused}");
}

#[tokio::test]
async fn the_oldest_snapshot_is_named() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let session = fixture.client().await;
    session
        .batch_execute(
            "SET application_name = 'forgotten'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1",
        )
        .await
        .unwrap();
    let oldest = fixture.store.oldest().await.unwrap().unwrap();
    assert!(oldest.who.contains("(forgotten) of role"), "{oldest:?}");
    session.batch_execute("COMMIT").await.unwrap();
    let oldest = fixture.store.oldest().await.unwrap();
    let named = oldest.is_some_and(|oldest| oldest.who.contains("forgotten"));
    assert!(!named);
}
