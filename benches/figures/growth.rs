//! How rates change when something grows: clients, channels, subscriptions, stored messages, the size of messages.

use crate::ground::Ground;
use crate::plot::{self, Panel};
use crate::runs::{Effort, Target, directory, flags, forget, number, row};
use crate::table::Table;

/// No limit is to drop or refuse anything.
const FLAGS: &[&str] = &[
    "--max-channels=0",
    "--max-subs=0",
    "--max-msgs=0",
    "--max-bytes=0",
    "--hb-interval=10s",
];

/// What grows, with the flags of each step and the messages.
struct Growth(&'static str, &'static [(&'static str, &'static str, u64)]);

const GROWTHS: &[Growth] = &[
    Growth(
        "idle-clients",
        &[
            ("no idle clients", "", 200_000),
            ("1,000 idle clients", "--idle-clients 1000", 200_000),
            ("10,000 idle clients", "--idle-clients 10000", 200_000),
        ],
    ),
    Growth(
        "channels",
        &[
            ("1 channel", "--channels 1", 200_000),
            ("10 channels", "--channels 10", 200_000),
            ("100 channels", "--channels 100", 200_000),
            ("1,000 channels", "--channels 1000", 200_000),
            ("10,000 channels", "--channels 10000", 200_000),
        ],
    ),
    Growth(
        "subscriptions",
        &[
            (
                "1 durable on 1 channel",
                "--channels 1 --subscribers 1 --durable",
                100_000,
            ),
            (
                "10 durables on 10 channels",
                "--channels 10 --subscribers 10 --durable --clients-per-connection 10",
                100_000,
            ),
            (
                "100 durables on 100 channels",
                "--channels 100 --subscribers 100 --durable --clients-per-connection 10",
                100_000,
            ),
            (
                "1,000 durables on 1,000 channels",
                "--channels 1000 --subscribers 1000 --durable --clients-per-connection 100",
                100_000,
            ),
        ],
    ),
    Growth(
        "size",
        &[
            ("32 B", "--size 32", 200_000),
            ("128 B", "--size 128", 200_000),
            ("1 KiB", "--size 1024", 200_000),
            ("10 KiB", "--size 10240 --window 1024", 30_000),
            ("100 KiB", "--size 102400 --window 64", 3_000),
        ],
    ),
];

pub(crate) async fn measure(
    ground: &Ground,
    effort: Effort,
    table: &mut Table,
) -> anyhow::Result<()> {
    for Growth(name, steps) in GROWTHS {
        // A cluster of its own, so that what one leaves behind does not slow the next one down.
        let cluster_id = format!("growth_{}", name.replace('-', "_"));
        let _pair = ground.pair_with(&cluster_id, FLAGS).await?;
        let target = Target {
            ground,
            cluster_id: &cluster_id,
        };
        let mut found = Vec::new();
        for (what, more, count) in *steps {
            let step = step(target, effort, name, what, more, *count, table).await?;
            found.push((what.to_string(), step));
        }
        draw(name, &found)?;
    }
    stored(ground, effort, table).await
}

/// Medians.
struct Step {
    published: Option<f64>,
    cpu: Option<f64>,
}

fn draw(name: &str, steps: &[(String, Step)]) -> anyhow::Result<()> {
    let labels: Vec<String> = steps.iter().map(|(what, _)| what.clone()).collect();
    let panel = |title: &str, value: fn(&Step) -> Option<f64>| Panel {
        title: title.to_owned(),
        values: (steps.iter())
            .map(|(_, step)| value(step).unwrap_or_default())
            .collect(),
    };
    let panels = [
        panel("published, messages/s", |step| step.published),
        panel("CPU of all processes, µs per message", |step| step.cpu),
    ];
    let path = directory().join(format!("growth-{name}.svg"));
    Ok(plot::draw(&path, &labels, &panels)?)
}

async fn step(
    target: Target<'_>,
    effort: Effort,
    name: &str,
    what: &str,
    more: &str,
    count: u64,
    table: &mut Table,
) -> anyhow::Result<Step> {
    let name = format!("growth-{name}-{}", what.replace([' ', ','], ""));
    forget(&name);
    let count = effort.count(count);
    // Ten times the channels' number at least, after a warm-up that makes the channels.
    let flags = flags(&format!(
        "--publishers 10 --warm-up {} {more} --count {count}",
        count / 10
    ));
    let mut runs = Vec::new();
    for _ in 0..effort.rounds.min(3) {
        runs.push(target.run(&name, &flags).await?);
    }
    let published = row(
        table,
        &runs,
        &format!("{what}: published"),
        "msg/s",
        &["publish", "per_second"],
    );
    row(
        table,
        &runs,
        &format!("{what}: delivered"),
        "msg/s",
        &["deliver", "per_second"],
    );
    let all: Vec<f64> = runs
        .iter()
        .map(|run| {
            let processes = run["processes"].as_array();
            let processes = processes.into_iter().flatten();
            processes
                .filter_map(|usage| number(usage, &["cpu_per_message"]))
                .sum()
        })
        .collect();
    let cpu = table.row(&format!("{what}: CPU of all processes"), "us/msg", &all);
    Ok(Step { published, cpu })
}

/// Rows that are there already, in a channel of their own.
async fn stored(ground: &Ground, effort: Effort, table: &mut Table) -> anyhow::Result<()> {
    const CLUSTER_ID: &str = "growth_stored";
    let _pair = ground.pair_with(CLUSTER_ID, FLAGS).await?;
    let target = Target {
        ground,
        cluster_id: CLUSTER_ID,
    };
    let mut there = 0;
    let mut found = Vec::new();
    for rows in [0, 1_000_000, 10_000_000] {
        let rows = effort.count(rows);
        ground.fill(CLUSTER_ID, there, rows).await?;
        there = rows;
        let what = format!("{rows} stored before");
        let step = step(target, effort, "stored", &what, "", 200_000, table).await?;
        found.push((what, step));
    }
    draw("stored", &found)
}
