//! `stanby doctor` on databases and NATS servers that are well, and on ones that are not.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::cli::{code, stanby, stderr, stdout};
use crate::pair::{Group, LIMIT, Pair};
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

/// What the doctor found, and its exit code.
struct Report {
    code: Option<i32>,
    value: Value,
}

impl Report {
    async fn of(flags: &[&str]) -> Self {
        let output = stanby(&[&["doctor", "--json"], flags].concat()).await;
        assert!(!output.stdout.is_empty(), "{}", stderr(&output));
        Self {
            code: code(&output),
            value: serde_json::from_slice(&output.stdout).unwrap(),
        }
    }

    async fn of_group(group: &Group, flags: &[&str]) -> Self {
        let database = ["--database-url", &group.database_url];
        let nats = ["--nats-server", &group.nats_url];
        let id = ["--cluster-id", &group.cluster_id];
        Self::of(&[&database[..], &nats, &id, flags].concat()).await
    }

    fn all(&self, about: &str) -> Vec<&Value> {
        let findings = self.value["findings"].as_array().unwrap();
        findings.iter().filter(|it| it["about"] == about).collect()
    }

    /// Verdict, text and remedy of the one finding about this.
    fn about(&self, about: &str) -> (&str, &str, &str) {
        let all = self.all(about);
        assert_eq!(all.len(), 1, "{about}: {}", self.value);
        let part = |name: &str| all[0][name].as_str().unwrap_or_default();
        (part("verdict"), part("text"), part("remedy"))
    }
}

async fn execute(url: &str, statements: String) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(&mut connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_doctor_finds_nothing_wrong_before_the_first_server_and_beside_a_pair() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };

    let before = Report::of_group(&group, &[]).await;
    assert_eq!(before.code, Some(0), "{}", before.value);
    for (about, part) in [
        ("database", "is a writable Postgres"),
        ("session", "direct"),
        ("timeouts", "Postgres keeps"),
        ("tls", "on this machine"),
        ("rights", "role postgres may do all"),
        ("schema", "holds no tables yet"),
        ("connections", "are free"),
        ("lock", "free: no server is active; no standby waits"),
        ("nats", "nats-server"),
        ("listeners", "no other server serves"),
    ] {
        let (verdict, text, _) = before.about(about);
        assert!(verdict != "fail" && text.contains(part), "{about}: {text}");
    }
    // The tests' own Postgres is made to be thrown away.
    let (verdict, text, _) = before.about("durability");
    assert_eq!(verdict, "warn", "{text}");

    let pair = Pair::of(group).await;
    let beside = Report::of_group(&pair.group, &[]).await;
    assert_eq!(beside.code, Some(0), "{}", beside.value);
    let (verdict, text, _) = beside.about("lock");
    assert_eq!(verdict, "ok");
    assert!(text.starts_with("active: stanby/"), "{text}");
    assert!(text.contains("; waiting: stanby/"), "{text}");
    assert_eq!(beside.all("listeners").len(), 0);
    let (_, text, _) = beside.about("schema");
    assert!(text.contains("which is this server's"), "{text}");

    let lines = stanby(&["doctor", "--database-url", &pair.group.database_url]).await;
    let text = stdout(&lines);
    assert!(text.contains("ok   lock         active: stanby/"), "{text}");
}

#[tokio::test]
async fn the_doctor_names_each_right_that_is_missing_and_the_grant() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let role = format!("poor_{}", group.cluster_id);
    let url = group
        .database_url
        .replace("user=postgres", &format!("user={role}"));
    execute(&group.database_url, format!("CREATE ROLE {role} LOGIN")).await;
    let poor = Group::over(url, group.nats_url.clone(), &[]);
    let rights = async |expected: &[(&str, &str)]| {
        let report = Report::of_group(&poor, &[]).await;
        assert_eq!(report.code, Some(1));
        let found: Vec<(&str, &str)> = report
            .all("rights")
            .iter()
            .map(|it| (it["text"].as_str().unwrap(), it["remedy"].as_str().unwrap()))
            .collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for ((text, remedy), (what, grant)) in found.iter().zip(expected) {
            assert!(
                text.contains(what) && remedy.contains(grant),
                "{text}: {remedy}"
            );
        }
    };

    let database = &group.cluster_id;
    let grant = format!("GRANT CREATE ON DATABASE \"{database}\" TO \"{role}\"");
    rights(&[("may not make schema stanby", &grant)]).await;

    let migrated = stanby(&["migrate", "--database-url", &group.database_url]).await;
    assert_eq!(code(&migrated), Some(0), "{}", stderr(&migrated));
    let grant = format!("GRANT USAGE ON SCHEMA \"stanby\" TO \"{role}\"");
    rights(&[("may not use schema stanby", &grant)]).await;

    let usage = format!("{grant}; GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA stanby TO {role}");
    execute(&group.database_url, usage).await;
    rights(&[
        (
            "may not DELETE admin_requests, channel_grants, channel_updates, channels",
            "GRANT DELETE ON ALL TABLES IN SCHEMA",
        ),
        (
            "may not INSERT admin_requests, channel_grants, channel_updates, channels",
            "GRANT INSERT ON ALL TABLES IN SCHEMA",
        ),
    ])
    .await;

    let all = format!("GRANT INSERT, DELETE ON ALL TABLES IN SCHEMA stanby TO {role}");
    execute(&group.database_url, all).await;
    let report = Report::of_group(&poor, &[]).await;
    assert_eq!(report.code, Some(0), "{}", report.value);
}

#[tokio::test]
async fn the_doctor_goes_on_when_database_or_nats_are_away_and_fails() {
    let Some(nats_url) = nats::url().await else {
        return;
    };
    let away = "postgres://u:geheim@127.0.0.1:1/d";
    let report = Report::of(&["--database-url", away, "--nats-server", &nats_url]).await;
    assert_eq!(report.code, Some(1));
    let (verdict, text, _) = report.about("database");
    assert_eq!(verdict, "fail");
    assert!(
        text.contains("cannot reach Postgres at 127.0.0.1:1"),
        "{text}"
    );
    assert!(!report.value.to_string().contains("geheim"));
    assert_ne!(report.about("nats").0, "fail");

    let Some(database) = postgres::database().await else {
        return;
    };
    let nats_away = ["--nats-server", "nats://127.0.0.1:1"];
    let flags = [&["--database-url", &database.url], &nats_away[..]].concat();
    let report = Report::of(&flags).await;
    assert_eq!(
        (report.code, report.value["failures"].as_i64()),
        (Some(1), Some(1))
    );
    assert_eq!(report.about("nats").0, "fail");
}

#[tokio::test]
async fn the_doctor_tells_of_other_servers_with_the_cluster_id_and_of_strangers_with_the_lock() {
    let (Some(group), Some(other)) = (Group::new(&[]).await, postgres::database().await) else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let mut elsewhere = Group::over(other.url.clone(), group.nats_url.clone(), &[]);
    elsewhere.cluster_id.clone_from(&group.cluster_id);
    let report = Report::of_group(&elsewhere, &[]).await;
    let (verdict, text, _) = report.about("listeners");
    assert_eq!(verdict, "warn");
    assert!(
        text.contains("another server listens for clients"),
        "{text}"
    );

    let key = stanby::leadership::key::lock_key("stanby");
    let mut stranger = PgConnection::connect(&other.url).await.unwrap();
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(key)
        .execute(&mut stranger)
        .await
        .unwrap();
    let report = Report::of_group(&elsewhere, &[]).await;
    let (verdict, text, remedy) = report.about("lock");
    assert_eq!(verdict, "warn");
    assert!(text.contains("no server can become active"), "{text}");
    assert!(remedy.contains("end that session"), "{remedy}");
}

#[tokio::test]
async fn the_doctor_judges_what_serve_would_run_with() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let unlimited = ["-max_msgs", "0", "-max_bytes", "0", "--lease", "20s"];
    let report = Report::of_group(&group, &unlimited).await;
    assert_eq!(report.code, Some(0));
    assert!(report.about("limits").1.contains("until the disk is full"));
    assert!(report.about("settings").1.contains("with a lease of 20s"));

    let wrong = stanby(&["doctor", "--lease", "1ms"]).await;
    assert_eq!(code(&wrong), Some(2), "{}", stderr(&wrong));

    group.server().wait_until_active().await;
    let report = Report::of_group(&group, &["--cluster-id", "mine"]).await;
    assert_eq!(report.code, Some(1));
    assert!(report.about("cluster-id").1.contains("does not match"));
}

#[tokio::test]
async fn tables_that_a_crash_would_empty_are_told_in_the_same_words_everywhere_until_they_are_logged()
 {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let group = &pair.group;
    let report = Report::of_group(group, &[]).await;
    assert_eq!(report.about("logging").0, "ok");

    let database = &group.database_url;
    let alter = "ALTER TABLE stanby.messages SET UNLOGGED; ALTER TABLE stanby.clients SET UNLOGGED";
    execute(database, alter.to_owned()).await;
    let report = Report::of_group(group, &[]).await;
    let (verdict, text, remedy) = report.about("logging");
    assert_eq!(verdict, "warn");
    assert!(
        text.contains("no log of stanby.clients, stanby.messages:"),
        "{text}"
    );
    let told = format!("{text}: {remedy}");
    let conditions = async |expected: &[&str]| {
        wait_until(LIMIT, async || {
            let conditions = "SELECT reason FROM stanby.conditions WHERE kind = 'unlogged-tables'";
            match group.tables().texts(conditions).await {
                found if found == expected => Ok(()),
                found => Err(format!("{found:?}")),
            }
        })
        .await;
    };
    conditions(&[&told]).await;
    let (status, page) = pair.active.get("/readyz").await.unwrap();
    assert!(status == 200 && page.contains(&told), "{status} {page}");

    execute(database, remedy.to_owned()).await;
    conditions(&[]).await;
    let report = Report::of_group(group, &[]).await;
    assert_eq!(report.about("logging").0, "ok");
}

#[tokio::test]
async fn the_doctor_names_who_holds_the_oldest_snapshot() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let mut forgotten = PgConnection::connect(&pair.group.database_url)
        .await
        .unwrap();
    let begin =
        "SET application_name = 'forgotten'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1";
    sqlx::raw_sql(begin).execute(&mut forgotten).await.unwrap();

    // Beside it servers hold theirs for moments.
    wait_until(LIMIT, async || {
        let report = Report::of_group(&pair.group, &[]).await;
        let (_, text, _) = report.about("snapshot");
        if text.contains("(forgotten) of role") {
            Ok(())
        } else {
            Err(text.to_owned())
        }
    })
    .await;
}

#[tokio::test]
async fn the_doctor_names_the_setting_that_makes_a_role_act_as_another() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let (database, admin) = (&group.cluster_id, &group.database_url);
    let (role, owner) = (format!("{database}_login"), format!("{database}_owner"));
    let url = admin.replace("user=postgres", &format!("user={role}"));
    let acting = Group::over(url, group.nats_url.clone(), &[]);
    execute(
        admin,
        format!("CREATE ROLE {owner}; CREATE ROLE {role} LOGIN IN ROLE {owner}"),
    )
    .await;

    for place in [
        format!("ROLE {role}"),
        format!("DATABASE {database}"),
        format!("ROLE {role} IN DATABASE {database}"),
    ] {
        execute(admin, format!("ALTER {place} SET role = {owner}")).await;
        let report = Report::of_group(&acting, &[]).await;
        let (verdict, text, remedy) = report.about("rights");
        assert_eq!(verdict, "fail");
        let expected = format!("acts as \"{owner}\", and may not make schema stanby");
        assert!(text.contains(&expected), "{text}");
        for part in [
            format!("GRANT CREATE ON DATABASE \"{database}\" TO \"{owner}\""),
            format!("let \"{role}\" act as itself: ALTER {place} RESET role"),
        ] {
            assert!(remedy.contains(&part), "{remedy}");
        }
        // The administrator acts as the other one by now, too.
        execute(admin, format!("SET ROLE NONE; ALTER {place} RESET role")).await;
    }

    // Somebody may want it: tables then are the group's, whoever logs in.
    let wanted = format!(
        "ALTER ROLE {role} SET role = {owner}; GRANT CREATE ON DATABASE {database} TO {owner}"
    );
    execute(admin, wanted).await;
    let report = Report::of_group(&acting, &[]).await;
    assert_eq!(report.about("rights").0, "ok", "{}", report.value);
    let (verdict, _, remedy) = report.about("sessions");
    assert_eq!(verdict, "warn");
    execute(admin, remedy.to_owned()).await;
    let report = Report::of_group(&acting, &[]).await;
    assert!(report.all("sessions").is_empty(), "{}", report.value);
    execute(
        admin,
        format!("DROP OWNED BY {role}, {owner}; DROP ROLE {role}, {owner}"),
    )
    .await;
}

#[tokio::test]
async fn a_login_that_fails_for_good_is_told_alike_by_the_doctor_and_at_the_start() {
    let Some(mut group) = Group::new(&[]).await else {
        return;
    };
    let (database, admin) = (group.cluster_id.clone(), group.database_url.clone());
    let elsewhere = admin.replace(&database, "postgres");
    for (before, there, texts) in [
        (
            String::new(),
            "not_there",
            [
                "\"not_there\" does not exist",
                "CREATE DATABASE \"not_there\"",
            ],
        ),
        (
            format!("ALTER DATABASE {database} SET session_preload_libraries = 'not_there'"),
            &database,
            ["\"not_there\"", "undo the setting that names it"],
        ),
        (
            format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false"),
            &database,
            [
                "not currently accepting connections",
                &format!("ALTER DATABASE \"{database}\" ALLOW_CONNECTIONS true"),
            ],
        ),
    ] {
        execute(&elsewhere, before).await;
        group.database_url = admin.replace(&database, there);
        let report = Report::of_group(&group, &[]).await;
        assert_eq!(report.code, Some(1));
        let (verdict, told, _) = report.about("database");
        assert_eq!(verdict, "fail");
        let mut server = group.server();
        assert_eq!(server.end().await.code(), Some(1), "{}", server.log());
        let log = server.log();
        for text in texts {
            assert!(told.contains(text), "{told}");
            assert!(log.contains(text), "{log}");
        }
    }
    execute(
        &elsewhere,
        format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true; ALTER DATABASE {database} RESET session_preload_libraries"),
    )
    .await;
}

#[tokio::test]
async fn the_doctor_lists_constraints_and_unique_indexes_that_somebody_has_added() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let migrated = stanby(&["migrate", "--database-url", &group.database_url]).await;
    assert_eq!(code(&migrated), Some(0), "{}", stderr(&migrated));
    let untouched = async || {
        let report = Report::of_group(&group, &[]).await;
        let (verdict, text, _) = report.about("triggers");
        assert_eq!(verdict, "ok", "{text}");
    };
    untouched().await;

    let added = "ALTER TABLE stanby.messages ADD CONSTRAINT positive CHECK (sequence > 0) NOT VALID;
        ALTER TABLE stanby.channels ADD CONSTRAINT twice UNIQUE (name, created_at_ns);
        CREATE UNIQUE INDEX once ON stanby.clients (heartbeat_inbox);
        CREATE TABLE public.theirs (channel bigint CONSTRAINT theirs_to_ours REFERENCES stanby.channels)";
    execute(&group.database_url, added.to_owned()).await;
    let report = Report::of_group(&group, &[]).await;
    let (verdict, text, remedy) = report.about("triggers");
    assert_eq!(verdict, "warn");
    for part in [
        "constraint positive on messages",
        "constraint twice on channels",
        "unique index once on clients",
        "foreign key theirs_to_ours of public.theirs to channels",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let statements = remedy.strip_prefix("where nothing needs them, ").unwrap();
    execute(&group.database_url, statements.to_owned()).await;
    untouched().await;
}
