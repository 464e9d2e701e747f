//! What a run found, as it is printed, kept as JSON and drawn. Times are in microseconds unless a name says otherwise.

use serde::{Deserialize, Serialize};

use super::histogram::Histogram;

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Outcome {
    /// The version of this program.
    pub(super) version: String,
    /// UTC, ISO 8601.
    pub(super) at: String,
    pub(super) machine: Machine,
    pub(super) settings: Settings,
    /// Ctrl-C came before the end.
    pub(super) interrupted: bool,
    pub(super) publish: Flow,
    /// Without subscribers there is none.
    pub(super) deliver: Option<Flow>,
    pub(super) redelivered: u64,
    pub(super) processes: Vec<Usage>,
    pub(super) database: Option<Database>,
    pub(super) ceiling: Option<Ceiling>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    /// The load average of the last minute.
    pub(super) load_before: f64,
    pub(super) load_after: f64,
}

/// What was asked for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Settings {
    pub(super) cluster_id: String,
    pub(super) publishers: usize,
    pub(super) subscribers: usize,
    pub(super) size: usize,
    pub(super) count: u64,
    pub(super) warm_up: u64,
    /// Messages that a publisher has under way; 1 waits for each ack.
    pub(super) window: usize,
    pub(super) channels: usize,
    pub(super) queue_group: Option<String>,
    pub(super) durable: bool,
    pub(super) max_in_flight: i32,
    /// Subscribers begin when all is published.
    pub(super) replay: bool,
    pub(super) clients_per_connection: usize,
    pub(super) idle_clients: usize,
}

/// Messages that went one way.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Flow {
    pub(super) messages: u64,
    /// From the begin to the last of them.
    pub(super) seconds: f64,
    pub(super) per_second: f64,
    pub(super) megabytes_per_second: f64,
    /// From a publish to its ack, or to the delivery to a subscriber. `None` for a replay.
    pub(super) latency: Option<Latency>,
    /// Messages in each `timeline_step_seconds`.
    pub(super) timeline: Vec<u64>,
    pub(super) timeline_step_seconds: f64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Latency {
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
    /// Upper bounds with counts, in order.
    pub(super) histogram: Vec<(f64, u64)>,
}

impl Latency {
    pub(super) fn of(histogram: &Histogram) -> Option<Self> {
        if histogram.count() == 0 {
            return None;
        }
        let at = |per_mille| micros(histogram.percentile(per_mille));
        Some(Self {
            mean: micros(histogram.mean()),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p999: at(999),
            max: micros(histogram.max()),
            histogram: histogram
                .buckets()
                .map(|(upper, count)| (micros(upper), count))
                .collect(),
        })
    }
}

/// What a process took during the run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Usage {
    pub(super) name: String,
    pub(super) pid: i32,
    pub(super) cpu_seconds: f64,
    /// Per acked message; of a replay, per delivered one.
    pub(super) cpu_per_message: f64,
    /// The share of the CPU time of all processes that were watched.
    pub(super) share: f64,
    /// Afterwards.
    pub(super) resident_mib: f64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Database {
    pub(super) settings: Vec<(String, String)>,
    pub(super) wal_bytes: u64,
    pub(super) wal_bytes_per_message: f64,
    /// Acked, those of the warm-up too.
    pub(super) acked: u64,
    pub(super) stored: u64,
    /// Different ones.
    pub(super) distinct: u64,
    /// Sequences given out: more than `stored` when a limit has dropped some.
    pub(super) sequences: u64,
    pub(super) commits: u64,
    pub(super) messages_per_commit: f64,
}

/// What Postgres and NATS can do here without a server in between.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Ceiling {
    /// Rows per second by the statement of the server, nothing else.
    pub(super) inserts_per_second: f64,
    pub(super) insert_batch: usize,
    /// One row per transaction.
    pub(super) commit: Option<Latency>,
    /// Requests answered per second, with the same payload, window and connections.
    pub(super) echoes_per_second: f64,
    pub(super) echo: Option<Latency>,
    /// The rate of the lower of the two.
    pub(super) per_second: f64,
    /// The share of it that publishing reached.
    pub(super) share: f64,
}

pub(super) fn micros(nanos: u64) -> f64 {
    rounded(float(nanos) / 1e3, 2)
}

pub(super) fn rounded(number: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (number * scale).round() / scale
}

/// `over / under`, or 0 where nothing was counted.
pub(super) fn ratio(over: f64, under: f64) -> f64 {
    if under > 0.0 { over / under } else { 0.0 }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "figures for people; nobody counts to 2^53"
)]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}
