//! What the same Postgres and the same NATS can do without a server in between: what any server's rate is measured by.
//! Each is measured alone, so both at once on the same cores would be less.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::args::LoadArgs;
use super::client_pool::ClientPool;
use super::histogram::Histogram;
use super::line::Line;
use super::load::{self, Shared, Worker};
use super::publisher::GUID_BYTES;
use super::result::{Ceiling, Latency, float, ratio, rounded};
use crate::cli::failure::Failure;
use crate::cli::status::read_failure;
use crate::clock::Clock;
use crate::core::time::Instant;
use crate::nats::wire::encode;
use crate::store::measure::{Measure, Rows};

/// Longest time for each of the three.
const LIMIT: Duration = Duration::from_secs(5);

const COMMITS: u64 = 500;

/// Postgres' statement takes a parameter of 1 GB; a server never fills one so far.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// `batch` as the server's commits were, on average.
pub(super) async fn measure(
    args: &LoadArgs,
    pool: &ClientPool<'_>,
    measure: &mut Measure,
    batch: usize,
    reached: f64,
) -> Result<Ceiling, Failure> {
    let batch = batch.clamp(1, (BATCH_BYTES_MAX / args.size).max(1));
    measure.make_scratch().await.map_err(read_failure)?;
    let (inserts_per_second, _) = inserts(args, measure, 1, batch, args.count).await?;
    let begin = 1 + i64::try_from(args.count).unwrap_or(i64::MAX / 2) * 2;
    let (_, commits) = inserts(args, measure, begin, 1, COMMITS).await?;
    let (echoes_per_second, echo) = echoes(args, pool).await?;
    let lower = inserts_per_second.min(echoes_per_second);
    Ok(Ceiling {
        inserts_per_second: rounded(inserts_per_second, 0),
        insert_batch: batch,
        commit: Latency::of(&commits),
        echoes_per_second: rounded(echoes_per_second, 0),
        echo: Latency::of(&echo),
        per_second: rounded(lower, 0),
        share: rounded(ratio(reached, lower), 3),
    })
}

/// Rows per second, and how long each batch took.
async fn inserts(
    args: &LoadArgs,
    measure: &mut Measure,
    begin: i64,
    batch: usize,
    count: u64,
) -> Result<(f64, Histogram), Failure> {
    let data = super::publisher::noise(args.size);
    let client_id = "bench-0123456789012345678901-pub-00000";
    let guid = "0123456789012345678901";
    let columns = (
        vec![client_id; batch],
        vec![guid; batch],
        vec![""; batch],
        vec![data.as_slice(); batch],
    );
    let mut took = Histogram::default();
    let started = Clock.now().monotonic;
    let mut inserted = 0;
    let mut now = started;
    while inserted < count && now.since(started) < LIMIT {
        let rows = Rows {
            first: begin.saturating_add(i64::try_from(inserted).unwrap_or(i64::MAX)),
            client_id: &columns.0,
            guid: &columns.1,
            reply: &columns.2,
            data: &columns.3,
        };
        measure.insert(&rows).await.map_err(read_failure)?;
        let then = now;
        now = Clock.now().monotonic;
        took.add(u64::try_from(now.since(then).as_nanos()).unwrap_or(u64::MAX));
        inserted += batch as u64;
    }
    let seconds = now.since(started).as_secs_f64();
    Ok((ratio(float(inserted), seconds), took))
}

/// Publishers as in the run, whose messages a subscriber of this process answers as the server would.
async fn echoes(args: &LoadArgs, pool: &ClientPool<'_>) -> Result<(f64, Histogram), Failure> {
    let subject = format!("stanby.bench.{}", pool.run);
    let mut responder = pool.line().await?;
    responder.subscribe(&subject, 0);
    responder.round_trip().await?;
    let answering = tokio::task::JoinSet::from_iter([answer(responder)]);

    let mut drivers = pool.publishers_to(&[(subject.clone(), subject)]).await?;
    let shared = Arc::new(Shared::new(pool.timeout()));
    let started = Clock.now().monotonic;
    pool.begin(&mut drivers, args.count, started);
    shared.begin(started);
    let running = load::run(drivers, &shared);
    tokio::pin!(running);
    let drivers = if let Ok(drivers) = timeout(LIMIT, &mut running).await {
        drivers?
    } else {
        shared.stop();
        running.await?
    };
    drop(answering);

    let mut latency = Histogram::default();
    let mut acked = 0;
    let mut last = started;
    for worker in drivers.iter().flat_map(|one| &one.workers) {
        if let Worker::Publisher(publisher) = worker {
            latency.merge(&publisher.latency);
            acked += publisher.acked;
            last = last.max(publisher.last_ack);
        }
    }
    Ok((per_second(acked, started, last), latency))
}

fn per_second(messages: u64, started: Instant, last: Instant) -> f64 {
    ratio(float(messages), last.since(started).as_secs_f64())
}

/// Answers each request with the ack of its publish, until the connection ends.
async fn answer(mut line: Line) {
    let mut guid_at = None;
    loop {
        if line.flush().await.is_err() || line.read().await.is_err() {
            return;
        }
        let mut answers = std::mem::take(&mut line.out);
        while let Ok(Some(message)) = line.next_message() {
            let payload = message.payload();
            // All requests are alike: the place is looked for once. It is the second field, after the client ID.
            let at = *guid_at.get_or_insert_with(|| {
                let client_id = payload.get(1).copied().map_or(0, usize::from);
                2 + client_id + 2
            });
            let (Some(reply), Some(guid)) = (message.reply(), payload.get(at..at + GUID_BYTES))
            else {
                continue;
            };
            let mut ack = [0; GUID_BYTES + 2];
            ack[0] = 0x0a;
            ack[1] = 22;
            ack[2..].copy_from_slice(guid);
            encode::publish(reply, None, &ack, &mut answers);
        }
        line.out.unsplit(answers);
    }
}
