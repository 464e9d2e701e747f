//! Clients that publish without ever waiting for an answer.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use stanby::protocol::client;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::stage::Stage;
use crate::stan::StanClient;

/// What a client publishes, without ever waiting for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    subject: &'static str,
    channel: &'static str,
    bytes: usize,
    /// Different ones.
    guids: u64,
    /// `None`: as many as NATS takes.
    per_second: Option<u32>,
}

pub(super) const REPEATED: Stream = Stream {
    subject: "guids",
    channel: "guids",
    bytes: 100,
    guids: 4,
    per_second: Some(500),
};

pub(super) const OTHER_CHANNEL: Stream = Stream {
    subject: "mine",
    channel: "other",
    bytes: 100,
    guids: u64::MAX,
    per_second: Some(500),
};

pub(super) const FOR_ONE_INBOX: Stream = Stream {
    subject: "one-inbox",
    channel: "one-inbox",
    bytes: 100,
    guids: u64::MAX,
    per_second: Some(20),
};

pub(super) const FLOOD: Stream = Stream {
    subject: "flood",
    channel: "flood",
    bytes: 1_000_000,
    guids: u64::MAX,
    per_second: None,
};

pub(super) const SMALL_FLOOD: Stream = Stream {
    subject: "small",
    channel: "small",
    bytes: 10,
    guids: u64::MAX,
    per_second: None,
};

pub(super) async fn publishers(stage: &Arc<Stage>, count: usize, stream: Stream) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let client = stage.client(&format!("hostile-{number}")).await;
        tasks.spawn(publish(client, stream));
    }
    tasks
}

pub(super) async fn publish(client: StanClient, stream: Stream) {
    let to = format!("{}.{}", client.subjects.publish_prefix, stream.subject);
    let data = Bytes::from(vec![b'x'; stream.bytes]);
    let nats: Client = client.nats.clone();
    let mut pace = stream
        .per_second
        .map(|rate| interval(Duration::from_secs(1) / rate));
    for number in 0_u64.. {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let request = client::publish_request(client::Publish {
            client_id: &client.id,
            connection_id: client.connection_id.as_bytes(),
            guid: &format!("{}-{}", client.connection_id, number % stream.guids),
            channel: stream.channel,
            data: data.clone(),
        });
        let answer = nats.new_inbox();
        let sent = nats.publish_with_reply(to.clone(), answer, request);
        if sent.await.is_err() {
            return;
        }
        // The library's own queue is no hostile client.
        if number.is_multiple_of(64) && nats.flush().await.is_err() {
            return;
        }
    }
}
