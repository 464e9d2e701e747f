//! Rows of `channels` that follow a moment later, and an active that is killed before that.

use tokio::time::Instant;

use crate::pair::{LIMIT, Pair};
use crate::stan::Publisher;
use crate::support::wait::wait_until;
use crate::tables::Tables;

/// Channels whose row is not what their messages say.
const WRONG: &str = "SELECT count(*) FROM stanby.channels c CROSS JOIN LATERAL (
        SELECT count(*) AS messages, max(m.sequence) AS last,
            sum(stanby.message_size(m.sequence, m.published_at_ns, octet_length(c.name), octet_length(m.reply), octet_length(m.data)))
                AS bytes
        FROM stanby.messages m WHERE m.channel_id = c.channel_id
    ) m
    WHERE (c.first_sequence, c.last_sequence, c.message_count, c.byte_count) IS DISTINCT FROM (1, m.last, m.messages, m.bytes)
        OR m.last <> m.messages";

const ROWS: &str = "SELECT count(*) FROM stanby.channel_updates";

/// Ten messages for each channel at once, so that the server finds many channels in what it reads.
async fn burst(publishers: &mut [Publisher]) {
    for _ in 0..10 {
        for publisher in &mut *publishers {
            publisher.send().await;
        }
    }
    publishers[0].flush().await;
}

async fn take_all_acks(publishers: &mut [Publisher]) {
    for publisher in publishers {
        publisher.take_all_acks().await;
    }
}

/// Publishes until a commit has left rows of channels for later.
async fn publish_until_behind(publishers: &mut [Publisher], tables: &Tables) {
    let began = Instant::now();
    loop {
        burst(publishers).await;
        take_all_acks(publishers).await;
        if tables.number(ROWS).await > 0 {
            return;
        }
        assert!(began.elapsed() < LIMIT, "each commit has written channels");
    }
}

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
    let tables = pair.group.tables();
    publish_until_behind(&mut publishers, &tables).await;
    burst(&mut publishers).await;

    pair.active.kill().await;

    assert_eq!(pair.standby.wait_until_active().await, 2);
    take_all_acks(&mut publishers).await;
    publish_until_behind(&mut publishers, &tables).await;
    wait_until(LIMIT, async || match tables.number(ROWS).await {
        0 => Ok(()),
        rows => Err(format!("{rows} rows are left")),
    })
    .await;
    assert_eq!(tables.number(WRONG).await, 0);
    let sent: usize = publishers.iter().map(|it| it.published().sent.len()).sum();
    let stored = tables.number("SELECT count(*) FROM stanby.messages").await;
    assert_eq!(usize::try_from(stored), Ok(sent));
    assert_eq!(client.ping().await, Ok(()));
}

#[tokio::test]
async fn a_trigger_that_refuses_one_of_many_channels_keeps_no_standby_from_taking_over() {
    let Some(pair) = Pair::new(&["--lease", "1s"]).await else {
        return;
    };
    let client = pair.group.client("publisher").await;
    let mut publishers = Vec::new();
    for number in 0..100 {
        publishers.push(client.publisher(&format!("channel-{number}")).await);
    }
    let tables = pair.group.tables();
    publish_until_behind(&mut publishers, &tables).await;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'under audit'; END$$;
        CREATE TRIGGER refuse BEFORE UPDATE ON stanby.channels FOR EACH ROW WHEN (OLD.name = 'channel-0') EXECUTE FUNCTION refuse()";
    tables.execute(refuse).await;
    // These append: the trigger sees none of it.
    burst(&mut publishers).await;
    take_all_acks(&mut publishers).await;
    assert!(tables.number(WRONG).await > 0, "channels was written");

    pair.active.kill().await;

    assert_eq!(pair.standby.wait_until_active().await, 2);
    burst(&mut publishers[1..]).await;
    take_all_acks(&mut publishers[1..]).await;
    assert!(tables.number(ROWS).await > 0, "channel-0 was written");
    tables
        .execute("DROP TRIGGER refuse ON stanby.channels")
        .await;
    burst(&mut publishers).await;
    take_all_acks(&mut publishers).await;
    wait_until(LIMIT, async || {
        match tables.number(WRONG).await + tables.number(ROWS).await {
            0 => Ok(()),
            rows => Err(format!("{rows} rows are left")),
        }
    })
    .await;
    let sent: usize = publishers.iter().map(|it| it.published().sent.len()).sum();
    let stored = tables.number("SELECT count(*) FROM stanby.messages").await;
    assert_eq!(usize::try_from(stored), Ok(sent));
}
