//! One message as it came: a slice of the read buffer and where its parts are.

use std::ops::Range;

use bytes::Bytes;

/// What a message costs in memory beside its bytes.
const OVERHEAD_BYTES: usize = 128;

/// A kept reply subject may keep this many bytes alive with it.
const TOGETHER_BYTES: usize = 512;

/// A message of this size has most of the block for itself that it was read into: copying it saves nothing.
const ALONE_BYTES: usize = 64 << 10;

/// Cheap to clone. Keeps the whole block alive that it was read into, so what is to last is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The control line and the payload.
    pub(super) frame: Bytes,
    /// The number of the subscription that it came for.
    pub(super) sid: u64,
    pub(super) subject: Range<u32>,
    pub(super) reply: Option<Range<u32>>,
    pub(super) headers: Option<Range<u32>>,
    pub(super) payload: Range<u32>,
}

impl Message {
    pub fn sid(&self) -> u64 {
        self.sid
    }

    pub fn subject(&self) -> &[u8] {
        &self.frame[wide(&self.subject)]
    }

    /// Never empty.
    pub fn reply(&self) -> Option<&[u8]> {
        self.reply.as_ref().map(|reply| &self.frame[wide(reply)])
    }

    pub fn payload(&self) -> &[u8] {
        &self.frame[wide(&self.payload)]
    }

    /// The reply subject, if there is one, and the payload, in memory of their own.
    pub fn detached(&self) -> (Option<Bytes>, Bytes) {
        match &self.reply {
            Some(reply) => {
                let (reply, payload) = self.own_with_payload(reply);
                (Some(reply), payload)
            }
            None => (None, self.own(wide(&self.payload))),
        }
    }

    /// The subject and the payload, in memory of their own.
    pub fn detached_subject(&self) -> (Bytes, Bytes) {
        self.own_with_payload(&self.subject)
    }

    /// A part of the control line stands close before the payload: if both are small, one allocation holds them.
    fn own_with_payload(&self, part: &Range<u32>) -> (Bytes, Bytes) {
        let (part, payload) = (wide(part), wide(&self.payload));
        if payload.end - part.start > TOGETHER_BYTES {
            return (Bytes::copy_from_slice(&self.frame[part]), self.own(payload));
        }
        let own = Bytes::copy_from_slice(&self.frame[part.start..payload.end]);
        (
            own.slice(..part.len()),
            own.slice(payload.start - part.start..),
        )
    }

    fn own(&self, range: Range<usize>) -> Bytes {
        if self.frame.len() < ALONE_BYTES {
            Bytes::copy_from_slice(&self.frame[range])
        } else {
            self.frame.slice(range)
        }
    }

    /// True for what NATS itself answers when nobody listens on the subject of a request.
    pub fn is_no_responders(&self) -> bool {
        let headers = self.headers.as_ref().map(|range| &self.frame[wide(range)]);
        self.payload.is_empty()
            && headers.is_some_and(|headers| headers.starts_with(b"NATS/1.0 503"))
    }

    /// Bytes of memory that it takes, about.
    pub fn weight(&self) -> usize {
        self.frame.len() + OVERHEAD_BYTES
    }
}

fn wide(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}
