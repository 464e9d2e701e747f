//! Postgres as the nodes see it: one lock with a queue, sessions that end when their holder is idle for too
//! long, statements that take time and whose outcome may stay unknown. The rows are the memory store's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stanby::core::batch::Batch;
use stanby::core::ids::Epoch;

use crate::memory_store::MemoryStore;
use crate::node::Input;
use crate::plan::Sabotage;
use crate::reads::{Astray, Read};
use crate::replica::{Change, Replica};
pub(crate) use crate::sessions::SessionId;
use crate::sessions::Sessions;
use crate::world::{Step, Time, World, nanos};

#[derive(Clone, Debug)]
pub(crate) enum Statement {
    Lock,
    Snapshot,
    Renew,
    Commit(Box<Batch>, Epoch),
    Close,
}

#[derive(Debug)]
pub(crate) enum DatabaseStep {
    Arrives {
        session: SessionId,
        statement: Statement,
    },
    Finishes {
        session: SessionId,
        statement: Statement,
    },
    /// The session has been idle since then.
    Lease {
        session: SessionId,
        idle_since: Time,
    },
    /// A part of what the session sends has come.
    Piece {
        session: SessionId,
    },
    Read(Box<Read>),
}

#[derive(Debug)]
struct Session {
    node: usize,
    incarnation: u64,
    idle_since: Time,
    /// Postgres ends the statement under way by its timeout.
    is_cancelled: bool,
    last_arrival: Time,
}

#[derive(Debug, Default)]
pub(crate) struct Database {
    pub(crate) store: MemoryStore,
    pub(crate) epoch: Epoch,
    pub(crate) reads: u64,
    pub(crate) replica: Replica,
    /// Every commit waits for the replica.
    pub(crate) synchronous: bool,
    /// When an operator last ended that.
    pub(crate) loosened_at: Time,
    /// Changes that failovers have lost since the tables were last repaired.
    pub(crate) lost_changes: usize,
    /// The last term that the tables knew of before the present one.
    pub(crate) found_epoch: Epoch,
    /// It has failed over, and no term that knew of it has committed anything.
    pub(crate) unrepaired: bool,
    /// Until then nobody can connect.
    pub(crate) down_until: Time,
    pub(crate) read_only_until: Time,
    /// Until then a policy hides rows from the servers' role, which is told so by errors.
    pub(crate) hidden_until: Time,
    /// Until then so many bytes a second get through.
    pub(crate) narrow_until: Time,
    pub(crate) narrow_rate: u64,
    pub(crate) astray: Astray,
    pub(crate) reads_astray: u64,
    /// Batches that it would never store.
    pub(crate) refused: u64,
    /// The term in which a server has noted that: later ones know it.
    pub(crate) refusal_noted: Option<Epoch>,
    /// Until then there is no room for messages.
    pub(crate) full_until: Time,
    /// Ended while their nodes had every reason to trust them: it takes these a moment to hear of it, and until
    /// then they may still say what was committed.
    pub(crate) torn: BTreeSet<SessionId>,
    pub(crate) locks: Sessions<Statement>,
    /// Those that are open.
    sessions: BTreeMap<SessionId, Session>,
}

impl Database {
    pub(crate) fn new(synchronous: bool) -> Self {
        Self {
            synchronous,
            ..Self::default()
        }
    }

    /// Whose session it is, while there is one.
    pub(crate) fn node_of(&self, id: SessionId) -> Option<usize> {
        self.sessions.get(&id).map(|session| session.node)
    }
}

impl World {
    pub(crate) fn open_session(&mut self, node: usize) -> SessionId {
        let id = self.database.locks.open();
        let session = Session {
            node,
            incarnation: self.nodes[node].incarnation,
            idle_since: self.time,
            is_cancelled: false,
            last_arrival: self.time,
        };
        self.database.sessions.insert(id, session);
        id
    }

    /// Sends a statement; it arrives after everything sent before it on the session.
    pub(crate) fn send_statement(&mut self, node: usize, id: SessionId, statement: Statement) {
        let mut delay = self.rng.millis(0, 1);
        if !self.calm && self.rng.chance(self.plan.late_statements) {
            delay += self.rng.millis(100, 1_500);
            self.disturbed_until(self.time + nanos(delay));
        }
        let sent = match &statement {
            Statement::Commit(batch, _) => self.upload(node, id, batch),
            Statement::Lock | Statement::Snapshot | Statement::Renew | Statement::Close => {
                self.time
            }
        };
        let arrival = (sent + nanos(delay)).max(self.nodes[node].cut_until);
        let arrival = match self.database.sessions.get_mut(&id) {
            Some(session) => {
                session.last_arrival = arrival.max(session.last_arrival + 1);
                session.last_arrival
            }
            None => arrival,
        };
        self.at(
            arrival,
            Step::Database(DatabaseStep::Arrives {
                session: id,
                statement,
            }),
        );
    }

    pub(crate) fn database_step(&mut self, step: DatabaseStep) {
        match step {
            DatabaseStep::Arrives { session, statement } => self.arrives(session, statement),
            DatabaseStep::Finishes { session, statement } => self.finishes(session, statement),
            DatabaseStep::Lease {
                session,
                idle_since,
            } => {
                let expired = self
                    .database
                    .sessions
                    .get(&session)
                    .is_some_and(|s| s.idle_since == idle_since)
                    && self.database.locks.executing(session).is_none();
                if expired && self.database.locks.holder() == Some(session) {
                    self.note(|| format!("database: lease of session {session} ends"));
                    self.a_lease_ends_for_a_cause();
                    self.end_session(session);
                }
            }
            DatabaseStep::Piece { session } => self.piece_arrives(session),
            DatabaseStep::Read(read) => self.answer_read(read),
        }
    }

    fn arrives(&mut self, id: SessionId, statement: Statement) {
        if !self.database.locks.is_open(id) {
            if let Statement::Commit(batch, epoch) = statement
                && self.plan.is(Sabotage::CommitOnEndedSession)
            {
                let mut stored = self.database.store.messages();
                let is_stored_again = stored.any(|(channel, _, stored)| {
                    let mut sent = batch.messages.iter();
                    sent.any(|(c, m)| *c == channel && m.sequence == stored.sequence)
                });
                drop(stored);
                if is_stored_again {
                    let fact = format!("no commit of epoch {epoch} comes after its session's end");
                    return self.violated(fact);
                }
                self.apply(&batch, epoch);
            }
            return;
        }
        match statement {
            Statement::Close => self.abandon_session(id),
            Statement::Lock => {
                self.database.locks.ask_for_lock(id, Statement::Lock);
                self.grant();
            }
            Statement::Snapshot | Statement::Renew | Statement::Commit(..) => {
                self.database.locks.begin(id, statement.clone());
                let (low, high) = self.plan.commit_time;
                let time = self.rng.millis(low, high);
                let (extra, is_cancelled) = if matches!(statement, Statement::Commit(..)) {
                    self.slowness_of_commit()
                } else {
                    (Duration::ZERO, false)
                };
                if let Some(session) = self.database.sessions.get_mut(&id) {
                    session.is_cancelled = is_cancelled;
                }
                self.after(
                    time + extra,
                    Step::Database(DatabaseStep::Finishes {
                        session: id,
                        statement,
                    }),
                );
            }
        }
    }

    fn finishes(&mut self, id: SessionId, statement: Statement) {
        if !self.database.locks.is_open(id) {
            return;
        }
        let commits = matches!(statement, Statement::Commit(..));
        let session = self.database.sessions.get_mut(&id);
        let is_cancelled = session.is_some_and(|it| std::mem::take(&mut it.is_cancelled));
        let failed = is_cancelled
            || self.refuses(&statement)
            || commits && !self.calm && self.rng.chance(self.plan.commit_failures);
        if failed {
            self.disturbed_until(self.time);
        }
        let input = match statement {
            _ if failed => Input::Failed { session: id },
            Statement::Commit(batch, _) if let Some(refusal) = self.refusal(&batch) => {
                self.note(|| format!("database: never stores batch {}: {refusal}", batch.number));
                self.database.refused += 1;
                // A whole batch is tried in halves.
                self.disturb(self.plan.lease);
                let refusal = Box::new(refusal);
                Input::Refused {
                    session: id,
                    refusal,
                }
            }
            Statement::Commit(batch, epoch) => {
                self.apply(&batch, epoch);
                Input::Done {
                    session: id,
                    batch: Some(batch.number),
                }
            }
            Statement::Snapshot => {
                self.database.store.clock = Duration::from_nanos(self.time);
                let snapshot = Box::new(self.database.store.snapshot());
                Input::Snapshot {
                    session: id,
                    snapshot,
                }
            }
            Statement::Renew => Input::Done {
                session: id,
                batch: None,
            },
            Statement::Lock | Statement::Close => return,
        };
        if commits && !self.calm && self.rng.chance(self.plan.lost_replies) {
            self.note(|| format!("database: reply on session {id} is lost"));
            self.disturbed_until(self.time + nanos(self.plan.lease * 2));
        } else {
            self.reply(id, input);
        }
        self.becomes_idle(id);
    }

    fn refuses(&self, statement: &Statement) -> bool {
        let hidden = self.time < self.database.hidden_until;
        let Statement::Commit(batch, _) = statement else {
            return hidden && matches!(statement, Statement::Snapshot);
        };
        hidden
            || self.time < self.database.read_only_until
            || self.time < self.database.full_until && !batch.messages.is_empty()
    }

    /// All sessions end. What was being committed is there afterwards, or not.
    pub(crate) fn restart_database(&mut self, pause: Duration) {
        self.note(|| format!("database: restarts, which takes {pause:?}"));
        self.end_sessions(pause, 500);
    }

    /// `survives`: in so many of a thousand cases what is being committed is there afterwards.
    pub(crate) fn end_sessions(&mut self, pause: Duration, survives: u64) {
        self.database.down_until = self.time + nanos(pause);
        self.database.torn.extend(self.database.locks.holder());
        self.database.locks.clear_queue();
        for id in self.database.locks.ids() {
            let executing = self.database.locks.executing(id).cloned();
            if let Some(statement) = executing
                && !self.refuses(&statement)
                && let Statement::Commit(batch, epoch) = statement
                && self.rng.chance(survives)
            {
                self.apply(&batch, epoch);
            }
            self.end_session(id);
        }
    }

    pub(crate) fn becomes_idle(&mut self, id: SessionId) {
        let now = self.time;
        let Some(session) = self.database.sessions.get_mut(&id) else {
            return;
        };
        session.idle_since = now;
        if self.database.locks.finish(id) {
            self.end_session(id);
        } else {
            self.after(
                self.plan.lease,
                Step::Database(DatabaseStep::Lease {
                    session: id,
                    idle_since: now,
                }),
            );
        }
    }

    fn apply(&mut self, batch: &Batch, epoch: Epoch) {
        self.note(|| {
            let names: Vec<String> = batch
                .messages
                .iter()
                .map(|(c, m)| format!("{c}#{}", m.sequence))
                .collect();
            format!(
                "database: commit {} of epoch {epoch}: [{}] trims {:?} progress {:?}",
                batch.number,
                names.join(" "),
                batch.trims,
                batch.progress,
            )
        });
        self.expect_of_operators(batch);
        self.expect_of_sql(batch);
        if !self.checks.before_commit(batch, epoch) {
            return;
        }
        self.database.store.clock = Duration::from_nanos(self.time);
        if self.plan.is(Sabotage::ForgetDropped) {
            let forgetful = Batch {
                guids_kept_after: BTreeMap::new(),
                ..batch.clone()
            };
            self.database.store.apply(&forgetful, epoch);
        } else {
            self.database.store.apply(batch, epoch);
        }
        self.database.unrepaired = false;
        self.database.lost_changes = 0;
        self.replicate(Change::Batch(Box::new(batch.clone()), epoch));
        if self.plan.is(Sabotage::LoseRows)
            && self.rng.chance(20)
            && let Some((channel, message)) = batch.messages.last()
        {
            self.database
                .store
                .delete_message(*channel, message.sequence);
        }
    }

    /// Ends a session as the lease, an operator or the loss of its client does.
    pub(crate) fn end_session(&mut self, id: SessionId) {
        self.reply(id, Input::SessionEnded { session: id });
        self.database.sessions.remove(&id);
        self.database.locks.end(id);
        self.grant();
    }

    /// The client's side of the connection was closed by its operating system.
    pub(crate) fn abandon_session(&mut self, id: SessionId) {
        if !self.database.locks.abandon(id) {
            self.end_session(id);
        }
    }

    fn grant(&mut self) {
        let Some(id) = self.database.locks.grant() else {
            return;
        };
        if self.time < self.database.read_only_until {
            // The lock is worth nothing: the epoch cannot be written.
            return self.end_session(id);
        }
        let known = self.database.sessions.get(&id).map(|session| session.node);
        let known = known.map_or(Epoch(0), |node| self.nodes[node].history.epoch());
        self.database.found_epoch = self.database.epoch;
        self.database.epoch = Epoch(self.database.epoch.max(known).0 + 1);
        let epoch = self.database.epoch;
        self.replicate(Change::Epoch(epoch));
        let waiting = self.database.locks.queue().count();
        self.note(|| {
            format!("database: session {id} gets the lock, epoch {epoch}, {waiting} wait")
        });
        self.reply(id, Input::Granted { session: id, epoch });
        self.becomes_idle(id);
    }

    pub(crate) fn reply(&mut self, id: SessionId, input: Input) {
        let Some(session) = self.database.sessions.get(&id) else {
            return;
        };
        let (node, incarnation) = (session.node, session.incarnation);
        let delay = self.rng.millis(0, 1);
        let time = (self.time + nanos(delay)).max(self.nodes[node].cut_until);
        self.at(
            time,
            Step::Node {
                node,
                incarnation,
                input,
            },
        );
    }
}
