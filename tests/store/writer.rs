//! What a batch leaves behind when something is wrong with it, and what the tables do with rows of strangers.

use std::sync::Arc;

use stanby::core::batch::{Batch, ChannelRow, Counters, PositionRow, Progress};
use stanby::core::ids::{ChannelId, ChannelName, ClientId, Epoch, Guid, PositionId, Sequence};
use stanby::core::message::Message;
use stanby::core::snapshot::Snapshot;
use stanby::core::time::Timestamp;
use stanby::store::{Error, ServerInfo};

use super::fixture::{migrated, server_info};

const CHANNEL: ChannelId = ChannelId(1);

fn channel(last: u64) -> ChannelRow {
    ChannelRow {
        name: ChannelName::parse("orders".into()).unwrap(),
        created_at: Timestamp(1),
        deleting: false,
        first_sequence: Sequence(1),
        last_sequence: Sequence(last),
        last_published_at: Timestamp(2),
        message_count: last,
        byte_count: last * 10,
    }
}

fn message(sequence: u64) -> (ChannelId, Arc<Message>) {
    let message = Message {
        sequence: Sequence(sequence),
        published_at: Timestamp(2),
        client_id: ClientId::parse("alice".into()).unwrap(),
        guid: Guid::parse("guid".into()).unwrap(),
        reply: "".into(),
        data: "hello".into(),
    };
    (CHANNEL, Arc::new(message))
}

fn first_batch() -> Batch {
    Batch {
        counters: Some(Counters {
            channel: 1,
            subscription: 0,
        }),
        channels: [(CHANNEL, Some(channel(1)))].into(),
        messages: vec![message(1)],
        ..Batch::default()
    }
}

#[tokio::test]
async fn a_failed_statement_in_a_batch_leaves_nothing_behind() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer) = fixture.writer().await;
    writer
        .apply(&client, &first_batch(), Epoch(1))
        .await
        .unwrap();
    let before = fixture.store.snapshot().await.unwrap();

    // With counters it is a transaction of several statements; the second sequence exists already.
    let batch = Batch {
        counters: Some(Counters {
            channel: 9,
            subscription: 9,
        }),
        channels: [(CHANNEL, Some(channel(2)))].into(),
        messages: vec![message(2), message(1)],
        ..Batch::default()
    };
    let error = writer.apply(&client, &batch, Epoch(1)).await.unwrap_err();

    assert!(
        matches!(&error, Error::Failed(text) if text.contains("messages_pkey")),
        "{error}"
    );
    assert_eq!(fixture.store.snapshot().await.unwrap(), before);
    let rows = client
        .query("SELECT sequence FROM messages", &[])
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn a_sequence_is_never_written_twice() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer) = fixture.writer().await;
    writer
        .apply(&client, &first_batch(), Epoch(1))
        .await
        .unwrap();
    let before = fixture.store.snapshot().await.unwrap();

    // Channels and messages alone go as one statement.
    let batch = Batch {
        counters: None,
        ..first_batch()
    };
    let changed = ChannelRow {
        byte_count: 999,
        ..channel(1)
    };
    let batch = Batch {
        channels: [(CHANNEL, Some(changed))].into(),
        ..batch
    };
    let error = writer.apply(&client, &batch, Epoch(2)).await.unwrap_err();

    assert!(
        matches!(&error, Error::Failed(text) if text.contains("23505")),
        "{error}"
    );
    assert_eq!(fixture.store.snapshot().await.unwrap(), before);
}

#[tokio::test]
async fn progress_of_a_position_that_somebody_deleted_fails_the_batch() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer) = fixture.writer().await;
    let batch = Batch {
        progress: [(PositionId(5), Progress::default())].into(),
        ..Batch::default()
    };

    let error = writer.apply(&client, &batch, Epoch(1)).await.unwrap_err();

    assert!(
        matches!(&error, Error::Failed(text) if text.contains("somebody else")),
        "{error}"
    );
}

#[tokio::test]
async fn a_batch_on_a_session_that_was_ended_fails() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer) = fixture.writer().await;
    let pid: i32 = client
        .query_one_scalar("SELECT pg_backend_pid()", &[])
        .await
        .unwrap();
    let admin = fixture.client().await;
    admin
        .execute("SELECT pg_terminate_backend($1, 5000)", &[&pid])
        .await
        .unwrap();

    for batch in [Batch::default(), first_batch()] {
        let error = writer.apply(&client, &batch, Epoch(1)).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
    }
    assert_eq!(fixture.store.snapshot().await.unwrap(), Snapshot::default());
}

#[tokio::test]
async fn a_large_trim_goes_by_the_primary_key() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer) = fixture.writer().await;
    client
        .batch_execute(
            "INSERT INTO messages SELECT 1, n, n, 1, 'c', 'g', '', '' FROM generate_series(1, 50000) n;
             ANALYZE messages",
        )
        .await
        .unwrap();
    let batch = Batch {
        trims: [(CHANNEL, Sequence(10))].into(),
        ..Batch::default()
    };

    writer.apply(&client, &batch, Epoch(1)).await.unwrap();

    let scans = "SELECT count(*), min(sequence) FROM messages";
    let row = client.query_one(scans, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (49_990, 11));
    let plan = client
        .query(
            "EXPLAIN DELETE FROM messages m USING unnest(ARRAY[1]::int8[], ARRAY[10]::int8[])
                AS t (channel_id, through)
             WHERE m.channel_id = t.channel_id AND m.sequence <= t.through",
            &[],
        )
        .await
        .unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    let by_key = "Index Cond: ((channel_id = t.channel_id) AND (sequence <= t.through))";
    assert!(plan.iter().any(|line| line.contains(by_key)), "{plan:#?}");
}

#[tokio::test]
async fn rows_that_contradict_each_other_are_named() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer) = fixture.writer().await;
    let position = PositionRow {
        channel: CHANNEL,
        durable_name: None,
        queue_group: None,
        progress: Progress::default(),
    };
    let batch = Batch {
        counters: Some(Counters {
            channel: 1,
            subscription: 2,
        }),
        positions: [(PositionId(2), Some(position))].into(),
        ..first_batch()
    };
    writer.apply(&client, &batch, Epoch(1)).await.unwrap();

    for (damage, repair, expected) in [
        (
            "UPDATE channels SET name = 'a*'",
            "UPDATE channels SET name = 'orders'",
            "table channels, row 1: column name",
        ),
        (
            "UPDATE channels SET last_sequence = -1",
            "UPDATE channels SET last_sequence = 1",
            "column last_sequence: -1 is out of range",
        ),
        (
            "UPDATE positions SET acked_floor = 4",
            "UPDATE positions SET acked_floor = 0",
            "table positions, row 2: acked_floor is above last_sent",
        ),
        (
            "UPDATE positions SET acked_above = '{[3,)}'",
            "UPDATE positions SET acked_above = '{}'",
            "bounded ranges",
        ),
        (
            "UPDATE positions SET channel_id = 7",
            "UPDATE positions SET channel_id = 1",
            "there is no channel 7",
        ),
        (
            "UPDATE server_info SET last_channel_id = 0",
            "UPDATE server_info SET last_channel_id = 1",
            "above server_info.last_channel_id",
        ),
    ] {
        client.batch_execute(damage).await.unwrap();
        let error = fixture.store.snapshot().await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        client.batch_execute(repair).await.unwrap();
    }
    fixture.store.snapshot().await.unwrap();
}

/// Acceptance: 135.
#[tokio::test]
async fn the_first_server_info_stays_and_another_cluster_is_refused() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    let first = server_info("one");
    ServerInfo::read_or_create(&client, &fixture.url, &first)
        .await
        .unwrap();

    let later = ServerInfo {
        ack_prefix: "other".to_owned(),
        ..first.clone()
    };
    let kept = ServerInfo::read_or_create(&client, &fixture.url, &later)
        .await
        .unwrap();
    assert_eq!(kept, later, "only the ack prefix may change");

    let other = server_info("two");
    let error = ServerInfo::read_or_create(&client, &fixture.url, &other)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::OtherCluster(_)));
    let text = error.to_string();
    assert!(
        text.contains(r#"cluster ID "two" does not match recovered value of "one""#),
        "{text}"
    );
}
