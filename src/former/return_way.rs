//! Rows of ours as records of nats-streaming-server: the way back from [`adopt`](super::adopt).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

use super::files::index::OVERHEAD_BYTES;
use super::records::{ClientRecord, ServerInfoRecord, SubscriptionRecord, UpdateRecord};
use crate::core::batch::{ClientRow, PositionRow, SubscriptionRow};
use crate::core::ids::{
    ChannelId, ChannelName, ClientId, DurableName, PositionId, QueueName, Sequence,
};
use crate::core::message::Message;
use crate::core::snapshot::Snapshot;
use crate::core::time::Timestamp;
use crate::protocol::pb::MsgProto;

/// What clients were given, in the order of the record.
#[derive(Clone, Debug)]
pub struct AdvertisedSubjects<'a> {
    pub cluster_id: &'a str,
    pub discover: &'a str,
    pub publish: &'a str,
    pub subscribe: &'a str,
    pub unsubscribe: &'a str,
    pub close: &'a str,
    pub close_subscription: &'a str,
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn server(advertised: &AdvertisedSubjects<'_>) -> Vec<u8> {
    ServerInfoRecord {
        cluster_id: bytes(advertised.cluster_id),
        discovery: bytes(advertised.discover),
        publish: bytes(advertised.publish),
        subscribe: bytes(advertised.subscribe),
        unsubscribe: bytes(advertised.unsubscribe),
        close: bytes(advertised.close),
        close_subscription: bytes(advertised.close_subscription),
        node: Bytes::new(),
    }
    .encode_to_vec()
}

/// A client's record, and what a table has of it beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    pub id: String,
    pub heartbeat_inbox: String,
    pub record: Vec<u8>,
}

pub fn client(id: &ClientId, row: &ClientRow) -> Connected {
    let record = ClientRecord {
        id: bytes(id.as_str()),
        heartbeat_inbox: bytes(row.heartbeat_inbox.as_str()),
        connection_id: row.connection_id.0.clone(),
        protocol: row.protocol,
        ping_interval: row.ping_interval,
        ping_max_out: row.ping_max_out,
    };
    Connected {
        id: id.as_str().to_owned(),
        heartbeat_inbox: row.heartbeat_inbox.as_str().to_owned(),
        record: record.encode_to_vec(),
    }
}

/// A message's record, and what an index or a table has of it beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub sequence: u64,
    pub timestamp: i64,
    pub record: Vec<u8>,
}

impl Stored {
    /// As `max_bytes` of the former server's file store counts it; its tables count less.
    pub fn counted_bytes(&self) -> u64 {
        self.record.len() as u64 + OVERHEAD_BYTES
    }
}

pub fn message(channel: &ChannelName, message: &Message) -> Stored {
    let record = MsgProto {
        sequence: message.sequence.0,
        subject: bytes(channel.as_str()),
        reply: bytes(&message.reply),
        data: message.data.clone(),
        timestamp: message.published_at.0,
        ..MsgProto::default()
    };
    Stored {
        sequence: message.sequence.0,
        timestamp: message.published_at.0,
        record: record.encode_to_vec(),
    }
}

/// In place of one that is gone.
pub fn empty(channel: &ChannelName, sequence: Sequence, published_at: Timestamp) -> Stored {
    let record = MsgProto {
        sequence: sequence.0,
        subject: bytes(channel.as_str()),
        timestamp: published_at.0,
        ..MsgProto::default()
    };
    Stored {
        sequence: sequence.0,
        timestamp: published_at.0,
        record: record.encode_to_vec(),
    }
}

/// A subscription's record, and what it was sent and has not acked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    pub number: u64,
    pub last_sent: u64,
    pub record: Vec<u8>,
    pub pending: Vec<u64>,
}

impl Subscribed {
    /// As a journal has it, a record each.
    pub fn pending_records(&self) -> impl Iterator<Item = Vec<u8>> {
        self.pending.iter().map(|&sequence| {
            let id = self.number;
            UpdateRecord { id, sequence }.encode_to_vec()
        })
    }
}

/// How subscriptions are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// From 1 in each channel, as files have them.
    Channel,
    /// Over all channels, as tables have them.
    All,
}

/// The subscriptions of each channel.
pub fn subscriptions(
    snapshot: &Snapshot,
    numbering: Numbering,
) -> BTreeMap<ChannelId, Vec<Subscribed>> {
    let mut count = 0;
    let mut members: BTreeMap<PositionId, Vec<&SubscriptionRow>> = BTreeMap::new();
    for row in snapshot.subscriptions.values() {
        members.entry(row.position).or_default().push(row);
    }
    let mut all: BTreeMap<ChannelId, Vec<Subscribed>> = BTreeMap::new();
    for (id, position) in &snapshot.positions {
        let Some(channel) = snapshot.channels.get(&position.channel) else {
            continue;
        };
        let made = all.entry(position.channel).or_default();
        let members = members.get(id).map_or(&[][..], Vec::as_slice);
        let owners = members.iter().map(|member| Some(*member));
        // A durable queue group without members is kept by a record without a client.
        let is_empty = members.is_empty() && position.durable_name.is_some();
        let owners = owners.chain(is_empty.then_some(None));
        let mut left = pending(position, channel.first_sequence);
        let last = owners.clone().count().saturating_sub(1);
        for (index, owner) in owners.enumerate() {
            count += 1;
            let number = match numbering {
                Numbering::Channel => made.len() as u64 + 1,
                Numbering::All => count,
            };
            let record = subscription(number, position, owner).encode_to_vec();
            // Members share what the group has to ack. Each gets as much as it may have in flight: one that had none would
            // be sent more beside what it holds.
            let room = owner.map_or(usize::MAX, |it| {
                usize::try_from(it.max_in_flight).unwrap_or(usize::MAX)
            });
            let its = if index == last {
                std::mem::take(&mut left)
            } else {
                left.drain(..room.min(left.len())).collect()
            };
            made.push(Subscribed {
                number,
                last_sent: position.progress.last_sent.0,
                record,
                pending: its,
            });
        }
    }
    all
}

fn subscription(
    number: u64,
    position: &PositionRow,
    owner: Option<&SubscriptionRow>,
) -> SubscriptionRecord {
    let durable = position.durable_name.as_ref().map(DurableName::as_str);
    let queue = position.queue_group.as_ref().map(QueueName::as_str);
    let (durable_name, queue_group) = match (durable, queue) {
        (Some(durable), Some(queue)) => (String::new(), format!("{durable}:{queue}")),
        (durable, queue) => (
            durable.unwrap_or_default().to_owned(),
            queue.unwrap_or_default().to_owned(),
        ),
    };
    let of = |text: Option<&str>| bytes(text.unwrap_or_default());
    let small = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
    SubscriptionRecord {
        id: number,
        client_id: of(owner.map(|it| it.client_id.as_str())),
        queue_group: queue_group.into(),
        inbox: of(owner.map(|it| it.inbox.as_str())),
        ack_inbox: of(owner.map(|it| it.ack_inbox.as_str())),
        max_in_flight: owner.map_or(0, |it| small(it.max_in_flight.into())),
        // It counts whole seconds.
        ack_wait_seconds: owner.map_or(0, |it| small(it.ack_wait.as_secs().max(1))),
        durable_name: durable_name.into(),
        last_sent: position.progress.last_sent.0,
        is_durable: durable.is_some(),
        is_closed: durable.is_some() && queue.is_none() && owner.is_some_and(|it| !it.online),
    }
}

/// The unacked messages that still exist; no more than a subscription may have in flight.
fn pending(position: &PositionRow, first: Sequence) -> Vec<u64> {
    let progress = &position.progress;
    let from = first.0.max(progress.acked_floor.0 + 1);
    let sent = (from..=progress.last_sent.0).map(Sequence);
    let pending = sent.filter(|sequence| !progress.acked_above.contains(*sequence));
    pending.map(|sequence| sequence.0).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::batch::{ChannelRow, Progress};
    use crate::core::ids::{Subject, SubscriptionId};
    use crate::core::ranges::Ranges;

    /// What each member of a group has to ack, of so many messages that none of them has acked.
    fn shares(max_in_flight: &[u32], sent: u64) -> Vec<Vec<u64>> {
        let subject = || Subject::parse("s".into()).unwrap();
        let (channel, position) = (ChannelId(1), PositionId(1));
        let mut snapshot = Snapshot::default();
        let row = ChannelRow {
            name: ChannelName::parse("orders".into()).unwrap(),
            created_at: Timestamp(1),
            deleting: false,
            first_sequence: Sequence(1),
            last_sequence: Sequence(sent),
            last_published_at: Timestamp(1),
            message_count: sent,
            byte_count: sent,
        };
        snapshot.channels.insert(channel, row);
        let row = PositionRow {
            channel,
            durable_name: None,
            queue_group: QueueName::parse("workers".into()),
            progress: Progress {
                last_sent: Sequence(sent),
                acked_floor: Sequence(0),
                acked_above: Ranges::default(),
            },
        };
        snapshot.positions.insert(position, row);
        for (id, &max_in_flight) in (1..).map(SubscriptionId).zip(max_in_flight) {
            let row = SubscriptionRow {
                position,
                client_id: ClientId::parse("app".into()).unwrap(),
                inbox: subject(),
                ack_inbox: subject(),
                max_in_flight,
                ack_wait: Duration::from_secs(30),
                online: true,
                since: Timestamp(1),
            };
            snapshot.subscriptions.insert(id, row);
        }
        let made = subscriptions(&snapshot, Numbering::Channel);
        made[&channel].iter().map(|it| it.pending.clone()).collect()
    }

    #[test]
    fn members_of_a_group_have_no_more_to_ack_than_they_may_have_in_flight() {
        assert_eq!(shares(&[2, 1, 5], 5), [vec![1, 2], vec![3], vec![4, 5]]);
        assert_eq!(shares(&[7, 7], 3), [vec![1, 2, 3], vec![]]);
        // More than they have room for is still to be acked.
        assert_eq!(shares(&[1, 1], 4), [vec![1], vec![2, 3, 4]]);
    }
}
