//! A Postgres that others use, too: their transactions, subscribers and limits, and what their sessions are set to.

use stanby::config::database::DatabaseUrl;
use stanby::core::lease::Lease;
use stanby::leadership::Settings;
use stanby::leadership::checks::{Durability, check};
use stanby::leadership::doctor::diagnose;
use stanby::store::Store;
use tokio_postgres::Client;
use tokio_util::task::TaskTracker;

use super::fixture::{PATIENCE, SCHEMA, TIMEOUT, migrated};
use super::leadership::settings;
use super::support::postgres::own_server_with;
use super::support::wait::wait_until;

pub(crate) async fn session(url: &str) -> Client {
    let (config, tls) = DatabaseUrl::parse(url).unwrap().for_session().unwrap();
    let (client, connection) = config.connect(tls).await.unwrap();
    // Its end is told by the client.
    TaskTracker::new().spawn(async { drop(connection.await) });
    client
}

/// It reads a logical slot of any database of the Postgres, and cannot become a primary. A setting that lets commits wait for
/// whoever is connected may let them wait for it alone.
#[tokio::test]
async fn a_logical_subscriber_is_no_replica() {
    let settings = ["wal_level=logical", "fsync=on", "full_page_writes=on"];
    let Some(postgres) = own_server_with(&settings).await else {
        return;
    };
    let url = DatabaseUrl::parse(&postgres.url()).unwrap();
    let store = Store::open(&url, SCHEMA, "stanby/test", TIMEOUT);
    store.migrate().await.unwrap();
    let here = session(&postgres.url()).await;
    let term = format!(
        "SET search_path = \"{}\"; UPDATE leadership SET epoch = 1, timeline = 1;
        INSERT INTO takeovers (epoch, to_holder, reason, lock_wait, first_ack) VALUES (1, 'a', 'first start', '0', '1s');
        CREATE DATABASE other_application",
        SCHEMA.replace('"', "\"\"")
    );
    for statement in term.split(';') {
        here.batch_execute(statement).await.unwrap();
    }
    let other = session(&postgres.url_of("other_application")).await;
    for (client, statement) in [
        (&here, "CREATE PUBLICATION p FOR TABLE takeovers".to_owned()),
        (
            &here,
            "SELECT pg_create_logical_replication_slot('s', 'pgoutput')".to_owned(),
        ),
        (
            &other,
            format!(
                "CREATE SUBSCRIPTION s CONNECTION '{}' PUBLICATION p
                WITH (create_slot = false, slot_name = 's', enabled = false, connect = false)",
                postgres.url()
            ),
        ),
        (&other, "ALTER SUBSCRIPTION s ENABLE".to_owned()),
    ] {
        client.batch_execute(&statement).await.unwrap();
    }
    wait_until(PATIENCE, async || {
        let connected = "SELECT count(*) FROM pg_stat_replication";
        match here.query_one_scalar::<i64, _>(connected, &[]).await {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;

    let settings = Settings {
        url,
        schema: SCHEMA.to_owned(),
        cluster_id: "test-cluster".to_owned(),
        group: "ft".to_owned(),
        server_id: "one".to_owned(),
        lease: Lease::DEFAULT,
        statement_timeout: TIMEOUT,
    };
    let facts = check(&settings, &TaskTracker::new()).await.unwrap();
    assert_eq!(facts.durability, Durability::Local);

    for statement in [
        "ALTER SYSTEM SET synchronous_standby_names = '*'",
        "SELECT pg_reload_conf()",
    ] {
        here.batch_execute(statement).await.unwrap();
    }
    wait_until(PATIENCE, async || {
        let names = "SELECT current_setting('synchronous_standby_names')";
        match here.query_one_scalar::<String, _>(names, &[]).await {
            Ok(names) if names == "*" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(
        store.high_water_marks().await.unwrap().all_waited_for,
        Some(false)
    );
}

#[tokio::test]
async fn who_has_written_and_stays_open_keeps_postgres_from_cleaning_up_and_a_vacuum_does_not() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (vacuuming, forgotten) = (fixture.client().await, fixture.client().await);
    let prepare = "SET application_name = 'vacuuming'; CREATE TABLE large AS SELECT repeat('x', 100) FROM generate_series(1, 50000);
        SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1";
    vacuuming.batch_execute(prepare).await.unwrap();
    // It ends with the database.
    fixture.tracker.spawn(async move {
        drop(vacuuming.batch_execute("VACUUM large").await);
    });
    let client = fixture.client().await;
    wait_until(PATIENCE, async || {
        let vacuums = "SELECT count(*) FROM pg_stat_progress_vacuum JOIN pg_stat_activity USING (pid) WHERE backend_xmin IS NOT NULL
            AND application_name = 'vacuuming'";
        match client.query_one_scalar::<i64, _>(vacuums, &[]).await {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let oldest = fixture.store.oldest().await.unwrap();
    let accused = oldest.as_ref().map_or("", |oldest| &oldest.who);
    assert!(!accused.contains("vacuuming"), "{accused}");

    let write = "SET application_name = 'forgotten'; BEGIN; CREATE TABLE loaded (row bigint)";
    forgotten.batch_execute(write).await.unwrap();
    let oldest = fixture.store.oldest().await.unwrap().unwrap();
    assert!(oldest.who.contains("(forgotten) of role"), "{oldest:?}");
}

#[tokio::test]
async fn a_limit_of_the_database_or_of_the_role_counts_where_it_is_the_smallest() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    let name = &fixture.database.name;
    let mut settings = settings(&fixture, "one", TIMEOUT);
    let of_role = fixture
        .database
        .url
        .replace("user=postgres", &format!("user=of_{name}"));
    settings.url = DatabaseUrl::parse(&of_role).unwrap();
    client
        .batch_execute(&format!("CREATE ROLE of_{name} LOGIN"))
        .await
        .unwrap();
    for (limit, wanted) in [
        ("SELECT".to_owned(), "raise max_connections"),
        (
            format!("ALTER DATABASE {name} CONNECTION LIMIT 7"),
            "ALTER DATABASE",
        ),
        (
            format!("ALTER ROLE of_{name} CONNECTION LIMIT 4"),
            "ALTER ROLE",
        ),
    ] {
        client.batch_execute(&limit).await.unwrap();
        let found = diagnose(&settings, &fixture.tracker).await.unwrap();
        let link = found.link.unwrap();
        assert!(link.more_connections.contains(wanted), "{link:?}");
        assert!(
            wanted.starts_with("raise") || link.free_connections < 7,
            "{link:?}"
        );
    }
    let drop = format!("ALTER DATABASE {name} CONNECTION LIMIT -1; DROP ROLE of_{name}");
    client.batch_execute(&drop).await.unwrap();
}

/// `standard_conforming_strings = off` is what applications of before Postgres 9.1 need.
#[tokio::test]
async fn functions_read_their_backslashes_alike_whatever_the_session_is_set_to() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    let set = "SET standard_conforming_strings = off; SET escape_string_warning = off";
    client.batch_execute(set).await.unwrap();
    for call in [
        "SELECT publish('orders.eu', 'paid')",
        "SELECT set_policy('orders.*', max_deliveries => 3, dead_letter => 'dead.orders')",
        "SELECT * FROM effective_policies",
        "SELECT grant_channel(current_user::regrole, 'orders.>')",
    ] {
        client.batch_execute(call).await.expect(call);
    }
    for refused in ["orders..eu", ".orders", "orders."] {
        let call = format!("SELECT publish('{refused}', 'paid')");
        let error = client.batch_execute(&call).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "STB01", "{refused}");
    }
    let unpinned = "SELECT f.oid::regprocedure::text FROM pg_proc f WHERE pronamespace = quote_ident(current_schema())::regnamespace
        AND strpos(prosrc, chr(92)) > 0
        AND array_to_string(proconfig, ' ') NOT LIKE '%standard_conforming_strings=on%'";
    let unpinned = client.query(unpinned, &[]).await.unwrap();
    assert!(unpinned.is_empty(), "{unpinned:?}");
}
