//! `deploy/sql/roles.sql` and `stanby migrate`: one role makes the tables, another one that may not serves from them.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::path::Path;
use std::process::Output;

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stanby::core::ids::Epoch;
use stanby::leadership::key::lock_key;
use stanby::leadership::step_down::request;
use tokio::process::Command;

use crate::cli::{code, stanby, stderr, stdout};
use crate::pair::{Group, LIMIT, Pair, Says};
use crate::support::postgres::{self, TestDatabase};
use crate::support::wait::wait_until;
use crate::support::{nats, tools};
use crate::tables::Tables;

/// The roles of a test's own database, on the Postgres that it shares with others.
struct Roles {
    database: TestDatabase,
}

impl Roles {
    async fn make() -> Option<Self> {
        let psql = tools::of_postgres("psql")?;
        let database = postgres::database().await?;
        let roles = Self { database };
        for _ in 0..2 {
            let output = roles.script(&psql).await;
            assert!(output.status.success(), "{}", stderr(&output));
        }
        Some(roles)
    }

    async fn script(&self, psql: &Path) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/sql/roles.sql");
        let mut command = Command::new(psql);
        command.args(["--no-psqlrc", "--quiet", "-f"]).arg(script);
        for role in ["owner", "app", "reader", "operator"] {
            command.args(["-v", &format!("{role}={}", self.name(role))]);
        }
        command.args(["-d", &self.database.url]);
        command.output().await.unwrap()
    }

    fn name(&self, role: &str) -> String {
        format!("{}_{role}", self.database.name)
    }

    fn url(&self, role: &str) -> String {
        let user = format!("user={}", self.name(role));
        let url = self.database.url.replace("user=postgres", &user);
        assert_ne!(url, self.database.url);
        url
    }

    async fn migrate(&self, role: &str, more: &[&str]) -> Output {
        let url = self.url(role);
        stanby(&[&["migrate", "--database-url", &url], more].concat()).await
    }
}

#[tokio::test]
async fn a_pair_serves_takes_over_and_hands_over_as_a_role_that_may_make_nothing() {
    let (Some(roles), Some(nats_url)) = (Roles::make().await, nats::url().await) else {
        return;
    };
    let checked = roles.migrate("owner", &["--check"]).await;
    assert_eq!(code(&checked), Some(1), "{}", stdout(&checked));
    assert!(stdout(&checked).contains("holds no tables yet"));
    let migrated = roles.migrate("owner", &[]).await;
    assert_eq!(code(&migrated), Some(0), "{}", stderr(&migrated));
    let checked = roles.migrate("app", &["--check"]).await;
    assert_eq!(code(&checked), Some(0), "{}", stdout(&checked));
    let mut group = Group::over(roles.url("app"), nats_url, &[]);
    group.cluster_id.clone_from(&roles.database.name);

    let mut pair = Pair::of(group).await;
    let client = pair.group.client("me").await;
    let mut publisher = client.publisher("orders").await;
    publisher.send().await;
    publisher.take_all_acks().await;
    pair.active.signal(Signal::SIGKILL);
    pair.active.end().await;
    assert_eq!(pair.standby.wait_until_active().await, 2);
    publisher.send().await;
    publisher.take_all_acks().await;
    pair.active = pair.group.server();
    pair.group.wait_for_standbys(1).await;
    let url = roles.url("app");
    let stepped = stanby(&["step-down", "--database-url", &url]).await;
    assert_eq!(code(&stepped), Some(0), "{}", stderr(&stepped));
    assert_eq!(pair.active.wait_until_active().await, 3);

    for role in ["app", "reader"] {
        let status = stanby(&["status", "--database-url", &roles.url(role)]).await;
        assert_eq!(code(&status), Some(0), "{}", stderr(&status));
        assert!(
            stdout(&status).contains("messages 2 ("),
            "{}",
            stdout(&status)
        );
    }
    // Now that the tables are there.
    let psql = tools::of_postgres("psql").unwrap();
    let output = roles.script(&psql).await;
    assert!(output.status.success(), "{}", stderr(&output));
    for (role, expected) in [("operator", Some(0)), ("reader", Some(2))] {
        let url = roles.url(role);
        let purge = ["channel", "purge", "orders", "--keep", "1", "--yes"];
        let purged = stanby(&[&purge, &["--database-url", &url][..]].concat()).await;
        assert_eq!(code(&purged), expected, "{role}: {}", stderr(&purged));
    }
    let mut app = PgConnection::connect(&url).await.unwrap();
    for forbidden in [
        "CREATE TABLE stanby.mine ()",
        "CREATE SCHEMA mine",
        "DROP TABLE stanby.messages",
        "CREATE TEMPORARY TABLE mine ()",
    ] {
        let refused = sqlx::query(forbidden).execute(&mut app).await.unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("permission denied") || text.contains("must be owner"),
            "{forbidden}: {text}"
        );
    }
}

#[tokio::test]
async fn a_role_that_may_not_migrate_is_told_who_must() {
    let Some(roles) = Roles::make().await else {
        return;
    };

    let refused = roles.migrate("app", &[]).await;
    assert_eq!(code(&refused), Some(1));
    let text = stderr(&refused);
    let app = roles.name("app");
    for part in [
        "schema stanby holds no tables yet",
        &format!("role {app} may not make tables in schema stanby"),
        "stanby migrate",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let migrated = roles.migrate("owner", &[]).await;
    assert_eq!(code(&migrated), Some(0), "{}", stderr(&migrated));
    let mut admin = PgConnection::connect(&roles.database.url).await.unwrap();
    let older = "DELETE FROM stanby.schema_versions WHERE version > 1";
    sqlx::query(older).execute(&mut admin).await.unwrap();
    let refused = roles.migrate("app", &[]).await;
    let text = stderr(&refused);
    assert!(
        text.contains("has version 1, this server needs") && text.contains("may not change"),
        "{text}"
    );
}

/// It would be counted as the standby, and fail when it is needed.
#[tokio::test]
async fn a_server_whose_role_may_only_read_does_not_start() {
    let Some(roles) = Roles::make().await else {
        return;
    };
    let migrated = roles.migrate("owner", &[]).await;
    assert_eq!(code(&migrated), Some(0), "{}", stderr(&migrated));

    let url = roles.url("reader");
    let refused = stanby(&["serve", "--database-url", &url]).await;

    assert_eq!(code(&refused), Some(1));
    let reader = roles.name("reader");
    for part in [
        "may not DELETE admin_requests, channel_grants, channel_updates, channels",
        &format!("GRANT DELETE ON ALL TABLES IN SCHEMA \"stanby\" TO \"{reader}\""),
        "stanby doctor",
    ] {
        let text = stderr(&refused);
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn an_active_that_may_not_vacuum_says_so_once_and_vacuums_when_it_may() {
    let (Some(roles), Some(nats_url)) = (Roles::make().await, nats::url().await) else {
        return;
    };
    let migrated = roles.migrate("owner", &[]).await;
    assert_eq!(code(&migrated), Some(0), "{}", stderr(&migrated));
    let (owner, app) = (roles.name("owner"), roles.name("app"));
    let tables = Tables::new(&roles.database.url);
    let has_a_right = tables
        .number("SELECT count(*) FROM pg_settings WHERE name = 'server_version_num' AND setting::integer >= 170000")
        .await;
    if has_a_right > 0 {
        let revoke = format!("REVOKE MAINTAIN ON ALL TABLES IN SCHEMA stanby FROM {app}");
        tables.execute(revoke).await;
    }
    tables
        .execute("ALTER TABLE stanby.messages SET (autovacuum_enabled = false)")
        .await;
    for statement in [
        "INSERT INTO stanby.messages SELECT 7, n, n, 1, 'c', 'g', '', '' FROM generate_series(1, 150000) n",
        "DELETE FROM stanby.messages WHERE channel_id = 7",
    ] {
        tables.execute(statement).await;
    }
    let mut group = Group::over(roles.url("app"), nats_url, &[]);
    group.cluster_id.clone_from(&roles.database.name);

    let server = group.server();
    server.wait_until_active().await;
    let told = || server.log().matches("this role may not vacuum").count();
    wait_until(LIMIT, async || match told() {
        0 => Err(server.log()),
        _ => Ok(()),
    })
    .await;

    tables.execute(format!("GRANT {owner} TO {app}")).await;
    let vacuums =
        "SELECT vacuum_count FROM pg_stat_user_tables WHERE relid = 'stanby.messages'::regclass";
    wait_until(LIMIT, async || match tables.number(vacuums).await {
        0 => Err("no vacuum".to_owned()),
        _ => Ok(()),
    })
    .await;
    assert_eq!(told(), 1);
}

/// Migrations come with later versions; the script is run only once.
#[tokio::test]
async fn tables_that_come_later_are_the_app_roles_too() {
    let Some(roles) = Roles::make().await else {
        return;
    };
    let mut owner = PgConnection::connect(&roles.url("owner")).await.unwrap();
    let later = "CREATE TABLE stanby.later (a int)";
    sqlx::query(later).execute(&mut owner).await.unwrap();

    let mut app = PgConnection::connect(&roles.url("app")).await.unwrap();
    let used = "INSERT INTO stanby.later VALUES (1)";
    sqlx::query(used).execute(&mut app).await.unwrap();
    let mut reader = PgConnection::connect(&roles.url("reader")).await.unwrap();
    for closed in [used, "SELECT FROM stanby.later"] {
        let refused = sqlx::query(closed).execute(&mut reader).await.unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("permission denied"), "{closed}: {text}");
    }
}

/// Everything that lets somebody act in the name of a client or a server.
#[tokio::test]
async fn a_role_that_looks_reads_no_secret_and_everything_else() {
    let (Some(roles), Some(nats_url)) = (Roles::make().await, nats::url().await) else {
        return;
    };
    let migrated = roles.migrate("owner", &[]).await;
    assert_eq!(code(&migrated), Some(0), "{}", stderr(&migrated));
    let mut group = Group::over(roles.url("app"), nats_url, &[]);
    group.cluster_id.clone_from(&roles.database.name);
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("me").await;
    client.hold("orders", "", "books", 3).await.unwrap();
    let mut publisher = client.publisher("orders").await;
    publisher.send().await;
    publisher.take_all_acks().await;
    // As a former version of the script left it.
    let reader = roles.name("reader");
    let tables = Tables::new(&roles.database.url);
    tables
        .execute(format!(
            "GRANT SELECT ON ALL TABLES IN SCHEMA stanby TO {reader}"
        ))
        .await;
    tables.execute("SELECT grant_to_readers()").await;

    let secrets = tables
        .texts(
            "SELECT encode(ack_secret, 'hex') FROM leadership
             UNION SELECT convert_from(connection_id, 'UTF8') FROM clients
             UNION SELECT heartbeat_inbox FROM clients
             UNION SELECT inbox FROM subscriptions UNION SELECT ack_inbox FROM subscriptions
             UNION SELECT guid FROM messages",
        )
        .await;
    assert_eq!(secrets.len(), 6, "{secrets:?}");
    let relations = tables
        .texts(
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'stanby'::regnamespace AND relkind IN ('r', 'v')",
        )
        .await;
    let mut looking = PgConnection::connect(&roles.url("reader")).await.unwrap();
    let mut closed = Vec::new();
    for relation in &relations {
        let query =
            format!("SELECT coalesce(string_agg(r::text, ' '), '') FROM stanby.{relation} r");
        let read: Result<String, _> = sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_one(&mut looking)
            .await;
        match read {
            Ok(text) => {
                for secret in &secrets {
                    assert!(!text.contains(secret.as_str()), "{relation}: {text}");
                }
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("permission denied"), "{relation}: {text}");
                closed.push(relation.as_str());
            }
        }
    }
    for table in [
        "leadership",
        "clients",
        "subscriptions",
        "messages",
        "term_keys",
        "encryption_keys",
        "closed_connections",
    ] {
        assert!(closed.contains(&table), "{table} is open: {closed:?}");
    }
    for open in [
        "active",
        "standbys",
        "takeovers",
        "durables",
        "channel_status",
        "client_status",
        "subscription_status",
        "readable_messages",
        "conditions",
        "lost_ranges",
        "unreadable_messages",
        "database_failovers",
        "cluster",
    ] {
        assert!(!closed.contains(&open), "{open} is closed");
    }
    for json in [&["status"][..], &["status", "--json"]] {
        let url = roles.url("reader");
        let status = stanby(&[json, &["--database-url", &url]].concat()).await;
        assert_eq!(code(&status), Some(0), "{}", stderr(&status));
        assert!(stdout(&status).contains("books"), "{}", stdout(&status));
    }
}

#[tokio::test]
async fn a_role_that_looks_cannot_make_the_active_step_down() {
    let (Some(roles), Some(nats_url)) = (Roles::make().await, nats::url().await) else {
        return;
    };
    let migrated = roles.migrate("owner", &[]).await;
    assert_eq!(code(&migrated), Some(0), "{}", stderr(&migrated));
    let mut group = Group::over(roles.url("app"), nats_url, &[]);
    group.cluster_id.clone_from(&roles.database.name);
    let pair = Pair::of(group).await;
    let client = pair.group.client("me").await;
    let mut publisher = client.publisher("orders").await;

    let mut reader = PgConnection::connect(&roles.url("reader")).await.unwrap();
    let (channel, [proof, plain]) = request("stanby", Epoch(1), b"a guess");
    for payload in [plain, proof] {
        sqlx::query("SELECT pg_notify($1, $2)")
            .bind(&channel)
            .bind(payload)
            .execute(&mut reader)
            .await
            .unwrap();
    }
    let refused = stanby(&["step-down", "--database-url", &roles.url("reader")]).await;
    assert_eq!(code(&refused), Some(2), "{}", stdout(&refused));
    let text = stderr(&refused);
    assert!(
        text.contains("this role may not ask the active to step down"),
        "{text}"
    );
    // Whatever was notified has arrived with the answers to these.
    for _ in 0..5 {
        publisher.send().await;
        publisher.take_all_acks().await;
    }
    assert_eq!(pair.active.says().await, Says::Active(1));

    let stepped = stanby(&["step-down", "--database-url", &roles.url("owner")]).await;
    assert_eq!(code(&stepped), Some(0), "{}", stderr(&stepped));
    assert_eq!(pair.standby.wait_until_active().await, 2);
}

/// It can be taken, because whoever may connect may take advisory locks. So it has to show.
#[tokio::test]
async fn a_session_that_holds_the_lock_and_is_no_server_is_named() {
    let (Some(roles), Some(nats_url)) = (Roles::make().await, nats::url().await) else {
        return;
    };
    let migrated = roles.migrate("owner", &[]).await;
    assert_eq!(code(&migrated), Some(0), "{}", stderr(&migrated));
    let mut group = Group::over(roles.url("app"), nats_url, &[]);
    group.cluster_id.clone_from(&roles.database.name);
    let first = group.server();
    first.wait_until_active().await;
    first.kill().await;
    let mut reader = PgConnection::connect(&roles.url("reader")).await.unwrap();
    // It may call itself a server.
    for statement in [
        "SET application_name = 'stanby/x/default/y'".to_owned(),
        format!("SELECT pg_advisory_lock({})", lock_key("stanby")),
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut reader)
            .await
            .unwrap();
    }

    let server = group.server();
    server.wait_for_trouble(&roles.name("reader")).await;
    server.wait_for_trouble("pg_terminate_backend(").await;
    let (_, metrics) = server.get("/metrics").await.unwrap();
    let condition = "stanby_condition{kind=\"lock-held-by-stranger\"} 1";
    assert!(metrics.contains(condition), "{metrics}");
    let status = stanby(&["status", "--database-url", &roles.url("reader")]).await;
    assert!(
        stdout(&status).contains("which is no server"),
        "{}",
        stdout(&status)
    );

    reader.close().await.unwrap();
    assert_eq!(server.wait_until_active().await, 2);
}
