//! A client of NATS Streaming for tests: it connects once, answers heartbeats, and never sends anything twice.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Client, Request, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use stanby::core::request::StartPosition;
use stanby::protocol::client::{self, Connected, Delivery};
use stanby::protocol::subjects::Prefixes;
use stanby::protocol::{Subjects, client as wire};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

#[path = "stan/holding.rs"]
mod holding;

/// What a subscription asks for that is not told how many.
pub(crate) const MAX_IN_FLIGHT: u8 = 64;

/// Longer than any takeover in these tests.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct StanClient {
    pub(crate) nats: Client,
    pub(crate) id: String,
    pub(crate) connection_id: String,
    pub(crate) subjects: Connected,
    pub(crate) heartbeat_inbox: String,
    heartbeats: Arc<AtomicU64>,
    /// Inboxes of what it holds. A server ends a subscription that nobody listens to, where its answer came late.
    held: Mutex<Vec<Subscriber>>,
    /// Ends with the client.
    _alive: JoinSet<()>,
}

impl StanClient {
    /// The error is the server's refusal, or why there was no answer.
    pub(crate) async fn connect(nats: Client, cluster_id: &str, id: &str) -> Result<Self, String> {
        let discover = Subjects::new(cluster_id, &Prefixes::default()).unwrap();
        let heartbeat_inbox = nats.new_inbox();
        let mut probes = nats.subscribe(heartbeat_inbox.clone()).await.unwrap();
        let connection_id = nats.new_inbox();
        let heartbeats = Arc::new(AtomicU64::new(0));
        let mut alive = JoinSet::new();
        alive.spawn({
            let (nats, heartbeats) = (nats.clone(), Arc::clone(&heartbeats));
            async move {
                while let Some(probe) = probes.next().await {
                    if let Some(reply) = probe.reply {
                        heartbeats.fetch_add(1, Ordering::Relaxed);
                        nats.publish(reply, Bytes::new()).await.ok();
                    }
                }
            }
        });
        let request = wire::connect_request(&wire::Connect {
            client_id: id,
            heartbeat_inbox: &heartbeat_inbox,
            protocol: 1,
            connection_id: connection_id.as_bytes(),
            ping_interval: 5,
            ping_max_out: 3,
        });
        let answer = ask(&nats, discover.discover(), request).await?;
        let subjects = wire::connect_response(answer).map_err(|error| error.to_string())?;
        Ok(Self {
            nats,
            id: id.to_owned(),
            connection_id,
            subjects,
            heartbeat_inbox,
            heartbeats,
            held: Mutex::default(),
            _alive: alive,
        })
    }

    pub(crate) fn heartbeats(&self) -> u64 {
        self.heartbeats.load(Ordering::Relaxed)
    }

    /// Whether the server still knows this connection.
    pub(crate) async fn ping(&self) -> Result<(), String> {
        let request = wire::ping_request(self.connection_id.as_bytes());
        let answer = ask(&self.nats, &self.subjects.pings, request).await?;
        wire::ping_response(answer).map_err(|error| error.to_string())
    }

    pub(crate) async fn close(self) -> Result<(), String> {
        let request = wire::close_request(&self.id);
        let answer = ask(&self.nats, &self.subjects.close_client, request).await?;
        wire::close_response(answer).map_err(|error| error.to_string())
    }

    /// Sends a close and leaves without waiting for the answer.
    pub(crate) async fn close_unheard(self) {
        let request = wire::close_request(&self.id);
        let inbox = self.nats.new_inbox();
        let to = self.subjects.close_client.to_string();
        self.nats
            .publish_with_reply(to, inbox, request)
            .await
            .unwrap();
        self.nats.flush().await.unwrap();
    }

    pub(crate) async fn publisher(&self, channel: &str) -> Publisher {
        let inbox = self.nats.new_inbox();
        let acks = self.nats.subscribe(inbox.clone()).await.unwrap();
        Publisher {
            nats: self.nats.clone(),
            client_id: self.id.clone(),
            connection_id: self.connection_id.clone(),
            channel: channel.to_owned(),
            subject: format!("{}.{channel}", self.subjects.publish_prefix),
            inbox,
            acks,
            waiting: BTreeSet::new(),
            published: Published::default(),
            progress: Arc::default(),
        }
    }

    /// Subscribes, and acks everything that comes. `queue` and `durable` may be empty.
    pub(crate) async fn subscribe(
        &self,
        channel: &str,
        queue: &str,
        durable: &str,
    ) -> Result<Subscription, String> {
        let inbox = self.nats.new_inbox();
        let mut messages = self.nats.subscribe(inbox.clone()).await.unwrap();
        let request = client::subscribe_request(&client::Subscribe {
            client_id: &self.id,
            channel,
            inbox: &inbox,
            queue_group: queue,
            durable_name: durable,
            max_in_flight: MAX_IN_FLIGHT.into(),
            ack_wait_seconds: 1,
            start: StartPosition::First,
        });
        let answer = ask(&self.nats, &self.subjects.subscribe, request).await?;
        let ack_inbox =
            client::subscribe_response(answer).map_err(|refusal| refusal.to_string())?;
        let received: Arc<Mutex<Vec<Delivery>>> = Arc::default();
        let mut acking = JoinSet::new();
        acking.spawn({
            let (nats, received) = (self.nats.clone(), Arc::clone(&received));
            async move {
                while let Some(message) = messages.next().await {
                    let delivery = client::delivery(message.payload).unwrap();
                    let ack = client::ack(&delivery.channel, delivery.sequence);
                    received.lock().unwrap().push(delivery);
                    nats.publish(ack_inbox.to_string(), ack).await.ok();
                }
            }
        });
        Ok(Subscription {
            received,
            _acking: acking,
        })
    }
}

impl StanClient {
    /// Subscribes from the first message on, and acks what it is told to. `queue` and `durable` may be empty.
    pub(crate) async fn take(
        &self,
        channel: &str,
        (queue, durable): (&str, &str),
        max_in_flight: i32,
    ) -> Taker {
        self.take_for(channel, (queue, durable), max_in_flight, 300)
            .await
    }

    /// The same with an ack wait, in seconds.
    pub(crate) async fn take_for(
        &self,
        channel: &str,
        (queue, durable): (&str, &str),
        max_in_flight: i32,
        ack_wait_seconds: i32,
    ) -> Taker {
        let inbox = self.nats.new_inbox();
        let messages = self.nats.subscribe(inbox.clone()).await.unwrap();
        let request = client::subscribe_request(&client::Subscribe {
            client_id: &self.id,
            channel,
            inbox: &inbox,
            queue_group: queue,
            durable_name: durable,
            max_in_flight,
            ack_wait_seconds,
            start: StartPosition::First,
        });
        let answer = ask(&self.nats, &self.subjects.subscribe, request).await;
        let ack_inbox = client::subscribe_response(answer.unwrap()).unwrap();
        Taker {
            nats: self.nats.clone(),
            channel: channel.to_owned(),
            inbox,
            ack_inbox: ack_inbox.to_string(),
            messages,
            received: BTreeMap::new(),
        }
    }
}

/// Receives, and acks what it is told to.
pub(crate) struct Taker {
    nats: Client,
    channel: String,
    pub(crate) inbox: String,
    ack_inbox: String,
    messages: Subscriber,
    /// How often each sequence came. Who goes on for hours empties it.
    pub(crate) received: BTreeMap<u64, usize>,
}

impl Taker {
    /// Waits until so many different messages have come; returns their sequences.
    pub(crate) async fn wait_for(&mut self, count: usize) -> Vec<u64> {
        while self.received.len() < count {
            let next = timeout(ANSWER_LIMIT, self.messages.next()).await;
            let next = next.unwrap_or_else(|_| panic!("{count} are to come: {:?}", self.received));
            let delivery = client::delivery(next.unwrap().payload).unwrap();
            *self.received.entry(delivery.sequence).or_default() += 1;
        }
        self.received.keys().copied().collect()
    }

    /// The next one that comes within this time: its sequence and its payload.
    pub(crate) async fn next(&mut self, limit: Duration) -> Option<(u64, String)> {
        let next = timeout(limit, self.messages.next()).await.ok()??;
        let delivery = client::delivery(next.payload).unwrap();
        *self.received.entry(delivery.sequence).or_default() += 1;
        let payload = String::from_utf8_lossy(&delivery.data).into_owned();
        Some((delivery.sequence, payload))
    }

    /// How often it came.
    pub(crate) fn times(&self, sequence: u64) -> usize {
        self.received.get(&sequence).copied().unwrap_or_default()
    }

    /// What came more than once.
    pub(crate) fn again(&self) -> BTreeSet<u64> {
        let again = self.received.iter().filter(|(_, times)| **times > 1);
        again.map(|(&sequence, _)| sequence).collect()
    }

    pub(crate) async fn ack(&self, sequence: u64) {
        let ack = client::ack(&self.channel, sequence);
        let to = self.ack_inbox.clone();
        self.nats.publish(to, ack).await.unwrap();
        self.nats.flush().await.unwrap();
    }
}

async fn ask(nats: &Client, subject: &str, request: Bytes) -> Result<Bytes, String> {
    let request = Request::new().payload(request).timeout(Some(ANSWER_LIMIT));
    nats.send_request(subject.to_owned(), request)
        .await
        .map(|answer| answer.payload)
        .map_err(|error| error.to_string())
}

/// Receives until it is dropped.
pub(crate) struct Subscription {
    received: Arc<Mutex<Vec<Delivery>>>,
    _acking: JoinSet<()>,
}

impl Subscription {
    pub(crate) fn received(&self) -> Vec<Delivery> {
        self.received.lock().unwrap().clone()
    }

    /// What came, without what came again.
    pub(crate) fn sequences(&self) -> BTreeSet<u64> {
        let received = self.received.lock().unwrap();
        received.iter().map(|delivery| delivery.sequence).collect()
    }
}

/// What was sent and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// By GUID; each sent once.
    pub(crate) sent: BTreeMap<String, Bytes>,
    pub(crate) acked: BTreeSet<String>,
    /// Refusals, and what NATS says when no server listens.
    pub(crate) errors: Vec<String>,
}

pub(crate) struct Publisher {
    nats: Client,
    client_id: String,
    connection_id: String,
    channel: String,
    subject: String,
    /// Where acks come to.
    pub(crate) inbox: String,
    acks: Subscriber,
    waiting: BTreeSet<String>,
    published: Published,
    /// Acks.
    progress: Arc<AtomicU64>,
}

impl Publisher {
    /// Publishes the next message, once.
    pub(crate) async fn send(&mut self) {
        self.send_of(0).await;
    }

    /// The same with at least so many bytes.
    pub(crate) async fn send_of(&mut self, bytes: usize) {
        let number = self.published.sent.len() + 1;
        let guid = format!("{}-{number}", self.inbox);
        let mut data = format!("message {number} of {}", self.client_id);
        data.push_str(&".".repeat(bytes.saturating_sub(data.len())));
        let data = Bytes::from(data);
        let request = client::publish_request(client::Publish {
            client_id: &self.client_id,
            connection_id: self.connection_id.as_bytes(),
            guid: &guid,
            channel: &self.channel,
            data: data.clone(),
        });
        self.nats
            .publish_with_reply(self.subject.clone(), self.inbox.clone(), request)
            .await
            .unwrap();
        self.waiting.insert(guid.clone());
        self.published.sent.insert(guid, data);
    }

    /// Returns when NATS has what was sent.
    pub(crate) async fn flush(&self) {
        self.nats.flush().await.unwrap();
    }

    /// Waits until everything that was sent is acked.
    pub(crate) async fn take_all_acks(&mut self) {
        while !self.waiting.is_empty() {
            assert!(self.take_ack(ANSWER_LIMIT).await, "{:?}", self.waiting);
        }
    }

    /// Waits for an ack; false when none came within `limit`.
    pub(crate) async fn take_ack(&mut self, limit: Duration) -> bool {
        let Ok(answer) = timeout(limit, self.acks.next()).await else {
            return false;
        };
        self.note(answer.unwrap());
        true
    }

    /// Takes the acks that are there.
    pub(crate) async fn take_acks(&mut self) {
        while self.take_ack(Duration::ZERO).await {}
    }

    fn note(&mut self, answer: async_nats::Message) {
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            let error = "no server listens".to_owned();
            return self.published.errors.push(error);
        }
        let ack = client::publish_ack(answer.payload).unwrap();
        if let Some(refusal) = ack.refusal {
            return self.published.errors.push(refusal);
        }
        let guid = ack.guid.to_string();
        self.waiting.remove(&guid);
        if self.published.acked.insert(guid) {
            self.progress.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn published(&self) -> &Published {
        &self.published
    }

    /// Publishes until one message is acked, as an application does that was told of no success: each time a new
    /// message.
    pub(crate) async fn send_until_acked(&mut self, limit: Duration) {
        let trying = async {
            loop {
                let before = self.published.acked.len();
                self.send().await;
                while self.take_ack(Duration::from_millis(250)).await {
                    if self.published.acked.len() > before {
                        return;
                    }
                }
            }
        };
        let tried = timeout(limit, trying).await;
        let errors = &self.published.errors;
        assert!(tried.is_ok(), "no ack within {limit:?}: {errors:?}");
    }

    /// Keeps `window` messages under way until it is stopped, then waits for the acks of all of them.
    async fn run(mut self, window: usize, stop: CancellationToken) -> Published {
        while !stop.is_cancelled() {
            while self.waiting.len() < window {
                self.send().await;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                answer = self.acks.next() => self.note(answer.unwrap()),
            }
        }
        while !self.waiting.is_empty() && self.take_ack(ANSWER_LIMIT).await {}
        self.published
    }
}

/// Publishers at work.
pub(crate) struct Load {
    publishers: JoinSet<Published>,
    progress: Vec<Arc<AtomicU64>>,
    stop: CancellationToken,
}

impl Load {
    pub(crate) fn start(publishers: impl IntoIterator<Item = Publisher>, window: usize) -> Self {
        let mut load = Self {
            publishers: JoinSet::new(),
            progress: Vec::new(),
            stop: CancellationToken::new(),
        };
        for publisher in publishers {
            load.progress.push(Arc::clone(&publisher.progress));
            let stop = load.stop.clone();
            load.publishers.spawn(publisher.run(window, stop));
        }
        load
    }

    /// Acks of the publisher that has the fewest.
    pub(crate) fn acked(&self) -> u64 {
        let acked = self
            .progress
            .iter()
            .map(|acks| acks.load(Ordering::Relaxed));
        acked.min().unwrap_or(0)
    }

    /// Stops sending, waits for what is under way, and puts together what all publishers did.
    pub(crate) async fn finish(self) -> Published {
        self.stop.cancel();
        let mut all = Published::default();
        for published in self.publishers.join_all().await {
            all.sent.extend(published.sent);
            all.acked.extend(published.acked);
            all.errors.extend(published.errors);
        }
        all
    }
}
