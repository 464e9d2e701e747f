//! A client that publishes at its pace and records what was answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::StatusCode;
use bytes::Bytes;
use futures_util::StreamExt as _;
use stanby::protocol::client;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::Recorder;
use crate::history::{Outcome, Publish};
use crate::stan::StanClient;

/// One message each so often, and so many without an answer at once; every third publisher waits for each ack.
const PACE: Duration = Duration::from_millis(8);

pub(super) const WINDOW: usize = 24;

/// A publish without an answer no longer keeps its publisher from going on.
const PATIENCE: Duration = Duration::from_millis(400);

/// After the last publish: longer than any memory of a server.
const LAST_ANSWER_LIMIT: Duration = Duration::from_secs(8);

pub(super) struct Publisher {
    pub(super) client: Arc<StanClient>,
    pub(super) channel: &'static str,
    pub(super) window: usize,
    pub(super) recorder: Recorder,
    pub(super) acked: Arc<Mutex<Duration>>,
}

impl Publisher {
    pub(super) async fn run(self, mut paused: watch::Receiver<bool>, stop: CancellationToken) {
        let nats = &self.client.nats;
        let inbox = nats.new_inbox();
        let mut answers = nats.subscribe(format!("{inbox}.*")).await.unwrap();
        let mut open: BTreeMap<usize, (Duration, Instant)> = BTreeMap::new();
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0;
        let note = |message: async_nats::Message, open: &mut BTreeMap<_, (Duration, _)>| {
            let number = number_of(&message);
            let sent = open.remove(&number);
            let outcome = self.outcome(message);
            if let (Outcome::Acked(_), Some((sent_at, _))) = (&outcome, sent) {
                let mut acked = self.acked.lock().unwrap();
                *acked = sent_at.max(*acked);
            }
            self.recorder.answered(number, outcome);
        };
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                answer = answers.next() => note(answer.unwrap(), &mut open),
                _ = paused.changed() => {}
                _ = ticks.tick(), if !*paused.borrow() => {
                    open.retain(|_, (_, at)| at.elapsed() < PATIENCE);
                    if open.len() < self.window {
                        count += 1;
                        let (number, sent_at) = self.send(&inbox, count, 0).await;
                        open.insert(number, (sent_at, Instant::now()));
                    }
                }
            }
        }
        let last = async {
            while !open.is_empty() {
                note(answers.next().await.unwrap(), &mut open);
            }
        };
        timeout(LAST_ANSWER_LIMIT, last).await.ok();
    }

    /// Of at least so many bytes.
    pub(super) async fn send(&self, inbox: &str, count: u64, bytes: usize) -> (usize, Duration) {
        let guid = format!("{}-{count}", self.client.connection_id);
        let mut data = format!("message {count} of {}", self.client.id);
        data.push_str(&".".repeat(bytes.saturating_sub(data.len())));
        let data = Bytes::from(data);
        let sent_at = self.recorder.now();
        let number = self.recorder.sent(Publish {
            channel: self.channel,
            client_id: self.client.id.clone(),
            guid: guid.clone(),
            data: data.clone(),
            sent_at,
            outcome: Outcome::Silence,
            is_abandoned: false,
        });
        send(
            &self.client,
            self.channel,
            &guid,
            data,
            format!("{inbox}.{number}"),
        )
        .await;
        (number, sent_at)
    }

    pub(super) fn outcome(&self, message: async_nats::Message) -> Outcome {
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Outcome::NobodyListens;
        }
        let ack = client::publish_ack(message.payload).unwrap();
        match ack.refusal {
            Some(refusal) => Outcome::Refused(refusal),
            None => Outcome::Acked(self.recorder.now()),
        }
    }
}

/// Which publish it answers.
pub(super) fn number_of(answer: &async_nats::Message) -> usize {
    let last = answer.subject.rsplit('.').next();
    last.unwrap().parse().unwrap()
}

pub(super) async fn send(
    client: &StanClient,
    channel: &str,
    guid: &str,
    data: Bytes,
    reply: String,
) {
    let request = client::publish_request(client::Publish {
        client_id: &client.id,
        connection_id: client.connection_id.as_bytes(),
        guid,
        channel,
        data,
    });
    let subject = format!("{}.{channel}", client.subjects.publish_prefix);
    client
        .nats
        .publish_with_reply(subject, reply, request)
        .await
        .unwrap();
}
