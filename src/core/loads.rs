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
    out: BTreeMap<LoadId, (Load, Purpose)>,
    failed: Vec<(Load, Purpose)>,
    /// Subscribe requests among all of these.
    starts: usize,
}

impl Loads {
    pub(super) fn ask(&mut self, channel: ChannelId, want: LoadQuery, purpose: Purpose) {
        self.last_id += 1;
        self.starts += usize::from(matches!(purpose, Purpose::Start(_)));
        self.waiting.push_back((
            Load {
                id: LoadId(self.last_id),
                channel,
                query: want,
            },
            purpose,
        ));
    }

    pub(super) fn poll(&mut self, out_max: usize) -> Option<Load> {
        if self.out.len() >= out_max {
            return None;
        }
        let mut waiting = self.waiting.iter();
        let at = waiting.position(|(_, purpose)| !self.has_to_wait(purpose))?;
        let (load, purpose) = self.waiting.remove(at)?;
        self.out.insert(load.id, (load.clone(), purpose));
        Some(load)
    }

    /// Answers overtake each other, and the last one that says which policies there are is taken to be the newest.
    fn has_to_wait(&self, purpose: &Purpose) -> bool {
        let mut out = self.out.values().map(|(_, purpose)| purpose);
        matches!(purpose, Purpose::Policies) && out.any(|out| matches!(out, Purpose::Policies))
    }

    pub(super) fn answered(&mut self, id: LoadId) -> Option<(Load, Purpose)> {
        let answered = self.out.remove(&id)?;
        self.starts -= usize::from(matches!(answered.1, Purpose::Start(_)));
        Some(answered)
    }

    /// Requests that wait for a read: the one purpose that clients can multiply.
    pub(super) fn starts(&self) -> usize {
        self.starts
    }

    /// One like this waits for its turn.
    pub(super) fn waits_for(&self, like: impl Fn(&Purpose) -> bool) -> bool {
        let mut waiting = self.waiting.iter().chain(&self.failed);
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
        let asked = self.waiting.iter().chain(self.out.values());
        asked.chain(&self.failed).map(|(_, purpose)| purpose)
    }

    pub(super) fn retry_failed(&mut self) {
        self.waiting.extend(self.failed.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
