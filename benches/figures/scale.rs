//! A takeover with much state: 10,000 clients, 5,000 channels, 20,000 subscriptions, ten million stored messages,
//! 200,000 of them unacked.
//! The tables are filled by SQL behind the back of an idle active, which is then killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use nix::sys::signal::Signal;
use stanby::clock::Clock;
use stanby::config::DatabaseUrl;
use stanby::core::Broker;
use stanby::core::limits::{Heartbeats, Limits, Settings};
use stanby::core::time::Instant;
use stanby::protocol::client;
use stanby::protocol::subjects::{Prefixes, Subjects};
use stanby::store::Store;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::ground::Ground;
use crate::pair::Pair;
use crate::table::Table;

const CLUSTER_ID: &str = "scale";
const FLAGS: &[&str] = &["--max-channels=0", "--hb-interval=10s"];
const PARTS: usize = 9;
const TAKEOVERS: usize = 20;
const CLIENTS: u64 = 10_000;
const POSITIONS: usize = 15_000;
const UNACKED: usize = 200_000;
/// Acked messages in each of the 5,000 channels: ten million are stored in all.
const OLD: u64 = 2_000;
/// More than any position has in flight.
const SPAN: usize = 32;
const LIMIT: Duration = Duration::from_mins(2);
/// Two rounds of heartbeats, and what comes before them.
const HEARTBEAT_WINDOW: Duration = Duration::from_secs(25);

pub(crate) async fn measure(ground: &Ground, table: &mut Table) -> anyhow::Result<()> {
    let mut pair = ground.pair_with(CLUSTER_ID, FLAGS).await?;
    let (database, connection) =
        tokio_postgres::connect(&ground.database_url(CLUSTER_ID), tokio_postgres::NoTls).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    database.batch_execute("SET search_path = stanby").await?;
    let tables = include_str!("scale.sql").replace("OLD", &OLD.to_string());
    database.batch_execute(&tables).await?;
    parts(&ground.database_url(CLUSTER_ID), table).await?;
    let clients = Clients::start(&ground.nats_url(), &mut tasks).await?;

    let mut runs = Runs::default();
    for round in 0..TAKEOVERS {
        runs.take_over(&mut pair, &database, &clients, round)
            .await?;
    }
    runs.add_to(table);
    heartbeats(&mut pair, &database, &clients, table).await
}

/// What a takeover is made of, one after the other and in this process.
async fn parts(url: &str, table: &mut Table) -> anyhow::Result<()> {
    let url = DatabaseUrl::parse(url)?;
    let store = Store::open(&url, "stanby", "stanby/figures", LIMIT);
    let settings = Settings {
        heartbeats: Heartbeats::default(),
        limits: Limits {
            channels: None,
            ..Limits::default()
        },
        ack_prefix: "ack".into(),
        partition: None,
        replace_durables: false,
    };
    let (mut read, mut restore, mut count, mut wake) = (vec![], vec![], vec![], vec![]);
    for _ in 0..PARTS {
        let since = Clock.now().monotonic;
        let snapshot = store.snapshot().await?;
        read.push(ms_since(since));

        let since = Clock.now().monotonic;
        let mut broker = Broker::restore(snapshot, settings.clone(), Clock.now());
        restore.push(ms_since(since));

        let since = Clock.now().monotonic;
        ensure!(broker.counts().subscriptions == 20_000, "not all are there");
        count.push(ms_since(since));

        let since = Clock.now().monotonic;
        broker.handle_timeout(Clock.now());
        wake.push(ms_since(since));
    }
    store.close().await;
    table.row("reading the tables", "ms", &read);
    table.row("restoring the core from them", "ms", &restore);
    table.row("asking for all that is due again", "ms", &wake);
    table.row("counting everything for the status", "ms", &count);
    Ok(())
}

#[derive(Default)]
struct Runs {
    load: Vec<f64>,
    first_commit: Vec<f64>,
    first_ack: Vec<f64>,
    redelivered: Vec<f64>,
    cpu: Vec<f64>,
    active_mib: Vec<f64>,
    peak_mib: Vec<f64>,
    standby_mib: Vec<f64>,
}

impl Runs {
    async fn take_over(
        &mut self,
        pair: &mut Pair,
        database: &tokio_postgres::Client,
        clients: &Clients,
        round: usize,
    ) -> anyhow::Result<()> {
        let active = pair.wait_for_roles().await;
        let next = pair.server(1 - active).pid();
        self.standby_mib.push(memory_mib(next, "VmRSS")?);
        clients.inbox.forget();
        let cpu_before = cpu(next)?;

        let killed = Clock.now().monotonic;
        pair.end(active, Signal::SIGKILL).await;
        self.first_ack.push(clients.first_ack(round, killed).await?);
        let all = clients.inbox.all_since(killed);
        self.redelivered.push(
            timeout(LIMIT, all)
                .await
                .with_context(|| format!("{} of {UNACKED} came", clients.inbox.distinct()))?,
        );
        let used = cpu(next)?.saturating_sub(cpu_before);
        self.cpu.push(used.as_secs_f64() * 1e3);
        self.active_mib.push(memory_mib(next, "VmRSS")?);
        self.peak_mib.push(memory_mib(next, "VmHWM")?);
        let row = database
            .query_one(
                "SELECT (extract(epoch FROM load_time) * 1000)::float8,
                        (extract(epoch FROM first_ack) * 1000)::float8
                 FROM takeovers ORDER BY epoch DESC LIMIT 1",
                &[],
            )
            .await?;
        self.load.push(row.try_get(0)?);
        self.first_commit.push(row.try_get(1)?);
        pair.add().await;
        Ok(())
    }

    fn add_to(&self, table: &mut Table) {
        table.row(
            "lock to restored state (takeovers.load_time)",
            "ms",
            &self.load,
        );
        table.row(
            "lock to first commit (takeovers.first_ack)",
            "ms",
            &self.first_commit,
        );
        table.row("kill -9 to a publisher's ack", "ms", &self.first_ack);
        table.row(
            "kill -9 to the last of 200,000 redeliveries",
            "ms",
            &self.redelivered,
        );
        table.row("CPU time of the new active until then", "ms", &self.cpu);
        table.row(
            "resident memory of the active then",
            "MiB",
            &self.active_mib,
        );
        table.row("its peak", "MiB", &self.peak_mib);
        table.row("resident memory of a standby", "MiB", &self.standby_mib);
    }
}

/// 10,000 clients are asked every 10 s, and all of them answer.
async fn heartbeats(
    pair: &mut Pair,
    database: &tokio_postgres::Client,
    clients: &Clients,
    table: &mut Table,
) -> anyhow::Result<()> {
    let active = pair.wait_for_roles().await;
    let pid = pair.server(active).pid();
    let (beats, used) = (clients.beats.load(Ordering::Relaxed), cpu(pid)?);
    timed(HEARTBEAT_WINDOW).await;
    let beats = clients.beats.load(Ordering::Relaxed) - beats;
    let used = cpu(pid)?.saturating_sub(used).as_secs_f64() / HEARTBEAT_WINDOW.as_secs_f64();

    let row = database
        .query_one(
            "SELECT count(*), count(*) FILTER (WHERE missed_heartbeats > 0) FROM clients",
            &[],
        )
        .await?;
    let (left, missing): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    ensure!(
        left.unsigned_abs() == CLIENTS && missing == 0,
        "{left} clients are left, {missing} missed a heartbeat"
    );
    #[expect(clippy::cast_precision_loss, reason = "tens of thousands")]
    let beats = beats as f64;
    let seconds = HEARTBEAT_WINDOW.as_secs_f64();
    table.row("heartbeats answered", "per s", &[beats / seconds]);
    table.row("CPU of the active meanwhile", "%", &[used * 100.0]);
    Ok(())
}

async fn timed(duration: Duration) {
    let mut tick = interval(duration);
    tick.tick().await;
    tick.tick().await;
}

struct Clients {
    nats: Client,
    subjects: Subjects,
    inbox: Arc<Inbox>,
    beats: Arc<AtomicU64>,
}

impl Clients {
    async fn start(url: &str, tasks: &mut JoinSet<()>) -> anyhow::Result<Self> {
        let connect = || {
            let options = async_nats::ConnectOptions::new();
            options.subscription_capacity(512 * 1024).connect(url)
        };
        let (listener, nats) = (connect().await?, connect().await?);
        let inbox = Arc::new(Inbox::default());
        let beats = Arc::new(AtomicU64::new(0));
        tasks.spawn(receive(
            listener.subscribe("scale.in.*").await?,
            Arc::clone(&inbox),
        ));
        let asked = listener.subscribe("scale.hb.*").await?;
        tasks.spawn(answer(listener.clone(), asked, Arc::clone(&beats)));
        listener.flush().await?;
        Ok(Self {
            nats,
            subjects: Subjects::new(CLUSTER_ID, &Prefixes::default())?,
            inbox,
            beats,
        })
    }

    /// Publishes every 10 ms until one of the publishes is acked; returns the milliseconds since `since`.
    async fn first_ack(&self, round: usize, since: Instant) -> anyhow::Result<f64> {
        let acks_to = self.nats.new_inbox();
        let mut acks = self.nats.subscribe(acks_to.clone()).await?;
        let subject = format!("{}.probe", self.subjects.publish_prefix());
        let mut tick = interval(Duration::from_millis(10));
        let mut number = 0;
        let acked = async {
            loop {
                tokio::select! {
                    ack = acks.next() => {
                        let ack = ack.context("NATS has gone")?;
                        let ack = client::publish_ack(ack.payload)?;
                        ensure!(ack.refusal.is_none(), "{ack:?}");
                        // NATS itself answers where nobody listens, with nothing.
                        if !ack.guid.is_empty() {
                            return Ok(());
                        }
                    }
                    _ = tick.tick() => {
                        number += 1;
                        let request = client::publish_request(client::Publish {
                            client_id: "client-0",
                            connection_id: b"connection-0",
                            guid: &format!("{round}-{number}"),
                            channel: "probe",
                            data: Bytes::new(),
                        });
                        self.nats
                            .publish_with_reply(subject.clone(), acks_to.clone(), request)
                            .await?;
                    }
                }
            }
        };
        timeout(LIMIT, acked).await??;
        Ok(ms_since(since))
    }
}

async fn answer(nats: Client, mut asked: Subscriber, beats: Arc<AtomicU64>) {
    while let Some(beat) = asked.next().await {
        if let Some(reply) = beat.reply
            && nats.publish(reply, Bytes::new()).await.is_ok()
        {
            beats.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Which of the unacked messages have come.
#[derive(Default)]
struct Inbox {
    came: std::sync::Mutex<Vec<bool>>,
    distinct: AtomicUsize,
}

async fn receive(mut messages: Subscriber, inbox: Arc<Inbox>) {
    while let Some(message) = messages.next().await {
        let position = message.subject.rsplit('.').next();
        let position = position.and_then(|number| number.parse().ok());
        if let (Some(position), Ok(delivery)) = (position, client::delivery(message.payload))
            && delivery.redelivered
        {
            inbox.note(position, delivery.sequence);
        }
    }
}

impl Inbox {
    fn note(&self, position: usize, sequence: u64) {
        let young = usize::try_from(sequence.saturating_sub(OLD)).unwrap_or(SPAN);
        let index = position * SPAN + young.min(SPAN);
        let mut came = self.came();
        if let Some(before) = came.get_mut(index)
            && !std::mem::replace(before, true)
        {
            self.distinct.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn forget(&self) {
        *self.came() = vec![false; (POSITIONS + 1) * SPAN];
        self.distinct.store(0, Ordering::Relaxed);
    }

    fn distinct(&self) -> usize {
        self.distinct.load(Ordering::Relaxed)
    }

    async fn all_since(&self, since: Instant) -> f64 {
        let mut tick = interval(Duration::from_millis(5));
        while self.distinct() < UNACKED {
            tick.tick().await;
        }
        ms_since(since)
    }

    fn came(&self) -> std::sync::MutexGuard<'_, Vec<bool>> {
        let came = self.came.lock();
        came.unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn ms_since(since: Instant) -> f64 {
    Clock.now().monotonic.since(since).as_secs_f64() * 1e3
}

fn memory_mib(pid: u32, what: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(process(pid, "status"))?;
    let line = status.lines().find(|line| line.starts_with(what));
    let kib: Option<f64> = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    Ok(kib.with_context(|| format!("no {what} in {status}"))? / 1024.0)
}

/// CPU time that the threads of the process have used.
fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for thread in std::fs::read_dir(process(pid, "task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        let ran: Option<u64> = stat.split(' ').next().and_then(|ran| ran.parse().ok());
        nanos += ran.unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}

fn process(pid: u32, what: &str) -> PathBuf {
    PathBuf::from("/proc").join(pid.to_string()).join(what)
}
