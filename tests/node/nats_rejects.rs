//! A NATS server that does not take what goes to one client.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fs;

use stanby::core::request::StartPosition;
use stanby::protocol::client as wire;

use crate::pair::{Group, LIMIT, Server};
use crate::stan::StanClient;
use crate::support::process::temporary_directory;
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

/// A server is ready, and says that NATS does not take something, for this reason.
async fn wait_until_rejected(server: &Server, reason: &str) {
    wait_until(LIMIT, async || match server.get("/readyz").await? {
        (200, page) if page.contains("nats-rejects") && page.contains(reason) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn counted(server: &Server, metric: &str) -> u64 {
    let (_, page) = server.get("/metrics").await.unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(metric));
    let value = line.unwrap_or_else(|| panic!("{metric} in {page}"));
    value.trim().parse().unwrap()
}

#[tokio::test]
async fn an_inbox_that_this_server_may_not_send_to_is_told_and_the_others_are_served() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let directory = temporary_directory();
    let file = directory.root().join("nats.conf");
    let users = "authorization { users = [
        { user: s, password: s, permissions: { publish: { deny: [\"_INBOX.mine.>\"] } } }
        { user: c, password: c }
    ] }";
    fs::write(&file, users).unwrap();
    let Some(server) = nats::own_server(&["--config", file.to_str().unwrap()]).await else {
        return;
    };
    let login = server.url().replace("nats://", "nats://s:s@");
    let mut group = Group::over(database.url.clone(), login, &["--lease", "1s"]);
    group.cluster_id.clone_from(&database.name);
    let active = group.server();
    active.wait_until_active().await;
    let options = || async_nats::ConnectOptions::with_user_and_password("c".into(), "c".into());
    let mine = options().custom_inbox_prefix("_INBOX.mine");
    let mine = mine.connect(server.url()).await.unwrap();
    let refused = StanClient::connect(mine, &group.cluster_id, "mine").await;
    assert!(refused.is_err(), "no answer can reach it");
    wait_until_rejected(&active, "Permissions Violation for Publish").await;
    assert!(counted(&active, "stanby_nats_rejected_total").await > 0);

    let others = options().connect(server.url()).await.unwrap();
    let client = StanClient::connect(others, &group.cluster_id, "steady").await;
    let mut publisher = client.unwrap().publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;
}

#[tokio::test]
async fn an_inbox_that_is_longer_than_nats_takes_ends_few_connections_and_no_other_client_waits() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let directory = temporary_directory();
    let file = directory.root().join("nats.conf");
    fs::write(&file, "max_control_line: 512\n").unwrap();
    let Some(server) = nats::own_server(&["--config", file.to_str().unwrap()]).await else {
        return;
    };
    let mut group = Group::over(database.url.clone(), server.url(), &["--lease", "1s"]);
    group.cluster_id.clone_from(&database.name);
    let active = group.server();
    active.wait_until_active().await;
    let client = group.client("steady").await;
    let mut publisher = client.publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;

    // It stands in the payload only: the client itself has no trouble with NATS.
    let inbox = format!("in.{}", "x".repeat(1500));
    let request = wire::subscribe_request(&wire::Subscribe {
        client_id: "steady",
        channel: "orders",
        inbox: &inbox,
        queue_group: "",
        durable_name: "",
        max_in_flight: 64,
        ack_wait_seconds: 1,
        start: StartPosition::First,
    });
    let connection = async_nats::connect(server.url()).await.unwrap();
    let subject = client.subjects.subscribe.to_string();
    connection.request(subject, request).await.unwrap();

    wait_until_rejected(&active, "maximum control line exceeded").await;
    for _ in 0..20 {
        publisher.send_until_acked(LIMIT).await;
    }
    wait_until(LIMIT, async || {
        let rejected = counted(&active, "stanby_nats_rejected_total").await;
        (rejected > 10).then_some(()).ok_or(rejected.to_string())
    })
    .await;
    let ended = counted(&active, "stanby_nats_disconnects_total").await;
    assert!((1..=4).contains(&ended), "{ended} connections ended");
}
