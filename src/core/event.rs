//! The core's inputs: everything that can happen.

use bytestring::ByteString;

use super::ids::{BatchNumber, LoadId, ProbeId};
use super::load::Loaded;
use super::request::Request;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Request(Request),
    /// A client answered a probe.
    Pong(ProbeId),
    /// NATS says that nobody listens on the inbox of a probe.
    Unreachable(ProbeId),
    /// NATS says that nobody listens where a message was delivered whose ack would come to this inbox.
    NoResponders(ByteString),
    /// NATS was out of reach for a while: what was sent and not answered meanwhile says nothing about clients.
    Reconnected,
    /// The same, for a pause of this server, or because NATS was slow to take what is sent.
    Paused,
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

impl From<Request> for Event {
    fn from(request: Request) -> Self {
        Self::Request(request)
    }
}

impl Event {
    /// What a client asked for; `None` of everything else.
    pub fn into_request(self) -> Option<Request> {
        if let Self::Request(request) = self {
            Some(request)
        } else {
            None
        }
    }
}
