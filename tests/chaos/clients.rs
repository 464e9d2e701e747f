//! The applications of a world: they publish, receive, answer heartbeats and crash, and write down what they saw.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

#[path = "clients/crasher.rs"]
mod crasher;
#[path = "clients/publisher.rs"]
mod publisher;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt as _;
use stanby::protocol::client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::history::{Arrival, LiveClient, Outcome, Publish, Receiver};
use crate::stan::{StanClient, Subscription};
use crasher::Crasher;
use publisher::{Publisher, WINDOW, number_of};

pub(crate) const CHANNELS: [&str; 2] = ["orders", "payments"];

const PUBLISHERS: usize = 6;

/// Shared by all that write down.
#[derive(Clone)]
pub(crate) struct Recorder {
    since: Instant,
    publishes: Arc<Mutex<Vec<Publish>>>,
}

impl Recorder {
    pub(crate) fn start() -> Self {
        Self {
            since: Instant::now(),
            publishes: Arc::default(),
        }
    }

    /// Time of the run.
    pub(crate) fn now(&self) -> Duration {
        self.since.elapsed()
    }

    fn sent(&self, publish: Publish) -> usize {
        let mut publishes = self.publishes.lock().unwrap();
        publishes.push(publish);
        publishes.len() - 1
    }

    fn answered(&self, number: usize, outcome: Outcome) {
        let mut publishes = self.publishes.lock().unwrap();
        let known = &mut publishes[number].outcome;
        if !matches!(known, Outcome::Acked(_)) {
            *known = outcome;
        }
    }

    pub(crate) fn publishes(&self) -> Vec<Publish> {
        self.publishes.lock().unwrap().clone()
    }
}

pub(crate) struct Clients {
    cluster_id: String,
    nats_url: String,
    live: Vec<Arc<StanClient>>,
    receivers: Vec<(String, &'static str, Vec<Subscription>)>,
    publishers: JoinSet<()>,
    /// When each publisher last sent something that was acked.
    acked: Vec<(String, Arc<Mutex<Duration>>)>,
    paused: watch::Sender<bool>,
    stop: CancellationToken,
    /// Clients that crash over and over.
    crashers: JoinSet<u64>,
    pub(crate) recorder: Recorder,
}

impl Clients {
    /// Nineteen publishers, durables, members of queue groups, plain subscribers and one that crashes; and idle ones.
    pub(crate) async fn start(nats_url: &str, cluster_id: &str, idle: usize) -> Self {
        let mut clients = Self {
            cluster_id: cluster_id.to_owned(),
            nats_url: nats_url.to_owned(),
            live: Vec::new(),
            receivers: Vec::new(),
            publishers: JoinSet::new(),
            acked: Vec::new(),
            paused: watch::channel(false).0,
            stop: CancellationToken::new(),
            crashers: JoinSet::new(),
            recorder: Recorder::start(),
        };
        for (number, channel) in (1..=4).zip(CHANNELS.into_iter().cycle()) {
            let name = format!("durable-{number}");
            clients.receiver(&name, channel, "", &name, 1).await;
        }
        for (number, channel) in (1..=2).zip(CHANNELS) {
            let name = format!("workers-{number}");
            clients.receiver(&name, channel, &name, "", 3).await;
        }
        for (number, channel) in (1..=2).zip(CHANNELS) {
            let name = format!("plain-{number}");
            clients.receiver(&name, channel, "", "", 1).await;
        }
        for number in 1..=idle {
            clients.connect(&format!("idle-{number}")).await;
        }
        for (number, channel) in (1..=PUBLISHERS).zip(CHANNELS.into_iter().cycle()) {
            let window = if number % 3 == 0 { 1 } else { WINDOW };
            clients
                .publisher(&format!("publisher-{number}"), channel, window)
                .await;
        }
        clients.crasher("crasher");
        clients
    }

    async fn connect(&mut self, id: &str) -> Arc<StanClient> {
        let nats = connect(&self.nats_url).await.unwrap();
        let client = StanClient::connect(nats, &self.cluster_id, id).await;
        let client = Arc::new(client.unwrap());
        self.live.push(Arc::clone(&client));
        client
    }

    async fn receiver(
        &mut self,
        name: &str,
        channel: &'static str,
        queue: &str,
        durable: &str,
        members: usize,
    ) {
        let mut subscriptions = Vec::new();
        for member in 1..=members {
            let client = self.connect(&format!("{name}-{member}")).await;
            subscriptions.push(client.subscribe(channel, queue, durable).await.unwrap());
        }
        self.receivers
            .push((name.to_owned(), channel, subscriptions));
    }

    async fn publisher(&mut self, id: &str, channel: &'static str, window: usize) {
        let client = self.connect(id).await;
        let acked = Arc::default();
        self.acked.push((id.to_owned(), Arc::clone(&acked)));
        let publisher = Publisher {
            client,
            channel,
            window,
            recorder: self.recorder.clone(),
            acked,
        };
        let (paused, stop) = (self.paused.subscribe(), self.stop.clone());
        self.publishers.spawn(publisher.run(paused, stop));
    }

    /// One more durable, that wants everything from the first message on: its name and its channel.
    pub(crate) async fn late_durable(&mut self) -> (String, &'static str) {
        let number = self.receivers.len();
        let (name, channel) = (format!("late-{number}"), CHANNELS[number % CHANNELS.len()]);
        self.receiver(&name, channel, "", &name, 1).await;
        (name, channel)
    }

    /// How many sequences a receiver has got.
    pub(crate) fn distinct_arrivals(&self, name: &str) -> usize {
        let receivers = self.receivers.iter();
        let subscriptions = receivers
            .filter(|(known, ..)| known == name)
            .flat_map(|(_, _, subscriptions)| subscriptions);
        subscriptions.map(|it| it.sequences().len()).sum()
    }

    /// One more client publishes so many messages of so many bytes at once. All are on their way when it
    /// returns; the task ends when all of them have had an answer.
    pub(crate) async fn burst(&mut self, count: usize, bytes: usize) -> JoinSet<()> {
        let id = format!("burst-{}", self.live.len());
        let client = self.connect(&id).await;
        let inbox = client.nats.new_inbox();
        let mut answers = client.nats.subscribe(format!("{inbox}.*")).await.unwrap();
        let publisher = Publisher {
            client,
            channel: CHANNELS[0],
            window: count,
            recorder: self.recorder.clone(),
            acked: Arc::default(),
        };
        for number in 1..=count {
            let number = u64::try_from(number).unwrap();
            publisher.send(&inbox, number, bytes).await;
        }
        let mut answered = JoinSet::new();
        answered.spawn(async move {
            for _ in 0..count {
                let answer = answers.next().await.unwrap();
                let number = number_of(&answer);
                publisher
                    .recorder
                    .answered(number, publisher.outcome(answer));
            }
        });
        answered
    }

    fn crasher(&mut self, id: &str) {
        let crasher = Crasher {
            nats_url: self.nats_url.clone(),
            cluster_id: self.cluster_id.clone(),
            id: id.to_owned(),
            recorder: self.recorder.clone(),
        };
        self.crashers.spawn(crasher.run(self.stop.clone()));
    }

    /// Whether every publisher but those of the names has had an ack for something that it sent after `since`.
    pub(crate) fn all_acked_since(&self, without: &[&str], since: Duration) -> Result<(), String> {
        let late = self
            .acked
            .iter()
            .filter(|(id, acked)| {
                !without.contains(&id.as_str()) && *acked.lock().unwrap() <= since
            })
            .count();
        if late == 0 {
            return Ok(());
        }
        Err(format!("{late} publishers have had no ack since"))
    }

    /// Holds traffic back, or lets it go again.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    /// Ends the publishers; returns when all of them have their answers, or have waited long enough.
    pub(crate) async fn stop_publishing(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.publishers.join_next().await {
            ended.unwrap();
        }
        while let Some(crashes) = self.crashers.join_next().await {
            assert!(
                crashes.unwrap() > 0,
                "the client that crashes never connected"
            );
        }
    }

    /// What is missing at each receiver, of channels with so many messages.
    pub(crate) fn missing(&self, stored: &BTreeMap<&'static str, Vec<u64>>) -> Vec<String> {
        let mut missing = Vec::new();
        for (name, channel, subscriptions) in &self.receivers {
            let mut got = std::collections::BTreeSet::new();
            for subscription in subscriptions {
                got.extend(subscription.sequences());
            }
            let count = stored[channel]
                .iter()
                .filter(|sequence| !got.contains(sequence))
                .count();
            if count > 0 {
                missing.push(format!("{count} at {name}"));
            }
        }
        missing
    }

    pub(crate) fn receivers(&self) -> Vec<Receiver> {
        let arrivals = |subscription: &Subscription| {
            let received = subscription.received().into_iter();
            let arrival = |delivery: client::Delivery| Arrival {
                sequence: delivery.sequence,
                data: delivery.data,
                is_redelivered: delivery.redelivered,
            };
            received.map(arrival).collect()
        };
        let mut receivers = Vec::new();
        for (name, channel, subscriptions) in &self.receivers {
            receivers.push(Receiver {
                name: name.clone(),
                channel,
                members: subscriptions.iter().map(arrivals).collect(),
            });
        }
        receivers
    }

    /// Asks for each live client whether the server still knows it.
    pub(crate) async fn live(&self) -> Vec<LiveClient> {
        let mut live = Vec::new();
        for client in &self.live {
            live.push(LiveClient {
                client_id: client.id.clone(),
                connection_id: client.connection_id.clone(),
                ping: client.ping().await,
            });
        }
        live
    }
}

pub(crate) async fn connect(nats_url: &str) -> Result<Client, String> {
    async_nats::ConnectOptions::new()
        .reconnect_delay_callback(|_| Duration::from_millis(50))
        .connect(nats_url)
        .await
        .map_err(|error| error.to_string())
}
