//! The replica that a failover of Postgres makes the primary: it may not have got the last commits, and then nobody
//! but the servers knows of them.

use std::collections::VecDeque;
use std::time::Duration;

use stanby::core::batch::Batch;
use stanby::core::commit_history::HighWaterMarks;
use stanby::core::ids::{ChannelId, Epoch, PositionId, Sequence};
use stanby::core::outbox::OutboxRow;
use stanby::core::sql_acks::Verdict;
use stanby::core::time::Timestamp;

use crate::memory_store::MemoryStore;
use crate::sql::Sql;
use crate::world::{Step, Time, World, nanos};

/// How often a standby looks how far the channels are.
const MARKS_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) enum Change {
    Batch(Box<Batch>, Epoch),
    Epoch(Epoch),
    Deleted(ChannelId, Sequence),
    Sql(Vec<(Option<Timestamp>, OutboxRow)>),
    SqlAck(PositionId, Sequence, Verdict),
}

#[derive(Debug, Default)]
pub(crate) struct Replica {
    store: MemoryStore,
    epoch: Epoch,
    /// On its way, and when it was committed.
    changes: VecDeque<(Time, Change)>,
}

impl Replica {
    fn catch_up(&mut self, until: Time) {
        while self.changes.front().is_some_and(|&(at, _)| at <= until) {
            match self.changes.pop_front() {
                Some((at, Change::Batch(batch, epoch))) => {
                    self.store.clock = Duration::from_nanos(at);
                    self.store.apply(&batch, epoch);
                }
                Some((_, Change::Epoch(epoch))) => self.epoch = epoch,
                Some((_, Change::Deleted(channel, sequence))) => {
                    self.store.delete_message(channel, sequence);
                }
                Some((_, Change::Sql(rows))) => self.store.publish_in_sql(rows),
                Some((_, Change::SqlAck(position, sequence, verdict))) => {
                    self.store.ack_in_sql(position, sequence, verdict);
                }
                None => {}
            }
        }
    }
}

impl World {
    pub(crate) fn replicate(&mut self, change: Change) {
        if let Some(lag) = self.plan.replica_lag {
            let lag = if self.database.synchronous {
                Duration::ZERO
            } else {
                lag
            };
            let replica = &mut self.database.replica;
            replica.changes.push_back((self.time, change));
            replica.catch_up(self.time.saturating_sub(nanos(lag)));
        }
    }

    /// An operator lets commits wait for the replica, or no longer.
    pub(crate) fn change_synchronous(&mut self) {
        let waits = !self.database.synchronous;
        self.note(|| format!("database: commits wait for the replica: {waits}"));
        self.database.synchronous = waits;
        if !waits {
            self.database.loosened_at = self.time;
        }
    }

    /// The primary is gone, and its replica takes over with what it has.
    pub(crate) fn fail_over(&mut self) {
        let Some(lag) = self.plan.replica_lag else {
            return;
        };
        let pause = self.rng.millis(200, 1_500);
        self.database.torn.extend(self.database.locks.holder());
        self.end_sessions(pause, 0);
        let replica = &mut self.database.replica;
        replica.catch_up(self.time.saturating_sub(nanos(lag)));
        let lost = replica.changes.len();
        replica.changes.clear();
        self.database.store = replica.store.clone();
        self.database.epoch = replica.epoch;
        self.database.unrepaired = true;
        self.database.refusal_noted = None;
        self.database.lost_changes += lost;
        self.fail_over_sql_acks();
        self.checks.fails_over(&self.database.store, lost);
        self.note(|| format!("database: fails over in {pause:?} and loses {lost} changes"));
    }

    pub(crate) fn look_at_marks(&mut self, node: usize, incarnation: u64) {
        let state = &self.nodes[node];
        if state.incarnation != incarnation || !state.up {
            return;
        }
        self.after(MARKS_INTERVAL, Step::Marks { node, incarnation });
        let state = &self.nodes[node];
        let reaches = state.cut_until <= self.time && self.database.down_until <= self.time;
        if state.frozen || !reaches || state.term.is_some() {
            return;
        }
        let rows = self.database.store.snapshot();
        let mut marks = HighWaterMarks::of(&rows, self.database.epoch);
        marks.sql_is_used = self.sql.as_ref().is_some_and(Sql::is_used);
        if !self.database.unrepaired {
            marks.all_waited_for = Some(self.database.synchronous);
        }
        let now = self.now(node).monotonic;
        self.nodes[node].history.observe_at(marks, now);
        self.nodes[node].looked_at = self.time;
    }
}
