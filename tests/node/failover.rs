//! Tables that know less than the servers, as after a failover of Postgres to a replica that was behind. (The real
//! failover is one of the chaos tests' faults; here what is lost is chosen.)

use crate::pair::{Group, LIMIT, Pair};
use crate::stan::Publisher;
use crate::support::wait::wait_until;
use crate::tables::Row;

const CHANNEL: &str = "orders";
const LEASE: [&str; 2] = ["--lease", "1s"];
const KEPT: i64 = 10;
const LAST: i64 = 20;

/// What the tables are like on a replica that had got the first ten messages. (A failover sets off no triggers.)
fn loss() -> String {
    format!(
        "BEGIN;
         SET LOCAL session_replication_role = replica;
         DELETE FROM stanby.messages WHERE sequence > {KEPT};
         UPDATE stanby.channels SET last_sequence = {KEPT}, message_count = {KEPT},
            byte_count = byte_count * {KEPT} / {LAST};
         UPDATE stanby.leadership SET timeline = timeline - 1;
         COMMIT;"
    )
}

async fn publish_all(publisher: &mut Publisher) {
    for _ in 0..LAST {
        publisher.send_until_acked(LIMIT).await;
    }
    assert_eq!(publisher.published().sent.len(), 20, "none was sent twice");
}

/// Of the one failover: restored, lost and perhaps lost messages.
async fn told(group: &Group) -> [i64; 3] {
    let tables = group.tables();
    assert_eq!(
        tables
            .number("SELECT count(*) FROM stanby.database_failovers")
            .await,
        1
    );
    [
        tables
            .number("SELECT restored FROM stanby.database_failovers")
            .await,
        tables
            .number("SELECT lost FROM stanby.database_failovers")
            .await,
        tables
            .number("SELECT unknown FROM stanby.database_failovers")
            .await,
    ]
}

fn content(rows: &[Row]) -> Vec<(i64, &str, &[u8])> {
    let content = rows
        .iter()
        .map(|row| (row.sequence, row.guid.as_str(), row.data.as_slice()));
    content.collect()
}

#[tokio::test]
async fn an_active_puts_back_what_a_failover_of_postgres_has_lost() {
    let Some(group) = Group::new(&LEASE).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("steady").await;
    let received = client.subscribe(CHANNEL, "", "books").await.unwrap();
    let mut publisher = client.publisher(CHANNEL).await;
    publish_all(&mut publisher).await;
    let before = group.tables().messages(CHANNEL).await;

    let ends = "SELECT pg_terminate_backend(backend_pid) FROM stanby.leadership";
    group.tables().execute(loss() + ends).await;

    publisher.send_until_acked(LIMIT).await;
    let rows = group.tables().messages(CHANNEL).await;
    let (again, next) = rows.split_at(before.len());
    assert_eq!(content(again), content(&before));
    assert_eq!(next[0].sequence, LAST + 1);
    assert_eq!(told(&group).await, [LAST - KEPT, 0, 0]);
    wait_until(LIMIT, async || match received.sequences().len() {
        got if got == rows.len() => Ok(()),
        got => Err(format!("{got} of {}", rows.len())),
    })
    .await;
    let metrics = server.get("/metrics").await.unwrap().1;
    assert!(
        metrics.contains("stanby_failover_restored_messages_total 10"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_standby_uses_no_sequence_again_that_a_failover_of_postgres_has_lost() {
    // With the requests of the last moments in its memory, a standby would store them anew.
    let flags = [LEASE[0], LEASE[1], "--shadow=false"];
    let Some(pair) = Pair::new(&flags).await else {
        return;
    };
    let tables = pair.group.tables();
    let client = pair.group.client("steady").await;
    let mut publisher = client.publisher(CHANNEL).await;
    publish_all(&mut publisher).await;
    // A standby looks how far the channels are while it waits; when it looks again, it has taken in what it saw before. The
    // first look that shows may be an earlier one: Postgres counts with a delay.
    tables.execute("CREATE TABLE noted (scans bigint)").await;
    let looked = "SELECT count(*) FROM pg_stat_all_tables, noted
        WHERE relid = 'channels'::regclass AND seq_scan > scans";
    for _ in 0..3 {
        tables
            .execute(
                "DELETE FROM noted; INSERT INTO noted
                 SELECT seq_scan FROM pg_stat_all_tables WHERE relid = 'channels'::regclass",
            )
            .await;
        wait_until(LIMIT, async || match tables.number(looked).await {
            0 => Err("the standby has not looked since".to_owned()),
            _ => Ok(()),
        })
        .await;
    }

    pair.group.tables().execute(loss()).await;
    pair.active.kill().await;
    assert_eq!(pair.standby.wait_until_active().await, 2);

    publisher.send_until_acked(LIMIT).await;
    assert_eq!(told(&pair.group).await, [0, LAST - KEPT, 0]);
    let rows = tables.messages(CHANNEL).await;
    let used: Vec<i64> = rows.iter().map(|row| row.sequence).collect();
    let (kept, later) = used.split_at(10);
    assert_eq!(kept, (1..=KEPT).collect::<Vec<_>>());
    assert!(later.iter().all(|&sequence| sequence > LAST), "{later:?}");
    let log = pair.standby.log();
    assert!(log.contains("has lost acked messages"), "{log}");
}
