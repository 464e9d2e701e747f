//! The world of a seed: one clock, one agenda of what happens when, and everybody in it. What nodes, clients,
//! the database and NATS do is in their own files; here is only the order of things.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use stanby::core::Outbound;
use stanby::core::ids::{PositionId, Sequence};

use crate::admin::Operators;
use crate::checks::Checks;
use crate::client::{Client, ClientTimer, ToClient};
use crate::database::{Database, DatabaseStep};
use crate::hardships::Hardships;
use crate::nats::Nats;
use crate::node::{Input, Node};
use crate::plan::{Plan, Sabotage};
use crate::rng::Rng;
use crate::sql::Sql;
use crate::wire::Wire;

/// Nanoseconds since the world began.
pub(crate) type Time = u64;

/// Leases after the last fault: for a takeover, and for everything that waited for it.
const SETTLED_AFTER: u32 = 8;

const TRACE_LINES: usize = 40;
/// A run that takes more steps than this is stuck in a loop.
const STEPS_MAX: u64 = 400_000;
/// Calm after the faults, for everything to come right.
const CALM: Duration = Duration::from_secs(40);

/// So much longer where somebody gets what is new to it, and not all of it yet.
const CALM_MORE: Duration = Duration::from_secs(2);
const CALM_MAX: Duration = Duration::from_mins(4);

#[derive(Debug)]
pub(crate) enum Step {
    Node {
        node: usize,
        incarnation: u64,
        input: Input,
    },
    Tick {
        node: usize,
        incarnation: u64,
    },
    Thaw {
        node: usize,
        incarnation: u64,
    },
    Start {
        node: usize,
    },
    Marks {
        node: usize,
        incarnation: u64,
    },
    Race {
        node: usize,
        incarnation: u64,
    },
    Client {
        client: usize,
        instance: u64,
        message: ToClient,
    },
    ClientTimer {
        client: usize,
        timer: ClientTimer,
    },
    Database(DatabaseStep),
    Fault,
    Hardship,
    EndPoison,
    PublishInSql,
    Ask,
    AckInSql {
        inbox: String,
        sequence: Sequence,
    },
    EndAckInSql {
        inbox: String,
        position: PositionId,
        sequence: Sequence,
        is_nack: bool,
        is_rolled_back: bool,
    },
    EndLoss {
        number: u64,
    },
    /// Whoever is still at the frozen NATS server leaves it.
    LeaveNats {
        server: usize,
        freeze: u64,
    },
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) time: Time,
    steps: u64,
    agenda: BTreeMap<(Time, u64), Step>,
    scheduled: u64,
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) database: Database,
    pub(crate) nats: Nats,
    wire: Wire,
    pub(crate) nodes: Vec<Node>,
    pub(crate) clients: Vec<Client>,
    pub(crate) checks: Checks,
    pub(crate) sql: Option<Sql>,
    pub(crate) operators: Option<Operators>,
    pub(crate) hardships: Hardships,
    pub(crate) calm: bool,
    /// When the last fault ends that may hold up an answer, as far as is known.
    disturbed_until: Time,
    /// When the last batch arrives that the link to the database takes long for. It holds up answers, and costs no term.
    behind_until: Time,
    trace: VecDeque<String>,
    /// Every line of the trace goes to the terminal.
    prints: bool,
    /// Every line of the trace, as one number.
    trace_hash: u64,
}

/// What a run came to, as far as two runs can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) steps: u64,
    pub(crate) trace_hash: u64,
    pub(crate) terms: u64,
    pub(crate) stored: usize,
    pub(crate) deliveries: u64,
    pub(crate) redeliveries: u64,
    pub(crate) reads: u64,
    /// Of which some were led elsewhere, and made again.
    pub(crate) reads_astray: u64,
    pub(crate) duplicates: u64,
    /// Of Postgres, that lost something.
    pub(crate) failovers: u64,
    pub(crate) restored: u64,
    pub(crate) passed_over: u64,
    /// Of which a node knew that they had lost nothing.
    pub(crate) believed: u64,
    /// By operators: positions moved, and batches that empty channels.
    pub(crate) moved: u64,
    pub(crate) emptied: u64,
    pub(crate) acked_in_sql: usize,
    /// By Postgres for ever, a batch each.
    pub(crate) refused: u64,
    /// What clients have asked for beyond what others do.
    pub(crate) greedy: u64,
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) fact: String,
    report: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report)
    }
}

impl World {
    pub(crate) fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng, sabotage);
        let nodes = (0..plan.nodes)
            .map(|_| Node::new(&plan, &mut rng))
            .collect();
        let clients = (0..plan.clients)
            .map(|id| Client::new(id, &plan, &mut rng))
            .collect();
        Self {
            seed,
            operators: Operators::new(seed, sabotage.is_none() && plan.replica_lag.is_none()),
            sql: Sql::new(seed, sabotage),
            hardships: Hardships::new(seed, sabotage),
            time: 0,
            steps: 0,
            agenda: BTreeMap::new(),
            scheduled: 0,
            checks: Checks::new(plan.settings.clone(), nanos(plan.replay_window())),
            database: Database::new(plan.synchronous),
            rng,
            plan,
            nats: Nats::default(),
            wire: Wire::default(),
            nodes,
            clients,
            calm: false,
            disturbed_until: 0,
            behind_until: 0,
            trace: VecDeque::new(),
            prints: std::env::var_os("SIM_TRACE").is_some(),
            trace_hash: 0,
        }
    }

    /// Runs the seed to its end, or to the first fact that does not hold.
    pub(crate) fn run(mut self) -> Result<Summary, Failure> {
        for node in 0..self.nodes.len() {
            self.after(Duration::from_millis(node as u64), Step::Start { node });
        }
        for client in 0..self.clients.len() {
            self.client_begins(client);
        }
        self.after(Duration::from_millis(500), Step::Fault);
        if self.sql.is_some() {
            self.after(Duration::from_millis(700), Step::PublishInSql);
        }
        if self.operators.is_some() {
            self.after(Duration::from_millis(900), Step::Ask);
        }
        if self.hardships.are_there() {
            self.after(Duration::from_millis(800), Step::Hardship);
        }
        let chaos = nanos(self.plan.chaos);
        self.run_until(chaos)?;
        self.calm_down();
        let mut calm = self.calm_lasts();
        self.run_until(chaos + nanos(calm))?;
        // One that asks for one message at a time, and has a long way to go on a slow Postgres, takes its time.
        while self.is_behind() && calm < CALM_MAX {
            let before = self.checks.deliveries - self.checks.redeliveries;
            calm += CALM_MORE;
            self.run_until(chaos + nanos(calm))?;
            if self.checks.deliveries - self.checks.redeliveries == before {
                break;
            }
        }
        self.check_end();
        self.verdict()?;
        Ok(Summary {
            steps: self.steps,
            trace_hash: self.trace_hash,
            terms: self.database.epoch.0,
            stored: self.checks.stored(),
            deliveries: self.checks.deliveries,
            redeliveries: self.checks.redeliveries,
            reads: self.database.reads,
            reads_astray: self.database.reads_astray,
            duplicates: self.checks.duplicates,
            failovers: self.checks.failovers.count,
            restored: self.checks.failovers.restored,
            passed_over: self.checks.failovers.passed_over,
            believed: self.checks.failovers.believed,
            moved: self.checks.moves.values().sum(),
            emptied: self.checks.emptied,
            acked_in_sql: self.checks.acked_in_sql.len(),
            refused: self.database.refused,
            greedy: self.checks.greedy,
        })
    }

    /// Clients that go all together are taken to be out of reach: as the documents say, they are closed after three times as
    /// many heartbeats as others, which take longer than everything else.
    fn calm_lasts(&self) -> Duration {
        let gone = self.clients.iter().filter(|client| client.retired);
        if gone.count() < 4 {
            return CALM;
        }
        let heartbeats = &self.plan.settings.heartbeats;
        let missed = 3 * (heartbeats.fail_count + 1);
        let settled = self.plan.lease * SETTLED_AFTER;
        CALM.max((heartbeats.interval + heartbeats.timeout) * (missed + 1) + settled)
    }

    fn run_until(&mut self, end: Time) -> Result<(), Failure> {
        while let Some(entry) = self.agenda.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((time, _), step) = entry.remove_entry();
            self.time = time;
            self.checks.now = time;
            self.steps += 1;
            if self.steps > STEPS_MAX {
                self.violated("a run ends: this one does not come to rest".to_owned());
            }
            self.take(step);
            self.verdict()?;
        }
        self.time = end;
        Ok(())
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Node {
                node,
                incarnation,
                input,
            } => self.node_hears(node, incarnation, input),
            Step::Tick { node, incarnation } => self.node_ticks(node, incarnation),
            Step::Thaw { node, incarnation } => self.thaw(node, incarnation),
            Step::Start { node } => self.start_node(node),
            Step::Marks { node, incarnation } => self.look_at_marks(node, incarnation),
            Step::Race { node, incarnation } => self.race_again(node, incarnation),
            Step::Client {
                client,
                instance,
                message,
            } => {
                self.client_hears(client, instance, message);
            }
            Step::ClientTimer { client, timer } => self.client_timer(client, timer),
            Step::Database(step) => self.database_step(step),
            Step::Fault => self.fault(),
            Step::Hardship => self.hardship(),
            Step::EndPoison => self.end_poison(),
            Step::PublishInSql => self.publish_in_sql(),
            Step::Ask => self.ask_as_operator(),
            Step::AckInSql { inbox, sequence } => self.ack_in_sql(inbox, sequence),
            Step::EndAckInSql {
                inbox,
                position,
                sequence,
                is_nack,
                is_rolled_back,
            } => self.end_ack_in_sql(&inbox, position, sequence, is_nack, is_rolled_back),
            Step::EndLoss { number } => self.nats.end_loss(number),
            Step::LeaveNats { server, freeze } => self.leave_nats(server, freeze),
        }
    }

    pub(crate) fn at(&mut self, time: Time, step: Step) {
        self.scheduled += 1;
        self.agenda
            .insert((time.max(self.time), self.scheduled), step);
    }

    pub(crate) fn after(&mut self, delay: Duration, step: Step) {
        self.at(self.time + nanos(delay), step);
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        let line = format!("{:>9.3} ms  {}", self.millis(), line());
        for byte in line.bytes() {
            self.trace_hash = (self.trace_hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.prints {
            eprintln!("{line}");
        }
        if self.trace.len() == TRACE_LINES {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    #[expect(clippy::cast_precision_loss, reason = "for a person to read")]
    fn millis(&self) -> f64 {
        self.time as f64 / 1e6
    }

    /// Something goes wrong for so long that may hold up answers or end a term.
    pub(crate) fn disturb(&mut self, duration: Duration) {
        self.disturbed_until(self.time + nanos(duration));
    }

    pub(crate) fn disturbed_until(&mut self, until: Time) {
        self.disturbed_until = self.disturbed_until.max(until);
    }

    /// Clients ask for more than the link to the database carries.
    pub(crate) fn is_behind_until(&mut self, until: Time) {
        self.behind_until = self.behind_until.max(until);
    }

    /// Nothing that went wrong can have an effect any more by then.
    fn was_quiet_at(&self, time: Time) -> bool {
        self.disturbed_until + nanos(self.plan.lease * SETTLED_AFTER) < time
    }

    pub(crate) fn a_lease_ends_for_a_cause(&mut self) {
        if self.was_quiet_at(self.time) {
            self.violated("no term is lost while nothing goes wrong".to_owned());
        }
    }

    /// Asked at that time, and not answered by now.
    pub(crate) fn a_request_is_not_answered(&mut self, what: &str, client: usize, asked: Time) {
        let is_behind = asked <= self.behind_until + nanos(self.plan.lease);
        if self.plan.keeps_up() && !is_behind && self.was_quiet_at(asked) {
            self.violated(format!(
                "a {what} is answered while nothing goes wrong: that of client {client} is not"
            ));
        }
    }

    /// What is true of a broker between two calls. Looks at all of it, so it is asked now and then.
    pub(crate) fn check_broker(&mut self, node: usize) {
        if !self.steps.is_multiple_of(64) {
            return;
        }
        let broker = self.nodes[node].broker();
        let found = broker.and_then(|broker| broker.contradictions().into_iter().next());
        if let Some(found) = found {
            self.violated(format!("a broker does not contradict itself: {found}"));
        }
    }

    /// What a client library would make of it.
    pub(crate) fn reads(&mut self, outbound: &Outbound) {
        let read = match outbound {
            Outbound::Reply { reply, .. } => self.wire.reads_reply(reply),
            Outbound::Deliver {
                channel,
                message,
                redelivery_count,
                ..
            } => self
                .wire
                .reads_delivery(channel, message, *redelivery_count),
            Outbound::Probe { .. } => Ok(()),
        };
        if let Err(fact) = read {
            self.violated(fact);
        }
    }

    /// Notes the first fact that does not hold; the run ends with it.
    pub(crate) fn violated(&mut self, fact: String) {
        self.checks.violated(fact);
    }

    fn verdict(&mut self) -> Result<(), Failure> {
        match self.checks.violation.take() {
            None => Ok(()),
            Some(fact) => Err(Failure {
                report: self.report(&fact),
                fact,
            }),
        }
    }

    fn report(&self, fact: &str) -> String {
        let trace: Vec<&str> = self.trace.iter().map(String::as_str).collect();
        format!(
            "seed {}, step {}, {}: {fact}\n{}\nreplay: SEED={} cargo test --locked --test simulation -- --exact one_seed --nocapture",
            self.seed,
            self.steps,
            if self.calm {
                "in the calm"
            } else {
                "among faults"
            },
            trace.join("\n"),
            self.seed,
        )
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report("nothing panics"));
        }
    }
}

pub(crate) fn nanos(duration: Duration) -> Time {
    u64::try_from(duration.as_nanos()).expect("simulated lives are short")
}
