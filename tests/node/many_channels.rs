//! Rows of `channels` that follow a moment later, and an active that is killed before that.

use crate::pair::{LIMIT, Pair};
use crate::stan::Load;
use crate::support::wait::wait_until;

/// Channels whose row is not what their messages say.
const WRONG: &str = "SELECT count(*) FROM stanby.channels c CROSS JOIN LATERAL (
        SELECT count(*) AS messages, max(m.sequence) AS last,
            sum(stanby.message_size(m.sequence, m.published_at_ns, octet_length(c.name), octet_length(m.reply), octet_length(m.data)))
                AS bytes
        FROM stanby.messages m WHERE m.channel_id = c.channel_id
    ) m
    WHERE (c.first_sequence, c.last_sequence, c.message_count, c.byte_count) IS DISTINCT FROM (1, m.last, m.messages, m.bytes)
        OR m.last <> m.messages";

#[tokio::test]
async fn an_active_that_is_killed_amid_many_channels_leaves_each_as_it_was() {
    let Some(pair) = Pair::new(&["--lease", "1s"]).await else {
        return;
    };
    let client = pair.group.client("publisher").await;
    let mut publishers = Vec::new();
    for number in 0..100 {
        publishers.push(client.publisher(&format!("channel-{number}")).await);
    }
    let load = Load::start(publishers, 32);
    let tables = pair.group.tables();
    let rows = "SELECT count(*) FROM stanby.channel_updates";
    let updates = async || match tables.number(rows).await {
        0 => Err("no commit has left rows of channels for later".to_owned()),
        _ => Ok(()),
    };
    wait_until(LIMIT, updates).await;

    pair.active.kill().await;

    assert_eq!(pair.standby.wait_until_active().await, 2);
    let acked = load.acked() + 5_000;
    wait_until(LIMIT, async || match load.acked() {
        now if now >= acked => Ok(()),
        now => Err(format!("{now} of {acked} acks")),
    })
    .await;
    wait_until(LIMIT, updates).await;
    let published = load.finish().await;
    assert_eq!(published.errors, [""; 0]);
    assert_eq!(published.acked.len(), published.sent.len(), "all are acked");
    wait_until(LIMIT, async || match tables.number(rows).await {
        0 => Ok(()),
        rows => Err(format!("{rows} rows are left")),
    })
    .await;
    assert_eq!(tables.number(WRONG).await, 0);
    let stored = "SELECT count(*) FROM stanby.messages";
    let sent = i64::try_from(published.sent.len()).expect("as many as that");
    assert_eq!(tables.number(stored).await, sent);
    assert_eq!(client.ping().await, Ok(()));
}
