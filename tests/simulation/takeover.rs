//! From the lock to an active: what the tables say, what the node knows better, and what it has heard.

use std::collections::BTreeSet;

use stanby::core::batch::Progress;
use stanby::core::ids::{ChannelId, Epoch, Guid, Sequence};
use stanby::core::memory::Marks;
use stanby::core::ranges::Ranges;
use stanby::core::regression::Regression;
use stanby::core::snapshot::Snapshot;
use stanby::core::time::Instant;
use stanby::core::{Broker, Event, heard};
use stanby::store::heard::digest;

use crate::checks::speech::TermFacts;
use crate::plan::Sabotage;
use crate::world::{World, nanos};

/// A shadow of so many bytes may be crowded, and then forgets what a checker expects it to know.
const CROWDED: usize = 1 << 20;

impl World {
    pub(crate) fn begin_term(&mut self, node: usize, mut snapshot: Snapshot) {
        if self.plan.is(Sabotage::ForgetInFlight) {
            snapshot.pages.clear();
            for row in snapshot.positions.values_mut() {
                let last_sent = row.progress.last_sent;
                let acked_above = Ranges::default();
                row.progress = Progress {
                    last_sent,
                    acked_floor: last_sent,
                    acked_above,
                };
            }
        }
        let now = self.now(node);
        self.checks.saw_wall(now.wall);
        let settings = self.plan.settings.clone();
        let state = &mut self.nodes[node];
        state.shadow.expire(now.monotonic);
        let window = self.plan.heard_window();
        let places = heard::look_back(&snapshot, state.shadow.heard(), window);
        let stored = self.database.store.stored(&places);
        let connections = heard::connections(state.shadow.heard());
        let closed = self.database.store.closed_connections(connections);
        let heard = self.nodes[node].shadow.heard();
        let mut done = heard::Done::new(&snapshot, stored, closed, heard, digest);
        let remembered = self.ask_the_others(node, &snapshot);
        let regression = self.find_regression(node, &snapshot, &mut done);
        let memory = &self.nodes[node].memory;
        let believes = self.database.unrepaired && memory.is_replicated();
        let Some(term) = self.nodes[node].term.as_mut() else {
            return;
        };
        term.facts = TermFacts::new(&snapshot);
        term.facts.know(&self.checks);
        if self.plan.is(Sabotage::ForgetHolders) {
            snapshot.holders.clear();
        }
        let mut broker = Broker::restore(snapshot, settings, now);
        let lost = broker.repair(regression);
        term.broker = Some(broker);
        let epoch = term.term.epoch();
        self.checks.begins(epoch);
        self.note(|| format!("node {node}: is active in epoch {epoch}"));
        self.note(|| format!("node {node}: repairs {lost:?}"));
        self.checks
            .what_is_remembered_is_put_back(&lost, &remembered);
        if believes && self.database.lost_changes == 0 {
            self.checks.nothing_was_lost(&lost);
        }
        self.replay_shadow(node, done);
        self.drain(node);
    }

    /// What was heard before, as far as the tables do not show it as done, goes before anything new.
    fn replay_shadow(&mut self, node: usize, mut done: heard::Done) {
        let now = self.now(node).monotonic;
        let window = self.plan.heard_window();
        if self.plan.is(Sabotage::ReplayEverything) {
            done = heard::Done::default();
        }
        let judged = heard::judge(self.nodes[node].shadow.take(), &done);
        // Who was frozen on the way has read tables of long ago, and nothing that it does can be committed.
        let is_latest = (self.nodes[node].term.as_ref())
            .is_some_and(|term| term.term.epoch() == self.database.epoch);
        if is_latest {
            self.checks.on_replay(judged.iter().map(|(_, event)| event));
        }
        self.no_request_is_lost(node, &judged);
        if let Some(term) = self.nodes[node].term.as_mut() {
            term.inbox.extend(judged);
            if let Some(broker) = &mut term.broker
                && !self.plan.is(Sabotage::ForgetLateCopies)
            {
                broker.remember_stored(done.stored, now + window);
            }
        }
    }

    /// After a failover of Postgres the others tell what they remember, those who live.
    fn ask_the_others(
        &mut self,
        node: usize,
        tables: &Snapshot,
    ) -> Vec<(ChannelId, Sequence, Guid)> {
        let mut remembered = Vec::new();
        let is_exact = self.nodes[node].memory.is_exact();
        if !self.database.unrepaired || is_exact || self.plan.is(Sabotage::ForgetCommits) {
            return remembered;
        }
        let has = tables.channels.iter();
        let has = has.map(|(&id, row)| (id, row.last_sequence)).collect();
        for other in self.living_beside(node) {
            let account = self.nodes[other].memory.account(&has);
            remembered.extend(
                account
                    .messages
                    .iter()
                    .map(|(channel, message)| (*channel, message.sequence, message.guid.clone())),
            );
            self.nodes[node].memory.learn(account);
        }
        // Of deleted channels nobody wants them back.
        let channels = self.nodes[node].memory.channels();
        remembered.retain(|(channel, _, _)| channels.contains_key(channel));
        remembered
    }

    fn living_beside(&self, node: usize) -> Vec<usize> {
        let lives =
            |&other: &usize| other != node && self.nodes[other].up && !self.nodes[other].frozen;
        (0..self.nodes.len()).filter(lives).collect()
    }

    /// What the tables lack of what this node knows to have been committed.
    fn find_regression(
        &mut self,
        node: usize,
        tables: &Snapshot,
        done: &mut heard::Done,
    ) -> Regression {
        let failed_over = self.database.unrepaired;
        self.nodes[node].memory.found(self.database.found_epoch);
        let state = &self.nodes[node];
        let heard = failed_over.then(|| heard::publishes(state.shadow.heard()));
        let regression = Regression::find(tables, &state.memory, heard, done);
        let epoch = state
            .term
            .as_ref()
            .map_or(Epoch(0), |term| term.term.epoch());
        if !self.plan.is(Sabotage::ForgetCommits) {
            let marks = Marks::of(tables, epoch);
            self.nodes[node].memory.saw(marks);
        }
        for (channel, message) in regression.restored() {
            done.stored.add_message(channel, message);
        }
        if failed_over && !self.can_tell(node) {
            self.checks.cannot_be_told();
        }
        regression
    }

    /// True when the node had every chance to know how far the channels were before the failover.
    fn can_tell(&self, node: usize) -> bool {
        let state = &self.nodes[node];
        let at = self.checks.failovers.at;
        if state.served == self.checks.failovers.epoch {
            return true;
        }
        let mut others = self.living_beside(node).into_iter();
        if others.any(|other| self.nodes[other].served == self.checks.failovers.epoch) {
            return true;
        }
        let slack = 1_100_000_000;
        let shadow = self.plan.shadow.filter(|limits| limits.bytes > CROWDED);
        let hears = self.nats.is_perfect() && !state.froze && state.started + slack < at;
        let remembers = shadow.is_some_and(|limits| {
            let age = nanos(limits.age);
            // A term that has just begun stores what was heard before: some of it longer ago than is remembered.
            let is_settled = self.checks.failovers.since + age < at;
            is_settled && self.time < at + age.saturating_sub(2 * slack)
        });
        // Of a setting that was taken away a moment ago nobody has told the node.
        let misled = state.memory.is_replicated() && self.database.loosened_at > state.looked_at;
        if misled {
            return false;
        }
        hears && remembers && state.looked_at + slack > at && !self.checks.failovers.new_channel
    }

    /// Whatever came to this node within its memory has been answered, is stored, or is about to be looked at.
    fn no_request_is_lost(&mut self, node: usize, judged: &[(Instant, Event)]) {
        let Some(limits) = self.plan.shadow.filter(|limits| limits.bytes > CROWDED) else {
            return;
        };
        let memory = nanos(limits.age).saturating_sub(1);
        let oldest = self.time.saturating_sub(memory);
        let arrived = &mut self.nodes[node].arrived;
        while arrived.front().is_some_and(|&(at, _)| at < oldest) {
            arrived.pop_front();
        }
        let waiting: BTreeSet<&Guid> = heard::publishes(judged.iter().map(|(_, event)| event))
            .map(|publish| &publish.guid)
            .collect();
        let mut arrived = self.nodes[node].arrived.iter().map(|(_, guid)| guid);
        let lost = arrived.find(|guid| !waiting.contains(guid) && !self.checks.is_dealt_with(guid));
        if let Some(guid) = lost {
            let fact =
                format!("no request is lost in a takeover: node {node} has forgotten {guid}");
            self.violated(fact);
        }
    }
}
