//! Drives the standby that ships: from the start of a process, or the end of a term, to the wait for the lock.

use std::time::Duration;

use stanby::core::Request;
use stanby::core::active::End;
use stanby::core::attempts::EndKind;
use stanby::core::refusal::Refusal;
use stanby::core::standby::{self, Failure, TermEnd};
use stanby::leadership;

use crate::database::Statement;
use crate::node::Input;
use crate::plan::Sabotage;
use crate::world::{Step, World, nanos};

impl World {
    /// Carries out one step of a standby after the other, until it waits for the lock.
    pub(crate) fn race(&mut self, node: usize) {
        loop {
            match self.nodes[node].standby.step() {
                standby::Step::CheckNats if self.is_nats_late(node) => {
                    let now = self.now(node).monotonic;
                    let failure = Failure {
                        cause: EndKind::NatsLost,
                        is_of_nats: true,
                        is_lasting: false,
                    };
                    let pause = self.nodes[node].standby.failed(failure, now);
                    self.take_input(node, Input::Gap);
                    return self.race_after(node, pause);
                }
                standby::Step::Queue => break,
                standby::Step::TakeOver => return,
                standby::Step::Listen | standby::Step::CheckNats | standby::Step::Pause(_) => {
                    self.nodes[node].standby.done();
                }
            }
        }
        if self.time < self.database.down_until {
            return self.race_later(node);
        }
        let session = self.open_session(node);
        self.nodes[node].session = Some(session);
        self.nodes[node].statement = None;
        self.send_statement(node, session, Statement::Lock);
    }

    /// The active gives its term up.
    pub(crate) fn gives_up(&mut self, node: usize, end: &End) {
        let has_savepoints = self.nodes[node]
            .term
            .as_ref()
            .is_some_and(|term| term.with_savepoints);
        let own = self.nodes[node].term.as_ref().map(|it| it.term.epoch());
        if let End::Refused(_) = end {
            // A server whose session ended meanwhile notes it when the next term has begun without knowing of it, and hears
            // of it when that one, too, may have ended.
            let now = self.database.epoch;
            let noted = *self.database.refusal_noted.get_or_insert(now);
            let was_noted = own.is_some_and(|own| noted < own);
            self.nodes[node].needs_savepoints = true;
            // What a failover lost is put back with the first batch, which cannot be taken back.
            let excused = self.checks.failovers.count > 0;
            self.checks
                .require(excused || !has_savepoints && !was_noted, || {
                    format!("no term is lost twice for one cause: node {node} gives up for {end:?}")
                });
        }
        let listens_anew = matches!(end, End::Drained | End::NatsLost | End::NatsSilent);
        let cause = match end {
            End::NatsLost | End::NatsSilent => EndKind::NatsLost,
            End::Refused(_) => EndKind::WriteRefused,
            End::Unproved => EndKind::DatabaseLost,
            End::Drained => EndKind::Own,
        };
        self.end_term_heard(node, (cause, &format!("{end:?}")), !listens_anew);
    }

    /// What led to the batch is taken back, or the term ends.
    pub(crate) fn refused(&mut self, node: usize, refusal: Refusal) {
        let (now, epoch) = (self.now(node), self.database.epoch);
        let Some(term) = self.nodes[node].term.as_mut() else {
            return;
        };
        term.committing = None;
        term.facts.take_back();
        let Some(active) = term.active.as_mut() else {
            return;
        };
        match active.refused(refusal, now) {
            Ok(writes) => {
                if !writes.is_empty() {
                    self.database.refusal_noted.get_or_insert(epoch);
                }
                for write in writes {
                    self.note(|| format!("node {node}: sets aside {}", write.what));
                }
            }
            Err(end) => self.gives_up(node, &end),
        }
    }

    /// What it had in its hands, and what it reads on, is kept.
    pub(crate) fn end_term(&mut self, node: usize, why: &str) {
        self.end_term_heard(node, (EndKind::DatabaseLost, why), true);
    }

    fn end_term_heard(&mut self, node: usize, (cause, why): (EndKind, &str), is_listening: bool) {
        self.note(|| format!("node {node}: ends its term: {why}"));
        let now = self.now(node).monotonic;
        let forgets = self.plan.is(Sabotage::ForgetUnanswered);
        let state = &mut self.nodes[node];
        match &state.term {
            Some(term) => term.term.finish(leadership::TermLost::new(cause, why)),
            None => state.history.lost_primary(now),
        }
        let term = state.term.take();
        let began = term.as_ref().map(|term| term.began);
        let pause = if let Some(active) = term.and_then(|term| term.active) {
            let lasted = Duration::from_nanos(self.time - began.unwrap_or_default());
            let left: Vec<_> = active.leave(now).filter(|_| !forgets).collect();
            // Of what came during a pause nobody knows when, and it counts as received when that began.
            for (received_at, event) in &left {
                if let Request::Publish { request, .. } = event {
                    let received_at = self.time - nanos(now.since(*received_at));
                    state.arrived_by(&request.guid, received_at);
                }
            }
            let end = TermEnd {
                cause: Some(cause),
                is_listening,
            };
            state.standby.term_ended(end, lasted, left.into_iter(), now)
        } else {
            let failure = Failure {
                cause,
                is_of_nats: !is_listening,
                is_lasting: false,
            };
            state.standby.failed(failure, now)
        };
        if is_listening {
            state.standby.receive(state.unread.drain(..), now);
        } else {
            self.take_input(node, Input::Gap);
        }
        if let Some(session) = self.nodes[node].session.take() {
            self.send_statement(node, session, Statement::Close);
        }
        self.race_after(node, pause);
    }

    fn race_later(&mut self, node: usize) {
        let now = self.now(node).monotonic;
        let failure = Failure {
            cause: EndKind::DatabaseLost,
            is_of_nats: false,
            is_lasting: false,
        };
        let pause = self.nodes[node].standby.failed(failure, now);
        self.race_after(node, pause);
    }

    fn race_after(&mut self, node: usize, pause: Duration) {
        let incarnation = self.nodes[node].incarnation;
        self.after(pause, Step::Race { node, incarnation });
    }

    pub(crate) fn race_again(&mut self, node: usize, incarnation: u64) {
        let state = &self.nodes[node];
        if state.incarnation != incarnation || !state.up || state.session.is_some() {
            return;
        }
        if state.frozen {
            return self.race_later(node);
        }
        self.race(node);
    }
}
