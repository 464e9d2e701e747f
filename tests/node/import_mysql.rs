//! `stanby import --from mysql://…`: a store in `MySQL` comes out as the same store in Postgres does.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::process::Output;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::certificates::Files;
use crate::cli::{code, stderr, stdout};
use crate::former::{ClientInfo, FormerTables, SubState, server_info};
use crate::import::{CHANNEL, ensure_imported, ensure_nothing_written, fill, group, import};
use crate::mariadb::own_server;
use crate::pair::{Group, LIMIT, Server};
use crate::stores::Contents;
use crate::support::nats;
use crate::support::postgres;
use crate::support::wait::wait_until;

fn command(group: &Group, from: &str, flags: &[&str]) -> Command {
    let mut command = Server::command();
    command
        .args(["import", "--from", from])
        .args(["--database-url", &group.database_url])
        .args(["--nats-server", &group.nats_url])
        .args(["--cluster-id", &group.cluster_id])
        .args(flags)
        .env_remove("NATS_STREAMING_ENCRYPTION_KEY");
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    command
}

async fn import_from(group: &Group, from: &str, flags: &[&str]) -> Output {
    let mut command = command(group, from, flags);
    timeout(LIMIT, command.output()).await.unwrap().unwrap()
}

async fn refused(group: &Group, from: &str, part: &str) {
    let output = import_from(group, from, &[]).await;
    let text = stderr(&output);
    assert_ne!(code(&output), Some(0), "{part}: {}", stdout(&output));
    assert!(text.contains(part), "{part}: {text}");
    assert!(!text.contains("geheim"), "{text}");
    ensure_nothing_written(group).await;
}

/// All that an import writes, but for when it was and in which term.
async fn contents(group: &Group, schema: &'static str) -> Vec<String> {
    let mut all = Vec::new();
    let tables = group.tables().in_schema(schema);
    for query in [
        "SELECT (to_jsonb(t) - 'epoch' - 'created_at_ns')::text FROM channels t ORDER BY 1",
        "SELECT (to_jsonb(t) - 'epoch' - 'data')::text || md5(data) FROM messages t ORDER BY 1",
        "SELECT (to_jsonb(t) - 'epoch')::text FROM clients t ORDER BY 1",
        "SELECT (to_jsonb(t) - 'epoch')::text FROM positions t ORDER BY 1",
        "SELECT (to_jsonb(t) - 'epoch' - 'since_ns')::text FROM subscriptions t ORDER BY 1",
    ] {
        all.extend(tables.texts(query).await);
    }
    all
}

/// What there is of kinds: durables, groups without members, rows of both forms of pending, deleted ones, a hole.
async fn fill_all_kinds(tables: &mut FormerTables) {
    fill(tables).await;
    tables.channel(2, "Späte Grüße", 20).await;
    tables.channel(7, "gone", 0).await;
    tables.message(7, "gone", 1, b"x").await;
    tables.message(1, CHANNEL, 12, &[0, 255, 7, 39, 92]).await;
    tables
        .message(1, CHANNEL, 13, "x".repeat(60_000).as_bytes())
        .await;
    tables
        .execute("UPDATE Channels SET deleted = TRUE WHERE id = 7")
        .await;
    let closed = SubState {
        is_closed: true,
        ..SubState::of(2, "bob").durable("closed")
    };
    tables.subscription(1, 5, &closed).await;
    tables.pending(2, 1, 4).await;
    let shadow = SubState {
        client_id: String::new(),
        ..SubState::of(4, "").durable_queue("dur:group")
    };
    tables.subscription(1, 7, &shadow).await;
    tables
        .pending_cached((4, 2), 8, Some("[8,7]"), Some("[5,3]"))
        .await;
    tables
        .pending_cached((4, 1), 6, Some("[4,3,6,5]"), None)
        .await;
    tables.pending(99, 1, 5).await;
}

#[tokio::test]
async fn a_store_in_mysql_comes_out_as_the_same_store_in_postgres() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    let Some(mysql) = own_server(None).await else {
        return;
    };
    fill_all_kinds(&mut tables).await;
    mysql.take(&group.database_url).await;
    ensure_imported(&import(&group).await);
    let from_postgres = contents(&group, "stanby").await;

    let rehearsed = import_from(&group, &mysql.url(), &["--schema", "other", "--dry-run"]).await;
    ensure_imported(&rehearsed);
    let text = stdout(&rehearsed);
    assert!(
        text.contains("would import channels: 2, messages: 10, clients: 0"),
        "{text}"
    );
    let exists = "SELECT count(*) FROM pg_namespace WHERE nspname = 'other'";
    assert_eq!(group.tables().number(exists).await, 0);

    ensure_imported(&import_from(&group, &mysql.url(), &["--schema", "other"]).await);
    assert_eq!(contents(&group, "other").await, from_postgres);

    // The former file says it in the words of the former driver.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stan.conf");
    let text = format!(
        "streaming {{ cluster_id: '{}', store: sql, sql_options {{ driver: mysql, source: '{}' }} }}",
        group.cluster_id,
        mysql.source()
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Server::command();
    command
        .args(["import", "--from-config", file.to_str().unwrap()])
        .args(["--database-url", &group.database_url])
        .args(["--nats-server", &group.nats_url, "--schema", "third"]);
    let output = Command::from(command).kill_on_drop(true).output();
    ensure_imported(&timeout(LIMIT, output).await.unwrap().unwrap());
    assert_eq!(contents(&group, "third").await, from_postgres);
}

#[tokio::test]
async fn what_is_exported_to_mysql_and_imported_again_is_what_it_was() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    let Some(mysql) = own_server(None).await else {
        return;
    };
    fill_all_kinds(&mut tables).await;
    // Tables have no holes on the way back.
    tables.message(1, CHANNEL, 11, b"eleven").await;
    // More than MySQL's own type for it holds, and nothing left of another.
    tables.message(1, CHANNEL, 14, &vec![b'x'; 100_000]).await;
    tables.channel(8, "empty", 40).await;
    // Names that a database's default knows no letters for, or takes for the same.
    tables.channel(9, "日本", 3).await;
    for id in ["App", "app"] {
        let client = ClientInfo {
            id: id.to_owned(),
            heartbeat_inbox: format!("_INBOX.{id}"),
            ..ClientInfo::default()
        };
        tables.client(&client).await;
    }
    ensure_imported(&import(&group).await);
    let before = Contents::stored(&group.database_url, "stanby").await;
    // As in MySQL 5.6 and MariaDB 10.1, where an index takes 767 bytes of a column.
    mysql
        .execute("SET GLOBAL innodb_default_row_format = compact")
        .await;
    mysql
        .execute("CREATE DATABASE back CHARACTER SET latin1; GRANT ALL ON back.* TO 'stan'@'%'")
        .await;
    let url = mysql.url();
    let back = format!("{}/back", url.strip_suffix("/stan").unwrap());
    let export = async || {
        let mut command = Server::command();
        command
            .args(["export", "--to-sql", &back])
            .args(["--database-url", &group.database_url]);
        let output = Command::from(command).kill_on_drop(true).output();
        timeout(LIMIT, output).await.unwrap().unwrap()
    };

    let exported = export().await;
    assert_eq!(code(&exported), Some(0), "{}", stderr(&exported));
    let told = stdout(&exported);
    assert!(told.contains("-sql_driver mysql"), "{told}");

    ensure_imported(&import_from(&group, &back, &["--schema", "again"]).await);
    let after = Contents::stored(&group.database_url, "again").await;
    after.assert_is(&before, "back in MySQL");
    let refused = export().await;
    assert_eq!(code(&refused), Some(1), "{}", stdout(&refused));
    assert!(
        stderr(&refused).contains("are not empty"),
        "{}",
        stderr(&refused)
    );
}

#[tokio::test]
async fn durables_of_a_store_in_mysql_go_on_where_they_were() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let (Some(nats), Some(mysql)) = (nats::own_server(&[]).await, own_server(None).await) else {
        return;
    };
    let group = Group::over(database.url.clone(), nats.url(), &[]);
    FormerTables::real(&group.database_url).await;
    mysql.take(&group.database_url).await;
    FormerTables::connect(&group.database_url)
        .await
        .execute("DROP SCHEMA public CASCADE")
        .await;

    let key = ("STANBY_FROM_ENCRYPTION_KEY", "former-key-0123456789");
    let mut importing = command(&group, &mysql.url(), &[]);
    let output = timeout(LIMIT, importing.envs([key]).output()).await;
    ensure_imported(&output.unwrap().unwrap());
    let server = group.server();
    server.wait_until_active().await;

    let client = group.client("reader").await;
    let subscription = client.subscribe(CHANNEL, "", "books").await.unwrap();
    let received = wait_until(LIMIT, async || match subscription.received() {
        received if received.len() >= 3 => Ok(received),
        received => Err(format!("{received:?}")),
    })
    .await;
    let received: Vec<_> = received
        .into_iter()
        .map(|delivery| (delivery.sequence, delivery.redelivered, delivery.data))
        .collect();
    let line = |sequence: u64| (sequence, true, format!("line {sequence}").into());
    assert_eq!(received, [line(3), line(4), line(5)]);
}

#[tokio::test]
async fn what_keeps_a_store_in_mysql_from_being_imported_is_told() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    let Some(mysql) = own_server(None).await else {
        return;
    };
    let url = mysql.url();
    fill(&mut tables).await;
    tables.message(1, "other", 11, b"x").await;
    mysql.take(&group.database_url).await;
    refused(&group, &url, "channel \"orders\", message 11: ").await;
    mysql.execute("DELETE FROM Messages WHERE seq = 11").await;

    let elsewhere = url
        .replace("/stan", "/nothing")
        .replace("//nothing", "//stan");
    refused(&group, &elsewhere, "check user, password and database").await;
    let wrong = url.replace("geheim%40mysql", "geheim");
    refused(&group, &wrong, "check user, password and database").await;
    refused(
        &group,
        "mysql://stan:geheim@127.0.0.1:1/stan",
        "MySQL at 127.0.0.1:1",
    )
    .await;

    mysql.execute("UPDATE ServerInfo SET version = 2").await;
    refused(
        &group,
        &url,
        "database stan: table ServerInfo says version 2",
    )
    .await;
    tables.server_info(&server_info("other-cluster"), 1).await;
    mysql.take(&group.database_url).await;
    refused(&group, &url, "those of cluster ID \"other-cluster\"").await;
    mysql.execute("DROP TABLE SubsPending").await;
    refused(&group, &url, "has no table subspending").await;
}

#[tokio::test]
async fn a_former_server_that_runs_on_mysql_is_noticed_by_its_lock() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    let Some(mysql) = own_server(None).await else {
        return;
    };
    fill(&mut tables).await;
    mysql.take(&group.database_url).await;
    mysql
        .execute("INSERT INTO StoreLock VALUES ('holder', 5)")
        .await;
    let mut command = command(&group, &mysql.url(), &[]);
    let ticking = async {
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tick.tick().await;
            mysql.execute("UPDATE StoreLock SET tick = tick + 1").await;
        }
    };
    let output = tokio::select! {
        output = command.output() => output.unwrap(),
        () = ticking => unreachable!("it does not end"),
    };
    let text = stderr(&output);
    assert!(text.contains("\"holder\" still runs"), "{text}");
    ensure_nothing_written(&group).await;
}

#[tokio::test]
async fn mysql_is_spoken_to_by_tls_as_its_url_says() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    let authority = Files::new();
    let own = authority.sign("127.0.0.1");
    let Some(mysql) = own_server(Some(&own)).await else {
        return;
    };
    fill(&mut tables).await;
    mysql.take(&group.database_url).await;
    mysql
        .execute("GRANT SELECT ON stan.* TO 'stan'@'%' REQUIRE SSL")
        .await;
    let with = |settings: &str| format!("{}?{settings}", mysql.url());
    let trusting = |ca: &Files| {
        let ca = ca.path("ca.pem");
        with(&format!("ssl-mode=verify_identity&ssl-ca={}", ca.display()))
    };

    refused(&group, &with("ssl-mode=disabled"), "check user, password").await;
    refused(&group, &trusting(&Files::new()), "MySQL at 127.0.0.1").await;

    ensure_imported(&import_from(&group, &trusting(&authority), &[]).await);
}
