//! Every second message is acked: what a server writes follows from what is acked, and a takeover knows each of them.

use crate::held::publish;
use crate::pair::{LIMIT, Pair};
use crate::support::wait::wait_until;
use crate::tables::Tables;

const CHANNEL: &str = "orders";
const MESSAGES: u16 = 3000;

async fn wait_for_number(tables: &Tables, query: &'static str, wanted: i64) {
    wait_until(LIMIT, async || match tables.number(query).await {
        found if found == wanted => Ok(()),
        found => Err(format!("{found} instead of {wanted}: {query}")),
    })
    .await;
}

#[tokio::test]
async fn sparse_acks_are_pages_that_a_takeover_reads_and_few_gaps_are_a_row() {
    let Some(pair) = Pair::new(&["--lease", "1s"]).await else {
        return;
    };
    let alice = pair.group.client("alice").await;
    let mut taker = alice.take(CHANNEL, ("", "books"), 10_000).await;
    publish(&alice, CHANNEL, MESSAGES.into()).await;
    let all = taker.wait_for(MESSAGES.into()).await;
    for &sequence in all.iter().filter(|&sequence| sequence % 2 == 0) {
        taker.ack(sequence).await;
    }
    let tables = pair.group.tables();
    let unacked = "SELECT unacked FROM durables";
    let half = i64::from(MESSAGES / 2);
    wait_for_number(&tables, unacked, half).await;
    // 3,000 sequences are three pages of 128 bytes; as ranges they were a row of 24,000.
    let pages = "SELECT count(*) FROM position_acks";
    assert_eq!(tables.number(pages).await, 3);
    let row = "SELECT max(pg_column_size(acked_above))::bigint FROM positions";
    assert!(tables.number(row).await < 100);
    let oldest = "SELECT oldest_server FROM schema_compatibility";
    assert_eq!(tables.number(oldest).await, 22);

    pair.active.kill().await;
    assert_eq!(pair.standby.wait_until_active().await, 2);
    assert_eq!(tables.number(unacked).await, half);
    publish(&alice, CHANNEL, 1).await;
    let new = taker.wait_for(usize::from(MESSAGES) + 1).await;
    let last = u64::from(MESSAGES) + 1;
    assert_eq!(new.last(), Some(&last));

    for &sequence in all.iter().filter(|&sequence| sequence % 2 == 1) {
        taker.ack(sequence).await;
    }
    taker.ack(last).await;
    wait_for_number(&tables, unacked, 0).await;
    assert_eq!(tables.number(pages).await, 0);
    assert_eq!(tables.number(oldest).await, 1);
    let again = taker.again();
    assert!(
        again.iter().all(|sequence| sequence % 2 == 1),
        "an acked one came again: {again:?}"
    );
}
