//! A node's memory of the last requests: bounded in age and bytes, and acted on by nobody until this node takes
//! over. What the active did not get to is judged again then.

use std::collections::VecDeque;
use std::time::Duration;

use super::memory_size;
use super::request::Request;
use super::time::Instant;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShadowLimits {
    pub age: Duration,
    /// What is younger when it is forgotten is missed where the active froze. At most `age`.
    pub needed: Duration,
    pub bytes: usize,
}

/// Lives as long as a node receives everything: across candidacies that fail and terms that end. After a broken connection to
/// NATS a later request may be missing that takes an earlier one back, and nobody knows how many publishes were stored
/// meanwhile: what was received before is not carried out any more. Its publishes are kept to be answered where they are
/// found stored, as the server that stored them may have lost its answers in the same moment.
#[derive(Debug)]
pub struct Shadow {
    received: VecDeque<(Instant, usize, Request)>,
    /// Publishes of before something was missed.
    earlier: VecDeque<(Instant, usize, Request)>,
    /// What `received` and `earlier` hold.
    bytes: usize,
    /// `None`: nothing is kept.
    limits: Option<ShadowLimits>,
    /// Requests that had to be forgotten while they were needed, since this was last asked.
    crowded_out: u64,
}

/// What a shadow kept, and when it was received.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// To be judged, and carried out.
    pub received: Vec<(Instant, Request)>,
    /// Publishes of before something was missed: to be answered where they are stored, and not to be carried out.
    pub earlier: Vec<(Instant, Request)>,
}

impl Shadow {
    pub fn new(limits: Option<ShadowLimits>) -> Self {
        Self {
            received: VecDeque::new(),
            earlier: VecDeque::new(),
            bytes: 0,
            limits,
            crowded_out: 0,
        }
    }

    /// Something may have been missed.
    pub fn missed(&mut self) {
        for (at, bytes, request) in std::mem::take(&mut self.received) {
            if matches!(request, Request::Publish { .. }) {
                self.earlier.push_back((at, bytes, request));
            } else {
                self.bytes -= bytes;
            }
        }
    }

    pub fn record(&mut self, requests: impl Iterator<Item = Request>, now: Instant) {
        self.inherit(requests.map(|request| (now, request)), now);
    }

    /// Remembers what was received at the times named, in their order and none before what is remembered already.
    pub fn inherit(&mut self, requests: impl Iterator<Item = (Instant, Request)>, now: Instant) {
        let Some(limits) = self.limits else {
            requests.for_each(drop);
            return;
        };
        for (at, request) in requests {
            let bytes = memory_size::request(&request);
            self.bytes += bytes;
            self.received.push_back((at, bytes, request));
            while self.bytes > limits.bytes {
                if self.forget_earliest() {
                    continue;
                }
                let Some(received_at) = self.forget_oldest() else {
                    break;
                };
                let is_missed = now.since(received_at) <= limits.needed;
                self.crowded_out += u64::from(is_missed);
            }
        }
        self.expire(now);
    }

    /// Forgets what is older than the limit.
    pub fn expire(&mut self, now: Instant) {
        let age = self.limits.map_or(Duration::ZERO, |limits| limits.age);
        let is_old = |(at, _, _): &(Instant, usize, Request)| now.since(*at) > age;
        while self.earlier.front().is_some_and(is_old) {
            self.forget_earliest();
        }
        while self.received.front().is_some_and(is_old) {
            self.forget_oldest();
        }
    }

    /// False where there is none.
    fn forget_earliest(&mut self) -> bool {
        let Some((_, bytes, _)) = self.earlier.pop_front() else {
            return false;
        };
        self.bytes -= bytes;
        true
    }

    /// When it was received.
    fn forget_oldest(&mut self) -> Option<Instant> {
        let (received_at, bytes, _) = self.received.pop_front()?;
        self.bytes -= bytes;
        Some(received_at)
    }

    /// Requests that were forgotten for want of room within the time that is needed, since this was last asked. More than
    /// zero means that a takeover may lose requests that were under way, whose senders then see a timeout.
    pub fn take_crowded_out(&mut self) -> u64 {
        std::mem::take(&mut self.crowded_out)
    }

    /// What it costs at the moment.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is remembered, in its order, and may be stored.
    pub fn received(&self) -> impl Iterator<Item = &Request> {
        let all = self.earlier.iter().chain(&self.received);
        all.map(|(_, _, request)| request)
    }

    /// What was received up to a time, in its order, and whether nothing was missed since; `None`: all of it.
    pub fn received_until(&self, until: Option<Instant>) -> impl Iterator<Item = (bool, &Request)> {
        let earlier = self.earlier.iter().map(|it| (false, it));
        let all = earlier.chain(self.received.iter().map(|it| (true, it)));
        let all = all.take_while(move |(_, (at, ..))| until.is_none_or(|until| *at <= until));
        all.map(|(is_whole, (_, _, request))| (is_whole, request))
    }

    /// Hands out what is kept, in its order.
    pub fn take(&mut self) -> Taken {
        self.bytes = 0;
        let all = |of: &mut VecDeque<(Instant, usize, Request)>| {
            let all = std::mem::take(of).into_iter();
            all.map(|(at, _, request)| (at, request)).collect()
        };
        Taken {
            received: all(&mut self.received),
            earlier: all(&mut self.earlier),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use bytestring::ByteString;

    use super::memory_size::OVERHEAD_BYTES;
    use super::*;
    use crate::core::ids::{ChannelName, ConnectionId, Guid, Sequence, Subject};
    use crate::core::outbound::Reply;
    use crate::core::rejection::Rejection;
    use crate::core::request::{Ack, Leave, Publish, Publisher};

    fn shadow(bytes: usize) -> Shadow {
        let age = Duration::from_secs(5);
        let needed = Duration::from_secs(3);
        Shadow::new(Some(ShadowLimits { age, needed, bytes }))
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn taken(mut shadow: Shadow) -> Vec<Request> {
        let taken = shadow.take().received.into_iter();
        taken.map(|(_, request)| request).collect()
    }

    fn requests(range: std::ops::Range<u64>) -> impl Iterator<Item = Request> {
        range.map(|n| {
            Request::Ack(Ack {
                ack_inbox: ByteString::new(),
                channel: ByteString::new(),
                sequence: Sequence(n),
            })
        })
    }

    #[test]
    fn what_is_too_old_is_forgotten_and_the_rest_keeps_its_order() {
        let mut shadow = shadow(1 << 20);
        shadow.record(requests(0..1), at(0));
        shadow.record(requests(1..3), at(4));
        shadow.record(requests(3..4), at(6));

        shadow.expire(at(8));

        assert_eq!(shadow.take_crowded_out(), 0);
        assert_eq!(shadow.bytes(), 3 * OVERHEAD_BYTES);
        assert_eq!(taken(shadow), requests(1..4).collect::<Vec<_>>());
    }

    #[test]
    fn what_does_not_fit_is_forgotten_from_the_oldest_on_and_counted() {
        let mut shadow = shadow(2 * OVERHEAD_BYTES);
        shadow.record(requests(0..5), at(0));

        assert_eq!(shadow.take_crowded_out(), 3);
        assert_eq!(shadow.take_crowded_out(), 0, "they were told");
        assert_eq!(taken(shadow), requests(3..5).collect::<Vec<_>>());
    }

    #[test]
    fn what_makes_room_after_it_was_needed_is_not_missed() {
        let mut shadow = shadow(2 * OVERHEAD_BYTES);
        shadow.record(requests(0..2), at(0));
        shadow.record(requests(2..3), at(3));
        assert_eq!(shadow.take_crowded_out(), 1);

        shadow.record(requests(3..4), at(4));
        assert_eq!(shadow.take_crowded_out(), 0);
    }

    #[test]
    fn what_a_term_leaves_behind_keeps_its_age() {
        let mut shadow = shadow(1 << 20);
        let left = requests(0..2)
            .zip([at(1), at(4)])
            .map(|(request, at)| (at, request));
        shadow.inherit(left, at(5));
        shadow.record(requests(2..3), at(7));

        let expected: Vec<_> = [at(4), at(7)].into_iter().zip(requests(1..3)).collect();
        assert_eq!(shadow.take().received, expected);
    }

    #[test]
    fn what_was_missed_may_take_back_all_but_publishes_which_make_room_first() {
        let publish = |guid: &'static str| Request::Publish {
            request: Publish {
                publisher: Publisher::Client("me".into()),
                guid: Guid::parse(guid.into()).unwrap(),
                channel: ChannelName::parse("c".into()).unwrap(),
                reply: ByteString::new(),
                data: Bytes::new(),
            },
            reply: None,
        };
        let size = memory_size::request(&publish("a"));
        let mut shadow = shadow(3 * size);
        shadow.record(requests(0..1).chain([publish("a"), publish("b")]), at(0));
        shadow.missed();
        assert_eq!(shadow.bytes(), 2 * size);
        shadow.record([publish("c"), publish("d")].into_iter(), at(1));

        assert_eq!(shadow.take_crowded_out(), 0, "it is not missed");
        let all = [publish("b"), publish("c"), publish("d")];
        assert_eq!(shadow.received().cloned().collect::<Vec<_>>(), all);
        let expected = Taken {
            received: vec![(at(1), publish("c")), (at(1), publish("d"))],
            earlier: vec![(at(0), publish("b"))],
        };
        assert_eq!(shadow.take(), expected);
        assert_eq!(shadow.bytes(), 0);

        shadow.record([publish("a")].into_iter(), at(2));
        shadow.missed();
        shadow.expire(at(8));
        assert_eq!((shadow.received().count(), shadow.bytes()), (0, 0));
    }

    #[test]
    fn without_limits_nothing_is_remembered() {
        let mut shadow = Shadow::new(None);
        shadow.record(requests(0..3), at(0));

        assert_eq!(shadow.take_crowded_out(), 0);
        assert_eq!(shadow.take(), Taken::default());
    }

    #[test]
    fn whatever_clients_may_make_long_counts() {
        let long = ByteString::from("x".repeat(1 << 20));
        let connection = ConnectionId(Bytes::from(vec![b'x'; 1 << 20]));
        let channel = ChannelName::parse("c".into()).unwrap();
        let inbox = Subject::parse("i".into()).unwrap();
        let leave = |client_id: &ByteString, inbox: &ByteString| Request::Unsubscribe {
            request: Leave {
                client_id: client_id.clone(),
                channel: channel.clone(),
                inbox: inbox.clone(),
            },
            reply: None,
        };
        let publish = |publisher: Publisher| Request::Publish {
            request: Publish {
                publisher,
                guid: Guid::parse("g".into()).unwrap(),
                channel: channel.clone(),
                reply: ByteString::new(),
                data: Bytes::new(),
            },
            reply: None,
        };
        for request in [
            leave(&long, &"i".into()),
            leave(&"me".into(), &long),
            publish(Publisher::Client(long.clone())),
            publish(Publisher::Connection(connection.clone())),
            Request::CloseClient {
                client_id: long.clone(),
                reply: None,
            },
            Request::Ping {
                connection_id: connection.clone(),
                reply: inbox.clone(),
            },
            Request::Ack(Ack {
                ack_inbox: "a".into(),
                channel: long.clone(),
                sequence: Sequence(1),
            }),
            Request::Answered {
                answer: Reply::PublishRefused(long.clone().into_bytes(), Rejection::InvalidPublish),
                reply: inbox.clone(),
            },
        ] {
            let mut shadow = shadow(2 << 20);
            shadow.record(std::iter::repeat_n(request.clone(), 3), at(0));
            assert_eq!(shadow.take_crowded_out(), 2, "{request:.80?}");
        }
    }
}
