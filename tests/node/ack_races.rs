//! A consumer acks in SQL while the active decides that the message is a dead letter: one of the two counts, in whichever order
//! they come, and what the other one would have done is not done.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tokio::task::JoinSet;

use crate::held::publish;
use crate::pair::{Group, LIMIT};
use crate::sql::application;
use crate::stan::StanClient;
use crate::support::wait::wait_until;

/// At once: what is in flight is over its maximum.
const POLICY: &str =
    "SELECT stanby.set_policy('orders', 'd', max_deliveries => 1, dead_letter => 'dead',
    backoff => ARRAY['50 ms']::interval[])";

const GIVEN_UP: &str = "SELECT count(*) FROM stanby.delivery_counts WHERE given_up";

const LETTERS: &str =
    "SELECT origin_sequence::text FROM stanby.dead_letters ORDER BY origin_sequence";

const DONE: &str = "CREATE TABLE done (sequence bigint PRIMARY KEY)";

async fn ack(connection: &mut PgConnection, sequence: u64) -> bool {
    call(connection, "ack", sequence).await.unwrap()
}

async fn call(connection: &mut PgConnection, what: &str, sequence: u64) -> sqlx::Result<bool> {
    let query = AssertSqlSafe(format!(
        "SELECT stanby.{what}('orders', {sequence}, durable => 'd')"
    ));
    sqlx::query_scalar(query).fetch_one(connection).await
}

/// What a consumer does with a message, in the transaction of its ack.
async fn handle(connection: &mut PgConnection, sequence: u64) {
    let effect = format!("INSERT INTO done VALUES ({sequence})");
    connection.execute(AssertSqlSafe(effect)).await.unwrap();
}

async fn wait_for_count(group: &Group, query: &'static str, wanted: i64) {
    let tables = group.tables();
    wait_until(LIMIT, async || match tables.number(query).await {
        count if count == wanted => Ok(()),
        count => Err(format!("{count} of {wanted}: {query}")),
    })
    .await;
}

async fn wait_for_letters(group: &Group, wanted: &[&str]) {
    let tables = group.tables();
    wait_until(LIMIT, async || match tables.texts(LETTERS).await {
        letters if letters == wanted => Ok(()),
        letters => Err(format!("{letters:?}")),
    })
    .await;
    wait_for_count(
        group,
        "SELECT coalesce(sum(lag), 0)::bigint FROM stanby.durables",
        0,
    )
    .await;
}

/// Two messages in flight at a client that acks nothing.
async fn hold_two(group: &Group) -> StanClient {
    let client = group.client("worker").await;
    client.hold_for("orders", "", "d", 500, 1).await.unwrap();
    publish(&client, "orders", 2).await;
    wait_for_count(
        group,
        "SELECT coalesce(max(last_sent), 0) FROM stanby.positions",
        2,
    )
    .await;
    client
}

#[tokio::test]
async fn a_message_whose_ack_in_sql_was_told_to_count_is_no_dead_letter_though_it_commits_later() {
    for takes_over in [false, true] {
        let Some(group) = Group::new(&["--lease", "1s"]).await else {
            return;
        };
        let mut server = group.server();
        server.wait_until_active().await;
        let mut consumer = application(&group).await;
        let mut late = application(&group).await;
        consumer.execute(DONE).await.unwrap();
        let _client = hold_two(&group).await;

        // The first ack in SQL ever, and it is not committed.
        consumer.execute("BEGIN").await.unwrap();
        assert!(ack(&mut consumer, 1).await);
        handle(&mut consumer, 1).await;
        group.tables().execute(POLICY).await;
        wait_for_count(&group, GIVEN_UP, 2).await;
        if takes_over {
            server.signal(Signal::SIGKILL);
            server.end().await;
            server = group.server();
            server.wait_until_active().await;
        }
        // From here on others come too late.
        assert!(!ack(&mut late, 2).await);
        assert!(!call(&mut late, "nack", 2).await.unwrap());
        assert!(group.tables().texts(LETTERS).await.is_empty());

        consumer.execute("COMMIT").await.unwrap();
        wait_for_letters(&group, &["2"]).await;
        wait_for_count(&group, "SELECT count(*) FROM stanby.delivery_counts", 0).await;
        assert!(!ack(&mut late, 2).await, "the dead letter is an ack");
        wait_for_count(&group, "SELECT count(*) FROM public.done", 1).await;
    }
}

#[tokio::test]
async fn a_message_whose_ack_in_sql_is_rolled_back_is_a_dead_letter_and_a_refusal_comes_in_time() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let mut consumer = application(&group).await;
    let mut other = application(&group).await;
    let client = hold_two(&group).await;

    consumer.execute("BEGIN").await.unwrap();
    assert!(ack(&mut consumer, 1).await);
    other.execute("BEGIN").await.unwrap();
    let pause = AssertSqlSafe(
        "SELECT stanby.nack('orders', 2, durable => 'd', delay => '1 hour', reason => 'not yet')"
            .to_owned(),
    );
    let is_told: bool = sqlx::query_scalar(pause)
        .fetch_one(&mut other)
        .await
        .unwrap();
    assert!(is_told);
    group.tables().execute(POLICY).await;
    wait_for_count(&group, GIVEN_UP, 2).await;
    other.execute("COMMIT").await.unwrap();
    consumer.execute("ROLLBACK").await.unwrap();

    let tables = group.tables();
    wait_until(LIMIT, async || match tables.texts(LETTERS).await {
        letters if letters == ["1"] => Ok(()),
        letters => Err(format!("{letters:?}")),
    })
    .await;
    // What was refused waits for its time, and may be acked.
    wait_for_count(&group, GIVEN_UP, 0).await;
    assert!(!ack(&mut consumer, 1).await);
    assert!(ack(&mut consumer, 2).await);
    wait_for_letters(&group, &["1"]).await;
    drop(client);
}

/// Or a load job, in whichever database of the Postgres, would hold them up until it ends.
#[tokio::test]
async fn a_transaction_that_has_acked_nothing_delays_no_dead_letter() {
    let (Some(group), Some(elsewhere)) = (Group::new(&[]).await, Group::new(&[]).await) else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let mut open = Vec::new();
    for of in [&group, &elsewhere] {
        let mut job = application(of).await;
        job.execute("BEGIN; CREATE TABLE loaded (row bigint)")
            .await
            .unwrap();
        open.push(job);
    }
    group.tables().execute(POLICY).await;
    let _client = hold_two(&group).await;
    wait_for_letters(&group, &["1", "2"]).await;
}

#[tokio::test]
async fn each_of_many_messages_is_handled_or_a_dead_letter_while_acks_in_sql_race_with_that() {
    const MESSAGES: u64 = 400;
    const CONSUMERS: u64 = 4;
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let mut operator = application(&group).await;
    operator.execute(DONE).await.unwrap();
    operator.execute(POLICY).await.unwrap();
    let client = group.client("worker").await;
    client.hold_for("orders", "", "d", 500, 1).await.unwrap();

    let mut consumers = JoinSet::new();
    for number in 0..CONSUMERS {
        let mut connection = application(&group).await;
        consumers.spawn(async move {
            for sequence in (1..=MESSAGES).filter(|it| it % CONSUMERS == number) {
                let is_mine = loop {
                    connection.execute("BEGIN").await.unwrap();
                    match call(&mut connection, "ack", sequence).await {
                        Ok(is_mine) => break is_mine,
                        // It was not sent yet.
                        Err(_) => connection.execute("ROLLBACK").await.unwrap(),
                    };
                };
                if is_mine {
                    handle(&mut connection, sequence).await;
                }
                connection.execute("COMMIT").await.unwrap();
            }
        });
    }
    let publish =
        format!("SELECT stanby.publish('orders', n::text) FROM generate_series(1, {MESSAGES}) n");
    operator.execute(AssertSqlSafe(publish)).await.unwrap();
    while let Some(ended) = consumers.join_next().await {
        ended.unwrap();
    }

    wait_for_count(
        &group,
        "SELECT coalesce(sum(lag), 0)::bigint FROM stanby.durables",
        0,
    )
    .await;
    let both = "SELECT count(*) FROM public.done d JOIN stanby.dead_letters l ON l.origin_sequence = d.sequence";
    assert_eq!(
        group.tables().number(both).await,
        0,
        "handled, and dead letters"
    );
    let either =
        "SELECT (SELECT count(*) FROM public.done) + (SELECT count(*) FROM stanby.dead_letters)";
    assert_eq!(
        group.tables().number(either).await,
        i64::try_from(MESSAGES).unwrap()
    );
}
