//! Goes round the active loop that ships, and is the process around it: what is read and committed, and what arrives
//! in which order.

use stanby::core::active::{ActiveLoop, End, Intake, Turn, Wait};
use stanby::core::batch::Batch;
use stanby::core::ids::Epoch;
use stanby::core::time::{Instant, Now};
use stanby::core::{Event, Notice, Outbound, Request};

use crate::database::Statement;
use crate::plan::Sabotage;
use crate::world::{Step, World, nanos};

impl World {
    /// Goes round as long as there is something to do.
    pub(crate) fn pump(&mut self, node: usize) {
        while self.nodes[node].up && self.go_round(node) {}
        self.keep_session(node);
    }

    pub(crate) fn trusted(&self, node: usize) -> bool {
        self.now(node).monotonic < self.acts_until(node)
    }

    fn acts_until(&self, node: usize) -> Instant {
        let Some(term) = self.nodes[node].term.as_ref() else {
            return Instant::from_nanos(0);
        };
        if self.plan.is(Sabotage::SkipTrustWindow) {
            return Instant::from_nanos(u64::MAX);
        }
        term.term.acts_until()
    }

    /// One turn. False when there is nothing to do before something comes or is due.
    fn go_round(&mut self, node: usize) -> bool {
        let now = self.now(node);
        let until = self.acts_until(node);
        let Some(term) = self.nodes[node].term.as_mut() else {
            return false;
        };
        term.wait_until = None;
        self.checks.saw_wall(now.wall);
        self.check_broker(node);
        let lag = self.nodes[node].outgoing.lag(self.time);
        let Some(term) = self.nodes[node].term.as_mut() else {
            return false;
        };
        let Some(active) = term.active.as_mut() else {
            return false;
        };
        match active.begin_turn(now, until, lag) {
            Ok(Turn::Serve) => {
                let epoch = term.term.epoch();
                let signed = &mut self.nodes[node].signed;
                let every = nanos(self.plan.lease / 2);
                if signed.is_none_or(|sign| sign.1 != epoch || sign.0 + every <= self.time) {
                    *signed = Some((self.time, epoch));
                }
            }
            // A renewal that comes through goes round again.
            Ok(Turn::KeepSilent(_)) => {
                if let Err(end) = active.timeout(now.monotonic) {
                    self.gives_up(node, &end);
                }
                return false;
            }
            Err(end) => {
                self.gives_up(node, &end);
                return false;
            }
        }
        self.commit_early(node);
        self.send(node, until);
        self.read_and_commit(node);
        self.take_what_came(node)
    }

    fn commit_early(&mut self, node: usize) {
        let now = self.now(node);
        let is_free = self.nodes[node].statement.is_none();
        let Some(term) = self.nodes[node].term.as_mut().filter(|_| is_free) else {
            return;
        };
        let epoch = term.term.epoch();
        let batch = term.active.as_mut().and_then(|it| it.poll_batch_early(now));
        if let Some(batch) = batch {
            self.commit(node, batch, epoch);
        }
    }

    fn send(&mut self, node: usize, until: Instant) {
        let now = self.now(node).monotonic;
        let mut held = Vec::new();
        self.look_at_link(node);
        loop {
            let link = &self.nodes[node].outgoing;
            let (answers, deliveries) = (link.has_room(), link.has_room_for_deliveries());
            let Some(term) = self.nodes[node].term.as_mut() else {
                break;
            };
            let Some(active) = term.active.as_mut() else {
                break;
            };
            let serial = term.serial;
            let answer = answers.then(|| active.poll_answer(now, until)).flatten();
            let delivery = || {
                deliveries
                    .then(|| active.poll_delivery(now, until))
                    .flatten()
            };
            let Some(outbound) = answer.or_else(delivery) else {
                break;
            };
            let is_reply = matches!(outbound, Outbound::Reply { .. });
            if is_reply && self.plan.is(Sabotage::DeliverBeforeReplies) {
                held.push((serial, outbound));
            } else {
                self.speak(node, serial, outbound);
            }
        }
        for (serial, outbound) in held {
            self.speak(node, serial, outbound);
        }
        let link = &self.nodes[node].outgoing;
        let (has_room, moved) = (link.has_room_for_deliveries(), link.moved());
        let active = self.nodes[node].term.as_mut();
        let sent = active
            .and_then(|term| term.active.as_mut())
            .map(|active| active.sent(now, has_room, moved));
        if let Some(Err(end)) = sent {
            self.gives_up(node, &end);
        }
    }

    fn read_and_commit(&mut self, node: usize) {
        let now = self.now(node);
        loop {
            let is_free = self.nodes[node].statement.is_none();
            let Some(term) = self.nodes[node].term.as_mut() else {
                return;
            };
            let serial = term.serial;
            let epoch = term.term.epoch();
            let Some(active) = term.active.as_mut() else {
                return;
            };
            if let Some(load) = active.poll_load() {
                self.read(node, serial, load);
            } else if let Some(notice) = active.poll_notice() {
                if matches!(notice, Notice::RowDropped { .. }) {
                    self.violated(format!(
                        "every row in the tables belongs somewhere: {notice:?}"
                    ));
                }
                self.note(|| format!("node {node}: notice {notice:?}"));
            } else if is_free && let Some(batch) = active.poll_batch(now) {
                self.commit(node, batch, epoch);
            } else {
                return;
            }
        }
    }

    /// Between two turns: what comes first of all that has come.
    fn take_what_came(&mut self, node: usize) -> bool {
        let now = self.now(node);
        let until = self.acts_until(node);
        let Some(term) = self.nodes[node].term.as_mut() else {
            return false;
        };
        let Some(active) = term.active.as_mut() else {
            return false;
        };
        let wait = match active.rest(now) {
            Ok(Some(wait)) => wait,
            Ok(None) => return true,
            Err(end) => {
                self.gives_up(node, &end);
                return false;
            }
        };
        term.wait_until = Some(wait.until);
        if let Some(number) = term.committed.take() {
            active.committed(number, true, now);
        } else if let Some(end) = due(active, wait, now) {
            self.gives_up(node, &end);
            return false;
        } else if wait.has_backlog {
            active.take_backlog(now);
        } else if let Some(answer) = term.loaded.pop_front() {
            active.from_tables(answer, now);
        } else if let Intake::All(most) | Intake::New(most) = wait.intake
            && !self.nodes[node].unread.is_empty()
        {
            let count = self.rng.pick(&[1, 1, 5, 1024]);
            self.take_requests(node, count.min(most.requests), until);
        } else {
            return wait.goes_on;
        }
        true
    }

    /// What one read from the socket brings.
    fn take_requests(&mut self, node: usize, count: usize, until: Instant) {
        let now = self.now(node);
        let unread = &mut self.nodes[node].unread;
        let read = unread.drain(..count.min(unread.len()));
        let mut events: Vec<Event> = read.collect();
        let has_more = !unread.is_empty();
        let Some(term) = self.nodes[node].term.as_mut() else {
            return;
        };
        let mut lines = Vec::new();
        for event in &events {
            term.facts.received(event, now);
            lines.push(describe(event));
        }
        events.retain(|event| {
            let deaf = matches!(event, Event::Pong(_)) && self.plan.is(Sabotage::IgnorePongs)
                || matches!(event, Event::Request(Request::Ack(_)))
                    && self.plan.is(Sabotage::IgnoreAcks)
                || matches!(event, Event::Request(Request::Ping { .. }))
                    && self.plan.is(Sabotage::IgnorePings);
            !deaf
        });
        if let Some(active) = term.active.as_mut() {
            active.take_requests(events.into_iter(), has_more, now, until);
        }
        for line in lines {
            self.note(|| format!("node {node}: hears {line}"));
        }
    }

    fn commit(&mut self, node: usize, batch: Batch, epoch: Epoch) {
        let now = self.now(node);
        let torn = self.is_torn(node);
        if let Some(term) = self.nodes[node].term.as_mut() {
            term.committing = Some(batch.clone());
            let closed = term
                .facts
                .explain_closed(&batch, &self.plan.settings.heartbeats, now);
            // What it says is not looked at any more, and nothing of this can be committed.
            if let Err(fact) = closed
                && !torn
            {
                self.violated(fact);
            }
        }
        let number = batch.number;
        self.submit(node, Statement::Commit(Box::new(batch), epoch));
        if self.plan.is(Sabotage::ReleaseBeforeCommit)
            && let Some(term) = self.nodes[node].term.as_mut()
        {
            term.committed = Some(number);
            let incarnation = self.nodes[node].incarnation;
            self.nodes[node].tick = Some(self.time);
            self.at(self.time, Step::Tick { node, incarnation });
        }
    }

    /// Its session has ended, and it cannot know yet.
    fn is_torn(&self, node: usize) -> bool {
        let session = self.nodes[node].session;
        session.is_some_and(|session| self.database.torn.contains(&session))
    }

    fn speak(&mut self, node: usize, serial: u64, outbound: Outbound) {
        let line = describe_outbound(&outbound);
        self.note(|| format!("node {node}: says {line}"));
        let now = self.now(node);
        let session = self.nodes[node].session;
        let torn = self.is_torn(node);
        let holds = session == self.database.locks.holder();
        if torn {
            // What it says was true a moment ago; somebody else may have gone on since.
            self.checks.on_last_words(&outbound);
        } else if let Some(term) = self.nodes[node].term.as_mut() {
            self.checks
                .on_speech(&outbound, holds, &mut term.facts, &self.database.store, now);
        }
        self.send_to_client(node, serial, outbound);
    }
}

/// What was waited for has not come in time.
fn due(active: &mut ActiveLoop, wait: Wait, now: Now) -> Option<End> {
    if now.monotonic < wait.until {
        return None;
    }
    active.timeout(now.monotonic).err()
}

fn describe(event: &Event) -> String {
    if let Event::Request(Request::Publish { request, .. }) = event {
        format!("publish {} {}", request.channel, request.guid)
    } else if let Event::Loaded { load, .. } = event {
        format!("answer to read {load}")
    } else {
        format!("{event:?}")
    }
}

fn describe_outbound(outbound: &Outbound) -> String {
    if let Outbound::Deliver {
        inbox,
        channel,
        message,
        redelivery_count,
        no_responders_to: _,
    } = outbound
    {
        let sequence = message.sequence;
        format!("{inbox}: {channel}#{sequence} ({redelivery_count})")
    } else {
        format!("{outbound:?}")
    }
}
