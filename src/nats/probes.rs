//! Where the answers to probes come in. A probe is an empty request to a client's heartbeat inbox; the reply
//! subject carries the probe's number, so one subscription serves all of them.

use bytestring::ByteString;

use super::wire::Message;
use crate::core::Event;
use crate::core::ids::ProbeId;

/// One per term: probes are numbered from 1 in each, and an answer must not count for another term's probe.
#[derive(Clone, Debug)]
pub struct ProbeInbox(ByteString);

impl ProbeInbox {
    /// `inbox` must be unique.
    pub(super) fn new(inbox: impl Into<ByteString>) -> Self {
        Self(inbox.into())
    }

    pub(super) fn wildcard(&self) -> String {
        format!("{}.*", self.0)
    }

    /// The reply subject of a probe.
    pub(super) fn reply_to(&self, probe: ProbeId) -> String {
        format!("{}.{probe}", self.0)
    }

    /// The body of an answer means nothing. NATS itself answers when nobody listens on the heartbeat inbox.
    pub(super) fn decode(&self, message: &Message) -> Option<Event> {
        let number = message.subject().strip_prefix(self.0.as_bytes().as_ref())?;
        let number = std::str::from_utf8(number.strip_prefix(b".")?).ok()?;
        let probe = ProbeId(number.parse().ok()?);
        Some(if message.is_no_responders() {
            Event::Unreachable(probe)
        } else {
            Event::Pong(probe)
        })
    }
}
