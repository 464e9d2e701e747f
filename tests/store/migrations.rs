//! The schema comes into being once, and errors on the way to it can be acted on.

use stanby::config::database::DatabaseUrl;
use stanby::core::snapshot::Snapshot;
use stanby::store::{Error, Store};

use super::fixture::{PATIENCE, SCHEMA, TIMEOUT, empty, migrated};
use super::support::wait::wait_until;

#[tokio::test]
async fn servers_that_start_at_once_migrate_once() {
    let Some(fixture) = empty().await else { return };
    let stores: Vec<Store> = (0..6)
        .map(|_| Store::open(&fixture.url, SCHEMA, "stanby/test", TIMEOUT))
        .collect();

    let migrated = futures_util::future::join_all(stores.iter().map(Store::migrate)).await;

    for result in migrated {
        result.unwrap();
    }
    let client = fixture.client().await;
    let versions: i64 = client
        .query_one_scalar("SELECT count(*) FROM schema_versions", &[])
        .await
        .unwrap();
    assert_eq!(versions, known_versions());
    fixture.store.migrate().await.unwrap();
    assert_eq!(fixture.store.snapshot().await.unwrap(), Snapshot::default());
}

/// A file per version.
fn known_versions() -> i64 {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
    i64::try_from(files.count()).unwrap()
}

/// The files begin with their versions.
fn newest_version() -> i64 {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let versions = names.map(|name| name.split('_').next().unwrap().parse().unwrap());
    versions.max().unwrap()
}

/// Acceptance: 148.
#[tokio::test]
async fn a_newer_schema_is_refused_with_both_versions() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    client.batch_execute(OF_THE_FUTURE).await.unwrap();
    for incompatible in [
        "CREATE OR REPLACE VIEW schema_compatibility AS SELECT 98::bigint AS oldest_server",
        "DROP VIEW schema_compatibility",
    ] {
        client.batch_execute(incompatible).await.unwrap();

        let error = fixture.store.migrate().await.unwrap_err();

        assert!(matches!(error, Error::Refused(_)));
        let text = error.to_string();
        let newest = format!("up to {}", newest_version());
        for part in ["version 99", &newest, "run that version"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[tokio::test]
async fn a_newer_schema_that_only_added_something_is_worked_with() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    client.batch_execute(OF_THE_FUTURE).await.unwrap();
    let oldest = format!(
        "CREATE OR REPLACE VIEW schema_compatibility AS SELECT {}::bigint AS oldest_server",
        known_versions()
    );
    client.batch_execute(&oldest).await.unwrap();

    fixture.store.migrate().await.unwrap();

    assert_eq!(fixture.store.snapshot().await.unwrap(), Snapshot::default());
}

const OF_THE_FUTURE: &str =
    "INSERT INTO schema_versions (version, description, success, checksum, execution_time)
     VALUES (99, 'of the future', true, '', 0)";

#[tokio::test]
async fn a_role_that_may_not_create_can_use_a_migrated_schema_but_not_make_one() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    let role = format!("app_of_{}", fixture.database.name);
    client
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA \"stan by\"\"x\" TO {role};
             GRANT SELECT ON ALL TABLES IN SCHEMA \"stan by\"\"x\" TO {role}"
        ))
        .await
        .unwrap();
    let url = fixture.database.url.split("&user=").next().unwrap();
    let url = DatabaseUrl::parse(&format!("{url}&user={role}")).unwrap();

    let store = Store::open(&url, SCHEMA, "stanby/test", TIMEOUT);
    store.migrate().await.unwrap();
    store.snapshot().await.unwrap();
    let elsewhere = Store::open(&url, "elsewhere", "stanby/test", TIMEOUT);
    let error = elsewhere.migrate().await.unwrap_err();

    assert!(matches!(error, Error::Refused(_)), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("permission denied") && text.contains(&role),
        "{text}"
    );
    client
        .batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_the_database_url_is_said() {
    let Some(fixture) = empty().await else { return };
    let base = fixture
        .database
        .url
        .split("&user=")
        .next()
        .unwrap()
        .to_owned();
    let unused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for (url, refused, parts) in [
        (
            format!("{base}&user=nobody_here"),
            true,
            vec!["nobody_here", "check user and password"],
        ),
        (
            fixture
                .database
                .url
                .replace(&fixture.database.name, "no_such_db"),
            true,
            vec!["\"no_such_db\" does not exist", "CREATE DATABASE"],
        ),
        (
            format!("postgres://u:geheim@127.0.0.1:{unused}/d"),
            false,
            vec![
                "cannot reach Postgres at 127.0.0.1",
                "refused",
                "check that it runs",
            ],
        ),
    ] {
        let url = DatabaseUrl::parse(&url).unwrap();
        let quick = std::time::Duration::from_millis(500);
        let store = Store::open(&url, SCHEMA, "stanby/test", quick);
        let error = store.migrate().await.unwrap_err();

        let text = error.to_string();
        assert_eq!(matches!(error, Error::Refused(_)), refused, "{text}");
        for part in parts {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains("geheim"));
    }
}

#[tokio::test]
async fn the_status_of_a_schema_without_tables_is_refused() {
    let Some(fixture) = empty().await else { return };

    let error = fixture.store.report().await.unwrap_err();

    assert!(matches!(error, Error::Refused(_)));
    assert!(
        error.to_string().contains("holds no tables of a server"),
        "{error}"
    );
}

/// What migration 6 has made is taken away, so that it is pending.
const BEFORE_ENCRYPTION: &str =
    "DROP VIEW encryption_status, readable_messages, schema_compatibility CASCADE;
    ALTER TABLE messages DROP COLUMN encrypted;
    DROP TABLE term_keys, encryption_keys;
    DROP FUNCTION refuse_older_servers, note_deleted, note_truncated CASCADE;
    CREATE TABLE schema_compatibility (oldest_server bigint NOT NULL);
    DELETE FROM schema_versions WHERE version = 6";

#[tokio::test]
async fn a_migration_waits_for_a_dump_without_holding_up_the_active() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    client.batch_execute(BEFORE_ENCRYPTION).await.unwrap();
    let dump = fixture.client().await;
    let reads = "BEGIN; SELECT count(*) FROM messages";
    dump.batch_execute(reads).await.unwrap();

    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'
        AND relation = 'messages'::regclass";
    let meanwhile = async {
        wait_until(PATIENCE, async || {
            match client.query_one_scalar::<i64, _>(waits, &[]).await {
                Ok(1) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        // The active's next write stands behind it, and gets through although the dump goes on.
        let writes = "SET statement_timeout = '10s'; DELETE FROM messages";
        client.batch_execute(writes).await.unwrap();
        dump.batch_execute("COMMIT").await.unwrap();
    };
    let (migrated, ()) = tokio::join!(fixture.store.migrate(), meanwhile);

    migrated.unwrap();
    let made = "SELECT count(*) FROM readable_messages WHERE encrypted";
    let found: i64 = client.query_one_scalar(made, &[]).await.unwrap();
    assert_eq!(found, 0);
}
