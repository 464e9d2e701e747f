//! The NATS adapter against a real nats-server.

mod order;

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt as _;
use stanby::core::ids::{ChannelName, ClientId, Guid, ProbeId, Sequence, Subject};
use stanby::core::message::Message;
use stanby::core::request::StartPosition;
use stanby::core::time::Timestamp;
use stanby::core::{Event, Outbound, Request};
use stanby::dev::nats::NatsServer;
use stanby::nats::{AckTokens, Connection, Egress, Error, Ingress, Settings};
use stanby::protocol::subjects::Prefixes;
use stanby::protocol::{Subjects, client};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::support::nats::{own_server, restart};

pub(crate) const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn settings(nats: &NatsServer) -> Settings {
    Settings::new(vec![nats.url()], "test")
}

pub(crate) async fn connect(nats: &NatsServer) -> Connection {
    Connection::open(&settings(nats), &TaskTracker::new())
        .await
        .expect("NATS is there")
}

pub(crate) async fn client_of(nats: &NatsServer) -> Client {
    async_nats::connect(nats.url())
        .await
        .expect("NATS is there")
}

pub(crate) fn subjects() -> Subjects {
    Subjects::new("test-cluster", &Prefixes::default()).expect("a valid cluster ID")
}

pub(crate) fn subject(text: impl Into<String>) -> Subject {
    Subject::parse(text.into().into()).expect("a valid subject")
}

/// Publishes as a client would; `done` waits until NATS has all of it.
pub(crate) struct Sender(pub(crate) Client);

impl Sender {
    pub(crate) async fn send(&self, subject: &str, payload: Bytes) {
        self.0
            .publish(subject.to_owned(), payload)
            .await
            .expect("connected");
    }

    pub(crate) async fn publish(&self, number: usize) {
        let payload = client::publish_request(client::Publish {
            client_id: "me",
            connection_id: b"C1",
            guid: &format!("guid-{number}"),
            channel: "foo",
            data: Bytes::from_static(b"hello"),
        });
        self.send("_STAN.pub.test-cluster.foo", payload).await;
    }

    pub(crate) async fn done(&self) {
        let inbox = self.0.new_inbox();
        let mut echo = self.0.subscribe(inbox.clone()).await.expect("connected");
        self.send(&inbox, Bytes::new()).await;
        timeout(LIMIT, echo.next()).await.expect("NATS answers");
    }
}

/// Receives until `count` events are there.
pub(crate) async fn receive(ingress: &mut Ingress, count: usize, limit: usize) -> Vec<Event> {
    let mut events = Vec::new();
    timeout(LIMIT, async {
        while events.len() < count {
            let before = events.len();
            ingress.recv(&mut events, limit).await.expect("connected");
            assert!((1..=limit).contains(&(events.len() - before)));
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{} of {count} events: {events:?}", events.len()));
    events
}

/// A short form of an event, to compare orders.
pub(crate) fn kind(event: &Event) -> String {
    match event {
        Event::Request(request) => kind_of_request(request),
        Event::Pong(probe) => format!("pong {probe}"),
        Event::Unreachable(probe) => format!("unreachable {probe}"),
        Event::NoResponders(inbox) => format!("no responders {inbox}"),
        Event::Reconnected
        | Event::Paused
        | Event::Committed(_)
        | Event::GoneNoted
        | Event::OutboxNoted
        | Event::PoliciesNoted
        | Event::Loaded { .. }
        | Event::LoadFailed(_) => {
            panic!("not from NATS: {event:?}")
        }
    }
}

fn kind_of_request(request: &Request) -> String {
    match request {
        Request::Connect { .. } => "connect".to_owned(),
        Request::Publish { request, .. } => format!("publish {}", request.guid),
        Request::Subscribe { .. } => "subscribe".to_owned(),
        Request::Unsubscribe { .. } => "unsubscribe".to_owned(),
        Request::CloseSubscription { .. } => "close subscription".to_owned(),
        Request::CloseClient { .. } => "close client".to_owned(),
        Request::Ping { .. } => "ping".to_owned(),
        Request::Ack(ack) => format!("ack {}", ack.sequence),
        Request::Answered { .. } => "refused".to_owned(),
        Request::AlreadyStored { .. } => panic!("not from NATS: {request:?}"),
    }
}

pub(crate) fn delivery(inbox: &str, size: usize) -> Outbound {
    Outbound::Deliver {
        inbox: subject(inbox),
        channel: ChannelName::parse("foo".into()).expect("a valid name"),
        message: Arc::new(Message {
            sequence: Sequence(7),
            published_at: Timestamp(1),
            client_id: ClientId::parse("me".into()).expect("a valid ID"),
            guid: Guid::parse("g".into()).expect("a valid guid"),
            reply: "".into(),
            data: vec![b'x'; size].into(),
        }),
        redelivery_count: 0,
        no_responders_to: None,
    }
}

/// Acceptance: 89.
#[tokio::test(flavor = "multi_thread")]
async fn every_request_subject_is_listened_to_and_a_subscribe_gets_the_same_token_each_time() {
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    let connection = connect(&nats).await;
    let mut ingress = Ingress::subscribe(&connection, &subjects(), &AckTokens::new(b"secret"))
        .await
        .unwrap();
    let client = client_of(&nats).await;
    let subscribe = |inbox| {
        client::subscribe_request(&client::Subscribe {
            client_id: "me",
            channel: "foo",
            inbox,
            queue_group: "",
            durable_name: "",
            max_in_flight: 1,
            ack_wait_seconds: 1,
            start: StartPosition::NewOnly,
        })
    };
    let ping = client::ping_request(b"C1");
    let requests = [
        ("_STAN.sub.test-cluster", subscribe("_INBOX.1")),
        ("_STAN.sub.test-cluster", subscribe("_INBOX.1")),
        ("_STAN.sub.test-cluster", subscribe("_INBOX.2")),
        ("_STAN.discover.test-cluster.pings", ping),
    ];
    for (subject, payload) in requests {
        client
            .publish_with_reply(subject, "_INBOX.reply", payload)
            .await
            .unwrap();
    }

    let events = receive(&mut ingress, 4, 1).await;

    let mut tokens = Vec::new();
    for event in &events {
        if let Event::Request(Request::Subscribe { request, reply }) = event {
            assert_eq!(*reply, Some(subject("_INBOX.reply")));
            tokens.push(request.ack_token);
        }
    }
    assert_eq!(tokens.len(), 3);
    assert_eq!(tokens[0], tokens[1]);
    assert_ne!(tokens[0], tokens[2]);
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Request(Request::Ping { .. })))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_mean_nothing_hold_nothing_up() {
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    let connection = connect(&nats).await;
    let mut ingress = Ingress::subscribe(&connection, &subjects(), &AckTokens::new(b"secret"))
        .await
        .unwrap();
    let sender = Sender(client_of(&nats).await);
    // An old server's message to another one.
    let stray = Bytes::from_static(b"\x08\x03");
    for _ in 0..5000 {
        sender
            .send("_STAN.pub.test-cluster.foo", stray.clone())
            .await;
        sender
            .send("_STAN.close.test-cluster", Bytes::from_static(b"dummy"))
            .await;
    }
    sender.publish(1).await;
    sender.done().await;
    connection.flush(LIMIT).await.unwrap();

    let events = receive(&mut ingress, 1, 10).await;

    assert_eq!(
        events.iter().map(kind).collect::<Vec<_>>(),
        ["publish guid-1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_comes_back_answered_or_unreachable() {
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    let connection = connect(&nats).await;
    let mut ingress = Ingress::subscribe(&connection, &subjects(), &AckTokens::new(b"secret"))
        .await
        .unwrap();
    let mut egress = Egress::new(connection, subjects(), ingress.probes());
    let client = client_of(&nats).await;
    let mut heartbeats = client.subscribe("_INBOX.alive").await.unwrap();
    Sender(client.clone()).done().await;

    let inbox = || subject("_INBOX.alive");
    egress.send(Outbound::Probe {
        probe: ProbeId(41),
        inbox: inbox(),
    });
    egress.flush();
    let heartbeat = timeout(LIMIT, heartbeats.next()).await.unwrap().unwrap();
    assert_eq!(heartbeat.payload, Bytes::new());
    // Some clients answer with a body.
    client
        .publish(heartbeat.reply.unwrap(), Bytes::from_static(b"body"))
        .await
        .unwrap();
    let answered = receive(&mut ingress, 1, 10).await;
    let gone = subject("_INBOX.gone");
    egress.send(Outbound::Probe {
        probe: ProbeId(42),
        inbox: gone,
    });
    egress.flush();
    let unanswered = receive(&mut ingress, 1, 10).await;

    assert_eq!(answered, [Event::Pong(ProbeId(41))]);
    assert_eq!(unanswered, [Event::Unreachable(ProbeId(42))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_larger_than_nats_takes_is_counted_and_does_not_break_the_connection() {
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    let connection = connect(&nats).await;
    let ingress = Ingress::subscribe(&connection, &subjects(), &AckTokens::new(b"secret"))
        .await
        .unwrap();
    let mut egress = Egress::new(connection.clone(), subjects(), ingress.probes());
    let client = client_of(&nats).await;
    let mut inbox = client.subscribe("_INBOX.1").await.unwrap();
    Sender(client.clone()).done().await;

    egress.send(delivery("_INBOX.1", connection.max_payload()));
    egress.send(delivery("_INBOX.1", 5));
    egress.flush();

    let message = timeout(LIMIT, inbox.next()).await.unwrap().unwrap();
    assert_eq!(client::delivery(message.payload).unwrap().data, "xxxxx");
    assert_eq!(connection.counts().rejected, 1);
}

/// Acceptance: 84.
#[tokio::test(flavor = "multi_thread")]
async fn after_nats_was_away_requests_come_in_again_and_nothing_has_piled_up() {
    let Some(mut nats) = own_server(&[]).await else {
        return;
    };
    let connection = connect(&nats).await;
    let mut ingress = Ingress::subscribe(&connection, &subjects(), &AckTokens::new(b"secret"))
        .await
        .unwrap();
    let mut egress = Egress::new(connection.clone(), subjects(), ingress.probes());
    let mut health = connection.connected();
    assert!(connection.is_connected());

    nats.stop(LIMIT).await.unwrap();
    timeout(LIMIT, health.wait_for(|connected| !connected))
        .await
        .unwrap()
        .unwrap();
    assert!(!connection.is_connected());
    for _ in 0..20_000 {
        assert!(egress.has_room(), "nothing piles up");
        egress.send(delivery("_INBOX.1", 10));
    }
    egress.flush();
    assert_eq!(connection.counts().unsent, 20_000);
    let no_answer = connection.flush(Duration::from_millis(10)).await;
    assert!(
        matches!(no_answer, Err(Error::NoAnswer(_))),
        "{no_answer:?}"
    );

    restart(&mut nats, &[]).await;
    timeout(LIMIT, health.wait_for(|connected| *connected))
        .await
        .unwrap()
        .unwrap();
    connection.flush(LIMIT).await.unwrap();
    let sender = Sender(client_of(&nats).await);
    sender.publish(1).await;
    sender.done().await;

    let events = receive(&mut ingress, 1, 10).await;
    assert_eq!(
        events.iter().map(kind).collect::<Vec<_>>(),
        ["publish guid-1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_closes_with_its_last_handle() {
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    let tasks = TaskTracker::new();
    let connection = Connection::open(&settings(&nats), &tasks).await.unwrap();

    drop(connection);

    tasks.close();
    timeout(LIMIT, tasks.wait()).await.expect("no task is left");
}
