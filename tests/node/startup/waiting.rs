//! A server that starts before what it needs is there waits for it.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use sqlx::{Connection as _, PgConnection};
use stanby::dev::guardian::Guardian;
use stanby::dev::process::{Process, StopSignals};

use super::{SECRET, as_role_of, execute, text};
use crate::pair::{Group, LIMIT};
use crate::support::nats;
use crate::support::postgres;
use crate::support::process::{Own, temporary_directory};
use crate::support::wait::wait_until;

#[tokio::test]
async fn a_server_whose_url_leads_to_a_replica_serves_once_that_is_promoted() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let directory = temporary_directory();
    let guardian = Guardian::start(Some(directory.root())).unwrap();
    let data = directory.root().join("replica");
    let programs = PathBuf::from(
        text(
            &database.url,
            "SELECT setting FROM pg_config WHERE name = 'BINDIR'",
        )
        .await,
    );
    let sockets = database.socket.parent().unwrap();
    let owner = sockets.metadata().unwrap();
    let as_owner = |program: &str| {
        let mut command = Command::new(programs.join(program));
        command.current_dir("/").uid(owner.uid()).gid(owner.gid());
        command
    };
    DirBuilder::new().mode(0o700).create(&data).unwrap();
    chown(&data, Some(owner.uid()), Some(owner.gid())).unwrap();
    let mut copy = as_owner("pg_basebackup");
    copy.args(["-U", "postgres", "-R", "-c", "fast", "-h"])
        .arg(sockets)
        .arg("-D")
        .arg(&data);
    let copied = tokio::process::Command::from(copy).output().await.unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let mut replica = as_owner("postgres");
    replica
        .arg("-D")
        .arg(&data)
        .args(["-c", "listen_addresses=", "-c", "max_connections=200"])
        .arg("-c")
        .arg(format!("unix_socket_directories={}", data.display()));
    let signals = StopSignals {
        first: Signal::SIGQUIT,
        second: Signal::SIGQUIT,
    };
    let replica = Process::spawn("replica", replica, &directory, signals, &guardian).unwrap();
    let _replica = Own::new(replica, guardian, directory);
    let url = format!("postgres:///postgres?host={}&user=postgres", data.display());
    wait_until(LIMIT, async || {
        let connected = PgConnection::connect(&url).await;
        connected.map(drop).map_err(|error| error.to_string())
    })
    .await;

    let Some(nats_url) = nats::url().await else {
        return;
    };
    // Beside its primary it is passed over.
    let both = database
        .url
        .replace("host=", &format!("host={},", data.display()));
    let mut group = Group::over(both, nats_url.clone(), &[]);
    group.cluster_id = String::from("of-the-primary");
    group.server().wait_until_active().await;

    let mut group = Group::over(url.clone(), nats_url, &[]);
    group.cluster_id = String::from("promoted");
    let server = group.server();
    server
        .wait_for_trouble("is a replica; the database URL must lead to the primary")
        .await;

    execute(&url, "SELECT pg_promote()").await;

    server.wait_until_active().await;
}

/// A database that a server waits for from its first moment on.
#[tokio::test]
async fn a_server_that_starts_before_its_database_serves_when_that_is_there() {
    let Some(mut postgres) = postgres::own_server().await else {
        return;
    };
    let Some(nats_url) = nats::url().await else {
        return;
    };
    let mut group = Group::over(postgres.url(), nats_url, &[]);
    group.cluster_id = String::from("before-its-database");
    postgres.stop(LIMIT).await.unwrap();

    let server = group.server();
    server.wait_for_trouble("cannot reach Postgres at").await;
    let (code, body) = server.get("/readyz").await.unwrap();
    assert_eq!(code, 503, "{body}");
    assert_eq!(server.get("/healthz").await.unwrap().0, 200);
    postgres::restart(&mut postgres).await;

    server.wait_until_active().await;
    let told = server.log().matches("cannot start yet").count();
    assert!((1..5).contains(&told), "{told} times: {}", server.log());
}

#[tokio::test]
async fn a_server_that_starts_before_its_nats_server_serves_when_that_is_there() {
    let (Some(mut group), Some(mut late)) = (Group::new(&[]).await, nats::own_server(&[]).await)
    else {
        return;
    };
    group.nats_url = late.url();
    late.stop(LIMIT).await.unwrap();

    let server = group.server();
    server.wait_for_trouble("cannot connect to NATS at").await;
    nats::restart(&mut late, &[]).await;

    server.wait_until_active().await;
    let client = group.client("early").await;
    client.publisher("x").await.send_until_acked(LIMIT).await;
}

#[tokio::test]
async fn a_server_without_a_free_connection_or_with_a_name_that_is_not_known_yet_waits() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let limit = format!("ALTER DATABASE {} CONNECTION LIMIT 0", database.name);
    let role = format!("limited_{}", database.name);
    execute(&database.url, format!("CREATE ROLE {role} LOGIN; {limit}")).await;
    let Some(nats_url) = nats::url().await else {
        return;
    };
    for (url, reason) in [
        (as_role_of(&database.url, &role), "too many connections"),
        (
            format!("postgres://u:{SECRET}@not-there-yet.invalid/d"),
            "cannot reach Postgres at not-there-yet.invalid:5432",
        ),
        (
            format!("postgres://u:{SECRET}@127.0.0.1:1/d"),
            "check that it runs there and that the database URL is right",
        ),
    ] {
        let group = Group::over(url, nats_url.clone(), &[]);
        let mut server = group.server();
        server.wait_for_trouble(reason).await;
        assert!(!server.log().contains(SECRET), "{}", server.log());

        server.signal(Signal::SIGINT);

        assert_eq!(server.end().await.code(), Some(0));
    }
}

/// As managed ones are while their disk is full.
#[tokio::test]
async fn a_server_that_starts_while_its_database_is_read_only_waits_and_says_how_to_undo_it() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let setting = "default_transaction_read_only";
    let name = &group.cluster_id;
    let set = |what: &str| format!("ALTER DATABASE {name} {what}");
    let on = set(&format!("SET {setting} = on"));
    execute(&group.database_url, on).await;

    let server = group.server();
    server.wait_for_trouble("is read-only").await;
    let remedy = set(&format!("RESET {setting}")).replace(name, &format!("\"{name}\""));
    assert!(server.log().contains(&remedy), "{}", server.log());
    let reset = set(&format!("RESET {setting}"));
    execute(
        &group.database_url,
        format!("BEGIN READ WRITE; {reset}; COMMIT"),
    )
    .await;

    server.wait_until_active().await;
}
