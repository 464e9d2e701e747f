//! What clients ask for, after `protocol` has refused everything that is malformed.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::ids::{
    ChannelName, ClientId, ConnectionId, DurableName, Guid, QueueName, Sequence, Subject,
};
use super::message::bytes_field;
use super::outbound::Reply;

/// `reply` is where the answer goes; a request without one is carried out and not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Connect {
        request: Connect,
        reply: Option<Subject>,
    },
    Publish {
        request: Publish,
        reply: Option<Subject>,
    },
    Subscribe {
        request: Subscribe,
        reply: Option<Subject>,
    },
    Unsubscribe {
        request: Leave,
        reply: Option<Subject>,
    },
    CloseSubscription {
        request: Leave,
        reply: Option<Subject>,
    },
    /// `client_id` as sent.
    CloseClient {
        client_id: ByteString,
        reply: Option<Subject>,
    },
    Ping {
        connection_id: ConnectionId,
        reply: Subject,
    },
    Ack(Ack),
    /// Nothing is left but the answer, in its turn: `protocol` refused the request, or an earlier term has carried it out.
    Answered {
        answer: Reply,
        reply: Subject,
    },
    /// A publish that an earlier term stored, though perhaps without telling: it is acked (again). True of the tables that
    /// this term began with: what a term leaves unanswered is a publish again ([`Request::left_behind`]).
    AlreadyStored {
        request: Publish,
        reply: Subject,
    },
}

impl Request {
    /// As the next term is to judge it: Postgres may fail over in between, and lose what this term found stored.
    pub(super) fn left_behind(self) -> Self {
        if let Self::AlreadyStored { request, reply } = self {
            let reply = Some(reply);
            return Self::Publish { request, reply };
        }
        self
    }

    pub(super) fn as_publish(&self) -> Option<&Publish> {
        if let Self::Publish { request, .. } = self {
            Some(request)
        } else {
            None
        }
    }

    /// The channel that a request names.
    pub(super) fn channel(&self) -> Option<&ChannelName> {
        match self {
            Self::Publish { request, .. } => Some(&request.channel),
            Self::Subscribe { request, .. } => Some(&request.channel),
            Self::Unsubscribe { request, .. } | Self::CloseSubscription { request, .. } => {
                Some(&request.channel)
            }
            Self::Connect { .. }
            | Self::CloseClient { .. }
            | Self::Ping { .. }
            | Self::Ack(_)
            | Self::Answered { .. }
            | Self::AlreadyStored { .. } => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub client_id: ClientId,
    pub heartbeat_inbox: Subject,
    /// Protocol level of the client: 0 knows neither connection IDs nor pings.
    pub protocol: i32,
    pub connection_id: ConnectionId,
    /// Echoed as it came: seconds between client pings, milliseconds when negative.
    pub ping_interval: i32,
    pub ping_max_out: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub publisher: Publisher,
    pub guid: Guid,
    pub channel: ChannelName,
    /// The application's reply text, delivered as it came. May be empty.
    pub reply: ByteString,
    pub data: Bytes,
}

impl Publish {
    /// Size of the request in bytes, but for what the server has no use for.
    pub(super) fn size(&self) -> u64 {
        let publisher = match &self.publisher {
            Publisher::Connection(id) => id.0.len(),
            Publisher::Client(id) => id.len(),
        };
        bytes_field(publisher)
            + bytes_field(self.guid.as_str().len())
            + bytes_field(self.channel.as_str().len())
            + bytes_field(self.reply.len())
            + bytes_field(self.data.len())
    }
}

/// How a publish names its client: by connection ID when it carries one, else by client ID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Publisher {
    Connection(ConnectionId),
    /// As sent; matched against the registered clients.
    Client(ByteString),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    pub client_id: ClientId,
    pub channel: ChannelName,
    pub inbox: Subject,
    pub queue_group: Option<QueueName>,
    pub durable_name: Option<DurableName>,
    /// Unacked messages allowed, at least 1.
    pub max_in_flight: u32,
    /// At least 1 s, in whole seconds.
    pub ack_wait: Duration,
    pub start: StartPosition,
    /// Makes the ack inbox: unguessable, and the same whenever and wherever this request is carried out. Made by the
    /// adapter, because the core has no secret.
    pub ack_token: AckToken,
}

/// 128 bits.
pub type AckToken = u128;

/// Where a new subscription begins. Ignored when a durable is resumed or a queue group joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartPosition {
    NewOnly,
    LastReceived,
    /// Messages of the last so many nanoseconds; negative means the future.
    TimeDelta(i64),
    Sequence(Sequence),
    First,
}

/// Ends a subscription: by [`Request::Unsubscribe`] (forget a durable) or [`Request::CloseSubscription`] (keep it).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leave {
    /// As sent; compared with the owner.
    pub client_id: ByteString,
    pub channel: ChannelName,
    /// The ack inbox or, as a fallback, the delivery inbox.
    pub inbox: ByteString,
}

/// Whether a durable survives its subscription's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durables {
    Keep,
    Forget,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The NATS subject that the ack arrived on.
    pub ack_inbox: ByteString,
    pub channel: ByteString,
    pub sequence: Sequence,
}
