//! A server's process: it waits for the lock, begins and ends terms, renews its session, has at most one
//! statement under way and gives up on a failed or unknown commit. What it is the process around while active is in `active`.

use std::collections::VecDeque;
use std::time::Duration;

use stanby::core::active::ActiveLoop;
use stanby::core::batch::Batch;
use stanby::core::commit_history::{CommitHistory, Sign};
use stanby::core::ids::{BatchNumber, Epoch, Guid};
use stanby::core::refusal::Refusal;
use stanby::core::snapshot::Snapshot;
use stanby::core::standby::Standby;
use stanby::core::takeover::Takeover;
use stanby::core::time::{Instant, Now, Timestamp};
use stanby::core::{Broker, Event, Request};
use stanby::leadership;

use crate::checks::speech::TermFacts;
use crate::database::{SessionId, Statement};
use crate::links::Outgoing;
use crate::plan::{Plan, Sabotage};
use crate::rng::Rng;
use crate::upload::Upload;
use crate::world::{Step, Time, World, nanos};

const WALL_AT_START: i64 = 1_600_000_000_000_000_000;

#[derive(Debug)]
pub(crate) enum Input {
    Granted {
        session: SessionId,
        epoch: Epoch,
    },
    Snapshot {
        session: SessionId,
        snapshot: Box<Snapshot>,
    },
    Done {
        session: SessionId,
        batch: Option<BatchNumber>,
    },
    /// A piece of a large batch has been answered.
    Extended {
        session: SessionId,
    },
    Failed {
        session: SessionId,
    },
    /// Postgres will never store the batch.
    Refused {
        session: SessionId,
        refusal: Box<Refusal>,
    },
    SessionEnded {
        session: SessionId,
    },
    /// From a client.
    Request(Box<Event>),
    /// Its connection to NATS was broken: what a standby has received is not the last of what clients asked for.
    Gap,
    /// The answer to something that one term asked.
    Received {
        term: u64,
        event: Box<Event>,
    },
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and all combinations occur"
)]
pub(crate) struct Node {
    /// Counts its processes.
    pub(crate) incarnation: u64,
    pub(crate) up: bool,
    pub(crate) frozen: bool,
    /// What it has learned of its link to the database.
    pub(crate) upload: Upload,
    /// To NATS.
    pub(crate) outgoing: Outgoing,
    /// Postgres refused something in a term of this process: the next one begins with savepoints.
    pub(crate) needs_savepoints: bool,
    /// Its connection to the database is cut until then.
    pub(crate) cut_until: Time,
    pub(crate) wall_offset: i64,
    boot_offset: u64,
    pub(crate) session: Option<SessionId>,
    /// When the statement under way was sent.
    pub(crate) statement: Option<Time>,
    /// What arrived while it was frozen.
    stash: VecDeque<Input>,
    pub(crate) tick: Option<Time>,
    pub(crate) term: Option<Term>,
    /// What it does to become the active, and what it hears until then.
    pub(crate) standby: Standby,
    /// When others last received its announcement as the active, and in which epoch.
    pub(crate) signed: Option<(Time, Epoch)>,
    pub(crate) history: CommitHistory,
    /// The last epoch that its process has committed something in.
    pub(crate) served: Epoch,
    /// When the term began in which it did: a failover that lost that lets others have the same number.
    pub(crate) served_from: Time,
    pub(crate) started: Time,
    /// When it last looked how far the channels are.
    pub(crate) looked_at: Time,
    /// It has been frozen since it started.
    pub(crate) froze: bool,
    /// What has come from NATS and is not read yet.
    pub(crate) unread: VecDeque<Event>,
    /// Publishes that came since its process began or its connection broke, and when: none of them may get lost.
    pub(crate) arrived: VecDeque<(Time, Guid)>,
    terms: u64,
}

pub(crate) struct Term {
    pub(crate) serial: u64,
    /// The server's own idea of its term.
    pub(crate) term: leadership::Term,
    pub(crate) began: Time,
    last_statement: Time,
    /// Before it serves.
    pub(crate) takeover: Option<Takeover>,
    pub(crate) active: Option<ActiveLoop>,
    /// When it is to go round again if nothing comes.
    pub(crate) wait_until: Option<Instant>,
    /// A commit that the loop has not been told of.
    pub(crate) committed: Option<BatchNumber>,
    /// Answers to reads that the loop has not been told of.
    pub(crate) loaded: VecDeque<Event>,
    pub(crate) committing: Option<Batch>,
    /// What is handed in can be taken back.
    pub(crate) with_savepoints: bool,
    pub(crate) facts: TermFacts,
}

impl std::fmt::Debug for Term {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Term({})", self.serial)
    }
}

impl Node {
    /// The publish had come by then, as far as the node knows.
    pub(crate) fn arrived_by(&mut self, guid: &Guid, received_at: Time) {
        let mut arrived = self.arrived.iter_mut();
        if let Some((at, _)) = arrived.find(|(_, other)| other == guid) {
            *at = received_at.min(*at);
        }
    }

    pub(crate) fn new(plan: &Plan, rng: &mut Rng) -> Self {
        Self {
            incarnation: 0,
            up: false,
            frozen: false,
            upload: Upload::new(plan.lease),
            outgoing: Outgoing::default(),
            needs_savepoints: false,
            cut_until: 0,
            wall_offset: 0,
            boot_offset: rng.range(0, 1 << 40),
            session: None,
            statement: None,
            stash: VecDeque::new(),
            tick: None,
            term: None,
            standby: Standby::new(plan.lease, plan.shadow),
            signed: None,
            history: CommitHistory::new(rng.pick(&[32 << 20, 10_000])),
            served: Epoch(0),
            served_from: 0,
            started: 0,
            looked_at: 0,
            froze: false,
            unread: VecDeque::new(),
            arrived: VecDeque::new(),
            terms: 0,
        }
    }

    pub(crate) fn broker(&self) -> Option<&Broker> {
        self.term.as_ref()?.active.as_ref().map(ActiveLoop::broker)
    }
}

impl World {
    pub(crate) fn now(&self, node: usize) -> Now {
        let node = &self.nodes[node];
        Now {
            monotonic: Instant::from_nanos(self.time + node.boot_offset),
            wall: Timestamp(WALL_AT_START + self.time.cast_signed() + node.wall_offset),
        }
    }

    pub(crate) fn start_node(&mut self, node: usize) {
        if self.nodes[node].up {
            return;
        }
        self.nodes[node].up = true;
        self.nodes[node].incarnation += 1;
        self.nodes[node].started = self.time;
        self.nodes[node].froze = false;
        let bytes = self.rng.pick(&[32 << 20, 10_000]);
        self.nodes[node].history = CommitHistory::new(bytes);
        self.nodes[node].served = Epoch(0);
        self.nodes[node].needs_savepoints = false;
        self.connects_to_nats(node);
        let incarnation = self.nodes[node].incarnation;
        if self.plan.replica_lag.is_some() && !self.plan.is(Sabotage::ForgetCommits) {
            self.after(Duration::ZERO, Step::Marks { node, incarnation });
        }
        self.note(|| format!("node {node}: starts"));
        self.race(node);
    }

    /// The process is gone; what it had sent is on its way.
    pub(crate) fn kill_node(&mut self, node: usize, silently: bool) {
        if !self.nodes[node].up {
            return;
        }
        self.note(|| format!("node {node}: is killed"));
        let state = &mut self.nodes[node];
        let session = state.session.take();
        state.up = false;
        state.standby = Standby::new(self.plan.lease, self.plan.shadow);
        state.frozen = false;
        state.incarnation += 1;
        state.term = None;
        state.statement = None;
        state.stash.clear();
        state.unread.clear();
        state.arrived.clear();
        state.tick = None;
        if let Some(session) = session.filter(|_| !silently) {
            self.abandon_session(session);
        }
    }

    pub(crate) fn freeze_node(&mut self, node: usize, duration: Duration) {
        if !self.nodes[node].up || self.nodes[node].frozen {
            return;
        }
        self.note(|| format!("node {node}: freezes for {duration:?}"));
        self.nodes[node].frozen = true;
        self.nodes[node].froze = true;
        let incarnation = self.nodes[node].incarnation;
        self.after(duration, Step::Thaw { node, incarnation });
    }

    pub(crate) fn thaw(&mut self, node: usize, incarnation: u64) {
        if self.nodes[node].incarnation != incarnation {
            return;
        }
        self.note(|| format!("node {node}: thaws"));
        self.nodes[node].frozen = false;
        // What has come from NATS has come, whatever the session says.
        let stash = std::mem::take(&mut self.nodes[node].stash);
        let is_of_nats = |input: &Input| {
            matches!(
                input,
                Input::Request(_) | Input::Gap | Input::Received { .. }
            )
        };
        let (received, told): (Vec<Input>, Vec<Input>) = stash.into_iter().partition(is_of_nats);
        for input in received.into_iter().chain(told) {
            self.take_input(node, input);
        }
        self.pump(node);
    }

    /// The last sign that this node received of another one as the active.
    pub(crate) fn last_sign(&self, node: usize) -> Option<Sign> {
        let listener = &self.nodes[node];
        let others = self.nodes.iter().enumerate();
        let others = others.filter(|&(other, _)| other != node);
        let signs = others.filter_map(|(_, other)| other.signed);
        let received = signs.filter(|&(at, _)| at >= listener.started).max();
        received.map(|(at, epoch)| Sign {
            received_at: Instant::from_nanos(at + listener.boot_offset),
            epoch,
        })
    }

    pub(crate) fn node_ticks(&mut self, node: usize, incarnation: u64) {
        let state = &mut self.nodes[node];
        if state.incarnation != incarnation || state.tick != Some(self.time) {
            return;
        }
        state.tick = None;
        if !state.frozen {
            self.pump(node);
        }
    }

    pub(crate) fn node_hears(&mut self, node: usize, incarnation: u64, input: Input) {
        let state = &mut self.nodes[node];
        if state.incarnation != incarnation || !state.up {
            return;
        }
        if state.frozen {
            return state.stash.push_back(input);
        }
        self.take_input(node, input);
        self.pump(node);
    }

    pub(crate) fn take_input(&mut self, node: usize, input: Input) {
        let current = self.nodes[node].session;
        match input {
            Input::Granted { session, epoch } if Some(session) == current => {
                self.nodes[node].standby.done();
                // The grant was sent at an unknown time: trust begins with the next statement.
                self.nodes[node].terms += 1;
                let lease = self.plan.server_lease();
                let serial = self.nodes[node].terms;
                self.nodes[node].term = Some(Term {
                    serial,
                    term: leadership::Term::new(epoch, lease, Instant::from_nanos(0)),
                    began: self.time,
                    last_statement: self.time,
                    takeover: None,
                    active: None,
                    wait_until: None,
                    committed: None,
                    loaded: VecDeque::new(),
                    committing: None,
                    with_savepoints: false,
                    facts: TermFacts::default(),
                });
                self.begin_takeover(node, epoch);
            }
            Input::Snapshot { session, snapshot } if Some(session) == current => {
                self.renewed(node);
                self.tables_are_read(node, *snapshot);
            }
            Input::Done { session, batch } if Some(session) == current => {
                self.renewed(node);
                self.remember_commit(node);
                if let (Some(number), Some(term)) = (batch, self.nodes[node].term.as_mut())
                    && !self.plan.is(Sabotage::ReleaseBeforeCommit)
                {
                    term.committed = Some(number);
                }
            }
            Input::Extended { session } if Some(session) == current => {
                self.renewed(node);
                // The next piece is on its way.
                self.nodes[node].statement = Some(self.time);
            }
            Input::Failed { session } if Some(session) == current => {
                self.end_term(node, "a commit failed");
            }
            Input::Refused { session, refusal } if Some(session) == current => {
                self.renewed(node);
                self.refused(node, *refusal);
            }
            Input::SessionEnded { session } if Some(session) == current => {
                self.end_term(node, "its session ended");
            }
            Input::Request(event) => self.request(node, *event),
            Input::Gap => {
                self.nodes[node].standby.missed();
                self.nodes[node].unread.clear();
                self.nodes[node].arrived.clear();
            }
            Input::Received {
                term: serial,
                event,
            } => self.enqueue(node, serial, *event),
            Input::Granted { .. }
            | Input::Snapshot { .. }
            | Input::Done { .. }
            | Input::Extended { .. }
            | Input::Failed { .. }
            | Input::Refused { .. }
            | Input::SessionEnded { .. } => {}
        }
    }

    /// Takes a request in: for the term, or into the standby's memory.
    fn request(&mut self, node: usize, event: Event) {
        let now = self.now(node).monotonic;
        let time = self.time;
        let state = &mut self.nodes[node];
        if let Event::Request(Request::Publish { request, .. }) = &event {
            state.arrived.push_back((time, request.guid.clone()));
        }
        match &state.term {
            // Read when the loop goes round.
            Some(_) => state.unread.push_back(event),
            None => state.standby.receive(std::iter::once(event), now),
        }
    }

    fn remember_commit(&mut self, node: usize) {
        let forgets = self.plan.is(Sabotage::ForgetCommits);
        let state = &mut self.nodes[node];
        if let Some(term) = state.term.as_mut()
            && let Some(batch) = term.committing.take()
        {
            state.served = term.term.epoch();
            state.served_from = term.began;
            let sent = Instant::from_nanos(term.last_statement + state.boot_offset);
            if !forgets {
                state.history.committed(state.served, &batch, sent);
            }
        }
    }

    fn enqueue(&mut self, node: usize, serial: u64, event: Event) {
        let state = &mut self.nodes[node];
        let Some(term) = state.term.as_mut().filter(|term| term.serial == serial) else {
            return;
        };
        if matches!(event, Event::Loaded { .. } | Event::LoadFailed(_)) {
            term.loaded.push_back(event);
        } else {
            state.unread.push_back(event);
        }
    }

    fn renewed(&mut self, node: usize) {
        let now = self.now(node).monotonic;
        let state = &mut self.nodes[node];
        if let (Some(sent), Some(term)) = (state.statement.take(), &state.term) {
            let sent = Instant::from_nanos(sent + state.boot_offset);
            term.term.extend(sent, now);
        }
    }

    pub(crate) fn submit(&mut self, node: usize, statement: Statement) {
        let now = self.time;
        let Some(session) = self.nodes[node].session else {
            return;
        };
        self.nodes[node].statement = Some(now);
        if let Some(term) = self.nodes[node].term.as_mut() {
            term.last_statement = now;
        }
        self.send_statement(node, session, statement);
    }

    /// Renews in time, gives up on a statement that takes too long, and arranges to be called again.
    pub(crate) fn keep_session(&mut self, node: usize) {
        self.look_at_link(node);
        let lease = nanos(self.plan.lease);
        let renew_every = nanos(self.plan.server_lease().renew_every());
        let Some(term) = self.nodes[node]
            .term
            .as_ref()
            .filter(|_| self.nodes[node].up)
        else {
            return;
        };
        let renewal = term.last_statement + renew_every;
        let due = match self.nodes[node].statement {
            Some(sent) if self.time >= sent + 2 * lease => {
                return self.end_term(node, "a statement takes too long");
            }
            Some(sent) => sent + 2 * lease,
            None if self.time >= renewal || !term.term.is_trusted(self.now(node).monotonic) => {
                self.submit(node, Statement::Renew);
                self.time + 2 * lease
            }
            None => renewal,
        };
        let boot_offset = self.nodes[node].boot_offset;
        let term = self.nodes[node].term.as_ref();
        let timeout = term
            .and_then(|term| term.wait_until)
            .map(|at| at.as_nanos().saturating_sub(boot_offset))
            .filter(|_| self.trusted(node));
        // Later by a nanosecond at least: whatever is due now was done.
        let at = timeout.map_or(due, |at| at.min(due));
        let moves_at = self.nodes[node].outgoing.moves_at();
        let at = moves_at
            .map_or(at, |moves| moves.min(at))
            .max(self.time + 1);
        if self.nodes[node].tick.is_none_or(|tick| at < tick) {
            self.nodes[node].tick = Some(at);
            let incarnation = self.nodes[node].incarnation;
            self.at(at, Step::Tick { node, incarnation });
        }
    }
}
