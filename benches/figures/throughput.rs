//! Messages per second, how long they take and what they cost, beside what the same Postgres and NATS do alone.

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use stanby::clock::Clock;

use crate::ground::Ground;
use crate::pair::Pair;
use crate::runs::{Effort, Target, cpu, flags, forget, row, row_ms, usage};
use crate::table::Table;

const CLUSTER_ID: &str = "throughput";
/// Each run has channels of its own, and no limit is to drop anything.
const FLAGS: &[&str] = &["--max-channels=0", "--max-msgs=0", "--max-bytes=0"];

/// A kind of load: its name, what it is, its flags and how many messages.
struct Load(&'static str, &'static str, &'static str, u64);

const LOADS: &[Load] = &[
    Load(
        "publish-10x128",
        "10 publishers, 128 B",
        "--publishers 10",
        400_000,
    ),
    Load("publish-1x128", "1 publisher, 128 B", "", 200_000),
    Load(
        "publish-10x1k",
        "10 publishers, 1 KiB",
        "--publishers 10 --size 1024",
        200_000,
    ),
    Load(
        "pub-sub-1x1k",
        "1 publisher, 1 subscriber, 1 KiB",
        "--subscribers 1 --size 1024",
        100_000,
    ),
    Load(
        "fan-out-10x10x1k",
        "10 publishers, 10 subscribers, 1 KiB",
        "--publishers 10 --subscribers 10 --size 1024",
        50_000,
    ),
];

pub(crate) async fn measure(
    ground: &Ground,
    effort: Effort,
    table: &mut Table,
) -> anyhow::Result<()> {
    let mut pair = ground.pair_with(CLUSTER_ID, FLAGS).await?;
    let target = Target {
        ground,
        cluster_id: CLUSTER_ID,
    };
    let outcome = loads(target, effort, &mut pair, table).await;
    outcome.with_context(|| format!("the servers logged:\n{}", pair.logs()))?;
    memory(ground, effort, table).await
}

async fn loads(
    target: Target<'_>,
    effort: Effort,
    pair: &mut Pair,
    table: &mut Table,
) -> anyhow::Result<()> {
    for Load(name, what, more, count) in LOADS {
        let runs = rounds(target, effort, name, &format!("{more} --ceiling"), *count).await?;
        published(table, &runs, what);
        row(
            table,
            &runs,
            &format!("{what}: delivered"),
            "msg/s",
            &["deliver", "per_second"],
        );
        let end_to_end = ["deliver", "latency", "p50"];
        row_ms(
            table,
            &runs,
            &format!("{what}: end to end, p50"),
            &end_to_end,
        );
        cpu(table, &runs, what);
        let wal = ["database", "wal_bytes_per_message"];
        row(table, &runs, &format!("{what}: WAL"), "B/msg", &wal);
    }
    one_by_one(target, effort, table).await?;
    beside_others(target, effort, table).await?;
    replay(target, effort, table).await?;
    alone(target, effort, pair, table).await?;
    start(target, pair, table).await
}

async fn rounds(
    target: Target<'_>,
    effort: Effort,
    name: &str,
    more: &str,
    count: u64,
) -> anyhow::Result<Vec<Value>> {
    forget(name);
    let count = effort.count(count);
    let flags = flags(&format!("{more} --count {count}"));
    let mut runs = Vec::new();
    for _ in 0..effort.rounds {
        runs.push(target.run(name, &flags).await?);
    }
    Ok(runs)
}

fn published(table: &mut Table, runs: &[Value], what: &str) {
    row(
        table,
        runs,
        &format!("{what}: published"),
        "msg/s",
        &["publish", "per_second"],
    );
    let inserts = ["ceiling", "inserts_per_second"];
    row(
        table,
        runs,
        &format!("{what}: ceiling, rows inserted"),
        "row/s",
        &inserts,
    );
    let echoes = ["ceiling", "echoes_per_second"];
    row(
        table,
        runs,
        &format!("{what}: ceiling, NATS echo"),
        "msg/s",
        &echoes,
    );
    row(
        table,
        runs,
        &format!("{what}: share of the lower ceiling"),
        "of 1",
        &["ceiling", "share"],
    );
}

/// Publishes that wait for their acks, beside what they cannot be faster than.
async fn one_by_one(target: Target<'_>, effort: Effort, table: &mut Table) -> anyhow::Result<()> {
    let runs = rounds(
        target,
        effort,
        "sync-128",
        "--sync --warm-up 100 --ceiling",
        3_000,
    )
    .await?;
    for (what, at) in [
        ("sync publish, 128 B", &["publish", "latency"][..]),
        ("commit of one row, same Postgres", &["ceiling", "commit"]),
        ("echo of one message, same NATS", &["ceiling", "echo"]),
    ] {
        row_ms(
            table,
            &runs,
            &format!("{what}, p50"),
            &[at, &["p50"]].concat(),
        );
        row_ms(
            table,
            &runs,
            &format!("{what}, p99"),
            &[at, &["p99"]].concat(),
        );
    }
    Ok(())
}

/// The same beside ten publishers that have 16,384 messages under way each.
async fn beside_others(
    target: Target<'_>,
    effort: Effort,
    table: &mut Table,
) -> anyhow::Result<()> {
    let mut others = target.spawn(&flags("--publishers 10 --count 1000000000"))?;
    let runs = rounds(
        target,
        effort,
        "sync-128-beside-10",
        "--sync --warm-up 20",
        200,
    )
    .await;
    // Not asked to end: it would look for all of its messages in the table first.
    others.kill().await?;
    let runs = runs?;
    for percentile in ["p50", "p99"] {
        let what = format!("sync publish beside 10 publishers, {percentile}");
        row_ms(table, &runs, &what, &["publish", "latency", percentile]);
    }
    Ok(())
}

async fn replay(target: Target<'_>, effort: Effort, table: &mut Table) -> anyhow::Result<()> {
    let more = "--subscribers 1 --replay --max-in-flight 4096 --publishers 10";
    let runs = rounds(target, effort, "replay-128", more, 1_000_000).await?;
    let count = effort.count(1_000_000);
    let what = format!("replay of {count} messages of 128 B to one subscriber");
    row(table, &runs, &what, "msg/s", &["deliver", "per_second"]);
    cpu(table, &runs, "replay");
    Ok(())
}

/// What a standby costs: it listens to every request.
async fn alone(
    target: Target<'_>,
    effort: Effort,
    pair: &mut Pair,
    table: &mut Table,
) -> anyhow::Result<()> {
    let active = pair.wait_for_roles().await;
    pair.end(1 - active, Signal::SIGTERM).await;
    let more = "--publishers 10 --ceiling";
    let runs = rounds(target, effort, "publish-10x128-alone", more, 400_000).await?;
    published(table, &runs, "10 publishers, 128 B, no standby");
    cpu(table, &runs, "no standby");
    pair.add().await;
    Ok(())
}

/// From the start of a server to its readiness, with everything stored that was published before.
async fn start(target: Target<'_>, pair: &mut Pair, table: &mut Table) -> anyhow::Result<()> {
    let stored = target.ground.stored(CLUSTER_ID).await?;
    let mut times = Vec::new();
    for _ in 0..3 {
        let active = pair.wait_for_roles().await;
        pair.end(1 - active, Signal::SIGTERM).await;
        pair.end(0, Signal::SIGTERM).await;
        let since = Clock.now().monotonic;
        pair.add().await;
        times.push(Clock.now().monotonic.since(since).as_secs_f64() * 1e3);
        pair.add().await;
    }
    let what = format!("start of a server to active, {stored} messages stored");
    table.row(&what, "ms", &times);
    Ok(())
}

/// What a server holds when nothing happens, and what each thing adds.
async fn memory(ground: &Ground, effort: Effort, table: &mut Table) -> anyhow::Result<()> {
    const CLUSTER_ID: &str = "memory";
    let clients = u32::try_from(effort.count(5_000))?;
    let channels = u32::try_from(effort.count(1_000))?;
    let _pair = ground.pair_with(CLUSTER_ID, &["--max-channels=0"]).await?;
    let target = Target {
        ground,
        cluster_id: CLUSTER_ID,
    };
    forget("memory");
    let resident = async |more: String| -> anyhow::Result<[f64; 2]> {
        let found = target.run("memory", &flags(&more)).await?;
        let of = |name| usage(&found, name, "resident_mib").context("a server was not found");
        Ok([of("stanby active")?, of("stanby standby")?])
    };
    let idle = resident("--count 1".to_owned()).await?;
    let with_clients = resident(format!("--count 1 --idle-clients {clients}")).await?;
    let more = format!(
        "--count {channels} --window 100 --channels {channels} --subscribers {channels} --durable \
         --clients-per-connection 100"
    );
    let before = resident("--count 1".to_owned()).await?;
    let with_channels = resident(more).await?;
    ensure!(clients > 0 && channels > 0, "there is nothing to divide by");
    table.row("resident, idle: active", "MiB", &[idle[0]]);
    table.row("resident, idle: standby", "MiB", &[idle[1]]);
    let each = |after: f64, before: f64, count: u32| (after - before) * 1024.0 / f64::from(count);
    let of_clients = each(with_clients[0], idle[0], clients);
    table.row(
        "resident of the active, per idle client",
        "KiB",
        &[of_clients],
    );
    let of_channels = each(with_channels[0], before[0], channels);
    let what = "resident of the active, per channel with a client and its durable";
    table.row(what, "KiB", &[of_channels]);
    Ok(())
}
