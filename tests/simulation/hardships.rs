//! What else a world may have, drawn by a generator of its own: rows that Postgres refuses for ever, commits that take longer
//! than anybody waits, links to NATS that carry little or nothing, clients that read slowly or ask for more than others, and
//! operators who want another server to be the active.

use std::collections::BTreeSet;
use std::time::Duration;

use stanby::core::ids::ClientId;

use crate::plan::Sabotage;
use crate::poison::Poison;
use crate::rng::Rng;
use crate::world::{Step, Time, World, nanos};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hardship {
    /// Postgres refuses some rows, whoever sends them.
    PoisonRows,
    /// Commits wait inside Postgres, which ends some of them.
    SlowCommits,
    /// What an active sends to NATS takes time by its bytes.
    NarrowNats,
    /// NATS takes nothing from an active.
    ChokedNats,
    /// A client takes little at a time from NATS, which cuts it off in the end.
    SlowClient,
    /// An operator asks the active to step down.
    StepDown,
}

const ALL: [Hardship; 6] = [
    Hardship::PoisonRows,
    Hardship::SlowCommits,
    Hardship::NarrowNats,
    Hardship::ChokedNats,
    Hardship::SlowClient,
    Hardship::StepDown,
];

#[derive(Debug, Default)]
pub(crate) struct Hardships {
    rng: Option<Rng>,
    kinds: Vec<Hardship>,
    /// Of clients that ask for more than others; of a thousand turns.
    pub(crate) greed: u64,
    pub(crate) poison: Vec<Poison>,
    /// Clients whose rows were refused at some time.
    pub(crate) poisoned_clients: BTreeSet<ClientId>,
    /// Commits take so much longer until then.
    slow_commits: (Time, Duration),
}

impl Hardships {
    /// In most worlds, and in none where a checker is to notice something else.
    pub(crate) fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        let mut rng = Rng::new(seed ^ 0x4a8d_5413);
        let wanted = match sabotage {
            None => rng.chance(600),
            Some(Sabotage::TakeNoCare) => true,
            Some(_) => false,
        };
        if !wanted {
            return Self::default();
        }
        let share = rng.pick(&[200, 400, 1000]);
        let mut kinds: Vec<Hardship> = ALL.into_iter().filter(|_| rng.chance(share)).collect();
        if sabotage.is_some() || kinds.is_empty() {
            kinds = vec![Hardship::PoisonRows];
        }
        Self {
            greed: rng.pick(&[0, 0, 5, 40]),
            rng: Some(rng),
            kinds,
            ..Self::default()
        }
    }

    pub(crate) fn are_there(&self) -> bool {
        self.rng.is_some()
    }

    /// True in so many of a thousand cases; never where there are none.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        let rng = self.rng.as_mut();
        rng.is_some_and(|rng| rng.chance(per_mille))
    }

    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        let rng = self.rng.as_mut();
        rng.map_or(low, |rng| rng.range(low, high))
    }

    fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.range(low * 1000, high * 1000))
    }

    pub(crate) fn end(&mut self) {
        self.poison.clear();
        self.greed = 0;
        self.slow_commits = (0, Duration::ZERO);
    }
}

impl World {
    /// Something of it begins, and the next time is arranged.
    pub(crate) fn hardship(&mut self) {
        if self.calm {
            return;
        }
        let pause = self.hardships.millis(300, 4_000);
        self.after(pause, Step::Hardship);
        let at = self
            .hardships
            .range(0, self.hardships.kinds.len() as u64 - 1);
        let kind = self.hardships.kinds[usize::try_from(at).expect("there are few")];
        let duration = self.hardships.millis(200, 4_000);
        match kind {
            Hardship::PoisonRows => self.poison_rows(duration),
            Hardship::SlowCommits => {
                let longest = self.hardships.millis(100, 3_000);
                self.note(|| format!("database: commits take up to {longest:?} for {duration:?}"));
                self.hardships.slow_commits = (self.time + nanos(duration), longest);
                self.disturb(duration + longest + self.plan.lease * 2);
            }
            Hardship::NarrowNats | Hardship::ChokedNats => {
                let active = self.nodes.iter().position(|node| node.broker().is_some());
                let Some(node) = active else { return };
                if kind == Hardship::ChokedNats {
                    self.nats_takes_nothing(node, duration);
                } else {
                    let rate =
                        [4, 16, 64][usize::try_from(self.hardships.range(0, 2)).expect("few")];
                    self.nats_takes_little(node, rate << 10, duration);
                }
            }
            Hardship::SlowClient => {
                let client = self.hardships.range(0, self.clients.len() as u64 - 1);
                let client = usize::try_from(client).expect("there are few");
                let rate =
                    [500, 2_000, 8_000][usize::try_from(self.hardships.range(0, 2)).expect("few")];
                self.client_reads_slowly(client, rate, duration);
            }
            Hardship::StepDown => {
                for node in 0..self.nodes.len() {
                    let now = self.now(node).monotonic;
                    let state = &mut self.nodes[node];
                    let is_frozen = state.frozen;
                    let active = state.term.as_mut().and_then(|term| term.active.as_mut());
                    if let Some(active) = active.filter(|_| !is_frozen) {
                        active.ask_to_end(now);
                        self.note(|| format!("an operator asks node {node} to step down"));
                        self.disturb(Duration::ZERO);
                        self.pump(node);
                    }
                }
            }
        }
    }

    /// How much longer a commit takes that begins now, and whether Postgres ends it then.
    pub(crate) fn slowness_of_commit(&mut self) -> (Duration, bool) {
        let (until, longest) = self.hardships.slow_commits;
        if self.time >= until || self.calm {
            return (Duration::ZERO, false);
        }
        let most = u64::try_from(longest.as_millis()).expect("seconds");
        let extra = self.hardships.millis(0, most);
        self.disturb(extra + self.plan.lease * 2);
        // By `statement_timeout`, which is the same for all.
        let statement_timeout = self.plan.lease + self.plan.lease / 2;
        (
            extra.min(statement_timeout),
            extra > statement_timeout && self.hardships.chance(500),
        )
    }
}
