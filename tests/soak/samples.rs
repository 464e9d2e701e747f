//! What is measured, every so often.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::time::Duration;

use serde::Serialize;
use sqlx::PgConnection;

use crate::facts::{Counts, Facts};

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sample {
    /// Since the start.
    pub(crate) at_s: f64,
    /// Of the server that lives as long as the run.
    pub(crate) is_active: bool,
    pub(crate) resident_mib: f64,
    pub(crate) descriptors: f64,
    pub(crate) threads: f64,
    pub(crate) cpu_s: f64,
    /// Of everything that the run has started, its load, Postgres and nats-server too.
    pub(crate) all_cpu_s: f64,
    /// Tables and indexes.
    pub(crate) tables_mib: f64,
    pub(crate) messages: f64,
    /// What the directory of the write-ahead log holds, and how much was ever written.
    pub(crate) wal_mib: f64,
    pub(crate) wal_written_mib: f64,
    pub(crate) connections: f64,
    /// Of publishes since the sample before.
    pub(crate) acked_per_s: f64,
    pub(crate) ack_p50_ms: f64,
    pub(crate) ack_p99_ms: f64,
    pub(crate) ack_max_ms: f64,
    /// From a publish until the message is with a durable that stays.
    pub(crate) delivery_p50_ms: f64,
    pub(crate) delivery_p99_ms: f64,
    pub(crate) counts: Counts,
}

type Row = (i64, i64, i64, i64, i64);

const TABLES: &str = "SELECT
    (SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c
      WHERE relnamespace = 'stanby'::regnamespace AND relkind = 'r'),
    (SELECT count(*) FROM stanby.messages),
    (SELECT sum(size)::bigint FROM pg_ls_waldir()),
    pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint,
    (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database())";

const MIB: f64 = 1024.0 * 1024.0;

impl Sample {
    /// Takes the latencies that have gathered since `before`.
    pub(crate) async fn take(
        at: Duration,
        before: Option<&Self>,
        (pid, is_active): (u32, bool),
        database: &mut PgConnection,
        facts: &Facts,
    ) -> Self {
        let process = Process::of(pid);
        let row: Row = sqlx::query_as(TABLES).fetch_one(database).await.unwrap();
        let (mut acks, mut deliveries, counts) = {
            let mut known = facts.known();
            let acks = std::mem::take(&mut known.acks);
            (acks, std::mem::take(&mut known.deliveries), known.counts)
        };
        acks.sort_unstable();
        deliveries.sort_unstable();
        let at_s = at.as_secs_f64();
        let passed = at_s - before.map_or(0.0, |sample| sample.at_s);
        Self {
            at_s,
            is_active,
            resident_mib: process.resident_kib / 1024.0,
            descriptors: process.descriptors,
            threads: process.threads,
            cpu_s: process.cpu_s,
            all_cpu_s: cpu_of_all(),
            tables_mib: number(row.0) / MIB,
            messages: number(row.1),
            wal_mib: number(row.2) / MIB,
            wal_written_mib: number(row.3) / MIB,
            connections: number(row.4),
            acked_per_s: number(i64::try_from(acks.len()).unwrap()) / passed.max(0.001),
            ack_p50_ms: quantile(&acks, 50),
            ack_p99_ms: quantile(&acks, 99),
            ack_max_ms: quantile(&acks, 100),
            delivery_p50_ms: quantile(&deliveries, 50),
            delivery_p99_ms: quantile(&deliveries, 99),
            counts,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a plot")]
fn number(value: i64) -> f64 {
    value as f64
}

/// In milliseconds.
fn quantile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted
        .get(at)
        .map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
}

/// As the kernel counts.
struct Process {
    resident_kib: f64,
    threads: f64,
    descriptors: f64,
    cpu_s: f64,
}

impl Process {
    fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let words = line.unwrap().trim_start_matches(':').trim();
            words.split(' ').next().unwrap().parse().unwrap()
        };
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .count();
        Self {
            resident_kib: field("VmRSS"),
            threads: field("Threads"),
            descriptors: number(i64::try_from(descriptors).unwrap()),
            cpu_s: Stat::of(pid).unwrap().own_s,
        }
    }
}

struct Stat {
    parent: u32,
    own_s: f64,
    /// Of children that have ended.
    children_s: f64,
}

impl Stat {
    /// `None` of a process that has ended.
    fn of(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        // In hundredths of a second, whatever the machine.
        let seconds = |at: usize| -> Option<f64> {
            let ticks: f64 = fields.get(at)?.parse().ok()?;
            Some(ticks / 100.0)
        };
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own_s: seconds(11)? + seconds(12)?,
            children_s: seconds(13)? + seconds(14)?,
        })
    }
}

/// Of this process and all that it has started, ended ones too.
fn cpu_of_all() -> f64 {
    let pids = std::fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let all: Vec<(u32, Stat)> = pids.filter_map(|pid| Some((pid, Stat::of(pid)?))).collect();
    let mut family = vec![std::process::id()];
    let mut total = 0.0;
    while let Some(pid) = family.pop() {
        for (child, stat) in &all {
            if *child == pid {
                total += stat.own_s + stat.children_s;
            }
            if stat.parent == pid {
                family.push(*child);
            }
        }
    }
    total
}
