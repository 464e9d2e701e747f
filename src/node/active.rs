//! The active loop: requests in, batches to the leader session, answers out once they are committed. Everything
//! that is decided is decided in the core; everything here can be read in a minute.

mod ended;
mod notices;
mod sending;
mod unseen;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

pub(super) use self::ended::Ended;
use self::notices::log;
use super::clock::Clock;
use super::condition::{Condition, Conditions};
use super::ears::Ears;
use super::errands::read_page;
use super::refusals::Refusals;
use super::reports::Asked;
use super::shared::Node;
use super::sweep::sweep;
use super::takeover::Takeover;
use super::watchdog::Guard;
use crate::core::Event;
use crate::core::batch::Batch;
use crate::core::broker::Counts;
use crate::core::guarded::Guarded;
use crate::core::limits::Limits;
use crate::core::refusal::Refusal;
use crate::core::time::{Instant, Now};
use crate::core::unanswered::Unanswered;
use crate::leadership::{Committed, ConditionRow, Done, Leader, Record, Term, TermLost};
use crate::nats::{self, Egress, Ingress};

/// Requests handled in one turn, before outputs are looked at again.
const EVENTS_PER_TURN: usize = 1024;

/// How old the status may get. At most a quarter of a lease: it says until when it holds.
const STATUS_INTERVAL: Duration = Duration::from_millis(250);

/// An untrusted active looks so often whether a renewal has come through after all.
const TRUST_INTERVAL: Duration = Duration::from_millis(5);

/// The loop goes round more often than this, if only for the status. After a longer pause it was frozen, or kept silent
/// during a slow commit. Shorter than clients have to answer.
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// Whatever ended the terms before, this one is none of them.
const TERM_IS_WELL: Duration = Duration::from_secs(30);

/// Every call on the leader session has a shorter limit: after this nobody will say how the term ended.
const UNTRUSTED_MAX: Duration = Duration::from_mins(1);

/// Timers wait no longer for a NATS that is late.
const LATE_MAX: Duration = Duration::from_secs(5);

/// A step-down that takes longer leaves the rest to the next active.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Active<'a> {
    node: &'a Node,
    broker: Guarded,
    leader: Leader<Batch>,
    /// `None` once the node takes no new work.
    ingress: Option<Ingress>,
    egress: Egress,
    /// What was heard and not yet handled, and when; it goes before anything new.
    backlog: VecDeque<(Instant, Event)>,
    unanswered: Unanswered,
    loads: JoinSet<Event>,
    /// When the lock was granted, until the first commit of the term.
    first_commit_since: Option<Instant>,
    /// When the active before was heard last, and what was heard for it, for the history.
    last_sign: Option<Instant>,
    from_memory: usize,
    /// How long the takeover took.
    takeover_time: Duration,
    /// Of channels, when they change.
    limits: watch::Receiver<Limits>,
    /// Of monitoring.
    questions: mpsc::Receiver<Asked>,
    /// Of the terms before this one: their traffic, and their late renewals.
    earlier: Counts,
    earlier_late: u64,
    /// What the tables say is wrong with this server; `None` before the first look.
    conditions: Option<Conditions>,
    /// When this term began to serve.
    began: Instant,
    /// The NATS server, and how often one had fallen silent.
    nats_server: String,
    silences: u64,
    /// Since when NATS has been late to take what is sent.
    late_since: Option<Instant>,
    /// Since when NATS is out of reach.
    nats_lost_at: Option<Instant>,
    /// When the loop last went round.
    looked_at: Instant,
    /// When a pause began of which not everything that came meanwhile is taken yet.
    paused_at: Option<Instant>,
    /// Since when what is to be sent does not move, although NATS is connected, and how far it had moved.
    choked_since: Option<(Instant, u64)>,
    /// What Postgres refuses.
    refusals: Refusals,
    /// Since when the term is not trusted.
    untrusted_since: Option<Instant>,
}

impl<'a> Active<'a> {
    pub(super) fn new(node: &'a Node, takeover: Takeover, ingress: Ingress) -> Self {
        let subjects = node.config.subjects.clone();
        let egress = Egress::new(node.nats.clone(), subjects, ingress.probes());
        Self {
            node,
            broker: takeover.broker,
            leader: takeover.leader,
            ingress: Some(ingress),
            egress,
            last_sign: takeover.last_sign,
            from_memory: takeover.backlog.len(),
            backlog: takeover.backlog,
            unanswered: Unanswered::new(node.config.shadow),
            loads: JoinSet::new(),
            first_commit_since: Some(takeover.began),
            takeover_time: Clock.now().monotonic.since(takeover.began),
            limits: node.limits.clone(),
            questions: node.reports.ask_active(),
            earlier: node.board.counts(),
            earlier_late: node.board.late_renewals(),
            conditions: None,
            began: Clock.now().monotonic,
            nats_server: node.nats.server_id(),
            silences: node.nats.silences(),
            late_since: None,
            nats_lost_at: None,
            looked_at: Clock.now().monotonic,
            paused_at: None,
            choked_since: None,
            untrusted_since: None,
            refusals: Refusals::default(),
        }
    }

    /// Serves until the term ends, and gives the lock up when it was not lost. What was not answered by then is in the
    /// ears, where there is a NATS to listen to.
    pub(super) async fn serve(mut self) -> (Ended, Option<Ears>) {
        let term = self.leader.term().clone();
        let watched = self.node.watchdog.guard(&term);
        self.node.board.active(&term, self.takeover_time);
        if self.from_memory == 0 {
            // Nobody waits for the first commit, which may come at any time.
            self.note_answers(None);
        }
        let place = self.leader.takeover().place.clone();
        self.node.announcer.serves(place, term.epoch());
        let sweeping = self
            .node
            .tasks
            .spawn(sweep(self.node.store.clone(), self.node.board.clone()));
        let _sweeping = AbortOnDropHandle::new(sweeping);
        let ended = match self.run(&term, &watched).await {
            Ok(ended) | Err(ended) => ended,
        };
        self.node.nats.forget_answers();
        self.node.board.clear(Condition::ClientsUnreachable);
        self.report(&term);
        self.node.reports.active_ended();
        self.node.board.clear(Condition::OldSnapshot);
        self.node.board.clear(Condition::MessagesUnseen);
        self.node.board.standby();
        Refusals::end(&self.node.board);
        drop(watched);
        let ears = match ended {
            Ended::TermLost(_) | Ended::Refused(_) => {
                if let Ended::Refused(refusal) = &ended {
                    self.node.takes_care.store(true, Ordering::Release);
                    self.leader.note_refusal(Refusal::clone(refusal));
                    self.leader.release_because(ended.end()).await;
                }
                let now = Clock.now().monotonic;
                let held_back = self.broker.leave().into_iter().map(|event| (now, event));
                let left = self.unanswered.leave().chain(held_back).chain(self.backlog);
                let ingress = self.ingress;
                ingress.and_then(|ingress| self.node.listen_on(ingress, left))
            }
            Ended::NatsLost
            | Ended::NatsSilent
            | Ended::NatsFailed(_)
            | Ended::SteppedDown
            | Ended::Shutdown => {
                drop(self.ingress);
                // The last answers may still wait for NATS to take them. Without it there are none.
                let answered = self.node.nats.flush(DRAIN_LIMIT);
                let release = self.leader.release_because(ended.end());
                let ((), _) = tokio::join!(release, answered);
                None
            }
        };
        (ended, ears)
    }

    async fn run(&mut self, term: &Term, watched: &Guard) -> Result<Ended, Ended> {
        let lease = self.node.leadership.lease;
        let mut connected = self.node.nats.connected();
        let mut status = interval(STATUS_INTERVAL.min(lease.renew_every()));
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lost = pin!(term.lost());
        let mut drained_by = pin!(sleep(Duration::MAX));
        let mut events = Vec::new();

        loop {
            let now = Clock.now().monotonic;
            term.turned(now);
            if !term.is_trusted(now) {
                watched.keeps_silent(now);
                let since = *self.untrusted_since.get_or_insert(now);
                if now.since(since) > UNTRUSTED_MAX {
                    let why = "nothing was heard of the leader session, not even its end";
                    return Err(Ended::TermLost(TermLost(why.to_owned())));
                }
                // Nothing that waits here may be acted on before it is known that nobody else is active.
                tokio::select! {
                    biased;
                    reason = &mut lost => return Err(Ended::TermLost(reason)),
                    // A commit may hang for longer than who stops a server has patience.
                    () = asked_to_end(self.node, term), if self.ingress.is_some() => {
                        self.ingress = None;
                        drained_by.set(sleep(DRAIN_LIMIT));
                    }
                    () = &mut drained_by => return Ok(self.drained()),
                    () = sleep(TRUST_INTERVAL) => {}
                }
                continue;
            }
            self.untrusted_since = None;
            self.note_look(Clock.now());
            self.broker
                .set_batch_bytes(self.node.upload.window().bytes());
            // What ran out while the process was frozen says nothing about clients: that was noted above.
            self.handle_timers(term);
            let more_to_send = self.send(term);
            if self.is_choked(lease.duration()) {
                return Ok(Ended::NatsLost);
            }
            self.load();
            self.commit()?;
            self.log_notices();
            if self.broker.take_moved() {
                continue;
            }
            if self.ingress.is_none() && self.broker.is_drained() {
                return Ok(self.drained());
            }

            let now = Clock.now();
            let takes_work = self.ingress.is_some() && self.broker.has_room();
            let has_nats = self.nats_lost_at.is_none() && self.late_since.is_none();
            let due = self.broker.next_timeout().map(|at| at.since(now.monotonic));
            // Requests have their turn before what is left of this one.
            let goes_on = more_to_send || has_nats && due == Some(Duration::ZERO);
            let gives_up = self
                .nats_lost_at
                .map(|at| (at + lease.duration()).since(now.monotonic));
            tokio::select! {
                biased;
                reason = &mut lost => return Err(Ended::TermLost(reason)),
                done = self.leader.done() => match done.map_err(Ended::TermLost)? {
                    Done::Committed(committed) => self.committed(&committed),
                    Done::Refused(refusal) => self.refused(refusal)?,
                },
                () = asked_to_end(self.node, term), if self.ingress.is_some() => {
                    self.ingress = None;
                    drained_by.set(sleep(DRAIN_LIMIT));
                }
                () = &mut drained_by => return Ok(self.drained()),
                _ = connected.changed() => {
                    if self.leaves_to_others() {
                        return Ok(Ended::NatsSilent);
                    }
                    self.note_nats(*connected.borrow_and_update());
                }
                () = after(gives_up) => return Ok(Ended::NatsLost),
                () = after(due), if has_nats && !goes_on => {}
                Ok(()) = self.limits.changed() => {
                    let limits = self.limits.borrow_and_update().clone();
                    self.broker.set_limits(&limits, Clock.now());
                }
                () = term.gone_noted() => self.broker.handle(Event::GoneNoted, Clock.now()),
                () = async {}, if takes_work && !self.backlog.is_empty() => self.handle_backlog(),
                Some(loaded) = self.loads.join_next() => self.loaded(loaded),
                // Before new work, of which there may always be some.
                Some(asked) = self.questions.recv() => {
                    self.report(term);
                    asked.answer(self.broker.broker());
                }
                received = receive(self.ingress.as_mut(), &mut events), if takes_work => {
                    received.map_err(Ended::NatsFailed)?;
                    let now = Clock.now();
                    if term.is_trusted(now.monotonic) {
                        // Whatever waited for a frozen process may have come at once when it froze.
                        let heard_at = self.paused_since(now.monotonic, events.len());
                        for event in std::mem::take(&mut events) {
                            if self.broker.is_full() {
                                self.backlog.push_back((heard_at, event));
                                continue;
                            }
                            self.take_in(event, heard_at, now);
                        }
                    } else {
                        // It waited in a frozen process: it is acted on once that is known to be right.
                        let waited = events.drain(..).map(|event| (now.monotonic, event));
                        self.backlog.extend(waited);
                    }
                }
                () = self.egress.room(), if !self.egress.has_room_for_deliveries() => {}
                _ = status.tick() => {
                    self.report(term);
                    self.tell_unseen();
                    self.look_at_conditions();
                    self.show_conditions().map_err(Ended::TermLost)?;
                }
                () = tokio::task::yield_now(), if goes_on => {}
            }
        }
    }

    /// Nothing of this term is left to do; why it was to end.
    fn drained(&self) -> Ended {
        if self.node.shutdown.is_cancelled() {
            Ended::Shutdown
        } else {
            Ended::SteppedDown
        }
    }

    /// NATS is late to take what is sent: that clients do not answer says nothing about them yet. For a while only, or
    /// timers would stand still on a link that is always like this.
    fn is_late(&mut self, now: Now) -> bool {
        if self.egress.lag() > PAUSE_MAX {
            let since = *self.late_since.get_or_insert(now.monotonic);
            return now.monotonic.since(since) < LATE_MAX;
        }
        if self.late_since.take().is_some() {
            self.broker.handle(Event::Reconnected, now);
        }
        false
    }

    fn load(&mut self) {
        while let Some(load) = self.broker.poll_load() {
            let store = self.node.store.clone();
            let errands = self.leader.errands();
            // Renewals and commits wait for it.
            let limit = self.node.leadership.lease.renew_every();
            self.loads.spawn(read_page(store, errands, load, limit));
        }
    }

    fn commit(&mut self) -> Result<(), Ended> {
        if self.ingress.is_none() {
            self.broker.flush();
        }
        match self.broker.poll_batch(Clock.now()) {
            Some(batch) => {
                self.unanswered.submitted();
                self.leader.submit(batch).map_err(Ended::TermLost)
            }
            None => Ok(()),
        }
    }

    fn committed(&mut self, committed: &Committed<Batch>) {
        let now = Clock.now();
        let Committed { batch, took } = committed;
        self.broker.committed(batch.number, now);
        self.unanswered.committed(now.monotonic);
        self.refusals.committed(batch, &self.node.board);
        let epoch = self.leader.term().epoch();
        self.node.memory().committed(epoch, batch);
        self.node.board.committed(batch.messages.len(), *took);
        if let Some(since) = self.first_commit_since.take() {
            self.note_answers(Some(now.monotonic.since(since)));
        }
    }

    /// Figures for the history: when they cannot be noted, the term is ending anyway.
    fn note_answers(&self, first_ack: Option<Duration>) {
        let is_first = first_ack.is_none() || self.from_memory > 0;
        let now = Clock.now().monotonic;
        let silence = self.last_sign.filter(|_| is_first).map(|at| now.since(at));
        let from_memory = self.from_memory as u64;
        if is_first {
            self.node.board.answered(silence, from_memory);
        }
        let answered_from_memory = Some(from_memory);
        let record = Record {
            first_ack,
            silence,
            answered_from_memory,
            ..Record::default()
        };
        self.leader.record(record).ok();
    }

    /// Postgres will never store the batch: what led to it is taken back, or the term ends.
    fn refused(&mut self, refusal: Refusal) -> Result<(), Ended> {
        let now = Clock.now();
        self.broker.refused(refusal, now).map_err(Ended::Refused)?;
        for aside in self.broker.take_aside() {
            let board = &self.node.board;
            if self.refusals.set_aside(&aside, board, now.monotonic) {
                self.leader.note_refusal(aside.refusal);
            }
        }
        Ok(())
    }

    fn take_in(&mut self, event: Event, heard_at: Instant, now: Now) {
        // What is behind a savepoint is remembered there.
        if !self.broker.has_savepoints() {
            self.unanswered.take_in(&event, heard_at);
        }
        self.broker.handle_late(event, heard_at, now);
    }

    fn handle_backlog(&mut self) {
        let now = Clock.now();
        let turn = self.backlog.len().min(EVENTS_PER_TURN);
        for _ in 0..turn {
            if self.broker.is_full() {
                return;
            }
            let Some((heard_at, event)) = self.backlog.pop_front() else {
                return;
            };
            self.take_in(event, heard_at, now);
        }
    }

    fn loaded(&mut self, loaded: Result<Event, tokio::task::JoinError>) {
        match loaded {
            Ok(event) => self.broker.handle(event, Clock.now()),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// To be called before anything is done about what is due.
    fn note_look(&mut self, now: Now) {
        let before = std::mem::replace(&mut self.looked_at, now.monotonic);
        if now.monotonic.since(before) > PAUSE_MAX {
            self.paused_at.get_or_insert(before);
        }
        if now.monotonic.since(before) > PAUSE_MAX && self.nats_lost_at.is_none() {
            // What came meanwhile has not been read yet, the answers to probes among it.
            self.broker.handle(Event::Reconnected, now);
        }
    }

    /// Since when so many events that are taken now may have waited: until all that came during a pause is taken.
    fn paused_since(&mut self, now: Instant, events: usize) -> Instant {
        let since_look = now.since(self.looked_at) > PAUSE_MAX;
        let paused_at = self.paused_at.or(since_look.then_some(self.looked_at));
        self.paused_at = paused_at.filter(|_| events == EVENTS_PER_TURN);
        paused_at.unwrap_or(now)
    }

    /// What clients asked while the NATS server was silent, a standby at another one has heard.
    fn leaves_to_others(&mut self) -> bool {
        let silences = self.node.nats.silences();
        let fell_silent = std::mem::replace(&mut self.silences, silences) != silences;
        let silent = std::mem::replace(&mut self.nats_server, self.node.nats.server_id());
        fell_silent && self.node.announcer.is_heard_elsewhere(&silent)
    }

    fn note_nats(&mut self, connected: bool) {
        let now = Clock.now();
        if connected {
            // Also when nobody saw it go: it may go and come back between two looks.
            self.nats_lost_at = None;
            self.broker.handle(Event::Reconnected, now);
        } else {
            self.nats_lost_at.get_or_insert(now.monotonic);
        }
    }

    fn report(&self, term: &Term) {
        let counts = self.broker.broker().counts().after(self.earlier);
        let late = self.earlier_late + term.late_renewals();
        self.node.board.progress(term, counts, late);
        self.node.board.nats(self.node.nats.counts());
        match self.broker.broker().unreachable_clients() {
            Some(clients) => self.node.board.raise(
                Condition::ClientsUnreachable,
                format!(
                    "clients that do not answer: {clients}, at least half of all; they are taken to be out of reach and \
                     closed after three times as many missed heartbeats; look at the routes of the NATS cluster, \
                     leafnodes, and imports of the account"
                ),
            ),
            None => self.node.board.clear(Condition::ClientsUnreachable),
        }
    }

    fn look_at_conditions(&mut self) {
        let now = Clock.now().monotonic;
        self.refusals.look(&self.node.board, now);
        if now.since(self.began) > TERM_IS_WELL {
            self.node.board.clear(Condition::TermsEnd);
        }
    }

    /// In the tables, when they have changed.
    fn show_conditions(&mut self) -> Result<(), TermLost> {
        let conditions = self.node.board.conditions();
        if self.conditions.as_ref() == Some(&conditions) {
            return Ok(());
        }
        let rows = conditions.iter().map(|(condition, raised)| ConditionRow {
            kind: condition.name(),
            reason: raised.reason.clone(),
            since: raised.since,
        });
        if self.leader.show_conditions(rows.collect())? {
            self.conditions = Some(conditions);
        }
        Ok(())
    }

    fn log_notices(&mut self) {
        while let Some(notice) = self.broker.poll_notice() {
            log(&notice);
        }
    }
}

async fn asked_to_end(node: &Node, term: &Term) {
    tokio::select! {
        () = node.shutdown.cancelled() => {}
        () = term.asked_to_end() => {}
    }
}

/// Up to a turn's events; waits for ever when no new work is taken.
async fn receive(
    ingress: Option<&mut Ingress>,
    events: &mut Vec<Event>,
) -> Result<(), nats::Error> {
    match ingress {
        Some(ingress) => ingress.recv(events, EVENTS_PER_TURN).await,
        None => std::future::pending().await,
    }
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}
