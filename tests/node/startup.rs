//! What keeps a server from starting. What passes by itself is waited for; what somebody has to change first ends it with
//! 1 and one sentence that names the cause and the remedy, and never a secret.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

mod other_tables;
mod waiting;

use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::timeout;

use crate::pair::{Group, LIMIT, Server};
use crate::support::nats;
use crate::support::postgres::{self, TestDatabase};
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
