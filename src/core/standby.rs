//! What a server does while it is not the active, as a state machine without IO: when it may queue for the lock, what it keeps
//! of what it received, when it tries again. Whoever drives it (the node, the simulation) carries out one step after the other:
//!
//! | asks for | why |
//! |---|---|
//! | [`Step::Listen`] | an active that receives nothing serves nobody |
//! | [`Step::CheckNats`] | nor does one whose NATS answers late |
//! | [`Step::Queue`] | Postgres grants the lock in the order of its queue |
//! | [`Step::TakeOver`] | the lock is there |
//! | [`Step::Pause`] | something failed, and the next attempt is a while away |
//!
//! `done` says that it was done, `failed` and `term_ended` that it is over. What is received meanwhile is kept, over attempts
//! that fail and terms that end. Over a broken connection to NATS publishes alone are, to be answered where they are stored:
//! of what was missed nobody knows.

use std::time::Duration;

use super::attempts::{Attempts, EndKind};
use super::event::Event;
use super::request::Request;
use super::shadow::{Shadow, ShadowLimits};
use super::time::Instant;

/// After so many terms in a row that ended for one cause, somebody has to mend that.
const TERMS_FOR_ONE_CAUSE: u32 = 3;

/// A standby that has waited for the lock for so long assumes that another server serves.
pub const ANOTHER_SERVES_AFTER: Duration = Duration::from_secs(5);

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Subscribe to what clients ask for, as soon as there is a NATS.
    Listen,
    /// Make sure that NATS answers in time, and that no server serves from other tables.
    CheckNats,
    /// Wait for the lock on a session of its own.
    Queue,
    /// The lock is this server's: see [`super::takeover`].
    TakeOver,
    /// Wait for so long.
    Pause(Duration),
}

/// Why an attempt to become the active is over.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    pub cause: EndKind,
    /// What was received so far may lack something.
    pub is_of_nats: bool,
    /// Somebody has to change something before it goes.
    pub is_lasting: bool,
}

/// How a term of this server ended.
#[derive(Clone, Copy, Debug)]
pub struct TermEnd {
    /// When nobody wanted it.
    pub cause: Option<EndKind>,
    /// It still receives everything that clients ask for.
    pub is_listening: bool,
}

#[derive(Debug)]
pub struct Standby {
    step: Step,
    is_listening: bool,
    shadow: Shadow,
    attempts: Attempts,
}

impl Standby {
    /// `shadow`: how much it keeps of what clients ask the active.
    pub fn new(lease: Duration, shadow: Option<ShadowLimits>) -> Self {
        Self {
            step: Step::Listen,
            is_listening: false,
            shadow: Shadow::new(shadow),
            attempts: Attempts::new(lease),
        }
    }

    pub fn step(&self) -> Step {
        self.step
    }

    /// What was asked for is done.
    pub fn done(&mut self) {
        self.step = match self.step {
            Step::Listen => {
                self.is_listening = true;
                Step::CheckNats
            }
            Step::CheckNats => Step::Queue,
            Step::Queue | Step::TakeOver => Step::TakeOver,
            Step::Pause(_) if self.is_listening => Step::CheckNats,
            Step::Pause(_) => Step::Listen,
        };
    }

    /// What came from NATS, in its order; requests are remembered.
    pub fn receive(&mut self, events: impl Iterator<Item = Event>, now: Instant) {
        let requests = events.filter_map(Event::into_request);
        self.shadow.record(requests, now);
    }

    /// Its connection to NATS was broken: what it received is not the last of what clients asked for.
    pub fn missed(&mut self) {
        self.is_listening = false;
        self.shadow.missed();
    }

    /// What it was about to do did not go. The pause is asked for next.
    pub fn failed(&mut self, failure: Failure, now: Instant) -> Duration {
        if failure.is_of_nats {
            self.missed();
        }
        let Failure {
            cause, is_lasting, ..
        } = failure;
        self.pause(|attempts| attempts.failed(cause, is_lasting, now))
    }

    /// A term has ended that had lasted so long; `left` is what it had in its hands, in its order, and when it was received.
    /// The pause is asked for next.
    pub fn term_ended(
        &mut self,
        end: TermEnd,
        lasted: Duration,
        left: impl Iterator<Item = (Instant, Request)>,
        now: Instant,
    ) -> Duration {
        self.shadow.inherit(left, now);
        if !end.is_listening {
            // What came since it stopped to listen, nobody here has received.
            self.missed();
        }
        self.pause(|attempts| attempts.term_ended(end.cause, lasted, now))
    }

    fn pause(&mut self, of: impl FnOnce(&mut Attempts) -> Duration) -> Duration {
        let pause = of(&mut self.attempts);
        self.step = Step::Pause(pause);
        pause
    }

    /// How many terms in a row have ended for the last cause, where somebody has to mend that.
    pub fn terms_of_one_cause(&self) -> Option<u32> {
        Some(self.attempts.of_one_cause()).filter(|&count| count >= TERMS_FOR_ONE_CAUSE)
    }

    pub fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    pub fn shadow_mut(&mut self) -> &mut Shadow {
        &mut self.shadow
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use bytestring::ByteString;

    use super::*;
    use crate::core::ids::{ChannelName, Guid, Sequence};
    use crate::core::request::{Ack, Publish, Publisher};
    use crate::core::shadow::Taken;

    const LEASE: Duration = Duration::from_secs(2);

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn ack(number: u64) -> Request {
        Request::Ack(Ack {
            ack_inbox: "inbox".into(),
            channel: "c".into(),
            sequence: Sequence(number),
        })
    }

    fn publish(guid: &'static str) -> Request {
        Request::Publish {
            request: Publish {
                publisher: Publisher::Client("me".into()),
                guid: Guid::parse(guid.into()).unwrap(),
                channel: ChannelName::parse("c".into()).unwrap(),
                reply: ByteString::new(),
                data: Bytes::new(),
            },
            reply: None,
        }
    }

    fn remembered(standby: &Standby) -> Vec<Request> {
        standby.shadow().received().cloned().collect()
    }

    /// One that has received this and waits for the lock.
    fn queued(number: u64) -> Standby {
        let age = Duration::from_mins(1);
        let limits = ShadowLimits {
            age,
            needed: age,
            bytes: 1 << 20,
        };
        let mut standby = Standby::new(LEASE, Some(limits));
        standby.done();
        standby.receive(std::iter::once(ack(number).into()), at(1));
        standby.done();
        assert_eq!(standby.step(), Step::Queue);
        standby
    }

    fn failure(is_of_nats: bool) -> Failure {
        Failure {
            cause: EndKind::DatabaseLost,
            is_of_nats,
            is_lasting: false,
        }
    }

    #[test]
    fn a_database_that_is_away_takes_nothing_of_what_was_heard() {
        let mut standby = queued(1);

        let pause = standby.failed(failure(false), at(2));

        assert_eq!(standby.step(), Step::Pause(pause));
        assert_eq!(remembered(&standby), [ack(1)]);
        standby.done();
        assert_eq!(standby.step(), Step::CheckNats, "it listens already");
    }

    #[test]
    fn of_what_was_heard_before_nats_was_away_publishes_are_kept_for_their_answers_and_it_listens_anew()
     {
        let mut standby = queued(1);
        standby.receive(
            [publish("a"), ack(2)].map(Event::Request).into_iter(),
            at(1),
        );

        standby.failed(failure(true), at(2));

        assert_eq!(remembered(&standby), [publish("a")]);
        let expected = Taken {
            received: Vec::new(),
            earlier: vec![(at(1), publish("a"))],
        };
        assert_eq!(standby.shadow_mut().take(), expected);
        standby.done();
        assert_eq!(standby.step(), Step::Listen);
    }

    #[test]
    fn what_a_term_leaves_is_to_be_carried_out_where_everything_since_is_heard_and_only_there() {
        for is_listening in [true, false] {
            let mut standby = queued(1);
            standby.done();
            assert_eq!(standby.step(), Step::TakeOver);
            standby.shadow_mut().take();

            let end = TermEnd {
                cause: Some(EndKind::DatabaseLost),
                is_listening,
            };
            let left = [(at(3), ack(3)), (at(3), publish("a"))];
            standby.term_ended(end, LEASE, left.clone().into_iter(), at(4));

            let expected = if is_listening {
                Taken {
                    received: left.to_vec(),
                    earlier: Vec::new(),
                }
            } else {
                Taken {
                    received: Vec::new(),
                    earlier: left[1..].to_vec(),
                }
            };
            assert_eq!(standby.shadow_mut().take(), expected);
        }
    }

    #[test]
    fn three_terms_that_end_for_one_cause_are_somebodys_business() {
        let mut standby = queued(1);
        let counts = [1, 2, 3].map(|second| {
            let end = TermEnd {
                cause: Some(EndKind::WriteRefused),
                is_listening: true,
            };
            standby.term_ended(end, Duration::ZERO, std::iter::empty(), at(second));
            standby.terms_of_one_cause()
        });
        assert_eq!(counts, [None, None, Some(3)]);
    }
}
