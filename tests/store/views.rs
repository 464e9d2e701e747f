//! What a person sees in psql and in `stanby status`.

use std::sync::Arc;
use std::time::Duration;

use stanby::core::batch::{
    Batch, ChannelRow, ClientRow, Counters, Heartbeat, PositionRow, Progress, SubscriptionRow,
};
use stanby::core::ids::{
    ChannelId, ChannelName, ClientId, ConnectionId, DurableName, Epoch, Guid, PositionId,
    QueueName, Sequence, Subject, SubscriptionId,
};
use stanby::core::message::Message;
use stanby::core::ranges::Ranges;
use stanby::core::time::Timestamp;

use super::fixture::{Fixture, migrated};
use super::leadership::{granted, queue_of, standby};

const NOON: i64 = 1_732_276_800_123_456_789;

fn position(durable: Option<&str>, group: Option<&str>, progress: Progress) -> PositionRow {
    PositionRow {
        channel: ChannelId(1),
        durable_name: durable.map(|name| DurableName::parse(name.to_owned().into()).unwrap()),
        queue_group: group.map(|name| QueueName::parse(name.to_owned().into()).unwrap()),
        progress,
    }
}

fn progress(acked_floor: u64, acked_above: &[(u64, u64)], last_sent: u64) -> Progress {
    let mut ranges = Ranges::default();
    for &(first, last) in acked_above {
        ranges.push(Sequence(first), Sequence(last));
    }
    Progress {
        last_sent: Sequence(last_sent),
        acked_floor: Sequence(acked_floor),
        acked_above: ranges,
    }
}

fn subscription(position: u64, client: &str, online: bool, max_in_flight: u32) -> SubscriptionRow {
    SubscriptionRow {
        position: PositionId(position),
        client_id: ClientId::parse(client.to_owned().into()).unwrap(),
        inbox: Subject::parse("inbox".into()).unwrap(),
        ack_inbox: Subject::parse("acks".into()).unwrap(),
        max_in_flight,
        ack_wait: Duration::from_secs(30),
        online,
        since: Timestamp(NOON),
    }
}

/// Channel `orders` with ten messages, of which the first is text and the second is not.
pub(super) async fn populate(fixture: &Fixture) {
    let (client, writer) = fixture.writer().await;
    let message = |sequence: u64| {
        let data: &'static [u8] = match sequence {
            1 => "grün".as_bytes(),
            2 => b"\xff\x00",
            _ => b"x",
        };
        let message = Message {
            sequence: Sequence(sequence),
            published_at: Timestamp(NOON),
            client_id: ClientId::parse("alice".into()).unwrap(),
            guid: Guid::parse("g".into()).unwrap(),
            reply: "".into(),
            data: data.into(),
        };
        (ChannelId(1), Arc::new(message))
    };
    let orders = ChannelRow {
        name: ChannelName::parse("orders".into()).unwrap(),
        created_at: Timestamp(NOON),
        deleting: false,
        first_sequence: Sequence(1),
        last_sequence: Sequence(10),
        last_published_at: Timestamp(NOON),
        message_count: 10,
        byte_count: 200,
    };
    let alice = ClientRow {
        connection_id: ConnectionId::default(),
        heartbeat_inbox: Subject::parse("hb".into()).unwrap(),
        protocol: 1,
        ping_interval: 5,
        ping_max_out: 3,
        connected_at: Timestamp(NOON),
        heartbeat: Heartbeat {
            last_at: Timestamp(NOON),
            missed: 2,
        },
    };
    let batch = Batch {
        counters: Some(Counters {
            channel: 1,
            subscription: 20,
        }),
        channels: [(ChannelId(1), Some(orders))].into(),
        messages: (1..=10).map(message).collect(),
        clients: [(ClientId::parse("alice".into()).unwrap(), Some(alice))].into(),
        positions: [
            (
                PositionId(1),
                Some(position(Some("offline"), None, progress(2, &[(4, 5)], 7))),
            ),
            (
                PositionId(2),
                Some(position(Some("stalled"), None, progress(2, &[], 5))),
            ),
            (
                PositionId(3),
                Some(position(Some("behind"), Some("g"), progress(6, &[], 8))),
            ),
            (
                PositionId(4),
                Some(position(Some("done"), Some("g"), progress(10, &[], 10))),
            ),
            (
                PositionId(5),
                Some(position(None, None, progress(9, &[], 10))),
            ),
        ]
        .into(),
        subscriptions: [
            (SubscriptionId(11), Some(subscription(1, "bob", false, 100))),
            (SubscriptionId(12), Some(subscription(2, "alice", true, 3))),
            (SubscriptionId(13), Some(subscription(3, "alice", true, 2))),
            (SubscriptionId(14), Some(subscription(3, "carol", true, 2))),
            (SubscriptionId(15), Some(subscription(4, "alice", true, 2))),
            (SubscriptionId(16), Some(subscription(5, "alice", true, 2))),
        ]
        .into(),
        ..Batch::default()
    };
    writer.apply(&client, &batch, Epoch(7)).await.unwrap();
}

#[tokio::test]
async fn the_status_says_of_each_durable_how_far_it_is_and_why() {
    let Some(fixture) = migrated().await else {
        return;
    };
    populate(&fixture).await;

    let report = fixture.store.report().await.unwrap();

    let durables: Vec<_> = report
        .durables
        .iter()
        .map(|row| {
            (
                row.durable_name.as_str(),
                row.status.as_str(),
                row.unacked,
                row.lag,
                row.why.as_str(),
            )
        })
        .collect();
    assert_eq!(
        durables,
        [
            (
                "stalled",
                "stalled",
                3,
                8,
                "waits for acks: 3 of 3 allowed are unacked"
            ),
            ("offline", "offline", 3, 6, "no client is attached"),
            ("behind", "behind", 2, 4, "2 messages are still to be sent"),
            ("done", "online", 0, 0, "everything is sent and acked"),
        ]
    );
    assert_eq!(report.durables[2].clients.as_deref(), Some("alice, carol"));
    assert_eq!(report.durables[2].members, 2);
    assert_eq!(report.durables[1].clients.as_deref(), Some("bob"));
}

#[tokio::test]
async fn the_status_shows_clients_channels_and_counts() {
    let Some(fixture) = migrated().await else {
        return;
    };
    populate(&fixture).await;

    let report = serde_json::to_value(fixture.store.report().await.unwrap()).unwrap();

    assert_eq!(report["cluster_id"], "test-cluster");
    assert_eq!(report["active"], serde_json::Value::Null);
    assert_eq!(
        report["counts"],
        serde_json::json!({
            "clients": 1, "channels": 1, "subscriptions": 6, "durables": 4, "messages": 10, "bytes": 200
        })
    );
    assert_eq!(
        report["clients"][0],
        serde_json::json!({
            "client_id": "alice", "status": "unresponsive", "missed_heartbeats": 2, "subscriptions": 4,
            "connected_at": "2024-11-22T12:00:00.123Z", "last_heartbeat_at": "2024-11-22T12:00:00.123Z"
        })
    );
    assert_eq!(
        report["channels"][0],
        serde_json::json!({
            "name": "orders", "status": "open", "first_sequence": 1, "last_sequence": 10,
            "messages": 10, "bytes": 200, "subscriptions": 6, "furthest_behind": 8,
            "last_published_at": "2024-11-22T12:00:00.123Z"
        })
    );
}

#[tokio::test]
async fn the_status_tells_a_live_active_from_a_dead_one() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let lease = Duration::from_mins(1);
    let holder = granted(&fixture, "first", lease).await;
    let waiting = standby(&fixture, "second", lease);
    let client = fixture.client().await;
    queue_of(&client, 1).await;

    let report = fixture.store.report().await.unwrap();

    let active = report.active.unwrap();
    assert_eq!(
        (active.epoch, active.holder.as_str(), active.holds_lock),
        (1, "first", true)
    );
    assert_eq!(active.pid, Some(std::process::id().cast_signed()));
    let standbys: Vec<&str> = report
        .standbys
        .iter()
        .map(|row| row.name.as_str())
        .collect();
    assert_eq!(standbys, ["stanby/test-cluster/ft/second"]);

    drop(waiting);
    queue_of(&client, 0).await;
    drop(holder);
    super::support::wait::wait_until(super::fixture::PATIENCE, || async {
        let active = fixture.store.report().await.unwrap().active.unwrap();
        (!active.holds_lock)
            .then_some(())
            .ok_or("it still holds the lock".to_owned())
    })
    .await;
}

#[tokio::test]
async fn messages_are_readable_as_text_where_they_are_text() {
    let Some(fixture) = migrated().await else {
        return;
    };
    populate(&fixture).await;
    let client = fixture.client().await;

    let rows = client
        .query(
            "SELECT channel, text, size_bytes, published_at::text FROM readable_messages
             WHERE sequence <= 2 ORDER BY sequence",
            &[],
        )
        .await
        .unwrap();

    let texts: Vec<(&str, Option<&str>, i32)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    assert_eq!(texts, [("orders", Some("grün"), 5), ("orders", None, 2)]);
    assert!(
        rows[0]
            .get::<_, &str>(3)
            .starts_with("2024-11-22 12:00:00.123456")
    );
}

#[tokio::test]
async fn every_table_and_view_says_what_it_is_for_and_every_column_of_a_view_what_it_tells() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;

    let silent = client
        .query(
            "SELECT relname::text FROM pg_class
             WHERE relnamespace = quote_ident(current_schema)::regnamespace AND relkind IN ('r', 'v')
               AND obj_description(oid) IS NULL
             UNION ALL
             SELECT relname || '.' || attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
             WHERE relnamespace = quote_ident(current_schema)::regnamespace AND relkind = 'v'
               AND attnum > 0 AND col_description(attrelid, attnum) IS NULL",
            &[],
        )
        .await
        .unwrap();

    let silent: Vec<&str> = silent.iter().map(|row| row.get(0)).collect();
    assert_eq!(silent, Vec::<&str>::new());
}

/// Name, lag, unsent, in flight, oldest unacked, and whether it is behind by a year.
type DurableRow<'a> = (&'a str, i64, i64, i64, Option<i64>, bool);

#[tokio::test]
async fn a_lag_is_what_is_unsent_and_in_flight_and_its_age_is_that_of_the_oldest_message() {
    let Some(fixture) = migrated().await else {
        return;
    };
    populate(&fixture).await;
    let client = fixture.client().await;

    let rows = client
        .query(
            "SELECT durable_name, lag, unsent, in_flight, oldest_unacked, behind > interval '1 year' AS old
             FROM durables ORDER BY durable_name",
            &[],
        )
        .await
        .unwrap();
    let durables: Vec<DurableRow<'_>> = rows
        .iter()
        .map(|row| {
            (
                row.get(0),
                row.get(1),
                row.get(2),
                row.get(3),
                row.get(4),
                row.get(5),
            )
        })
        .collect();
    assert_eq!(
        durables,
        [
            ("behind", 4, 2, 2, Some(7), true),
            ("done", 0, 0, 0, None, false),
            ("offline", 6, 3, 3, Some(3), true),
            ("stalled", 8, 5, 3, Some(3), true),
        ]
    );

    let rows = client
        .query(
            "SELECT sequence, client_id FROM in_flight WHERE durable_name = 'offline' ORDER BY sequence",
            &[],
        )
        .await
        .unwrap();
    let in_flight: Vec<(i64, Option<&str>)> =
        rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(
        in_flight,
        [(3, Some("bob")), (6, Some("bob")), (7, Some("bob"))]
    );
}

#[tokio::test]
async fn messages_are_found_by_time_and_none_is_too_strange_for_the_view_of_json() {
    let Some(fixture) = migrated().await else {
        return;
    };
    populate(&fixture).await;
    let client = fixture.client().await;
    client
        .batch_execute(
            "UPDATE messages SET data = convert_to('{\"a\": {\"b\": 1}}', 'UTF8') WHERE sequence = 3;
             UPDATE messages SET data = convert_to('{\"a\": \"\\u0000\"}', 'UTF8') WHERE sequence = 4;
             UPDATE messages SET data = convert_to(repeat('[', 100000), 'UTF8') WHERE sequence = 5",
        )
        .await
        .unwrap();
    let number = async |query: &str| -> i64 { client.query_one(query, &[]).await.unwrap().get(0) };

    assert_eq!(
        number("SELECT count(*) FROM messages_since('orders', '2024-11-22')").await,
        10
    );
    assert_eq!(
        number("SELECT count(*) FROM messages_since('orders', '2024-11-23')").await,
        0
    );
    let unknown = client
        .query("SELECT messages_since('ordres', now())", &[])
        .await
        .unwrap_err();
    assert_eq!(unknown.code().unwrap().code(), "STB04");
    assert_eq!(
        number("SELECT count(*) FROM message_json WHERE json IS NOT NULL").await,
        1
    );
    let found = "SELECT sequence FROM message_json WHERE json #>> '{a,b}' = '1'";
    assert_eq!(number(found).await, 3);
    assert_eq!(
        number("SELECT messages FROM publishers WHERE publisher = 'alice'").await,
        10
    );
    assert_eq!(
        number("SELECT messages FROM channel_usage WHERE channel = 'orders'").await,
        10
    );
}

#[tokio::test]
async fn the_rate_of_a_young_channel_is_over_the_time_that_it_has_messages_of() {
    let Some(fixture) = migrated().await else {
        return;
    };
    populate(&fixture).await;
    let client = fixture.client().await;
    // Every second one, the first six minutes ago.
    let young = "UPDATE messages SET published_at_ns =
                     (extract(epoch FROM clock_timestamp() - (361 - sequence) * interval '1 second') * 1e9)::bigint
                 WHERE channel_id = 1;
                 INSERT INTO messages SELECT 1, s, (extract(epoch FROM clock_timestamp() - (361 - s) * interval '1 second') * 1e9)::bigint,
                     1, 'alice', 'g' || s, '', '', false FROM generate_series(11, 360) s;
                 UPDATE channels SET last_sequence = 360, message_count = 360 WHERE channel_id = 1";
    client.batch_execute(young).await.unwrap();
    let rates = "SELECT per_second_1h BETWEEN 0.9 AND 1.1, per_second_1m BETWEEN 0.9 AND 1.1
                 FROM channel_usage WHERE channel = 'orders'";
    let row = client.query_one(rates, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), (true, true));
}
