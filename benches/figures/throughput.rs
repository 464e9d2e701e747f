//! Messages per second, and how long one publish takes beside one commit of the same Postgres.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use stanby::node::clock::Clock;
use stanby::protocol::client;
use stanby::protocol::subjects::{Prefixes, Subjects};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::ground::Ground;
use crate::table::Table;

const ROUNDS: usize = 5;
const PUBLISHERS: usize = 10;
const MESSAGES_EACH: u32 = 20_000;
const SINGLE: u32 = 100_000;
const SYNCHRONOUS: usize = 2_000;
const COMMITS: usize = 1_000;
const CLUSTER_ID: &str = "throughput";
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) async fn measure(ground: &Ground, table: &mut Table) -> anyhow::Result<()> {
    let pair = ground.pair(CLUSTER_ID).await?;
    rounds(ground, table)
        .await
        .with_context(|| format!("the servers logged:\n{}", pair.logs()))
}

async fn rounds(ground: &Ground, table: &mut Table) -> anyhow::Result<()> {
    let scratch = ground.database("scratch").await?;
    let url = ground.nats_url();

    let mut many = Vec::new();
    let mut single = Vec::new();
    let mut publishes = Vec::new();
    let mut commits = Vec::new();
    let mut expected = 0;
    for round in 0..ROUNDS {
        commits.push(commit_ms(&scratch).await?);
        publishes.push(publish_ms(&url, round).await?);
        many.push(publish(&url, round, PUBLISHERS, MESSAGES_EACH).await?);
        single.push(publish(&url, round, 1, SINGLE).await?);
        // Acks are promises: figures of a round whose messages are not all in the table would be worth nothing.
        expected += i64::from(MESSAGES_EACH) * i64::try_from(PUBLISHERS)?
            + i64::from(SINGLE)
            + i64::try_from(SYNCHRONOUS)?;
        let of_round = [&commits, &publishes, &many, &single].map(|values| values.last().copied());
        eprintln!("round {round}: {of_round:?}, {}", crate::machine("then"));
        let stored = ground.stored(CLUSTER_ID).await?;
        ensure!(
            stored == (expected, expected),
            "{expected} acked, {stored:?} stored"
        );
    }
    table.line(&format!(
        "{expected} messages acked and found in the table, each once"
    ));
    table.row("10 publishers, 128 B, without waiting", "msg/s", &many);
    table.row("1 publisher, 128 B, without waiting", "msg/s", &single);
    table.row("publish and its ack, one at a time, p50", "ms", &publishes);
    table.row(
        "one-row insert committed, same Postgres, p50",
        "ms",
        &commits,
    );
    Ok(())
}

/// From the start of the first `stanby pub` to the end of the last one, connecting and closing included.
async fn publish(url: &str, round: usize, publishers: usize, messages: u32) -> anyhow::Result<f64> {
    let since = Clock.now().monotonic;
    let payload = "x".repeat(128);
    let count = messages.to_string();
    // One for each round: a channel of many would reach its limit and measure the dropping of old messages too.
    let channel = format!("figures.{round}");
    let runs = (0..publishers).map(|_| async {
        let output = Command::new(env!("CARGO_BIN_EXE_stanby"))
            .args(["pub", &channel, &payload, "--async", "--quiet"])
            .args(["--count", &count, "--nats-server", url])
            .args(["--cluster-id", CLUSTER_ID])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "stanby pub: {errors}");
        anyhow::Ok(())
    });
    try_join_all(runs).await?;
    let seconds = Clock.now().monotonic.since(since).as_secs_f64();
    let messages = u32::try_from(publishers)? * messages;
    Ok(f64::from(messages) / seconds)
}

/// The median of publishes that each wait for their ack, seen from an `async-nats` client.
async fn publish_ms(url: &str, round: usize) -> anyhow::Result<f64> {
    let nats = async_nats::connect(url).await?;
    let heartbeats = nats.new_inbox();
    let mut beats = nats.subscribe(heartbeats.clone()).await?;
    let answering = nats.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(beat) = beats.next().await {
            if let Some(reply) = beat.reply {
                answering.publish(reply, Bytes::new()).await.ok();
            }
        }
    });
    let connect = client::connect_request(&client::Connect {
        client_id: "one-by-one",
        heartbeat_inbox: &heartbeats,
        protocol: 1,
        connection_id: b"one-by-one",
        ping_interval: 0,
        ping_max_out: 0,
    });
    let subjects = Subjects::new(CLUSTER_ID, &Prefixes::default())?;
    let subject = subjects.discover().to_string();
    let response = nats.request(subject, connect).await?;
    let connected = client::connect_response(response.payload)?;

    let inbox = nats.new_inbox();
    let mut acks = nats.subscribe(inbox.clone()).await?;
    let subject = format!("{}.one-by-one", connected.publish_prefix);
    let mut times = Vec::new();
    for number in 0..SYNCHRONOUS {
        let guid = format!("{round}-{number}");
        let request = client::publish_request(client::Publish {
            client_id: "one-by-one",
            connection_id: b"one-by-one",
            guid: &guid,
            channel: "one-by-one",
            data: Bytes::from_static(&[b'x'; 128]),
        });
        let since = Clock.now().monotonic;
        nats.publish_with_reply(subject.clone(), inbox.clone(), request)
            .await?;
        let ack = tokio::time::timeout(LIMIT, acks.next()).await?;
        times.push(Clock.now().monotonic.since(since));
        let ack = client::publish_ack(ack.context("NATS has gone")?.payload)?;
        ensure!(ack.guid == guid && ack.refusal.is_none(), "{ack:?}");
    }
    let close = client::close_request("one-by-one");
    nats.request(connected.close_client.to_string(), close)
        .await?;
    Ok(median_ms(times))
}

/// The median of single inserts on one connection, each its own transaction.
async fn commit_ms(url: &str) -> anyhow::Result<f64> {
    let (database, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    database
        .batch_execute("CREATE TABLE IF NOT EXISTS rows (id bigserial PRIMARY KEY, data bytea)")
        .await?;
    let insert = database
        .prepare("INSERT INTO rows (data) VALUES ($1)")
        .await?;
    let data = vec![b'x'; 128];
    let mut times = Vec::new();
    for _ in 0..COMMITS {
        let since = Clock.now().monotonic;
        database.execute(&insert, &[&data]).await?;
        times.push(Clock.now().monotonic.since(since));
    }
    Ok(median_ms(times))
}

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}
