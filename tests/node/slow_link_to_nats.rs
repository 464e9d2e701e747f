//! A link to NATS that carries little: what is urgent gets through it all the same.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use stanby::core::request::StartPosition;
use stanby::protocol::client as wire;
use tokio::time::timeout;

use crate::pair::{Group, LIMIT};
use crate::proxy::{Link, Proxy, Target};
use crate::stan::StanClient;
use crate::support::{nats, postgres};

const CLUSTER: &str = "own-cluster";
const MESSAGES: usize = 60;
const MESSAGE_BYTES: usize = 1_000_000;

/// Bytes a second: the messages take ten seconds.
const RATE: u32 = 6_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_link_full_of_deliveries_keeps_no_answer_waiting_and_closes_nobody() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let Some(nats) = nats::own_server(&[]).await else {
        return;
    };
    let proxy = Proxy::start(Target::Port(nats.port())).await;
    let url = format!("nats://127.0.0.1:{}", proxy.port);
    let flags = [
        "--hb-interval",
        "500ms",
        "--hb-timeout",
        "1s",
        "--hb-fail-count",
        "1",
    ];
    let group = Group::over(database.url.clone(), url, &flags);
    let server = group.server();
    server.wait_until_active().await;
    let connect = async |id: &str| {
        let nats = async_nats::connect(nats.url()).await.unwrap();
        StanClient::connect(nats, CLUSTER, id).await.unwrap()
    };
    let greedy = connect("greedy").await;
    let modest = connect("modest").await;
    let to = format!("{}.orders", greedy.subjects.publish_prefix);
    for number in 0..MESSAGES {
        let request = wire::publish_request(wire::Publish {
            client_id: "greedy",
            connection_id: greedy.connection_id.as_bytes(),
            guid: &format!("guid-{number}"),
            channel: "orders",
            data: Bytes::from(vec![b'x'; MESSAGE_BYTES]),
        });
        let answer = timeout(LIMIT, greedy.nats.request(to.clone(), request)).await;
        let ack = wire::publish_ack(answer.unwrap().unwrap().payload).unwrap();
        assert!(ack.refusal.is_none());
    }

    proxy.set(Link::Narrow(RATE));
    let inbox = greedy.nats.new_inbox();
    let mut messages = greedy.nats.subscribe(inbox.clone()).await.unwrap();
    let request = wire::subscribe_request(&wire::Subscribe {
        client_id: "greedy",
        channel: "orders",
        inbox: &inbox,
        queue_group: "",
        durable_name: "",
        max_in_flight: 1024,
        ack_wait_seconds: 60,
        start: StartPosition::First,
    });
    let subject = greedy.subjects.subscribe.to_string();
    let answer = greedy.nats.request(subject, request).await.unwrap();
    wire::subscribe_response(answer.payload).unwrap();

    let receiving = async {
        for _ in 0..MESSAGES {
            timeout(LIMIT, messages.next()).await.unwrap().unwrap();
        }
    };
    let pinging = async {
        loop {
            // Behind the deliveries it would take ten seconds.
            let pinged = timeout(Duration::from_secs(2), modest.ping()).await;
            pinged
                .expect("a ping is answered before the deliveries")
                .unwrap();
        }
    };
    tokio::select! {
        () = receiving => {}
        () = pinging => {}
    }
    greedy.ping().await.unwrap();
    modest.ping().await.unwrap();
    assert!(!server.log().contains("timed out"), "{}", server.log());
}
