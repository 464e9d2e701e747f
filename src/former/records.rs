//! The server's records, protobuf in columns named `proto`. Their `Debug` shows connection IDs: never log one.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use prost::Message as _;

use super::error::Broken;
use super::pending::Pending;
use crate::core::ids::{
    ChannelId, ClientId, ConnectionId, DurableName, QueueName, Subject, SubscriptionId,
};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ServerInfoRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) cluster_id: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) discovery: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) publish: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) subscribe: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) unsubscribe: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) close: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    pub(super) close_subscription: Bytes,
    #[prost(bytes = "bytes", tag = "9")]
    pub(super) node: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ClientRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) id: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) heartbeat_inbox: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) connection_id: Bytes,
    #[prost(int32, tag = "4")]
    pub(super) protocol: i32,
    #[prost(int32, tag = "5")]
    pub(super) ping_interval: i32,
    #[prost(int32, tag = "6")]
    pub(super) ping_max_out: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SubscriptionRecord {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) client_id: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) queue_group: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) inbox: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) ack_inbox: Bytes,
    #[prost(int32, tag = "6")]
    pub(super) max_in_flight: i32,
    #[prost(int32, tag = "7")]
    pub(super) ack_wait_seconds: i32,
    #[prost(bytes = "bytes", tag = "8")]
    pub(super) durable_name: Bytes,
    #[prost(uint64, tag = "9")]
    pub(super) last_sent: u64,
    #[prost(bool, tag = "10")]
    pub(super) is_durable: bool,
    #[prost(bool, tag = "11")]
    pub(super) is_closed: bool,
}

/// What a subscription was sent, or has acked.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct UpdateRecord {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) sequence: u64,
}

/// What clients were given when they connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    pub cluster_id: String,
    pub discover: String,
    pub publish: String,
    pub subscribe: String,
    pub unsubscribe: String,
    pub close: String,
    /// `None` in very old stores: no client of those closes a subscription.
    pub close_subscription: Option<String>,
    /// Set for a node of a Raft cluster.
    pub node: Option<String>,
}

impl ServerInfo {
    pub fn decode(record: &[u8]) -> Result<Self, Broken> {
        let record = ServerInfoRecord::decode(record)?;
        let close = record.close_subscription;
        Ok(Self {
            cluster_id: text(record.cluster_id, "cluster ID")?.to_string(),
            discover: subject(record.discovery, "discovery subject")?.to_string(),
            publish: subject(record.publish, "publish prefix")?.to_string(),
            subscribe: subject(record.subscribe, "subscribe subject")?.to_string(),
            unsubscribe: subject(record.unsubscribe, "unsubscribe subject")?.to_string(),
            close: subject(record.close, "close subject")?.to_string(),
            close_subscription: if close.is_empty() {
                None
            } else {
                Some(subject(close, "subject of closing subscriptions")?.to_string())
            },
            node: if record.node.is_empty() {
                None
            } else {
                Some(text(record.node, "node ID")?.to_string())
            },
        })
    }
}

/// A connected application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub id: ClientId,
    pub heartbeat_inbox: Subject,
    pub connection_id: ConnectionId,
    pub protocol: i32,
    pub ping_interval: i32,
    pub ping_max_out: i32,
}

impl Client {
    /// `numbers` are protocol, ping interval and how many pings may be out.
    pub fn new(
        id: &str,
        heartbeat_inbox: &str,
        connection_id: Bytes,
        [protocol, ping_interval, ping_max_out]: [i32; 3],
    ) -> Result<Self, Broken> {
        let record = ClientRecord {
            id: Bytes::copy_from_slice(id.as_bytes()),
            heartbeat_inbox: Bytes::copy_from_slice(heartbeat_inbox.as_bytes()),
            connection_id,
            protocol,
            ping_interval,
            ping_max_out,
        };
        Self::of_record(&record.encode_to_vec())
    }

    /// Where there is nothing but the record.
    pub fn of_record(record: &[u8]) -> Result<Self, Broken> {
        let decoded = ClientRecord::decode(record)?;
        Self::decode(&text(decoded.id, "ID")?, "", record)
    }

    /// Rows of servers before 0.10 have no record: then nothing is known but the columns.
    pub fn decode(id: &str, heartbeat_inbox: &str, record: &[u8]) -> Result<Self, Broken> {
        let record = ClientRecord::decode(record)?;
        let client_id = ClientId::parse(id.into()).ok_or("its ID is not one of a client")?;
        if !record.id.is_empty() && record.id != id.as_bytes() {
            return Err("its record is that of another client".into());
        }
        let inbox = if record.heartbeat_inbox.is_empty() {
            Bytes::copy_from_slice(heartbeat_inbox.as_bytes())
        } else {
            record.heartbeat_inbox
        };
        Ok(Self {
            id: client_id,
            heartbeat_inbox: subject(inbox, "heartbeat inbox")?,
            connection_id: ConnectionId(record.connection_id),
            protocol: record.protocol,
            ping_interval: record.ping_interval,
            ping_max_out: record.ping_max_out,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Durable(DurableName),
    Queue(QueueName),
    DurableQueue(DurableName, QueueName),
}

/// Whose a subscription is and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub client_id: ClientId,
    pub inbox: Subject,
    pub ack_inbox: Subject,
    pub max_in_flight: u32,
    pub ack_wait: Duration,
}

/// A row of `Subscriptions` and those of `SubsPending` that belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub id: SubscriptionId,
    pub channel: ChannelId,
    pub kind: Kind,
    /// `None`: it stands for a durable queue group that has no members.
    pub owner: Option<Owner>,
    /// Closed by its client, which stores of older servers do not tell.
    pub is_closed: bool,
    pub pending: Pending,
}

/// Between the two names of a durable queue group.
const SEPARATOR: char = ':';

impl Subscription {
    pub fn decode(
        channel: ChannelId,
        id: SubscriptionId,
        last_sent: u64,
        record: &[u8],
    ) -> Result<Self, Broken> {
        let record = SubscriptionRecord::decode(record)?;
        if record.id != 0 && record.id != id.0 {
            return Err(format!("its record is that of subscription {}", record.id).into());
        }
        let kind = kind(&record)?;
        let is_shadow = record.client_id.is_empty() && matches!(kind, Kind::DurableQueue(..));
        let mut pending = Pending::default();
        pending.sent_up_to(last_sent.max(record.last_sent));
        let is_closed = record.is_closed;
        Ok(Self {
            id,
            channel,
            kind,
            owner: if is_shadow {
                None
            } else {
                Some(owner(record)?)
            },
            is_closed,
            pending,
        })
    }
}

fn owner(record: SubscriptionRecord) -> Result<Owner, Broken> {
    let client_id = text(record.client_id, "client ID")?;
    let ack_wait = at_least_one(record.ack_wait_seconds, "ack wait")?;
    Ok(Owner {
        client_id: ClientId::parse(client_id).ok_or("its client ID is not one of a client")?,
        inbox: subject(record.inbox, "inbox")?,
        ack_inbox: subject(record.ack_inbox, "ack inbox")?,
        max_in_flight: at_least_one(record.max_in_flight, "max in flight")?,
        ack_wait: Duration::from_secs(ack_wait.into()),
    })
}

/// Stores of older servers do not say of plain durables that they are durable, but they have a name.
fn kind(record: &SubscriptionRecord) -> Result<Kind, Broken> {
    let durable = text(record.durable_name.clone(), "durable name")?;
    let queue = text(record.queue_group.clone(), "queue group")?;
    let no_name = "a name in it is too long or holds a NUL";
    let durable_name = |name: &str| DurableName::parse(name.into()).ok_or(no_name);
    let queue_name = |name: &str| QueueName::parse(name.into()).ok_or(no_name);
    match (durable.is_empty(), queue.is_empty()) {
        (false, _) => Ok(Kind::Durable(durable_name(&durable)?)),
        (true, true) => Ok(Kind::Plain),
        (true, false) if !record.is_durable => Ok(Kind::Queue(queue_name(&queue)?)),
        (true, false) => {
            let names = queue.split_once(SEPARATOR);
            let (durable, queue) = names
                .ok_or_else(|| format!("its group {queue:?} is durable and names no durable"))?;
            Ok(Kind::DurableQueue(
                durable_name(durable)?,
                queue_name(queue)?,
            ))
        }
    }
}

fn text(bytes: Bytes, what: &str) -> Result<ByteString, Broken> {
    ByteString::try_from(bytes).map_err(|_| format!("its {what} is not UTF-8").into())
}

fn subject(bytes: Bytes, what: &str) -> Result<Subject, Broken> {
    let name = text(bytes, what)?;
    Subject::parse(name.clone())
        .ok_or_else(|| format!("its {what} {name:?} is not a subject of NATS").into())
}

fn at_least_one(number: i32, what: &str) -> Result<u32, Broken> {
    let number_or_none = u32::try_from(number).ok().filter(|&number| number > 0);
    number_or_none.ok_or_else(|| format!("its {what} is {number}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
    }

    fn subscription(record: &SubscriptionRecord) -> Result<Subscription, Broken> {
        Subscription::decode(ChannelId(3), SubscriptionId(1), 0, &record.encode_to_vec())
    }

    fn record() -> SubscriptionRecord {
        SubscriptionRecord {
            client_id: "me".into(),
            inbox: "_INBOX.1".into(),
            ack_inbox: "_INBOX.2".into(),
            max_in_flight: 1024,
            ack_wait_seconds: 30,
            ..SubscriptionRecord::default()
        }
    }

    #[test]
    fn a_stored_durable_is_read() {
        let vector =
            "080112026d6522085f494e424f582e312a085f494e424f582e32308008381e420364757248075001";
        let read = Subscription::decode(ChannelId(3), SubscriptionId(1), 5, &bytes(vector));

        let mut pending = Pending::default();
        pending.sent_up_to(7);
        let expected = Subscription {
            id: SubscriptionId(1),
            channel: ChannelId(3),
            kind: Kind::Durable(DurableName::parse("dur".into()).unwrap()),
            owner: Some(Owner {
                client_id: ClientId::parse("me".into()).unwrap(),
                inbox: Subject::parse("_INBOX.1".into()).unwrap(),
                ack_inbox: Subject::parse("_INBOX.2".into()).unwrap(),
                max_in_flight: 1024,
                ack_wait: Duration::from_secs(30),
            }),
            is_closed: false,
            pending,
        };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn a_stored_client_is_read_with_or_without_a_record() {
        let vector = bytes("0a026d6512095f494e424f582e68621a024331200128053058");
        let read = Client::decode("me", "_INBOX.old", &vector).unwrap();
        assert_eq!(read.heartbeat_inbox.as_str(), "_INBOX.hb");
        assert_eq!(&read.connection_id.0[..], b"C1");
        assert_eq!(
            (read.protocol, read.ping_interval, read.ping_max_out),
            (1, 5, 88)
        );

        let old = Client::decode("old", "_INBOX.old", &[]).unwrap();
        assert_eq!(old.heartbeat_inbox.as_str(), "_INBOX.old");
        assert_eq!(old.protocol, 0);
        assert!(old.connection_id.is_empty());

        assert!(Client::decode("you", "_INBOX.hb", &vector).is_err());
        assert!(Client::decode("me", "two words", &[]).is_err());
        assert!(Client::decode("me", "x", b"\xff").is_err());
    }

    #[test]
    fn the_kind_of_a_subscription_follows_from_its_names() {
        let durable = |name: &str| DurableName::parse(name.into()).unwrap();
        let queue = |name: &str| QueueName::parse(name.into()).unwrap();
        for (durable_name, group, is_durable, kind) in [
            ("", "", false, Kind::Plain),
            ("d", "", true, Kind::Durable(durable("d"))),
            ("d", "", false, Kind::Durable(durable("d"))),
            ("", "a:b", false, Kind::Queue(queue("a:b"))),
            (
                "",
                "d:a:b",
                true,
                Kind::DurableQueue(durable("d"), queue("a:b")),
            ),
        ] {
            let stored = SubscriptionRecord {
                durable_name: durable_name.to_owned().into(),
                queue_group: group.to_owned().into(),
                is_durable,
                ..record()
            };
            assert_eq!(subscription(&stored).unwrap().kind, kind, "{group}");
        }
    }

    #[test]
    fn only_a_durable_queue_group_may_be_without_a_client() {
        let shadow = SubscriptionRecord {
            queue_group: "d:q".into(),
            is_durable: true,
            ..SubscriptionRecord::default()
        };
        assert_eq!(subscription(&shadow).unwrap().owner, None);
        for wrong in [
            SubscriptionRecord::default(),
            SubscriptionRecord { id: 2, ..record() },
            SubscriptionRecord {
                ack_wait_seconds: 0,
                ..record()
            },
            SubscriptionRecord {
                max_in_flight: -1,
                ..record()
            },
            SubscriptionRecord {
                ack_inbox: "a b".into(),
                ..record()
            },
            SubscriptionRecord {
                queue_group: "nameless".into(),
                is_durable: true,
                ..record()
            },
        ] {
            assert!(subscription(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn subjects_are_kept_as_they_were_told() {
        let stored = ServerInfoRecord {
            cluster_id: "c".into(),
            discovery: "_DISCOVER.c".into(),
            publish: "_P.nuid".into(),
            subscribe: "_S.nuid".into(),
            unsubscribe: "_U.nuid".into(),
            close: "_C.nuid".into(),
            close_subscription: Bytes::new(),
            node: Bytes::new(),
        };
        let read = ServerInfo::decode(&stored.encode_to_vec()).unwrap();
        assert_eq!(read.publish, "_P.nuid");
        assert_eq!(read.close_subscription, None);

        let wrong = ServerInfoRecord {
            publish: "_P.>".into(),
            ..stored
        };
        assert!(ServerInfo::decode(&wrong.encode_to_vec()).is_err());
    }
}
