//! `stanby nats-permissions`: a nats-server with exactly the printed block serves servers and clients, and keeps
//! clients from everything else.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::time::Duration;

use async_nats::{Client, ConnectOptions, RequestErrorKind, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use stanby::dev::nats::NatsServer;
use stanby::protocol::Subjects;
use stanby::protocol::subjects::Prefixes;
use tokio::time::timeout;

use crate::cli::{code, stanby, stderr, stdout};
use crate::pair::{Group, LIMIT, Pair};
use crate::stan::StanClient;
use crate::support::process::{Own, temporary_directory};
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

pub(crate) const SERVER_PASSWORD: &str = "of-servers";
const CLIENT_PASSWORD: &str = "of-clients";

pub(crate) async fn printed(flags: &[&str]) -> String {
    let output = stanby(&[&["nats-permissions"], flags].concat()).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    stdout(&output)
}

/// A nats-server that runs with the block, and with the passwords that the block takes from the environment.
pub(crate) async fn nats_server(block: &str) -> Option<Own<NatsServer>> {
    let directory = temporary_directory();
    let file = directory.root().join("nats.conf");
    let passwords = format!(
        "STANBY_SERVER_PASSWORD: {SERVER_PASSWORD}\nSTANBY_CLIENT_PASSWORD: {CLIENT_PASSWORD}\n"
    );
    std::fs::write(&file, passwords + block).unwrap();
    // Read once, while it starts.
    let server = nats::own_server(&["--config", file.to_str().unwrap()]).await;
    drop(directory);
    server
}

pub(crate) async fn connect(server: &NatsServer) -> Client {
    let options = ConnectOptions::new().user_and_password("client".into(), CLIENT_PASSWORD.into());
    options.connect(server.url()).await.unwrap()
}

fn complaints(server: &NatsServer) -> Vec<String> {
    let log = std::fs::read_to_string(server.log()).unwrap();
    let lines = log.lines().filter(|line| line.contains("Violation"));
    lines.map(str::to_owned).collect()
}

/// Returns when the NATS server has handled everything sent before, and its answers to this client have arrived: it says
/// itself that nobody listens, on the one subject that every client may publish to.
pub(crate) async fn round_trip(nats: &Client, discover: &str) {
    let asked = nats.request(discover.to_owned(), "".into()).await;
    let kind = asked.unwrap_err().kind();
    assert_eq!(kind, RequestErrorKind::NoResponders);
}

async fn hears_nothing(heard: &mut Subscriber, nats: &Client, discover: &str) {
    round_trip(nats, discover).await;
    if let Some(Some(message)) = heard.next().now_or_never() {
        panic!("heard {}", message.subject);
    }
}

#[tokio::test]
async fn a_nats_server_with_the_printed_block_serves_a_pair_and_its_clients() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let block = printed(&["--cluster-id", "own-cluster"]).await;
    let Some(server) = nats_server(&block).await else {
        return;
    };
    let url = format!(
        "nats://stanby:{SERVER_PASSWORD}@127.0.0.1:{}",
        server.port()
    );
    let flags = ["--hb-interval", "200ms"];
    let pair = Pair::of(Group::over(database.url.clone(), url, &flags)).await;

    let client = connect(&server).await;
    let client = StanClient::connect(client, "own-cluster", "me")
        .await
        .unwrap();
    let durable = client.subscribe("orders", "", "books").await.unwrap();
    let mut publisher = client.publisher("orders").await;
    publisher.send().await;
    publisher.take_all_acks().await;
    wait_until(LIMIT, async || match client.heartbeats() {
        0..3 => Err("too few heartbeats".to_owned()),
        _ => Ok(()),
    })
    .await;
    pair.active.kill().await;
    assert_eq!(pair.standby.wait_until_active().await, 2);
    client.ping().await.unwrap();
    publisher.send().await;
    publisher.take_all_acks().await;
    let tables = pair.group.tables();
    let acked = "SELECT acked_floor FROM stanby.positions";
    wait_until(LIMIT, async || match tables.number(acked).await {
        2 => Ok(()),
        floor => Err(format!("acked up to {floor}")),
    })
    .await;
    let missed = "SELECT missed_heartbeats FROM stanby.clients";
    assert_eq!(tables.number(missed).await, 0);

    let numbers: Vec<u64> = durable.received().iter().map(|it| it.sequence).collect();
    assert!(numbers.contains(&1) && numbers.contains(&2), "{numbers:?}");
    assert_eq!(complaints(&server), [""; 0]);
}

#[tokio::test]
async fn under_the_printed_block_clients_can_neither_listen_to_nor_speak_for_others() {
    let flags = ["--cluster-id", "guarded", "--channels", "orders.*"];
    let Some(server) = nats_server(&printed(&flags).await).await else {
        return;
    };
    let subjects = Subjects::new("guarded", &Prefixes::default()).unwrap();
    let discover = subjects.discover().as_ref();
    let (attacker, victim) = (connect(&server).await, connect(&server).await);

    // What everybody asks the servers, and how they answer.
    let listened = [
        subjects.publish_wildcard().to_string(),
        subjects.discover().to_string(),
        subjects.ack_wildcard().to_string(),
        ">".to_owned(),
        "_INBOX.guarded.*.*".to_owned(),
        "_INBOX.*.1.>".to_owned(),
        "_INBOX.*.*.secret".to_owned(),
    ];
    for subject in listened {
        let mut heard = attacker.subscribe(subject.clone()).await.unwrap();
        round_trip(&attacker, discover).await;
        let inbox = format!("{}.1.secret", subjects.ack_prefix());
        let publish = format!("{}.orders.a", subjects.publish_prefix());
        for public in [publish, subjects.discover().to_string(), inbox] {
            victim.publish(public, "x".into()).await.unwrap();
        }
        round_trip(&victim, discover).await;
        hears_nothing(&mut heard, &attacker, discover).await;
    }

    // What it may listen to holds ack inboxes, too: those are left out.
    let server_side =
        ConnectOptions::new().user_and_password("stanby".into(), SERVER_PASSWORD.into());
    let server_side = server_side.connect(server.url()).await.unwrap();
    for subject in ["_INBOX.>", "_INBOX.*.>"] {
        let nats = connect(&server).await;
        let mut heard = nats.subscribe(subject).await.unwrap();
        let first = loop {
            let inbox = format!("{}.1.secret", subjects.ack_prefix());
            victim.publish(inbox, "x".into()).await.unwrap();
            round_trip(&victim, discover).await;
            let sentinel = "_INBOX.sentinel.1";
            server_side.publish(sentinel, "x".into()).await.unwrap();
            server_side.flush().await.unwrap();
            // Until NATS knows of the subscription.
            if let Ok(message) = timeout(Duration::from_millis(100), heard.next()).await {
                break message.unwrap().subject.to_string();
            }
        };
        assert_eq!(first, "_INBOX.sentinel.1", "{subject}");
    }

    // Deliveries, and acks of publishes, come from the servers alone; other channels are not this client's.
    let inbox = victim.new_inbox();
    let mut deliveries = victim.subscribe(inbox.clone()).await.unwrap();
    round_trip(&victim, discover).await;
    attacker.publish(inbox, "forged".into()).await.unwrap();
    let other = format!("{}.invoices", subjects.publish_prefix());
    attacker.publish(other.clone(), "x".into()).await.unwrap();
    round_trip(&attacker, discover).await;
    hears_nothing(&mut deliveries, &victim, discover).await;
    wait_until(LIMIT, async || {
        let found = complaints(&server);
        if found.iter().any(|line| line.contains(&other)) {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_subject_does_not_get_into_the_block() {
    for flags in [
        ["--cluster-id", "a..b"],
        ["--channels", "a\"]"],
        ["--inboxes", "a b"],
        ["--ack-prefix", "a.>"],
    ] {
        let output = stanby(&[&["nats-permissions"], &flags[..]].concat()).await;
        assert_eq!(code(&output), Some(2), "{flags:?}");
    }
}
