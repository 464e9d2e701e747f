//! What messages take on disk, and whether the tables keep their size when limits drop messages as fast as they come.

use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::interval;

use crate::ground::Ground;
use crate::plot::{self, Panel};
use crate::runs::{Effort, Target, directory, flags, forget};
use crate::table::Table;

const SAMPLE: Duration = Duration::from_secs(10);
/// Ten minutes.
const SAMPLES: u64 = 60;
const KEPT: &str = "--max-msgs=10000";

pub(crate) async fn measure(
    ground: &Ground,
    effort: Effort,
    table: &mut Table,
) -> anyhow::Result<()> {
    disk(ground, effort, table).await?;
    bloat(ground, effort, table).await
}

async fn disk(ground: &Ground, effort: Effort, table: &mut Table) -> anyhow::Result<()> {
    const CLUSTER_ID: &str = "disk";
    let _pair = ground.pair(CLUSTER_ID).await?;
    let target = Target {
        ground,
        cluster_id: CLUSTER_ID,
    };
    forget("disk");
    let count = effort.count(500_000);
    let load = flags(&format!("--publishers 10 --count {count}"));
    target.run("disk", &load).await?;
    let sizes = ground.sizes(CLUSTER_ID).await?;
    let rows = f64::from(u32::try_from(count)?);
    table.row(
        "a message of 128 B on disk: table",
        "B",
        &[sizes.table / rows],
    );
    table.row(
        "a message of 128 B on disk: its index",
        "B",
        &[sizes.index / rows],
    );
    Ok(())
}

/// 10,000 messages of a channel are kept while publishers never pause.
async fn bloat(ground: &Ground, effort: Effort, table: &mut Table) -> anyhow::Result<()> {
    const CLUSTER_ID: &str = "bloat";
    const MIB: f64 = 1024.0 * 1024.0;
    let _pair = ground.pair_with(CLUSTER_ID, &[KEPT]).await?;
    let target = Target {
        ground,
        cluster_id: CLUSTER_ID,
    };
    let load = flags("--publishers 2 --window 1000 --count 1000000000");
    let mut publishing = target.spawn(&load)?;
    let mut ticks = interval(SAMPLE);
    ticks.tick().await;
    table.line(
        "publishing without a pause, 10,000 messages kept; every 10 s: published, rows, dead rows, MiB of table, index, \
         channels",
    );
    let mut labels = Vec::new();
    let mut panels = [
        "published, messages/s",
        "dead rows",
        "table, MiB",
        "index, MiB",
    ]
    .map(|title| Panel {
        title: title.to_owned(),
        values: Vec::new(),
    });
    let mut published = 0;
    for number in 1..=effort.count(SAMPLES) {
        ticks.tick().await;
        let sizes = ground.sizes(CLUSTER_ID).await?;
        table.line(&format!(
            "{:>12} {:>10} {:>10} {:>9.1} {:>9.1} {:>9.2}",
            sizes.published,
            sizes.live,
            sizes.dead,
            sizes.table / MIB,
            sizes.index / MIB,
            sizes.channels / MIB
        ));
        labels.push(format!("{} s", number * SAMPLE.as_secs()));
        let count = |rows: i64| u32::try_from(rows).map_or(f64::NAN, f64::from);
        let rate = count(sizes.published - published) / SAMPLE.as_secs_f64();
        published = sizes.published;
        let found = [
            rate,
            count(sizes.dead),
            sizes.table / MIB,
            sizes.index / MIB,
        ];
        for (panel, value) in panels.iter_mut().zip(found) {
            panel.values.push(value);
        }
        ensure!(
            publishing.try_wait()?.is_none(),
            "the load has ended by itself"
        );
    }
    let pid = publishing.id().context("it runs")?;
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT)?;
    publishing.wait_with_output().await?;
    Ok(plot::draw(
        &directory().join("storage-limits.svg"),
        &labels,
        &panels,
    )?)
}
