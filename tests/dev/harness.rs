use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::{Connection, PgConnection, Row};

use crate::support::{nats, postgres, wait::wait_until};

#[tokio::test]
async fn each_test_has_a_database_of_its_own() {
    let Some(one) = postgres::database().await else {
        return;
    };
    let Some(two) = postgres::database().await else {
        return;
    };

    let mut first = PgConnection::connect(&one.url).await.unwrap();
    let mut second = PgConnection::connect(&two.url).await.unwrap();
    sqlx::query("CREATE TABLE mine (id int)")
        .execute(&mut first)
        .await
        .unwrap();

    let missing = sqlx::query("SELECT id FROM mine")
        .fetch_all(&mut second)
        .await
        .unwrap_err();
    assert!(missing.to_string().contains("does not exist"), "{missing}");
}

#[tokio::test]
async fn both_drivers_connect_by_the_url() {
    let Some(database) = postgres::database().await else {
        return;
    };

    let mut pooled = PgConnection::connect(&database.url).await.unwrap();
    let row = sqlx::query("SELECT current_database()")
        .fetch_one(&mut pooled)
        .await
        .unwrap();
    assert_eq!(row.get::<String, _>(0), database.name);

    let (client, connection) = tokio_postgres::connect(&database.url, tokio_postgres::NoTls)
        .await
        .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let row = client
        .query_one("SELECT current_database()", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, String>(0), database.name);
}

#[tokio::test]
async fn a_crashed_postgres_of_the_tests_own_comes_back_with_its_data() {
    let Some(mut server) = postgres::own_server().await else {
        return;
    };
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    sqlx::query("CREATE TABLE kept (id int)")
        .execute(&mut connection)
        .await
        .unwrap();
    let before = server.pid();

    server.signal(Signal::SIGKILL);
    server.wait().await.unwrap();
    postgres::restart(&mut server).await;

    assert_ne!(server.pid(), before);
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    let row = sqlx::query("SELECT count(*) FROM kept")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(row.get::<i64, _>(0), 0);
}

#[tokio::test]
async fn a_nats_server_of_the_tests_own_restarts_on_its_port() {
    let Some(mut server) = nats::own_server(&["--server_name", "first"]).await else {
        return;
    };
    let url = server.url();
    let client = async_nats::connect(&url).await.unwrap();
    assert_eq!(client.server_info().server_name, "first");

    nats::restart(&mut server, &["--server_name", "second"]).await;

    assert_eq!(server.url(), url);
    wait_until(Duration::from_secs(10), async || {
        match client.server_info().server_name.as_str() {
            "second" => Ok(()),
            other => Err(format!("the client is still connected to {other}")),
        }
    })
    .await;
}

#[tokio::test]
async fn the_shared_nats_server_carries_messages() {
    use futures_util::StreamExt;

    let Some(url) = nats::url().await else { return };
    let client = async_nats::connect(&url).await.unwrap();
    let mut subscription = client.subscribe("harness").await.unwrap();

    client.publish("harness", "hello".into()).await.unwrap();

    assert_eq!(subscription.next().await.unwrap().payload, "hello");
}
