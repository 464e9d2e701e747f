//! A standby's memory of the last requests: bounded in age and bytes, and acted on by nobody until this node
//! takes over. What the active did not get to is judged again then.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::request::Publisher;
use crate::core::time::Instant;
use crate::core::{Event, Reply};

/// What a remembered request costs beside its text and data.
const OVERHEAD_BYTES: usize = 256;

#[derive(Debug)]
pub struct Shadow {
    heard: VecDeque<(Instant, usize, Event)>,
    bytes: usize,
    age_max: Duration,
    bytes_max: usize,
    /// Requests that had to be forgotten before their age, since the shadow was made.
    crowded_out: u64,
}

impl Shadow {
    pub fn new(age_max: Duration, bytes_max: usize) -> Self {
        Self {
            heard: VecDeque::new(),
            bytes: 0,
            age_max,
            bytes_max,
            crowded_out: 0,
        }
    }

    pub fn remember(&mut self, events: impl Iterator<Item = Event>, now: Instant) {
        for event in events {
            let bytes = OVERHEAD_BYTES + size(&event);
            self.bytes += bytes;
            self.heard.push_back((now, bytes, event));
        }
        while self
            .heard
            .front()
            .is_some_and(|(at, _, _)| now.since(*at) > self.age_max)
        {
            self.forget_oldest();
        }
        while self.bytes > self.bytes_max && self.forget_oldest() {
            self.crowded_out += 1;
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, bytes, _)) = self.heard.pop_front() else {
            return false;
        };
        self.bytes -= bytes;
        true
    }

    /// Requests that were forgotten for want of room. More than zero means that a takeover may lose requests
    /// that were under way, whose senders then see a timeout.
    pub fn crowded_out(&self) -> u64 {
        self.crowded_out
    }

    /// What was heard up to now, in its order.
    pub fn take(self, now: Instant) -> Vec<Event> {
        let recent = |(at, _, event): (Instant, usize, Event)| {
            (now.since(at) <= self.age_max).then_some(event)
        };
        self.heard.into_iter().filter_map(recent).collect()
    }
}

/// Of what clients may make as long as a NATS message; the names whose length is limited are in the overhead.
fn size(event: &Event) -> usize {
    match event {
        Event::Publish { request, .. } => {
            let publisher = match &request.publisher {
                Publisher::Connection(connection) => connection.0.len(),
                Publisher::Client(client_id) => client_id.len(),
            };
            publisher + request.data.len() + request.reply.len() + request.guid.as_str().len()
        }
        Event::Unsubscribe { request, .. } | Event::CloseSubscription { request, .. } => {
            request.client_id.len() + request.inbox.len()
        }
        Event::CloseClient { client_id, .. } => client_id.len(),
        Event::Ping { connection_id, .. } => connection_id.0.len(),
        Event::Ack(ack) => ack.channel.len(),
        Event::Refused { answer, .. } => match answer {
            Reply::PublishRefused(guid, _) => guid.as_ref().map_or(0, |guid| guid.as_str().len()),
            Reply::Connected { .. }
            | Reply::ConnectRefused(_)
            | Reply::Published(_)
            | Reply::Subscribed { .. }
            | Reply::SubscribeRefused(_)
            | Reply::Left
            | Reply::LeaveRefused(_)
            | Reply::ClientClosed
            | Reply::CloseRefused(_)
            | Reply::Pong
            | Reply::PingRefused(_) => 0,
        },
        Event::Connect { .. }
        | Event::Subscribe { .. }
        | Event::AlreadyStored { .. }
        | Event::Pong(_)
        | Event::Unreachable(_)
        | Event::Reconnected
        | Event::Committed(_)
        | Event::Loaded { .. }
        | Event::LoadFailed(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use bytestring::ByteString;

    use super::*;
    use crate::core::ids::{ChannelName, ConnectionId, Guid, ProbeId, Sequence, Subject};
    use crate::core::rejection::Rejection;
    use crate::core::request::{Ack, Leave, Publish};

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn events(range: std::ops::Range<u64>) -> impl Iterator<Item = Event> {
        range.map(|n| Event::Pong(ProbeId(n)))
    }

    #[test]
    fn what_is_too_old_is_forgotten_and_the_rest_keeps_its_order() {
        let mut shadow = Shadow::new(Duration::from_secs(5), 1 << 20);
        shadow.remember(events(0..1), at(0));
        shadow.remember(events(1..3), at(4));
        shadow.remember(events(3..4), at(6));

        assert_eq!(shadow.crowded_out(), 0);
        assert_eq!(shadow.take(at(8)), events(1..4).collect::<Vec<_>>());
    }

    #[test]
    fn what_does_not_fit_is_forgotten_from_the_oldest_on_and_counted() {
        let mut shadow = Shadow::new(Duration::from_secs(5), 2 * OVERHEAD_BYTES);
        shadow.remember(events(0..5), at(0));

        assert_eq!(shadow.crowded_out(), 3);
        assert_eq!(shadow.take(at(1)), events(3..5).collect::<Vec<_>>());
    }

    #[test]
    fn whatever_clients_may_make_long_counts() {
        let long = ByteString::from("x".repeat(1 << 20));
        let connection = ConnectionId(Bytes::from(vec![b'x'; 1 << 20]));
        let channel = ChannelName::parse("c".into()).unwrap();
        let inbox = Subject::parse("i".into()).unwrap();
        let leave = |client_id: &ByteString, inbox: &ByteString| Event::Unsubscribe {
            request: Leave {
                client_id: client_id.clone(),
                channel: channel.clone(),
                inbox: inbox.clone(),
            },
            reply: None,
        };
        let publish = |publisher: Publisher| Event::Publish {
            request: Publish {
                publisher,
                guid: Guid::parse("g".into()).unwrap(),
                channel: channel.clone(),
                reply: ByteString::new(),
                data: Bytes::new(),
            },
            reply: None,
        };
        for event in [
            leave(&long, &"i".into()),
            leave(&"me".into(), &long),
            publish(Publisher::Client(long.clone())),
            publish(Publisher::Connection(connection.clone())),
            Event::CloseClient {
                client_id: long.clone(),
                reply: None,
            },
            Event::Ping {
                connection_id: connection.clone(),
                reply: inbox.clone(),
            },
            Event::Ack(Ack {
                ack_inbox: "a".into(),
                channel: long.clone(),
                sequence: Sequence(1),
            }),
            Event::Refused {
                answer: Reply::PublishRefused(Guid::parse(long.clone()), Rejection::InvalidPublish),
                reply: inbox.clone(),
            },
        ] {
            let mut shadow = Shadow::new(Duration::from_secs(5), 2 << 20);
            shadow.remember(std::iter::repeat_n(event.clone(), 3), at(0));
            assert_eq!(shadow.crowded_out(), 2, "{event:.80?}");
        }
    }
}
