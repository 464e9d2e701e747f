//! Applications under load while the active is killed or frozen: nothing that was acked is lost or changed, and no
//! client notices more than a pause.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;
use sqlx::{Connection, PgConnection, Row};
use stanby::clock::Clock;

use crate::pair::{self, Role};
use crate::script::Script;
use crate::support::tools;

const LIMIT: Duration = Duration::from_mins(1);

/// What `publisher.js` prints at last.
#[derive(Debug, Deserialize)]
struct Published {
    published: u64,
    acked: u64,
    errors: Vec<String>,
    lost: Vec<String>,
}

/// What `durable.js` prints at last.
#[derive(Debug, Deserialize)]
struct Received {
    /// In the order of their first arrival.
    messages: Vec<(u64, String)>,
    lost: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    sequence: u64,
    epoch: i64,
    guid: String,
    published_at: i64,
    text: String,
}

/// Acceptance: 128, 149.
#[tokio::test]
async fn ten_thousand_messages_arrive_although_the_active_is_killed_in_the_middle() {
    let Some(clients) = Clients::installed() else {
        return;
    };
    let Some((database, mut pair)) = pair::for_test("ten-thousand", &[]).await else {
        return;
    };
    let url = pair.nats_url().to_owned();
    let start = |script, more: &[&str]| clients.start(script, &url, "ten-thousand", more);
    let mut durable = start("durable.js", &["orders"]);
    durable.wait_for("subscribed", LIMIT).await;

    let mut publisher = start("publisher.js", &["orders", "10000", "200"]);
    publisher.wait_for("acked 4000", LIMIT).await;
    pair.end_active(Signal::SIGKILL).await;
    let report: Published = last_of(publisher).await;
    assert_eq!(report.errors, [""; 0]);
    durable.tell("last 10000").await;
    let received: Received = last_of(durable).await;

    assert_eq!(report.acked, 10_000);
    assert_eq!(report.lost, [""; 0]);
    let stored = stored(&database.url).await;
    let expected: Vec<_> = (1..=10_000)
        .map(|number| (number, format!("message {number}")))
        .collect();
    let texts = stored.iter().map(|row| (row.sequence, row.text.clone()));
    assert!(
        texts.eq(expected.iter().cloned()),
        "the table is not the messages in their order, each once: {:?}",
        first_difference(&stored)
    );
    let epochs: Vec<_> = stored.iter().map(|row| row.epoch).collect();
    assert!(epochs.is_sorted(), "terms interleave");
    assert_ne!(epochs.first(), epochs.last(), "both terms stored some");
    let mut messages = received.messages;
    messages.sort();
    assert_eq!(messages, expected);
    assert_eq!(received.lost, [""; 0]);
}

/// Acceptance: 138.
#[tokio::test]
async fn an_active_that_was_frozen_for_four_leases_resumes_as_the_standby_and_changes_nothing() {
    const FROZEN_FOR: Duration = Duration::from_secs(8);

    let Some(clients) = Clients::installed() else {
        return;
    };
    // Heartbeats so frequent that a node which believed its overdue timers would close clients.
    let flags = [
        "--hb-interval=1s",
        "--hb-timeout=2s",
        "--hb-fail-count=1",
        "--lease=2s",
    ];
    let Some((database, mut pair)) = pair::for_test("frozen", &flags).await else {
        return;
    };
    let url = pair.nats_url().to_owned();
    let start = |script, more: &[&str]| clients.start(script, &url, "frozen", more);
    let mut durable = start("durable.js", &["orders"]);
    durable.wait_for("subscribed", LIMIT).await;
    let mut publisher = start("publisher.js", &["orders", "0", "20"]);
    publisher.wait_for("acked 1000", LIMIT).await;
    let clients_before = clients_of(&database.url).await;
    assert_eq!(clients_before.len(), 2);

    let frozen = pair.wait_for_roles().await;
    pair.server(frozen).signal(Signal::SIGSTOP);
    let since = Clock.now().monotonic;
    let other = 1 - frozen;
    pair.wait_for_role(other, Role::Active).await;
    while Clock.now().monotonic.since(since) < FROZEN_FOR {
        publisher.wait_for_more(1, LIMIT).await;
    }
    let stored_while_frozen = stored(&database.url).await;
    pair.server(frozen).signal(Signal::SIGCONT);

    // From its first answer on it is the standby; it is never active beside the other.
    pair.wait_for_role(frozen, Role::NotActive).await;
    assert_eq!(pair.server(other).role().await, Role::Active);
    publisher.wait_for_more(20, LIMIT).await;
    assert_eq!(pair.wait_for_roles().await, other);
    publisher.tell("stop").await;
    let report: Published = last_of(publisher).await;
    let clients_after = clients_of(&database.url).await;
    durable.tell(&format!("last {}", report.published)).await;
    let received: Received = last_of(durable).await;

    assert_eq!(report.errors, [""; 0]);
    assert_eq!(report.acked, report.published);
    assert_eq!(report.lost, [""; 0]);
    let stored = stored(&database.url).await;
    let rewritten = stored
        .iter()
        .zip(&stored_while_frozen)
        .find(|(a, b)| a != b);
    assert_eq!(rewritten, None, "the resumed server rewrote a message");
    let expected: Vec<_> = (1..=report.published)
        .map(|number| (number, format!("message {number}")))
        .collect();
    let texts = stored.iter().map(|row| (row.sequence, row.text.clone()));
    assert!(
        texts.eq(expected.iter().cloned()),
        "the table is not the messages in their order, each once: {:?}",
        first_difference(&stored)
    );
    assert!(stored.is_sorted_by_key(|row| row.epoch), "terms interleave");
    // The publisher has closed its connection by then, as the only one.
    let durable_before = clients_before.iter().filter(|(id, _)| id == "durable");
    assert!(clients_after.iter().eq(durable_before), "{clients_after:?}");
    let mut messages = received.messages;
    messages.sort();
    assert_eq!(messages, expected);
    assert_eq!(received.lost, [""; 0]);
}

struct Clients(PathBuf);

impl Clients {
    fn installed() -> Option<Self> {
        tools::node().map(Self)
    }

    fn start(&self, script: &str, url: &str, cluster_id: &str, more: &[&str]) -> Script {
        let arguments = [&[script, url, cluster_id], more].concat();
        Script::start(Path::new("node"), &arguments, &self.0)
    }
}

async fn last_of<T: for<'a> Deserialize<'a>>(script: Script) -> T {
    let lines = script.finish(LIMIT).await;
    let last = lines.last().expect("the script says what it did");
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"))
}

async fn stored(url: &str) -> Vec<Stored> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let rows = sqlx::query(
        "SELECT sequence, epoch, guid, published_at_ns, convert_from(data, 'UTF8')
         FROM stanby.messages ORDER BY channel_id, sequence",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    let stored = |row: sqlx::postgres::PgRow| Stored {
        sequence: u64::try_from(row.get::<i64, _>(0)).unwrap(),
        epoch: row.get(1),
        guid: row.get(2),
        published_at: row.get(3),
        text: row.get(4),
    };
    rows.into_iter().map(stored).collect()
}

/// Who is registered, by client ID and connection ID.
async fn clients_of(url: &str) -> Vec<(String, Vec<u8>)> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let rows =
        sqlx::query_as("SELECT client_id, connection_id FROM stanby.clients ORDER BY client_id")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    connection.close().await.unwrap();
    rows
}

fn first_difference(stored: &[Stored]) -> Option<&Stored> {
    stored
        .iter()
        .zip(1..)
        .find(|(row, number)| row.sequence != *number || row.text != format!("message {number}"))
        .map(|(row, _)| row)
}
