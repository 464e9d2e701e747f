//! The core's inputs: everything that can happen.

use super::ids::{BatchNumber, ChannelName, ConnectionId, LoadId, ProbeId, Subject};
use super::load::Loaded;
use super::outbound::Reply;
use super::request::{Ack, Connect, Leave, Publish, Subscribe};
use bytestring::ByteString;

/// `reply` is where the answer goes; a request without one is carried out and not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
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
    /// `protocol` refused the request; it is answered in its turn.
    Refused {
        answer: Reply,
        reply: Subject,
    },
    /// A publish that an earlier term stored, though perhaps without telling: it is acked (again). True of the tables that
    /// this term began with: what a term leaves unanswered is a publish again ([`Event::left_behind`]).
    AlreadyStored {
        request: Publish,
        reply: Subject,
    },
    /// A client answered a probe.
    Pong(ProbeId),
    /// NATS says that nobody listens on the inbox of a probe.
    Unreachable(ProbeId),
    /// NATS says that nobody listens where a message was delivered whose ack would come to this inbox.
    Unheard(ByteString),
    /// NATS was out of reach for a while: what was sent and not answered meanwhile says nothing about clients.
    Reconnected,
    Committed(BatchNumber),
    /// Somebody has noted in the tables that messages are gone.
    GoneNoted,
    /// Somebody publishes in SQL, or asks for something there, or may have begun to.
    OutboxNoted,
    /// Somebody has set a policy, or removed one.
    PoliciesNoted,
    Loaded {
        load: LoadId,
        result: Loaded,
    },
    /// The store could not be read; the core asks again after a pause.
    LoadFailed(LoadId),
}

impl Event {
    /// As the next term is to judge it: Postgres may fail over in between, and lose what this term found stored.
    pub(super) fn left_behind(self) -> Self {
        if let Self::AlreadyStored { request, reply } = self {
            let reply = Some(reply);
            return Self::Publish { request, reply };
        }
        self
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
            | Self::Refused { .. }
            | Self::AlreadyStored { .. }
            | Self::Pong(_)
            | Self::Unreachable(_)
            | Self::Unheard(_)
            | Self::Reconnected
            | Self::Committed(_)
            | Self::GoneNoted
            | Self::OutboxNoted
            | Self::PoliciesNoted
            | Self::Loaded { .. }
            | Self::LoadFailed(_) => None,
        }
    }
}
