//! A durable that gets nothing because somebody or something has paused it says so.

use stanby::core::batch::Batch;
use stanby::core::ids::{Epoch, PositionId, Sequence};
use stanby::core::policy::Count;
use tokio_postgres::Client;

use super::fixture::{Fixture, migrated};
use super::views::populate;

#[tokio::test]
async fn a_durable_that_an_operator_has_paused_is_paused_whatever_else_holds_it_up() {
    let Some(fixture) = migrated().await else {
        return;
    };
    populate(&fixture).await;
    let client = fixture.client().await;
    let pause = "INSERT INTO paused_positions (position_id, since)
        SELECT position_id, '2026-11-29 14:23:05Z' FROM positions WHERE durable_name IN ('offline', 'behind')";
    client.execute(pause, &[]).await.unwrap();

    let rows = client
        .query(
            "SELECT status, why, paused_since IS NOT NULL FROM durables ORDER BY durable_name",
            &[],
        )
        .await
        .unwrap();
    let durables: Vec<(&str, &str, bool)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();

    assert_eq!(
        durables,
        [
            (
                "paused",
                "an operator paused it at 2026-11-29 14:23:05 UTC; stanby durable resume lets it go on",
                true
            ),
            ("online", "everything is sent and acked", false),
            (
                "paused",
                "an operator paused it at 2026-11-29 14:23:05 UTC; stanby durable resume lets it go on; no client is attached",
                true
            ),
            (
                "stalled",
                "waits for acks: 3 of 3 allowed are unacked",
                false
            ),
        ]
    );
}

/// Each with its status, the message that a policy paused it for, and why, without the time.
async fn durables(client: &Client) -> Vec<String> {
    texts(
        client,
        "SELECT concat_ws(' ', durable_name, status, paused_for, regexp_replace(why, ' at [-0-9: ]+ UTC', ''))
        FROM durables ORDER BY durable_name",
    )
    .await
}

async fn waited_for(client: &Client) -> Vec<String> {
    texts(
        client,
        "SELECT concat_ws(' ', durable_name, waits_for) FROM effective_policies WHERE waits_for IS NOT NULL ORDER BY 1",
    )
    .await
}

async fn texts(client: &Client, query: &str) -> Vec<String> {
    let rows = client.query(query, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Counts of messages that were delivered as often as the policy allows.
fn counts(of: &[(u64, u64, &str)]) -> Batch {
    let counts = of.iter().map(|&(position, sequence, what)| {
        let count = Count {
            deliveries: 4,
            reason: "".into(),
            is_given_up: what == "given up",
            is_awaited: what == "awaited",
        };
        let count = (what != "settled").then_some(count);
        ((PositionId(position), Sequence(sequence)), count)
    });
    Batch {
        counts: counts.collect(),
        ..Batch::default()
    }
}

async fn populated() -> Option<(Fixture, Client)> {
    let fixture = migrated().await?;
    populate(&fixture).await;
    let client = fixture.client().await;
    let policy = "SELECT set_policy('orders', max_deliveries => 4, poison => 'pause')";
    client.batch_execute(policy).await.unwrap();
    Some((fixture, client))
}

#[tokio::test]
async fn a_subscription_that_a_policy_has_wait_for_a_message_says_for_which_and_why_until_it_is_settled()
 {
    let Some((fixture, client)) = populated().await else {
        return;
    };
    let (session, writer) = fixture.writer().await;
    let apply = async |of: &[(u64, u64, &str)]| {
        writer.apply(&session, &counts(of), Epoch(7)).await.unwrap();
    };
    let before = durables(&client).await;

    // The last delivery of each still waits for its ack.
    apply(&[
        (1, 3, "in flight"),
        (2, 3, "in flight"),
        (2, 4, "in flight"),
        (3, 7, "in flight"),
        (5, 10, "in flight"),
    ])
    .await;
    assert_eq!(durables(&client).await, before);
    assert_eq!(waited_for(&client).await, [""; 0]);

    apply(&[
        (1, 3, "awaited"),
        (2, 4, "awaited"),
        (3, 7, "given up"),
        (5, 10, "awaited"),
    ])
    .await;
    assert_eq!(
        durables(&client).await,
        [
            before[0].clone(),
            before[1].clone(),
            "offline paused 3 a policy paused it for message 3, delivered 4 times; stanby durable ack or skip lets it go on; \
             no client is attached"
                .to_owned(),
            "stalled paused 4 a policy paused it for message 4, delivered 4 times; stanby durable ack or skip lets it go on"
                .to_owned(),
        ]
    );
    let of_others = "SELECT concat_ws(' ', status, regexp_replace(why, ' at [-0-9: ]+ UTC', '')) FROM subscription_status
        WHERE durable_name IS NULL OR durable_name = 'stalled' ORDER BY 1";
    assert_eq!(
        texts(&client, of_others).await,
        [
            "paused a policy paused it for message 10, delivered 4 times; an ack of its client lets it go on",
            "paused a policy paused it for message 4, delivered 4 times; stanby durable ack or skip lets it go on",
        ]
    );
    assert_eq!(
        waited_for(&client).await,
        ["10", "behind 7", "offline 3", "stalled 4"]
    );
    let kept = fixture.store.snapshot().await.unwrap().counts;
    let awaited = kept.iter().filter(|(_, count)| count.is_awaited);
    let awaited: Vec<_> = awaited.map(|((position, _), _)| position.0).collect();
    assert_eq!(awaited, [1, 2, 5]);

    // Settled, and tried anew.
    apply(&[(1, 3, "settled"), (2, 4, "in flight"), (3, 7, "settled")]).await;
    assert_eq!(durables(&client).await, before);
    assert_eq!(waited_for(&client).await, ["10"]);
}

/// It does not know what is waited for, and may let the subscription go on.
#[tokio::test]
async fn what_is_waited_for_is_void_once_a_server_of_an_earlier_version_has_written_the_count() {
    let Some((fixture, client)) = populated().await else {
        return;
    };
    let (session, writer) = fixture.writer().await;
    let before = durables(&client).await;
    let batch = counts(&[(2, 3, "awaited")]);
    writer.apply(&session, &batch, Epoch(7)).await.unwrap();
    assert_eq!(waited_for(&client).await, ["stalled 3"]);

    let earlier = "INSERT INTO delivery_counts (position_id, sequence, deliveries, reason, given_up) VALUES (2, 3, 5, '', false)
        ON CONFLICT (position_id, sequence) DO UPDATE SET
            deliveries = excluded.deliveries, reason = excluded.reason, last_at = excluded.last_at, given_up = excluded.given_up";
    client.batch_execute(earlier).await.unwrap();
    assert_eq!(durables(&client).await, before);
    assert_eq!(waited_for(&client).await, [""; 0]);
    let kept = fixture.store.snapshot().await.unwrap().counts;
    assert!(kept.values().all(|count| !count.is_awaited), "{kept:?}");
}

#[tokio::test]
async fn what_a_limit_has_dropped_is_not_waited_for() {
    let Some((fixture, client)) = populated().await else {
        return;
    };
    let (session, writer) = fixture.writer().await;
    let before = durables(&client).await;
    let batch = counts(&[(1, 3, "awaited"), (2, 3, "given up")]);
    writer.apply(&session, &batch, Epoch(7)).await.unwrap();
    let drop = "UPDATE channels SET first_sequence = 4";
    client.batch_execute(drop).await.unwrap();
    assert_eq!(durables(&client).await, before);
    assert_eq!(waited_for(&client).await, [""; 0]);
}
