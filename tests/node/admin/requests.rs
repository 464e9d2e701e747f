//! How requests of operators are carried out: once, whichever server is active, and for those who may ask.

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Executor as _};

use super::{Operator, publish, sequences};
use crate::pair::{Group, LIMIT, wait_for_one_active};
use crate::support::wait::wait_until;

/// A large purge goes in pieces; its count is exact whoever carries out which of them.
#[tokio::test]
async fn what_is_asked_for_is_done_once_whichever_server_is_killed() {
    const MESSAGES: i64 = 12_000;
    const KEPT: i64 = 1_234;
    const STORED: &str = "SELECT count(*) FROM stanby.messages";
    /// The backend of the active, as soon as it has begun.
    const ACTIVE: &str = "SELECT pid::text FROM stanby.leadership
        WHERE EXISTS (SELECT FROM stanby.admin_requests WHERE state = 'running' AND messages > 0)";
    const OPEN: &str = "SELECT count(*) FROM stanby.admin_requests WHERE finished_at IS NULL";

    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let mut servers = vec![group.server(), group.server()];
    wait_for_one_active(&servers.iter().collect::<Vec<_>>()).await;
    let mut operator = Operator::of(&group).await;
    let publish =
        format!("SELECT stanby.publish('orders', n::text) FROM generate_series(1, {MESSAGES}) n");
    operator.run(&publish).await;
    wait_until(LIMIT, async || match group.tables().number(STORED).await {
        MESSAGES => Ok(()),
        stored => Err(format!("{stored} are stored")),
    })
    .await;
    // However busy this machine is, somebody is killed in the middle.
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END$$;
        CREATE TRIGGER slow AFTER DELETE ON messages FOR EACH STATEMENT EXECUTE FUNCTION slow()";
    group.tables().execute(slow).await;
    let purge = format!("SELECT stanby.request_purge('orders', keep => {KEPT})");
    operator.run(&purge).await;
    let mut kills = 0;
    loop {
        let active = wait_until(LIMIT, async || {
            if group.tables().number(OPEN).await == 0 {
                return Ok(None);
            }
            let active = group.tables().texts(ACTIVE).await.pop();
            active.map(Some).ok_or("it has not begun".to_owned())
        })
        .await;
        let Some(pid) = active else {
            break;
        };
        if kills < 2 {
            // Whoever has ended by itself on a machine that is busy is replaced, too.
            for server in &mut servers {
                if server.pid().to_string() == pid {
                    server.signal(Signal::SIGKILL);
                    server.end().await;
                    kills += 1;
                }
            }
        }
        for server in &mut servers {
            if !server.is_running() {
                *server = group.server();
            }
        }
    }
    assert!(kills > 0, "it was over before anybody could be killed");
    let done = "SELECT result ->> 'messages' FROM stanby.admin_log";
    let dropped = (MESSAGES - KEPT).to_string();
    assert_eq!(group.tables().texts(done).await, [dropped]);
    assert_eq!(group.tables().number(STORED).await, KEPT);
}

#[tokio::test]
async fn without_a_server_nothing_is_done_later_by_surprise() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let mut server = group.server();
    server.wait_until_active().await;
    let client = group.client("me").await;
    publish(&client, "orders", 3).await;
    server.signal(Signal::SIGTERM);
    server.end().await;

    let operator = Operator::of(&group).await;
    let purge = ["channel", "purge", "orders", "--all", "--yes"];
    let (code, told) = operator.command_fails(&purge).await;
    assert_eq!(code, Some(3));
    assert!(told.contains("no server is active"), "{told}");
    let asked = "SELECT count(*) FROM stanby.admin_requests";
    assert_eq!(group.tables().number(asked).await, 0);

    let mut waiting = Operator::of(&group).await;
    let [message, code, hint] = waiting.refused("purge('orders', \"all\" => true)").await;
    assert_eq!(code, "STB06", "{message}");
    assert!(
        message.contains("withdrawn") && hint.contains("request_"),
        "{message} {hint}"
    );
    let again = group.server();
    again.wait_until_active().await;
    waiting.call("limit_channel('orders')").await;
    assert_eq!(sequences(&group, "orders").await, [1, 2, 3]);
}

#[tokio::test]
async fn a_role_may_ask_for_what_it_was_given_and_for_nothing_else() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("me").await;
    publish(&client, "orders", 2).await;
    let mut operator = Operator::of(&group).await;
    let role = format!("operator_{}", group.cluster_id);
    let other = format!("\"Not {role}\"");
    operator
        .run(&format!(
            "CREATE ROLE {role}; SELECT stanby.grant_to_operator('{role}'); CREATE ROLE {other};
             GRANT USAGE ON SCHEMA stanby TO {other}"
        ))
        .await;
    operator.run(&format!("SET ROLE {other}")).await;
    for call in ["purge('orders', keep => 1)", "kick('me')"] {
        let [message, code, hint] = operator.refused(call).await;
        assert_eq!(code, "42501", "{message}");
        let remedy = format!("SELECT stanby.grant_to_operator('{other}');");
        assert!(hint.contains(&remedy), "{message}: {hint}");
    }
    operator.run(&format!("RESET ROLE; SET ROLE {role}")).await;
    assert_eq!(
        operator.call("purge('orders', keep => 1)").await["messages"],
        1
    );
    for forbidden in [
        "DELETE FROM stanby.admin_requests",
        "UPDATE stanby.admin_requests SET state = 'done'",
        "INSERT INTO stanby.admin_requests (verb, role) VALUES ('channel purge', 'somebody')",
        "SELECT * FROM stanby.messages",
    ] {
        let refused = operator
            .session
            .execute(AssertSqlSafe(forbidden.to_owned()))
            .await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{forbidden}: {error}");
    }
    operator
        .run(&format!(
            "RESET ROLE; DROP OWNED BY {role}, {other}; DROP ROLE {role}, {other}"
        ))
        .await;
}
