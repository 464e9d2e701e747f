//! From the lock to a broker that serves, as a state machine without IO. It asks for one thing after the other, and whoever
//! drives it (the node, the simulation, the scenarios) carries that out and hands in the answer:
//!
//! | asks for | why |
//! |---|---|
//! | [`Step::Drain`] | the active before may have carried out what still waits here unread |
//! | [`Step::ReadTables`] | a term is rebuilt from the tables alone |
//! | [`Step::FindPublishes`] | what is stored is not stored again |
//! | [`Step::FindClosed`] | who has closed is not connected again |
//! | [`Step::AskServers`] | after a failover of Postgres, what the tables lack may be in another server's memory |
//! | [`Step::Restore`] | the end: what is lacking is put back, and requests that nobody answered go first |
//!
//! A read that fails ends the takeover: nothing here has been changed but the history, and that never takes back what it
//! knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::Broker;
use super::batch::LostRange;
use super::commit_history::{CommitHistory, HighWaterMarks, Sign};
use super::dedup::Digester;
use super::failover_repair::Gaps;
use super::guarded::Guarded;
use super::ids::{ChannelId, ChannelName, Epoch, Guid, Sequence, Subject};
use super::limits::Settings;
use super::replay::{self, Moves, Outcomes, SearchRange, Stored};
use super::replicas::Doubt;
use super::request::Request;
use super::shadow::Shadow;
use super::snapshot::Snapshot;
use super::time::{Instant, Now};

/// What is known when the lock is granted and the epoch raised.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    pub epoch: Epoch,
    /// The last term that the tables knew of.
    pub last_epoch: Epoch,
    /// Postgres has failed over, and no term that knew of it has committed anything.
    pub failed_over: bool,
    /// Postgres refused something lately: what is handed in has to be taken back when it refuses that.
    pub with_savepoints: bool,
    /// For how long after the end of the active before copies of what it stored may still come.
    pub window: Duration,
    /// The store's.
    pub digester: Digester,
}

/// What the machine looks at, as it is when an answer is handed in.
#[derive(Debug)]
pub struct Known<'a> {
    /// What this node received while it was not active.
    pub shadow: &'a Shadow,
    /// What it knows to have been committed.
    pub history: &'a mut CommitHistory,
    /// The active before, as it last announced itself.
    pub last_sign: Option<Sign>,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Read into the shadow what has reached this node by now.
    Drain,
    /// Read everything but the messages.
    ReadTables,
    FindPublishes(FindPublishes),
    /// Which of these connections, by heartbeat inbox, have ended?
    FindClosed(Vec<Subject>),
    /// The tables have these channels up to these sequences: have the history learn what other servers know beyond them.
    AskServers(BTreeMap<ChannelId, Sequence>),
    /// Everything is known.
    Restore(Box<Recovered>),
}

/// Which publishes are stored?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FindPublishes {
    pub ranges: BTreeMap<ChannelId, SearchRange>,
    /// Those that were received: all of them are wanted.
    pub guids: BTreeSet<Guid>,
    /// Beside what limits have dropped from those ranges: what they have dropped, wherever, within this time.
    pub dropped_within: Duration,
    /// So many others at most, and as many of those dropped.
    pub others_max: usize,
}

/// What was found out. Each answers the step of its kind.
#[derive(Debug)]
pub enum Answer {
    Drained,
    Tables(Box<Snapshot>),
    Publishes(Stored),
    Closed(BTreeSet<Subject>),
    /// The history has learned what there was to learn.
    ServersAsked,
}

#[derive(Debug)]
pub struct Takeover {
    granted: Granted,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Draining,
    ReadingTables,
    FindingPublishes(Box<Snapshot>),
    FindingClosed(Box<Snapshot>, Stored),
    AskingServers(Box<Snapshot>, Outcomes),
    Over,
}

impl Takeover {
    /// And the first step.
    pub fn begin(granted: Granted) -> (Self, Step) {
        let stage = Stage::Draining;
        (Self { granted, stage }, Step::Drain)
    }

    /// What is to be done after what was asked for last is done.
    ///
    /// # Panics
    /// When something else was asked for: what drives the machine would be mistaken about what it reads.
    pub fn answer(&mut self, answer: Answer, known: Known<'_>) -> Step {
        if let Some(sign) = known.last_sign {
            known.history.observed_active(sign);
        }
        match (std::mem::replace(&mut self.stage, Stage::Over), answer) {
            (Stage::Draining, Answer::Drained) => {
                self.stage = Stage::ReadingTables;
                Step::ReadTables
            }
            (Stage::ReadingTables, Answer::Tables(tables)) => {
                let shadow = known.shadow;
                let publishes = replay::publishes(shadow.received());
                let wanted = FindPublishes {
                    ranges: replay::search_ranges(&tables, shadow.received(), self.granted.window),
                    guids: publishes.map(|publish| publish.guid.clone()).collect(),
                    // One that was frozen takes what it finds waiting for just received.
                    dropped_within: self.granted.window * 2,
                    others_max: replay::LATE_COPIES_MAX,
                };
                self.stage = Stage::FindingPublishes(tables);
                Step::FindPublishes(wanted)
            }
            (Stage::FindingPublishes(tables), Answer::Publishes(stored)) => {
                self.stage = Stage::FindingClosed(tables, stored);
                Step::FindClosed(
                    replay::connections(known.shadow.received())
                        .cloned()
                        .collect(),
                )
            }
            (Stage::FindingClosed(tables, stored), Answer::Closed(closed)) => {
                let received = known.shadow.received();
                let outcomes =
                    Outcomes::new(&tables, stored, closed, received, self.granted.digester);
                let history = &known.history;
                let may_lack = self.granted.failed_over
                    || history.is_ahead_of(&tables, self.granted.last_epoch);
                if !may_lack || history.is_exact() {
                    return self.recover(*tables, outcomes, known);
                }
                let has = tables.channels.iter();
                let has = has.map(|(&id, row)| (id, row.last_sequence)).collect();
                self.stage = Stage::AskingServers(tables, outcomes);
                Step::AskServers(has)
            }
            (Stage::AskingServers(tables, outcomes), Answer::ServersAsked) => {
                self.recover(*tables, outcomes, known)
            }
            (stage, answer) => panic!("what is answered was asked for: {stage:?}, {answer:?}"),
        }
    }

    fn recover(&self, tables: Snapshot, mut outcomes: Outcomes, known: Known<'_>) -> Step {
        let Known {
            shadow,
            history,
            last_sign,
        } = known;
        let granted = self.granted;
        let ended_at = history.last_commit_before(last_sign.map(|sign| sign.received_at));
        let publishes = granted.failed_over.then(|| {
            let received = shadow.received_until(ended_at);
            received.filter_map(|(is_whole, request)| {
                request.as_publish().map(|publish| (is_whole, publish))
            })
        });
        history.found(granted.last_epoch);
        let doubt = history.in_doubt().filter(|_| granted.failed_over);
        let gaps = Gaps::find(&tables, history, publishes, &outcomes);
        history.observe(HighWaterMarks::of(&tables, granted.epoch));
        for (channel, message) in gaps.restored() {
            outcomes.stored.add_message(channel, message);
        }
        Step::Restore(Box::new(Recovered {
            granted,
            tables,
            outcomes,
            gaps,
            doubt,
        }))
    }
}

/// All that a term begins with, before it begins.
#[derive(Debug)]
pub struct Recovered {
    granted: Granted,
    tables: Snapshot,
    outcomes: Outcomes,
    gaps: Gaps,
    doubt: Option<Doubt>,
}

/// A term that has begun.
#[derive(Debug)]
pub struct Restored {
    pub broker: Guarded,
    /// What was received and perhaps not answered, to be handled before anything new.
    pub backlog: VecDeque<(Instant, Request)>,
    pub report: Report,
}

/// What operators get to know of a takeover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Why the replica that Postgres failed over to may lack messages that no server has in memory.
    pub doubt: Option<Doubt>,
    /// What became of the sequences that the tables lacked.
    pub lost: Vec<LostRange>,
    /// Channels in the tables that this group does not serve.
    pub unlisted: Vec<ChannelName>,
}

impl Recovered {
    /// Takes what was received out of the shadow: from here on this node is the active.
    pub fn restore(self, settings: Settings, shadow: &mut Shadow, now: Now) -> Restored {
        let Self {
            granted,
            tables,
            mut outcomes,
            gaps,
            doubt,
        } = self;
        let unlisted = match &settings.partition {
            Some(partition) => {
                let names = tables.channels.values().map(|row| &row.name);
                let unlisted = names.filter(|name| !partition.contains(name));
                unlisted.cloned().collect()
            }
            None => Vec::new(),
        };
        let moves = Moves::of(&tables);
        let mut broker = if granted.with_savepoints {
            Broker::restore_with_care(tables, settings, now)
        } else {
            Broker::restore(tables, settings, now)
        };
        let lost = broker.repair(gaps);
        shadow.expire(now.monotonic);
        let backlog = VecDeque::from(replay::plan(
            shadow.take(),
            &outcomes,
            &moves,
            &broker,
            now.monotonic,
        ));
        let stored = std::mem::take(&mut outcomes.stored);
        broker.remember_stored(stored, now.monotonic + granted.window);
        Restored {
            broker: if granted.with_savepoints {
                Guarded::with_savepoints(broker)
            } else {
                Guarded::new(broker)
            },
            backlog,
            report: Report {
                doubt,
                lost,
                unlisted,
            },
        }
    }
}

#[cfg(test)]
mod tests;
