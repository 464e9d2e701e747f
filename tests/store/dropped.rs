//! How much of what limits have dropped a takeover reads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stanby::core::ids::{ChannelId, Guid, Sequence};
use stanby::core::replay::{SearchRange, Stored};
use stanby::core::takeover::FindPublishes;
use stanby::core::time::Timestamp;
use tokio_postgres::Client;

use super::fixture::{Fixture, PATIENCE, migrated};
use super::support::wait::wait_until;

/// Where the messages of today begin: what was dropped before has lower sequences.
const TODAY: i64 = 1_000_000;

/// A channel in which something was received, and one from which late copies may come; a takeover in its first minute.
fn wanted() -> FindPublishes {
    let range = |after: i64, floor: i64| SearchRange {
        after: Sequence(after.unsigned_abs()),
        since: Timestamp(0),
        floor: Sequence(floor.unsigned_abs()),
    };
    FindPublishes {
        ranges: BTreeMap::from([
            (ChannelId(1), range(TODAY + 10, TODAY)),
            (ChannelId(2), range(TODAY + 50, TODAY + 20)),
        ]),
        guids: BTreeSet::new(),
        dropped_within: Duration::from_mins(1),
        others_max: usize::MAX,
    }
}

/// One message at a time: each is a row.
async fn drop_messages(
    client: &Client,
    channel: i64,
    through: std::ops::RangeInclusive<i64>,
    ago: &str,
) {
    let dropped = "INSERT INTO dropped_guids (channel_id, through, channel, guids, dropped_at)
        SELECT $1::bigint, n, format('c%s', $1::bigint), ARRAY[format('c%s-%s', $1::bigint, n)], clock_timestamp() - $4::text::interval
        FROM generate_series($2::bigint, $3) n";
    let (first, last) = through.into_inner();
    client
        .execute(dropped, &[&channel, &first, &last, &ago])
        .await
        .unwrap();
}

fn guids(stored: &Stored) -> BTreeSet<Guid> {
    let dropped = stored.dropped.iter();
    dropped.map(|(_, publish)| publish.guid.clone()).collect()
}

fn of(channel: i64, numbers: std::ops::RangeInclusive<i64>) -> impl Iterator<Item = Guid> {
    numbers.map(move |n| Guid::parse(format!("c{channel}-{n}").into()).unwrap())
}

#[tokio::test]
async fn dropped_publishes_are_found_by_number_where_something_was_heard_and_by_time_elsewhere() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    // The clock of Postgres has jumped since.
    drop_messages(&client, 1, TODAY + 1..=TODAY + 19, "50 minutes").await;
    drop_messages(&client, 1, TODAY + 20..=TODAY + 29, "20 s").await;
    drop_messages(&client, 2, TODAY + 1..=TODAY + 29, "20 s").await;
    // Deleted with its channel, which is in no range.
    drop_messages(&client, 3, 1..=9, "2 minutes").await;
    drop_messages(&client, 3, 10..=19, "20 s").await;

    let stored = fixture.store.stored(&wanted()).await.unwrap();

    let expected = of(1, TODAY + 11..=TODAY + 29)
        .chain(of(2, TODAY + 21..=TODAY + 29))
        .chain(of(3, 10..=19));
    assert_eq!(guids(&stored), expected.collect());
}

/// Rows of `dropped_guids` that Postgres has read for the session that has ended: it counts them then.
async fn rows_read(client: &Client) -> i64 {
    let read =
        "SELECT pg_stat_clear_snapshot()::text, coalesce(idx_scan, 0) + coalesce(seq_scan, 0),
            coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0)
        FROM pg_stat_user_tables WHERE relid = 'dropped_guids'::regclass";
    wait_until(PATIENCE, async || {
        let row = client.query_one(read, &[]).await.unwrap();
        let (scans, rows): (i64, i64) = (row.get(1), row.get(2));
        if scans > 0 {
            Ok(rows)
        } else {
            Err("nobody has read the table".to_owned())
        }
    })
    .await
}

/// Rows that the takeover is given, and rows that Postgres read for that.
async fn cost(fixture: &Fixture, old: i64) -> (usize, i64) {
    let client = fixture.client().await;
    drop_messages(&client, 1, 1..=old, "30 minutes").await;
    drop_messages(&client, 3, 1..=old, "30 minutes").await;
    drop_messages(&client, 1, TODAY + 1..=TODAY + 100, "20 s").await;
    drop_messages(&client, 2, TODAY + 1..=TODAY + 100, "20 s").await;
    client
        .batch_execute("SELECT pg_stat_reset()")
        .await
        .unwrap();
    let session = fixture.client().await;

    let stored = fixture.store.stored_on(&session, &wanted()).await.unwrap();
    drop(session);

    (stored.dropped.len(), rows_read(&client).await)
}

#[tokio::test]
async fn a_takeover_reads_no_more_of_a_hundred_thousand_dropped_publishes_than_of_a_hundred() {
    let Some(few) = migrated().await else {
        return;
    };
    let Some(many) = migrated().await else {
        return;
    };

    let (told_of_few, read_of_few) = cost(&few, 50).await;
    let (told_of_many, read_of_many) = cost(&many, 50_000).await;

    assert_eq!(told_of_many, told_of_few);
    assert!(
        read_of_many <= read_of_few,
        "{read_of_many} rows are read of many, {read_of_few} of few"
    );
}
