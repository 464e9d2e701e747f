//! The active: feeds [`ActiveLoop`] with requests, commits and reads, and carries out what it says. Everything that is
//! decided is decided there; here is what only a process has: sessions, sockets, clocks and pages.

mod configured;
mod notices;
mod reporting;
mod term_end;
mod unseen;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use self::notices::log;
pub(super) use self::term_end::TermEnd;
use super::dead_letters::DeadLetters;
use super::pace::Pace;
use super::refusals::Refusals;
use super::session_reads::read_page;
use super::shared::Node;
use super::takeover::Takeover;
use super::vacuum::vacuum;
use super::watchdog::Guard;
use crate::clock::Clock;
use crate::core::active::{ActiveLoop, DRAIN_LIMIT, End, Intake, Turn, Wait};
use crate::core::attempts::EndKind;
use crate::core::batch::Batch;
use crate::core::counts::Counts;
use crate::core::limits::Limits;
use crate::core::refusal::Refusal;
use crate::core::time::Instant;
use crate::core::{Event, Request};
use crate::leadership::{Committed, Done, Leader, Term, TermLost};
use crate::monitoring::condition::{Condition, Conditions};
use crate::monitoring::reports::Asked;
use crate::nats::{self, Egress, Ingress};

/// Reads taken in one turn.
const LOADS_PER_TURN: usize = 4;

/// How old the status may get. At most a quarter of a lease: it says until when it holds.
const STATUS_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Active<'a> {
    node: &'a Node,
    active: ActiveLoop,
    leader: Leader<Batch>,
    /// `None` once the node takes no new work.
    ingress: Option<Ingress>,
    egress: Egress,
    loads: JoinSet<Event>,
    /// When the lock was granted, until the first commit of the term.
    first_commit_since: Option<Instant>,
    /// When the former active last sent something, and how many requests were received for it, for the history.
    last_sign: Option<Instant>,
    from_memory: usize,
    /// How long the takeover took.
    takeover_time: Duration,
    /// New limits of channels.
    limits: watch::Receiver<Limits>,
    /// Queries from the monitoring pages.
    questions: mpsc::Receiver<Asked>,
    /// Traffic and late renewals of the terms before this one.
    earlier: Counts,
    earlier_late: u64,
    /// What the tables say is wrong with this server; `None` before the first look.
    conditions: Option<Conditions>,
    /// The tables say which limits are configured.
    limits_are_shown: bool,
    /// When this term began to serve.
    began: Instant,
    /// The NATS server, and how often one had fallen silent.
    nats_server: String,
    silences: u64,
    /// What Postgres refuses.
    refusals: Refusals,
    /// And dead-letter channels.
    dead_letters: DeadLetters,
}

/// What is left of a term.
#[derive(Debug)]
pub(super) struct Over {
    pub(super) ended: TermEnd,
    /// Where it is still listened to.
    pub(super) ingress: Option<Ingress>,
    /// What was received and may not have been answered.
    pub(super) left: Vec<(Instant, Request)>,
}

impl<'a> Active<'a> {
    pub(super) fn new(node: &'a Node, takeover: Takeover, ingress: Ingress) -> Self {
        let subjects = node.config.subjects.clone();
        let egress = Egress::new(node.nats.clone(), subjects, ingress.probes());
        let now = Clock.now().monotonic;
        let from_memory = takeover.backlog.len();
        let active = ActiveLoop::new(
            takeover.broker,
            takeover.backlog,
            node.leadership.lease.duration(),
            node.config.shadow,
            now,
        );
        Self {
            node,
            active,
            leader: takeover.leader,
            ingress: Some(ingress),
            egress,
            last_sign: takeover.last_sign,
            from_memory,
            loads: JoinSet::new(),
            first_commit_since: Some(takeover.began),
            takeover_time: now.since(takeover.began),
            limits: node.limits.clone(),
            questions: node.reports.ask_active(),
            earlier: node.status.counts(),
            earlier_late: node.status.late_renewals(),
            conditions: None,
            limits_are_shown: false,
            began: now,
            nats_server: node.nats.server_id(),
            silences: node.nats.silences(),
            refusals: Refusals::default(),
            dead_letters: DeadLetters::default(),
        }
    }

    /// Serves until the term ends, and gives the lock up when it was not lost.
    pub(super) async fn serve(mut self) -> Over {
        let term = self.leader.term().clone();
        let watched = self.node.watchdog.guard(&term);
        self.node.status.active(&term, self.takeover_time);
        if self.from_memory == 0 {
            // The first commit is not waited for; it may come at any time.
            self.note_answers(None);
        }
        let identity = self.leader.takeover().identity.clone();
        self.node.presence.serves(identity, term.epoch());
        let vacuuming = self
            .node
            .tasks
            .spawn(vacuum(self.node.store.clone(), self.node.status.clone()));
        let _vacuuming = AbortOnDropHandle::new(vacuuming);
        if let Some(ingress) = &self.ingress {
            ingress.refuse_floods(true);
        }
        let Err(ended) = self.run(&term, &watched).await;
        if let Some(ingress) = &self.ingress {
            ingress.refuse_floods(false);
        }
        self.node.nats.forget_answers();
        self.node.status.clear(Condition::ClientsUnreachable);
        self.report(&term);
        self.node.reports.active_ended();
        self.node.status.clear(Condition::CommitBlocked);
        self.node.status.clear(Condition::OldSnapshot);
        self.node.status.clear(Condition::MessagesUnseen);
        self.node.status.clear(Condition::UnloggedTables);
        self.node.status.standby();
        Refusals::end(&self.node.status);
        DeadLetters::end(&self.node.status);
        drop(watched);
        let (ingress, left) = match ended {
            TermEnd::TermLost(_) | TermEnd::Refused(_) => {
                if let TermEnd::Refused(refusal) = &ended {
                    self.node.needs_savepoints.store(true, Ordering::Release);
                    self.leader.note_refusal(Refusal::clone(refusal));
                    self.leader.release_because(ended.end()).await;
                }
                let left = self.active.leave(Clock.now().monotonic);
                (self.ingress, left.collect())
            }
            TermEnd::NatsLost
            | TermEnd::NatsSilent
            | TermEnd::NatsFailed(_)
            | TermEnd::SteppedDown
            | TermEnd::Shutdown => {
                drop(self.ingress);
                // The last answers may still wait for NATS to take them. Without it there are none.
                let answered = self.node.nats.flush(DRAIN_LIMIT);
                let release = self.leader.release_because(ended.end());
                let ((), _) = tokio::join!(release, answered);
                (None, self.active.leave(Clock.now().monotonic).collect())
            }
        };
        Over {
            ended,
            ingress,
            left,
        }
    }

    async fn run(&mut self, term: &Term, watched: &Guard) -> Result<Infallible, TermEnd> {
        let renew_every = self.node.leadership.lease.renew_every();
        let mut connected = self.node.nats.connected();
        let mut status = interval(STATUS_INTERVAL.min(renew_every));
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lost = pin!(term.lost());
        let mut events = Vec::new();
        let mut pace = Pace::default();

        loop {
            pace.give_way().await;
            let now = Clock.now();
            term.record_progress(now.monotonic);
            if let Some(ingress) = &self.ingress {
                ingress.refuses_until(term.acts_until());
            }
            let window = self.node.upload.window();
            self.active.set_window(&window, now.monotonic);
            let lag = self.egress.lag();
            if self.active.broker().steps_down() && self.ingress.is_some() {
                self.drain();
            }
            match self.active.begin_turn(now, term.acts_until(), lag) {
                Ok(Turn::Serve) => {}
                Ok(Turn::KeepSilent(until)) => {
                    watched.keeps_silent(now.monotonic);
                    tokio::select! {
                        biased;
                        reason = &mut lost => return Err(TermEnd::TermLost(reason)),
                        // A hung commit must not delay shutdown.
                        () = asked_to_end(self.node, term), if self.ingress.is_some() => self.drain(),
                        () = sleep_until(until) => self.timeout()?,
                    }
                    continue;
                }
                Err(end) => return Err(self.ended(end)),
            }
            self.take_loaded();
            if let Some(batch) = self.active.poll_batch_early(Clock.now()) {
                self.leader.submit(batch).map_err(TermEnd::TermLost)?;
            }
            self.send(term)?;
            self.load();
            if let Some(batch) = self.active.poll_batch(Clock.now()) {
                self.leader.submit(batch).map_err(TermEnd::TermLost)?;
            }
            while let Some(notice) = self.active.poll_notice() {
                log(&notice);
                let now = Clock.now().monotonic;
                self.dead_letters.look_at(&notice, &self.node.status, now);
            }
            let Wait {
                until,
                goes_on,
                intake,
                has_backlog,
            } = match self.active.rest(Clock.now()) {
                Ok(Some(wait)) => wait,
                Ok(None) => continue,
                Err(end) => return Err(self.ended(end)),
            };
            tokio::select! {
                biased;
                reason = &mut lost => return Err(TermEnd::TermLost(reason)),
                done = self.leader.done() => match done.map_err(TermEnd::TermLost)? {
                    Done::Committed(committed) => self.committed(&committed),
                    Done::Refused(refusal) => self.refused(refusal)?,
                },
                () = asked_to_end(self.node, term), if self.ingress.is_some() => self.drain(),
                _ = connected.changed() => {
                    let is_connected = *connected.borrow_and_update();
                    self.nats_changed(is_connected)?;
                }
                () = sleep_until(until) => self.timeout()?,
                Ok(()) = self.limits.changed() => {
                    let limits = self.limits.borrow_and_update().clone();
                    self.active.set_limits(&limits, Clock.now());
                    self.limits_are_shown = false;
                }
                () = term.gone_noted() => self.active.from_tables(Event::GoneNoted, Clock.now()),
                () = term.policies_noted() => self.active.from_tables(Event::PoliciesNoted, Clock.now()),
                () = term.outbox_noted() => self.active.from_tables(Event::OutboxNoted, Clock.now()),
                () = async {}, if has_backlog => self.active.take_backlog(Clock.now()),
                // Before new work, of which there may always be some.
                Some(asked) = self.questions.recv() => {
                    self.report(term);
                    asked.answer(self.active.broker());
                }
                received = receive(self.ingress.as_mut(), &mut events, intake), if intake.is_open() => {
                    let has_more = received.map_err(TermEnd::NatsFailed)?;
                    let (now, until) = (Clock.now(), term.acts_until());
                    self.active.take_requests(events.drain(..), has_more, now, until);
                }
                // After requests: those who are behind can keep reads coming without end. Each turn begins with some.
                Some(loaded) = self.loads.join_next() => self.loaded(loaded),
                () = self.egress.room(), if !self.egress.has_room_for_deliveries() => {}
                _ = status.tick() => {
                    self.report(term);
                    self.tell_unseen();
                    self.look_at_conditions(term);
                    self.show_conditions().map_err(TermEnd::TermLost)?;
                    self.show_limits().map_err(TermEnd::TermLost)?;
                }
                () = tokio::task::yield_now(), if goes_on => {}
            }
        }
    }

    /// No new work from here on.
    fn drain(&mut self) {
        self.ingress = None;
        self.active.ask_to_end(Clock.now().monotonic);
    }

    fn timeout(&mut self) -> Result<(), TermEnd> {
        let timeout = self.active.timeout(Clock.now().monotonic);
        timeout.map_err(|end| self.ended(end))
    }

    fn ended(&self, end: End) -> TermEnd {
        match end {
            End::Unproved => {
                let why = "the leader session gave no answer, and did not report its end";
                TermEnd::TermLost(TermLost::new(EndKind::DatabaseLost, why))
            }
            End::NatsLost => TermEnd::NatsLost,
            End::NatsSilent => TermEnd::NatsSilent,
            End::Refused(refusal) => TermEnd::Refused(refusal),
            End::Drained if self.node.shutdown.is_cancelled() => TermEnd::Shutdown,
            End::Drained => TermEnd::SteppedDown,
        }
    }

    /// As long as NATS has room: answers first, then deliveries as far as they can leave soon.
    fn send(&mut self, term: &Term) -> Result<(), TermEnd> {
        let Self { active, egress, .. } = self;
        let now = || Clock.monotonic();
        while egress.has_room()
            && let Some(answer) = active.poll_answer(now(), term.acts_until())
        {
            egress.send(answer);
        }
        while egress.has_room_for_deliveries()
            && let Some(delivery) = active.poll_delivery(now(), term.acts_until())
        {
            egress.send(delivery);
        }
        egress.flush();
        let sent = active.sent(now(), egress.has_room_for_deliveries(), egress.moved());
        sent.map_err(|end| self.ended(end))
    }

    fn load(&mut self) {
        while let Some(load) = self.active.poll_load() {
            let store = self.node.store.clone();
            let reads = self.leader.session_reads();
            // Renewals and commits wait for it.
            let limit = self.node.leadership.lease.renew_every();
            self.loads.spawn(read_page(store, reads, load, limit));
        }
    }

    fn committed(&mut self, committed: &Committed<Batch>) {
        let now = Clock.now();
        let Committed { batch, sent, took } = committed;
        let has_nats = self.node.nats.is_connected();
        self.active.committed(batch.number, has_nats, now);
        self.refusals.committed(batch, &self.node.status);
        let epoch = self.leader.term().epoch();
        self.node.history().committed(epoch, batch, *sent);
        self.node.status.committed(batch.messages.len(), *took);
        self.node.status.serves();
        if let Some(since) = self.first_commit_since.take() {
            self.note_answers(Some(now.monotonic.since(since)));
        }
    }

    /// Postgres will never store the batch: what led to it is taken back, or the term ends.
    fn refused(&mut self, refusal: Refusal) -> Result<(), TermEnd> {
        let now = Clock.now();
        let refused = self.active.refused(refusal, now);
        for write in refused.map_err(|end| self.ended(end))? {
            let status = &self.node.status;
            if self.refusals.note(&write, status, now.monotonic) {
                self.leader.note_refusal(write.refusal);
            }
        }
        Ok(())
    }

    /// Some of the reads that are done.
    fn take_loaded(&mut self) {
        for _ in 0..LOADS_PER_TURN {
            let Some(loaded) = self.loads.try_join_next() else {
                return;
            };
            self.loaded(loaded);
        }
    }

    fn loaded(&mut self, loaded: Result<Event, tokio::task::JoinError>) {
        match loaded {
            Ok(event) => self.active.from_tables(event, Clock.now()),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// What clients asked while the NATS server was silent, a standby at another one has received.
    fn is_received_elsewhere(&mut self) -> bool {
        let silences = self.node.nats.silences();
        let fell_silent = std::mem::replace(&mut self.silences, silences) != silences;
        let silent = std::mem::replace(&mut self.nats_server, self.node.nats.server_id());
        fell_silent && self.node.presence.is_received_elsewhere(&silent)
    }

    fn nats_changed(&mut self, is_connected: bool) -> Result<(), TermEnd> {
        let is_missed = self.is_received_elsewhere();
        let changed = self
            .active
            .nats_changed(is_connected, is_missed, Clock.now());
        changed.map_err(|end| self.ended(end))
    }
}

async fn asked_to_end(node: &Node, term: &Term) {
    tokio::select! {
        () = node.shutdown.cancelled() => {}
        () = term.asked_to_end() => {}
    }
}

/// Up to a turn's events, and whether there may be more; waits for ever when no new work is taken.
async fn receive(
    ingress: Option<&mut Ingress>,
    events: &mut Vec<Event>,
    intake: Intake,
) -> Result<bool, nats::Error> {
    match (ingress, intake) {
        (Some(ingress), Intake::All(quota)) => ingress.recv(events, quota).await,
        (Some(ingress), Intake::New(quota)) => {
            ingress.recv_new(events, quota).await?;
            Ok(true)
        }
        (None, _) | (_, Intake::Nothing) => std::future::pending().await,
    }
}

async fn sleep_until(time: Instant) {
    sleep(time.since(Clock.now().monotonic)).await;
}
