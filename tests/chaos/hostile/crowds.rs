//! Clients that are many, or have many subscriptions.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt as _;
use stanby::core::request::StartPosition;
use stanby::protocol::client::{self, Connected};
use stanby::protocol::subjects::Prefixes;
use stanby::protocol::{Subjects, client as wire};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::stage::{SINK, Stage};
use crate::stan::StanClient;

/// As many as a channel may have.
const PER_CHANNEL: u64 = 1000;

/// As long as an inbox may be, about.
const LONG_INBOX_BYTES: usize = 1900;

/// And a client ID or a durable's name.
const LONG_NAME_BYTES: usize = 1000;

/// Longer than any answer that there will be.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Subscriptions of one client in so many channels, all in one go, and then its close; over and over.
pub(super) fn open_and_close(stage: &Arc<Stage>, channels: u64) -> JoinSet<()> {
    let stage = Arc::clone(stage);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            // The one before may still be on its way out.
            let connected = StanClient::connect(stage.nats().await, &stage.cluster_id, "hostile");
            let Ok(client) = connected.await else {
                continue;
            };
            let count = channels * PER_CHANNEL;
            let requests = (0..count).map(|number| {
                let channel = format!("crowd.{}", number / PER_CHANNEL);
                let inbox = client.nats.new_inbox();
                subscription(&client.id, &channel, &inbox, "", "")
            });
            ask_all(&client.nats, &client.subjects.subscribe, requests).await;
            client.close().await.ok();
        }
    });
    tasks
}

/// Durables with names and inboxes as long as they may be, which stay.
pub(super) async fn long_names(stage: &Arc<Stage>, channels: u64) -> JoinSet<()> {
    let client = stage.client(&"h".repeat(LONG_NAME_BYTES)).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let requests = (0..channels * PER_CHANNEL).map(|number| {
            let channel = format!("names.{}", number / PER_CHANNEL);
            let inbox = long("inbox", number, LONG_INBOX_BYTES);
            let durable = long("durable", number, LONG_NAME_BYTES);
            subscription(&client.id, &channel, &inbox, "", &durable)
        });
        ask_all(&client.nats, &client.subjects.subscribe, requests).await;
        std::future::pending::<()>().await;
    });
    tasks
}

/// One queue group whose members ack nothing.
pub(super) async fn queue(stage: &Arc<Stage>, members: u64) -> JoinSet<()> {
    let mut tasks = stage.sink().await;
    let client = stage.client("hostile").await;
    let requests = (0..members).map(|number| {
        let inbox = format!("{SINK}.{number}");
        subscription(&client.id, "filled.1", &inbox, "crowd", "")
    });
    ask_all(&client.nats, &client.subjects.subscribe, requests).await;
    tasks.spawn(async move {
        let _client = client;
        std::future::pending::<()>().await;
    });
    tasks
}

/// Subscribes and unsubscribes without waiting for an answer.
pub(super) async fn come_and_go(stage: &Arc<Stage>, count: u64) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let client = stage.client(&format!("hostile-{number}")).await;
        tasks.spawn(async move {
            let nats = &client.nats;
            let Connected {
                subscribe,
                unsubscribe,
                ..
            } = &client.subjects;
            loop {
                let inbox = nats.new_inbox();
                let begin = subscription(&client.id, "revolving", &inbox, "", "");
                let end = client::leave_request(&client.id, "revolving", &inbox);
                for (subject, request) in [(subscribe, begin), (unsubscribe, end)] {
                    let answer = nats.new_inbox();
                    let sent = nats.publish_with_reply(subject.to_string(), answer, request);
                    sent.await.unwrap();
                }
                nats.flush().await.unwrap();
            }
        });
    }
    tasks
}

/// A new client each time, with a new durable.
pub(super) fn new_durables(stage: &Arc<Stage>, count: u64) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let stage = Arc::clone(stage);
        tasks.spawn(async move {
            let nats = stage.nats().await;
            for time in 0_u64.. {
                let id = format!("hostile-{number}-{time}");
                let connected = StanClient::connect(nats.clone(), &stage.cluster_id, &id);
                let Ok(client) = connected.await else {
                    continue;
                };
                let channel = format!("durables.{}", time % 10);
                client.subscribe(&channel, "", &id).await.ok();
                client.close().await.ok();
            }
        });
    }
    tasks
}

/// Clients with long names that connect and stay, and answer no heartbeat.
pub(super) async fn silent(stage: &Arc<Stage>, count: u64, name_bytes: usize) -> JoinSet<()> {
    // Somebody listens, and says nothing.
    let mut tasks = stage.sink().await;
    let nats = stage.nats().await;
    let subjects = Subjects::new(&stage.cluster_id, &Prefixes::default()).unwrap();
    let discover = subjects.discover().to_string();
    tasks.spawn(async move {
        let requests = (0..count).map(|number| {
            let id = long("hostile", number, name_bytes);
            let connection = long("connection", number, name_bytes);
            wire::connect_request(&wire::Connect {
                client_id: &id,
                heartbeat_inbox: &format!("{SINK}.{id}"),
                protocol: 1,
                connection_id: connection.as_bytes(),
                ping_interval: 5,
                ping_max_out: 3,
            })
        });
        ask_all(&nats, &discover, requests).await;
        std::future::pending::<()>().await;
    });
    tasks
}

fn long(name: &str, number: u64, bytes: usize) -> String {
    let mut text = format!("{name}-{number}-");
    text.push_str(&"x".repeat(bytes.saturating_sub(text.len())));
    text
}

fn subscription(
    client_id: &str,
    channel: &str,
    inbox: &str,
    queue_group: &str,
    durable_name: &str,
) -> bytes::Bytes {
    client::subscribe_request(&client::Subscribe {
        client_id,
        channel,
        inbox,
        queue_group,
        durable_name,
        max_in_flight: 100_000,
        ack_wait_seconds: 1,
        start: StartPosition::First,
    })
}

/// Sends all requests, and waits for as many answers, whatever they say.
async fn ask_all(nats: &Client, subject: &str, requests: impl Iterator<Item = bytes::Bytes>) {
    let inbox = nats.new_inbox();
    let mut answers = nats.subscribe(inbox.clone()).await.unwrap();
    let mut count = 0_u64;
    for request in requests {
        count += 1;
        let sent = nats.publish_with_reply(subject.to_owned(), inbox.clone(), request);
        sent.await.unwrap();
        if count.is_multiple_of(64) {
            nats.flush().await.unwrap();
        }
    }
    nats.flush().await.unwrap();
    let all = async {
        for _ in 0..count {
            answers.next().await;
        }
    };
    timeout(ANSWER_LIMIT, all).await.ok();
}
