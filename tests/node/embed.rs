//! A server inside another program: `examples/embed.rs` itself, and what its builder refuses.

use stanby::monitoring::status::Role;
use stanby::server::Error;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::pair::{Group, LIMIT};
use crate::stan::StanClient;
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

#[expect(dead_code, reason = "the test runs what its `main` runs")]
#[path = "../../examples/embed.rs"]
mod example;

#[tokio::test]
async fn the_example_serves_clients_and_hands_over_when_it_stops() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let (enough, told) = oneshot::channel();
    let (database, nats, cluster) = (&group.database_url, &group.nats_url, &group.cluster_id);
    let serving = example::serve(database, nats, cluster, async {
        told.await.unwrap();
    });

    let used = async {
        let client = wait_until(LIMIT, async || {
            let nats = async_nats::connect(nats).await.unwrap();
            StanClient::connect(nats, cluster, "me").await
        })
        .await;
        let mut publisher = client.publisher("orders").await;
        publisher.send().await;
        publisher.take_all_acks().await;
        let standby = group.server();
        group.wait_for_standbys(1).await;
        enough.send(()).unwrap();
        (client, publisher, standby)
    };
    let both = Box::pin(async { tokio::join!(serving, used) });
    let (served, (_client, mut publisher, standby)) = timeout(LIMIT, both).await.unwrap();

    served.unwrap();
    assert_eq!(standby.wait_until_active().await, 2);
    publisher.send().await;
    publisher.take_all_acks().await;
    let takeovers = group.tables().takeovers().await;
    assert_eq!(takeovers[1].1, "released by the previous active");
}

#[tokio::test]
async fn an_embedded_server_that_is_dropped_hands_over_too() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let builder = stanby::Server::builder()
        .database_url(&group.database_url)
        .nats_server(&group.nats_url)
        .cluster_id(&group.cluster_id);
    let mut embedded = builder.start().await.unwrap();
    embedded.active().await.unwrap();
    assert_eq!(embedded.role(), Role::Active);
    let standby = group.server();
    group.wait_for_standbys(1).await;

    drop(embedded);

    assert_eq!(standby.wait_until_active().await, 2);
    let takeovers = group.tables().takeovers().await;
    assert_eq!(takeovers[1].1, "released by the previous active");
}

#[tokio::test]
async fn an_embedded_server_that_cannot_start_says_why() {
    let builder = || stanby::Server::builder().database_url("postgres://u:geheim@127.0.0.1:1/d");
    for (builder, part) in [
        (stanby::Server::builder(), "the database is missing"),
        (builder().cluster_id("a..b"), "cluster ID \"a..b\""),
        (builder().setting("max-msgs", -1), "cannot be negative (-1)"),
        (builder().setting("no-such", 1), "--no-such"),
        (
            builder().setting("config", "x.toml"),
            "not a setting of an embedded server",
        ),
    ] {
        let error = builder.start().await.unwrap_err();
        assert!(matches!(error, Error::Settings(_)), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
    }

    let Some(database) = postgres::database().await else {
        return;
    };
    let missing = database.url.replace(&database.name, "no_such_database");
    let builder = || stanby::Server::builder().database_url(format!("{missing}&password=geheim"));
    let error = builder().start().await.unwrap_err();
    assert!(matches!(error, Error::Failed(_)), "{error:?}");
    let text = format!("{error} {:?}", builder());
    assert!(text.contains("CREATE DATABASE"), "{text}");
    assert!(!text.contains("geheim"), "{text}");
}

#[tokio::test]
async fn an_embedded_server_whose_tables_are_another_clusters_is_refused() {
    let (Some(database), Some(nats)) = (postgres::database().await, nats::url().await) else {
        return;
    };
    let builder = || {
        stanby::Server::builder()
            .database_url(&database.url)
            .nats_server(&nats)
    };
    let mut first = builder().cluster_id(&database.name).start().await.unwrap();
    first.active().await.unwrap();

    let refused = builder().cluster_id("another").start().await.unwrap_err();

    assert!(
        refused
            .to_string()
            .contains("does not match recovered value")
    );
    first.stop().await.unwrap();
}
