//! What keeps its order on the way in and out.

use futures_util::StreamExt as _;
use stanby::core::{Outbound, Reply};
use stanby::nats::{AckTokens, Egress, Ingress};
use stanby::protocol::client;
use tokio::time::timeout;

use super::{LIMIT, Sender, client_of, connect, delivery, kind, receive, subject, subjects};
use crate::support::nats::own_server;

/// Acceptance: 32, 33.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_came_before_a_close_is_handed_out_before_it() {
    const PUBLISHES: usize = 3000;
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    let connection = connect(&nats).await;
    let mut ingress = Ingress::subscribe(&connection, &subjects(), &AckTokens::new(b"secret"))
        .await
        .unwrap();
    let sender = Sender(client_of(&nats).await);
    for number in 1..=PUBLISHES {
        sender.publish(number).await;
        if number % 10 == 0 {
            let sequence = number as u64 / 10;
            sender
                .send("_INBOX.test-cluster.5.token", client::ack("foo", sequence))
                .await;
        }
    }
    let leave = client::leave_request("me", "foo", "_INBOX.test-cluster.5.token");
    sender.send("_STAN.unsub.test-cluster", leave.clone()).await;
    sender.send("_STAN.subclose.test-cluster", leave).await;
    sender
        .send("_STAN.close.test-cluster", client::close_request("me"))
        .await;
    sender.done().await;
    connection.flush(LIMIT).await.unwrap();

    let acks = PUBLISHES / 10;
    let events = receive(&mut ingress, PUBLISHES + acks + 3, 100).await;

    let kinds: Vec<String> = events.iter().map(kind).collect();
    let of = |prefix: &str| -> Vec<String> {
        kinds
            .iter()
            .filter(|kind| kind.starts_with(prefix))
            .cloned()
            .collect()
    };
    let numbered = |prefix: &str, count| -> Vec<String> {
        (1..=count)
            .map(|number| format!("{prefix}{number}"))
            .collect()
    };
    assert_eq!(of("publish"), numbered("publish guid-", PUBLISHES));
    assert_eq!(of("ack"), numbered("ack ", acks));
    assert_eq!(
        kinds[PUBLISHES + acks..],
        ["unsubscribe", "close subscription", "close client"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_and_connects_again_gets_both_in_this_order() {
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    let connection = connect(&nats).await;
    let mut ingress = Ingress::subscribe(&connection, &subjects(), &AckTokens::new(b"secret"))
        .await
        .unwrap();
    let sender = Sender(client_of(&nats).await);
    sender
        .send("_STAN.close.test-cluster", client::close_request("me"))
        .await;
    let connect = client::connect_request(&client::Connect {
        client_id: "me",
        heartbeat_inbox: "_INBOX.hb",
        protocol: 1,
        connection_id: b"C1",
        ping_interval: 5,
        ping_max_out: 88,
    });
    sender.send("_STAN.discover.test-cluster", connect).await;
    sender.done().await;
    connection.flush(LIMIT).await.unwrap();

    let events = receive(&mut ingress, 2, 100).await;

    assert_eq!(
        events.iter().map(kind).collect::<Vec<_>>(),
        ["close client", "connect"]
    );
}

/// Acceptance: 49.
#[tokio::test(flavor = "multi_thread")]
async fn messages_leave_in_the_order_in_which_they_are_sent() {
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

    let response = Reply::Subscribed {
        ack_inbox: subject("_INBOX.test-cluster.1.t"),
    };
    egress.send(Outbound::Reply {
        to: subject("_INBOX.1"),
        reply: response,
    });
    for _ in 0..10_000 {
        egress.send(delivery("_INBOX.1", 100));
    }
    egress.flush();

    let first = timeout(LIMIT, inbox.next()).await.unwrap().unwrap();
    let ack_inbox = client::subscribe_response(first.payload).unwrap();
    assert_eq!(ack_inbox, "_INBOX.test-cluster.1.t");
    for _ in 0..10_000 {
        let message = timeout(LIMIT, inbox.next()).await.unwrap().unwrap();
        assert_eq!(client::delivery(message.payload).unwrap().sequence, 7);
    }
    assert_eq!(
        connection.counts(),
        stanby::nats::counters::Counts::default()
    );
}
