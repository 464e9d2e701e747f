//! One run, from the flags to what was found.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::args::LoadArgs;
use super::ceiling;
use super::client_pool::ClientPool;
use super::histogram::Histogram;
use super::load::{self, Driver, Shared, Worker};
use super::processes::{self, Process};
use super::progress::Progress;
use super::result::{
    Database, Flow, Latency, Machine, Outcome, Settings, Usage, float, ratio, rounded,
};
use super::timeline::{STEP, Timeline};
use crate::cli::failure::Failure;
use crate::cli::signals::{Signals, Stop};
use crate::cli::status::read_failure;
use crate::clock::Clock;
use crate::core::request::StartPosition;
use crate::core::time::Instant;
use crate::store::measure::{Measure, Stored};

const MIB: f64 = 1024.0 * 1024.0;

/// Everything that a run needs beside its clients.
struct Bench<'a> {
    args: &'a LoadArgs,
    shared: Arc<Shared>,
    signals: Signals,
    stopped: Option<Stop>,
    measure: Option<Measure>,
    processes: Vec<Process>,
}

/// What was read before and is read again afterwards.
struct Before {
    cpu: Vec<Duration>,
    wal_bytes: u64,
}

pub(super) async fn run(args: &LoadArgs) -> Result<(Outcome, Option<Stop>), Failure> {
    args.ensure_sensible()?;
    let signals = Signals::listen()?;
    let measure = if args.has_database() {
        let (url, schema) = (args.database.url()?, args.database.schema()?);
        let measure = Measure::connect(&url, &schema).await;
        Some(measure.map_err(read_failure)?)
    } else {
        None
    };
    let mut bench = Bench {
        args,
        shared: Arc::new(Shared::new(args.timeout.to_std())),
        signals,
        stopped: None,
        processes: Vec::new(),
        measure,
    };
    bench.processes = bench.find_processes().await?;
    let mut pool = ClientPool::connect(args).await?;
    let mut keep_alives = pool.keep_alives();
    let lost = lost(&mut keep_alives);
    let outcome = tokio::select! {
        outcome = bench.measure(&mut pool) => outcome,
        failure = lost => Err(failure),
    };
    match outcome {
        Ok((outcome, drivers)) => {
            // What was measured is worth more than a farewell.
            if let Err(failure) = pool.close(drivers).await
                && let Some(message) = failure.message()
            {
                crate::cli::output::note(&format!(
                    "stanby: a client could not be closed: {message}"
                ));
            }
            Ok((outcome, bench.stopped))
        }
        Err(failure) => {
            pool.close(Vec::new()).await.ok();
            Err(failure)
        }
    }
}

/// Does not return while the server knows all of the clients.
async fn lost(keep_alives: &mut [JoinSet<Failure>]) -> Failure {
    let waiting = keep_alives
        .iter_mut()
        .map(|client| Box::pin(client.join_next()));
    match futures_util::future::select_all(waiting).await.0 {
        Some(Ok(failure)) => failure,
        Some(Err(_)) | None => Failure::Failed(anyhow::anyhow!(
            "the task that answers heartbeats has ended"
        )),
    }
}

impl Bench<'_> {
    async fn find_processes(&mut self) -> Result<Vec<Process>, Failure> {
        let mut found = if self.args.local {
            let (mut active, mut backend) = (None, None);
            if let Some(measure) = &mut self.measure {
                backend = Some(measure.backend_pid().await.map_err(read_failure)?);
                active = measure.active().await.map_err(read_failure)?;
            }
            let active = active.and_then(|(pid, _)| pid);
            processes::local(
                &self.args.nats.cluster_id,
                active,
                self.nats_port()?,
                backend,
            )
        } else {
            let named = self.args.pid.iter().map(|&pid| Process::of(pid));
            named.collect::<Result<_, _>>()?
        };
        found.push(Process::myself());
        Ok(found)
    }

    fn nats_port(&self) -> Result<u16, Failure> {
        let config = self.args.nats.nats()?;
        let port = |server: &String| server.rsplit_once(':')?.1.parse().ok();
        // Every server of a configuration has one.
        Ok(config.servers.first().and_then(port).unwrap_or(0))
    }

    async fn measure(
        &mut self,
        pool: &mut ClientPool<'_>,
    ) -> Result<(Outcome, Vec<Driver>), Failure> {
        let at = Timestamp::now();
        let load_before = load_average();
        let mut drivers = pool.publishers().await?;
        if !self.args.replay {
            drivers.extend(pool.subscribers(StartPosition::NewOnly).await?);
        }
        let stored_before = self.stored(pool).await?;
        let mut acked = 0;
        if self.args.warm_up > 0 {
            drivers = self.phase(pool, drivers, self.args.warm_up).await?.0;
            acked += total(&drivers).acked;
        }
        let mut before = self.before().await?;
        let (mut drivers, started, per_channel) =
            self.phase(pool, drivers, self.args.count).await?;
        let published = total(&drivers);
        acked += published.acked;
        let mut delivered = total(&drivers);
        let mut delivery_started = started;
        if self.args.replay && self.stopped.is_none() {
            before = self.before().await?;
            let mut subscribers = pool.subscribers(StartPosition::First).await?;
            delivery_started = Clock.now().monotonic;
            pool.begin(&mut subscribers, 0, delivery_started);
            pool.expect(&per_channel);
            let readers = self.drive(subscribers, delivery_started).await?;
            delivered = total(&readers);
            delivered.delivery_latency = Histogram::default();
            drivers.extend(readers);
        }
        let replayed = self.args.replay.then_some(delivered.delivered);
        let measured = replayed.unwrap_or(published.acked);
        let processes = self.usage(&before, measured);
        let wal_bytes = self.wal_bytes().await?.saturating_sub(before.wal_bytes);
        let load_after = load_average();
        let stored = match (self.stored(pool).await?, stored_before) {
            (Some(after), Some(before)) => Some(since(after, before)),
            _ => None,
        };
        let publish = published.publish_flow(started, self.args.size);
        let deliver = (self.args.subscribers > 0)
            .then(|| delivered.delivery_flow(delivery_started, self.args.size));
        let database = match (&mut self.measure, stored) {
            (Some(measure), Some(stored)) => {
                let settings = measure.settings().await.map_err(read_failure)?;
                Some(database(settings, wal_bytes, measured, acked, stored))
            }
            _ => None,
        };
        let ceiling = match (&mut self.measure, &database) {
            (Some(measure), Some(database)) if self.args.ceiling && self.stopped.is_none() => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "thousands at most"
                )]
                let batch = database.messages_per_commit.round() as usize;
                let reached = publish.per_second;
                Some(ceiling::measure(self.args, pool, measure, batch, reached).await?)
            }
            _ => None,
        };
        if let Some(measure) = self.measure.take() {
            measure.close().await.map_err(read_failure)?;
        }
        let outcome = Outcome {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: format!("{at:.0}"),
            machine: Machine {
                cores: std::thread::available_parallelism().map_or(0, usize::from),
                load_before,
                load_after,
            },
            settings: settings(self.args),
            interrupted: self.stopped.is_some(),
            publish,
            deliver,
            redelivered: delivered.redelivered,
            processes,
            database,
            ceiling,
        };
        Ok((outcome, drivers))
    }

    /// Publishes so many messages. When it began, and how many went to each channel.
    async fn phase(
        &mut self,
        pool: &ClientPool<'_>,
        mut drivers: Vec<Driver>,
        messages: u64,
    ) -> Result<(Vec<Driver>, Instant, Vec<u64>), Failure> {
        let started = Clock.now().monotonic;
        let per_channel = pool.begin(&mut drivers, messages, started);
        pool.expect(&per_channel);
        let drivers = self.drive(drivers, started).await?;
        Ok((drivers, started, per_channel))
    }

    /// Runs those that have got their work, shows how far they are, and lets a signal stop them.
    async fn drive(
        &mut self,
        drivers: Vec<Driver>,
        started: Instant,
    ) -> Result<Vec<Driver>, Failure> {
        self.shared.begin(started);
        let mut progress = Progress::new(&drivers, &self.shared);
        let running = load::run(drivers, &self.shared);
        tokio::pin!(running);
        loop {
            tokio::select! {
                done = &mut running => return done,
                stop = self.signals.stop(), if self.stopped.is_none() => {
                    self.stopped = Some(stop);
                    self.shared.stop();
                }
                () = progress.tick() => {}
            }
        }
    }

    async fn before(&mut self) -> Result<Before, Failure> {
        let wal_bytes = self.wal_bytes().await?;
        let cpu = self.processes.iter().map(Process::cpu).collect();
        Ok(Before { cpu, wal_bytes })
    }

    fn usage(&self, before: &Before, messages: u64) -> Vec<Usage> {
        let used: Vec<Duration> = self
            .processes
            .iter()
            .zip(&before.cpu)
            .map(|(process, before)| process.cpu().saturating_sub(*before))
            .collect();
        let all: Duration = used.iter().sum();
        let usage = |(process, used): (&Process, &Duration)| Usage {
            name: process.name.clone(),
            pid: process.pid,
            cpu_seconds: rounded(used.as_secs_f64(), 3),
            cpu_per_message: rounded(ratio(used.as_secs_f64() * 1e6, float(messages)), 2),
            share: rounded(ratio(used.as_secs_f64(), all.as_secs_f64()), 3),
            resident_mib: rounded(float(process.resident_bytes()) / MIB, 1),
        };
        self.processes.iter().zip(&used).map(usage).collect()
    }

    async fn wal_bytes(&mut self) -> Result<u64, Failure> {
        match &mut self.measure {
            Some(measure) => measure.wal_bytes().await.map_err(read_failure),
            None => Ok(0),
        }
    }

    async fn stored(&mut self, pool: &ClientPool<'_>) -> Result<Option<Stored>, Failure> {
        match &mut self.measure {
            Some(measure) => {
                let stored = measure.stored(&pool.channels).await;
                stored.map(Some).map_err(read_failure)
            }
            None => Ok(None),
        }
    }
}

/// What all publishers and subscribers found together.
#[derive(Default)]
struct Total {
    acked: u64,
    last_ack: Instant,
    ack_latency: Histogram,
    ack_timeline: Timeline,
    delivered: u64,
    redelivered: u64,
    last_delivery: Instant,
    delivery_latency: Histogram,
    delivery_timeline: Timeline,
}

fn total(drivers: &[Driver]) -> Total {
    let mut total = Total::default();
    for worker in drivers.iter().flat_map(|one| &one.workers) {
        match worker {
            Worker::Publisher(publisher) => {
                total.acked += publisher.acked;
                total.last_ack = total.last_ack.max(publisher.last_ack);
                total.ack_latency.merge(&publisher.latency);
                total.ack_timeline.merge(&publisher.timeline);
            }
            Worker::Subscriber(subscriber) => {
                total.delivered += subscriber.delivered;
                total.redelivered += subscriber.redelivered;
                total.last_delivery = total.last_delivery.max(subscriber.last_delivery);
                total.delivery_latency.merge(&subscriber.latency);
                total.delivery_timeline.merge(&subscriber.timeline);
            }
        }
    }
    total
}

impl Total {
    fn publish_flow(&self, started: Instant, size: usize) -> Flow {
        let seconds = self.last_ack.since(started);
        let timeline = self.ack_timeline.clone();
        flow(self.acked, seconds, size, &self.ack_latency, timeline)
    }

    fn delivery_flow(&self, started: Instant, size: usize) -> Flow {
        let seconds = self.last_delivery.since(started);
        let timeline = self.delivery_timeline.clone();
        flow(
            self.delivered,
            seconds,
            size,
            &self.delivery_latency,
            timeline,
        )
    }
}

fn flow(
    messages: u64,
    took: Duration,
    size: usize,
    latency: &Histogram,
    timeline: Timeline,
) -> Flow {
    let seconds = took.as_secs_f64();
    let per_second = ratio(float(messages), seconds);
    Flow {
        messages,
        seconds: rounded(seconds, 3),
        per_second: rounded(per_second, 0),
        megabytes_per_second: rounded(per_second * float(size as u64) / 1e6, 2),
        latency: Latency::of(latency),
        timeline: timeline.into_counts(),
        timeline_step_seconds: STEP.as_secs_f64(),
    }
}

fn since(after: Stored, before: Stored) -> Stored {
    Stored {
        rows: after.rows.saturating_sub(before.rows),
        distinct: after.distinct.saturating_sub(before.distinct),
        sequences: after.sequences.saturating_sub(before.sequences),
        commits: after.commits.saturating_sub(before.commits),
    }
}

fn database(
    settings: Vec<(String, String)>,
    wal_bytes: u64,
    measured: u64,
    acked: u64,
    stored: Stored,
) -> Database {
    Database {
        settings,
        wal_bytes,
        wal_bytes_per_message: rounded(ratio(float(wal_bytes), float(measured)), 1),
        acked,
        stored: stored.rows,
        distinct: stored.distinct,
        sequences: stored.sequences,
        commits: stored.commits,
        messages_per_commit: rounded(ratio(float(stored.rows), float(stored.commits)), 1),
    }
}

fn settings(args: &LoadArgs) -> Settings {
    Settings {
        cluster_id: args.nats.cluster_id.clone(),
        publishers: args.publishers,
        subscribers: args.subscribers,
        size: args.size,
        count: args.count,
        warm_up: args.warm_up,
        window: args.window(),
        channels: args.channels,
        queue_group: args.queue_group.clone(),
        durable: args.durable,
        max_in_flight: args.max_in_flight,
        replay: args.replay,
        clients_per_connection: args.clients_per_connection,
        idle_clients: args.idle_clients,
    }
}

fn load_average() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let minute = load.split(' ').next();
    minute.and_then(|load| load.parse().ok()).unwrap_or(0.0)
}
