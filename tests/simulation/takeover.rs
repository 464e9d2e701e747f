//! From the lock to an active: what the tables say, what the node knows better, and what it has received.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stanby::core::active::ActiveLoop;
use stanby::core::batch::Progress;
use stanby::core::commit_history::CommitHistory;
use stanby::core::dedup::StoredPublish;
use stanby::core::ids::{ChannelId, Epoch, Guid, Sequence};
use stanby::core::ranges::Ranges;
use stanby::core::replay::{self, Stored};
use stanby::core::snapshot::Snapshot;
use stanby::core::takeover::{Answer, Granted, Known, Recovered, Restored, Step, Takeover};
use stanby::core::time::Instant;
use stanby::core::{Event, Request};
use stanby::store::replay::digest;

use crate::checks::speech::TermFacts;
use crate::database::Statement;
use crate::node::Node;
use crate::plan::Sabotage;
use crate::world::{World, nanos};

/// A shadow of so many bytes may be crowded, and then forgets what a checker expects it to know.
const CROWDED: usize = 1 << 20;

impl World {
    /// The lock is granted: what has come by now is received, and the tables are read.
    pub(crate) fn begin_takeover(&mut self, node: usize, epoch: Epoch) {
        let state = &mut self.nodes[node];
        let needs_savepoints = std::mem::take(&mut state.needs_savepoints);
        let with_savepoints = (needs_savepoints || self.database.refusal_noted.is_some())
            && !self.plan.is(Sabotage::TakeNoCare);
        if let Some(term) = self.nodes[node].term.as_mut() {
            term.with_savepoints = with_savepoints;
        }
        let (takeover, step) = Takeover::begin(Granted {
            epoch,
            last_epoch: self.database.found_epoch,
            failed_over: self.database.unrepaired,
            with_savepoints,
            window: self.plan.replay_window(),
            digester: digest,
        });
        if let Some(term) = self.nodes[node].term.as_mut() {
            term.takeover = Some(takeover);
        }
        self.take_over(node, step);
    }

    pub(crate) fn tables_are_read(&mut self, node: usize, mut tables: Snapshot) {
        if self.plan.is(Sabotage::ForgetInFlight) {
            tables.pages.clear();
            for row in tables.positions.values_mut() {
                let last_sent = row.progress.last_sent;
                let acked_above = Ranges::default();
                row.progress = Progress {
                    last_sent,
                    acked_floor: last_sent,
                    acked_above,
                };
            }
        }
        if let Some(term) = self.nodes[node].term.as_mut() {
            term.facts = TermFacts::new(&tables);
        }
        if self.plan.is(Sabotage::ForgetSqlAcks) {
            tables.sql_acks.clear();
        }
        if self.plan.is(Sabotage::ForgetHolders) {
            tables.holders.clear();
        }
        let step = self.answer(node, Answer::Tables(Box::new(tables)));
        self.take_over(node, step);
    }

    /// Carries out what the takeover asks for: at once, but for the tables.
    fn take_over(&mut self, node: usize, mut step: Step) {
        let forgets = self.plan.is(Sabotage::ReplayEverything);
        let mut remembered = Vec::new();
        loop {
            let answer = match step {
                // What came while it waited is in its shadow.
                Step::Drain => Answer::Drained,
                Step::ReadTables => return self.submit(node, Statement::Snapshot),
                Step::FindPublishes(_) if forgets => Answer::Publishes(Stored::default()),
                Step::FindPublishes(wanted) => {
                    let mut stored = self.database.store.stored(&wanted);
                    if self.plan.is(Sabotage::ForgetLateCopies) {
                        let is_wanted =
                            |publish: &StoredPublish| wanted.guids.contains(&publish.guid);
                        stored.kept.retain(|(_, publish)| is_wanted(publish));
                        stored.dropped.retain(|(_, publish)| is_wanted(publish));
                    }
                    Answer::Publishes(stored)
                }
                Step::FindClosed(_) if forgets => Answer::Closed(BTreeSet::new()),
                Step::FindClosed(inboxes) => {
                    Answer::Closed((self.database.store).closed_connections(inboxes.iter()))
                }
                Step::AskServers(has) => {
                    self.ask_the_others(node, &has, &mut remembered);
                    Answer::ServersAsked
                }
                Step::Restore(recovered) => {
                    return self.begin_term(node, *recovered, &remembered);
                }
            };
            step = self.answer(node, answer);
        }
    }

    fn answer(&mut self, node: usize, answer: Answer) -> Step {
        let mut nothing = CommitHistory::new(0);
        let last_sign = self.last_sign(node);
        let state = &mut self.nodes[node];
        let takeover = (state.term.as_mut())
            .and_then(|term| term.takeover.as_mut())
            .expect("a takeover is under way");
        let known = Known {
            shadow: state.standby.shadow(),
            history: if self.plan.is(Sabotage::ForgetCommits) {
                &mut nothing
            } else {
                &mut state.history
            },
            last_sign,
        };
        takeover.answer(answer, known)
    }

    /// `remembered`: what others have told of what they remember.
    fn begin_term(
        &mut self,
        node: usize,
        recovered: Recovered,
        remembered: &[(ChannelId, Sequence, Guid)],
    ) {
        let now = self.now(node);
        self.checks.saw_wall(now.wall);
        if self.database.unrepaired && !self.can_tell(node) {
            self.checks.cannot_be_told();
        }
        let believes = self.database.unrepaired && self.nodes[node].history.is_replicated();
        let settings = self.plan.settings.clone();
        let lease = self.plan.lease;
        let state = &mut self.nodes[node];
        let Some(term) = state.term.as_mut() else {
            return;
        };
        let restored = recovered.restore(settings, state.standby.shadow_mut(), now);
        let epoch = term.term.epoch();
        term.takeover = None;
        term.facts.know(&self.checks);
        for (_, request) in &restored.backlog {
            term.facts.received(&request.clone().into(), now);
        }
        let Restored {
            broker,
            backlog,
            report,
        } = restored;
        self.checks.begins(epoch);
        let lost = &report.lost;
        self.note(|| format!("node {node}: is active in epoch {epoch}"));
        self.note(|| format!("node {node}: repairs {lost:?}"));
        self.checks.what_is_remembered_is_put_back(lost, remembered);
        if believes && self.database.lost_changes == 0 {
            self.checks.nothing_was_lost(lost);
        }
        // Who was frozen on the way has read tables of long ago, and nothing that it does can be committed.
        if epoch == self.database.epoch {
            self.checks
                .on_replay(backlog.iter().map(|(_, event)| event));
        }
        self.no_request_is_lost(node, &backlog);
        let shadow = self.plan.shadow;
        if let Some(term) = self.nodes[node].term.as_mut() {
            term.active = Some(ActiveLoop::new(
                broker,
                backlog,
                lease,
                shadow,
                now.monotonic,
            ));
            if let Some(active) = term
                .active
                .as_mut()
                .filter(|_| self.sql.is_some() || self.operators.is_some())
            {
                // Which a term does when it listens for notifications.
                active.from_tables(Event::OutboxNoted, now);
            }
        }
    }

    /// After a failover of Postgres the others tell what they remember, those who live.
    fn ask_the_others(
        &mut self,
        node: usize,
        has: &BTreeMap<ChannelId, Sequence>,
        remembered: &mut Vec<(ChannelId, Sequence, Guid)>,
    ) {
        if self.plan.is(Sabotage::ForgetCommits) {
            return;
        }
        for other in self.living_beside(node) {
            let sign = self.last_sign(other);
            let history = &mut self.nodes[other].history;
            if let Some(sign) = sign {
                history.observed_active(sign);
            }
            let account = history.account(has);
            remembered.extend(
                account
                    .messages
                    .iter()
                    .map(|(channel, message)| (*channel, message.sequence, message.guid.clone())),
            );
            let now = self.now(node).monotonic;
            self.nodes[node].history.learn(account, now);
        }
        // Of deleted channels nobody wants them back.
        let channels = self.nodes[node].history.channels();
        remembered.retain(|(channel, _, _)| channels.contains_key(channel));
    }

    fn living_beside(&self, node: usize) -> Vec<usize> {
        let lives =
            |&other: &usize| other != node && self.nodes[other].up && !self.nodes[other].frozen;
        (0..self.nodes.len()).filter(lives).collect()
    }

    /// True when the node had every chance to know how far the channels were before the failover.
    fn can_tell(&self, node: usize) -> bool {
        let state = &self.nodes[node];
        let at = self.checks.failovers.at;
        // A term before another failover may have had the same number.
        let served_last = |state: &Node| {
            state.served == self.checks.failovers.epoch
                && state.served_from >= self.checks.failovers.from
        };
        if served_last(state) {
            return true;
        }
        let mut others = self.living_beside(node).into_iter();
        if others.any(|other| served_last(&self.nodes[other])) {
            return true;
        }
        let slack = 1_100_000_000;
        let shadow = self.plan.shadow.filter(|limits| limits.bytes > CROWDED);
        let hears = self.nats.is_perfect() && !state.froze && state.started + slack < at;
        let remembers = shadow.is_some_and(|limits| {
            let age = nanos(limits.age);
            // A term that has just begun stores what was received before: some of it longer ago than is remembered.
            let is_settled = self.checks.failovers.since + age < at;
            is_settled && self.time < at + age.saturating_sub(2 * slack)
        });
        // Of a setting that was taken away a moment ago nobody has told the node.
        let misled = state.history.is_replicated() && self.database.loosened_at > state.looked_at;
        // What is published in SQL no standby hears: of what was stored since it looked only the active knew.
        let is_unheard = self.checks.sql_stored_at > state.looked_at;
        // An active that is slow may have stored what had come before this node listened, since it looked last.
        let is_known = |(channel, sequence, guid): (ChannelId, Sequence, &Guid)| {
            let seen = state.history.channels().get(&channel);
            seen.is_some_and(|seen| sequence <= seen.last)
                || state.arrived.iter().any(|(_, heard)| heard == guid)
        };
        if misled || is_unheard || !self.checks.lost_publishes().all(is_known) {
            return false;
        }
        hears && remembers && state.looked_at + slack > at && !self.checks.failovers.new_channel
    }

    /// Whatever came to this node within its memory has been answered, is stored, or is about to be looked at.
    fn no_request_is_lost(&mut self, node: usize, planned: &VecDeque<(Instant, Request)>) {
        let Some(limits) = self.plan.shadow.filter(|limits| limits.bytes > CROWDED) else {
            return;
        };
        let kept_for = nanos(limits.age).saturating_sub(1);
        let oldest = self.time.saturating_sub(kept_for);
        let arrived = &mut self.nodes[node].arrived;
        arrived.retain(|&(at, _)| at >= oldest);
        let planned = planned.iter().map(|(_, request)| request);
        let unread = self.nodes[node].unread.iter();
        let unread = unread.filter_map(|event| {
            if let Event::Request(request) = event {
                Some(request)
            } else {
                None
            }
        });
        let waiting = planned.chain(unread);
        let waiting: BTreeSet<&Guid> = replay::publishes(waiting)
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
