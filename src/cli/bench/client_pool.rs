//! The clients of a run: connects them, gives each a connection to work on, and takes leave for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::anyhow;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;

use super::args::LoadArgs;
use super::line::Line;
use super::load::{Driver, Worker};
use super::publisher::{self, Publisher, Terms};
use super::subscriber::Subscriber;
use crate::cli::failure::Failure;
use crate::cli::stan_client::{self, StanClient, refused};
use crate::core::request::StartPosition;
use crate::core::time::Instant;
use crate::nats::{self, Connection};
use crate::node::nats_settings;
use crate::protocol::client;

/// Connects under way at once.
const CONNECTING_MAX: usize = 32;

const ACK_WAIT_SECONDS: i32 = 30;

pub(super) const DURABLE: &str = "bench";

#[derive(Debug)]
pub(super) struct ClientPool<'a> {
    args: &'a LoadArgs,
    settings: nats::Settings,
    /// For everything but messages and their acks.
    control: Connection,
    /// Makes names that nobody else has.
    pub(super) run: String,
    pub(super) channels: Vec<String>,
    publishers: Vec<StanClient>,
    subscribers: Vec<StanClient>,
    idle: Vec<StanClient>,
    /// What each channel is still to bring to each of its subscribers.
    awaited: Vec<(usize, Arc<AtomicU64>)>,
}

impl<'a> ClientPool<'a> {
    pub(super) async fn connect(args: &'a LoadArgs) -> Result<Self, Failure> {
        let config = args.nats.nats()?;
        let settings = nats_settings(&config, "stanby bench".to_owned());
        // First of all, because it says best why NATS cannot be used for this.
        let line = Line::connect(&settings).await?;
        if args.size + 1024 > line.max_payload() {
            let max = line.max_payload();
            return Err(Failure::Usage(anyhow!(
                "--size {} is too much for this NATS, which takes {max} bytes with everything around them; use less, \
                 or raise its max_payload",
                args.size
            )));
        }
        let control = stan_client::connect_nats(&config).await?;
        let run = stan_client::unique(&control);
        let prefix = match &args.channel_prefix {
            Some(prefix) => prefix.clone(),
            None => format!("bench.{run}"),
        };
        let mut pool = Self {
            args,
            settings,
            control,
            channels: args.channels(&prefix),
            run,
            publishers: Vec::new(),
            subscribers: Vec::new(),
            idle: Vec::new(),
            awaited: Vec::new(),
        };
        // One by one: the first one finds out whether anybody is active.
        let first = pool.clients("pub", 1).await?;
        pool.publishers.extend(first);
        let rest = pool.clients("pub", args.publishers).await?;
        pool.publishers.extend(rest);
        pool.subscribers = pool.clients("sub", args.subscribers).await?;
        pool.idle = pool.clients("idle", args.idle_clients).await?;
        Ok(pool)
    }

    /// Those up to `count` that are not there yet.
    async fn clients(&self, kind: &str, count: usize) -> Result<Vec<StanClient>, Failure> {
        let there = if kind == "pub" {
            self.publishers.len()
        } else {
            0
        };
        let connect = |number: usize| async move {
            // All equally long, so that their requests are.
            let id = format!("bench-{}-{kind}-{number:05}", self.run);
            let (flags, timeout) = (&self.args.nats, self.timeout());
            StanClient::over(self.control.clone(), flags, Some(&id), timeout).await
        };
        let connecting = stream::iter((there..count).map(connect));
        connecting.buffered(CONNECTING_MAX).try_collect().await
    }

    pub(super) fn timeout(&self) -> Duration {
        self.args.timeout.to_std()
    }

    /// One more connection.
    pub(super) async fn line(&self) -> Result<Line, Failure> {
        Line::connect(&self.settings).await
    }

    /// Publishers on connections of their own.
    pub(super) async fn publishers(&self) -> Result<Vec<Driver>, Failure> {
        let subjects: Vec<(String, String)> = {
            let prefix = &self.publishers[0].subjects.publish_prefix;
            let subject = |channel: &String| (channel.clone(), format!("{prefix}.{channel}"));
            self.channels.iter().map(subject).collect()
        };
        self.publishers_to(&subjects).await
    }

    /// As the publishers of the run, but to these subjects.
    pub(super) async fn publishers_to(
        &self,
        subjects: &[(String, String)],
    ) -> Result<Vec<Driver>, Failure> {
        let mut drivers = Vec::new();
        let mut number = 0;
        for clients in self.publishers.chunks(self.args.clients_per_connection) {
            let mut line = self.line().await?;
            let mut workers = Vec::with_capacity(clients.len());
            for client in clients {
                let inbox = self.control.new_subject();
                line.subscribe(&inbox, workers.len());
                let publisher = Publisher::new(&Terms {
                    client_id: &client.client_id,
                    connection_id: client.connection_id.as_bytes(),
                    guid_prefix: &publisher::guid_prefix(&self.run, number),
                    inbox: &inbox,
                    channels: subjects,
                    first_channel: number,
                    size: self.args.size,
                    window: self.args.window(),
                })?;
                workers.push(Worker::Publisher(Box::new(publisher)));
                number += 1;
            }
            line.round_trip().await?;
            drivers.push(Driver { line, workers });
        }
        Ok(drivers)
    }

    /// Subscribes; messages come from here on.
    pub(super) async fn subscribers(
        &mut self,
        start: StartPosition,
    ) -> Result<Vec<Driver>, Failure> {
        let mut drivers = Vec::new();
        let mut groups: BTreeMap<usize, Arc<AtomicU64>> = BTreeMap::new();
        let mut number = 0;
        for clients in self.subscribers.chunks(self.args.clients_per_connection) {
            let mut line = self.line().await?;
            let inboxes: Vec<String> = clients.iter().map(|_| self.control.new_subject()).collect();
            for (sid, inbox) in inboxes.iter().enumerate() {
                line.subscribe(inbox, sid);
            }
            line.round_trip().await?;
            let mut workers = Vec::with_capacity(clients.len());
            for (client, inbox) in clients.iter().zip(&inboxes) {
                let channel = number % self.channels.len();
                let ack_inbox = self.subscribe(client, channel, inbox, start).await?;
                let awaited = match &self.args.queue_group {
                    Some(_) => groups.entry(channel).or_default().clone(),
                    None => Arc::default(),
                };
                if self.args.queue_group.is_none() {
                    self.awaited.push((channel, Arc::clone(&awaited)));
                }
                let subscriber = Subscriber::new(
                    client.client_id.clone(),
                    self.channels[channel].clone(),
                    ack_inbox,
                    self.args.queue_group.is_some(),
                    awaited,
                );
                workers.push(Worker::Subscriber(Box::new(subscriber)));
                number += 1;
            }
            drivers.push(Driver { line, workers });
        }
        self.awaited.extend(groups);
        Ok(drivers)
    }

    async fn subscribe(
        &self,
        client: &StanClient,
        channel: usize,
        inbox: &str,
        start: StartPosition,
    ) -> Result<String, Failure> {
        let request = client::subscribe_request(&client::Subscribe {
            client_id: &client.client_id,
            channel: &self.channels[channel],
            inbox,
            queue_group: self.args.queue_group.as_deref().unwrap_or_default(),
            durable_name: if self.args.durable { DURABLE } else { "" },
            max_in_flight: self.args.max_in_flight,
            ack_wait_seconds: ACK_WAIT_SECONDS,
            start,
        });
        let answer = client.ask(&client.subjects.subscribe, request).await?;
        let ack_inbox = client::subscribe_response(answer).map_err(refused)?;
        Ok(ack_inbox.to_string())
    }

    /// Tells everybody that a phase begins, and publishers how much of `messages` is theirs. How many go to each
    /// channel.
    pub(super) fn begin(&self, drivers: &mut [Driver], messages: u64, now: Instant) -> Vec<u64> {
        let publishers = self.args.publishers as u64;
        let mut per_channel = vec![0; self.channels.len()];
        let mut number = 0;
        for worker in drivers.iter_mut().flat_map(|one| &mut one.workers) {
            match worker {
                Worker::Publisher(publisher) => {
                    let share = messages / publishers + u64::from(number < messages % publishers);
                    let first = publisher.begin(share, now);
                    let counts = publisher::per_channel(share, first, per_channel.len());
                    for (sum, count) in per_channel.iter_mut().zip(counts) {
                        *sum += count;
                    }
                    number += 1;
                }
                Worker::Subscriber(subscriber) => subscriber.begin(now),
            }
        }
        per_channel
    }

    /// So many messages are to come to each subscriber, or group, of a channel.
    pub(super) fn expect(&self, per_channel: &[u64]) {
        for (channel, awaited) in &self.awaited {
            awaited.store(per_channel[*channel], Relaxed);
        }
    }

    /// What ends when the server has lost one of the clients.
    pub(super) fn keep_alives(&mut self) -> Vec<JoinSet<Failure>> {
        let all = self.publishers.iter_mut().chain(&mut self.subscribers);
        all.chain(&mut self.idle)
            .map(StanClient::take_keep_alive)
            .collect()
    }

    /// Takes leave, and forgets the durables.
    pub(super) async fn close(self, drivers: Vec<Driver>) -> Result<(), Failure> {
        if self.args.durable {
            let subscribers = drivers.into_iter().flat_map(|one| one.workers);
            for worker in subscribers {
                if let Worker::Subscriber(subscriber) = worker {
                    self.forget(&subscriber).await?;
                }
            }
        }
        let all = self.publishers.into_iter().chain(self.subscribers);
        let closing = stream::iter(all.chain(self.idle).map(Ok));
        closing
            .try_for_each_concurrent(CONNECTING_MAX, StanClient::close)
            .await
    }

    async fn forget(&self, subscriber: &Subscriber) -> Result<(), Failure> {
        let client = &self.publishers[0];
        let request = client::leave_request(
            &subscriber.client_id,
            &subscriber.channel,
            &subscriber.ack_inbox,
        );
        let answer = client.ask(&client.subjects.unsubscribe, request).await?;
        client::leave_response(answer).map_err(refused)
    }
}
