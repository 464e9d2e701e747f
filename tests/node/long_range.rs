//! The end of a channel's sequences, which no run of a test reaches by itself.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use crate::pair::{Group, Server};

/// The highest sequence that a message may have.
const LAST: u64 = i64::MAX.unsigned_abs() - 1;

const FULL: &str = "stan: not stored: the channel has used its last sequence";

/// A channel that has given out so many sequences, and keeps none of their messages.
async fn move_on(group: &Group, channel: &str, last_sequence: u64) {
    let mut connection = PgConnection::connect(&group.database_url).await.unwrap();
    let moved = sqlx::query(
        "UPDATE stanby.channels SET first_sequence = $2 + 1, last_sequence = $2 WHERE name = $1",
    )
    .bind(channel)
    .bind(last_sequence.cast_signed())
    .execute(&mut connection)
    .await
    .unwrap();
    assert_eq!(moved.rows_affected(), 1);
}

async fn active(group: &Group) -> (Server, u64) {
    let server = group.server();
    let epoch = server.wait_until_active().await;
    (server, epoch)
}

#[tokio::test]
async fn a_channel_whose_sequence_nears_the_end_refuses_before_it_wraps() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let (server, _) = active(&group).await;
    let client = group.client("maker").await;
    let made = client.subscribe("orders", "", "").await;
    drop(made.unwrap());
    client.close().await.unwrap();
    server.kill().await;
    move_on(&group, "orders", LAST - 2).await;

    let (server, epoch) = active(&group).await;
    let client = group.client("app").await;
    let mut taker = client.take_for("orders", ("", "worker"), 8, 3).await;
    let mut publisher = client.publisher("orders").await;
    publisher.send().await;
    publisher.send().await;
    publisher.take_all_acks().await;
    assert_eq!(taker.wait_for(2).await, [LAST - 1, LAST]);
    taker.ack(LAST - 1).await;
    for refused in 1..=2 {
        publisher.send().await;
        while publisher.published().errors.len() < refused {
            assert!(publisher.take_ack(Duration::from_secs(20)).await);
        }
    }
    let errors = &publisher.published().errors;
    assert!(errors.iter().all(|it| it.starts_with(FULL)), "{errors:?}");
    // Others go on, in the same term.
    let mut beside = client.publisher("payments").await;
    beside.send().await;
    beside.take_all_acks().await;
    assert_eq!(server.wait_until_active().await, epoch);
    server.kill().await;

    let (_server, _) = active(&group).await;
    let again = taker.next(Duration::from_secs(20)).await;
    let sequence = again.map(|(sequence, _)| sequence);
    assert_eq!(sequence, Some(LAST), "what was not acked comes again");
    taker.ack(LAST).await;
    publisher.send().await;
    while publisher.published().errors.len() < 3 {
        assert!(publisher.take_ack(Duration::from_secs(20)).await);
    }
    assert!(publisher.published().errors[2].starts_with(FULL));
}
