//! What happens between a socket and those who take from it when they are slower than NATS, or NATS than they.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use stanby::core::Event;
use stanby::nats::{AckTokens, Connection, Egress, Ingress, Settings};
use stanby::protocol::client;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::nats::{LIMIT, Sender, client_of, delivery, kind, receive, settings, subjects};
use crate::support::nats::own_server;
use crate::support::wait::wait_until;

async fn open(settings: &Settings) -> (Connection, Ingress) {
    let connection = Connection::open(settings, &TaskTracker::new())
        .await
        .expect("NATS is there");
    let ingress = Ingress::subscribe(&connection, &subjects(), &AckTokens::new(b"secret"))
        .await
        .expect("NATS answers");
    (connection, ingress)
}

async fn wait_for_a_pause(connection: &Connection) {
    wait_until(LIMIT, async || match connection.counts() {
        counts if counts.pauses > 0 => Ok(()),
        counts => Err(format!("{counts:?}")),
    })
    .await;
}

fn count(events: &[Event], wanted: &str) -> usize {
    let kinds = events.iter().map(kind);
    kinds.filter(|kind| kind.starts_with(wanted)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_does_not_wait_for_publishes_that_come_after_it() {
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    let (connection, mut ingress) = open(&settings(&nats)).await;
    let sender = Sender(client_of(&nats).await);
    for number in 1..=150 {
        sender.publish(number).await;
    }
    let close = client::close_request("me");
    sender.send("_STAN.close.test-cluster", close).await;
    for number in 151..=600 {
        sender.publish(number).await;
    }
    sender.done().await;
    connection.flush(LIMIT).await.unwrap();

    let events = receive(&mut ingress, 601, 50).await;

    assert_eq!(kind(&events[150]), "close client");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_a_queue_full_waits_in_nats_and_none_of_it_is_lost() {
    const PUBLISHES: usize = 50_000;
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    for (messages, bytes) in [(16, 1 << 30), (1 << 30, 4096)] {
        let mut settings = settings(&nats);
        settings.receive_queue = messages;
        settings.receive_bytes = bytes;
        let (connection, mut ingress) = open(&settings).await;
        let sender = Sender(client_of(&nats).await);
        for number in 1..=PUBLISHES {
            sender.publish(number).await;
        }
        sender.done().await;
        wait_for_a_pause(&connection).await;
        // NATS' answer waits behind what nobody takes.
        let answer = connection.flush(Duration::from_millis(10)).await;
        assert!(answer.is_err());

        let events = receive(&mut ingress, PUBLISHES, 1000).await;

        for (event, number) in events.iter().zip(1..) {
            assert_eq!(kind(event), format!("publish guid-{number}"));
        }
        connection.flush(LIMIT).await.unwrap();
        let counts = connection.counts();
        assert_eq!((counts.overflows, counts.disconnects), (0, 0), "{counts:?}");
    }
}

/// Acceptance: 63.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_subscribes_crowd_out_nothing_else() {
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    let mut settings = settings(&nats);
    settings.receive_queue = 16;
    let (connection, mut ingress) = open(&settings).await;
    let sender = Sender(client_of(&nats).await);
    for _ in 0..2000 {
        let dummy = Bytes::from_static(b"dummy");
        let (to, reply) = ("_STAN.sub.test-cluster", "_INBOX.reply");
        let sent = sender.0.publish_with_reply(to, reply, dummy).await;
        sent.expect("connected");
    }
    for number in 1..=16 {
        sender.publish(number).await;
        let ack = client::ack("foo", number as u64);
        sender.send("_INBOX.test-cluster.5.token", ack).await;
    }
    let close = client::close_request("me");
    sender.send("_STAN.close.test-cluster", close).await;
    sender.done().await;
    wait_for_a_pause(&connection).await;

    let events = receive(&mut ingress, 2000 + 16 + 16 + 1, 100).await;

    let kinds = ["refused", "publish", "ack", "close client"];
    assert_eq!(kinds.map(|kind| count(&events, kind)), [2000, 16, 16, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_slow_for_nats_is_cut_off_counts_it_and_comes_back() {
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    let mut settings = settings(&nats);
    settings.receive_queue = 1;
    let (connection, mut ingress) = open(&settings).await;
    let sender = Sender(client_of(&nats).await);
    let request = Bytes::from(vec![b'x'; 1 << 20]);

    // What NATS keeps for a slow client, and more than what any socket holds.
    let mut events = Vec::new();
    wait_until(6 * LIMIT, async || {
        for _ in 0..20 {
            let to = "_STAN.pub.test-cluster.foo";
            sender.send(to, request.clone()).await;
        }
        sender.done().await;
        match connection.counts() {
            counts if counts.overflows > 0 => Ok(()),
            counts => Err(format!("{counts:?}")),
        }
    })
    .await;
    let mut health = connection.connected();
    timeout(LIMIT, health.wait_for(|connected| *connected))
        .await
        .unwrap()
        .unwrap();
    let heard = async {
        // Until NATS knows the subscriptions again, nobody listens.
        while !events.iter().any(|event| kind(event) == "publish guid-1") {
            sender.publish(1).await;
            let received = timeout(Duration::from_millis(50), ingress.recv(&mut events, 100));
            received.await.ok();
        }
    };
    timeout(LIMIT, heard).await.expect("requests come again");

    assert_eq!(
        connection.counts().disconnects,
        connection.counts().overflows
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_are_told_to_wait_while_nats_reads_nothing() {
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    let (connection, ingress) = open(&settings(&nats)).await;
    let mut egress = Egress::new(connection.clone(), subjects(), ingress.probes());
    let client = client_of(&nats).await;
    let mut inbox = client.subscribe("_INBOX.1").await.unwrap();
    Sender(client.clone()).done().await;

    nats.signal(nix::sys::signal::Signal::SIGSTOP);
    let mut sent = 0;
    loop {
        while egress.has_room_for_deliveries() {
            egress.send(delivery("_INBOX.1", 64 << 10));
            egress.flush();
            sent += 1;
        }
        // The sockets take some at first.
        assert!(sent < 1000, "64 MB and no end");
        let room = timeout(Duration::from_millis(100), egress.room()).await;
        if room.is_err() {
            break;
        }
    }
    nats.signal(nix::sys::signal::Signal::SIGCONT);
    timeout(LIMIT, egress.room()).await.expect("NATS reads on");

    assert!(egress.has_room_for_deliveries());
    for number in 0..sent {
        let message = timeout(LIMIT, inbox.next()).await;
        assert!(message.unwrap().is_some(), "{number} of {sent}");
    }
}

async fn flood(sender: &Sender, client_id: &str, numbers: std::ops::Range<usize>, bytes: usize) {
    for number in numbers {
        let request = client::publish_request(client::Publish {
            client_id,
            connection_id: b"C1",
            guid: &format!("{client_id}-{number}"),
            channel: "foo",
            data: Bytes::from(vec![b'x'; bytes]),
        });
        let (to, reply) = ("_STAN.pub.test-cluster.foo", "_INBOX.flood");
        let sent = sender.0.publish_with_reply(to, reply, request).await;
        sent.expect("connected");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_more_than_its_share_waiting_is_refused_and_the_others_are_heard_meanwhile() {
    const FLOOD: usize = 100;
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    let mut settings = settings(&nats);
    settings.receive_bytes = 2 << 20;
    // As 2.11 and newer do.
    settings.cuts_off = Some(true);
    let (connection, mut ingress) = open(&settings).await;
    ingress.refuse_floods(true);
    ingress.refuses_until(stanby::core::time::Instant::from_nanos(u64::MAX));
    let sender = Sender(client_of(&nats).await);
    let mut refusals = sender.0.subscribe("_INBOX.flood").await.unwrap();
    let modest = Sender(client_of(&nats).await);

    // Nobody takes anything meanwhile; NATS answers all the same, so what it sent is read.
    flood(&sender, "greedy", 0..FLOOD / 2, 64 << 10).await;
    sender.done().await;
    flood(&modest, "modest", 0..20, 100).await;
    modest.done().await;
    flood(&sender, "greedy", FLOOD / 2..FLOOD, 64 << 10).await;
    sender.done().await;
    connection.flush(LIMIT).await.unwrap();
    let counts = connection.counts();
    assert_eq!((counts.pauses, counts.disconnects), (0, 0), "{counts:?}");
    let refused = usize::try_from(counts.refused).unwrap();
    assert!(refused > FLOOD / 2, "{counts:?}");

    let events = receive(&mut ingress, FLOOD - refused + 20, 1000).await;
    assert_eq!(count(&events, "publish modest-"), 20);
    assert_eq!(count(&events, "publish greedy-"), FLOOD - refused);
    for _ in 0..refused {
        let refusal = timeout(LIMIT, refusals.next()).await.unwrap().unwrap();
        let ack = client::publish_ack(refusal.payload).unwrap();
        let text = ack.refusal.unwrap();
        assert!(text.contains("too much of this client waits"), "{text}");
    }

    // What has been taken makes room, and who does not answer clients refuses nobody.
    flood(&sender, "greedy", 0..10, 64 << 10).await;
    sender.done().await;
    receive(&mut ingress, 10, 1000).await;
    ingress.refuse_floods(false);
    flood(&sender, "greedy", 0..50, 64 << 10).await;
    sender.done().await;
    wait_for_a_pause(&connection).await;
    receive(&mut ingress, 50, 1000).await;
    assert_eq!(connection.counts().refused, counts.refused);
}
