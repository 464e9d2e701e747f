//! `stanby import`: what a nats-streaming-server left in Postgres goes on under a real server.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

mod durables;
mod encrypted;

use std::process::Output;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use stanby::protocol::client::{self, Delivery};
use tokio::process::Command;
use tokio::time::timeout;

use crate::cli::{code, stderr, stdout};
use crate::former::{ClientInfo, FormerTables, SubState, server_info, timestamp};
use crate::pair::{Group, LIMIT, Server};
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

pub(crate) const CHANNEL: &str = "orders";

const KEY: &str = "former-key-0123456789";

/// Runs `stanby import` for the group, from schema `public` of its database.
pub(crate) fn command(group: &Group, flags: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Server::command();
    command
        .args(["import", "--from", &group.database_url])
        .args(["--database-url", &group.database_url])
        .args(["--nats-server", &group.nats_url])
        .args(["--cluster-id", &group.cluster_id])
        .args(flags)
        .env_remove("NATS_STREAMING_ENCRYPTION_KEY")
        .envs(environment.iter().copied());
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    command
}

pub(crate) async fn import_with(
    group: &Group,
    flags: &[&str],
    environment: &[(&str, &str)],
) -> Output {
    let mut command = command(group, flags, environment);
    timeout(LIMIT, command.output()).await.unwrap().unwrap()
}

pub(crate) async fn import(group: &Group) -> Output {
    import_with(group, &[], &[]).await
}

/// What it says when it refuses.
pub(crate) async fn refusal(group: &Group, flags: &[&str], environment: &[(&str, &str)]) -> String {
    let output = import_with(group, flags, environment).await;
    let text = stderr(&output);
    assert_eq!(code(&output), Some(1), "{text}{}", stdout(&output));
    assert!(!text.contains("former-key"), "{text}");
    text
}

pub(crate) fn ensure_imported(output: &Output) {
    assert_eq!(code(output), Some(0), "{}", stderr(output));
}

pub(crate) async fn group() -> Option<(Group, FormerTables)> {
    let group = Group::new(&[]).await?;
    let tables = FormerTables::new(&group.database_url, &group.cluster_id).await;
    Some((group, tables))
}

/// Nothing of it is there, whether or not the tables were made.
pub(crate) async fn ensure_nothing_written(group: &Group) {
    let query = "SELECT CASE WHEN to_regclass('stanby.channels') IS NULL THEN 0 ELSE
        (xpath('//c/text()', query_to_xml('SELECT (SELECT count(*) FROM stanby.messages)
            + (SELECT count(*) FROM stanby.channels) + (SELECT count(*) FROM stanby.clients)
            + (SELECT count(*) FROM stanby.term_keys) + (SELECT count(*) FROM stanby.server_info) AS c',
            true, true, '')))[1]::text::bigint END";
    assert_eq!(group.tables().number(query).await, 0);
}

/// A client that has been connected all along, and knows nothing of another server.
struct Old {
    nats: Client,
    info: ClientInfo,
}

impl Old {
    async fn new(group: &Group, id: &str) -> Self {
        let nats = async_nats::connect(&group.nats_url).await.unwrap();
        let info = ClientInfo {
            id: id.to_owned(),
            heartbeat_inbox: nats.new_inbox(),
            connection_id: format!("connection of {id}").into(),
            protocol: 1,
            ping_interval: 5,
            ping_max_out: 3,
        };
        Self { nats, info }
    }

    /// A subscription, and what comes to it.
    async fn subscription(&self, id: u64) -> (SubState, Subscriber) {
        let state = SubState {
            inbox: self.nats.new_inbox(),
            ack_inbox: self.nats.new_inbox(),
            ..SubState::of(id, &self.info.id)
        };
        let messages = self.nats.subscribe(state.inbox.clone()).await.unwrap();
        self.nats.flush().await.unwrap();
        (state, messages)
    }

    async fn ack(&self, state: &SubState, sequence: u64) {
        let ack = client::ack(CHANNEL, sequence);
        self.nats
            .publish(state.ack_inbox.clone(), ack)
            .await
            .unwrap();
    }

    /// Publishes, and waits for the ack.
    async fn publish(&self, group: &Group, channel: &str) {
        let prefix = server_info(&group.cluster_id).publish;
        self.publish_to(&prefix, channel).await;
    }

    async fn publish_to(&self, prefix: &str, channel: &str) {
        let request = client::publish_request(client::Publish {
            client_id: &self.info.id,
            connection_id: &self.info.connection_id,
            guid: "a guid",
            channel,
            data: "new".into(),
        });
        let subject = format!("{prefix}.{channel}");
        let answer = timeout(LIMIT, self.nats.request(subject, request)).await;
        let ack = client::publish_ack(answer.unwrap().unwrap().payload).unwrap();
        assert_eq!(ack.refusal, None);
    }
}

async fn next(messages: &mut Subscriber) -> Delivery {
    let message = timeout(LIMIT, messages.next()).await;
    client::delivery(message.expect("it comes").unwrap().payload).unwrap()
}

/// Sequence and whether it was sent before.
fn seen(delivery: &Delivery) -> (u64, bool) {
    (delivery.sequence, delivery.redelivered)
}

/// Messages 3 to 10 of channel 1.
pub(crate) async fn fill(tables: &mut FormerTables) {
    tables.channel(1, CHANNEL, 0).await;
    for sequence in 3..=10 {
        let data = format!("message {sequence}");
        tables.message(1, CHANNEL, sequence, data.as_bytes()).await;
    }
}

/// Acceptance: 157.
#[tokio::test]
async fn clients_that_were_connected_go_on_where_they_were() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    fill(&mut tables).await;
    let alice = Old::new(&group, "alice").await;
    tables.client(&alice.info).await;
    let (durable, mut books) = alice.subscription(1).await;
    let durable = durable.durable("books");
    tables.subscription(1, 6, &durable).await;
    // A page that had room took the later row first.
    tables
        .pending_cached((1, 2), 8, Some("[8,7]"), Some("[5,3]"))
        .await;
    tables
        .pending_cached((1, 1), 6, Some("[4,3,6,5]"), None)
        .await;
    let (plain, mut all) = alice.subscription(2).await;
    tables.subscription(1, 10, &plain).await;

    ensure_imported(&import(&group).await);
    let server = group.server();
    server.wait_until_active().await;

    let mut sequences = Vec::new();
    for _ in 0..6 {
        let delivery = next(&mut books).await;
        assert_eq!(delivery.published_at, timestamp(delivery.sequence));
        assert_eq!(delivery.data, format!("message {}", delivery.sequence));
        alice.ack(&durable, delivery.sequence).await;
        sequences.push(seen(&delivery));
    }
    let expected = [
        (4, true),
        (6, true),
        (7, true),
        (8, true),
        (9, false),
        (10, false),
    ];
    assert_eq!(sequences, expected);
    alice.publish(&group, CHANNEL).await;
    assert_eq!(seen(&next(&mut books).await), (11, false));
    assert_eq!(seen(&next(&mut all).await), (11, false));
    alice.ack(&durable, 11).await;
    let floor = "SELECT acked_floor FROM stanby.positions WHERE durable_name = 'books'";
    wait_until(LIMIT, async || match group.tables().number(floor).await {
        11 => Ok(()),
        floor => Err(format!("acked up to {floor}")),
    })
    .await;
}

#[tokio::test]
async fn what_a_real_server_left_goes_on() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let Some(nats) = nats::own_server(&[]).await else {
        return;
    };
    let group = Group::over(database.url.clone(), nats.url(), &[]);
    FormerTables::real(&group.database_url).await;

    let environment = [("STANBY_FROM_ENCRYPTION_KEY", KEY)];
    ensure_imported(&import_with(&group, &[], &environment).await);
    let server = group.server();
    server.wait_until_active().await;

    for (client, queue, durable, expected) in [
        ("reader", "", "books", vec![(3, true), (4, true), (5, true)]),
        ("q2", "grp", "dur", vec![(4, true), (5, false)]),
    ] {
        let client = group.client(client).await;
        let subscription = client.subscribe(CHANNEL, queue, durable).await.unwrap();
        let received = wait_until(LIMIT, async || match subscription.received() {
            received if received.len() >= expected.len() => Ok(received),
            received => Err(format!("{durable}: {received:?}")),
        })
        .await;
        assert_eq!(received.iter().map(seen).collect::<Vec<_>>(), expected);
        for delivery in received {
            assert_eq!(delivery.data, format!("line {}", delivery.sequence));
        }
    }
}

#[tokio::test]
async fn clients_of_a_very_old_store_keep_its_subjects() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    let usual = server_info(&group.cluster_id);
    let random = |subject: &str| subject.replace(&group.cluster_id, "random");
    let old = crate::former::ServerInfo {
        publish: random(&usual.publish),
        subscribe: random(&usual.subscribe),
        unsubscribe: random(&usual.unsubscribe),
        close: random(&usual.close),
        sub_close: String::new(),
        ..usual.clone()
    };
    tables.server_info(&old, 1).await;
    fill(&mut tables).await;
    let alice = Old::new(&group, "alice").await;
    tables.client(&alice.info).await;

    ensure_imported(&import(&group).await);
    let server = group.server();
    server.wait_until_active().await;

    alice.publish_to(&old.publish, CHANNEL).await;
    let new = group.client("bob").await;
    assert_eq!(*new.subjects.publish_prefix, old.publish);
    assert_eq!(*new.subjects.subscribe, old.subscribe);
    let subscription = new.subscribe(CHANNEL, "", "").await.unwrap();
    wait_until(LIMIT, async || match subscription.sequences().last() {
        Some(11) => Ok(()),
        last => Err(format!("up to {last:?}")),
    })
    .await;
}
