//! `stanby mirror jetstream --reverse`: publishers move to the stream before the last consumer has left the channel; and what the
//! status says of those who are left.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use async_nats::jetstream;
use sqlx::{Connection as _, PgConnection};

use crate::cli::{code, stderr, stdout};
use crate::mirror::{Ground, KILLS};
use crate::pair::LIMIT;
use crate::support::wait::wait_until;

async fn publish_to_stream(ground: &Ground, from: usize, count: usize) {
    let client = async_nats::connect(&ground.group.nats_url).await.unwrap();
    let context = jetstream::new(client);
    let mut acks = Vec::new();
    for number in from..from + count {
        let data = format!("moved {number}");
        acks.push(context.publish("stan.orders", data.into()).await.unwrap());
    }
    for ack in acks {
        ack.await.unwrap();
    }
}

/// Payloads of the channel, in order.
async fn channel(ground: &Ground) -> Vec<String> {
    let mut connection = PgConnection::connect(&ground.group.database_url)
        .await
        .unwrap();
    let query = "SELECT convert_from(data, 'UTF8') FROM stanby.messages ORDER BY sequence";
    let rows = sqlx::query_scalar(query).fetch_all(&mut connection).await;
    connection.close().await.unwrap();
    rows.unwrap()
}

async fn at_least(ground: &Ground, count: usize) {
    wait_until(LIMIT, async || match channel(ground).await.len() {
        there if there >= count => Ok(()),
        there => Err(format!("{there} of {count}")),
    })
    .await;
}

#[tokio::test]
async fn what_is_published_to_a_stream_reaches_its_channel_once_however_often_the_mirror_is_killed()
{
    let Some(ground) = Ground::new().await else {
        return;
    };
    let server = ground.group.server();
    server.wait_until_active().await;
    ground.publish("orders", 20).await;
    ground.once(&[]).await;
    let before = channel(&ground).await;
    assert_eq!(before.len(), 20);

    let kills = std::env::var(KILLS).map_or(5, |text| text.parse().unwrap());
    let each = 700;
    for kill in 0..kills {
        publish_to_stream(&ground, kill * each, each).await;
        let mut mirror = ground.command("jetstream", &["--reverse"]).spawn().unwrap();
        // A first batch is there, and the next one on its way.
        at_least(&ground, 20 + kill * each + 1).await;
        mirror.kill().await.unwrap();
    }
    ground.once(&["--reverse"]).await;
    at_least(&ground, 20 + kills * each).await;

    let all = channel(&ground).await;
    assert_eq!(all[..20], before);
    let moved: Vec<String> = (0..kills * each)
        .map(|number| format!("moved {number}"))
        .collect();
    assert_eq!(all[20..], moved);
    server.kill().await;
}

#[tokio::test]
async fn the_status_names_durables_without_a_client_and_how_far_a_stream_is_published() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let server = ground.group.server();
    server.wait_until_active().await;
    let app = ground.group.client("app").await;
    ground.publish("orders", 3).await;
    app.hold("orders", "", "left", 10).await.unwrap();
    app.close().await.unwrap();
    ground.once(&[]).await;
    publish_to_stream(&ground, 0, 4).await;
    ground.once(&["--reverse"]).await;
    publish_to_stream(&ground, 4, 2).await;
    at_least(&ground, 7).await;

    let status = ground.run("status", &[]).await;
    assert_eq!(code(&status), Some(0), "{}", stderr(&status));
    let told = stdout(&status);
    assert!(
        told.contains("durables without a client on the old side: app/left (7 left)"),
        "{told}"
    );
    assert!(
        told.contains("message 7 of the stream is published to the channel, 2 are left"),
        "{told}"
    );
    server.kill().await;
}

#[tokio::test]
async fn a_stream_that_was_made_anew_feeds_nothing_until_somebody_says_so() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let server = ground.group.server();
    server.wait_until_active().await;
    ground.publish("orders", 1).await;
    ground.once(&[]).await;
    publish_to_stream(&ground, 0, 2).await;
    ground.once(&["--reverse"]).await;
    let client = async_nats::connect(&ground.group.nats_url).await.unwrap();
    let context = jetstream::new(client);
    context.delete_stream("orders").await.unwrap();
    let config = jetstream::stream::Config {
        name: "orders".to_owned(),
        subjects: vec!["stan.orders".to_owned()],
        ..jetstream::stream::Config::default()
    };
    context.create_stream(config).await.unwrap();
    publish_to_stream(&ground, 2, 9).await;

    let refused = ground.run("jetstream", &["--reverse", "--once"]).await;
    assert_eq!(code(&refused), Some(1), "{}", stdout(&refused));
    assert!(
        stderr(&refused).contains("fed_channels"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(channel(&ground).await.len(), 3);
    server.kill().await;
}

#[tokio::test]
async fn a_new_stream_gets_the_limits_of_its_channel_from_the_file_of_the_servers() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let server = ground.group.server();
    server.wait_until_active().await;
    ground.publish("orders", 1).await;
    ground.publish("few.eu", 1).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stan.conf");
    let text = "streaming { store_limits { max_msgs: 70, max_bytes: 0, max_age: \"2h\",
        channels { \"few.>\": { max_msgs: 3 } } } }";
    std::fs::write(&file, text).unwrap();
    ground.once(&["--limits-of", file.to_str().unwrap()]).await;
    for (stream, messages) in [("orders", 70), ("few_eu", 3)] {
        let stream = ground.stream(stream).await.unwrap();
        let config = &stream.cached_info().config;
        assert_eq!(config.max_messages, messages);
        assert_eq!(config.max_bytes, -1);
        assert_eq!(config.max_age.as_secs(), 7200);
    }
    server.kill().await;
}
