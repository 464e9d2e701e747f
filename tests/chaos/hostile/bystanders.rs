//! Clients that behave well, with a thread of their own: what they see is the server's doing, not that of the tests.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_nats::{ConnectOptions, Request, StatusCode};
use bytes::Bytes;
use stanby::protocol::client;
use tokio::sync::oneshot;
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

/// How long answers took, from when a request was due.
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
    /// They are connected when it returns.
    pub(crate) async fn start(nats_url: String, cluster_id: String) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (connected, are_connected) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(watch(&nats_url, &cluster_id, connected, &stopped))
        });
        are_connected.await.unwrap();
        Self { thread, stop }
    }

    pub(crate) async fn stop(self) -> Seen {
        self.stop.cancel();
        let joined = tokio::task::spawn_blocking(|| self.thread.join());
        joined.await.unwrap().unwrap()
    }
}

async fn watch(
    nats_url: &str,
    cluster_id: &str,
    connected: oneshot::Sender<()>,
    stop: &CancellationToken,
) -> Seen {
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
    connected.send(()).unwrap();
    let mut all = Seen::default();
    for seen in tasks.join_all().await {
        all.acks.extend(seen.acks);
        all.pings.extend(seen.pings);
        all.failures.extend(seen.failures);
    }
    all
}

/// Asks when a request is due, whether or not those before are answered: a server that takes longer than the pace is no
/// slower for it, and one that stands still is seen by all that were due meanwhile.
async fn publish(client: StanClient, stop: CancellationToken) -> Seen {
    let subject = format!("{}.{CHANNEL}", client.subjects.publish_prefix);
    let mut pace = pace(PUBLISH_EVERY);
    let mut asked = JoinSet::new();
    let client = Arc::new(client);
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
        let (client, subject) = (Arc::clone(&client), subject.clone());
        asked.spawn(async move {
            let failure = match ask(&client, &subject, request).await {
                Ok(answer) => client::publish_ack(answer).unwrap().refusal,
                Err(why) => Some(format!("publish: {why}")),
            };
            (due.elapsed(), failure)
        });
    }
    let (acks, failures) = answers(asked).await;
    Seen {
        acks,
        failures,
        ..Seen::default()
    }
}

async fn ping(client: StanClient, stop: CancellationToken) -> Seen {
    let subject = client.subjects.pings.to_string();
    let mut pace = pace(PING_EVERY);
    let mut asked = JoinSet::new();
    let client = Arc::new(client);
    while let Some(due) = next(&mut pace, &stop).await {
        let request = client::ping_request(client.connection_id.as_bytes());
        let (client, subject) = (Arc::clone(&client), subject.clone());
        asked.spawn(async move {
            let failure = match ask(&client, &subject, request).await {
                Ok(answer) => client::ping_response(answer)
                    .err()
                    .map(|why| why.to_string()),
                Err(why) => Some(why),
            };
            (due.elapsed(), failure.map(|why| format!("ping: {why}")))
        });
    }
    let (pings, failures) = answers(asked).await;
    Seen {
        pings,
        failures,
        ..Seen::default()
    }
}

fn pace(every: Duration) -> tokio::time::Interval {
    let mut pace = interval(every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    pace
}

/// How long each took, and what went wrong.
async fn answers(asked: JoinSet<(Duration, Option<String>)>) -> (Vec<Duration>, Vec<String>) {
    let (took, failures): (Vec<_>, Vec<_>) = asked.join_all().await.into_iter().unzip();
    (took, failures.into_iter().flatten().collect())
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
