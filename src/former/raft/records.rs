//! Records of the log and of snapshots. Operations have numbers that have never changed.

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Operation {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(message, optional, tag = "2")]
    pub publish: Option<Publish>,
    #[prost(message, optional, tag = "3")]
    pub subscribe: Option<Subscribe>,
    #[prost(message, optional, tag = "4")]
    pub leave: Option<Leave>,
    #[prost(message, optional, tag = "5")]
    pub progress: Option<SentAndAcked>,
    #[prost(message, optional, tag = "7")]
    pub connect: Option<Connect>,
    #[prost(message, optional, tag = "8")]
    pub disconnect: Option<Disconnect>,
    #[prost(string, tag = "9")]
    pub channel: String,
    #[prost(uint64, tag = "10")]
    pub channel_id: u64,
}

pub const PUBLISH: i32 = 0;
pub const SUBSCRIBE: i32 = 1;
pub const REMOVE: i32 = 2;
pub const CLOSE: i32 = 3;
pub const SENT_AND_ACKED: i32 = 4;
pub const CONNECT: i32 = 6;
pub const DISCONNECT: i32 = 7;
pub const DELETE_CHANNEL: i32 = 8;

/// Messages of one channel, each as it is stored.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Publish {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub messages: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Subscribe {
    #[prost(message, optional, tag = "1")]
    pub request: Option<Request>,
    #[prost(string, tag = "2")]
    pub ack_inbox: String,
    #[prost(uint64, tag = "3")]
    pub id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    #[prost(string, tag = "1")]
    pub client_id: String,
    #[prost(string, tag = "2")]
    pub channel: String,
    #[prost(string, tag = "3")]
    pub queue: String,
    #[prost(string, tag = "4")]
    pub inbox: String,
    #[prost(int32, tag = "5")]
    pub max_in_flight: i32,
    #[prost(int32, tag = "6")]
    pub ack_wait_seconds: i32,
    #[prost(string, tag = "7")]
    pub durable: String,
    /// The leader has put a sequence in place of every other kind of start.
    #[prost(uint64, tag = "11")]
    pub start_sequence: u64,
}

/// A subscription is closed or removed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Leave {
    #[prost(string, tag = "1")]
    pub client_id: String,
    #[prost(string, tag = "2")]
    pub channel: String,
    /// The one for acks.
    #[prost(string, tag = "3")]
    pub inbox: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SentAndAcked {
    #[prost(string, tag = "1")]
    pub channel: String,
    #[prost(string, tag = "2")]
    pub ack_inbox: String,
    #[prost(uint64, repeated, tag = "3")]
    pub sent: Vec<u64>,
    #[prost(uint64, repeated, tag = "4")]
    pub acked: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Connect {
    #[prost(message, optional, tag = "1")]
    pub request: Option<ConnectRequest>,
    #[prost(bool, tag = "2")]
    pub replaces: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ConnectRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub heartbeat_inbox: String,
    #[prost(int32, tag = "3")]
    pub protocol: i32,
    #[prost(bytes = "bytes", tag = "4")]
    pub connection_id: Bytes,
    #[prost(int32, tag = "5")]
    pub ping_interval: i32,
    #[prost(int32, tag = "6")]
    pub ping_max_out: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Disconnect {
    #[prost(string, tag = "1")]
    pub client_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Snapshot {
    /// As the file store has them.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub clients: Vec<Bytes>,
    #[prost(message, repeated, tag = "2")]
    pub channels: Vec<ChannelSnapshot>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ChannelSnapshot {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint64, tag = "2")]
    pub first: u64,
    #[prost(uint64, tag = "3")]
    pub last: u64,
    #[prost(message, repeated, tag = "4")]
    pub subscriptions: Vec<SubscriptionSnapshot>,
    #[prost(uint64, tag = "5")]
    pub next_subscription: u64,
    #[prost(uint64, tag = "6")]
    pub id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SubscriptionSnapshot {
    #[prost(message, optional, tag = "1")]
    pub state: Option<SubscriptionState>,
    #[prost(uint64, repeated, tag = "2")]
    pub pending: Vec<u64>,
}

/// The record of a subscription, as the file store has it, too.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SubscriptionState {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub client_id: String,
    #[prost(string, tag = "3")]
    pub queue: String,
    #[prost(string, tag = "4")]
    pub inbox: String,
    #[prost(string, tag = "5")]
    pub ack_inbox: String,
    #[prost(int32, tag = "6")]
    pub max_in_flight: i32,
    #[prost(int32, tag = "7")]
    pub ack_wait_seconds: i32,
    #[prost(string, tag = "8")]
    pub durable: String,
    #[prost(uint64, tag = "9")]
    pub last_sent: u64,
    #[prost(bool, tag = "10")]
    pub is_durable: bool,
    #[prost(bool, tag = "11")]
    pub is_closed: bool,
}
