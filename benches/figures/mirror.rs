//! How fast `stanby mirror` copies a channel into a JetStream stream, and a stream into its channel, with a NATS server of their
//! own that keeps streams in files.

use std::process::Stdio;

use anyhow::{Context, ensure};
use async_nats::jetstream;
use stanby::clock::Clock;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::ground::Ground;
use crate::runs::{Effort, Target, flags, forget};
use crate::support;
use crate::table::Table;

const CLUSTER_ID: &str = "mirrored";
const MESSAGES: u64 = 200_000;
const STREAM: &str = "moved";

pub(crate) async fn measure(
    ground: &Ground,
    effort: Effort,
    table: &mut Table,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path().to_str().context("a path")?.to_owned();
    let nats = support::nats::own_server(&["-js", "-sd", &folder]).await;
    let server = nats.context("nats-server is missing")?;
    let nats = server.url();
    let _pair = ground.pair(CLUSTER_ID).await?;
    let target = Target {
        ground,
        cluster_id: CLUSTER_ID,
    };
    forget("mirror");
    let count = effort.count(MESSAGES);
    let rows = f64::from(u32::try_from(count)?);
    let load = flags(&format!("--publishers 1 --count {count} --size 256"));
    target.run("mirror", &load).await?;

    let took = mirror(ground, &nats, &[]).await?;
    table.row("copied into a stream, 256 B", "msg/s", &[rows / took]);

    let client = async_nats::connect(&nats).await?;
    let context = jetstream::new(client);
    context
        .create_stream(jetstream::stream::Config {
            name: STREAM.to_owned(),
            subjects: vec![STREAM.to_owned()],
            ..jetstream::stream::Config::default()
        })
        .await?;
    let mut acks = Vec::new();
    for _ in 0..count {
        acks.push(context.publish(STREAM, vec![b'x'; 256].into()).await?);
        if acks.len() == 1000 {
            for ack in acks.drain(..) {
                ack.await?;
            }
        }
    }
    for ack in acks {
        ack.await?;
    }
    let channel = channel(ground).await?;
    let stream_of = format!("{channel}={STREAM}");
    let back = [
        "--reverse",
        "--channel",
        &channel,
        "--stream-of",
        &stream_of,
    ];
    let back = [&back[..], &["--subject", "moved{channel}"]].concat();
    let took = mirror(ground, &nats, &back).await?;
    table.row("published from a stream, 256 B", "msg/s", &[rows / took]);
    Ok(())
}

/// The one that holds messages.
async fn channel(ground: &Ground) -> anyhow::Result<String> {
    let url = ground.database_url(CLUSTER_ID);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    let mut running = JoinSet::new();
    running.spawn(connection);
    let row = client
        .query_one(
            "SELECT name FROM stanby.channels ORDER BY message_count DESC LIMIT 1",
            &[],
        )
        .await?;
    drop(client);
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(row.get(0))
}

/// Seconds until everything is copied.
async fn mirror(ground: &Ground, nats: &str, flags: &[&str]) -> anyhow::Result<f64> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stanby"));
    command
        .args(["mirror", "jetstream", "--once"])
        .args(["--database-url", &ground.database_url(CLUSTER_ID)])
        .args(["--schema", "stanby", "--nats-server", nats])
        .args(flags)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let began = Clock.now().monotonic;
    let output = command.output().await?;
    let took = Clock.now().monotonic.since(began).as_secs_f64();
    ensure!(output.status.success(), "{output:?}");
    Ok(took)
}
