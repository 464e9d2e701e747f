//! Clients that behave well, with a thread of their own: what they see is the server's doing, not that of the tests.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::thread::JoinHandle;
use std::time::Duration;

use async_nats::{ConnectOptions, Request, StatusCode};
use bytes::Bytes;
use stanby::protocol::client;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::stan::StanClient;

const PUBLISHERS: usize = 3;
const PINGERS: usize = 3;

const PUBLISH_EVERY: Duration = Duration::from_millis(25);
const PING_EVERY: Duration = Duration::from_millis(50);

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const CHANNEL: &str = "bystanders";

/// How long answers took, from when a request was due: one that waits for the one before it waits, too.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) acks: Vec<Duration>,
    pub(crate) pings: Vec<Duration>,
    /// Refusals and requests without an answer.
    pub(crate) failures: Vec<String>,
}

pub(crate) struct Bystanders {
    thread: JoinHandle<Seen>,
    stop: CancellationToken,
}

impl Bystanders {
    pub(crate) fn start(nats_url: String, cluster_id: String) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(watch(&nats_url, &cluster_id, &stopped))
        });
        Self { thread, stop }
    }

    pub(crate) async fn stop(self) -> Seen {
        self.stop.cancel();
        let joined = tokio::task::spawn_blocking(|| self.thread.join());
        joined.await.unwrap().unwrap()
    }
}

async fn watch(nats_url: &str, cluster_id: &str, stop: &CancellationToken) -> Seen {
    let mut tasks = JoinSet::new();
    for number in 0..PUBLISHERS + PINGERS {
        let options = ConnectOptions::new().request_timeout(Some(PATIENCE));
        let nats = options.connect(nats_url).await.unwrap();
        let id = format!("bystander-{number}");
        let client = StanClient::connect(nats, cluster_id, &id);
        let client = client.await.unwrap();
        let stop = stop.clone();
        if number < PUBLISHERS {
            tasks.spawn(publish(client, stop));
        } else {
            tasks.spawn(ping(client, stop));
        }
    }
    let mut all = Seen::default();
    for seen in tasks.join_all().await {
        all.acks.extend(seen.acks);
        all.pings.extend(seen.pings);
        all.failures.extend(seen.failures);
    }
    all
}

async fn publish(client: StanClient, stop: CancellationToken) -> Seen {
    let mut seen = Seen::default();
    let subject = format!("{}.{CHANNEL}", client.subjects.publish_prefix);
    let mut pace = interval(PUBLISH_EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0_u64.. {
        let Some(due) = next(&mut pace, &stop).await else {
            break;
        };
        let guid = format!("{}-{number}", client.connection_id);
        let request = client::publish_request(client::Publish {
            client_id: &client.id,
            connection_id: client.connection_id.as_bytes(),
            guid: &guid,
            channel: CHANNEL,
            data: Bytes::from_static(b"of a bystander"),
        });
        match ask(&client, &subject, request).await {
            Ok(answer) => {
                let ack = client::publish_ack(answer).unwrap();
                seen.failures.extend(ack.refusal);
            }
            Err(why) => seen.failures.push(format!("publish: {why}")),
        }
        seen.acks.push(due.elapsed());
    }
    seen
}

async fn ping(client: StanClient, stop: CancellationToken) -> Seen {
    let mut seen = Seen::default();
    let subject = client.subjects.pings.to_string();
    let mut pace = interval(PING_EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while let Some(due) = next(&mut pace, &stop).await {
        let request = client::ping_request(client.connection_id.as_bytes());
        match ask(&client, &subject, request).await {
            Ok(answer) => {
                if let Err(why) = client::ping_response(answer) {
                    seen.failures.push(format!("ping: {why}"));
                }
            }
            Err(why) => seen.failures.push(format!("ping: {why}")),
        }
        seen.pings.push(due.elapsed());
    }
    seen
}

/// When the next request is due.
async fn next(pace: &mut tokio::time::Interval, stop: &CancellationToken) -> Option<Instant> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        due = pace.tick() => Some(due),
    }
}

async fn ask(client: &StanClient, subject: &str, request: Bytes) -> Result<Bytes, String> {
    let request = Request::new().payload(request).timeout(Some(PATIENCE));
    let answer = client.nats.send_request(subject.to_owned(), request).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status == Some(StatusCode::NO_RESPONDERS) {
        return Err("no server listens".to_owned());
    }
    Ok(answer.payload)
}

/// Of so many percent of them, the longest.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    let at = (times.len() * percent).div_ceil(100).max(1) - 1;
    times.get(at).copied().unwrap_or_default()
}
