//! The same loads on JetStream: a stream on disk without replicas, publishers that wait for its acks, consumers that ack each
//! message. Through the official client, below its JetStream layer, which waits for each publish in a task of its own.

use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};
use stanby::clock::Clock;
use stanby::core::time::Instant;
use tokio::task::LocalSet;

use crate::loads::{Load, MAX_IN_FLIGHT};
use crate::processes::cpu;

/// Messages that may wait in a subscription: more than any window holds.
const WAITING: usize = 1 << 18;
/// Who hears nothing for so long will not hear anything.
const SILENCE: Duration = Duration::from_secs(30);

struct Publisher {
    client: Client,
    subject: Subject,
    inbox: Subject,
    acks: Subscriber,
    payload: Bytes,
    window: u64,
}

struct Consumer {
    client: Client,
    messages: Subscriber,
}

/// What a phase found.
#[derive(Default)]
struct Found {
    messages: u64,
    last: Option<Instant>,
    /// Of publishes that wait for their ack one by one.
    latencies: Vec<Duration>,
}

/// As `stanby bench --json` tells it.
pub(crate) async fn run(url: &str, pid: u32, load: &Load, count: u64) -> anyhow::Result<Value> {
    LocalSet::new()
        .run_until(Box::pin(measure(url, pid, load, count)))
        .await
}

async fn measure(url: &str, pid: u32, load: &Load, count: u64) -> anyhow::Result<Value> {
    let client = connect(url).await?;
    let context = jetstream::new(client);
    let name = "compare";
    let config = stream::Config {
        name: name.to_owned(),
        subjects: vec!["compare.messages".to_owned()],
        storage: stream::StorageType::File,
        num_replicas: 1,
        ..stream::Config::default()
    };
    let stream = context.create_stream(config).await?;
    let mut publishers = Vec::new();
    for _ in 0..load.publishers {
        publishers.push(Publisher::connect(url, load).await?);
    }
    let mut consumers = Vec::new();
    for _ in 0..load.subscribers {
        consumers.push(Consumer::connect(url, &stream).await?);
    }
    let warm_up = count / 10;
    if warm_up > 0 {
        (publishers, consumers) = phase(publishers, consumers, warm_up).await?.0;
    }
    let pids = [("nats-server", pid), ("load", std::process::id())];
    let before = pids.map(|(_, pid)| cpu(pid));
    let started = now();
    let (_, published, delivered) = phase(publishers, consumers, count).await?;
    let after = pids.map(|(_, pid)| cpu(pid));
    context.delete_stream(name).await?;

    let mut latencies = published.latencies.clone();
    latencies.sort_unstable();
    let at = |share: usize| {
        let latency = latencies.get(latencies.len() * share / 100);
        latency.map(|latency| latency.as_secs_f64() * 1e6)
    };
    let processes: Vec<Value> = (pids.iter().zip(before).zip(after))
        .map(|(((name, pid), before), after)| {
            let micros = after.saturating_sub(before).as_secs_f64() * 1e6;
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            let per_message = micros / published.messages as f64;
            json!({ "name": name, "pid": pid, "cpu_per_message": per_message })
        })
        .collect();
    Ok(json!({
        "publish": {
            "messages": published.messages,
            "per_second": published.per_second(started),
            "latency": { "p50": at(50), "p99": at(99) },
        },
        "deliver": (load.subscribers > 0).then(|| json!({
            "messages": delivered.messages,
            "per_second": delivered.per_second(started),
        })),
        "processes": processes,
    }))
}

fn now() -> Instant {
    Clock.now().monotonic
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let options = ConnectOptions::new().subscription_capacity(WAITING);
    Ok(options.connect(url).await?)
}

/// All publish their share of `count` messages, and all consumers ack all of them.
async fn phase(
    publishers: Vec<Publisher>,
    consumers: Vec<Consumer>,
    count: u64,
) -> anyhow::Result<((Vec<Publisher>, Vec<Consumer>), Found, Found)> {
    let each = count / publishers.len() as u64;
    let total = each * publishers.len() as u64;
    let publishing: Vec<_> = publishers
        .into_iter()
        .map(|publisher| tokio::task::spawn_local(publisher.publish(each)))
        .collect();
    let consuming: Vec<_> = consumers
        .into_iter()
        .map(|consumer| tokio::task::spawn_local(consumer.consume(total)))
        .collect();
    let (mut published, mut delivered) = (Found::default(), Found::default());
    let (mut publishers, mut consumers) = (Vec::new(), Vec::new());
    for one in publishing {
        let (publisher, found) = one.await??;
        publishers.push(publisher);
        published.add(found);
    }
    for one in consuming {
        let (consumer, found) = one.await??;
        consumers.push(consumer);
        delivered.add(found);
    }
    Ok(((publishers, consumers), published, delivered))
}

impl Publisher {
    async fn connect(url: &str, load: &Load) -> anyhow::Result<Self> {
        let client = connect(url).await?;
        let inbox = Subject::from(client.new_inbox());
        let acks = client.subscribe(inbox.clone()).await?;
        client.flush().await?;
        // Noise, so that nothing is made smaller on the way.
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let payload = std::iter::repeat_with(|| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()[3]
        });
        Ok(Self {
            client,
            subject: Subject::from_static("compare.messages"),
            inbox,
            acks,
            payload: payload.take(load.size).collect(),
            window: load.window as u64,
        })
    }

    async fn publish(mut self, count: u64) -> anyhow::Result<(Self, Found)> {
        let mut found = Found::default();
        let mut sent = 0;
        let mut sent_at = now();
        while found.messages < count {
            while sent < count && sent - found.messages < self.window {
                if self.window == 1 {
                    sent_at = now();
                }
                let (subject, inbox) = (self.subject.clone(), self.inbox.clone());
                let payload = self.payload.clone();
                self.client
                    .publish_with_reply(subject, inbox, payload)
                    .await?;
                sent += 1;
            }
            let ack = tokio::time::timeout(SILENCE, self.acks.next()).await;
            let mut ack = ack.context("no ack came")?;
            // And those that came with it.
            while let Some(one) = ack {
                let refused = one.payload.windows(7).any(|part| part == b"\"error\"");
                let text = String::from_utf8_lossy(&one.payload);
                ensure!(!refused && !one.payload.is_empty(), "an ack says {text}");
                found.messages += 1;
                ack = self.acks.next().now_or_never().flatten();
            }
            let at = now();
            if self.window == 1 {
                found.latencies.push(at.since(sent_at));
            }
            found.last = Some(at);
        }
        Ok((self, found))
    }
}

impl Consumer {
    async fn connect(url: &str, stream: &stream::Stream) -> anyhow::Result<Self> {
        let client = connect(url).await?;
        let subject = client.new_inbox();
        let messages = client.subscribe(subject.clone()).await?;
        client.flush().await?;
        let config = push::Config {
            deliver_subject: subject,
            ack_policy: AckPolicy::Explicit,
            deliver_policy: DeliverPolicy::New,
            max_ack_pending: i64::try_from(MAX_IN_FLIGHT)?,
            ..push::Config::default()
        };
        stream.create_consumer(config).await?;
        Ok(Self { client, messages })
    }

    async fn consume(mut self, count: u64) -> anyhow::Result<(Self, Found)> {
        let mut found = Found::default();
        while found.messages < count {
            let message = tokio::time::timeout(SILENCE, self.messages.next()).await;
            let mut message = message.context("no message came")?;
            while let Some(one) = message {
                let inbox = one.reply.context("a message wants no ack")?;
                let ack = Bytes::from_static(b"+ACK");
                self.client.publish(inbox, ack).await?;
                found.messages += 1;
                message = self.messages.next().now_or_never().flatten();
            }
            found.last = Some(now());
        }
        self.client.flush().await?;
        Ok((self, found))
    }
}

impl Found {
    fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.last = self.last.max(other.last);
        self.latencies.extend(other.latencies);
    }

    fn per_second(&self, started: Instant) -> f64 {
        let took = self.last.map_or(Duration::ZERO, |last| last.since(started));
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let rate = self.messages as f64 / took.as_secs_f64();
        rate.round()
    }
}
