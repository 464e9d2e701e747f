//! The active loop as a state machine without IO: when the active may speak, how much one turn takes, when it gives up.
//! Its driver (the node, the simulation) runs this loop and carries out what it is handed:
//!
//! ```text
//! loop {
//!     begin_turn(now, trusted until, lag of NATS)    silent: wait, and go round; else timers have gone off
//!     poll_batch_early                                 -> commit, which goes on while answers leave
//!     while NATS has room: poll_answer, poll_delivery  -> NATS
//!     sent(...)                                        gives up on a NATS that takes nothing
//!     while poll_load                                  -> read, answered by `from_tables`
//!     poll_batch                                       -> commit, answered by `committed` or `refused`
//!     while poll_notice                                -> log
//!     rest(now)                                        what to wait for; then hand in what came first:
//!         committed, refused, ask_to_end, nats_changed, timeout, set_limits, take_backlog, from_tables, take_requests
//! }
//! ```
//!
//! Nothing is handed out to be sent before the batch that justifies it is committed ([`super::commits`]), nor while the
//! term is not trusted. An `Err` ends the term, whatever the call; what was not answered by then is in [`Self::leave`].
//!
//! [`Self::leave`]: ActiveLoop::leave

use std::collections::VecDeque;
use std::time::Duration;

use super::batch::Batch;
use super::broker::Broker;
use super::capacity::Capacity;
use super::event::Event;
use super::guarded::Guarded;
use super::ids::BatchNumber;
use super::limits::Limits;
use super::load::Load;
use super::notice::Notice;
use super::outbound::Outbound;
use super::refusal::Refusal;
use super::request::Request;
use super::request_journal::RequestJournal;
use super::savepoint::RefusedWrite;
use super::shadow::ShadowLimits;
use super::time::{Instant, Now};
use super::upload::UploadWindow;

mod intake;
mod latency_sensitive;
mod turn;

use latency_sensitive::LatencySensitiveClients;
pub use turn::{End, Intake, Turn, Wait};

/// Requests handled in one turn, before outputs are looked at again.
pub const EVENTS_PER_TURN: usize = 1024;

/// Deliveries sent in one turn, before requests are looked at again.
const DELIVERY_BYTES_PER_TURN: usize = 512 << 10;

/// And steps of looking for them: choosing among the members of large queue groups takes longer than sending.
const STEPS_PER_TURN: u64 = 8192;

/// An untrusted active looks so often whether a renewal has come through after all.
const TRUST_INTERVAL: Duration = Duration::from_millis(5);

/// Every call on the leader session has a shorter limit: after this nobody will say how the term ended.
const UNTRUSTED_MAX: Duration = Duration::from_mins(1);

/// Timers wait no longer for a NATS that is late.
const LATE_MAX: Duration = Duration::from_secs(5);

/// A step-down that takes longer leaves the rest to the next active.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// See the head of the file.
#[derive(Debug)]
pub struct ActiveLoop {
    broker: Guarded,
    /// For so long NATS may be out of reach.
    lease: Duration,
    /// See [`Heartbeats::pause_max`](super::limits::Heartbeats::pause_max).
    pause_max: Duration,
    /// What was received and not yet handled, and when; it goes before anything new.
    backlog: VecDeque<(Instant, Event)>,
    journal: RequestJournal,
    /// Once it is asked to end, it takes no new work, and no more time than until then.
    ends_at: Option<Instant>,
    /// Since when the term is not trusted.
    untrusted_since: Option<Instant>,
    /// Since when NATS is out of reach.
    nats_lost_at: Option<Instant>,
    /// Since when NATS has been late to take what is sent.
    late_since: Option<Instant>,
    /// Since when what is to be sent does not move, although NATS is connected, and how far it had moved.
    blocked_since: Option<(Instant, u64)>,
    /// When the loop last went round.
    looked_at: Instant,
    /// When a pause began of which not everything that came meanwhile is taken yet.
    paused_at: Option<Instant>,
    /// Nothing was taken for a while, and not all that came meanwhile is taken yet.
    is_behind: bool,
    /// Since then what came could be taken once.
    had_turn: bool,
    latency_sensitive: LatencySensitiveClients,
    /// Bytes of deliveries sent in this turn.
    sent_bytes: usize,
    /// How many steps had been taken when this turn's deliveries began.
    steps_before: u64,
    more_to_send: bool,
}

impl ActiveLoop {
    /// `backlog`: what was received before the term, to be handled before anything new. `shadow`: how much of what is not
    /// answered at its end it keeps for the next one.
    pub fn new(
        broker: Guarded,
        backlog: VecDeque<(Instant, Request)>,
        lease: Duration,
        shadow: Option<ShadowLimits>,
        now: Instant,
    ) -> Self {
        let backlog = backlog.into_iter().map(|(at, it)| (at, it.into()));
        Self {
            pause_max: broker.broker().settings.heartbeats.pause_max(),
            broker,
            lease,
            backlog: backlog.collect(),
            journal: RequestJournal::new(shadow),
            ends_at: None,
            untrusted_since: None,
            nats_lost_at: None,
            late_since: None,
            blocked_since: None,
            looked_at: now,
            paused_at: None,
            is_behind: false,
            had_turn: false,
            latency_sensitive: LatencySensitiveClients::default(),
            sent_bytes: 0,
            steps_before: 0,
            more_to_send: false,
        }
    }

    /// To be looked at only.
    pub fn broker(&self) -> &Broker {
        self.broker.broker()
    }

    /// `lag`: for how long NATS has not answered. Lets a bounded number of timers go off.
    pub fn begin_turn(
        &mut self,
        now: Now,
        trusted_until: Instant,
        lag: Duration,
    ) -> Result<Turn, End> {
        let time = now.monotonic;
        if time >= trusted_until {
            let since = *self.untrusted_since.get_or_insert(time);
            if time.since(since) > UNTRUSTED_MAX {
                return Err(End::Unproved);
            }
            let next = time + TRUST_INTERVAL;
            let until = self.ends_at.map_or(next, |end| end.min(next));
            return Ok(Turn::KeepSilent(until));
        }
        self.untrusted_since = None;
        // What ran out while the process was frozen says nothing about clients: that has to be noted first.
        self.note_turn(now);
        let is_late = self.is_late(lag, now);
        let due = self.broker.next_timeout();
        if self.nats_lost_at.is_none() && !is_late && due.is_some_and(|due| due <= time) {
            self.broker.handle_due(self.is_behind, now);
        }
        self.broker.look(now);
        self.sent_bytes = 0;
        self.steps_before = self.broker.steps();
        Ok(Turn::Serve)
    }

    /// Before anything is done about what is due.
    fn note_turn(&mut self, now: Now) {
        let before = std::mem::replace(&mut self.looked_at, now.monotonic);
        if now.monotonic.since(before) <= self.pause_max {
            return;
        }
        self.paused_at.get_or_insert(before);
        if self.nats_lost_at.is_none() {
            // What came meanwhile has not been read yet, the answers to probes among it.
            self.broker.handle(Event::Paused, now);
        }
    }

    /// NATS is late to take what is sent: that clients do not answer says nothing about them yet. For a while only, or
    /// timers would stand still on a link that is always like this.
    fn is_late(&mut self, lag: Duration, now: Now) -> bool {
        if lag > self.pause_max {
            let since = *self.late_since.get_or_insert(now.monotonic);
            return now.monotonic.since(since) < LATE_MAX;
        }
        if self.late_since.take().is_some() {
            self.broker.handle(Event::Paused, now);
        }
        false
    }

    fn may_send(&self, now: Instant, trusted_until: Instant) -> bool {
        self.nats_lost_at.is_none() && now < trusted_until
    }

    /// An answer or a probe that may leave now. To be called as long as NATS has room for them.
    pub fn poll_answer(&mut self, now: Instant, trusted_until: Instant) -> Option<Outbound> {
        let may_send = self.may_send(now, trusted_until);
        may_send.then(|| self.broker.poll_answer()).flatten()
    }

    /// A delivery that may leave now, after the answers. To be called as long as NATS has room for them.
    pub fn poll_delivery(&mut self, now: Instant, trusted_until: Instant) -> Option<Outbound> {
        if self.has_sent_enough() || !self.may_send(now, trusted_until) {
            return None;
        }
        let delivery = self.broker.poll_delivery()?;
        self.sent_bytes += delivery.memory_size();
        Some(delivery)
    }

    fn has_sent_enough(&self) -> bool {
        self.sent_bytes >= DELIVERY_BYTES_PER_TURN
            || self.broker.steps() - self.steps_before >= STEPS_PER_TURN
    }

    /// `has_room`: NATS would take more deliveries; `moved` grows whenever it takes something.
    pub fn sent(&mut self, now: Instant, has_room: bool, moved: u64) -> Result<(), End> {
        let is_more =
            self.has_sent_enough() || self.nats_lost_at.is_none() && self.broker.has_turns();
        self.more_to_send = has_room && is_more;
        if self.nats_lost_at.is_some() || has_room {
            self.blocked_since = None;
            return Ok(());
        }
        let since = self.blocked_since.filter(|(_, before)| *before == moved);
        let (since, _) = *self.blocked_since.insert(since.unwrap_or((now, moved)));
        if now.since(since) > self.lease {
            return Err(End::NatsLost);
        }
        Ok(())
    }

    /// A read that the store should make; answered by `from_tables`.
    pub fn poll_load(&mut self) -> Option<Load> {
        self.broker.poll_load()
    }

    /// Before answers are taken, so that Postgres works while they leave. `None` while there may be deliveries: that they
    /// left belongs in the batch.
    pub fn poll_batch_early(&mut self, now: Now) -> Option<Batch> {
        let has_deliveries = self.broker.has_deliveries();
        (!has_deliveries).then(|| self.poll_batch(now)).flatten()
    }

    /// To be called after everything that there is to be sent and read was taken. One batch at a time.
    pub fn poll_batch(&mut self, now: Now) -> Option<Batch> {
        if self.ends_at.is_some() {
            self.broker.flush();
        }
        let batch = self.broker.poll_batch(now)?;
        self.journal.submitted();
        Some(batch)
    }

    /// Something to log.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.broker.poll_notice()
    }

    /// The end of a turn. `None`: go round at once.
    pub fn rest(&mut self, now: Now) -> Result<Option<Wait>, End> {
        if self.broker.take_moved() {
            return Ok(None);
        }
        if self.ends_at.is_some() && self.broker.is_drained() {
            return Err(End::Drained);
        }
        let time = now.monotonic;
        let intake = self.intake();
        self.note_intake(intake);
        let has_nats = self.nats_lost_at.is_none() && self.late_since.is_none();
        let due = self.broker.next_timeout().filter(|_| has_nats);
        let goes_on = self.more_to_send || due.is_some_and(|due| due <= time);
        let due = due.filter(|_| !goes_on);
        let gives_up = self.nats_lost_at.map(|at| at + self.lease);
        let times = [due, gives_up, self.ends_at].into_iter().flatten();
        Ok(Some(Wait {
            // More often than what counts as a pause.
            until: times.fold(time + self.pause_max * 5 / 8, Instant::min),
            goes_on,
            intake,
            has_backlog: matches!(intake, Intake::All(_)) && !self.backlog.is_empty(),
        }))
    }

    /// The time is over for which something was waited for.
    pub fn timeout(&mut self, now: Instant) -> Result<(), End> {
        if self.ends_at.is_some_and(|at| at <= now) {
            return Err(End::Drained);
        }
        let is_silent = self.untrusted_since.is_some();
        let gives_up = self.nats_lost_at.map(|at| at + self.lease);
        if !is_silent && gives_up.is_some_and(|at| at <= now) {
            return Err(End::NatsLost);
        }
        Ok(())
    }

    /// True while new work is taken: until it is asked to end.
    pub fn is_open(&self) -> bool {
        self.ends_at.is_none()
    }

    /// No new work is taken any more, and what is under way brought to its end.
    pub fn ask_to_end(&mut self, now: Instant) {
        self.ends_at.get_or_insert(now + DRAIN_LIMIT);
    }

    /// The connection to NATS was lost or is back. `is_missed`: its server had fallen silent, and a standby listens at
    /// another one.
    pub fn nats_changed(
        &mut self,
        is_connected: bool,
        is_missed: bool,
        now: Now,
    ) -> Result<(), End> {
        if is_missed {
            return Err(End::NatsSilent);
        }
        if is_connected {
            // Also when nobody saw it go: it may go and come back between two looks.
            self.nats_lost_at = None;
            self.broker.handle(Event::Reconnected, now);
        } else {
            self.nats_lost_at.get_or_insert(now.monotonic);
        }
        Ok(())
    }

    /// What came from NATS, in its order, as much as [`Wait::intake`] says. `has_more`: there may be more of it.
    pub fn take_requests(
        &mut self,
        events: impl Iterator<Item = Event>,
        has_more: bool,
        now: Now,
        trusted_until: Instant,
    ) {
        let time = now.monotonic;
        if time >= trusted_until {
            // It waited in a frozen process: it is acted on once that is known to be right.
            return self.backlog.extend(events.map(|event| (time, event)));
        }
        if has_more {
            self.had_turn = false;
        } else {
            self.is_behind = false;
        }
        let is_full = matches!(self.broker.capacity(), Capacity::Reserve(_));
        // Whatever waited for a frozen process may have come at once when it froze.
        let received_at = self.paused_since(time, has_more);
        for event in events {
            if self.broker.is_exhausted() {
                self.backlog.push_back((received_at, event));
            } else {
                self.latency_sensitive.note(is_full, &event, time);
                self.take_in(event, received_at, now);
            }
        }
    }

    /// A turn's worth of what was received before.
    pub fn take_backlog(&mut self, now: Now) {
        for _ in 0..self.backlog.len().min(EVENTS_PER_TURN) {
            if self.broker.is_full() {
                return;
            }
            let Some((received_at, event)) = self.backlog.pop_front() else {
                return;
            };
            self.take_in(event, received_at, now);
        }
    }

    fn take_in(&mut self, event: Event, received_at: Instant, now: Now) {
        // What is behind a savepoint is remembered there.
        if let Event::Request(request) = &event
            && !self.broker.has_savepoints()
        {
            self.journal.take_in(request, received_at);
        }
        self.broker.handle_late(event, received_at, now);
    }

    /// A read was answered, or failed; or somebody has noted something in the tables.
    pub fn from_tables(&mut self, event: Event, now: Now) {
        self.broker.handle(event, now);
    }

    /// `has_nats`: there is a connection at this moment. That it has gone may be told by [`Self::nats_changed`] later only, and the
    /// answers leave for nowhere.
    pub fn committed(&mut self, number: BatchNumber, has_nats: bool, now: Now) {
        if !has_nats {
            self.nats_lost_at.get_or_insert(now.monotonic);
        }
        self.broker.committed(number, now);
        let takes_nothing = self.nats_lost_at.is_some() || self.blocked_since.is_some();
        self.journal.committed(takes_nothing, now.monotonic);
    }

    /// Postgres will never store the batch: what led to it is taken back, or the term ends. Returns what is not stored.
    pub fn refused(&mut self, refusal: Refusal, now: Now) -> Result<Vec<RefusedWrite>, End> {
        self.broker.refused(refusal, now).map_err(End::Refused)?;
        Ok(self.broker.take_refused())
    }

    pub fn set_limits(&mut self, limits: &Limits, now: Now) {
        self.broker.set_limits(limits, now);
    }

    /// `window`: what the link to Postgres carries.
    pub fn set_window(&mut self, window: &UploadWindow, now: Instant) {
        let bytes = window.batch_bytes(self.latency_sensitive.has_waited(now));
        self.broker.set_batch_bytes(bytes);
    }

    /// The term is over: what was received and may not have been carried out, in its order, and when it was received.
    pub fn leave(mut self, now: Instant) -> impl Iterator<Item = (Instant, Request)> {
        let held_back = self.broker.leave();
        let held_back = held_back.into_iter().map(move |it| (now, it));
        let backlog = self.backlog.into_iter();
        let backlog = backlog.filter_map(|(at, it)| Some((at, it.into_request()?)));
        let left = self.journal.leave().chain(held_back).chain(backlog);
        left.map(|(at, request)| (at, request.left_behind()))
    }
}

#[cfg(test)]
mod tests;
