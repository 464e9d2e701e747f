//! What hostile clients do. Nothing here is against the protocol.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use stanby::protocol::client;
use tokio::task::JoinSet;

use super::stage::{Filling, SINK, Stage};
use super::streams::{
    FLOOD, FOR_ONE_INBOX, OTHER_CHANNEL, REPEATED, SMALL_FLOOD, publish, publishers,
};
use super::{crowds, noise, pages};
use crate::stan::StanClient;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nobody there who does anything: what the others are measured against.
    Nobody,
    /// 20 subscriptions with 100,000 messages in flight each, an ack wait of a second, and no ack.
    MassUnacked,
    /// 100 subscriptions of which each second message is acked.
    SparseAcks,
    /// 16 subscriptions with 100,000 ranges of acked messages each.
    WideSparseAcks,
    /// 1,500 publishes with a mebibyte in `reply` and no data.
    HugeReplies,
    /// 1,024 messages of a mebibyte for one subscriber, over a link of 6 MB/s.
    SlowLink,
    /// 1,000 subscriptions of one client on one inbox.
    OneInbox,
    /// The same few guids over and over.
    RepeatedGuids,
    /// Payloads that name another channel than their subject.
    OtherChannel,
    /// Clients that connect and leave, and others that take their IDs.
    ReconnectStorm,
    /// Visitors of the pages who read nothing, or send a byte now and then.
    SlowPages,
    /// Publishes of a mebibyte, as fast as they go.
    Flood,
    /// Publishes of a few bytes, as fast as they go.
    SmallFlood,
    /// 20,000 subscriptions of one client, and its close; over and over.
    OpenAndClose,
    /// 20,000 durables with names and inboxes as long as they may be.
    LongNames,
    /// A queue group of 1,000 members with 100,000 messages in flight, and no ack.
    QueueCrowd,
    /// Subscribes and unsubscribes that wait for no answer.
    Unsubscribes,
    /// A new client with a new durable each time.
    NewDurables,
    /// 1,000 clients that answer no heartbeat.
    Silent,
    /// 50,000 clients with names as long as they may be, as fast as they may connect.
    Connects,
    /// Payloads and names that mean nothing.
    Invalid,
    /// Pings as fast as they go.
    Pings,
    /// Acks for any sequence as fast as they go.
    Acks,
    /// Publishes and unsubscribes in turn, as fast as they go.
    Barriers,
    /// 500 channels a second, which are deleted when nobody uses them.
    NewChannels,
    /// Answers and deliveries that are wanted where servers listen.
    Reflections,
}

impl Kind {
    pub(crate) const ALL: [Self; 26] = [
        Self::Nobody,
        Self::MassUnacked,
        Self::SparseAcks,
        Self::WideSparseAcks,
        Self::HugeReplies,
        Self::SlowLink,
        Self::OneInbox,
        Self::RepeatedGuids,
        Self::OtherChannel,
        Self::ReconnectStorm,
        Self::SlowPages,
        Self::Flood,
        Self::SmallFlood,
        Self::OpenAndClose,
        Self::LongNames,
        Self::QueueCrowd,
        Self::Unsubscribes,
        Self::NewDurables,
        Self::Silent,
        Self::Connects,
        Self::Invalid,
        Self::Pings,
        Self::Acks,
        Self::Barriers,
        Self::NewChannels,
        Self::Reflections,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::MassUnacked => "mass-unacked",
            Self::SparseAcks => "sparse-acks",
            Self::WideSparseAcks => "wide-sparse-acks",
            Self::HugeReplies => "huge-replies",
            Self::SlowLink => "slow-link",
            Self::OneInbox => "one-inbox",
            Self::RepeatedGuids => "repeated-guids",
            Self::OtherChannel => "other-channel",
            Self::ReconnectStorm => "reconnect-storm",
            Self::SlowPages => "slow-pages",
            Self::Flood => "flood",
            Self::SmallFlood => "small-flood",
            Self::OpenAndClose => "open-and-close",
            Self::LongNames => "long-names",
            Self::QueueCrowd => "queue-crowd",
            Self::Unsubscribes => "unsubscribes",
            Self::NewDurables => "new-durables",
            Self::Silent => "silent",
            Self::Connects => "connects",
            Self::Invalid => "invalid",
            Self::Pings => "pings",
            Self::Acks => "acks",
            Self::Barriers => "barriers",
            Self::NewChannels => "new-channels",
            Self::Reflections => "reflections",
        }
    }

    /// `scale` is 1 for all of it, and more for so much less.
    pub(crate) fn filling(self, scale: u64) -> Option<Filling> {
        let filling = |channels, messages, message_bytes, durables| {
            Some(Filling {
                channels,
                messages,
                message_bytes,
                durables,
            })
        };
        match self {
            Self::MassUnacked | Self::QueueCrowd | Self::Acks => {
                filling(1, 100_000 / scale, 100, 0)
            }
            Self::SparseAcks => filling(1, 2 * 1024 * 10 / scale, 100, 0),
            Self::WideSparseAcks => filling(1, 200_000 / scale, 100, 0),
            Self::SlowLink => filling(1, 1024 / scale, 1_000_000, 0),
            Self::SlowPages => filling(10_000 / scale, 1, 1, 2),
            Self::Nobody
            | Self::HugeReplies
            | Self::OneInbox
            | Self::RepeatedGuids
            | Self::OtherChannel
            | Self::ReconnectStorm
            | Self::Flood
            | Self::SmallFlood
            | Self::OpenAndClose
            | Self::LongNames
            | Self::Unsubscribes
            | Self::NewDurables
            | Self::Silent
            | Self::Connects
            | Self::Invalid
            | Self::Pings
            | Self::Barriers
            | Self::NewChannels
            | Self::Reflections => None,
        }
    }

    /// Of the servers.
    pub(crate) fn flags(self) -> &'static [&'static str] {
        #[expect(clippy::wildcard_enum_match_arm, reason = "most do with the defaults")]
        match self {
            Self::Silent => &["--hb-interval", "2s", "--hb-timeout", "1s"],
            Self::NewChannels => &["--max-inactivity", "1s"],
            _ => &[],
        }
    }

    /// Returns when they are at it. They stop with the set.
    pub(crate) async fn begin(self, stage: &Arc<Stage>, scale: u64) -> JoinSet<()> {
        let in_flight = |count: u64| i32::try_from(count / scale).unwrap();
        match self {
            Self::Nobody => JoinSet::new(),
            Self::MassUnacked => {
                subscribers(stage, 20, in_flight(100_000), Duration::from_secs(1)).await
            }
            Self::SparseAcks => sparse(stage, 100, in_flight(1024 * 10)).await,
            Self::WideSparseAcks => sparse(stage, 16, in_flight(200_000)).await,
            Self::HugeReplies => huge_replies(stage, 1500 / scale).await,
            Self::SlowLink => {
                stage.narrow_link(6_000_000);
                subscribers(stage, 1, in_flight(1024), Duration::from_secs(30)).await
            }
            Self::OneInbox => one_inbox(stage, 1000 / scale).await,
            Self::RepeatedGuids => publishers(stage, 4, REPEATED).await,
            Self::OtherChannel => publishers(stage, 4, OTHER_CHANNEL).await,
            Self::ReconnectStorm => reconnect_storm(stage, 48 / scale.min(8)),
            Self::SlowPages => pages::visitors(stage, scale).await,
            Self::Flood => publishers(stage, 8, FLOOD).await,
            Self::SmallFlood => publishers(stage, 4, SMALL_FLOOD).await,
            Self::OpenAndClose => crowds::open_and_close(stage, 20 / scale.min(20)),
            Self::LongNames => crowds::long_names(stage, 20 / scale.min(20)).await,
            Self::QueueCrowd => crowds::queue(stage, 1000 / scale).await,
            Self::Unsubscribes => crowds::come_and_go(stage, 8 / scale.min(8)).await,
            Self::NewDurables => crowds::new_durables(stage, 48 / scale.min(8)),
            Self::Silent => crowds::silent(stage, 1000 / scale, 20).await,
            Self::Connects => crowds::silent(stage, 50_000 / scale, 1000).await,
            Self::Invalid => noise::invalid(stage, 4 / scale.min(2)).await,
            Self::Pings => noise::pings(stage, 4 / scale.min(2)).await,
            Self::Acks => noise::acks(stage, 20 / scale.min(10), 100_000 / scale).await,
            Self::Barriers => noise::barriers(stage, 4 / scale.min(2)).await,
            Self::NewChannels => {
                let per_second = u32::try_from(500 / scale.min(10)).unwrap();
                noise::new_channels(stage, per_second).await
            }
            Self::Reflections => noise::reflections(stage, 1000).await,
        }
    }
}

fn keep(tasks: &mut JoinSet<()>, client: StanClient) {
    tasks.spawn(async move {
        let _client = client;
        std::future::pending::<()>().await;
    });
}

/// From clients of their own.
async fn subscribers(
    stage: &Arc<Stage>,
    count: usize,
    max_in_flight: i32,
    ack_wait: Duration,
) -> JoinSet<()> {
    let mut tasks = stage.sink().await;
    for number in 0..count {
        let client = stage.client(&format!("hostile-{number}")).await;
        let inbox = format!("{SINK}.{number}");
        let subscribed = stage.subscribe(&client, "filled.1", &inbox, max_in_flight, ack_wait);
        subscribed.await.unwrap();
        keep(&mut tasks, client);
    }
    tasks
}

/// Each message with an even sequence is acked, and so many are in flight at once.
async fn sparse(stage: &Arc<Stage>, count: usize, max_in_flight: i32) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let client = stage.client(&format!("hostile-{number}")).await;
        let inbox = client.nats.new_inbox();
        let mut messages = client.nats.subscribe(inbox.clone()).await.unwrap();
        let ack_wait = Duration::from_secs(30);
        let subscribed = stage.subscribe(&client, "filled.1", &inbox, max_in_flight, ack_wait);
        let ack_inbox = subscribed.await.unwrap();
        tasks.spawn(async move {
            let client = client;
            while let Some(message) = messages.next().await {
                let delivery = client::delivery(message.payload).unwrap();
                if delivery.sequence.is_multiple_of(2) {
                    let ack = client::ack(&delivery.channel, delivery.sequence);
                    client.nats.publish(ack_inbox.clone(), ack).await.ok();
                }
            }
        });
    }
    tasks
}

async fn huge_replies(stage: &Arc<Stage>, count: u64) -> JoinSet<()> {
    const REPLY_BYTES: usize = 1_000_000;
    let client = stage.client("hostile").await;
    let subject = format!("{}.replies", client.subjects.publish_prefix);
    let nats = client.nats.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for number in 0..count {
            let request = client::publish_request(client::Publish {
                client_id: &client.id,
                connection_id: client.connection_id.as_bytes(),
                guid: &format!("{}-{number}", client.connection_id),
                channel: "replies",
                data: Bytes::new(),
            });
            let request = with_reply(&request, REPLY_BYTES);
            let answer = nats.new_inbox();
            let sent = nats.publish_with_reply(subject.clone(), answer, request);
            if sent.await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    });
    tasks
}

/// The request with a subject for answers, which the library for clients has no use for.
fn with_reply(request: &Bytes, bytes: usize) -> Bytes {
    const FIELD_4_OF_BYTES: u8 = 0x22;
    let mut changed = BytesMut::from(&request[..]);
    changed.put_u8(FIELD_4_OF_BYTES);
    let mut rest = bytes;
    while rest >= 0x80 {
        changed.put_u8(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    changed.put_u8(u8::try_from(rest).unwrap());
    changed.put_bytes(b'x', bytes);
    changed.freeze()
}

async fn one_inbox(stage: &Arc<Stage>, count: u64) -> JoinSet<()> {
    let mut tasks = stage.sink().await;
    let client = stage.client("hostile").await;
    let inbox = format!("{SINK}.all");
    for number in 0..count {
        let ack_wait = Duration::from_secs(1);
        // The same one twice would be one.
        let group = format!("group-{number}");
        let subscribed = stage.subscribe_in(&client, "one-inbox", &inbox, &group, 1024, ack_wait);
        subscribed.await.unwrap();
    }
    keep(&mut tasks, client);
    let publisher = stage.client("hostile-publisher").await;
    tasks.spawn(publish(publisher, FOR_ONE_INBOX));
    tasks
}

/// Half of them leave before they connect again, the others are replaced by their next connection, which has to find
/// out first that nobody answers for them.
fn reconnect_storm(stage: &Arc<Stage>, count: u64) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let stage = Arc::clone(stage);
        tasks.spawn(async move {
            let nats = stage.nats().await;
            let id = format!("hostile-{number}");
            loop {
                let connected = StanClient::connect(nats.clone(), &stage.cluster_id, &id).await;
                // It may be refused: there are more than the rate allows.
                let Ok(client) = connected else {
                    continue;
                };
                client.subscribe("storm", "", &id).await.ok();
                if number.is_multiple_of(2) {
                    client.close().await.ok();
                }
            }
        });
    }
    tasks
}
