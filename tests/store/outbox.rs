//! What a read of the outbox says of transactions that may still add rows to it, or to what is acked in SQL.

use stanby::config::database::DatabaseUrl;
use stanby::core::ids::{ChannelId, LoadId};
use stanby::core::load::{Load, LoadQuery, Loaded};
use stanby::core::outbox::OutboxPage;
use stanby::core::time::Timestamp;
use stanby::store::Store;
use tokio_postgres::Client;
use tokio_util::task::TaskTracker;

use super::fixture::{Fixture, PATIENCE, SCHEMA, TIMEOUT, migrated};
use super::shared::session;
use super::support::postgres::own_server;
use super::support::wait::wait_until;
use super::views::populate;

async fn page(fixture: &Fixture) -> OutboxPage {
    read(fixture, false).await
}

async fn read(fixture: &Fixture, settles: bool) -> OutboxPage {
    read_of(&fixture.store, settles).await
}

async fn read_of(store: &Store, settles: bool) -> OutboxPage {
    read_where(store, &[(1, u64::MAX)], settles).await
}

/// Rows, and acks, with these numbers.
async fn read_where(store: &Store, gaps: &[(u64, u64)], settles: bool) -> OutboxPage {
    let load = Load {
        id: LoadId(1),
        channel: ChannelId(0),
        query: LoadQuery::Outbox {
            gaps: gaps.to_vec(),
            ack_gaps: gaps.to_vec(),
            due: Timestamp(0),
            put_off: Vec::new(),
            rows: 10_000,
            bytes: 1 << 20,
            payload_bytes: 1 << 20,
            settles,
        },
    };
    let Loaded::Outbox(page) = store.load(&load).await.unwrap() else {
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
    assert_eq!(page(&fixture).await.rows.len(), 3);
    // Those of other tests, too.
    wait_until(PATIENCE, async || match page(&fixture).await {
        page if page.ended_before >= seen.next => Ok(()),
        page => Err(format!("{page:?}")),
    })
    .await;
}

/// A page that says so. Transactions of other tests that end between its snapshot and its look at the locks count as open.
async fn settled(fixture: &Fixture, before: u64) -> OutboxPage {
    wait_until(PATIENCE, async || match read(fixture, true).await {
        page if page.acks_ended_before >= before => Ok(page),
        page => Err(format!("{page:?}")),
    })
    .await
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
    let seen = settled(&fixture, seen.next).await;
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
    let seen_last = settled(&fixture, seen.next).await;
    let acked: Vec<u64> = seen_last.acks.iter().map(|row| row.sequence.0).collect();
    assert_eq!(acked, [1]);
}

/// Postgres takes it out of those that run first, and gives up its locks one after the other: this one has many.
#[tokio::test]
async fn an_ack_whose_transaction_is_just_ending_is_not_passed_over() {
    const ACKS: i64 = 100;
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    let tables = "DO $$ BEGIN FOR i IN 1..1500 LOOP EXECUTE format('CREATE TABLE t%s ()', i); END LOOP; END $$";
    client.batch_execute(tables).await.unwrap();
    let mut acking = TaskTracker::new().spawn(async move {
        let lock = "DO $$ BEGIN FOR i IN 1..1500 LOOP
                EXECUTE format('LOCK TABLE t%s IN SHARE UPDATE EXCLUSIVE MODE', i); END LOOP; END $$";
        for sequence in 1..=ACKS {
            client.batch_execute("BEGIN").await.unwrap();
            ack(&client, sequence).await;
            client.batch_execute(lock).await.unwrap();
            client.batch_execute("COMMIT").await.unwrap();
        }
    });
    let mut pages = Vec::new();
    while !acking.is_finished() {
        let seen = read(&fixture, true).await;
        let last = seen.acks.iter().map(|row| row.sequence.0).max();
        pages.push((seen.acks_ended_before, last.unwrap_or_default()));
    }
    (&mut acking).await.unwrap();

    let numbers = "SELECT xmin::text::bigint, sequence FROM pending_acks";
    let acks = fixture.client().await.query(numbers, &[]).await.unwrap();
    assert_eq!(acks.len(), usize::try_from(ACKS).unwrap());
    for row in acks {
        let (number, sequence) = (row.get::<_, i64>(0), row.get::<_, i64>(1));
        let missing = pages.iter().find(|(before, last)| {
            number.cast_unsigned() < *before && sequence.cast_unsigned() > *last
        });
        assert_eq!(missing, None, "{sequence} was acked by {number}");
    }
}

/// Parts of a transaction have numbers of their own, as each block of PL/pgSQL that catches errors.
#[tokio::test]
async fn parts_of_a_transaction_that_has_acked_nothing_delay_no_dead_letter_where_nobody_else_writes()
 {
    let Some(postgres) = own_server().await else {
        return;
    };
    let url = DatabaseUrl::parse(&postgres.url()).unwrap();
    let store = Store::open(&url, "stanby", "stanby/test", TIMEOUT);
    store.migrate().await.unwrap();
    let loading = session(&postgres.url()).await;
    let load = "BEGIN; CREATE TABLE loaded (row bigint);
        DO $$ BEGIN FOR i IN 1..3000 LOOP
            BEGIN INSERT INTO loaded VALUES (i); EXCEPTION WHEN unique_violation THEN NULL; END;
        END LOOP; END $$";
    loading.batch_execute(load).await.unwrap();

    let seen = read_of(&store, true).await;
    let seen_again = read_of(&store, true).await;
    assert!(
        seen_again.acks_ended_before >= seen.next,
        "{seen:?} {seen_again:?}"
    );
    assert!(seen_again.ended_before < seen.next, "{seen_again:?}");
    loading.batch_execute("ROLLBACK").await.unwrap();
}

/// Its look at the mark is held up: what it sees is from before.
#[tokio::test]
async fn a_dead_letter_waits_for_who_acks_or_refuses_in_sql_and_has_not_seen_its_mark() {
    const HOLD_UP: &str = "SELECT pg_advisory_lock(1)";
    const HELD_UP: &str =
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let Some(fixture) = migrated().await else {
        return;
    };
    populate(&fixture).await;
    let client = fixture.client().await;
    let slow = "ALTER TABLE delivery_counts RENAME TO counts;
        CREATE FUNCTION held_up() RETURNS SETOF counts LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); END $$;
        CREATE VIEW delivery_counts AS SELECT * FROM held_up() UNION ALL SELECT * FROM counts";
    client.batch_execute(slow).await.unwrap();

    for (call, sequence) in [("ack", 3_u32), ("nack", 4)] {
        client.execute(HOLD_UP, &[]).await.unwrap();
        let consumer = fixture.client().await;
        let answer = TaskTracker::new().spawn(async move {
            let call = format!("SELECT {call}('orders', {sequence}, durable => 'stalled')");
            consumer.query_one_scalar::<bool, _>(&call, &[]).await
        });
        wait_until(PATIENCE, async || {
            match client.query_one_scalar::<i64, _>(HELD_UP, &[]).await {
                Ok(1) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let mark = "INSERT INTO counts (position_id, sequence, deliveries, reason, given_up) VALUES (2, $1, 5, '', true)";
        client.execute(mark, &[&i64::from(sequence)]).await.unwrap();

        let marked = read(&fixture, true).await;
        assert!(marked.acks_ended_before < marked.next, "{call}: {marked:?}");

        let release = "SELECT pg_advisory_unlock(1)";
        client.execute(release, &[]).await.unwrap();
        assert!(answer.await.unwrap().unwrap(), "it came before the mark");
        let page = settled(&fixture, marked.next).await;
        let last = page.acks.last().map(|row| row.sequence.0);
        assert_eq!(last, Some(sequence.into()), "{page:?}");
    }
}

/// Entries of indexes that Postgres goes through for a page.
async fn entries_read(fixture: &Fixture, gaps: &[(u64, u64)]) -> i64 {
    let client = fixture.client().await;
    client
        .batch_execute("SELECT pg_stat_reset()")
        .await
        .unwrap();
    let store = Store::open(&fixture.url, SCHEMA, "stanby/test", TIMEOUT);
    assert_eq!(read_where(&store, gaps, false).await.rows.len(), 0);
    // Its session counts when it ends.
    drop(store);
    let read =
        "SELECT pg_stat_clear_snapshot()::text, sum(idx_scan)::bigint, sum(idx_tup_read)::bigint
        FROM pg_stat_user_indexes WHERE relid IN ('outbox'::regclass, 'pending_acks'::regclass)";
    wait_until(PATIENCE, async || {
        let row = client.query_one(read, &[]).await.unwrap();
        let (scans, entries): (i64, i64) = (row.get(1), row.get(2));
        if scans > 0 {
            Ok(entries)
        } else {
            Err("nobody has read the tables".to_owned())
        }
    })
    .await
}

/// Nothing that is deleted meanwhile can be vacuumed, and the numbers of the open one are below all of it.
#[tokio::test]
async fn a_page_costs_no_more_after_what_was_drained_while_one_transaction_stays_open() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let [open, others] = [fixture.client().await, fixture.client().await];
    publish(&others, "for the first time").await;
    begin(&open).await;
    publish(&open, "later").await;
    ack(&open, 1).await;
    let drained = "SELECT count(publish('orders', n::text)) FROM generate_series(3, 5000) n;
        INSERT INTO pending_acks (position_id, sequence) SELECT 1, n FROM generate_series(2, 5000) n;
        DELETE FROM outbox; DELETE FROM pending_acks";
    others.batch_execute(drained).await.unwrap();

    let of_all = entries_read(&fixture, &[(1, u64::MAX)]).await;
    let of_gaps = entries_read(&fixture, &[(1, 2), (5001, u64::MAX)]).await;

    assert!(of_all > 9_000, "{of_all} entries are in the way");
    assert!(of_gaps < 10, "{of_gaps} entries were gone through");
    open.batch_execute("COMMIT").await.unwrap();
    let page = read_where(&fixture.store, &[(1, 2), (5001, u64::MAX)], false).await;
    assert_eq!((page.rows.len(), page.acks.len()), (1, 1), "{page:?}");
}
