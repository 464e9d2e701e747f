//! What keeps a server from starting. What passes by itself is waited for; what somebody has to change first ends it with
//! 1 and one sentence that names the cause and the remedy, and never a secret.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fs::DirBuilder;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stanby::dev::guardian::Guardian;
use stanby::dev::process::{Process, StopSignals};
use tokio::time::timeout;

use crate::pair::{Group, LIMIT, Server};
use crate::support::nats;
use crate::support::postgres::{self, TestDatabase};
use crate::support::process::{Own, temporary_directory};
use crate::support::wait::wait_until;

const SECRET: &str = "geheim";
const NATS_AWAY: &str = "nats://127.0.0.1:1";

/// What a server that does not start says: the one line of its log that is an error.
async fn refusal(arguments: &[&str]) -> String {
    let mut command = Server::command();
    command.arg("serve").args(arguments).stdin(Stdio::null());
    let mut command = tokio::process::Command::from(command);
    let output = timeout(LIMIT, command.kill_on_drop(true).output());
    let output = output.await.expect("it ends by itself").unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains(SECRET), "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines[0].to_owned()
}

/// Refused by the database, before NATS is looked for.
pub(crate) async fn refusal_of(database_url: &str) -> String {
    refusal(&["--database-url", database_url, "--nats-server", NATS_AWAY]).await
}

fn assert_says(line: &str, parts: &[&str]) {
    assert!(line.contains("Failed to start: "), "{line}");
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

async fn number(url: &str, query: &'static str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(query)
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

async fn text(url: &str, query: &'static str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(query)
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

async fn execute(url: &str, statements: impl Into<String>) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements.into()))
        .execute(&mut connection)
        .await
        .unwrap();
}

/// The same database for another role.
fn as_role(database: &TestDatabase, role: &str, password: &str) -> String {
    let url = as_role_of(&database.url, role);
    format!("{url}&password={password}")
}

pub(crate) fn as_role_of(database_url: &str, role: &str) -> String {
    let url = database_url.replace("user=postgres", &format!("user={role}"));
    assert_ne!(url, database_url);
    url
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let missing = database.url.replace(&database.name, "no_such_database");
    let line = refusal_of(&missing).await;
    assert_says(&line, &["CREATE DATABASE \"no_such_database\""]);
}

/// Acceptance: 170.
#[tokio::test]
async fn a_wrong_password_is_told_without_repeating_it() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let role = format!("guarded_{}", database.name);
    let hba = text(&database.url, "SELECT current_setting('hba_file')").await;
    let rules = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("local all {role} scram-sha-256\n{rules}")).unwrap();
    execute(
        &database.url,
        format!("CREATE ROLE {role} LOGIN PASSWORD 'right'; SELECT pg_reload_conf()"),
    )
    .await;
    let url = as_role(&database, &role, SECRET);
    wait_until(LIMIT, async || match PgConnection::connect(&url).await {
        Ok(_) => Err("the new rule does not hold yet".to_owned()),
        Err(_) => Ok(()),
    })
    .await;

    let line = refusal_of(&url).await;

    assert_says(&line, &["check user and password", &role]);
}

#[tokio::test]
async fn a_role_that_may_not_create_is_told_what_it_lacks() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let role = format!("poor_{}", database.name);
    execute(&database.url, format!("CREATE ROLE {role} LOGIN")).await;

    let line = refusal_of(&as_role(&database, &role, SECRET)).await;

    assert_says(
        &line,
        &[
            "permission denied",
            &format!("role {role} may not make schema stanby"),
            &format!(
                "GRANT CREATE ON DATABASE \"{}\" TO \"{role}\"",
                database.name
            ),
        ],
    );
}

#[tokio::test]
async fn a_read_only_database_is_refused() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let name = &database.name;
    let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    execute(&database.url, set).await;

    let line = refusal_of(&database.url).await;

    assert_says(&line, &["is read-only", "default_transaction_read_only"]);
}

/// The commit of a publish to such a channel would end the term, and so would the next term's.
#[tokio::test]
async fn a_database_that_cannot_hold_every_name_is_refused() {
    let Some(mut group) = Group::new(&[]).await else {
        return;
    };
    let (shared, name) = (group.database_url.clone(), group.cluster_id.clone());
    let create = async |encoding: &str| {
        let other = format!("{name}_{}", encoding.to_lowercase());
        let create = format!(
            "CREATE DATABASE {other} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
        );
        execute(&shared, create).await;
        shared.replace(&name, &other)
    };

    let line = refusal_of(&create("LATIN1").await).await;
    assert_says(&line, &["encoding LATIN1", "ENCODING 'UTF8'"]);

    // It takes bytes as they come.
    group.database_url = create("SQL_ASCII").await;
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("me").await;
    let mut publisher = client.publisher("книги").await;
    publisher.send_until_acked(LIMIT).await;
    assert_eq!(group.tables().messages("книги").await.len(), 1);
}

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

/// Acceptance: 148.
#[tokio::test]
async fn tables_of_a_newer_server_are_left_alone() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    group.server().wait_until_active().await;
    let newer = "INSERT INTO stanby.schema_versions
        SELECT 999, 'from the future', now(), true, '', 0;
        CREATE OR REPLACE VIEW stanby.schema_compatibility AS SELECT 999::bigint AS oldest_server";
    execute(&group.database_url, newer).await;

    let line = refusal_of(&group.database_url).await;

    assert_says(
        &line,
        &["schema stanby has version 999", "run that version"],
    );
}

/// Acceptance: 135.
#[tokio::test]
async fn tables_of_another_cluster_are_left_alone() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let active = group.server();
    active.wait_until_active().await;

    let url = &group.database_url;
    let line = refusal(&["--database-url", url, "--cluster-id", "mine"]).await;
    let text = format!(
        "cluster ID \"mine\" does not match recovered value of {:?}; start with the recovered one",
        group.cluster_id
    );
    assert_says(&line, &[&text]);

    assert_eq!(active.wait_until_active().await, 1);
    let epoch = number(url, "SELECT epoch FROM stanby.leadership").await;
    assert_eq!(epoch, 1, "nobody else took over meanwhile");
}

/// Acceptance: 135.
#[tokio::test]
async fn a_server_in_the_queue_ends_when_the_tables_turn_out_to_be_another_clusters() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let active = group.server();
    active.wait_until_active().await;
    // As both found it when they started.
    let url = group.database_url.as_str();
    let empty = "CREATE TABLE kept AS TABLE stanby.server_info; DELETE FROM stanby.server_info";
    execute(url, empty).await;
    let mine = ["--database-url", url, "--cluster-id", "mine"];
    let mine = [&mine[..], &["--nats-server", &group.nats_url]].concat();

    let (line, ()) = tokio::join!(refusal(&mine), async {
        group.wait_for_standbys(1).await;
        execute(url, "INSERT INTO stanby.server_info TABLE kept").await;
    });

    let theirs = format!("recovered value of {:?}", group.cluster_id);
    assert_says(&line, &["cluster ID \"mine\" does not match", &theirs]);
    assert_eq!(active.wait_until_active().await, 1);
    let epoch = number(url, "SELECT epoch FROM stanby.leadership").await;
    assert_eq!(epoch, 1, "it took over before it looked");
}

/// Acceptance: 135.
#[tokio::test]
async fn of_two_clusters_that_start_at_once_on_an_empty_database_one_is_refused() {
    let (Some(database), Some(nats)) = (postgres::database().await, nats::url().await) else {
        return;
    };
    let start = |cluster_id: &str| {
        let mut command = Server::command();
        command
            .args([
                "serve",
                "--database-url",
                &database.url,
                "--nats-server",
                &nats,
            ])
            .args(["--cluster-id", cluster_id])
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    let [one, other] = ["one", "other"].map(|suffix| format!("{}-{suffix}", database.name));
    let (mut first, mut second) = (start(&one), start(&other));

    let ended = timeout(LIMIT, async {
        tokio::select! {
            _ = first.wait() => first,
            _ = second.wait() => second,
        }
    });

    let output = ended.await.expect("one of them ends").wait_with_output();
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let line = said.lines().find(|line| line.contains("ERROR")).unwrap();
    assert_says(line, &["does not match recovered value of", &one, &other]);
    let owner = text(&database.url, "SELECT cluster_id FROM stanby.server_info").await;
    let owner = format!("recovered value of {owner:?}");
    assert_says(line, &[&owner]);
}

#[tokio::test]
async fn a_nats_server_that_does_not_let_in_is_named() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let guards = ["--user", "u", "--pass", "right"];
    let Some(guarded) = nats::own_server(&guards).await else {
        return;
    };
    let url = format!("nats://u:{SECRET}@127.0.0.1:{}", guarded.port());
    let line = refusal(&["--database-url", &database.url, "--nats-server", &url]).await;
    assert_says(&line, &[&guarded.url()]);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let database = ["--database-url", "postgres://u@127.0.0.1:1/d"];
    let pages = ["--http-host", "127.0.0.1", "--http-port", &port];

    let line = refusal(&[&database[..], &pages[..]].concat()).await;

    let address = format!("127.0.0.1:{port}");
    assert_says(&line, &[&address, "choose another --http-port"]);
}

#[tokio::test]
async fn a_server_of_another_ft_group_is_refused_on_the_schema_of_a_pair() {
    let Some(group) = Group::new(&["--ft-group", "orders"]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;

    let line = refusal(&[
        "--database-url",
        &group.database_url,
        "--nats-server",
        NATS_AWAY,
        "--cluster-id",
        &group.cluster_id,
        "--ft-group",
        "invoices",
    ])
    .await;

    assert_says(
        &line,
        &["\"orders\"", "\"invoices\"", "--ft-group", "--schema"],
    );
}
