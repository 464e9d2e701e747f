//! The broker of a term as the active loop handles it: directly, or through savepoints where Postgres refused something
//! lately.

use super::batch::Batch;
use super::broker::Broker;
use super::capacity::Capacity;
use super::deadlines::Due;
use super::event::Event;
use super::ids::BatchNumber;
use super::limits::Limits;
use super::load::Load;
use super::notice::Notice;
use super::outbound::Outbound;
use super::refusal::Refusal;
use super::request::Request;
use super::savepoint::{RefusedWrite, Savepoints};
use super::time::{Instant, Now};

#[derive(Debug)]
pub struct Guarded {
    broker: Broker,
    savepoints: Option<Savepoints>,
}

impl Guarded {
    /// What is handed in is carried out at once, and cannot be taken back.
    pub fn new(broker: Broker) -> Self {
        Self {
            broker,
            savepoints: None,
        }
    }

    /// What is handed in can be taken back until it is stored.
    pub fn with_savepoints(broker: Broker) -> Self {
        Self {
            broker,
            savepoints: Some(Savepoints::default()),
        }
    }

    /// True when what is handed in can be taken back.
    pub fn has_savepoints(&self) -> bool {
        self.savepoints.is_some()
    }

    /// To be looked at only.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    pub fn handle(&mut self, event: impl Into<Event>, now: Now) {
        match &mut self.savepoints {
            Some(savepoints) => savepoints.handle(event.into()),
            None => self.broker.handle(event, now),
        }
    }

    /// As [`Broker::handle_late`]. Where it can be taken back, it counts as received when it is carried out.
    pub fn handle_late(&mut self, event: Event, received_at: Instant, now: Now) {
        match &mut self.savepoints {
            Some(savepoints) => savepoints.handle(event),
            None => self.broker.handle_late(event, received_at, now),
        }
    }

    pub fn handle_timeout(&mut self, now: Now) {
        self.handle_due(false, now);
    }

    /// The same; `answers_wait`: answers to probes may have come that are not handed in yet.
    pub fn handle_due(&mut self, answers_wait: bool, now: Now) {
        let due = Due {
            by: now.monotonic,
            answers_wait,
        };
        match &mut self.savepoints {
            Some(savepoints) => savepoints.handle_due(due),
            None => self.broker.handle_due(due, now),
        }
    }

    pub fn set_limits(&mut self, limits: &Limits, now: Now) {
        match &mut self.savepoints {
            Some(savepoints) => savepoints.set_limits(limits.clone()),
            None => self.broker.set_limits(limits, now),
        }
    }

    /// `None` while timers have to wait for what is on its way.
    pub fn next_timeout(&self) -> Option<Instant> {
        let waits = self
            .savepoints
            .as_ref()
            .is_some_and(|savepoints| !savepoints.takes_more());
        if waits {
            None
        } else {
            self.broker.next_timeout()
        }
    }

    /// See [`Broker::look`].
    pub fn look(&mut self, now: Now) {
        self.broker.look(now);
    }

    /// An answer or a probe: they have priority over deliveries.
    pub fn poll_answer(&mut self) -> Option<Outbound> {
        if self.is_open() {
            return None;
        }
        self.broker.poll_answer()
    }

    pub fn poll_delivery(&mut self) -> Option<Outbound> {
        if self.is_open() {
            return None;
        }
        self.broker.poll_delivery()
    }

    /// See [`Broker::steps`].
    pub fn steps(&self) -> u64 {
        self.broker.steps()
    }

    /// See [`Broker::has_turns`].
    pub fn has_turns(&self) -> bool {
        !self.is_open() && self.broker.has_turns()
    }

    /// See [`Broker::has_deliveries`]; true also where there are savepoints, before which everything has to be taken out.
    pub fn has_deliveries(&self) -> bool {
        self.has_savepoints() || self.broker.has_deliveries()
    }

    pub fn poll_outbound(&mut self) -> Option<Outbound> {
        if self.is_open() {
            return None;
        }
        self.broker.poll_outbound()
    }

    pub fn poll_load(&mut self) -> Option<Load> {
        if self.is_open() {
            return None;
        }
        self.broker.poll_load()
    }

    pub fn poll_notice(&mut self) -> Option<Notice> {
        if self.is_open() {
            return None;
        }
        self.broker.poll_notice()
    }

    /// To be called after everything that there is to be sent, read and logged was taken.
    pub fn poll_batch(&mut self, now: Now) -> Option<Batch> {
        match &mut self.savepoints {
            Some(savepoints) => savepoints.poll_batch(&mut self.broker, now),
            None => self.broker.poll_batch(),
        }
    }

    pub fn committed(&mut self, number: BatchNumber, now: Now) {
        match &mut self.savepoints {
            Some(savepoints) => {
                // Another batch may follow from this one at once, and nothing leaves while that is on its way.
                self.broker.release_answers();
                savepoints.committed(Event::Committed(number));
            }
            None => self.broker.handle(Event::Committed(number), now),
        }
    }

    /// The batch on its way is not in the tables and never will be. An error ends the term: nothing can be taken back.
    pub fn refused(&mut self, refusal: Refusal, now: Now) -> Result<(), Box<Refusal>> {
        let Some(savepoints) = &mut self.savepoints else {
            return Err(Box::new(refusal));
        };
        savepoints.refused(&mut self.broker, &refusal, now);
        match savepoints.hopeless() {
            Some(refusal) => Err(Box::new(refusal.clone())),
            None => Ok(()),
        }
    }

    /// See [`Savepoints::take_moved`].
    pub fn take_moved(&mut self) -> bool {
        self.savepoints.as_mut().is_some_and(Savepoints::take_moved)
    }

    /// What was refused since this was last asked.
    pub fn take_refused(&mut self) -> Vec<RefusedWrite> {
        let savepoints = self.savepoints.as_mut();
        savepoints.map(Savepoints::take_refused).unwrap_or_default()
    }

    pub fn flush(&mut self) {
        if !self.is_open() {
            self.broker.flush();
        }
    }

    /// For requests.
    pub fn capacity(&self) -> Capacity {
        let savepoints = self.savepoints.as_ref();
        if savepoints.is_none_or(Savepoints::takes_more) {
            self.broker.capacity()
        } else {
            Capacity::None
        }
    }

    /// True when what is handed in next should wait for another batch. Behind savepoints that is seen to later.
    pub fn is_full(&self) -> bool {
        self.savepoints.is_none() && !self.broker.has_capacity()
    }

    /// And nothing is left of what a batch keeps for clients that have little under way.
    pub fn is_exhausted(&self) -> bool {
        self.savepoints.is_none() && self.broker.capacity() == Capacity::None
    }

    /// See [`Broker::set_batch_bytes`].
    pub fn set_batch_bytes(&mut self, bytes: usize) {
        self.broker.set_batch_bytes(bytes);
    }

    pub fn is_drained(&self) -> bool {
        let is_idle = self.savepoints.as_ref().is_none_or(Savepoints::is_idle);
        is_idle && self.broker.is_drained()
    }

    /// Requests that wait behind a savepoint, or whose refusal has not left, when the term ends.
    pub fn leave(&mut self) -> Vec<Request> {
        let savepoints = self.savepoints.as_mut();
        let left = savepoints.map(|savepoints| savepoints.leave(&self.broker));
        left.unwrap_or_default()
    }

    fn is_open(&self) -> bool {
        self.savepoints.as_ref().is_some_and(Savepoints::is_open)
    }
}
