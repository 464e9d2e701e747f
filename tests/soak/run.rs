//! A run from its start to its verdict, and what is left of it: samples as JSON, and the plot.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::events::{Event, Servers};
use crate::facts::{Counts, Facts};
use crate::pair::Group;
use crate::plot::{Panel, draw};
use crate::samples::Sample;
use crate::traffic::Traffic;
use crate::verdict::Verdict;

/// Channels keep so few messages that the limits hold long before the first quarter is over.
const FLAGS: [&str; 12] = [
    "--lease",
    "2s",
    "--max-msgs",
    "4000",
    "--max-age",
    "5m",
    "--max-channels",
    "4",
    "--max-inactivity",
    "1m",
    "--hb-interval",
    "5s",
];

struct Soak {
    lasts: Duration,
    sample_every: Duration,
    event_every: Duration,
    program: String,
    directory: PathBuf,
}

impl Soak {
    async fn run(&self) -> Option<(Vec<Sample>, Vec<String>, Counts)> {
        let facts = Facts::default();
        let group = Arc::new(Group::new(&FLAGS).await?);
        let mut database = PgConnection::connect(&group.database_url).await.unwrap();
        let mut servers = Servers::start(Arc::clone(&group), self.program.clone(), &facts).await;
        let mut traffic = Traffic::start(&group, &facts).await;
        let began = Instant::now();
        let mut ticks = interval(self.sample_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut samples: Vec<Sample> = Vec::new();
        let mut events = Event::ALL.iter().cycle();
        let mut next_event = self.event_every;
        // The first one is at once.
        ticks.tick().await;
        while began.elapsed() < self.lasts {
            ticks.tick().await;
            if began.elapsed() >= next_event {
                next_event += self.event_every;
                servers.strike(*events.next().unwrap()).await;
            }
            servers.look().await;
            traffic.check();
            let keeper = (servers.servers[0].pid(), servers.active().await == 0);
            let last = samples.last();
            let sample = Sample::take(began.elapsed(), last, keeper, &mut database, &facts).await;
            samples.push(sample);
            self.keep(&samples);
        }
        traffic.finish().await;
        let twice: i64 =
            sqlx::query_scalar("SELECT count(*) - count(DISTINCT guid) FROM stanby.messages")
                .fetch_one(&mut database)
                .await
                .unwrap();
        if twice != 0 {
            facts.wrong(format!("{twice} messages are stored twice"));
        }
        let known = facts.known();
        Some((samples, known.wrong.clone(), known.counts))
    }

    /// After each sample, so that a run that is ended leaves what it has.
    fn keep(&self, samples: &[Sample]) {
        std::fs::create_dir_all(&self.directory).unwrap();
        let json = serde_json::to_string(samples).unwrap();
        std::fs::write(self.directory.join("samples.json"), json).unwrap();
        let labels: Vec<String> = samples
            .iter()
            .map(|sample| format!("{:.0} min", sample.at_s / 60.0))
            .collect();
        draw(&self.directory.join("soak.svg"), &labels, &panels(samples)).unwrap();
    }
}

fn panels(samples: &[Sample]) -> Vec<Panel> {
    let panel = |title: &str, value: fn(&Sample) -> f64| Panel {
        title: title.to_owned(),
        values: samples.iter().map(value).collect(),
    };
    vec![
        panel("publishes acked per second", |sample| sample.acked_per_s),
        panel("ack of a publish, median, ms", |sample| sample.ack_p50_ms),
        panel("ack of a publish, slowest, ms", |sample| sample.ack_max_ms),
        panel("resident memory of a server, MiB", |sample| {
            sample.resident_mib
        }),
        panel("its file descriptors", |sample| sample.descriptors),
        panel("its threads", |sample| sample.threads),
        panel("messages stored", |sample| sample.messages),
        panel("tables and indexes, MiB", |sample| sample.tables_mib),
        panel("directory of the write-ahead log, MiB", |sample| {
            sample.wal_mib
        }),
    ]
}

fn own_program() -> String {
    env!("CARGO_BIN_EXE_stanby").to_owned()
}

fn output() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/soak")
}

/// Too short to say what grows; that all parts work together, it says.
#[tokio::test]
async fn a_short_soak_loses_nothing_and_leaves_samples_and_a_plot() {
    let directory = tempfile::tempdir().unwrap();
    let soak = Soak {
        lasts: Duration::from_secs(24),
        sample_every: Duration::from_secs(1),
        event_every: Duration::from_secs(3),
        program: own_program(),
        directory: directory.path().to_owned(),
    };
    let Some((samples, wrong, counts)) = Box::pin(soak.run()).await else {
        return;
    };
    assert_eq!(wrong, [""; 0]);
    assert!(counts.takeovers >= 2 && counts.imports >= 1, "{counts:?}");
    assert!(counts.refusals >= 1 && counts.pages > 0, "{counts:?}");
    assert!(counts.acked > 0 && counts.acked_in_sql > 0, "{counts:?}");
    let json = std::fs::read_to_string(directory.path().join("samples.json")).unwrap();
    let kept: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(kept.len(), samples.len());
    let plot = std::fs::read_to_string(directory.path().join("soak.svg")).unwrap();
    assert!(plot.contains("resident memory"), "{plot}");
}

/// `SOAK_HOURS`, `SOAK_PROGRAM` (the one that was built along, otherwise).
#[tokio::test]
#[ignore = "scripts/soak runs it"]
async fn what_is_asked_for() {
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let hours: f64 = variable("SOAK_HOURS").map_or(1.0, |hours| hours.parse().unwrap());
    let lasts = Duration::from_secs_f64(hours * 3600.0);
    let soak = Soak {
        lasts,
        sample_every: (lasts / 240).clamp(Duration::from_secs(1), Duration::from_secs(60)),
        event_every: Duration::from_secs(40),
        program: variable("SOAK_PROGRAM").unwrap_or_else(own_program),
        directory: output(),
    };
    let found = Box::pin(soak.run()).await;
    let (samples, mut wrong, counts) = found.expect("Postgres and nats-server are installed");
    let verdict = Verdict::of(&samples);
    wrong.extend(verdict.wrong);
    let cpu = samples.last().map_or(0.0, |sample| sample.cpu_s);
    eprintln!(
        "{counts:?}\nCPU of the server that lived throughout: {cpu:.1} s of {} s\n\
         | | second quarter | last quarter | bound |\n|---|---|---|---|\n{}{}",
        lasts.as_secs(),
        verdict.table,
        output().display()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
