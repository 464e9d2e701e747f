//! What a read of the outbox says of transactions that may still add rows to it, or to what is acked in SQL.

use stanby::core::ids::{ChannelId, LoadId};
use stanby::core::load::{Load, Loaded, Want};
use stanby::core::outbox::{OutboxId, OutboxPage};
use stanby::core::sql_acks::AckId;
use stanby::core::time::Timestamp;
use tokio_postgres::Client;

use super::fixture::{Fixture, migrated};

async fn page(fixture: &Fixture) -> OutboxPage {
    read(fixture, false).await
}

async fn read(fixture: &Fixture, settles: bool) -> OutboxPage {
    let load = Load {
        id: LoadId(1),
        channel: ChannelId(0),
        want: Want::Outbox {
            after: OutboxId(0),
            acks_after: AckId(0),
            due: Timestamp(0),
            rows: 100,
            bytes: 1 << 20,
            payload_bytes: 1 << 20,
            settles,
        },
    };
    let Loaded::Outbox(page) = fixture.store.load(&load).await.unwrap() else {
        panic!("it is a page of the outbox");
    };
    page
}

async fn begin(client: &Client) -> u64 {
    client.batch_execute("BEGIN").await.unwrap();
    let number = "SELECT pg_current_xact_id()::text::bigint";
    let number: i64 = client.query_one(number, &[]).await.unwrap().get(0);
    number.cast_unsigned()
}

async fn publish(client: &Client, payload: &str) {
    let publish = "SELECT publish('orders', $1::text)";
    client.execute(publish, &[&payload]).await.unwrap();
}

/// Or a row would be passed over until the table is read from its beginning again, behind those of later transactions.
#[tokio::test]
async fn a_page_knows_of_transactions_that_have_begun_since_the_last_one_ended() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let [earlier, open] = [fixture.client().await, fixture.client().await];
    publish(&open, "for the first time").await;
    begin(&earlier).await;
    let number = begin(&open).await;
    // Numbered before the row below, and committed after it.
    publish(&open, "later").await;
    publish(&earlier, "now").await;
    earlier.batch_execute("COMMIT").await.unwrap();

    let seen = page(&fixture).await;
    assert_eq!(seen.rows.len(), 2, "{seen:?}");
    assert!(
        seen.next > number,
        "{} may begin before {}",
        number,
        seen.next
    );
    assert!(page(&fixture).await.ended_before < seen.next);

    open.batch_execute("COMMIT").await.unwrap();
    let seen_last = page(&fixture).await;
    assert_eq!(seen_last.rows.len(), 3);
    assert!(seen_last.ended_before >= seen.next, "all have ended");
}

async fn ack(client: &Client, sequence: i64) {
    let ack = "INSERT INTO pending_acks (position_id, sequence) VALUES (1, $1)";
    client.execute(ack, &[&sequence]).await.unwrap();
}

/// Snapshots name the transactions of all databases of a Postgres.
#[tokio::test]
async fn dead_letters_wait_for_transactions_that_have_acked_and_for_no_others() {
    let (Some(fixture), Some(elsewhere)) = (migrated().await, migrated().await) else {
        return;
    };
    let [acking, loading, of_another] = [
        fixture.client().await,
        fixture.client().await,
        elsewhere.client().await,
    ];
    begin(&acking).await;
    let number = begin(&loading).await;
    let last = begin(&of_another).await;
    ack(&of_another, 1).await;

    let seen = read(&fixture, true).await;
    assert!(seen.next > last);
    assert!(seen.acks_ended_before >= seen.next, "{seen:?}");
    assert!(seen.ended_before < number, "{seen:?}");

    ack(&acking, 1).await;
    let seen = read(&fixture, true).await;
    assert!(seen.acks_ended_before < number, "{seen:?}");
    assert!(seen.acks.is_empty());
    acking.batch_execute("SAVEPOINT s").await.unwrap();
    ack(&acking, 2).await;
    acking
        .batch_execute("ROLLBACK TO SAVEPOINT s")
        .await
        .unwrap();
    let seen_again = read(&fixture, true).await;
    assert!(seen_again.acks_ended_before < number, "{seen_again:?}");

    acking.batch_execute("COMMIT").await.unwrap();
    let seen_last = read(&fixture, true).await;
    assert!(seen_last.acks_ended_before >= seen.next, "{seen_last:?}");
    let acked: Vec<u64> = seen_last.acks.iter().map(|row| row.sequence.0).collect();
    assert_eq!(acked, [1]);
}
