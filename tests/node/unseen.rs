//! Rows of messages that are missing: deleted by hand, which is noted, or out of sight, which is no proof of anything.

use std::fmt::Write as _;

use crate::pair::{Group, LIMIT, Server};
use crate::stan::{Publisher, Subscription};
use crate::support::wait::wait_until;
use crate::tables::Tables;

const FLAGS: [&str; 2] = ["--lease", "2s"];

async fn publish(publisher: &mut Publisher, count: usize) {
    for _ in 0..count {
        publisher.send().await;
    }
    publisher.take_all_acks().await;
}

async fn wait_for(received: &Subscription, sequences: impl IntoIterator<Item = u64>) {
    let all = sequences.into_iter().collect();
    wait_until(LIMIT, async || match received.sequences() {
        got if got == all => Ok(()),
        got => Err(format!("{got:?} of {all:?}")),
    })
    .await;
}

async fn wait_for_number(tables: &Tables, query: &'static str, number: i64) {
    wait_until(LIMIT, async || match tables.number(query).await {
        found if found == number => Ok(()),
        found => Err(format!("{found} instead of {number}: {query}")),
    })
    .await;
}

async fn wait_for_condition(server: &Server, holds: bool) {
    let line = format!(
        "stanby_condition{{kind=\"messages-unseen\"}} {}",
        u64::from(holds)
    );
    wait_until(LIMIT, async || {
        let (_, page) = server.get("/metrics").await?;
        page.contains(&line)
            .then_some(())
            .ok_or(format!("no {line}"))
    })
    .await;
}

/// As a damaged page does it, or a tool that works below the triggers: nobody is told.
fn hide(sequences: &str) -> String {
    format!(
        "SET session_replication_role = replica;
         CREATE TABLE aside AS SELECT * FROM messages WHERE {sequences};
         DELETE FROM messages WHERE {sequences}"
    )
}

const SHOW: &str = "INSERT INTO messages SELECT * FROM aside; DROP TABLE aside";

const COUNT: &str = "SELECT message_count FROM channels WHERE name = 'orders'";
const BYTES_DIFFER: &str = "SELECT byte_count - (
        SELECT coalesce(sum(message_size(m.sequence, m.published_at_ns, octet_length(c.name), octet_length(m.reply),
                                         octet_length(m.data))), 0)
        FROM messages m WHERE m.channel_id = c.channel_id)::bigint
    FROM channels c WHERE name = 'orders'";

#[tokio::test]
async fn messages_that_reads_do_not_see_are_waited_for_over_a_takeover_and_come_when_they_are_back()
{
    let Some(group) = Group::new(&FLAGS).await else {
        return;
    };
    let tables = group.tables();
    let first = group.server();
    first.wait_until_active().await;
    let client = group.client("me").await;
    let mut publisher = client.publisher("orders").await;
    publish(&mut publisher, 30).await;
    // It holds ten, some of which will be out of sight when they are due again.
    client.hold_for("orders", "", "books", 10, 1).await.unwrap();
    let last_sent = "SELECT max(last_sent) FROM positions";
    wait_for_number(&tables, last_sent, 10).await;
    first.kill().await;
    tables
        .execute(hide("sequence IN (3, 4) OR sequence BETWEEN 15 AND 20"))
        .await;

    let second = group.server();
    second.wait_until_active().await;
    let all = client.subscribe("orders", "", "all").await.unwrap();
    let others = client.subscribe("others", "", "").await.unwrap();
    wait_for(&all, [1, 2]).await;
    wait_for_condition(&second, true).await;
    let (code, page) = second.get("/readyz").await.unwrap();
    assert_eq!(code, 200, "{page}");
    assert!(page.contains("channel orders, messages 3 to 4"), "{page}");
    let told = "SELECT count(*) FROM conditions WHERE kind = 'messages-unseen'
        AND reason LIKE '%messages_are_gone(''orders'', 3, 4)%'";
    wait_for_number(&tables, told, 1).await;
    // Whoever does not need them goes on.
    publish(&mut client.publisher("others").await, 3).await;
    wait_for(&others, 1..=3).await;
    // Both have looked: what was not seen is not acked.
    wait_until(LIMIT, async || {
        let told = second
            .log()
            .matches("a subscription waits for them")
            .count();
        (told >= 2)
            .then_some(())
            .ok_or("one of two has looked".to_owned())
    })
    .await;
    let looked = "SELECT count(*) FROM durables WHERE durable_name = 'books' AND unacked = 10
        AND acked_floor = 0";
    wait_for_number(&tables, looked, 1).await;
    let floor = "SELECT acked_floor FROM durables WHERE durable_name = 'all'";
    wait_for_number(&tables, floor, 2).await;
    assert_eq!(tables.number(COUNT).await, 30);

    second.kill().await;
    let third = group.server();
    third.wait_until_active().await;
    wait_for_condition(&third, true).await;
    tables
        .execute("INSERT INTO messages SELECT * FROM aside WHERE sequence < 10")
        .await;
    tables
        .execute("DELETE FROM aside WHERE sequence < 10")
        .await;
    wait_for(&all, 1..=14).await;
    assert_eq!(tables.number(looked).await, 1);
    tables.execute(SHOW).await;
    wait_for(&all, 1..=30).await;
    wait_for_number(&tables, floor, 30).await;
    wait_for_condition(&third, false).await;
    assert_eq!(tables.number(COUNT).await, 30);
    assert_eq!(tables.number("SELECT count(*) FROM gone_ranges").await, 0);
}

#[tokio::test]
async fn subscriptions_go_on_when_an_operator_says_that_messages_are_gone() {
    let Some(group) = Group::new(&FLAGS).await else {
        return;
    };
    let tables = group.tables();
    let first = group.server();
    first.wait_until_active().await;
    let client = group.client("me").await;
    publish(&mut client.publisher("orders").await, 30).await;
    client.hold_for("orders", "", "books", 10, 1).await.unwrap();
    wait_for_number(&tables, "SELECT max(last_sent) FROM positions", 10).await;
    first.kill().await;
    let mut lost = hide("sequence BETWEEN 6 AND 8 OR sequence > 25");
    write!(lost, "; DROP TABLE aside").unwrap();
    tables.execute(lost).await;
    let second = group.server();
    second.wait_until_active().await;
    let all = client.subscribe("orders", "", "all").await.unwrap();
    wait_for(&all, 1..=5).await;
    wait_for_condition(&second, true).await;

    // Only of what is not there it is believed.
    let said = "SELECT messages_are_gone('orders', 1, 1000)";
    assert_eq!(tables.number(said).await, 8);
    wait_for(&all, (1..=5).chain(9..=25)).await;
    let floor = "SELECT acked_floor FROM durables WHERE durable_name = 'all'";
    wait_for_number(&tables, floor, 30).await;
    // It has room for others in place of those that are settled.
    let sent = "SELECT count(*) FROM durables WHERE durable_name = 'books' AND last_sent = 13
        AND unacked = 10 AND acked_floor = 0";
    wait_for_number(&tables, sent, 1).await;
    wait_for_condition(&second, false).await;
    wait_for_number(&tables, COUNT, 22).await;
    assert_eq!(tables.number(said).await, 0);
    let shown =
        "SELECT channel || ' ' || first_sequence || ' to ' || last_sequence || ' ' || reason
        FROM gone_messages ORDER BY first_sequence";
    assert_eq!(
        tables.texts(shown).await,
        ["orders 6 to 8 told", "orders 26 to 30 told"]
    );
    let (_, page) = second
        .get("/streaming/channelsz?channel=orders")
        .await
        .unwrap();
    assert!(page.contains("\"msgs\": 22"), "{page}");
}

#[tokio::test]
async fn what_is_deleted_by_hand_counts_no_more_and_a_limit_keeps_what_is_left() {
    let Some(group) = Group::new(&["--lease", "2s", "-max_msgs", "10"]).await else {
        return;
    };
    let tables = group.tables();
    let first = group.server();
    first.wait_until_active().await;
    let client = group.client("me").await;
    let mut publisher = client.publisher("orders").await;
    publish(&mut publisher, 10).await;
    let deleted = "DELETE FROM messages WHERE sequence BETWEEN 3 AND 5 OR sequence = 7";

    // While a server serves.
    tables.execute(deleted).await;
    wait_for_number(&tables, COUNT, 6).await;
    assert_eq!(tables.number(BYTES_DIFFER).await, 0);
    publish(&mut publisher, 4).await;
    let there =
        "SELECT count(*) FROM messages WHERE sequence IN (1, 2, 6, 8, 9, 10, 11, 12, 13, 14)";
    assert_eq!(tables.number(there).await, 10);
    let received = client.subscribe("orders", "", "all").await.unwrap();
    wait_for(&received, [1, 2, 6, 8, 9, 10, 11, 12, 13, 14]).await;

    // While none does.
    first.kill().await;
    tables
        .execute("DELETE FROM messages WHERE sequence IN (8, 9)")
        .await;
    let second = group.server();
    second.wait_until_active().await;
    publish(&mut publisher, 2).await;
    wait_for_number(&tables, COUNT, 10).await;
    assert_eq!(tables.number(BYTES_DIFFER).await, 0);
    let there =
        "SELECT count(*) FROM messages WHERE sequence IN (1, 2, 6, 10, 11, 12, 13, 14, 15, 16)";
    assert_eq!(tables.number(there).await, 10);

    // All of them.
    tables.execute("TRUNCATE messages").await;
    wait_for_number(&tables, COUNT, 0).await;
    publish(&mut publisher, 1).await;
    wait_for_number(&tables, COUNT, 1).await;
    assert_eq!(tables.number(BYTES_DIFFER).await, 0);
    let late = client.subscribe("orders", "", "late").await.unwrap();
    wait_for(&late, [17]).await;
    let floor = "SELECT acked_floor FROM durables WHERE durable_name = 'late'";
    wait_for_number(&tables, floor, 17).await;
}
