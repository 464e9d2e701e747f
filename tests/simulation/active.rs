//! The active loop: what a server does within its trust window, in the order of the real one.

use std::collections::VecDeque;

use stanby::core::batch::Batch;
use stanby::core::ids::Epoch;
use stanby::core::time::Instant;
use stanby::core::{Event, Notice, Outbound};

use crate::database::Statement;
use crate::plan::Sabotage;
use crate::world::{Step, World};

/// What was read is always taken: what there is no room for may be waiting for it.
fn next_event(inbox: &mut VecDeque<(Instant, Event)>, has_room: bool) -> Option<(Instant, Event)> {
    if has_room {
        return inbox.pop_front();
    }
    let is_read = |(_, event): &(Instant, Event)| {
        matches!(event, Event::Loaded { .. } | Event::LoadFailed(_))
    };
    inbox.remove(inbox.iter().position(is_read)?)
}

impl World {
    /// Does what can be done now, in the order of the active loop.
    pub(crate) fn pump(&mut self, node: usize) {
        self.drain(node);
        while self.nodes[node].up && self.trusted(node) {
            let now = self.now(node);
            self.checks.saw_wall(now.wall);
            let Some(term) = self.nodes[node].term.as_mut() else {
                break;
            };
            let Some(broker) = term.broker.as_mut() else {
                break;
            };
            if let Some(number) = term.committed.take() {
                broker.handle(Event::Committed(number), now);
                term.unanswered.committed(now.monotonic);
            } else if let Some((heard_at, event)) = next_event(&mut term.inbox, broker.has_room()) {
                term.facts.heard(&event, now);
                let deaf = matches!(event, Event::Pong(_)) && self.plan.is(Sabotage::IgnorePongs)
                    || matches!(event, Event::Ack(_)) && self.plan.is(Sabotage::IgnoreAcks)
                    || matches!(event, Event::Ping { .. }) && self.plan.is(Sabotage::IgnorePings);
                let line = describe(&event);
                if !deaf {
                    term.unanswered.take_in(&event, heard_at);
                    broker.handle_late(event, heard_at, now);
                }
                self.note(|| format!("node {node}: hears {line}"));
            } else if broker.next_timeout().is_some_and(|at| at <= now.monotonic) {
                broker.handle_timeout(now);
            } else {
                break;
            }
            self.drain(node);
        }
        self.keep_session(node);
    }

    pub(crate) fn trusted(&self, node: usize) -> bool {
        let term = self.nodes[node].term.as_ref();
        term.is_some_and(|term| {
            term.term.is_trusted(self.now(node).monotonic)
                || self.plan.is(Sabotage::SkipTrustWindow)
        })
    }

    pub(crate) fn drain(&mut self, node: usize) {
        let mut held = Vec::new();
        while self.trusted(node) {
            let free = self.nodes[node].statement.is_none();
            let Some(term) = self.nodes[node].term.as_mut() else {
                return;
            };
            let serial = term.serial;
            let epoch = term.term.epoch();
            let Some(broker) = term.broker.as_mut() else {
                return;
            };
            if let Some(outbound) = broker.poll_outbound() {
                let reply = matches!(outbound, Outbound::Reply { .. });
                if reply && self.plan.is(Sabotage::DeliverBeforeReplies) {
                    held.push(outbound);
                } else {
                    self.speak(node, serial, outbound);
                }
            } else if let Some(load) = broker.poll_load() {
                self.read(node, serial, load);
            } else if let Some(notice) = broker.poll_notice() {
                if matches!(notice, Notice::RowDropped { .. }) {
                    self.violated(format!(
                        "every row in the tables belongs somewhere: {notice:?}"
                    ));
                }
                self.note(|| format!("node {node}: notice {notice:?}"));
            } else if free && let Some(batch) = broker.poll_batch() {
                self.commit(node, batch, epoch);
            } else {
                break;
            }
        }
        let serial = self.nodes[node].term.as_ref().map_or(0, |term| term.serial);
        for outbound in held {
            self.speak(node, serial, outbound);
        }
    }

    fn commit(&mut self, node: usize, batch: Batch, epoch: Epoch) {
        let now = self.now(node);
        let torn = self.is_torn(node);
        if let Some(term) = self.nodes[node].term.as_mut() {
            term.unanswered.submitted();
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
        let holds = session == self.database.holder;
        if let Some(term) = self.nodes[node].term.as_mut()
            // What it says was true a moment ago; somebody else may have gone on since.
            && !torn
        {
            self.checks
                .on_speech(&outbound, holds, &mut term.facts, &self.database.store, now);
        }
        self.send_to_client(node, serial, outbound);
    }
}

fn describe(event: &Event) -> String {
    if let Event::Publish { request, .. } = event {
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
        unheard_at: _,
    } = outbound
    {
        let sequence = message.sequence;
        format!("{inbox}: {channel}#{sequence} ({redelivery_count})")
    } else {
        format!("{outbound:?}")
    }
}
