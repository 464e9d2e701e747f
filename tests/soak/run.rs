//! A run from its start to its verdict, and what is left of it: samples as JSON, the plot, and the page's part about it.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::beginnings::{self, FULL_CHANNEL};
use crate::browser::TOKEN;
use crate::events::{Event, Servers};
use crate::facts::{Counts, Facts};
use crate::pair::Group;
use crate::plot::{Panel, draw};
use crate::report;
use crate::samples::Sample;
use crate::support::{nats, postgres};
use crate::traffic::Traffic;
use crate::verdict::Verdict;

/// Channels keep so few messages that the limits hold long before the first quarter is over. There may be the channels of
/// the load and two more.
const FLAGS: [&str; 12] = [
    "--lease",
    "2s",
    "--max-msgs",
    "4000",
    "--max-age",
    "5m",
    "--max-channels",
    "5",
    "--max-inactivity",
    "1m",
    "--hb-interval",
    "5s",
];

/// As an operator has it, not as tests have it: acks wait for the disk.
const DURABLE: [&str; 2] = ["fsync=on", "full_page_writes=on"];

struct Soak {
    lasts: Duration,
    sample_every: Duration,
    event_every: Duration,
    /// However slow the machine is.
    events_min: usize,
    program: String,
    directory: PathBuf,
}

struct Found {
    samples: Vec<Sample>,
    wrong: Vec<String>,
    counts: Counts,
    postgres: String,
}

impl Soak {
    async fn run(&self) -> Option<Found> {
        let facts = Facts::begin();
        let own_postgres = postgres::own_server_with(&DURABLE).await?;
        let own_nats = nats::own_server(&[]).await?;
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), TOKEN).unwrap();
        let mut flags = FLAGS.to_vec();
        flags.extend(["--api-token-file", token.path().to_str().unwrap()]);
        let group = Arc::new(Group::over(own_postgres.url(), own_nats.url(), &flags));
        let floors = self.prepare(&group, &facts).await;
        let mut database = PgConnection::connect(&group.database_url).await.unwrap();
        let mut servers = Servers::start(Arc::clone(&group), self.program.clone(), &facts).await;
        let mut traffic = Traffic::start(&group, floors, &facts).await;
        let began = Instant::now();
        let mut ticks = interval(self.sample_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut samples: Vec<Sample> = Vec::new();
        let mut events = Event::ALL.iter().cycle();
        let mut next_event = self.event_every;
        // The first one is at once.
        ticks.tick().await;
        let mut struck = 0;
        while began.elapsed() < self.lasts || struck < self.events_min {
            ticks.tick().await;
            if began.elapsed() >= next_event {
                next_event += self.event_every;
                servers.strike(*events.next().unwrap()).await;
                struck += 1;
            }
            servers.look().await;
            traffic.check();
            let first = servers.first().await;
            let last = samples.last();
            let sample = Sample::take(began.elapsed(), last, first, &mut database, &facts).await;
            samples.push(sample);
            self.keep(&samples);
        }
        traffic.finish().await;
        check_tables(&mut database, &facts).await;
        let postgres = sqlx::query_scalar("SHOW server_version")
            .fetch_one(&mut database)
            .await
            .unwrap();
        let known = facts.known();
        Some(Found {
            samples,
            wrong: known.wrong.clone(),
            counts: known.counts,
            postgres,
        })
    }

    /// Tables whose channels begin below the numbers at which something could wrap. Gives their last sequences.
    async fn prepare(&self, group: &Group, facts: &Facts) -> [u64; 2] {
        let server = group.server_of(&self.program);
        server.wait_until_active().await;
        server.kill().await;
        // They come there within minutes, or seconds.
        let floors = beginnings::floors(self.lasts.as_secs());
        beginnings::import(group, &self.program, floors, facts).await;
        floors
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

async fn check_tables(database: &mut PgConnection, facts: &Facts) {
    let twice = "SELECT count(*) - count(DISTINCT (channel_id, guid)) FROM stanby.messages";
    let twice: i64 = sqlx::query_scalar(twice)
        .fetch_one(&mut *database)
        .await
        .unwrap();
    if twice != 0 {
        facts.wrong(format!("{twice} messages are stored twice"));
    }
    let last = "SELECT last_sequence FROM stanby.channels WHERE name = $1";
    let last: Option<i64> = sqlx::query_scalar(last)
        .bind(FULL_CHANNEL)
        .fetch_optional(database)
        .await
        .unwrap();
    let stored = facts.known().counts.last_sequences;
    if stored > 1 || last < Some(i64::MAX - 2) {
        facts.wrong(format!(
            "{stored} messages took the last sequence, and the channel says {last:?}"
        ));
    }
}

fn panels(samples: &[Sample]) -> Vec<Panel> {
    let panel = |title: &str, value: fn(&Sample) -> f64| Panel {
        title: title.to_owned(),
        values: samples.iter().map(value).collect(),
    };
    vec![
        panel("publishes acked per second", |it| it.acked_per_s),
        panel("ack of a publish, median, ms", |it| it.ack_p50_ms),
        panel("ack of a publish, slowest, ms", |it| it.ack_max_ms),
        panel("publish to delivery, median, ms", |it| it.delivery_p50_ms),
        panel("resident memory of a server, MiB", |it| it.resident_mib),
        panel("its file descriptors", |it| it.descriptors),
        panel("its threads", |it| it.threads),
        panel("messages stored", |it| it.messages),
        panel("tables and indexes, MiB", |it| it.tables_mib),
        panel("directory of the write-ahead log, MiB", |it| it.wal_mib),
        panel("connections to Postgres", |it| it.connections),
    ]
}

fn own_program() -> String {
    env!("CARGO_BIN_EXE_stanby").to_owned()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Too short to say what grows; that all parts work together, it says.
#[tokio::test]
async fn a_short_soak_loses_nothing_and_leaves_samples_and_a_plot() {
    let directory = tempfile::tempdir().unwrap();
    let soak = Soak {
        lasts: Duration::from_secs(24),
        sample_every: Duration::from_secs(1),
        event_every: Duration::from_secs(3),
        events_min: Event::ALL.len(),
        program: own_program(),
        directory: directory.path().to_owned(),
    };
    let Some(found) = Box::pin(soak.run()).await else {
        return;
    };
    let counts = found.counts;
    assert_eq!(found.wrong, [""; 0]);
    assert!(counts.takeovers >= 2 && counts.imports >= 1, "{counts:?}");
    assert!(counts.refusals >= 1 && counts.pages > 0, "{counts:?}");
    assert!(counts.acked > 0 && counts.acked_in_sql > 0, "{counts:?}");
    assert!(counts.live_events > 0, "{counts:?}");
    let json = std::fs::read_to_string(directory.path().join("samples.json")).unwrap();
    let kept: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(kept.len(), found.samples.len());
    let plot = std::fs::read_to_string(directory.path().join("soak.svg")).unwrap();
    assert!(plot.contains("resident memory"), "{plot}");
}

/// `SOAK_HOURS`, `SOAK_PROGRAM` (the one that was built along, otherwise), `SOAK_OUTPUT` (target/soak, otherwise).
#[tokio::test]
#[ignore = "scripts/soak runs it"]
async fn what_is_asked_for() {
    let hours: f64 = variable("SOAK_HOURS").map_or(1.0, |hours| hours.parse().unwrap());
    let lasts = Duration::from_secs_f64(hours * 3600.0);
    let here = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/soak");
    let soak = Soak {
        lasts,
        sample_every: (lasts / 240).clamp(Duration::from_secs(1), Duration::from_mins(1)),
        event_every: Duration::from_secs(40),
        events_min: 0,
        program: variable("SOAK_PROGRAM").unwrap_or_else(own_program),
        directory: variable("SOAK_OUTPUT").map_or_else(here, PathBuf::from),
    };
    let found = Box::pin(soak.run()).await;
    let mut found = found.expect("Postgres and nats-server are installed");
    let verdict = Verdict::of(&found.samples);
    found.wrong.extend(verdict.wrong);
    let text = report::text(&report::Run {
        program: &soak.program,
        lasts,
        postgres: &found.postgres,
        counts: &found.counts,
        samples: &found.samples,
        table: &verdict.table,
        wrong: &found.wrong,
    });
    std::fs::write(soak.directory.join("report.md"), &text).unwrap();
    eprintln!("{text}\n{}", soak.directory.display());
    assert!(found.wrong.is_empty(), "{}", found.wrong.join("\n"));
}
