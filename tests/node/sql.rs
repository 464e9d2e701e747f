//! Applications that publish in transactions of their own.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::pair::{Group, LIMIT, Pair, wait_for_one_active};
use crate::support::wait::wait_until;

pub(crate) async fn application(group: &Group) -> PgConnection {
    PgConnection::connect(&group.database_url).await.unwrap()
}

async fn text(connection: &mut PgConnection, query: &str) -> String {
    let query = sqlx::query_scalar(AssertSqlSafe(query.to_owned()));
    query.fetch_one(connection).await.unwrap()
}

/// SQLSTATE and hint.
pub(crate) async fn refused(connection: &mut PgConnection, query: &str) -> (String, String) {
    let error = connection
        .execute(AssertSqlSafe(query.to_owned()))
        .await
        .unwrap_err();
    let error = error.into_database_error().unwrap();
    let error = error.downcast_ref::<sqlx::postgres::PgDatabaseError>();
    let hint = error.hint().unwrap_or_default().to_owned();
    (error.code().to_owned(), hint)
}

/// Waits until the channel holds so many messages; their payloads in order.
pub(crate) async fn payloads(group: &Group, channel: &str, count: usize) -> Vec<String> {
    let tables = group.tables();
    let rows = wait_until(LIMIT, async || {
        let rows = tables.messages(channel).await;
        if rows.len() >= count {
            Ok(rows)
        } else {
            Err(format!("{} of {count} in {channel}", rows.len()))
        }
    })
    .await;
    rows.into_iter()
        .map(|row| String::from_utf8(row.data).unwrap())
        .collect()
}

#[tokio::test]
async fn what_a_transaction_publishes_is_delivered_when_it_commits_and_not_when_it_is_rolled_back()
{
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let reader = group.client("reader").await;
    let subscription = reader.subscribe("orders", "", "").await.unwrap();
    let mut first = application(&group).await;
    let mut second = application(&group).await;

    first
        .execute("BEGIN; SELECT stanby.publish('orders', 'early')")
        .await
        .unwrap();
    let guid = text(
        &mut second,
        "SELECT stanby.publish('orders', '{\"id\": 7}'::jsonb)",
    )
    .await;
    assert_eq!(payloads(&group, "orders", 1).await, ["{\"id\": 7}"]);
    second
        .execute("BEGIN; SELECT stanby.publish('orders', 'never'); ROLLBACK")
        .await
        .unwrap();
    // It has the lowest number, and comes last.
    first
        .execute(
            "SAVEPOINT a; SELECT stanby.publish('orders', 'undone'); ROLLBACK TO a; \
                  SELECT stanby.publish('orders', 'late'::bytea); COMMIT",
        )
        .await
        .unwrap();
    assert_eq!(
        payloads(&group, "orders", 3).await,
        ["{\"id\": 7}", "early", "late"]
    );
    wait_until(LIMIT, async || match subscription.sequences().len() {
        3 => Ok(()),
        got => Err(format!("{got} of 3 were delivered")),
    })
    .await;
    let known = format!(
        "SELECT status || ' ' || channel || ' ' || sequence FROM stanby.published('{guid}')"
    );
    assert_eq!(text(&mut second, &known).await, "published orders 1");
    assert_eq!(
        group
            .tables()
            .number("SELECT count(*) FROM stanby.outbox")
            .await,
        0
    );
    let (_, metrics) = server.get("/metrics").await.unwrap();
    assert!(
        metrics.contains("stanby_sql_published_messages_total 3"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_message_with_a_time_is_published_then_and_one_with_a_known_id_is_not_published_again() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let mut application = application(&group).await;
    application
        .execute("SELECT stanby.publish('orders', 'soon', deliver_at => clock_timestamp() + interval '2 seconds');
                  SELECT stanby.publish('orders', 'far', deliver_at => now() + interval '1 day')")
        .await
        .unwrap();
    let first = text(
        &mut application,
        "SELECT stanby.publish('orders', 'paid', msg_id => 'order-7')",
    )
    .await;
    assert_eq!(payloads(&group, "orders", 1).await, ["paid"]);
    let again = text(
        &mut application,
        "SELECT stanby.publish('orders', 'paid again', msg_id => 'order-7')",
    )
    .await;
    assert_eq!(first, again);
    text(
        &mut application,
        "SELECT stanby.publish('other', 'paid', msg_id => 'order-7')",
    )
    .await;
    assert_eq!(payloads(&group, "other", 1).await, ["paid"]);
    assert_eq!(payloads(&group, "orders", 2).await, ["paid", "soon"]);

    let late = "SELECT count(*) FROM stanby.messages WHERE convert_from(data, 'UTF8') = 'soon'
        AND stanby.wall_time(published_at_ns) < (SELECT at FROM stanby.outbox_used LIMIT 1) + interval '1900 milliseconds'";
    assert_eq!(group.tables().number(late).await, 0);
    let waiting = "SELECT count(*) FROM stanby.outbox_status WHERE status = 'scheduled'";
    assert_eq!(group.tables().number(waiting).await, 1);

    // What is rolled back is not known.
    application
        .execute(
            "BEGIN; SELECT stanby.publish('orders', 'x', msg_id => 'order-8'); ROLLBACK;
                  SELECT stanby.publish('orders', 'y', msg_id => 'order-8')",
        )
        .await
        .unwrap();
    assert_eq!(payloads(&group, "orders", 3).await, ["paid", "soon", "y"]);
}

#[tokio::test]
async fn what_cannot_be_published_is_told_at_once_or_set_aside_and_blocks_nobody() {
    let Some(group) = Group::new(&["--max-channels", "1"]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let mut application = application(&group).await;
    for (query, code) in [
        ("SELECT stanby.publish('a/b', 'x')", "STB01"),
        ("SELECT stanby.publish('a..b', 'x')", "STB01"),
        ("SELECT stanby.publish(NULL, 'x')", "STB01"),
        ("SELECT stanby.publish('a', NULL::bytea)", "STB02"),
        ("SELECT stanby.publish('a', 'x', msg_id => '')", "STB03"),
        (
            "SELECT stanby.publish('a', 'x', deliver_at => 'infinity')",
            "STB03",
        ),
        ("SELECT * FROM stanby.published('x')", "STB03"),
    ] {
        let (found, hint) = refused(&mut application, query).await;
        assert_eq!(found, code, "{query}");
        assert!(!hint.is_empty(), "{query}");
    }
    application
        .execute(
            "SELECT stanby.publish('orders', 'a');
                  SELECT stanby.publish('Orders', 'b'); SELECT stanby.publish('more', 'c');
                  SELECT stanby.publish('orders', repeat('x', 2 << 20), msg_id => 'large');
                  SELECT stanby.publish('orders', 'd')",
        )
        .await
        .unwrap();
    assert_eq!(payloads(&group, "orders", 2).await, ["a", "d"]);
    let reasons = "SELECT channel || ': ' || reason FROM stanby.refused_publishes ORDER BY id";
    let reasons = group.tables().texts(reasons).await;
    let [case, full, large] = &reasons[..] else {
        panic!("{reasons:?}");
    };
    assert!(
        case.starts_with("Orders: channel Orders differs from channel orders"),
        "{case}"
    );
    assert!(full.contains("--max-channels"), "{full}");
    assert!(
        large.contains("2097152 bytes") && large.contains("max_payload"),
        "{large}"
    );
    // Of what was refused no duplicate is looked for.
    text(
        &mut application,
        "SELECT stanby.publish('orders', 'e', msg_id => 'large')",
    )
    .await;
    assert_eq!(payloads(&group, "orders", 3).await, ["a", "d", "e"]);
    let (_, metrics) = server.get("/metrics").await.unwrap();
    assert!(
        metrics.contains("stanby_sql_refused_messages_total 3"),
        "{metrics}"
    );
}

/// The application's own table is the judge.
#[tokio::test]
async fn what_transactions_publish_is_there_once_whichever_server_is_killed() {
    const WRITERS: u32 = 4;
    const MESSAGES: &str = "SELECT count(*) FROM stanby.messages";

    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let mut servers = vec![group.server(), group.server()];
    wait_for_one_active(&servers.iter().collect::<Vec<_>>()).await;
    let pool = PgPool::connect(&group.database_url).await.unwrap();
    pool.execute("CREATE TABLE effects (payload text PRIMARY KEY)")
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (pool, stop) = (pool.clone(), stop.clone());
        writers.spawn(async move {
            for number in 0.. {
                if stop.is_cancelled() {
                    return;
                }
                let mut transaction = pool.begin().await.unwrap();
                for part in 0..3 {
                    let payload = format!("{writer}-{number}-{part}");
                    sqlx::query(
                        "INSERT INTO effects SELECT $1::text FROM stanby.publish('orders', $1::text)",
                    )
                    .bind(payload)
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
                }
                if number % 3 == 0 {
                    transaction.rollback().await.unwrap();
                } else {
                    transaction.commit().await.unwrap();
                }
            }
        });
    }
    for _ in 0..3 {
        let active = wait_for_one_active(&servers.iter().collect::<Vec<_>>()).await;
        let before = group.tables().number(MESSAGES).await;
        wait_until(LIMIT, async || {
            match group.tables().number(MESSAGES).await {
                now if now > before + 50 => Ok(()),
                now => Err(format!("{now} messages, {before} before")),
            }
        })
        .await;
        servers.swap_remove(active).kill().await;
        servers.push(group.server());
    }
    stop.cancel();
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let count = "SELECT count(*) FROM public.effects";
    let count = usize::try_from(group.tables().number(count).await).unwrap();
    let published = payloads(&group, "orders", count).await;
    let distinct: BTreeSet<&String> = published.iter().collect();
    assert_eq!(distinct.len(), published.len(), "some were published twice");
    let effects: Vec<String> = sqlx::query_scalar("SELECT payload FROM effects")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(effects.iter().collect::<BTreeSet<_>>(), distinct);
    // Each connection's are in its order.
    for writer in 0..WRITERS {
        let own = published
            .iter()
            .filter(|payload| payload.starts_with(&format!("{writer}-")));
        let own: Vec<(u64, u64)> = own
            .map(|payload| {
                let mut parts = payload.split('-').skip(1).map(|part| part.parse().unwrap());
                (parts.next().unwrap(), parts.next().unwrap())
            })
            .collect();
        assert!(own.is_sorted(), "{own:?}");
    }
    assert_eq!(
        group
            .tables()
            .number("SELECT count(*) FROM stanby.outbox")
            .await,
        0
    );
}

#[tokio::test]
async fn what_is_published_while_no_server_is_active_is_taken_by_the_next_one() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let Pair {
        group,
        mut active,
        mut standby,
    } = pair;
    for server in [&mut active, &mut standby] {
        server.signal(Signal::SIGTERM);
        server.end().await;
    }
    let mut application = application(&group).await;
    application
        .execute("SELECT stanby.publish('orders', n::text) FROM generate_series(1, 10000) n")
        .await
        .unwrap();
    let _server = group.server();
    let expected: Vec<String> = (1..=10_000).map(|n: u32| n.to_string()).collect();
    assert_eq!(payloads(&group, "orders", 10_000).await, expected);
}

#[tokio::test]
async fn a_role_that_may_publish_may_do_nothing_else() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let mut owner = application(&group).await;
    let role = format!("publisher_{}", group.cluster_id);
    owner
        .execute(AssertSqlSafe(format!(
            "CREATE ROLE {role}; SELECT stanby.grant_to_publisher('{role}'); CREATE ROLE {role}_not"
        )))
        .await
        .unwrap();
    owner
        .execute(AssertSqlSafe(format!(
            "GRANT USAGE ON SCHEMA stanby TO {role}_not; SET ROLE {role}_not"
        )))
        .await
        .unwrap();
    assert_eq!(
        refused(&mut owner, "SELECT stanby.publish('orders', 'x')")
            .await
            .0,
        "42501"
    );
    owner
        .execute(AssertSqlSafe(format!("RESET ROLE; SET ROLE {role}")))
        .await
        .unwrap();
    // Names of its own lead nowhere.
    owner
        .execute("CREATE TEMPORARY TABLE outbox (LIKE pg_class); CREATE TEMPORARY TABLE outbox_used (at int);
                  SELECT stanby.publish('orders', 'x')")
        .await
        .unwrap();
    for table in [
        "outbox",
        "messages",
        "outbox_refused",
        "message_ids",
        "channels",
        "subscriptions",
    ] {
        let query = format!("SELECT FROM stanby.{table}");
        assert_eq!(refused(&mut owner, &query).await.0, "42501", "{table}");
        let query = format!("DELETE FROM stanby.{table}");
        assert_eq!(refused(&mut owner, &query).await.0, "42501", "{table}");
    }
    assert_eq!(
        refused(
            &mut owner,
            "SELECT stanby.take_outbox('{1}', '{}', '{}', '{}')"
        )
        .await
        .0,
        "42501"
    );
    assert_eq!(
        refused(&mut owner, "SELECT stanby.retry_refused()").await.0,
        "42501"
    );
    assert_eq!(payloads(&group, "orders", 1).await, ["x"]);
    owner
        .execute(AssertSqlSafe(format!(
            "RESET ROLE; DROP OWNED BY {role}, {role}_not; DROP ROLE {role}, {role}_not"
        )))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_row_that_postgres_refuses_is_set_aside_and_those_around_it_are_published() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    group
        .tables()
        .execute("ALTER TABLE stanby.messages ADD CONSTRAINT no_bad_ones CHECK (data <> 'bad')")
        .await;
    let mut application = application(&group).await;
    application
        .execute(
            "SELECT stanby.publish('orders', n::text) FROM generate_series(1, 20) n;
             SELECT stanby.publish('orders', 'bad');
             SELECT stanby.publish('orders', n::text) FROM generate_series(21, 40) n",
        )
        .await
        .unwrap();
    let expected: Vec<String> = (1..=40).map(|n: u32| n.to_string()).collect();
    assert_eq!(payloads(&group, "orders", 40).await, expected);
    let reason = "SELECT reason FROM stanby.refused_publishes";
    let reasons = group.tables().texts(reason).await;
    assert!(
        matches!(&reasons[..], [reason] if reason.contains("no_bad_ones")),
        "{reasons:?}"
    );
    group
        .tables()
        .execute("ALTER TABLE stanby.messages DROP CONSTRAINT no_bad_ones; SELECT stanby.retry_refused()")
        .await;
    assert_eq!(payloads(&group, "orders", 41).await[40], "bad");
}
