//! The runs: a short share with every change, and the ones that are asked for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::bystanders::{Bystanders, percentile};
use super::kinds::Kind;
use super::stage::Stage;
use crate::runs::ONE_AT_A_TIME;

/// What bystanders may notice. A debug build on a busy machine is given more.
struct Bounds {
    latency: Duration,
    memory_mib: u64,
    /// Of the active, when it is told to.
    end: Duration,
}

const BOUNDS: Bounds = Bounds {
    latency: Duration::from_millis(500),
    memory_mib: 512,
    end: Duration::from_secs(5),
};

const BOUNDS_OF_DEBUG: Bounds = Bounds {
    latency: Duration::from_secs(2),
    memory_mib: 512,
    end: Duration::from_secs(15),
};

struct Outcome {
    kind: Kind,
    acks: Vec<Duration>,
    pings: Vec<Duration>,
    failures: Vec<String>,
    memory_mib: u64,
    terms_lost: i64,
    /// It takes so long until the active has ended that is told to, and until the other one serves.
    ended: Duration,
    taken_over: Duration,
    logs: String,
}

async fn run(kind: Kind, scale: u64, lasting: Duration) -> Option<Outcome> {
    let _turn = ONE_AT_A_TIME.lock().await;
    let stage = Arc::new(Stage::start(kind.filling(scale), kind.flags()).await?);
    let before = stage.epoch().await;
    let bystanders = Bystanders::start(stage.nats_url.clone(), stage.cluster_id.clone()).await;
    let mut hostile = kind.begin(&stage, scale).await;
    let failed = timeout(lasting, async {
        while let Some(ended) = hostile.join_next().await {
            ended.expect("hostile clients do not panic");
        }
        std::future::pending::<()>().await;
    });
    failed.await.ok();
    let seen = bystanders.stop().await;
    let memory_mib = stage.memory_mib().await;
    let terms_lost = stage.epoch().await - before;
    let logs = stage.logs().await;
    // They are still at it.
    let (ended, taken_over) = stage.stop_active().await;
    let outcome = Outcome {
        kind,
        acks: seen.acks,
        pings: seen.pings,
        failures: seen.failures,
        memory_mib,
        terms_lost,
        ended,
        taken_over,
        logs,
    };
    hostile.shutdown().await;
    Some(outcome)
}

impl Outcome {
    /// What the bounds forbid, a sentence each.
    fn violations(&self, bounds: &Bounds) -> Vec<String> {
        let (acks, pings) = (percentile(&self.acks, 99), percentile(&self.pings, 99));
        let mut violations = Vec::new();
        for (what, time) in [("acks", acks), ("pings", pings)] {
            if time > bounds.latency {
                violations.push(format!("p99 of {what} is {time:?}"));
            }
        }
        if self.memory_mib > bounds.memory_mib {
            violations.push(format!("a server took {} MiB", self.memory_mib));
        }
        if self.terms_lost > 0 {
            violations.push(format!("{} terms were lost", self.terms_lost));
        }
        if self.ended > bounds.end {
            violations.push(format!("it took {:?} to end the active", self.ended));
        }
        if let Some(first) = self.failures.first() {
            let count = self.failures.len();
            violations.push(format!("{count} requests failed, the first: {first}"));
        }
        if self.acks.is_empty() || self.pings.is_empty() {
            violations.push("bystanders got no answers".to_owned());
        }
        violations
    }

    fn row(&self, bounds: &Bounds) -> String {
        let millis = |times: &[Duration], percent| percentile(times, percent).as_millis();
        let violations = self.violations(bounds);
        let verdict = if violations.is_empty() {
            "kept"
        } else {
            "BROKEN"
        };
        format!(
            "{:<17} {:>6} {:>7} {:>7} {:>7} {:>8} {:>8} {:>7} {:>6} {:>7} {:>6} {:>7}  {verdict}",
            self.kind.name(),
            self.acks.len(),
            millis(&self.acks, 50),
            millis(&self.acks, 99),
            millis(&self.pings, 50),
            millis(&self.pings, 99),
            millis(&self.pings, 100).max(millis(&self.acks, 100)),
            self.memory_mib,
            self.terms_lost,
            self.failures.len(),
            self.ended.as_millis(),
            self.taken_over.as_millis(),
        )
    }
}

const HEAD: &str = "kind              answers acks50  acks99 pings50 pings99  longest   MiB   terms  failed  ended   taken  (ms)";

/// The kinds that a debug build on a busy machine keeps up with, for a few seconds.
async fn short(kind: Kind) {
    // A twentieth of what they ask for; fewer requests without end would have an end.
    let scale = if kind == Kind::Unsubscribes { 1 } else { 20 };
    let mut last = String::new();
    // A machine that was busy with something else for a moment gets another chance.
    for _ in 0..3 {
        let Some(outcome) = run(kind, scale, Duration::from_secs(5)).await else {
            return;
        };
        eprintln!("{HEAD}\n{}", outcome.row(&BOUNDS_OF_DEBUG));
        let violations = outcome.violations(&BOUNDS_OF_DEBUG);
        if violations.is_empty() {
            return;
        }
        last = format!("{}\n{}", violations.join("\n"), outcome.logs);
    }
    panic!("{last}");
}

macro_rules! short_runs {
    ($($name:ident $kind:ident;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            short(Kind::$kind).await;
        })*
    };
}

short_runs! {
    names_as_long_as_they_may_be_hold_nobody_up LongNames;
    a_queue_group_with_many_members_holds_nobody_up QueueCrowd;
    acks_of_every_second_message_hold_nobody_up SparseAcks;
    many_subscriptions_on_one_inbox_hold_nobody_up OneInbox;
    guids_that_are_used_over_and_over_hold_nobody_up RepeatedGuids;
    payloads_that_disagree_with_their_subject_hold_nobody_up OtherChannel;
    clients_that_come_and_go_hold_nobody_up ReconnectStorm;
    requests_without_end_keep_no_active_from_ending Unsubscribes;
    visitors_who_take_their_time_hold_nobody_up SlowPages;
}

/// `HOSTILE_KIND` names kinds, comma between; all without it. `HOSTILE_SECONDS` each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "scripts/chaos hostile runs it"]
async fn what_is_asked_for() {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let number =
        |name, default| variable(name).map_or(default, |value| value.parse().expect("a number"));
    let named = variable("HOSTILE_KIND").map_or_else(
        || Kind::ALL.to_vec(),
        |names| names.split(',').map(find).collect(),
    );
    let lasting = Duration::from_secs(number("HOSTILE_SECONDS", 30));
    let scale = number("HOSTILE_SCALE", 1);
    let bounds = if cfg!(debug_assertions) {
        BOUNDS_OF_DEBUG
    } else {
        BOUNDS
    };
    let mut rows = vec![HEAD.to_owned()];
    let mut violations = Vec::new();
    for kind in named {
        let Some(outcome) = run(kind, scale, lasting).await else {
            return;
        };
        let row = outcome.row(&bounds);
        eprintln!("{HEAD}\n{row}");
        rows.push(row);
        for violation in outcome.violations(&bounds) {
            violations.push(format!("{}: {violation}\n{}", kind.name(), outcome.logs));
        }
    }
    eprintln!("{}", rows.join("\n"));
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

fn find(name: &str) -> Kind {
    let names = || Kind::ALL.map(Kind::name).join(", ");
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    found.unwrap_or_else(|| panic!("there is no kind {name:?}: {}", names()))
}
