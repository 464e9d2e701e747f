//! A NATS server that takes back what it has granted.

use std::fs;

use nix::sys::signal::Signal;

use crate::cli::{stanby, stdout};
use crate::pair::{Group, LIMIT};
use crate::stan::StanClient;
use crate::support::process::temporary_directory;
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

/// Of servers, and of clients.
fn users(permissions: &str) -> String {
    format!(
        "authorization {{ users = [
            {{ user: s, password: s, permissions: {{ {permissions} }} }}
            {{ user: c, password: c }}
        ] }}"
    )
}

#[tokio::test]
async fn a_right_to_listen_that_nats_takes_back_is_told_and_asked_for_again() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let directory = temporary_directory();
    let file = directory.root().join("nats.conf");
    fs::write(&file, users("")).unwrap();
    let Some(server) = nats::own_server(&["--config", file.to_str().unwrap()]).await else {
        return;
    };
    let login = server.url().replace("nats://", "nats://s:s@");
    let mut group = Group::over(database.url.clone(), login, &["--lease", "1s"]);
    group.cluster_id.clone_from(&database.name);
    let active = group.server();
    active.wait_until_active().await;
    let connection = async_nats::ConnectOptions::with_user_and_password("c".into(), "c".into());
    let connection = connection.connect(server.url()).await.unwrap();
    let client = StanClient::connect(connection, &group.cluster_id, "steady")
        .await
        .unwrap();
    let mut publisher = client.publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;

    fs::write(&file, users("subscribe: { deny: [\"_STAN.pub.>\"] }")).unwrap();
    server.signal(Signal::SIGHUP);
    let told = wait_until(LIMIT, async || match active.get("/readyz").await? {
        (503, told) if told.contains("nats-forbids") => Ok(told),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(
        told.contains("Permissions Violation for Subscription"),
        "{told}"
    );
    assert!(told.contains("stanby nats-permissions"), "{told}");

    fs::write(&file, users("")).unwrap();
    server.signal(Signal::SIGHUP);
    wait_until(LIMIT, async || match active.get("/readyz").await? {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    publisher.send_until_acked(LIMIT).await;
    assert_eq!(active.wait_until_active().await, 1);
}

#[tokio::test]
async fn a_server_that_may_answer_nobody_is_not_ready_and_the_doctor_knows_it_before() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let directory = temporary_directory();
    let file = directory.root().join("nats.conf");
    fs::write(&file, users("")).unwrap();
    let Some(server) = nats::own_server(&["--config", file.to_str().unwrap()]).await else {
        return;
    };
    let login = server.url().replace("nats://", "nats://s:s@");
    let mut group = Group::over(database.url.clone(), login, &["--lease", "1s"]);
    group.cluster_id.clone_from(&database.name);
    let doctor = async || {
        let flags = ["doctor", "--database-url", &group.database_url];
        let nats = ["--nats-server", &group.nats_url];
        stdout(&stanby(&[&flags[..], &nats].concat()).await)
    };
    let may = "a server may listen to clients, and answer them";
    assert!(doctor().await.contains(may));
    let active = group.server();
    active.wait_until_active().await;
    let connection = async_nats::ConnectOptions::with_user_and_password("c".into(), "c".into());
    let connection = connection.connect(server.url()).await.unwrap();
    let client = StanClient::connect(connection, &group.cluster_id, "steady")
        .await
        .unwrap();
    let mut publisher = client.publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;

    fs::write(&file, users("publish: { deny: [\"_INBOX.>\"] }")).unwrap();
    server.signal(Signal::SIGHUP);
    // Something to answer.
    publisher.send().await;
    wait_until(LIMIT, async || match active.get("/readyz").await? {
        (503, told) if told.contains("does not let this server answer") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let told = doctor().await;
    assert!(told.contains("send to _INBOX.>"), "{told}");
    fs::write(&file, users("subscribe: { deny: [\"_STAN.pub.>\"] }")).unwrap();
    server.signal(Signal::SIGHUP);
    let told = wait_until(LIMIT, async || match doctor().await {
        told if told.contains("does not let a server listen") => Ok(told),
        told => Err(told),
    })
    .await;
    assert!(told.contains("stanby nats-permissions"), "{told}");

    fs::write(&file, users("")).unwrap();
    server.signal(Signal::SIGHUP);
    wait_until(LIMIT, async || match active.get("/readyz").await? {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    publisher.send_until_acked(LIMIT).await;
}
