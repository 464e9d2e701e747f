//! The requests that an active has in its hands: taken in, and not known to be committed. A term that ends leaves
//! them to the node's own shadow, so that a database that was away for a few seconds costs nobody an answer.

use std::time::Duration;

use super::memory_size;
use super::request::Request;
use super::shadow::ShadowLimits;
use super::time::Instant;

/// Beyond so many, acks are not kept: a consumer whose ack gets lost is sent the message again. Requests are bounded
/// by the room that the broker has.
const ACKS_MAX: usize = 1 << 16;

/// Requests kept for their age, because their answer may wait for more than a commit. The oldest are dropped.
const PATIENT_MAX: usize = 4096;

#[derive(Debug)]
pub struct RequestJournal {
    /// `None`: no standby would keep them.
    limits: Option<ShadowLimits>,
    /// Requests of the batch under way and before; then those handed in since. Each with its size.
    committing: Vec<(Instant, usize, Request)>,
    gathering: Vec<(Instant, usize, Request)>,
    /// What all of them weigh.
    bytes: usize,
}

impl RequestJournal {
    pub fn new(limits: Option<ShadowLimits>) -> Self {
        Self {
            limits,
            committing: Vec::new(),
            gathering: Vec::new(),
            bytes: 0,
        }
    }

    /// To be called with what the broker is about to be handed. What is more than a shadow would keep is left out:
    /// its sender sees a timeout when the term ends before its answer.
    pub fn take_in(&mut self, request: &Request, now: Instant) {
        let kept = match request {
            Request::Connect { .. }
            | Request::Publish { .. }
            | Request::Subscribe { .. }
            | Request::Unsubscribe { .. }
            | Request::CloseSubscription { .. }
            | Request::CloseClient { .. }
            | Request::Answered { .. }
            | Request::AlreadyStored { .. } => true,
            Request::Ack(_) => self.gathering.len() < ACKS_MAX,
            // Clients ping again by themselves.
            Request::Ping { .. } => false,
        };
        let bytes = self.bytes + memory_size::request(request);
        if kept && self.limits.is_some_and(|limits| bytes <= limits.bytes) {
            self.gathering
                .push((now, bytes - self.bytes, request.clone()));
            self.bytes = bytes;
        }
    }

    /// A batch with all that was taken in has left.
    pub fn submitted(&mut self) {
        self.committing.append(&mut self.gathering);
    }

    /// That batch is committed. What waits for a probe or a read is kept as long as a shadow keeps it, and so are publishes
    /// where NATS `takes_nothing`: their answers wait for it, and are lost with the term.
    pub fn committed(&mut self, takes_nothing: bool, now: Instant) {
        let age = self.limits.map_or(Duration::ZERO, |limits| limits.age);
        let mut gone = 0;
        self.committing.retain(|(at, bytes, request)| {
            let waits = takes_nothing && matches!(request, Request::Publish { .. });
            let stays = (waits || is_patient(request)) && now.since(*at) <= age;
            gone += if stays { 0 } else { *bytes };
            stays
        });
        let excess = self.committing.len().saturating_sub(PATIENT_MAX);
        let excess = self.committing.drain(..excess);
        gone += excess.map(|(_, bytes, _)| bytes).sum::<usize>();
        self.bytes -= gone;
    }

    /// The term is over: what may not have been carried out, in the order it was taken in.
    pub fn leave(&mut self) -> impl Iterator<Item = (Instant, Request)> + use<> {
        self.submitted();
        self.bytes = 0;
        let left = std::mem::take(&mut self.committing).into_iter();
        left.map(|(at, _, request)| (at, request))
    }
}

fn is_patient(request: &Request) -> bool {
    match request {
        Request::Connect { .. }
        | Request::Subscribe { .. }
        | Request::Unsubscribe { .. }
        | Request::CloseSubscription { .. }
        | Request::CloseClient { .. } => true,
        Request::Publish { .. }
        | Request::Ping { .. }
        | Request::Ack(_)
        | Request::Answered { .. }
        | Request::AlreadyStored { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use bytestring::ByteString;

    use super::*;
    use crate::core::ids::{ChannelName, Guid, Sequence};
    use crate::core::request::{Ack, Publish, Publisher};

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn ack(sequence: u64) -> Request {
        Request::Ack(Ack {
            ack_inbox: "a".into(),
            channel: "c".into(),
            sequence: Sequence(sequence),
        })
    }

    fn close(client: &'static str) -> Request {
        let client_id = client.into();
        Request::CloseClient {
            client_id,
            reply: None,
        }
    }

    fn journal(bytes: usize) -> RequestJournal {
        let age = Duration::from_secs(5);
        let needed = age;
        RequestJournal::new(Some(ShadowLimits { age, needed, bytes }))
    }

    #[test]
    fn what_is_more_than_a_shadow_remembers_is_not_kept() {
        let long = "x".repeat(1 << 20);
        let close = |at: u64| Request::CloseClient {
            client_id: format!("{at}{long}").into(),
            reply: None,
        };
        let mut journal = journal(3 << 20);
        for second in 0..9 {
            journal.take_in(&close(second), at(second));
            journal.submitted();
            journal.committed(false, at(second));
        }

        let left: Vec<u64> = journal.leave().map(|(at, _)| at.as_nanos()).collect();
        // The first two are too old by then, and made room for these.
        assert_eq!(left, [7, 8].map(|second| at(second).as_nanos()));
    }

    #[test]
    fn what_is_not_committed_is_left_in_its_order_and_the_rest_is_not() {
        let mut journal = journal(1 << 20);
        journal.take_in(&ack(1), at(0));
        journal.submitted();
        journal.take_in(&ack(2), at(1));
        journal.committed(false, at(1));
        journal.submitted();
        journal.take_in(&ack(3), at(2));

        let left: Vec<_> = journal.leave().collect();
        assert_eq!(left, [(at(1), ack(2)), (at(2), ack(3))]);
    }

    #[test]
    fn requests_that_may_wait_for_more_than_a_commit_are_kept_for_their_age() {
        let mut journal = journal(1 << 20);
        journal.take_in(&close("old"), at(0));
        journal.take_in(&close("new"), at(4));
        journal.submitted();
        journal.committed(false, at(6));

        let left: Vec<_> = journal.leave().collect();
        assert_eq!(left, [(at(4), close("new"))]);
    }

    #[test]
    fn publishes_committed_while_nats_takes_nothing_wait_for_their_answers() {
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
        let mut journal = journal(1 << 20);
        let mut commit = |guid, takes_nothing, second| {
            journal.take_in(&publish(guid), at(second));
            journal.take_in(&ack(1), at(second));
            journal.submitted();
            journal.committed(takes_nothing, at(second));
            let kept = journal.committing.iter();
            kept.map(|(_, _, request)| request.clone())
                .collect::<Vec<_>>()
        };

        assert_eq!(commit("a", false, 0), []);
        assert_eq!(commit("b", true, 1), [publish("b")]);
        assert_eq!(commit("c", true, 2), [publish("b"), publish("c")]);
        assert_eq!(
            commit("d", false, 3),
            [],
            "NATS takes them again, and they are sent"
        );
        assert_eq!(journal.bytes, 0);
    }

    #[test]
    fn where_nobody_would_remember_them_nothing_is_kept() {
        let mut journal = RequestJournal::new(None);
        journal.take_in(&ack(1), at(0));

        assert_eq!(journal.leave().count(), 0);
    }
}
