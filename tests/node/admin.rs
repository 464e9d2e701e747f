//! What operators change while servers run: in SQL, on the command line, over HTTP (`admin_api`); and what connected clients see of it.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

mod requests;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use crate::cli::{code, stanby, stderr, stdout};
use crate::pair::{Group, LIMIT, Pair, Says};
use crate::stan::StanClient;
use crate::support::wait::wait_until;

pub(crate) struct Operator<'a> {
    group: &'a Group,
    session: PgConnection,
}

impl<'a> Operator<'a> {
    pub(crate) async fn of(group: &'a Group) -> Self {
        let session = PgConnection::connect(&group.database_url).await.unwrap();
        Self { group, session }
    }

    /// Calls a procedure; its result.
    pub(crate) async fn call(&mut self, call: &str) -> Value {
        let row = self
            .session
            .fetch_one(AssertSqlSafe(format!("CALL stanby.{call}")));
        let result: String = row.await.unwrap().try_get_unchecked(0).unwrap();
        serde_json::from_str(&result).unwrap()
    }

    /// Message, SQLSTATE and hint.
    pub(crate) async fn refused(&mut self, call: &str) -> [String; 3] {
        let called = self
            .session
            .execute(AssertSqlSafe(format!("CALL stanby.{call}")));
        let error = called.await.unwrap_err().into_database_error().unwrap();
        let error = error.downcast::<sqlx::postgres::PgDatabaseError>();
        let hint = error.hint().unwrap_or_default();
        [error.message(), error.code(), hint].map(str::to_owned)
    }

    pub(crate) async fn run(&mut self, statement: &str) {
        let statement = AssertSqlSafe(statement.to_owned());
        self.session.execute(statement).await.unwrap();
    }

    /// The answer of a command that changes something.
    pub(crate) async fn command(&self, args: &[&str]) -> Value {
        let answer = self.rows(&[args, &["--yes"]].concat()).await;
        answer["result"].clone()
    }

    /// What a command prints as JSON.
    pub(crate) async fn rows(&self, args: &[&str]) -> Value {
        let more = ["--json", "--database-url", &self.group.database_url];
        let output = stanby(&[args, &more].concat()).await;
        assert_eq!(code(&output), Some(0), "{args:?}: {}", stderr(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    }

    /// What a command says that has no answer, and its exit code.
    pub(crate) async fn command_fails(&self, args: &[&str]) -> (Option<i32>, String) {
        let more = ["--database-url", &self.group.database_url];
        let output = stanby(&[args, &more].concat()).await;
        (code(&output), stderr(&output))
    }
}

pub(crate) async fn publish(client: &StanClient, channel: &str, count: usize) {
    let mut publisher = client.publisher(channel).await;
    for _ in 0..count {
        // Each has a time of its own.
        publisher.send().await;
        publisher.take_all_acks().await;
    }
}

pub(crate) async fn sequences(group: &Group, channel: &str) -> Vec<i64> {
    let rows = group.tables().messages(channel).await;
    rows.into_iter().map(|row| row.sequence).collect()
}

#[tokio::test]
async fn a_durable_is_moved_in_sql_and_by_command_and_its_client_goes_on_from_there() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let group = &pair.group;
    let mut operator = Operator::of(group).await;
    let client = group.client("billing").await;
    let subscription = client.subscribe("orders", "", "d").await.unwrap();
    let queue = client.subscribe("orders", "workers", "q").await.unwrap();
    publish(&client, "orders", 6).await;
    let received = async |count: usize| {
        wait_until(LIMIT, async || {
            let found = subscription.received().len();
            let all_acked = group
                .tables()
                .number("SELECT count(*) FROM stanby.position_status WHERE lag > 0 OR unacked > 0")
                .await;
            if found == count && all_acked == 0 {
                Ok(())
            } else {
                Err(format!("{found} of {count}, {all_acked} behind"))
            }
        })
        .await;
    };
    received(6).await;
    let moved = operator.call("seek('orders', 'd', 'first')").await;
    assert_eq!(
        moved,
        json!({"durable": "d", "client_id": "billing", "from_sequence": 7, "to_sequence": 1,
               "messages": 6, "in_flight_before": 0, "first_unacked": 7, "passed_over": 0, "members": 1})
    );
    received(12).await;
    assert_eq!(
        operator.call("seek('orders', 'd', sequence => 5)").await["messages"],
        2
    );
    received(14).await;
    let time =
        "SELECT stanby.wall_time(published_at_ns)::text FROM stanby.messages WHERE sequence = 4";
    let time = group.tables().texts(time).await.remove(0);
    let moved = operator
        .call(&format!("seek('orders', 'd', \"time\" => '{time}')"))
        .await;
    assert_eq!(moved["to_sequence"], 4);
    received(17).await;
    let seek = ["durable", "seek", "orders"];
    let args = [&seek, &["d", "--to", "last"][..]].concat();
    assert_eq!(operator.command(&args).await["to_sequence"], 6);
    received(18).await;
    let args = [&seek, &["d", "--to", "new", "--dry-run"][..]].concat();
    assert_eq!(operator.command(&args).await["messages"], 0);
    let args = [&seek, &["d", "--time", "1 hour"][..]].concat();
    assert_eq!(operator.command(&args).await["to_sequence"], 1);
    received(24).await;
    let queued = queue.received().len();
    let args = [&seek, &["--queue-group", "workers", "--to", "2"][..]].concat();
    assert_eq!(operator.command(&args).await["messages"], 5);
    wait_until(LIMIT, async || match queue.received().len() - queued {
        5 => Ok(()),
        found => Err(format!("{found} of 5")),
    })
    .await;

    for (call, error, hint) in [
        (
            "seek('orders', 'xyz', 'first')",
            "no durable \"xyz\"",
            "There are: d, q.",
        ),
        (
            "seek('oders', 'd', 'first')",
            "no channel \"oders\"",
            "\"orders\"",
        ),
        (
            "seek('orders', 'd', sequence => 99)",
            "99 is not in channel orders",
            "It holds 1 to 6.",
        ),
        ("seek('orders', 'd')", "exactly one of", "Give one of"),
        (
            "seek('orders', 'd', 'middle')",
            "\"middle\" is no place",
            "first, last, new",
        ),
        (
            "seek('orders', 'd', 'first', client_id => 'x')",
            "has all of these names",
            "durable d of client billing",
        ),
    ] {
        let [message, code, told] = operator.refused(call).await;
        assert!(message.contains(error), "{call}: {message}");
        assert_eq!(code, "STB05");
        assert!(told.contains(hint), "{call}: {told}");
    }
    let (code, told) = operator
        .command_fails(&[
            "durable",
            "seek",
            "orders",
            "d",
            "--sequence",
            "99",
            "--yes",
        ])
        .await;
    assert_eq!(code, Some(2));
    assert!(told.contains("It holds 1 to 6."), "{told}");
    received(24).await;
}

#[tokio::test]
async fn a_purge_drops_what_it_should_and_nothing_else() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let group = &pair.group;
    let mut operator = Operator::of(group).await;
    let client = group.client("me").await;
    publish(&client, "orders", 10).await;
    let would = operator
        .call("purge('orders', before => 4, dry_run => true)")
        .await;
    assert_eq!(would["messages"], 3);
    assert_eq!(sequences(group, "orders").await.len(), 10);
    let done = operator.call("purge('orders', before => 4)").await;
    assert_eq!(
        (&done["messages"], &done["first_sequence"]),
        (&json!(3), &json!(4))
    );
    assert_eq!(
        sequences(group, "orders").await,
        (4..=10).collect::<Vec<_>>()
    );
    let purge = ["channel", "purge", "orders"];
    let args = [&purge, &["--keep", "5"][..]].concat();
    assert_eq!(operator.command(&args).await["messages"], 2);
    assert_eq!(sequences(group, "orders").await, [6, 7, 8, 9, 10]);
    let time =
        "SELECT stanby.wall_time(published_at_ns)::text FROM stanby.messages WHERE sequence = 8";
    let time = group.tables().texts(time).await.remove(0);
    operator
        .call(&format!("purge('orders', before_time => '{time}')"))
        .await;
    assert_eq!(sequences(group, "orders").await, [8, 9, 10]);
    let late = client.subscribe("orders", "", "").await.unwrap();
    let args = [&purge, &["--all"][..]].concat();
    assert_eq!(operator.command(&args).await["messages"], 3);
    assert_eq!(sequences(group, "orders").await, [0; 0]);
    publish(&client, "orders", 1).await;
    wait_until(LIMIT, async || {
        let came = late.sequences().contains(&11);
        came.then_some(())
            .ok_or("the next message did not come".to_owned())
    })
    .await;

    // In a transaction of one's own: when it commits, and not when it is rolled back.
    operator
        .run("BEGIN; SELECT stanby.request_purge('orders', \"all\" => true); ROLLBACK")
        .await;
    operator
        .run("BEGIN; SELECT stanby.request_kick('nobody'); SELECT stanby.request_purge('orders', keep => 1); COMMIT")
        .await;
    wait_until(LIMIT, async || {
        let log = "SELECT verb || ' ' || state FROM stanby.admin_log LIMIT 2";
        let log = group.tables().texts(log).await;
        if log == ["channel purge done", "client kick refused"] {
            Ok(())
        } else {
            Err(format!("{log:?}"))
        }
    })
    .await;
    assert_eq!(sequences(group, "orders").await, [11]);

    let (code, told) = operator
        .command_fails(&[&purge, &["--all"][..]].concat())
        .await;
    assert_eq!(code, Some(2));
    assert!(told.contains("--yes"), "{told}");
    let args = [&purge, &["--before-time", "yesterday noon", "--yes"][..]].concat();
    let (code, told) = operator.command_fails(&args).await;
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("how long ago"), "{told}");
    let [message, code, _] = operator.refused("purge('orders', before => 99)").await;
    assert!(message.contains("99 is not in"), "{message}");
    assert_eq!(code, "STB05");
}

#[tokio::test]
async fn a_client_that_is_kicked_has_ended_and_its_durable_waits_for_it() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let group = &pair.group;
    let mut operator = Operator::of(group).await;
    for does in ["sql", "command"] {
        let client = group.client("worker").await;
        client.subscribe("orders", "", "d").await.unwrap();
        client.subscribe("orders", "", "").await.unwrap();
        client.ping().await.unwrap();
        let done = if does == "sql" {
            operator.call("kick('worker')").await
        } else {
            operator.command(&["client", "kick", "worker"]).await
        };
        assert_eq!(
            done,
            json!({"client_id": "worker", "subscriptions": 2, "durables_that_stay": 1})
        );
        let refused = client.ping().await.unwrap_err();
        assert!(refused.contains("replaced"), "{refused}");
        let durables = "SELECT durable_name || ' ' || status FROM stanby.position_status";
        assert_eq!(group.tables().texts(durables).await, ["d offline"]);
    }
    let [message, _, hint] = operator.refused("kick('worker')").await;
    assert!(message.contains("no client \"worker\""), "{message} {hint}");
}

/// Each verb that the tests above do not use, in SQL and by command.
#[tokio::test]
async fn channels_messages_and_durables_are_changed_by_their_verbs() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let group = &pair.group;
    let mut operator = Operator::of(group).await;
    let made = operator
        .call("create_channel('orders', max_msgs => 4, max_age => '1 day')")
        .await;
    assert_eq!(
        (&made["created"], &made["max_msgs"]),
        (&json!(true), &json!(4))
    );
    assert_eq!(
        (&made["max_age"], &made["max_bytes_from"]),
        (&json!("86400s"), &json!("configuration"))
    );
    let client = group.client("me").await;
    publish(&client, "orders", 6).await;
    assert_eq!(sequences(group, "orders").await, [3, 4, 5, 6]);
    let limits = ["channel", "limits", "orders"];
    let args = [&limits, &["--max-msgs", "3"][..]].concat();
    assert_eq!(operator.command(&args).await["max_msgs_from"], "table");
    assert_eq!(sequences(group, "orders").await, [4, 5, 6]);
    // Who creates a channel does not expect that messages go.
    let [message, _, hint] = operator
        .refused("create_channel('orders', max_msgs => 1)")
        .await;
    assert!(message.contains("exists, with other limits"), "{message}");
    assert!(hint.contains("channel limits"), "{hint}");
    assert_eq!(sequences(group, "orders").await, [4, 5, 6]);
    let same = "create_channel('orders', max_msgs => 3, max_age => '1 day')";
    assert_eq!(operator.call(same).await["created"], json!(false));
    let itself = "redrive('orders', to_channel => 'orders')";
    let [message, ..] = operator.refused(itself).await;
    assert!(message.contains("dead letters itself"), "{message}");
    let args = [&limits, &["--reset"][..]].concat();
    assert_eq!(operator.command(&args).await["max_msgs"], 1_000_000);

    let subscription = client.subscribe("orders", "", "d").await.unwrap();
    wait_until(LIMIT, async || match subscription.sequences().len() {
        3 => Ok(()),
        found => Err(format!("{found} of 3")),
    })
    .await;
    operator.call("pause('orders', 'd')").await;
    publish(&client, "orders", 4).await;
    let paused = "SELECT durable_name FROM stanby.paused_durables";
    assert_eq!(group.tables().texts(paused).await, ["d"]);
    let why = "SELECT concat_ws(': ', status, why) FROM stanby.durables";
    let [why] = &group.tables().texts(why).await[..] else {
        panic!("one durable");
    };
    assert!(
        why.starts_with("paused: an operator paused it at "),
        "{why}"
    );
    // 7 to 10 wait: 7 is skipped, 9 is deleted, 8 is published again as 11.
    operator.call("skip('orders', 'd', sequence => 7)").await;
    operator
        .call("delete_message('orders', sequence => 9)")
        .await;
    let again = operator
        .command(&["message", "republish", "orders", "--sequence", "8"])
        .await;
    assert_eq!(again["first_sequence"], 11);
    assert_eq!(subscription.sequences().len(), 3);
    pair.active.signal(Signal::SIGKILL);
    pair.standby.wait_until_active().await;
    assert_eq!(group.tables().texts(paused).await, ["d"]);
    let resumed = operator
        .command(&["durable", "resume", "orders", "d"])
        .await;
    assert_eq!(resumed["was_paused"], true);
    wait_until(LIMIT, async || {
        let found: Vec<u64> = subscription.sequences().into_iter().collect();
        if found == [4, 5, 6, 8, 10, 11] {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
    let acked = operator
        .call("ack_message('orders', 'd', sequence => 4)")
        .await;
    assert_eq!(acked["was_acked"], true);
    let args = ["message", "delete", "orders", "--first", "4", "--last", "6"];
    assert_eq!(operator.command(&args).await["messages"], 3);
    assert_eq!(sequences(group, "orders").await, [7, 8, 10, 11]);

    let [message, _, _] = operator.refused("remove_durable('orders', 'd')").await;
    assert!(message.contains("are connected"), "{message}");
    operator
        .command(&["durable", "remove", "orders", "d", "--force"])
        .await;
    let positions = "SELECT count(*) FROM stanby.positions";
    assert_eq!(group.tables().number(positions).await, 0);
    client.subscribe("orders", "", "").await.unwrap();
    let [message, _, _] = operator.refused("delete_channel('orders')").await;
    assert!(message.contains("a subscription"), "{message}");
    operator
        .command(&["channel", "delete", "orders", "--force"])
        .await;
    wait_until(LIMIT, async || {
        match group
            .tables()
            .number("SELECT count(*) FROM stanby.messages")
            .await
        {
            0 => Ok(()),
            left => Err(format!("{left} messages are left")),
        }
    })
    .await;
    let [message, _, hint] = operator.refused("step_down()").await;
    assert!(message.contains("no standby waits"), "{message} {hint}");
    operator.call("step_down(force => true)").await;
    // The answer comes before it ends its term.
    wait_until(LIMIT, async || match pair.standby.says().await {
        Says::Active(3) => Ok(()),
        said @ (Says::Active(_) | Says::Standby | Says::NotReady(_) | Says::Nothing(_)) => {
            Err(format!("{said:?}"))
        }
    })
    .await;
}
