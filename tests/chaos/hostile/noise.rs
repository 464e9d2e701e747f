//! Requests that make no sense, or no end, and such whose answers lead where nobody waits for them.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use stanby::core::request::StartPosition;
use stanby::protocol::client::{self, Connected};
use tokio::task::JoinSet;
use tokio::time::interval;

use super::stage::{SINK, Stage};
use crate::stan::StanClient;

/// Requests between two moments in which the library's own queue is emptied: that is no hostile client.
const AT_ONCE: u64 = 64;

/// Makes the requests of `each` one after the other, as fast as NATS takes them.
async fn send(nats: &Client, mut each: impl FnMut(u64) -> (String, String, Bytes)) {
    for number in 0_u64.. {
        let (to, reply, request) = each(number);
        let sent = if reply.is_empty() {
            nats.publish(to, request).await
        } else {
            nats.publish_with_reply(to, reply, request).await
        };
        if sent.is_err() || number.is_multiple_of(AT_ONCE) && nats.flush().await.is_err() {
            return;
        }
    }
}

fn publish_request(client: &StanClient, channel: &str, guid: &str) -> Bytes {
    client::publish_request(client::Publish {
        client_id: &client.id,
        connection_id: client.connection_id.as_bytes(),
        guid,
        channel,
        data: Bytes::from_static(b"noise"),
    })
}

/// A place in `0..end`, another one each time.
fn scattered(number: u64, end: u64) -> u64 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % end.max(1)
}

/// Payloads that are nothing, and requests that name what does not exist or may not be.
pub(super) async fn invalid(stage: &Arc<Stage>, count: u64) -> JoinSet<()> {
    let mut tasks = stage.sink().await;
    for number in 0..count {
        let client = stage.client(&format!("hostile-{number}")).await;
        tasks.spawn(async move {
            let Connected {
                publish_prefix,
                subscribe,
                unsubscribe,
                close_subscription,
                close_client,
                pings,
                ..
            } = client.subjects.clone();
            let channel = "c".repeat(1100);
            let requests = [
                (
                    format!("{publish_prefix}.noise"),
                    Bytes::from_static(b"\xff\xff\xff"),
                ),
                (
                    format!("{publish_prefix}.noise"),
                    publish_request(&client, "noise", ""),
                ),
                (
                    format!("{publish_prefix}.a.>b"),
                    publish_request(&client, "a.>b", "g"),
                ),
                (
                    format!("{publish_prefix}.{channel}"),
                    publish_request(&client, &channel, "g"),
                ),
                (format!("{publish_prefix}.noise"), Bytes::new()),
                (subscribe.to_string(), Bytes::from_static(b"\x08\x01")),
                (
                    unsubscribe.to_string(),
                    client::leave_request(&client.id, "nothing", "in"),
                ),
                (
                    close_subscription.to_string(),
                    client::leave_request("nobody", "noise", "in"),
                ),
                (close_client.to_string(), client::close_request("nobody")),
                (pings.to_string(), client::ping_request(b"no connection")),
                (
                    pings.to_string(),
                    Bytes::from_static(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
                ),
            ];
            send(&client.nats, |number| {
                let (to, request) = &requests[usize::try_from(number).unwrap() % requests.len()];
                let reply = ["", "hostile-sink.answers", "$SYS.nowhere"];
                let reply = reply[usize::try_from(number / 11).unwrap() % 3];
                (to.clone(), reply.to_owned(), request.clone())
            })
            .await;
        });
    }
    tasks
}

/// Pings of registered clients.
pub(super) async fn pings(stage: &Arc<Stage>, count: u64) -> JoinSet<()> {
    let mut tasks = stage.sink().await;
    for number in 0..count {
        let client = stage.client(&format!("hostile-{number}")).await;
        tasks.spawn(async move {
            let to = client.subjects.pings.to_string();
            let request = client::ping_request(client.connection_id.as_bytes());
            let reply = format!("{SINK}.pongs");
            send(&client.nats, |_| {
                (to.clone(), reply.clone(), request.clone())
            })
            .await;
        });
    }
    tasks
}

/// Acks for any sequence of a channel with so many messages, sent or not.
pub(super) async fn acks(stage: &Arc<Stage>, subscriptions: u64, messages: u64) -> JoinSet<()> {
    let mut tasks = stage.sink().await;
    for number in 0..subscriptions {
        let client = stage.client(&format!("hostile-{number}")).await;
        let inbox = format!("{SINK}.{number}");
        let ack_wait = Duration::from_secs(30);
        let subscribed = stage.subscribe(&client, "filled.1", &inbox, 100_000, ack_wait);
        let ack_inbox = subscribed.await.unwrap();
        tasks.spawn(async move {
            send(&client.nats, |time| {
                let sequence = scattered(time, messages) + 1;
                let ack = client::ack("filled.1", sequence);
                (ack_inbox.clone(), String::new(), ack)
            })
            .await;
        });
    }
    tasks
}

/// Publishes, and after every second one an unsubscribe of something that is not there.
pub(super) async fn barriers(stage: &Arc<Stage>, count: u64) -> JoinSet<()> {
    let mut tasks = stage.sink().await;
    for number in 0..count {
        let client = stage.client(&format!("hostile-{number}")).await;
        tasks.spawn(async move {
            let publishes = format!("{}.barriers", client.subjects.publish_prefix);
            let unsubscribe = client.subjects.unsubscribe.to_string();
            let reply = format!("{SINK}.answers");
            let leave = client::leave_request(&client.id, "barriers", "in");
            send(&client.nats, |number| {
                if number.is_multiple_of(3) {
                    return (unsubscribe.clone(), reply.clone(), leave.clone());
                }
                let guid = format!("{}-{number}", client.connection_id);
                let request = publish_request(&client, "barriers", &guid);
                (publishes.clone(), reply.clone(), request)
            })
            .await;
        });
    }
    tasks
}

/// Each publish makes a channel.
pub(super) async fn new_channels(stage: &Arc<Stage>, per_second: u32) -> JoinSet<()> {
    let client = stage.client("hostile").await;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut pace = interval(Duration::from_secs(1) / per_second);
        for number in 0_u64.. {
            pace.tick().await;
            let channel = format!("churn.{number}");
            let request = publish_request(&client, &channel, &channel);
            let to = format!("{}.{channel}", client.subjects.publish_prefix);
            let answer = client.nats.new_inbox();
            let sent = client.nats.publish_with_reply(to, answer, request);
            if sent.await.is_err() {
                return;
            }
        }
    });
    tasks
}

/// Answers, deliveries and heartbeats are wanted where servers listen, where the same messages would come in again, and
/// where other clients wait for theirs.
pub(super) async fn reflections(stage: &Arc<Stage>, per_second: u32) -> JoinSet<()> {
    let client = stage.client("hostile").await;
    let inbox = format!("{SINK}.reflected");
    let ack_wait = Duration::from_secs(1);
    let subscribed = stage.subscribe(&client, "reflected", &inbox, 1024, ack_wait);
    let ack_inbox = subscribed.await.unwrap();
    let Connected {
        publish_prefix,
        subscribe,
        unsubscribe,
        close_client,
        pings,
        ..
    } = client.subjects.clone();
    let publishes = format!("{publish_prefix}.reflected");
    let cluster_id = &stage.cluster_id;
    let places = [
        publishes.clone(),
        subscribe.to_string(),
        unsubscribe.to_string(),
        close_client.to_string(),
        pings.to_string(),
        format!("_STAN.discover.{cluster_id}"),
        format!("_STAN.servers.{cluster_id}"),
        format!("_STAN.part.{cluster_id}"),
        ack_inbox,
        client.heartbeat_inbox.clone(),
    ];
    for place in &places {
        // Most are refused.
        let subscribed = stage.subscribe(&client, "reflected", place, 1024, ack_wait);
        subscribed.await.ok();
    }
    let mut tasks = stage.sink().await;
    tasks.spawn(async move {
        let mut pace = interval(Duration::from_secs(1) / per_second);
        for number in 0_usize.. {
            pace.tick().await;
            let reply = places[number % places.len()].clone();
            let request = match number / places.len() % 3 {
                0 => {
                    let guid = format!("{}-{number}", client.connection_id);
                    let request = publish_request(&client, "reflected", &guid);
                    (publishes.clone(), request)
                }
                1 => {
                    let request = client::ping_request(client.connection_id.as_bytes());
                    (pings.to_string(), request)
                }
                _ => {
                    let request = client::subscribe_request(&client::Subscribe {
                        client_id: &client.id,
                        channel: "reflected",
                        inbox: &reply,
                        queue_group: "",
                        durable_name: "reflected",
                        max_in_flight: 1,
                        ack_wait_seconds: 1,
                        start: StartPosition::First,
                    });
                    (subscribe.to_string(), request)
                }
            };
            let (to, request) = request;
            let sent = client.nats.publish_with_reply(to, reply, request);
            if sent.await.is_err() {
                return;
            }
        }
    });
    tasks
}
