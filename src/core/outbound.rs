//! What may leave the node: replies, deliveries and probes.

use std::sync::Arc;

use bytes::Bytes;

use super::ids::{ChannelName, ClientId, Guid, ProbeId, Subject};
use super::message::Message;
use super::rejection::Rejection;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    Reply {
        to: Subject,
        reply: Reply,
    },
    Deliver {
        inbox: Subject,
        channel: ChannelName,
        message: Arc<Message>,
        /// 0 for a first delivery, then 1, 2, 3 …
        redelivery_count: u32,
        /// The ack inbox of a member that may not know that it is one: NATS says there when nobody receives this.
        no_responders_to: Option<Subject>,
    },
    /// An empty request to a client's heartbeat inbox.
    Probe {
        probe: ProbeId,
        inbox: Subject,
    },
}

/// What goes first when the connection is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Answers and probes: small, and somebody counts the seconds until they come.
    Answer,
    /// Messages to subscriptions, as many as there are.
    Delivery,
}

impl Outbound {
    pub fn class(&self) -> Class {
        match self {
            Self::Reply { .. } | Self::Probe { .. } => Class::Answer,
            Self::Deliver { .. } => Class::Delivery,
        }
    }

    /// What it costs in memory until it has left, in bytes: all of its fields.
    pub fn memory_size(&self) -> usize {
        super::memory_size::outbound(self)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The subjects in the answer are the protocol's business.
    Connected {
        client_id: ClientId,
        protocol: i32,
        ping_interval: i32,
        ping_max_out: i32,
    },
    ConnectRefused(Rejection),
    Published(Guid),
    /// With the guid as it was sent, whatever that is: a client knows its publish again by it. Empty where the request could
    /// not be parsed.
    PublishRefused(Bytes, Rejection),
    Subscribed {
        ack_inbox: Subject,
    },
    SubscribeRefused(Rejection),
    /// Unsubscribe and close of a subscription.
    Left,
    LeaveRefused(Rejection),
    ClientClosed,
    CloseRefused(Rejection),
    Pong,
    PingRefused(Rejection),
}
