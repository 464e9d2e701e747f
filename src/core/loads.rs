//! Reads that the core has asked for: a bounded number under way, the others in line, the failed ones later.

use std::collections::{BTreeMap, VecDeque};

use super::ids::{ChannelId, LoadId, PositionId, Sequence, Subject};
use super::load::{Load, LoadQuery};
use super::request::Subscribe;
use super::time::Instant;

/// What the answer is for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// New messages for a group that is behind the tail.
    Page(PositionId),
    /// Messages in flight that are to be redelivered.
    Redelivery(PositionId),
    /// A subscription starts at a time.
    Start(Box<PendingStart>),
    /// Limits want to know the oldest messages.
    Oldest,
    /// Somebody noted that messages are gone.
    Gone,
    /// What was published in SQL.
    Outbox,
    /// What operators have set.
    Policies,
    /// What operators ask for.
    Requests,
    /// What the request of an operator that is under way has to know.
    Request,
}

/// A subscribe request that waits for the read of its start.
#[derive(Clone, Debug)]
pub(super) struct PendingStart {
    pub(super) request: Subscribe,
    pub(super) reply: Option<Subject>,
    pub(super) received_at: Instant,
    /// Tells the connection that asked from a later one of the same client ID.
    pub(super) heartbeat_inbox: Subject,
    /// What the channel had committed when the read was asked for: the read sees that at least.
    pub(super) committed: Sequence,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Loads {
    last_id: u64,
    waiting: VecDeque<(Load, Purpose)>,
    /// Reads of subscribe requests, whose clients do not wait for long. They take turns with all others: there may be a read for
    /// every group in front of them, and clients can ask for as many as they like.
    starting: VecDeque<(Load, Purpose)>,
    is_turn_of_starts: bool,
    out: BTreeMap<LoadId, (Load, Purpose)>,
    failed: Vec<(Load, Purpose)>,
    /// Subscribe requests among all of these.
    starts: usize,
}

impl Loads {
    pub(super) fn ask(&mut self, channel: ChannelId, want: LoadQuery, purpose: Purpose) {
        self.last_id += 1;
        self.starts += usize::from(is_start(&purpose));
        let id = LoadId(self.last_id);
        let load = Load {
            id,
            channel,
            query: want,
        };
        self.put_in_line(load, purpose);
    }

    fn put_in_line(&mut self, load: Load, purpose: Purpose) {
        let line = if is_start(&purpose) {
            &mut self.starting
        } else {
            &mut self.waiting
        };
        line.push_back((load, purpose));
    }

    pub(super) fn poll(&mut self, out_max: usize) -> Option<Load> {
        if self.out.len() >= out_max {
            return None;
        }
        let (load, purpose) = if self.is_turn_of_starts {
            let start = self.starting.pop_front();
            start.or_else(|| self.next_other())
        } else {
            let other = self.next_other();
            other.or_else(|| self.starting.pop_front())
        }?;
        self.is_turn_of_starts = !is_start(&purpose);
        self.out.insert(load.id, (load.clone(), purpose));
        Some(load)
    }

    fn next_other(&mut self) -> Option<(Load, Purpose)> {
        let mut waiting = self.waiting.iter();
        let at = waiting.position(|(_, purpose)| !self.has_to_wait(purpose))?;
        self.waiting.remove(at)
    }

    /// Answers overtake each other, and the last one that says which policies there are is taken to be the newest.
    fn has_to_wait(&self, purpose: &Purpose) -> bool {
        let mut out = self.out.values().map(|(_, purpose)| purpose);
        matches!(purpose, Purpose::Policies) && out.any(|out| matches!(out, Purpose::Policies))
    }

    pub(super) fn answered(&mut self, id: LoadId) -> Option<(Load, Purpose)> {
        let answered = self.out.remove(&id)?;
        self.starts -= usize::from(is_start(&answered.1));
        Some(answered)
    }

    /// Requests that wait for a read: the one purpose that clients can multiply.
    pub(super) fn starts(&self) -> usize {
        self.starts
    }

    /// One like this waits for its turn.
    pub(super) fn waits_for(&self, like: impl Fn(&Purpose) -> bool) -> bool {
        let waiting = self.waiting.iter().chain(&self.starting);
        let mut waiting = waiting.chain(&self.failed);
        waiting.any(|(_, purpose)| like(purpose))
    }

    pub(super) fn fail(&mut self, id: LoadId) {
        self.failed.extend(self.out.remove(&id));
    }

    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Loads that are asked for and not answered.
    pub(super) fn purposes(&self) -> impl Iterator<Item = &Purpose> {
        let waiting = self.waiting.iter().chain(&self.starting);
        let asked = waiting.chain(self.out.values());
        asked.chain(&self.failed).map(|(_, purpose)| purpose)
    }

    pub(super) fn retry_failed(&mut self) {
        for (load, purpose) in std::mem::take(&mut self.failed) {
            self.put_in_line(load, purpose);
        }
    }
}

fn is_start(purpose: &Purpose) -> bool {
    matches!(purpose, Purpose::Start(_))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::ids::{ChannelName, ClientId};
    use crate::core::request::StartPosition;
    use crate::core::time::Timestamp;

    #[test]
    fn a_subscribe_that_waits_for_a_read_waits_for_no_more_than_one_read_of_another_kind() {
        let mut loads = Loads::default();
        for position in 0..100 {
            loads.ask(
                ChannelId(1),
                LoadQuery::Gone,
                Purpose::Page(PositionId(position)),
            );
        }
        let subject = |text: &'static str| Subject::parse(text.into()).unwrap();
        for ack_token in 0..3 {
            let request = Subscribe {
                client_id: ClientId::parse("me".into()).unwrap(),
                channel: ChannelName::parse("orders".into()).unwrap(),
                inbox: subject("inbox"),
                queue_group: None,
                durable_name: None,
                max_in_flight: 1,
                ack_wait: Duration::from_secs(1),
                start: StartPosition::TimeDelta(1),
                ack_token,
            };
            let start = PendingStart {
                request,
                reply: None,
                received_at: Instant::from_nanos(0),
                heartbeat_inbox: subject("hb"),
                committed: Sequence::ZERO,
            };
            let want = LoadQuery::FirstSince(Timestamp(0));
            loads.ask(ChannelId(1), want, Purpose::Start(Box::new(start)));
        }

        let mut are_starts = Vec::new();
        for _ in 0..8 {
            let load = loads.poll(1).unwrap();
            are_starts.push(matches!(load.query, LoadQuery::FirstSince(_)));
            loads.answered(load.id).unwrap();
        }
        let (start, other) = (true, false);
        assert_eq!(
            are_starts,
            [other, start, other, start, other, start, other, other]
        );
        assert_eq!(loads.starts(), 0);
    }

    #[test]
    fn policies_are_read_one_after_the_other_and_hold_up_no_other_read() {
        let mut loads = Loads::default();
        let policies = |loads: &mut Loads| {
            loads.ask(ChannelId(0), LoadQuery::Policies, Purpose::Policies);
        };
        policies(&mut loads);
        let first = loads.poll(10).unwrap();
        policies(&mut loads);
        loads.ask(ChannelId(0), LoadQuery::Gone, Purpose::Gone);
        assert_eq!(loads.poll(10).unwrap().query, LoadQuery::Gone);
        assert_eq!(loads.poll(10), None, "it might be answered before");
        assert!(loads.answered(first.id).is_some());
        assert_eq!(loads.poll(10).unwrap().query, LoadQuery::Policies);
    }
}
