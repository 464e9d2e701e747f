//! What cannot be done in SQL and how that is said, what only some transactions do, and that nothing stays behind of what
//! nobody waits for any more.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::admin::Operator;
use crate::admin_api::TOKEN;
use crate::frozen::freeze;
use crate::held::publish;
use crate::pair::{Group, LIMIT, Pair, Server};
use crate::sql::{application, payloads, refused};
use crate::sql_acks::{is_told, wait_until_carried_out};
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

#[tokio::test]
async fn what_is_prepared_publishes_and_acks_once_it_is_committed_from_the_first_publish_on() {
    let own = postgres::own_server_with(&["max_prepared_transactions=5"]);
    let (Some(postgres), Some(nats_url)) = (own.await, nats::url().await) else {
        return;
    };
    let mut group = Group::over(postgres.url(), nats_url, &[]);
    "prepared".clone_into(&mut group.cluster_id);
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("billing-1").await;
    let mut application = application(&group).await;
    for statements in [
        "BEGIN; SELECT stanby.publish('orders', 'paid'); PREPARE TRANSACTION 'publish'",
        "COMMIT PREPARED 'publish'",
    ] {
        application.execute(statements).await.unwrap();
    }
    assert_eq!(payloads(&group, "orders", 1).await, ["paid"]);
    let mut taker = client.take("orders", ("", "billing"), 10).await;
    taker.wait_for(1).await;
    for statements in [
        "BEGIN; SELECT stanby.ack('orders', 1, durable => 'billing'); PREPARE TRANSACTION 'ack'",
        "COMMIT PREPARED 'ack'",
    ] {
        application.execute(statements).await.unwrap();
    }
    wait_until_carried_out(&group, 0).await;
}

#[tokio::test]
async fn what_sql_cannot_do_is_refused_with_what_to_do_about_it() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let mut application = application(&group).await;
    for (statements, code, remedy) in [
        (
            "BEGIN READ ONLY; SELECT stanby.publish('orders', 'x')",
            "25006",
            "READ WRITE",
        ),
        (
            "BEGIN READ ONLY; SELECT stanby.ack('orders', 1, durable => 'd')",
            "25006",
            "READ WRITE",
        ),
        (
            "BEGIN READ ONLY; SELECT stanby.nack('orders', 1, durable => 'd')",
            "25006",
            "READ WRITE",
        ),
        (
            "BEGIN READ ONLY; SELECT stanby.request_purge('orders', keep => 1)",
            "25006",
            "READ WRITE",
        ),
        (
            "SELECT stanby.publish('orders', 'x', deliver_at => '2200-01-01')",
            "STB03",
            "before the year 2200",
        ),
    ] {
        let told = refused(&mut application, statements).await;
        assert_eq!(told.0, code, "{statements}");
        assert!(told.1.contains(remedy), "{statements}: {}", told.1);
        application.execute("ROLLBACK").await.unwrap();
    }
    let of_no_time = "SELECT count(*) FROM stanby.published(repeat('f', 32))";
    assert_eq!(group.tables().number(of_no_time).await, 0);
}

#[tokio::test]
async fn of_two_queue_groups_of_one_name_the_one_without_a_durable_name_can_be_named() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("worker").await;
    let mut plain = client.take("orders", ("workers", ""), 10).await;
    let mut durable = client.take("orders", ("workers", "d"), 10).await;
    publish(&client, "orders", 1).await;
    plain.wait_for(1).await;
    durable.wait_for(1).await;
    let mut application = application(&group).await;
    let both = "SELECT stanby.ack('orders', 1, queue_group => 'workers')";
    let (code, hint) = refused(&mut application, both).await;
    assert_eq!(code, "STB04");
    assert!(hint.contains("without a durable name"), "{hint}");
    let ack = "ack('orders', 1, durable => '', queue_group => 'workers')";
    assert!(is_told(&mut application, ack).await);
    wait_until_carried_out(&group, 1).await;
    let unacked = "SELECT durable_name FROM stanby.position_status WHERE unacked > 0";
    assert_eq!(group.tables().texts(unacked).await, ["d"]);

    let mut operator = Operator::of(&group).await;
    let both = "seek(channel => 'orders', queue_group => 'workers', \"to\" => 'first')";
    let [_, _, hint] = operator.refused(both).await;
    assert!(hint.contains("durable \"\""), "{hint}");
    let seek = "seek('orders', '', 'first', queue_group => 'workers', dry_run => true)";
    let of_sql = operator.call(seek).await;
    let group_name = json!("workers");
    assert_eq!(
        (&of_sql["queue_group"], of_sql.get("durable")),
        (&group_name, None)
    );
    let seek = ["durable", "seek", "orders", "", "--queue-group", "workers"];
    let by_command = operator
        .command(&[&seek[..], &["--to", "first", "--dry-run"]].concat())
        .await;
    assert_eq!(by_command, of_sql);
}

/// In its queue it waits in slices; one that is frozen does not begin the next.
#[tokio::test]
async fn a_standby_is_seen_between_two_waits_for_the_lock() {
    const SEEN: &str = "SELECT CASE WHEN EXISTS (
            SELECT FROM pg_stat_activity
            WHERE datname = current_database() AND state = 'idle' AND pid <> (SELECT backend_pid FROM stanby.leadership)
                AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')
        ) THEN (SELECT count(*) FROM stanby.standbys) ELSE -1 END";
    let Some(pair) = Pair::new(&["--lease", "2s"]).await else {
        return;
    };
    freeze(&pair.standby).await;
    let tables = pair.group.tables();
    let seen = wait_until(LIMIT, async || match tables.number(SEEN).await {
        -1 => Err("it waits".to_owned()),
        seen => Ok(seen),
    })
    .await;
    assert_eq!(seen, 1);
}

/// A server that can only wait for a lock that a stranger holds, and the stranger.
async fn without_an_active(group: &Group) -> (Server, PgConnection) {
    let mut first = group.server();
    first.wait_until_active().await;
    let mut stranger = PgConnection::connect(&group.database_url).await.unwrap();
    first.signal(Signal::SIGTERM);
    first.end().await;
    let lock = "SELECT pg_advisory_lock(lock_key) FROM stanby.leadership";
    stranger.execute(lock).await.unwrap();
    let server = group.server();
    group.wait_for_standbys(1).await;
    (server, stranger)
}

#[tokio::test]
async fn who_stops_waiting_before_a_server_has_taken_the_request_leaves_none_behind() {
    const STATES: &str = "SELECT concat_ws(' ', verb, state) FROM stanby.admin_log";
    const CANCEL: &str = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'CALL%' AND wait_event = 'PgSleep'";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let Some(group) = Group::new(&["--api-token-file", file.to_str().unwrap()]).await else {
        return;
    };
    let (server, _stranger) = without_an_active(&group).await;
    let tables = group.tables();
    let is_asked = async |wanted: &str| {
        wait_until(LIMIT, async || {
            let states = tables.texts(STATES).await;
            if states.iter().any(|state| state == wanted) {
                Ok(())
            } else {
                Err(format!("{states:?}, not {wanted}"))
            }
        })
        .await;
    };

    let mut browser = TcpStream::connect(("127.0.0.1", server.http_port))
        .await
        .unwrap();
    let request = format!(
        "POST /api/v1/clients/me/kick HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n\r\n"
    );
    browser.write_all(request.as_bytes()).await.unwrap();
    is_asked("client kick waiting").await;
    drop(browser);

    let mut command: Command = Server::command().into();
    command
        .args(["durable", "remove", "orders", "d", "--yes"])
        .args(["--database-url", &group.database_url])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = command.spawn().unwrap();
    is_asked("durable remove waiting").await;
    let pid = Pid::from_raw(child.id().unwrap().cast_signed());
    kill(pid, Signal::SIGINT).unwrap();
    let ended = child.wait_with_output().await.unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("it is withdrawn"), "{told}");
    is_asked("durable remove withdrawn").await;

    // One that is canceled in the instant between two looks is told no more than that.
    let mut operator = Operator::of(&group).await;
    loop {
        let purge = operator.refused("purge('orders', keep => 1)");
        let cancel = wait_until(LIMIT, async || match tables.number(CANCEL).await {
            0 => Err("nobody waits".to_owned()),
            _ => Ok(()),
        });
        let ([told, code, _], ()) = tokio::join!(purge, cancel);
        assert_eq!(code, "57014", "{told}");
        if told.contains("it is withdrawn") {
            break;
        }
    }
    is_asked("channel purge withdrawn").await;
    is_asked("client kick withdrawn").await;
}

#[tokio::test]
async fn a_msg_id_publishes_once_whatever_is_refused_retried_and_deleted_meanwhile() {
    let Some(group) = Group::new(&["--max-msgs", "1"]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let mut operator = Operator::of(&group).await;
    operator
        .run("SELECT stanby.set_policy('full', when_full => 'reject'); SELECT stanby.publish('full', 'in the way')")
        .await;
    assert_eq!(payloads(&group, "full", 1).await, ["in the way"]);
    let tables = group.tables();
    let pay = "SELECT stanby.publish('full', 'pay', msg_id => 'order-7')";
    for refused in 1..=2 {
        operator.run(pay).await;
        wait_until(LIMIT, async || {
            let count = "SELECT count(*) FROM refused_publishes";
            match tables.number(count).await {
                count if count == refused => Ok(()),
                other => Err(format!("{other} of {refused}")),
            }
        })
        .await;
    }
    operator.call("limit_channel('full', max_msgs => 10)").await;
    operator.run(pay).await;
    assert_eq!(payloads(&group, "full", 2).await, ["in the way", "pay"]);
    operator.run("SELECT stanby.retry_refused()").await;
    let since = "SELECT count(*) FROM refused_publishes WHERE reason LIKE 'its msg_id was published since, as GUID %'";
    assert_eq!(tables.number(since).await, 2);

    operator.call("delete_channel('full')").await;
    operator.run(pay).await;
    assert_eq!(payloads(&group, "full", 1).await, ["pay"]);
    operator.run(pay).await;
    operator.run("SELECT stanby.publish('end', 'end')").await;
    assert_eq!(payloads(&group, "end", 1).await, ["end"]);
    assert_eq!(payloads(&group, "full", 1).await, ["pay"]);
    let refused = "SELECT count(*) FROM refused_publishes";
    assert_eq!(tables.number(refused).await, 2, "none since");
}
